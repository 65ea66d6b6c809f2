"""Tasks that take their first step at once do what asyncio's own do."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from types import coroutine
from typing import Any, TypeAlias

import pytest
from twisted.internet.defer import Deferred

from tests.handlers.surroundings import in_loop, quiet, turns
from wshost.handlers.tasks import start

pytestmark = pytest.mark.usefixtures(quiet.__name__)

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
variable: ContextVar[str] = ContextVar("variable", default="unset")


def ours(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return start(coroutine, asyncio.get_running_loop())


#: What holds of asyncio's tasks holds of ours.
of_both = pytest.mark.parametrize("run", [asyncio.create_task, ours], ids=["asyncio's", "ours"])


async def here() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class TestTheFirstStep:
    @in_loop
    async def test_a_coroutine_that_never_waits_has_its_result_at_once(self) -> None:
        async def answer() -> str:
            return "there"

        assert ours(answer()) == "there"

    @in_loop
    async def test_an_exception_is_raised_at_once(self) -> None:
        error = LookupError()

        async def fail() -> None:
            raise error

        with pytest.raises(LookupError) as raised:
            ours(fail())
        assert raised.value is error

    @in_loop
    async def test_what_waits_is_returned_as_the_task_that_has_begun(self) -> None:
        tasks = []

        async def begin() -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)

        task = ours(begin())
        assert tasks == [task]
        await task

    @in_loop
    async def test_the_task_that_is_running_goes_on_to_be_the_current_one(self) -> None:
        outer = asyncio.current_task()
        inner = ours(wait_for_ever())
        assert asyncio.current_task() is outer
        assert ours(here()) is not outer
        assert asyncio.current_task() is outer
        with pytest.raises(ZeroDivisionError):
            ours(divide_by_zero())
        assert asyncio.current_task() is outer
        inner.cancel()
        await turns()

    @in_loop
    async def test_outside_of_tasks_none_is_current_afterwards(self) -> None:
        found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def call() -> None:
            task = ours(here())
            found.set_result((task, asyncio.current_task()))

        asyncio.get_running_loop().call_soon(call)
        task, after = await found
        assert isinstance(task, asyncio.Task)
        assert after is None

    @in_loop
    async def test_a_task_cancelled_by_itself_just_before_it_returns_is_cancelled(self) -> None:
        async def cancel() -> str:
            (await here()).cancel("enough")
            return "never seen"

        with pytest.raises(asyncio.CancelledError, match="enough"):
            ours(cancel())

    @in_loop
    async def test_the_exceptions_of_a_first_step_leave_no_cycle(self) -> None:
        refs = []

        async def fail() -> None:
            refs.append(weakref.ref(await here()))
            raise LookupError

        gc.disable()
        try:
            with pytest.raises(LookupError):
                ours(fail())
            assert refs[0]() is None
        finally:
            gc.enable()


async def divide_by_zero() -> float:
    return 1 / 0


class TestWhatATaskDoes:
    @of_both
    @in_loop
    async def test_its_result_can_be_awaited(self, run: Run) -> None:
        async def answer() -> str:
            await asyncio.sleep(0)
            return "later"

        task = run(answer())
        assert await task == "later"
        assert (task.done(), task.cancelled(), task.result(), task.exception()) == (True, False, "later", None)

    @of_both
    @in_loop
    async def test_its_exception_is_raised_where_it_is_awaited(self, run: Run) -> None:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise LookupError("gone")

        task = run(fail())
        with pytest.raises(LookupError, match="gone"):
            await task
        assert isinstance(task.exception(), LookupError)

    @of_both
    @in_loop
    async def test_a_callback_added_in_its_first_step_is_called(self, run: Run) -> None:
        done: list[Any] = []

        async def wait() -> str:
            (await here()).add_done_callback(done.append)
            await asyncio.sleep(0)
            return "end"

        task = run(wait())
        await turns()
        assert done == [task]

    @of_both
    @in_loop
    async def test_a_future_that_fails_raises_where_it_is_awaited(self, run: Run) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> str:
            try:
                await future
            except LookupError as error:
                return f"caught {error}"
            raise AssertionError

        task = run(wait())
        await turns()
        future.set_exception(LookupError("gone"))
        assert await task == "caught gone"

    @of_both
    @in_loop
    async def test_it_has_a_copy_of_the_context(self, run: Run) -> None:
        async def change() -> list[str]:
            before = variable.get()
            variable.set("inner")
            await asyncio.sleep(0)
            between = variable.get()
            await asyncio.sleep(0.001)
            return [before, between, variable.get()]

        variable.set("outer")
        task = run(change())
        variable.set("later")
        assert await task == ["outer", "inner", "inner"]
        assert variable.get() == "later"

    @of_both
    @in_loop
    async def test_it_is_the_current_task_in_each_step(self, run: Run) -> None:
        async def look() -> list[Any]:
            found = [asyncio.current_task()]
            await asyncio.sleep(0)
            return [*found, asyncio.current_task()]

        task = run(look())
        assert await task == [task, task]

    @of_both
    @in_loop
    async def test_while_it_waits_it_is_among_all_tasks(self, run: Run) -> None:
        task = run(wait_for_ever())
        assert task in asyncio.all_tasks()
        task.cancel()
        await turns()
        assert task not in asyncio.all_tasks()

    @of_both
    @in_loop
    async def test_timeouts_task_groups_and_shields_work_in_it(self, run: Run) -> None:
        async def use() -> list[str]:
            seen = []
            try:
                async with asyncio.timeout(0.001):
                    await wait_for_ever()
            except TimeoutError:
                seen.append("timeout")
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(divide_by_zero())
                    await wait_for_ever()
            except* ZeroDivisionError:
                seen.append("group")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.sleep(0.01)), 0.001)
            await asyncio.sleep(0.02)
            lock = asyncio.Lock()
            async with lock:
                seen.append("lock")
            return seen

        assert await run(use()) == ["timeout", "group", "lock"]

    @of_both
    @in_loop
    async def test_a_timeout_that_is_over_in_the_first_step_is_raised_where_it_waits(self, run: Run) -> None:
        async def use() -> str:
            try:
                async with asyncio.timeout(0):
                    await wait_for_ever()
            except TimeoutError:
                return "timeout"
            raise AssertionError

        assert await run(use()) == "timeout"


class TestCancelling:
    @of_both
    @in_loop
    async def test_a_cancelled_task_raises_where_it_waits(self, run: Run) -> None:
        seen: list[Any] = []

        async def wait() -> None:
            try:
                await wait_for_ever()
            except asyncio.CancelledError as error:
                seen.append(error.args)
                raise

        task = run(wait())
        await turns()
        assert task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough") as raised:
            await task
        assert seen == [("enough",)]
        assert task.cancelled()
        assert not task.cancel()
        with pytest.raises(asyncio.CancelledError):
            task.result()
        del raised

    @of_both
    @in_loop
    async def test_a_task_that_is_cancelled_between_two_steps_raises_in_the_next(self, run: Run) -> None:
        async def wait() -> str:
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                return f"cancelled{error.args}"
            raise AssertionError

        task = run(wait())
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "cancelled()"

    @of_both
    @in_loop
    async def test_a_task_that_is_cancelled_after_what_it_waits_for_raises_once(self, run: Run) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> str:
            try:
                await gate
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                return "once"
            raise AssertionError

        task = run(wait())
        await turns()
        gate.cancel()
        task.cancel()
        assert await task == "once"

    @of_both
    @in_loop
    async def test_a_task_that_cancels_itself_raises_where_it_waits_next(self, run: Run) -> None:
        async def cancel() -> str:
            (await here()).cancel()
            try:
                await wait_for_ever()
            except asyncio.CancelledError:
                return "cancelled"
            raise AssertionError

        assert await run(cancel()) == "cancelled"

    @of_both
    @in_loop
    async def test_a_task_that_cancels_itself_raises_at_a_future_that_is_done_but_not_seen(self, run: Run) -> None:
        """That future can't be cancelled, so the task raises in its next step."""

        class Stubborn(asyncio.Future[None]):
            def cancel(self, msg: Any | None = None) -> bool:
                self.set_result(None)
                return False

        async def cancel() -> str:
            (await here()).cancel()
            try:
                await Stubborn()
            except asyncio.CancelledError:
                return "cancelled"
            raise AssertionError

        assert await run(cancel()) == "cancelled"

    @of_both
    @in_loop
    async def test_a_task_cancelled_by_itself_just_before_it_returns_later_is_cancelled(self, run: Run) -> None:
        async def cancel() -> str:
            await asyncio.sleep(0)
            (await here()).cancel("enough")
            return "never seen"

        task = run(cancel())
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert task.cancelled()

    @of_both
    @in_loop
    async def test_a_failed_task_that_is_cancelled_is_not_told_of_at_its_end(self, run: Run) -> None:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise LookupError

        task = run(fail())
        await turns()
        assert not task.cancel()

    @of_both
    @in_loop
    async def test_cancellings_are_counted_and_taken_back(self, run: Run) -> None:
        async def count() -> list[int]:
            task = await here()
            counts = [task.cancelling()]
            task.cancel()
            task.cancel()
            counts.append(task.cancelling())
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            counts += [task.uncancel(), task.uncancel(), task.uncancel(), task.cancelling()]
            await asyncio.sleep(0)
            return counts

        assert await run(count()) == [0, 2, 1, 0, 0, 0]

    @in_loop
    async def test_a_cancelling_that_is_taken_back_at_once_is_not_raised(self) -> None:
        """As in Python 3.13: before, it was raised."""

        async def reconsider() -> str:
            task = await here()
            task.cancel()
            task.uncancel()
            await asyncio.sleep(0)
            return "went on"

        assert await ours(reconsider()) == "went on"

    @of_both
    @in_loop
    async def test_a_coroutine_that_raises_a_cancelled_error_makes_the_task_cancelled(self, run: Run) -> None:
        async def give_up() -> None:
            await asyncio.sleep(0)
            raise asyncio.CancelledError("by myself")

        task = run(give_up())
        with pytest.raises(asyncio.CancelledError, match="by myself"):
            await task
        assert task.cancelled()

    @in_loop
    async def test_the_traceback_of_a_cancelling_shows_where_the_coroutine_waited(self) -> None:
        task = ours(wait_for_ever())
        task.cancel()
        await turns()
        with pytest.raises(asyncio.CancelledError) as raised:
            task.result()
        assert "wait_for_ever" in [entry.name for entry in raised.traceback]


