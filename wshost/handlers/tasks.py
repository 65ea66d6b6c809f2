"""Runs coroutines as tasks that take their first step at once, and may await Deferreds. Knows no handlers.

asyncio's own tasks can't await Deferreds, and on Python 3.11 they can't take a step at once. So this is another task,
made of what asyncio has for third parties: its futures, and the calls that make a task known to `asyncio.current_task`
and `asyncio.all_tasks` (CPython's documentation, "Extending").
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, base_tasks, tasks
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from itertools import count
from types import FrameType
from typing import Any, NoReturn, TextIO

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

# The calls for tasks of third parties; and how asyncio shows a task.
_tasks: Any = tasks
_enter_task, _leave_task, _register_task = _tasks._enter_task, _tasks._leave_task, _tasks._register_task
_base_tasks: Any = base_tasks
_current_task = asyncio.current_task

_CancelledError = asyncio.CancelledError
_cancel, _set_exception, _set_result = asyncio.Future.cancel, asyncio.Future.set_exception, asyncio.Future.set_result
_numbers = count(1)


class Task(asyncio.Future[Any]):
    """Runs a coroutine, with a copy of the context, as `asyncio.Task` does. To `isinstance`, it is one.

    :param coroutine: what to run. Its SystemExit or KeyboardInterrupt is an exception like others: it does not stop the
        event loop.
    :param loop: the running one.
    """

    __class__ = property(lambda _: asyncio.Task)

    # asyncio's tasks have these attributes, and its `base_tasks` and anyio read them.
    _fut_waiter: asyncio.Future[Any] | None = None
    _must_cancel = False

    #: Called with the task when the coroutine has ended. What awaits the task runs later.
    ended: Callable[[Task], object] | None = None

    _cancelled_by: asyncio.CancelledError | None = None
    _cancels = 0
    # What the coroutine awaits, if that is a Deferred.
    _deferred: Deferred[Any] | None = None
    _name: str | None = None

    _context: Context
    _coro: Coroutine[Any, Any, Any]

    def _step(self, error: BaseException | None = None) -> None:
        """Let the coroutine run until it waits or ends.

        :param error: what it is to raise where it waits.
        """
        if self._must_cancel:
            if not isinstance(error, _CancelledError):
                error = self._cancelled_error()
            self._must_cancel = False
        self._fut_waiter = None
        awaited: Any = None
        end: BaseException | None = None
        loop = self._loop
        _enter_task(loop, self)
        try:
            if error is None:
                self._deferred = None
                awaited = self._context.run(self._coro.send, None)
            else:
                self._context.run(self._cancel_deferred)
                awaited = self._context.run(self._coro.throw, error)
        except BaseException as raised:  # users' code may raise anything
            end = raised
        finally:
            _leave_task(loop, self)
        # Others' code is called from here, so the task, its context and its exception are left before.
        try:
            if end is None:
                self._wait_for(awaited)
            else:
                self._end(end)
        finally:
            # The errors' tracebacks refer to this frame: break the cycles.
            del end, error, self

    def _end(self, error: BaseException) -> None:
        """Be done, as the coroutine has returned, which a StopIteration tells, or has failed."""
        if isinstance(error, StopIteration) and not self._must_cancel:
            _set_result(self, error.value)
        elif isinstance(error, (StopIteration, _CancelledError)):
            self._must_cancel = False
            self._cancelled_by = error if isinstance(error, _CancelledError) else self._cancelled_error()
            _cancel(self, *self._cancelled_by.args[:1])
        else:
            _set_exception(self, error)
        if self.ended is not None:
            self.ended(self)

    def _cancelled_error(self) -> asyncio.CancelledError:
        message = self._cancel_message
        return _CancelledError() if message is None else _CancelledError(message)

    def _wait_for(self, awaited: Any) -> None:
        """See to it that the next step is taken when what the coroutine awaits is there."""
        if awaited is None:
            self._loop.call_soon(self._step)
            return
        blocking = getattr(awaited, "_asyncio_future_blocking", None)
        if blocking is None and isinstance(awaited, Deferred):
            awaited = self._future_of(awaited)
            blocking = True
        if blocking and awaited.get_loop() is self._loop and awaited is not self:
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self._go_on)
            self._fut_waiter = awaited
            if self._must_cancel and awaited.cancel(msg=self._cancel_message):
                self._must_cancel = False
        else:
            error = RuntimeError(f"{self!r} can't await {awaited!r}")
            self._loop.call_soon(self._step, error)

    def _go_on(self, future: asyncio.Future[Any]) -> None:
        error: BaseException | None = None
        try:
            future.result()
        except BaseException as raised:  # users' code may raise anything
            error = raised
        try:
            self._step(error)
        finally:
            # The error's traceback refers to this frame: break the cycle.
            del error, future, self

    def _future_of(self, deferred: Deferred[Any]) -> asyncio.Future[None]:
        """Return a future that is done when a Deferred has fired. `Deferred.__await__` reads the result by itself."""
        future: asyncio.Future[None] = self._loop.create_future()
        deferred.addBoth(_wake, future)
        self._deferred = deferred
        return future

    def _cancel_deferred(self) -> None:
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            # Nobody will look at its failure.
            deferred.addErrback(_ignore)
            try:
                deferred.cancel()
            except BaseException as error:  # users' code may raise anything
                self._loop.call_exception_handler(
                    {"message": "a Deferred can't be cancelled", "exception": error, "future": self}
                )

    # As in `asyncio.Task`

    def result(self) -> Any:
        error, self._cancelled_by = self._cancelled_by, None
        if error is not None:
            try:
                raise error
            finally:
                # The error's traceback refers to this frame: break the cycle.
                del error, self
        return super().result()

    def cancel(self, msg: Any | None = None) -> bool:
        self._log_traceback = False
        if self.done():
            return False
        self._cancels += 1
        if self._fut_waiter is None or not self._fut_waiter.cancel(msg=msg):
            self._must_cancel = True
            self._cancel_message = msg
        return True

    def cancelling(self) -> int:
        return self._cancels

    def uncancel(self) -> int:
        self._cancels = max(self._cancels - 1, 0)
        if not self._cancels:
            self._must_cancel = False
        return self._cancels

    def get_coro(self) -> Coroutine[Any, Any, Any]:
        return self._coro

    def get_context(self) -> Context:
        return self._context

    def get_name(self) -> str:
        if self._name is None:
            self._name = f"wshost-{next(_numbers)}"
        return self._name

    def set_name(self, value: object) -> None:
        self._name = str(value)

    def get_stack(self, *, limit: int | None = None) -> list[FrameType]:
        stack: list[FrameType] = _base_tasks._task_get_stack(self, limit)
        return stack

    def print_stack(self, *, limit: int | None = None, file: TextIO | None = None) -> None:
        _base_tasks._task_print_stack(self, limit, file)

    def set_result(self, _: object) -> NoReturn:
        raise RuntimeError("Task does not support set_result operation")

    def set_exception(self, _: object) -> NoReturn:
        raise RuntimeError("Task does not support set_exception operation")

    def __repr__(self) -> str:
        return str(_base_tasks._task_repr(self))


def start(coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop) -> Any:
    """Run a coroutine until it waits or ends.

    :param loop: the running one.
    :returns: the coroutine's result, if it has ended; or else the task, which is pending.
    :raises BaseException: what the coroutine has raised.
    """
    task = Task(loop=loop)
    task._coro = coroutine
    task._context = context = copy_context()
    outer = _current_task(loop)
    if outer is not None:
        _leave_task(loop, outer)
    _enter_task(loop, task)
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration as stop:
        task._end(stop)
        if task._cancelled_by is None:
            return stop.value
        raise task._cancelled_by from None
    except BaseException as error:  # users' code may raise anything
        task._end(error)
        # It is raised here, so asyncio has nothing to complain of.
        task._log_traceback = False
        raise
    finally:
        _leave_task(loop, task)
        if outer is not None:
            _enter_task(loop, outer)
        if task.done():
            # An error's traceback refers to this frame: break the cycle.
            del task
    _register_task(task)
    task._wait_for(awaited)
    return task


def _wake(result: Any, future: asyncio.Future[None]) -> Any:
    """Let the task go on, and leave the result in the Deferred."""
    if not future.done():
        future.set_result(None)
    return result


def _ignore(failure: Failure) -> None:
    """Consume a failure."""
