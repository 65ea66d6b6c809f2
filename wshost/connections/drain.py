"""Ends the connections of a hub when the server stops: tells them, closes them, waits, and aborts those that are left.

Knows no listener, no signal, and no protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from random import shuffle

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from wshost.connections.registry import Registered
from wshost.connections.shared import Shared
from wshost.connections.timers import Timer

#: In this part of the drain timeout, connections may wait for handlers' answers. After it they close without them.
ANSWER_TIME = 0.9
#: Seconds from one look at the connections that are to be closed to the next, at least: they need no timer each.
STEP = 0.05
#: Seconds from one line about the connections that are left to the next.
REPORT = 1.0

_log = Logger("wshost")


def counted(connections: int) -> str:
    """Return a number of connections as text."""
    return f"{connections} connection{'' if connections == 1 else 's'}"


class Drain:
    """The end of all connections of one hub.

    :param shared: what the connections share.
    :param waits: called with the number of connections that are left: at the start, and once a second. If it returns
        True, the log says nothing of them.
    """

    def __init__(self, shared: Shared, waits: Callable[[int], object]) -> None:
        #: Fires when all connections are gone.
        self.done: Deferred[None] = Deferred()
        self._shared = shared
        self._waits = waits
        # The connections that are still to be closed, the next one last; and how many there were.
        self._left: list[Registered] = shared.registry.all()
        self._all = len(self._left)
        self._started = shared.schedule.seconds()
        # No connection is left, or none was there.
        self._over = False
        self._deadline: Timer | None = None
        self._spreading: Timer | None = None
        self._reporting: Timer | None = None

    def start(self) -> None:
        """Tell all connections, and begin to close them."""
        shared = self._shared
        self._waits(self._all)
        shared.registry.when_added = self._take_late
        if not self._all:
            self._all_are_gone()
            return
        shared.registry.when_empty = self._last_is_gone
        self._deadline = shared.schedule.call_later(shared.limits.drain_timeout * ANSWER_TIME, self._hurry)
        self._reporting = shared.schedule.call_later(REPORT, self._report)
        for connection in self._left:
            connection.drain()
        shuffle(self._left)
        self._close_some()

    def _close_some(self) -> None:
        """Close the connections whose time has come: in the whole time, each one gets an equal part of it."""
        spread, passed = self._shared.limits.drain_spread, self._shared.schedule.seconds() - self._started
        due = int(self._all * passed / spread) + 1 if passed < spread else self._all
        while len(self._left) > self._all - due:
            self._left.pop().shut_down()
        if self._left and not self._over:
            self._spreading = self._shared.schedule.call_later(
                max(STEP, spread * due / self._all - passed), self._close_some
            )

    def _hurry(self) -> None:
        """Say good-bye once more to connections that wait for handlers' answers: these will not come in time."""
        schedule = self._shared.schedule
        end = self._started + self._shared.limits.drain_timeout
        self._deadline = schedule.call_later(end - schedule.seconds(), self._give_up)
        for connection in self._shared.registry.all():
            connection.shut_down()

    def _give_up(self) -> None:
        left = self._shared.registry.all()
        timeout = self._shared.limits.drain_timeout
        _log.warn("aborting {left} still open after {timeout:g} s", left=_that(len(left)), timeout=timeout)
        for connection in left:
            connection.abort("the server stopped")

    def _report(self) -> None:
        number = len(self._shared.registry)
        self._reporting = self._shared.schedule.call_later(REPORT, self._report)
        if self._waits(number) is not True:
            _log.info("waiting for {connections}", connections=counted(number))

    def _take_late(self, connection: Registered) -> None:
        """Let a connection go that was built before the stop, and is made now: TLS or a proxy's header took so long."""
        # A turn later: it has started by then.
        self._shared.reactor.callLater(0, self._refuse, connection)

    def _refuse(self, connection: Registered) -> None:
        if self._over:
            # Nobody waits any more.
            connection.abort("the server stopped")
        else:
            connection.shut_down()

    def _last_is_gone(self) -> None:
        self._over = True
        self._shared.registry.when_empty = None
        for timer in (self._deadline, self._spreading, self._reporting):
            if timer is not None:
                timer.cancel()
        # A turn later: the last connection's handler is told of its end first.
        self._shared.reactor.callLater(0, self._all_are_gone)

    def _all_are_gone(self) -> None:
        self._over = True
        self._shared.schedule.release_if_idle()
        self.done.callback(None)


def _that(connections: int) -> str:
    return f"{counted(connections)} that {'is' if connections == 1 else 'are'}"
