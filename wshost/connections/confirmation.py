"""Finds out what becomes of one message of a reference. Knows no stream, and not who asks.

The module is asked to call back, behind the message: what refs ask for is done in order. When it calls, the message is
in the connection's output; when no output waits, it was written. So nothing is said that is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from wshost.connections.awaited import Awaited
from wshost.results import Outcome

#: Seconds that a caller waits if it names no time, and at the most.
SECONDS, MOST_SECONDS = 5.0, 300.0


class Confirmation:
    """One message that is to be confirmed.

    :param drained: returns a Deferred that fires with True when no output of the connection waits, with False when it
        has gone; raises RuntimeError when too many wait.
    :param clock: provides `IReactorTime`.
    :param soon: makes a call when no users' code is running.
    :param seconds: after so long, nothing is known.
    :param forget: called once, when the outcome is known or nobody waits for it.
    """

    def __init__(
        self,
        drained: Callable[[], Deferred[bool]],
        clock: Any,
        soon: Callable[[Callable[[], None]], object],
        seconds: float,
        forget: Callable[[Confirmation], object],
    ) -> None:
        self._drained = drained
        self._soon = soon
        self._forget = forget
        self._waits: Deferred[bool] | None = None
        self._known: Outcome | None = None
        #: Fires once, when no users' code is running.
        self.outcome: Deferred[Outcome] = Awaited(lambda _: self._stop(None))
        self._timeout = clock.callLater(min(seconds, MOST_SECONDS), self.settle, Outcome.TIMEOUT)

    @property
    def settled(self) -> bool:
        """Whether the outcome is known, or nobody waits for it."""
        return self._known is not None or self.outcome.called

    def settle(self, outcome: Outcome) -> None:
        """It is known what became of the message. Only the first call counts."""
        if not self.settled:
            self._stop(outcome)
            self._soon(self._tell)

    def decide(self, sent: bool) -> None:
        """The message is in the connection's output; or was dropped for want of room."""
        if sent:
            # At the end of the turn, the output has been written, or waits.
            self._soon(self._look)
        else:
            self.settle(Outcome.OVERFLOW)

    def _look(self) -> None:
        if self.settled:
            return
        try:
            self._waits = self._drained()
        except RuntimeError:
            # It will leave, but too many wait to be told.
            self.settle(Outcome.TIMEOUT)
        else:
            self._waits.addCallbacks(lambda left: self.settle(Outcome.WRITTEN if left else Outcome.GONE), _ignore)

    def _tell(self) -> None:
        # It may have been cancelled meanwhile.
        if self._known is not None and not self.outcome.called:
            self.outcome.callback(self._known)

    def _stop(self, outcome: Outcome | None) -> None:
        self._known = outcome
        if self._timeout.active():
            self._timeout.cancel()
        waits, self._waits = self._waits, None
        if waits is not None:
            waits.cancel()
        self._forget(self)


def _ignore(failure: object) -> None:
    """Nobody waits any more."""
