"""Makes a Deferred of any awaitable that a function returns. Knows no handlers and no connections.

It decides how coroutines run: as asyncio tasks where an asyncio loop runs, with Twisted alone elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable, iscoroutine
from operator import methodcaller
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

#: The exceptions of a cancelled awaitable, in asyncio and in Twisted.
CANCELLED = (asyncio.CancelledError, defer.CancelledError)


class _ProcessExit(Exception):
    """Carries a SystemExit or KeyboardInterrupt out of a task. Raised itself, it would stop the event loop at once."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


# Since Python 3.12, a task may take its first step at once. So a coroutine that never waits needs no turn of the loop.
_EAGERLY: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


def awaited(result: Any) -> Deferred[Any] | None:
    """Return a Deferred for an awaitable, None for anything else.

    Where an asyncio loop runs, a coroutine becomes a task of that loop, with a copy of the context. The coroutine can
    use all of asyncio, and can also await Deferreds. Tasks that it makes itself can't await Deferreds: they need
    `Deferred.asFuture`. Where no loop runs, a coroutine can await Deferreds only.

    :param result: anything that a function has returned.
    :returns: a Deferred itself; for any other awaitable a new Deferred, which may have fired already. It fires with the
        awaitable's result or exception. A result that is awaitable is awaited in turn. Cancelling the Deferred cancels
        the awaitable. A cancelled task decides how and when it ends, so the Deferred may fire later, and with a result.
    """
    if isinstance(result, Deferred):
        deferred = result
    elif isawaitable(result):
        deferred = _begin(result)
    else:
        return None
    return deferred.addCallback(_await_result)


def cause(failure: Failure) -> BaseException:
    """Return the exception that has made an `awaited` Deferred fail."""
    error = cast("BaseException", failure.value)
    return error.error if isinstance(error, _ProcessExit) else error


_kept: set[Deferred[Any]] = set()


def keep(deferred: Deferred[Any]) -> None:
    """Keep an `awaited` Deferred alive until it has fired: asyncio has only weak references to its tasks."""
    _kept.add(deferred)
    deferred.addBoth(lambda _: _kept.discard(deferred))


def _await_result(result: Any) -> Any:
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
    # A Deferred must not fire with a Deferred.
    return await value if isinstance(value, Deferred) else value


class _FutureDeferred(Deferred[Any]):
    """Fires when a future or task is done, with its result or exception. Cancelling only asks the task to end."""

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
    """Wraps a coroutine for a task: where the coroutine awaits a Deferred, the task sees a future.

    It has the methods of a coroutine that a task calls.
    """

    __slots__ = ("_coroutine", "_deferred")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._deferred: Deferred[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        # So that a task's repr and stack show the user's coroutine.
        return getattr(self._coroutine, name)

    def send(self, value: Any) -> Any:
        self._deferred = None
        return self._step(self._coroutine.send, value)

    def throw(self, error: BaseException) -> Any:
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            # The task was cancelled: nothing else raises here, as the futures made below never fail. Nobody will look
            # at the Deferred's failure.
            deferred.addErrback(_ignore)
            deferred.cancel()
        return self._step(self._coroutine.throw, error)

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            waited_for = step(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _ProcessExit(error) from None
        if not isinstance(waited_for, Deferred):
            return waited_for
        self._deferred = waited_for
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A task accepts a future only from its `__await__`, which marks the future as awaited.
        marked = next(future.__await__())
        waited_for.addBoth(_wake, future)
        return marked


def _wake(result: Any, future: asyncio.Future[None]) -> Any:
    """Let the task go on. The result stays in the Deferred, where `Deferred.__await__` reads it on being resumed."""
    if not future.done():
        future.set_result(None)
    return result


def _ignore(failure: Failure) -> None:
    """Consume a failure."""
