"""What waits until a peer has taken its output: callers of `IRef.drained`, and a word to the handler.

Knows the stream of the connection, and no transport. Made when a connection first needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, succeed

from wshost.connections.awaited import Awaited
from wshost.connections.context import Context
from wshost.connections.timers import Schedule, Timer

#: At most this many callers of `drained` wait for one connection.
MAX_WAITERS = 1_024
#: Seconds between two looks at output that is too little for the transport to tell when it has left, at the most; the
#: first look is in the next turn, as Twisted's own transports write then.
LOOK = 0.05
_FIRST_LOOK = 0.001


class Waiters:
    """Those who wait for the peer of one connection.

    :param context: the connection's.
    :param waiting: returns how many bytes wait for the peer.
    """

    def __init__(self, context: Context, schedule: Schedule, waiting: Callable[[], int]) -> None:
        self._context = context
        self._stream = context.stream
        self._schedule = schedule
        self._waiting = waiting
        # The handler has seen a send refused, and is to be told when there is room again.
        self._owes_info = False
        self._waiters: dict[Deferred[bool], None] = {}
        self._next_look: Timer | None = None
        # Seconds from the last look to the next one.
        self._pause = 0.0
        self._stream.unblocked = self._unblocked

    @property
    def waited_for(self) -> bool:
        """Whether anybody waits."""
        return self._owes_info or bool(self._waiters)

    def note_refusal(self) -> None:
        """Tell the handler when output has left, as a send was refused for want of room."""
        self._owes_info = True

    def tell_handler(self) -> None:
        """Give the handler ``("info", "drained")``, if a send was refused since the last time."""
        if self._owes_info:
            self._owes_info = not self._context.ask("info", "drained")

    def drained(self) -> Deferred[bool]:
        """Return a Deferred that fires with True when no output waits, with False when the connection has gone.

        :raises RuntimeError: when `MAX_WAITERS` wait already.
        """
        stream = self._stream
        # Who waits may be the handler, whose answer may be what the module's messages wait for.
        self._context.let_go()
        if not (stream.blocked or stream.output_full):
            # What was written in this turn would wait for its end.
            stream.flush()
        if not self._waiting():
            return succeed(True)
        if len(self._waiters) >= MAX_WAITERS:
            raise RuntimeError(
                f"{MAX_WAITERS} callers of drained() wait for the connection {self._context.ref.id} already"
            )
        waiter: Awaited[bool] = Awaited(self._forget)
        self._waiters[waiter] = None
        self._pause = 0.0
        self._look_later()
        return waiter

    def _forget(self, waiter: Deferred[bool]) -> None:
        """Forget a waiter that was cancelled."""
        self._waiters.pop(waiter, None)

    def lost(self) -> None:
        """Stop waiting: the connection is gone."""
        if self._next_look is not None:
            self._next_look.cancel()
        self._wake(False)

    # From the stream

    def _unblocked(self) -> None:
        self.tell_handler()
        self._pause = 0.0
        self._look()

    def _look_later(self) -> None:
        # A blocked transport tells when it is empty. Another may hold output, but says nothing.
        if self._next_look is None and not self._stream.blocked:
            self._next_look = self._schedule.call_later(self._pause, self._look_again)
            self._pause = min(max(_FIRST_LOOK, 2 * self._pause), LOOK)

    def _look_again(self) -> None:
        self._next_look = None
        self._look()

    def _look(self) -> None:
        if not self._waiters:
            return
        self._context.let_go()
        if self._waiting():
            self._look_later()
        else:
            self._wake(True)

    def _wake(self, drained: bool) -> None:
        """Let all waiters go on, at the end of the turn: they are users' code."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            self._context.call_soon(partial(_fire, waiter, drained))


def _fire(waiter: Deferred[bool], drained: bool) -> None:
    # It may have been cancelled meanwhile.
    if not waiter.called:
        waiter.callback(drained)