class TestWhatCanNotBeAwaited:
    @of_both
    @in_loop
    async def test_a_task_can_not_await_itself(self, run: Run) -> None:
        async def turn_round() -> None:
            await asyncio.sleep(0)
            await (await here())

        with pytest.raises(RuntimeError, match="await"):
            await run(turn_round())

    @of_both
    @pytest.mark.parametrize("what", [1, "text", (one for one in "abc"), object()], ids=type)
    @in_loop
    async def test_what_is_no_future_raises_where_it_is_yielded(self, run: Run, what: Any) -> None:
        @coroutine
        def give() -> Iterator[Any]:
            yield what

        async def wait() -> None:
            await give()

        with pytest.raises(RuntimeError):
            await run(wait())

    @of_both
    @in_loop
    async def test_a_future_that_is_yielded_without_await_raises(self, run: Run) -> None:
        future = asyncio.get_running_loop().create_future()

        @coroutine
        def give() -> Iterator[Any]:
            yield future

        async def wait() -> None:
            await give()

        with pytest.raises(RuntimeError):
            await run(wait())

    @of_both
    @in_loop
    async def test_a_future_of_another_loop_raises(self, run: Run) -> None:
        other = asyncio.new_event_loop()
        try:
            future = other.create_future()

            async def wait() -> None:
                await future

            with pytest.raises(RuntimeError):
                await run(wait())
        finally:
            other.close()


