from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed

from tests.handlers.surroundings import in_loop, quiet, turns, without_loop
from wshost.handlers.awaiting import CANCELLED, fired_with, is_pending, running_loop
from wshost.handlers.awaiting import begin as begin_in

pytestmark = pytest.mark.usefixtures(quiet.__name__)


def begin(awaitable: Any) -> Any:
    return begin_in(awaitable, running_loop())


class Outcome:
    """What has come of what was begun: a result or an exception."""

    def __init__(self, awaitable: Any) -> None:
        self.results: list[Any] = []
        self.pending: Any = None
        self._look(lambda: begin(awaitable))

    def _look(self, take: Callable[[], Any]) -> None:
        self.pending = None
        try:
            result = take()
        except BaseException as error:
            self.results.append(error)
            return
        if isinstance(result, Deferred):
            self.pending = result
            result.addBoth(lambda fired: self._look(lambda: begin(fired_with(fired))))
        elif is_pending(result):
            self.pending = result
            result.add_done_callback(lambda done: self._look(lambda: begin(done.result())))
        else:
            self.results.append(result)

    @property
    def result(self) -> Any:
        (result,) = self.results
        return result


class Awaitable:
    """No coroutine and no Deferred, but it can be awaited."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self.deferred.__await__())


async def answer(value: Any) -> Any:
    return value


async def crash() -> None:
    raise LookupError("gone")


class TestWhatIsThere:
    @pytest.mark.parametrize("value", [None, 0, "text", b"binary", ("noreply", None), [1], object(), answer, iter([])])
    def test_what_is_not_awaitable_comes_back_as_it_is(self, value: Any) -> None:
        assert begin(value) is value
        assert not is_pending(value)

    @without_loop
    def test_what_is_not_awaitable_comes_back_without_a_loop(self) -> None:
        assert begin(("noreply", None)) == ("noreply", None)

    def test_a_generator_is_not_awaited(self) -> None:
        generator = (one for one in "abc")
        assert begin(generator) is generator


class TestADeferred:
    def test_a_deferred_that_has_not_fired_is_pending_itself(self) -> None:
        deferred: Deferred[str] = Deferred()
        assert begin(deferred) is deferred
        assert is_pending(deferred)

    def test_the_result_of_a_deferred_that_has_fired_is_there(self) -> None:
        assert begin(succeed("done")) == "done"

    def test_the_exception_of_a_deferred_that_has_failed_is_raised(self) -> None:
        error = LookupError()
        with pytest.raises(LookupError) as raised:
            begin(fail(error))
        assert raised.value is error

    def test_a_deferred_that_waits_for_another_is_pending(self) -> None:
        inner: Deferred[str] = Deferred()
        outer = succeed(None).addCallback(lambda _: inner)
        waiting = Outcome(outer)
        assert waiting.pending is outer
        inner.callback("inner")
        assert waiting.result == "inner"

    def test_the_deferred_of_inline_callbacks_is_awaited(self) -> None:
        gate: Deferred[str] = Deferred()

        @inlineCallbacks
        def wait() -> Generator[Deferred[str], str, str]:
            return (yield gate)

        outcome = Outcome(wait())
        gate.callback("through")
        assert outcome.result == "through"

    @without_loop
    def test_an_awaitable_result_of_a_deferred_is_awaited_in_turn(self) -> None:
        gate: Deferred[str] = Deferred()
        outcome = Outcome(succeed(gate).addCallback(Awaitable))
        assert outcome.results == []
        gate.callback("in the end")
        assert outcome.result == "in the end"

    @in_loop
    async def test_a_future_that_a_deferred_has_fired_with_is_awaited(self) -> None:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        outcomes = [Outcome(succeed(None).addCallback(lambda _: gate)), Outcome(Deferred())]
        outcomes[1].pending.callback(gate)
        gate.set_result("done")
        await turns()
        assert [outcome.result for outcome in outcomes] == ["done", "done"]


class TestResultsThatAreAwaitable:
    @in_loop
    async def test_a_task_that_is_done_has_a_result(self) -> None:
        task = asyncio.current_task()

        async def wait() -> str:
            nonlocal task
            task = asyncio.current_task()
            await asyncio.sleep(0)
            return "done"

        assert await begin(wait()) == "done"
        assert begin(task) == "done"
        assert begin(answer(task)) == "done"

    @in_loop
    async def test_an_awaitable_that_is_its_own_result_raises(self) -> None:
        async def own() -> Any:
            return asyncio.current_task()

        gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        gate.set_result(gate)
        for result in own(), gate:
            with pytest.raises(TypeError, match="again and again"):
                begin(result)


class TestWithoutALoop:
    """Twisted runs the coroutine: it can await Deferreds."""

    @without_loop
    def test_without_a_loop_a_coroutine_that_never_waits_is_done_at_once(self) -> None:
        assert Outcome(answer("now")).result == "now"

    @without_loop
    def test_without_a_loop_a_coroutine_goes_on_when_its_deferred_fires(self) -> None:
        gate: Deferred[str] = Deferred()

        async def wait() -> str:
            return (await gate).upper()

        outcome = Outcome(wait())
        assert outcome.results == []
        gate.callback("go")
        assert outcome.result == "GO"

    @without_loop
    def test_without_a_loop_an_exception_is_raised(self) -> None:
        assert isinstance(Outcome(crash()).result, LookupError)

    @without_loop
    def test_without_a_loop_any_awaitable_is_awaited(self) -> None:
        gate: Deferred[str] = Deferred()
        outcome = Outcome(Awaitable(gate))
        gate.callback("go")
        assert outcome.result == "go"

    @without_loop
    def test_without_a_loop_an_awaitable_result_is_awaited_in_turn(self) -> None:
        gate: Deferred[str] = Deferred()
        outcomes = [Outcome(answer(succeed("a"))), Outcome(answer(answer("b"))), Outcome(answer(gate))]
        gate.callback("c")
        assert [outcome.result for outcome in outcomes] == ["a", "b", "c"]

    @without_loop
    def test_without_a_loop_asyncio_raises_that_there_is_none(self) -> None:
        error = Outcome(asyncio.sleep(1)).result
        assert isinstance(error, RuntimeError)
        assert "no running event loop" in str(error)

    @without_loop
    def test_without_a_loop_cancelling_cancels_the_deferred_that_is_awaited(self) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred(cancelled.append)

        async def wait() -> None:
            await gate

        outcome = Outcome(wait())
        outcome.pending.cancel()
        assert cancelled == [gate]
        assert isinstance(outcome.result, defer.CancelledError)
        assert isinstance(outcome.result, CANCELLED)

    @without_loop
    def test_without_a_loop_a_coroutine_that_ignores_its_cancelling_fires_when_it_is_done(self) -> None:
        gate: Deferred[str] = Deferred()

        async def persist() -> str:
            try:
                await Deferred()
            except defer.CancelledError:
                return await gate
            raise AssertionError

        outcome = Outcome(persist())
        outcome.pending.cancel()
        assert outcome.results == []
        gate.callback("late")
        assert outcome.result == "late"


class TestInALoop:
    """The coroutine is a task, as any of asyncio's."""

    @in_loop
    async def test_a_coroutine_can_use_asyncio(self) -> None:
        async def use() -> str:
            async with asyncio.timeout(10):
                await asyncio.sleep(0.001)
            async with asyncio.TaskGroup() as group:
                return await group.create_task(answer("done"))

        outcome = Outcome(use())
        await outcome.pending
        await turns()
        assert outcome.result == "done"

    @in_loop
    async def test_a_coroutine_is_a_task_of_its_own(self) -> None:
        async def who() -> Any:
            return [asyncio.current_task()]

        outcome = Outcome(who())
        await turns()
        (task,) = outcome.result
        assert isinstance(task, asyncio.Task)
        assert task is not asyncio.current_task()

    @in_loop
    async def test_a_coroutine_that_never_waits_is_done_at_once(self) -> None:
        assert begin(answer("now")) == "now"

    @in_loop
    async def test_an_exception_of_a_task_is_raised(self) -> None:
        outcome = Outcome(crash())
        await turns()
        assert isinstance(outcome.result, LookupError)

    @in_loop
    async def test_the_repr_of_the_task_names_the_users_coroutine(self) -> None:
        async def handle() -> str:
            return repr(asyncio.current_task())

        outcome = Outcome(handle())
        await turns()
        assert "test_the_repr_of_the_task_names_the_users_coroutine.<locals>.handle() running" in outcome.result

    @in_loop
    async def test_a_task_has_a_copy_of_the_context(self) -> None:
        variable: ContextVar[str] = ContextVar("variable", default="unset")
        gate: Deferred[None] = Deferred()

        async def change() -> list[str]:
            values = [variable.get()]
            variable.set("inner")
            await gate
            return [*values, variable.get()]

        variable.set("outer")
        outcome = Outcome(change())
        variable.set("later")
        await turns()
        gate.callback(None)
        await turns()
        assert outcome.result == ["outer", "inner"]
        assert variable.get() == "later"

    @in_loop
    async def test_futures_tasks_and_other_awaitables_are_awaited(self) -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        gate: Deferred[str] = Deferred()
        task = asyncio.create_task(answer("task"))
        outcomes = [Outcome(future), Outcome(Awaitable(gate)), Outcome(task)]
        await turns()
        future.set_result("future")
        gate.callback("object")
        await turns()
        assert [outcome.result for outcome in outcomes] == ["future", "object", "task"]

    @in_loop
    async def test_a_future_that_is_done_fires_at_once(self) -> None:
        loop = asyncio.get_running_loop()
        good, bad, cancelled = loop.create_future(), loop.create_future(), loop.create_future()
        good.set_result("there")
        bad.set_exception(LookupError())
        cancelled.cancel()
        assert Outcome(good).result == "there"
        assert isinstance(Outcome(bad).result, LookupError)
        assert isinstance(Outcome(cancelled).result, asyncio.CancelledError)

    @in_loop
    async def test_an_awaitable_result_of_a_task_is_awaited_in_turn(self) -> None:
        gate: Deferred[str] = Deferred()
        outcomes = [Outcome(answer(succeed("a"))), Outcome(answer(answer("b"))), Outcome(answer(gate))]
        await turns()
        gate.callback("c")
        await turns()
        assert [outcome.result for outcome in outcomes] == ["a", "b", "c"]


