"""Starts an awaitable that a function returns. Knows no handlers and no connections.

It decides how coroutines run: as asyncio tasks where an asyncio loop runs, with Twisted alone elsewhere.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from types import CoroutineType
from typing import Any, TypeAlias, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wshost.handlers.tasks import Task, start

#: The exceptions of a cancelled awaitable, in asyncio and in Twisted.
CANCELLED = (asyncio.CancelledError, defer.CancelledError)

#: How many awaitables may be each other's results: one that is its own would be awaited for ever.
MAX_NESTED = 100
NEVER_ENDS = "an awaitable's result is awaitable, again and again"

#: What is not there yet.
Pending: TypeAlias = "Task | asyncio.Future[Any] | Deferred[Any]"

#: Returns the running event loop of asyncio, None where there is none. It asks for the process's id each time.
running_loop: Callable[[], AbstractEventLoop | None] = asyncio._get_running_loop  # noqa: SLF001 - it raises nothing


def begin(result: Any, loop: AbstractEventLoop | None) -> Any:
    """Start a function's result, if it has to be awaited, and return its own result, if that is there already.

    Where an asyncio loop runs, a coroutine becomes a task of it, with a copy of the context, and takes its first step
    here. It can use all of asyncio, and can await Deferreds besides. Tasks that it makes itself can't do that: they
    need `Deferred.asFuture`. Where no loop runs, a coroutine can await Deferreds only.

    :param result: anything that a function has returned.
    :param loop: the running one.
    :returns: what is not awaitable, as it is. Otherwise the result of the awaitable; one that is awaitable is awaited
        in turn. Or else a `Pending` (see `is_pending`). To cancel it is to cancel the awaitable. A task decides how and
        when it ends then.
    :raises BaseException: what the awaitable has failed with already.
    :raises TypeError: more than `MAX_NESTED` awaitables are each other's results.
    """
    left = MAX_NESTED
    # Most results are one of these, and to ask whether something is awaitable takes long.
    while type(result) is not tuple and result is not None:
        if type(result) is CoroutineType:
            result = _start(result, loop)
        elif type(result) is Task:
            if not result.done():
                return result
            result = result.result()
        elif isinstance(result, Deferred):
            if not result.called or result.paused:
                return result
            result = _taken(result)
        elif not isawaitable(result):
            return result
        elif not asyncio.isfuture(result):
            result = _start(_value(result), loop)
        elif not result.done():
            return result
        else:
            result = result.result()
        if not left:
            raise TypeError(NEVER_ENDS)
        left -= 1
    return result


def is_pending(result: Any) -> bool:
    """Say whether `begin` has returned something that is not there yet."""
    if result is None:
        return False
    return type(result) is Task or isinstance(result, Deferred) or asyncio.isfuture(result)


def fired_with(result: Any) -> Any:
    """Return what a Deferred has fired with.

    :raises BaseException: what it has failed with.
    """
    if not isinstance(result, Failure):
        return result
    try:
        raise cast("BaseException", result.value)
    finally:
        # The error's traceback refers to this frame: break the cycle.
        del result


def _taken(deferred: Deferred[Any]) -> Any:
    """Take the result of a Deferred that has fired."""
    fired: list[Any] = []
    deferred.addBoth(fired.append)
    return fired_with(fired.pop())


def _start(coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop | None) -> Any:
    return Deferred.fromCoroutine(_value(coroutine)) if loop is None else start(coroutine, loop)


async def _value(awaitable: Awaitable[Any]) -> Any:
    value = await awaitable
    # A Deferred must not fire with a Deferred.
    return await value if isinstance(value, Deferred) else value