class TestWhatItShows:
    @of_both
    @in_loop
    async def test_it_is_a_task_to_isinstance(self, run: Run) -> None:
        task = run(wait_for_ever())
        assert isinstance(task, asyncio.Task)
        assert asyncio.isfuture(task)
        task.cancel()
        await turns()

    @of_both
    @in_loop
    async def test_its_name_can_be_set(self, run: Run) -> None:
        task, other = run(wait_for_ever()), run(wait_for_ever())
        assert task.get_name() == task.get_name() != other.get_name()
        task.set_name("mine")
        assert task.get_name() == "mine"
        task.cancel()
        other.cancel()
        await turns()

    @of_both
    @in_loop
    async def test_its_repr_names_the_coroutine_and_what_it_waits_for(self, run: Run) -> None:
        task = run(wait_for_ever())
        await turns()
        assert "wait_for_ever() running at" in repr(task)
        assert "wait_for=<Future pending" in repr(task)
        task.cancel()
        assert "cancelling" in repr(task)
        await turns()
        assert "cancelled" in repr(task)

    @of_both
    @in_loop
    async def test_its_stack_shows_where_the_coroutine_waits(self, run: Run) -> None:
        task = run(wait_for_ever())
        await turns()
        (frame,) = task.get_stack()
        assert frame.f_code is wait_for_ever.__code__
        printed = io.StringIO()
        task.print_stack(limit=1, file=printed)
        assert "wait_for_ever" in printed.getvalue()
        task.cancel()
        await turns()
        assert task.get_stack() == []

    @of_both
    @in_loop
    async def test_its_coroutine_can_be_asked_for(self, run: Run) -> None:
        waiting = wait_for_ever()
        task = run(waiting)
        assert task.get_coro() is waiting
        task.cancel()
        await turns()

    @in_loop
    async def test_its_context_can_be_asked_for(self) -> None:
        """Tasks of Python 3.11 can't be."""
        variable.set("outer")
        task = ours(wait_for_ever())
        assert task.get_context()[variable] == "outer"
        task.cancel()
        await turns()

    @of_both
    @in_loop
    async def test_nobody_else_sets_its_outcome(self, run: Run) -> None:
        task = run(wait_for_ever())
        with pytest.raises(RuntimeError, match="set_result"):
            task.set_result("mine")
        with pytest.raises(RuntimeError, match="set_exception"):
            task.set_exception(LookupError())
        task.cancel()
        await turns()


