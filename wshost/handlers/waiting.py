"""Waits for an awaitable result of `init` or `handle`, with a time limit. Knows no messages and no stages."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred

from wshost.handlers.awaiting import Pending, begin, is_pending, outcome
from wshost.handlers.tasks import when_done
from wshost.interfaces import IChannel, Timer

Done: TypeAlias = Callable[[Any], None]
Failed: TypeAlias = Callable[[BaseException], None]
Resume: TypeAlias = Callable[[BaseException | None], None]

# Those that nobody else refers to: asyncio refers to its tasks weakly.
_kept: set[Waiting] = set()


class Waiting:
    """Waits until something is there, then hands it on and lets the session go on.

    :param channel: for the timer, and for the end of the reactor's turn.
    :param loop: the running one.
    :param pending: what `begin` has returned.
    :param done: gets the result.
    :param failed: gets an exception instead, of `done` too, while it is being handled.
    :param resume: called after that, at the end of a turn; with what `failed` has raised, or None.
    """

    def __init__(  # noqa: PLR0917 - called for every message that waits
        self,
        channel: IChannel,
        loop: AbstractEventLoop | None,
        pending: Pending,
        done: Done,
        failed: Failed,
        resume: Resume,
    ) -> None:
        self._channel = channel
        self._loop = loop
        self._done = done
        self._failed = failed
        self._resume = resume
        self._timer: Timer | None = None
        # None once it is there.
        self._pending: Pending | None = None
        self._cancelled = False
        self._wait_for(pending)

    def keep(self) -> None:
        """Keep this, and what it waits for, alive until that is there."""
        _kept.add(self)

    def limit(self, seconds: float, overdue: Callable[[], None]) -> None:
        """Call `overdue` if it is not there after so many seconds."""
        self._timer = self._channel.call_later(seconds, overdue)

    def cancel(self) -> None:
        """Cancel what is pending, and the time limit. It decides whether it ends now, later or never."""
        self._stop_timer()
        self._cancelled = True
        if self._pending is not None:
            try:
                self._pending.cancel()
            except BaseException:  # users' code may raise anything
                self._channel.log_failure("what the handler waits for can't be cancelled")

    def _wait_for(self, pending: Pending) -> None:
        self._pending = pending
        if isinstance(pending, Deferred):
            pending.addBoth(self._fired)
        else:
            when_done(pending, self._done_soon)

    def _fired(self, result: Any) -> None:
        """The Deferred has fired, maybe within users' code."""
        self._pending = None
        if isawaitable(result):
            # To begin it is to enter users' code.
            self._channel.call_soon(partial(self._hand_on, lambda: begin(result, self._loop)))
            return
        error = None
        try:
            self._take(lambda: outcome(result))
        except BaseException as fault:  # nobody would see it here
            error = fault
        self._channel.call_soon(partial(self._end, error))

    def _done_soon(self, _: object = None) -> None:
        self._channel.call_soon(self._future_done)

    def _future_done(self) -> None:
        future, self._pending = self._pending, None
        self._hand_on(lambda: begin(outcome(future), self._loop))

    def _hand_on(self, take: Callable[[], Any]) -> None:
        """Hand the result on, at the end of a turn, or wait for what it is itself."""
        error = None
        try:
            pending = self._take(take)
        except BaseException as fault:
            pending, error = None, fault
        if pending is None:
            self._end(error)
        else:
            self._wait_for(pending)
            if self._cancelled:
                self.cancel()

    def _end(self, error: BaseException | None) -> None:
        self._stop_timer()
        _kept.discard(self)
        self._resume(error)

    def _take(self, take: Callable[[], Any]) -> Any:
        """Hand the result on, unless it is another one to wait for: that is returned."""
        try:
            result = take()
            if is_pending(result):
                return result
            self._done(result)
        except BaseException as error:  # users' code may raise anything
            try:
                self._failed(error)
            finally:
                # The traceback refers to this frame, and this frame to the exception: break the cycle.
                with suppress(Exception):
                    error.__traceback__ = None
        return None

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
