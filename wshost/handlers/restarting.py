"""Runs a handler that asks for a restart when it crashes: its connection stays, and its init runs again.

Knows no frames, no transport. `session.py` has what is the same for all handlers, and nothing of this.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

from wshost.handlers.answers import Close
from wshost.handlers.awaiting import CANCELLED
from wshost.handlers.session import HandlerSession, Stage, Terms
from wshost.interfaces import IChannel, IRef
from wshost.request import ConnectionInfo
from wshost.results import Accept, Reject

#: In any `PERIOD` seconds, a connection's handler is started again at most this often. The next crash closes with 1011.
RESTARTS = 3
PERIOD = 5.0


class RestartingSession(HandlerSession):
    """A session whose handler has `on_crash = "restart"`.

    After a crash, the session is in the stage INIT again, and busy: messages and infos wait. `init` is called at the
    end of the turn, when no users' code is running. Until it has returned a state, the old one is the last that there
    was: "connection_close" gets it if there is never another.
    """

    def __init__(self, terms: Terms, channel: IChannel, connection: ConnectionInfo | None) -> None:
        super().__init__(terms, channel, connection)
        # For the next init.
        self._ref: IRef
        self._kept_connection = connection
        # When the last restarts were, in seconds of the channel's clock.
        self._restarts: deque[float] = deque(maxlen=RESTARTS)
        # `init` must be called at the end of this turn; it must be, or it was and has not ended.
        self._due = False
        self._restarting = False

    def open(self, ref: IRef) -> None:
        self._ref = ref
        super().open(ref)

    def connection_lost(self) -> None:
        if self._stage is not Stage.INIT or not self._restarting:
            super().connection_lost()
            return
        # Unlike a first init, "connection_close" is due in any case.
        self._stop_handling(Stage.LOST)
        waiting: Any = self._waiting
        waiting.cancel()
        waiting.limit(self._terms.close_grace, partial(self._handle_overdue, waiting))

    # The crash

    def _handle_failed(self, error: BaseException) -> None:
        if self._stage is not Stage.OPEN or _asks_to_exit(error) or not self._may_restart():
            super()._handle_failed(error)
            return
        self._crashed("handle", "the handler's handle failed")
        self._stage = Stage.INIT
        self._due = self._restarting = True
        if self._waiting is None:
            self._waiting = _Turn()  # type: ignore[assignment]
            self._channel.call_soon(partial(self._resume, None))

    def _may_restart(self) -> bool:
        """Count a restart, unless there were too many of late, or `init` would lack what another process was told."""
        if self._kept_connection is None:
            return False
        now = self._channel.seconds()
        if len(self._restarts) == RESTARTS and now - self._restarts[0] < PERIOD:
            return False
        self._restarts.append(now)
        return True

    def _resume(self, error: BaseException | None) -> None:
        if error is not None or not self._due:
            super()._resume(error)
            return
        self._due = False
        self._waiting = None
        if self._stage is Stage.INIT:
            self._connection = self._kept_connection
            self._channel.start_over()
            super().open(self._ref)
            self._channel.proceed()
        else:
            # The connection was lost meanwhile.
            self._restarting = False
            self._go_on_and_proceed()

    # The next init

    def _init_done(self, result: Any) -> None:
        if not self._restarting:
            super()._init_done(result)
            return
        self._restarting = False
        self._state = result.state if isinstance(result, Accept) else result
        # In a later stage, init was given up.
        if self._stage is Stage.INIT:
            self._stage = Stage.OPEN

    def _init_failed(self, error: BaseException) -> None:
        if not self._restarting:
            super()._init_failed(error)
            return
        self._restarting = False
        if self._stage is not Stage.INIT:
            if not isinstance(error, (Reject, *CANCELLED)):
                self._crashed("init", "the handler's init failed after it had been given up")
            return
        try:
            self._close(Close(1011, ""))
        finally:
            if not isinstance(error, Reject):
                self._crashed("init", "the handler's init failed")

    def _init_overdue(self) -> None:
        if not self._restarting:
            super()._init_overdue()
            return
        waiting: Any = self._waiting
        try:
            self._close(Close(1011, ""))
        finally:
            waiting.cancel()


def _asks_to_exit(error: BaseException) -> bool:
    """Return whether an exception may ask the process to exit. A group may if not all in it is an `Exception`."""
    return isinstance(error, SystemExit | KeyboardInterrupt) or (
        isinstance(error, BaseExceptionGroup) and not isinstance(error, ExceptionGroup)
    )


class _Turn:
    """Stands for what is awaited, from a crash to the end of the turn. Nothing can be cancelled."""

    def cancel(self) -> None:
        """Do nothing."""

    def limit(self, seconds: float, overdue: Any) -> None:
        """Do nothing: a turn ends."""