class TestAwaitingADeferredInALoop:
    @in_loop
    async def test_a_task_gets_the_result_of_a_deferred(self) -> None:
        gate: Deferred[str] = Deferred()

        async def wait() -> str:
            await asyncio.sleep(0)
            result = await gate
            await asyncio.sleep(0)
            return result

        outcome = Outcome(wait())
        await turns()
        assert outcome.results == []
        gate.callback("go")
        await turns()
        assert outcome.result == "go"

    @in_loop
    async def test_a_task_gets_the_failure_of_a_deferred(self) -> None:
        gate: Deferred[str] = Deferred()

        async def wait() -> str:
            try:
                return await gate
            except LookupError as error:
                return f"caught {error}"

        outcome = Outcome(wait())
        await turns()
        gate.errback(LookupError("gone"))
        await turns()
        assert outcome.result == "caught gone"

    @in_loop
    async def test_a_task_does_not_wait_for_a_deferred_that_has_fired(self) -> None:
        async def wait() -> str:
            return await succeed("there")

        outcome = Outcome(wait())
        await turns(2)
        assert outcome.result == "there"

    @in_loop
    async def test_a_task_waits_for_a_deferred_that_waits_for_another(self) -> None:
        inner: Deferred[str] = Deferred()
        outer = succeed(None).addCallback(lambda _: inner)

        async def wait() -> Any:
            return await outer

        outcome = Outcome(wait())
        await turns()
        inner.callback("inner")
        await turns()
        assert outcome.result == "inner"

    @in_loop
    async def test_a_task_is_woken_once_when_its_deferred_fires(self) -> None:
        class Counted(Deferred[str]):
            asked = 0

            def __await__(self) -> Generator[Any, None, str]:
                for step in super().__await__():
                    self.asked += 1
                    yield step
                return "there"

        gate = Counted()

        async def wait() -> str:
            return await gate

        outcome = Outcome(wait())
        await turns(10)
        gate.callback("there")
        await turns()
        assert (outcome.result, gate.asked) == ("there", 1)

    @in_loop
    async def test_two_tasks_can_await_one_deferred(self) -> None:
        gate: Deferred[str] = Deferred()

        async def wait() -> str:
            return await gate

        outcomes = [Outcome(wait()), Outcome(wait())]
        await turns()
        gate.callback("both")
        await turns()
        assert [outcome.result for outcome in outcomes] == ["both", "both"]


