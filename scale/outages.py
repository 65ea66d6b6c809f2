"""Brokers fail under load, again and again. Yields how long messages stay away, and whether each loss is counted."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from scale.brokers import Broker, follow, nats, nats_cluster, sentinel, valkey
from scale.nodes import metric, node, operators
from scale.numbers import Numbers
from torture.figures import Figure
from torture.peers import connected
from torture.server import Server, Target

#: Seconds for which a broker is away, and for which all is well in between.
AWAY, WELL = 0.3, 0.3
#: Seconds after which messages come again when a Sentinel must find another master: it waits half a second itself.
_FAILOVER = 5


class _Load:
    """Two nodes: what is published at one comes to a subscriber at the other.

    :param brokers: by which they meet.
    """

    def __init__(self, target: Target, brokers: Sequence[Broker], stack: ExitStack) -> None:
        directory = stack.enter_context(operators())
        self._admins = [f"{directory}/{name}" for name in "ab"]
        self.servers: list[Server] = [
            stack.enter_context(node(target, *brokers, admin=admin)) for admin in self._admins
        ]
        publisher, subscriber = (stack.enter_context(connected(server.port)) for server in self.servers)
        self._numbers = Numbers("numbers", publisher, [subscriber], stack)
        self._waits: list[float] = []

    def recover(self, fails: Callable[[], object], returns: Callable[[], object], others: bool = False) -> None:
        """Let a broker fail and come back, and note how long no new message came: after its return, or its failure.

        :param others: there are others, which are to do its work.
        """
        fails()
        if others:
            self._waits.append(self._numbers.wait())
        time.sleep(AWAY)
        returns()
        if not others:
            self._waits.append(self._numbers.wait())
        time.sleep(WELL)

    def figures(self, goal: float = 2) -> Iterator[Figure]:
        """Stop publishing, and yield what became of the messages.

        :param goal: seconds after which messages come again.
        """
        published, (missing,) = self._numbers.stop()
        lost, dropped = (
            metric(admin, f"wshost_backplane_messages_{what}_total")
            for admin, what in zip(reversed(self._admins), ("lost", "dropped"), strict=True)
        )
        yield Figure("faults", len(self._waits))
        yield Figure("servers that have ended", sum(not server.alive for server in self.servers), "", 0)
        yield Figure("until messages came again: longest", max(self._waits), "s", goal)
        yield Figure("messages", published)
        yield Figure("messages that did not come", missing)
        yield Figure("of these not counted as lost", abs(missing - lost), "", 0)
        yield Figure("counted as dropped by the publisher", dropped)
        yield Figure("out of order or twice", self._numbers.disordered, "", 0)


def _broken(target: Target, started: AbstractContextManager[Broker], times: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        broker = stack.enter_context(started)
        load = _Load(target, [broker], stack)
        for _ in range(times):
            load.recover(broker.kill, broker.start)
            load.recover(lambda: broker.signal(signal.SIGSTOP), lambda: broker.signal(signal.SIGCONT))
            load.recover(broker.end, broker.start)
        yield from load.figures()


def nats_server(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: a NATS server is killed, stopped, and ended in good order; each so many times."""
    return lambda target: _broken(target, nats(), times)


def redis_server(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: a Valkey server is killed, stopped, and ended in good order; each so many times."""
    return lambda target: _broken(target, valkey(), times)


def master(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: the master of two Valkey servers is killed, and a Sentinel names the other one; so many times."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            watching, one, other = stack.enter_context(sentinel())
            load = _Load(target, [watching], stack)
            for _ in range(times):
                load.recover(one.kill, partial(follow, one, other), others=True)
                one, other = other, one
            yield from load.figures(_FAILOVER)

    return row


def cluster(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: each of three NATS servers is killed in turn, so many times."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            brokers = stack.enter_context(nats_cluster(3))
            load = _Load(target, brokers, stack)
            for _ in range(times):
                for broker in brokers:
                    load.recover(broker.kill, broker.start, others=True)
            yield from load.figures()

    return row