class TestTheEnd:
    @in_loop
    async def test_it_is_told_as_soon_as_the_coroutine_ends(self) -> None:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        log = []

        async def wait() -> str:
            return await gate

        task = ours(wait())
        task.ended = lambda ended: log.append(ended.result())
        asyncio.get_running_loop().call_soon(lambda: log.append("turn"))
        gate.set_result("there")
        await asyncio.sleep(0)
        assert log == ["turn", "there"]

    @pytest.mark.parametrize("fails", [False, True])
    @in_loop
    async def test_it_is_told_outside_of_the_task_its_context_and_its_exception(self, fails: bool) -> None:
        seen: list[Any] = []

        async def wait() -> None:
            variable.set("the task's")
            await asyncio.sleep(0)
            if fails:
                raise LookupError

        def look(ended: asyncio.Future[Any]) -> None:
            seen.extend([asyncio.current_task(), variable.get(), sys.exception(), ended.exception()])

        task = ours(wait())
        task.ended = look
        await turns()
        assert seen[:3] == [None, "unset", None]
        assert isinstance(seen[3], LookupError) == fails


class TestDeferreds:
    @in_loop
    async def test_a_deferred_can_be_awaited_in_the_first_step_and_later(self) -> None:
        gates: list[Deferred[str]] = [Deferred(), Deferred()]

        async def wait() -> list[str]:
            return [await gate for gate in gates]

        task = ours(wait())
        gates[0].callback("a")
        await turns()
        gates[1].callback("b")
        assert await task == ["a", "b"]

    @in_loop
    async def test_a_task_that_cancels_itself_cancels_the_deferred_it_awaits_next(self) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred(cancelled.append)

        async def wait() -> str:
            (await here()).cancel()
            try:
                await gate
            except asyncio.CancelledError:
                return "cancelled"
            raise AssertionError

        assert await ours(wait()) == "cancelled"
        assert cancelled == [gate]

    @in_loop
    async def test_a_deferred_that_can_not_be_cancelled_does_not_keep_the_task(self) -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        error = LookupError()

        def fail(deferred: Deferred[Any]) -> None:
            raise error

        async def wait() -> str:
            try:
                await Deferred(fail)
            except asyncio.CancelledError:
                return "cancelled"
            raise AssertionError

        task = ours(wait())
        task.cancel()
        assert await task == "cancelled"
        assert [context["exception"] for context in reported] == [error]
