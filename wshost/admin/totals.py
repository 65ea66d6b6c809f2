"""Adds up all connections, a few in each turn: ten thousand must not hold up the others. Knows no page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice

from twisted.internet.defer import Deferred

from wshost.admin.seen import Seen
from wshost.connections.account import Traffic

#: How many connections are added in one turn: about a millisecond.
A_TURN = 250


class Totals:
    """What has gone through all connections of a server, those that have ended or gone over to another included.

    Connections go on while they are added up. Each counts once: those that were open at the start with what has gone
    through them when it is their turn, even if they have ended meanwhile. So no total is ever smaller than one before.

    :param seen: the server.
    :param a_turn: how many connections are added in one turn; None: `A_TURN`.
    """

    def __init__(self, seen: Seen, a_turn: int | None = None) -> None:
        self._a_turn = A_TURN if a_turn is None else a_turn
        #: What has gone through.
        self.traffic: Traffic = seen.shared.account.ended
        #: How many bytes wait for peers now.
        self.waiting = 0
        #: How many connections are open now, by the module that they are in.
        self.modules: Counter[str] = Counter({link.name: 0 for link in seen.shared.chain})
        self._later: Callable[..., object] = seen.shared.reactor.callLater
        self._left = iter(seen.connections())
        self._done: Deferred[Totals] = Deferred()

    def add_all(self) -> Deferred[Totals]:
        """Add all connections. Fires when that is done; never if the reactor stops before."""
        messages_in, bytes_in, messages_out, bytes_out = self.traffic
        few = list(islice(self._left, self._a_turn))
        for connection in few:
            traffic = connection.traffic()
            messages_in += traffic[0]
            bytes_in += traffic[1]
            messages_out += traffic[2]
            bytes_out += traffic[3]
            self.modules[connection.context.module] += 1
            if not connection.stream.closing:
                self.waiting += connection.waiting
        self.traffic = Traffic(messages_in, bytes_in, messages_out, bytes_out)
        if len(few) < self._a_turn:
            self._done.callback(self)
        else:
            self._later(0, self.add_all)
        return self._done
