"""A module's timers: they end with it. Knows no connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class ModuleTimer:
    """One call to be made; one of a set of which none is left when the module has gone.

    :param clock: the reactor.
    :param seconds: from now.
    :param call: what to call, once.
    :param timers: where this timer is, until it was made or cancelled.
    :param failed: called while what the call has raised is being handled.
    """

    __slots__ = ("_delayed", "_timers")

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        call: Callable[[], None],
        timers: set[ModuleTimer],
        failed: Callable[[], None],
    ) -> None:
        self._timers = timers
        self._delayed: IDelayedCall | None = clock.callLater(seconds, self._fire, call, failed)
        timers.add(self)

    def cancel(self) -> None:
        """Forget the call. Harmless after it was made, and twice."""
        delayed = self._delayed
        if delayed is not None:
            self._forget()
            delayed.cancel()

    def _fire(self, call: Callable[[], None], failed: Callable[[], None]) -> None:
        self._forget()
        try:
            call()
        except Exception:
            failed()

    def _forget(self) -> None:
        # The delayed call knows us, too: without a cut here both would wait for the collector.
        self._delayed = None
        self._timers.discard(self)
