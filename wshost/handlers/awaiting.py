"""Makes a Deferred of what a handler's function has begun but not finished; knows neither handlers nor connections."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine
from inspect import isawaitable, iscoroutine
from operator import methodcaller
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

#: How what was cancelled fails, in asyncio and in Twisted.
CANCELLED = (asyncio.CancelledError, defer.CancelledError)


class _Exit(Exception):
    """What a coroutine has raised to end the process. Bare, it would end a task's loop, there and then."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


# From Python 3.12 on a task takes its first step at once: what never waits costs no turn of the loop.
_EAGERLY: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


def awaited(result: Any) -> Deferred[Any] | None:
    """Return a Deferred for what is still to come, None for what is there.

    Where an asyncio loop runs, a coroutine becomes a task of it: in its own copy of the context, and with the whole
    of asyncio at hand. It can await Deferreds besides, but tasks that it makes itself can't: these need
    `Deferred.asFuture`. Where none runs, a coroutine can await only Deferreds.

    :param result: anything that a function has returned.
    :returns: for a Deferred itself, for any other awaitable a new one, which may have fired. It fires with the
        awaitable's result or exception; with a result that is awaitable again, when that one does. Cancelling it
        cancels the awaitable; as a task decides how and when it ends, the Deferred then fires later.
    """
    if isinstance(result, Deferred):
        deferred = result
    elif isawaitable(result):
        deferred = _begin(result)
    else:
        return None
    return deferred.addCallback(_settle)


def cause(failure: Failure) -> BaseException:
    """Return what has made an `awaited` Deferred fail."""
    error = cast("BaseException", failure.value)
    return error.error if isinstance(error, _Exit) else error


def _settle(result: Any) -> Any:
    deferred = awaited(result)
    return result if deferred is None else deferred


def _begin(awaitable: Awaitable[Any]) -> Deferred[Any]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return Deferred.fromCoroutine(_value(awaitable))
    if asyncio.isfuture(awaitable):
        return _FutureDeferred(awaitable)
    coroutine = awaitable if iscoroutine(awaitable) else _value(awaitable)
    steps = cast("Coroutine[Any, Any, Any]", _Steps(coroutine))
    return _FutureDeferred(asyncio.Task(steps, loop=loop, **_EAGERLY))


async def _value(awaitable: Awaitable[Any]) -> Any:
    value = await awaitable
    # A Deferred must not fire with another.
    return await value if isinstance(value, Deferred) else value


class _FutureDeferred(Deferred[Any]):
    """Fires when the future or task is done, and as it is; cancelling leaves both to the task."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        super().__init__()
        self._future = future
        self.addCallback(methodcaller("result"))
        if future.done():
            self.callback(future)
        else:
            future.add_done_callback(self.callback)

    def cancel(self) -> None:
        if self.called:
            super().cancel()
        else:
            self._future.cancel()


@Coroutine.register
class _Steps:
    """A coroutine's steps as a task wants them: where it waits for a Deferred, the task sees a future.

    Of the coroutine protocol this has what a task calls.
    """

    __slots__ = ("_coroutine", "_deferred")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._deferred: Deferred[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        # What a task's repr and stack show shall be the user's coroutine.
        return getattr(self._coroutine, name)

    def send(self, value: Any) -> Any:
        self._deferred = None
        try:
            waited_for = self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _Exit(error) from None
        return self._future(waited_for)

    def throw(self, error: BaseException) -> Any:
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            # The futures made here don't fail: the task is cancelled, and nobody will look at the Deferred's failure.
            deferred.addErrback(_ignore)
            deferred.cancel()
        try:
            waited_for = self._coroutine.throw(error)
        except (SystemExit, KeyboardInterrupt) as exit:
            raise _Exit(exit) from None
        return self._future(waited_for)

    def _future(self, waited_for: Any) -> Any:
        if not isinstance(waited_for, Deferred):
            return waited_for
        self._deferred = waited_for
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Iterating a future marks it as one that a task waits for.
        marked = next(future.__await__())
        waited_for.addBoth(_wake, future)
        return marked


def _wake(result: Any, future: asyncio.Future[None]) -> Any:
    """Let the task go on. The result stays: `Deferred.__await__` reads it from the Deferred when it is resumed."""
    if not future.done():
        future.set_result(None)
    return result


def _ignore(failure: Failure) -> None:
    """Consume a failure."""