class TestCancellingATask:
    @in_loop
    async def test_a_cancelled_task_ends_in_its_own_time(self) -> None:
        log: list[str] = []

        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                log.append("cleared up")

        outcome = Outcome(wait())
        await turns()
        outcome.pending.cancel()
        assert outcome.results == []
        await turns()
        assert log == ["cleared up"]
        assert isinstance(outcome.result, asyncio.CancelledError)
        assert isinstance(outcome.result, CANCELLED)

    @in_loop
    async def test_cancelling_a_task_cancels_the_deferred_it_awaits(self) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred(cancelled.append)

        async def wait() -> str:
            try:
                return str(await gate)
            except asyncio.CancelledError:
                return "cancelled"

        outcome = Outcome(wait())
        await turns()
        outcome.pending.cancel()
        await turns()
        assert cancelled == [gate]
        assert outcome.result == "cancelled"

    @in_loop
    async def test_cancelling_a_task_leaves_alone_a_deferred_it_has_awaited_before(self) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred()

        async def wait() -> None:
            await gate
            await asyncio.sleep(60)

        outcome = Outcome(wait())
        await turns()
        gate.callback(None)
        await turns()
        gate.addCallback(lambda _: Deferred(cancelled.append))
        outcome.pending.cancel()
        await turns()
        assert isinstance(outcome.result, asyncio.CancelledError)
        assert cancelled == []

    @in_loop
    async def test_a_failure_just_before_the_cancelling_is_dropped(self) -> None:
        gate: Deferred[Any] = Deferred()

        async def wait() -> None:
            await gate

        outcome = Outcome(wait())
        await turns()
        gate.errback(LookupError())
        outcome.pending.cancel()
        await turns()
        assert isinstance(outcome.result, asyncio.CancelledError)

    @in_loop
    async def test_a_failure_just_after_the_cancelling_is_dropped(self) -> None:
        gate: Deferred[Any] = Deferred()

        async def wait() -> None:
            await gate

        outcome = Outcome(wait())
        await turns()
        outcome.pending.cancel()
        gate.errback(LookupError())
        await turns()
        assert isinstance(outcome.result, asyncio.CancelledError)

    @in_loop
    async def test_a_task_that_has_taken_one_step_can_be_cancelled(self) -> None:
        outcome = Outcome(asyncio.sleep(60))
        outcome.pending.cancel()
        await turns()
        assert isinstance(outcome.result, asyncio.CancelledError)

    @in_loop
    async def test_a_task_that_ignores_its_cancelling_fires_when_it_is_done(self) -> None:
        gate: Deferred[str] = Deferred()

        async def persist() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return await gate
            raise AssertionError

        outcome = Outcome(persist())
        await turns()
        outcome.pending.cancel()
        await turns()
        assert outcome.results == []
        gate.callback("late")
        await turns()
        assert outcome.result == "late"

    @in_loop
    async def test_cancelling_what_is_done_changes_nothing(self) -> None:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        outcome = Outcome(gate)
        pending = outcome.pending
        gate.set_result("done")
        pending.cancel()
        await turns()
        pending.cancel()
        assert outcome.result == "done"

    @in_loop
    async def test_cancelling_cancels_the_deferred_that_a_task_has_returned(self) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred(cancelled.append)
        outcome = Outcome(answer(gate))
        await turns()
        outcome.pending.cancel()
        assert cancelled == [gate]
        assert isinstance(outcome.result, defer.CancelledError)


