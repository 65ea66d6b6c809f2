"""Waits for an awaitable result of `init` or `handle`, with a time limit. Knows no messages and no stages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wshost.handlers.awaiting import cause
from wshost.interfaces import IChannel, Timer

Done: TypeAlias = Callable[[Any], None]
Failed: TypeAlias = Callable[[BaseException], None]
Resume: TypeAlias = Callable[[BaseException | None], None]


class Waiting:
    """Waits for one Deferred, then passes its result on and lets the session go on.

    :param channel: has the timers, and calls at the end of the reactor's turn.
    """

    __slots__ = ("_channel", "_deferred", "_done_at_once", "_started", "_timer")

    def __init__(self, channel: IChannel) -> None:
        self._channel = channel
        # None when it has fired.
        self._deferred: Deferred[Any] | None = None
        self._timer: Timer | None = None
        self._started = self._done_at_once = False

    def start(self, deferred: Deferred[Any], done: Done, failed: Failed, resume: Resume) -> bool:
        """Wait for a Deferred. When it fires, its result goes to `done`, or its exception to `failed`.

        :param deferred: what `awaited` has returned.
        :param resume: called at the end of the turn in which the Deferred fires, unless this method returns True. Its
            argument is the exception that `failed` has raised, or None.
        :returns: whether the Deferred had fired already, so that nothing is left to be done.
        """
        self._deferred = deferred
        deferred.addBoth(self._fired, done, failed, resume)
        self._started = True
        return self._done_at_once

    def limit(self, seconds: float, overdue: Callable[[], None]) -> None:
        """Call `overdue` when the Deferred has not fired after so many seconds."""
        if self._deferred is not None:
            self._timer = self._channel.call_later(seconds, overdue)

    def cancel(self) -> None:
        """Cancel the Deferred, and the time limit. The Deferred decides whether it fires now, later or never."""
        self._stop_timer()
        if self._deferred is not None:
            try:
                self._deferred.cancel()
            except BaseException:  # users' code may raise anything
                self._channel.log_failure("what the handler waits for can't be cancelled")

    def _fired(self, result: Any, done: Done, failed: Failed, resume: Resume) -> None:
        self._deferred = None
        self._stop_timer()
        error = None
        try:
            pass_on(result, done, failed)
        except BaseException as fault:  # a Deferred would swallow it
            error = fault
        # Break the reference cycle: a failed result refers to this frame.
        del result
        if self._started or error is not None:
            # The caller may be users' code, and the session goes on by calling users' code.
            self._channel.call_soon(partial(resume, error))
        else:
            self._done_at_once = True

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def pass_on(result: Any, done: Done, failed: Failed) -> None:
    """Give a Deferred's result to `done`. Its exception, or one that `done` raises, goes to `failed`.

    `failed` is called while the exception is being handled.
    """
    try:
        if isinstance(result, Failure):
            raise cause(result)
        done(result)
    except BaseException as error:  # users' code may raise anything
        try:
            failed(error)
        finally:
            # Break the reference cycle: the traceback refers to this frame, and this frame to the exception.
            with suppress(Exception):
                error.__traceback__ = None
    finally:
        del result
