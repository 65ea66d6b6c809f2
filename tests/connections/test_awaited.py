from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from tests.handlers.surroundings import in_loop, turns
from wshost.connections.awaited import Awaited


async def until(waiter: Deferred[Any]) -> Any:
    return await waiter


@in_loop
async def test_tasks_of_asyncio_may_wait_for_the_same() -> None:
    waiter: Awaited[int] = Awaited()
    tasks = [asyncio.create_task(until(waiter)) for _ in range(2)]
    await turns()
    waiter.callback(7)
    assert await asyncio.gather(*tasks) == [7, 7]


@in_loop
async def test_a_coroutine_of_twisted_waits_where_a_loop_runs() -> None:
    waiter: Awaited[int] = Awaited()
    fired: list[Any] = []
    ensureDeferred(until(waiter)).addBoth(fired.append)
    waiter.callback(7)
    assert fired == [7]


@in_loop
async def test_one_that_has_fired_is_awaited_at_once() -> None:
    waiter: Awaited[int] = Awaited()
    waiter.callback(7)
    assert await waiter == 7


@in_loop
async def test_a_time_limit_of_asyncio_ends_the_wait() -> None:
    ended: list[Any] = []
    waiter: Awaited[int] = Awaited(ended.append)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiter, 0.001)
    assert ended == [waiter]


@in_loop
async def test_a_task_that_is_cancelled_cancels_what_it_waits_for() -> None:
    ended: list[Any] = []
    waiter: Awaited[int] = Awaited(ended.append)
    task = asyncio.create_task(until(waiter))
    await turns()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [waiter]


def test_a_coroutine_of_twisted_that_is_cancelled_cancels_what_it_waits_for() -> None:
    ended: list[Any] = []
    waiter: Awaited[int] = Awaited(ended.append)
    running = ensureDeferred(until(waiter))
    fired: list[Any] = []
    running.addErrback(lambda failure: fired.append(failure.type))
    running.cancel()
    assert (ended, fired) == ([waiter], [CancelledError])