class TestWhenTheLoopEnds:
    @in_loop
    async def test_a_task_that_is_left_when_the_loop_ends_is_not_logged(self) -> None:
        async def wait() -> None:
            await Deferred()

        outcome = Outcome(wait())
        await turns()
        # `asyncio.run` goes on to cancel it.
        assert outcome.results == []


class TestWhatEndsTheProcess:
    """It is raised where the outcome is taken, and goes through no loop."""

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    @in_loop
    async def test_an_exit_of_a_first_step_does_not_stop_the_loop(self, error: BaseException) -> None:
        async def leave() -> None:
            raise error

        assert Outcome(leave()).result is error

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    @in_loop
    async def test_an_exit_of_a_task_does_not_stop_the_loop(self, error: BaseException) -> None:
        async def leave() -> None:
            await asyncio.sleep(0)
            raise error

        outcome = Outcome(leave())
        await turns()
        assert outcome.result is error

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    @in_loop
    async def test_an_exit_of_a_cancelled_task_does_not_stop_the_loop(self, error: BaseException) -> None:
        async def leave() -> None:
            try:
                await Deferred()
            finally:
                raise error

        outcome = Outcome(leave())
        outcome.pending.cancel()
        await turns()
        assert outcome.result is error

    @pytest.mark.parametrize("error", [SystemExit(3), LookupError()])
    @without_loop
    def test_an_exit_without_a_loop_is_raised(self, error: BaseException) -> None:
        async def leave() -> None:
            raise error

        assert Outcome(leave()).result is error
