"""Runs coroutines as tasks of asyncio. They take their first step at once, and may await Deferreds. Knows no handler.

Python 3.12 has tasks that take their first step at once. Python 3.11 gets them here.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class ProcessExit(Exception):
    """Carries a SystemExit or KeyboardInterrupt out of a task: raised bare, it would stop the event loop at once."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Steps:
    """Wraps a coroutine for a task: where the coroutine awaits a Deferred, the task sees a future.

    It has those methods of a coroutine that a task calls.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        #: Called when the coroutine has ended; its task is done when that call and all that have led to it have returned.
        self.ended: Callable[[], object] | None = None
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
            # The task was cancelled, as the futures made here never fail. Nobody will look at the Deferred's failure.
            deferred.addErrback(_ignore)
            deferred.cancel()
        return self._step(self._coroutine.throw, error)

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            yielded = step(value)
        except BaseException as error:
            if self.ended is not None:
                self.ended()
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise ProcessExit(error) from None
            raise
        return self.awaited(yielded)

    def awaited(self, yielded: Any) -> Any:
        """Return what a task may get of what the coroutine has yielded: of a Deferred, a future."""
        if not isinstance(yielded, Deferred):
            return yielded
        self._deferred = yielded
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A task accepts only a future that `__await__` has yielded: that marks it as awaited.
        marked = next(future.__await__())
        yielded.addBoth(_wake, future)
        return marked


# Not by a decorator: Cython's classes take none.
Coroutine.register(Steps)


def when_done(future: asyncio.Future[Any], call: Callable[..., object]) -> None:
    """Call when a future is done, or is about to be when what is running now has returned."""
    steps = future.get_coro() if isinstance(future, asyncio.Task) else None
    if isinstance(steps, Steps):
        # This saves a turn of the loop, and what a callback costs.
        steps.ended = call
    else:
        future.add_done_callback(call)


def _wake(result: Any, future: asyncio.Future[None]) -> Any:
    """Let the task go on. The result stays in the Deferred: `Deferred.__await__` reads it there when it is resumed."""
    if not future.done():
        future.set_result(None)
    return result


def _ignore(failure: Failure) -> None:
    """Consume a failure."""


if sys.version_info >= (3, 12):

    def start(coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop) -> Any:
        """Let a coroutine take its first step, as a task with a copy of the context.

        :param loop: the running one.
        :returns: the coroutine's result, if it has one already; or else the task, which is pending.
        :raises BaseException: what the coroutine has raised.
        """
        task = asyncio.Task(cast("Coroutine[Any, Any, Any]", Steps(coroutine)), loop=loop, eager_start=True)
        try:
            return task.result() if task.done() else task
        except ProcessExit as carrier:
            raise carrier.error from None
        finally:
            # The error's traceback refers to this frame: break the cycle.
            del task

else:
    # Python 3.11 gets no more changes, so its private parts stay what they are.
    from asyncio.tasks import _enter_task, _leave_task, _PyTask, _register_task
    from itertools import count

    _numbers = count(1)

    class _EagerTask(_PyTask):
        """A task in Python, as asyncio has it beside the one in C; to `isinstance`, it is that one."""

        __class__ = property(lambda self: asyncio.Task)

        # What a task sets when it is made, and seldom changes.
        _num_cancels_requested = 0
        _must_cancel = False
        _fut_waiter = None
        _name: str | None = None

        def __init__(self, coroutine: Any, loop: AbstractEventLoop, context: Any) -> None:
            # Not by `_PyTask.__init__`, which leaves the first step to the loop.
            self._coro = coroutine
            self._loop = loop
            self._context = context
            self._callbacks: list[Any] = []

        def __del__(self) -> None:
            # Nearly all have nothing to complain of.
            if self._state == "PENDING" or self._exception is not None:
                _PyTask.__del__(self)

        def get_name(self) -> str:
            if self._name is None:
                self._name = f"Eager-{next(_numbers)}"
            return self._name

    class _StepTaken:
        """What `_PyTask` gets in the coroutine's place for one step: the outcome of the step that was taken already.

        :param steps: the coroutine, for the steps to come.
        :param yielded: what it has yielded.
        :param error: what it has raised, if not None.
        """

        def __init__(self, task: _EagerTask, steps: Steps, yielded: Any, error: BaseException | None) -> None:
            self._task = task
            self._steps = steps
            self._yielded = yielded
            self._error = error

        def send(self, _: None) -> Any:
            self._task._coro = self._steps
            error, self._error = self._error, None
            if error is not None:
                raise error
            return self._steps.awaited(self._yielded)

        def throw(self, _: BaseException) -> Any:
            # The task was cancelled during that step: then it is what the coroutine waits for that is cancelled.
            self._task._must_cancel = True
            return self.send(None)

    def start(coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop) -> Any:
        """Let a coroutine take its first step, as a task with a copy of the context.

        :param loop: the running one.
        :returns: the coroutine's result, if it has one already; or else the task, which is pending.
        :raises BaseException: what the coroutine has raised.
        """
        context = copy_context()
        task = _EagerTask(coroutine, loop, context)
        outer = yielded = error = None
        try:
            _enter_task(loop, task)
        except RuntimeError:
            outer = asyncio.current_task(loop)
            _leave_task(loop, outer)
            _enter_task(loop, task)
        try:
            yielded = context.run(coroutine.send, None)
        except StopIteration as stop:
            if not task._must_cancel and not task._callbacks:
                # What nearly all do. `_PyTask` does the same, and takes longer.
                task._result = stop.value
                task._state = "FINISHED"
                return stop.value
            error = stop
        except (SystemExit, KeyboardInterrupt) as exit:
            error = ProcessExit(exit)
        except BaseException as failed:
            error = failed
        finally:
            _leave_task(loop, task)
            if outer is not None:
                _enter_task(loop, outer)
        try:
            return _go_on(task, Steps(coroutine), yielded, error)
        finally:
            # The errors' tracebacks refer to this frame: break the cycle.
            del task, error

    def _go_on(task: _EagerTask, steps: Steps, yielded: Any, error: BaseException | None) -> Any:
        """Let a task have the outcome of its first step; return what `start` does."""
        task._coro = _StepTaken(task, steps, yielded, error)
        outer = asyncio.current_task(task._loop)
        if outer is not None:
            _leave_task(task._loop, outer)
        try:
            task._context.run(task._Task__step)
            if not task.done():
                _register_task(task)
                return task
            return task.result()
        except ProcessExit as carrier:
            raise carrier.error from None
        finally:
            if outer is not None:
                _enter_task(task._loop, outer)
            del task, error
