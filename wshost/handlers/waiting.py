"""Waits for an awaitable result of `init` or `handle`, with a time limit. Knows no messages and no stages."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred

from wshost.handlers.awaiting import MAX_NESTED, NEVER_ENDS, Pending, begin, fired_with, is_pending
from wshost.handlers.tasks import Task
from wshost.interfaces import IChannel, Timer

Done: TypeAlias = Callable[[Any], None]
Failed: TypeAlias = Callable[[BaseException], None]
Resume: TypeAlias = Callable[[BaseException | None], None]

# Those that nobody else refers to: asyncio refers to its tasks weakly.
_kept: set[Waiting] = set()


class Waiting:
    """Waits for an awaitable, hands its result on, and lets the session go on.

    :param channel: has the timers, and calls at the end of the reactor's turn.
    :param loop: the running one.
    :param pending: what `begin` has returned.
    :param done: gets the result.
    :param failed: gets the exception of the awaitable or of `done`, while that is being handled.
    :param resume: called at the end of the turn. Its argument is the exception that `failed` has raised, or None.
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
        # What `failed` has raised.
        self._error: BaseException | None = None
        self._cancelled = False
        # How many more awaitables may be each other's results.
        self._left = MAX_NESTED
        self._wait_for(pending)

    def keep(self) -> None:
        """Keep this, and what it waits for, alive until that is there."""
        _kept.add(self)

    def limit(self, seconds: float, overdue: Callable[[], None]) -> None:
        """Call `overdue` if it is not there after so many seconds. An earlier limit ends."""
        self._stop_timer()
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
        if type(pending) is Task and pending.ended is None:
            # This saves a turn of the loop.
            pending.ended = self._future_done
        elif isinstance(pending, Deferred):
            pending.addBoth(self._fired)
        else:
            pending.add_done_callback(self._future_done)

    def _future_done(self, future: asyncio.Future[Any]) -> None:
        try:
            self._take(future.result())
        except BaseException as error:  # users' code may raise anything
            self._fail(error)

    def _fired(self, result: Any) -> None:
        try:
            self._take(fired_with(result))
        except BaseException as error:  # users' code may raise anything
            self._fail(error)

    def _take(self, result: Any) -> None:
        """Hand the result on at once, so that answers leave in order with what users' code sends meanwhile.

        This may be called within users' code. So the session goes on, which calls users' code, at the end of the turn.
        """
        self._pending = None
        if type(result) is not tuple and isawaitable(result):
            self._channel.call_soon(partial(self._wait_for_result, result))
            return
        # It is there in time, even if the rest of this turn takes long.
        self._stop_timer()
        self._done(result)
        self._channel.call_soon(self._go_on)

    def _wait_for_result(self, result: Any) -> None:
        """Wait for a result that is itself awaitable."""
        self._left -= 1
        try:
            if not self._left:
                raise TypeError(NEVER_ENDS)
            result = begin(result, self._loop)
            if not is_pending(result):
                self._take(result)
                return
            self._wait_for(result)
            if self._cancelled:
                self.cancel()
        except BaseException as error:  # users' code may raise anything
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Hand an exception on, while it is being handled, and keep what `failed` raises for `resume`."""
        self._pending = None
        self._stop_timer()
        try:
            self._failed(error)
        except BaseException as fault:
            self._error = fault
        finally:
            # The traceback refers to frames that refer to the exception: break the cycle.
            with suppress(Exception):
                error.__traceback__ = None
        self._channel.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._stop_timer()
        if _kept:
            _kept.discard(self)
        self._resume(self._error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
