"""Runs coroutines as tasks that take their first step at once, and may await Deferreds. Knows no handlers.

asyncio's own tasks can't await Deferreds, and on Python 3.11 they can't take a step at once. So this is another task,
made of what asyncio has for third parties: the protocol of futures, and the calls that make a task known to
`asyncio.current_task` and `asyncio.all_tasks` (CPython's documentation, "Extending").
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, base_tasks, tasks
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from itertools import count
from types import FrameType
from typing import Any, NoReturn, TextIO

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from wshost.handlers.steps import step

# The calls for tasks of third parties; and how asyncio shows a task.
_tasks: Any = tasks
_enter_task, _leave_task, _register_task = _tasks._enter_task, _tasks._leave_task, _tasks._register_task
_base_tasks: Any = base_tasks
_current_task = asyncio.current_task

_CancelledError = asyncio.CancelledError
_numbers = count(1)

# The states of asyncio's futures, by asyncio's names: it shows them.
_PENDING, _CANCELLED, _FINISHED = "PENDING", "CANCELLED", "FINISHED"


class Task:
    """Runs a coroutine, with a copy of the context, as `asyncio.Task` does. To `isinstance`, it is one.

    :param coroutine: what to run. Its SystemExit or KeyboardInterrupt is an exception like others: it does not stop the
        event loop.
    :param loop: the running one.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop) -> None:
        self._coro = coroutine
        self._loop = loop
        self._context: Context = copy_context()
        #: Called with the task when the coroutine has ended. What awaits the task runs later.
        self.ended: Callable[[Task], object] | None = None
        # What the coroutine awaits, if that is a Deferred.
        self._deferred: Deferred[Any] | None = None
        self._cancelled_by: asyncio.CancelledError | None = None
        self._cancel_message: Any = None
        self._cancels = 0
        self._name: str | None = None
        # asyncio's futures and tasks have these attributes; asyncio and anyio read them.
        self._asyncio_future_blocking = False
        self._callbacks: list[tuple[Callable[[Any], object], Context]] | None = None
        self._exception: BaseException | None = None
        self._fut_waiter: asyncio.Future[Any] | None = None
        self._must_cancel = False
        self._result: Any = None
        self._source_traceback = None
        self._state = _PENDING

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Task

    def _step(self, error: BaseException | None = None) -> None:
        """Let the coroutine run until it waits or ends.

        :param error: what it is to raise where it waits.
        """
        if self._must_cancel:
            if not isinstance(error, _CancelledError):
                error = self._make_cancelled_error()
            self._must_cancel = False
        self._fut_waiter = None
        returned, value = False, None
        raised: BaseException | None = None
        loop = self._loop
        _enter_task(loop, self)
        try:
            if error is None:
                self._deferred = None
                returned, value = step(self._context, self._coro)
            else:
                self._context.run(self._cancel_deferred)
                value = self._context.run(self._coro.throw, error)
        except StopIteration as stop:
            returned, value = True, stop.value
        except BaseException as fault:  # users' code may raise anything
            raised = fault
        finally:
            _leave_task(loop, self)
        # Others' code is called from here, so the task, its context and its exception are left before.
        try:
            if raised is not None:
                self._fail(raised)
            elif returned:
                self._return(value)
            else:
                self._wait_for(value)
        finally:
            # The errors' tracebacks refer to this frame: break the cycles.
            del error, raised, self

    def _return(self, value: Any) -> None:
        """Be done, as the coroutine has returned."""
        if self._must_cancel:
            self._fail(self._make_cancelled_error())
        else:
            self._result = value
            self._end(_FINISHED)

    def _fail(self, error: BaseException) -> None:
        """Be done, as the coroutine has failed, or was cancelled."""
        self._must_cancel = False
        if isinstance(error, _CancelledError):
            self._cancelled_by = error
            self._cancel_message = error.args[0] if error.args else None
            self._end(_CANCELLED)
        else:
            self._exception = error
            self._end(_FINISHED)

    def _end(self, state: str) -> None:
        self._state = state
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            for callback, context in callbacks:
                self._loop.call_soon(callback, self, context=context)
        if self.ended is not None:
            self.ended(self)

    def _make_cancelled_error(self) -> asyncio.CancelledError:
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
                # Not the task: asyncio would enter its context, which is entered already.
                self._loop.call_exception_handler({"message": f"{deferred!r} can't be cancelled", "exception": error})

    # As in `asyncio.Future` and `asyncio.Task`

    def __await__(self) -> Generator[Any, None, Any]:
        if self._state is _PENDING:
            self._asyncio_future_blocking = True
            yield self
        if self._state is _PENDING:
            raise RuntimeError("await wasn't used with future")
        return self.result()

    def __iter__(self) -> Generator[Any, None, Any]:
        return self.__await__()

    def get_loop(self) -> AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self._state is not _PENDING

    def cancelled(self) -> bool:
        return self._state is _CANCELLED

    def result(self) -> Any:
        error = self.exception()
        if error is None:
            return self._result
        try:
            raise error
        finally:
            # The error's traceback refers to this frame: break the cycle.
            del error, self

    def exception(self) -> BaseException | None:
        if self._state is _PENDING:
            raise asyncio.InvalidStateError("Result is not set.")
        if self._state is _FINISHED:
            return self._exception
        # The first to ask sees where the coroutine has been cancelled.
        error, self._cancelled_by = self._cancelled_by, None
        try:
            raise error or self._make_cancelled_error()
        finally:
            del error, self

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        if context is None:
            context = copy_context()
        if self._state is not _PENDING:
            self._loop.call_soon(callback, self, context=context)
        elif self._callbacks is None:
            self._callbacks = [(callback, context)]
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        before = self._callbacks or []
        self._callbacks = [added for added in before if added[0] != callback]
        return len(before) - len(self._callbacks)

    def cancel(self, msg: Any | None = None) -> bool:
        if self._state is not _PENDING:
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
    task = Task(coroutine, loop)
    outer = _current_task(loop)
    if outer is not None:
        _leave_task(loop, outer)
    _enter_task(loop, task)
    try:
        returned, value = step(task._context, coroutine)
    except BaseException as error:  # users' code may raise anything
        task._fail(error)
        raise
    finally:
        _leave_task(loop, task)
        if outer is not None:
            _enter_task(loop, outer)
        if task._state is not _PENDING:
            # The error's traceback refers to this frame: break the cycle.
            del task
    if not returned:
        _register_task(task)
        task._wait_for(value)
        return task
    task._return(value)
    return value if task._state is _FINISHED else task.result()


def _wake(result: Any, future: asyncio.Future[None]) -> Any:
    """Let the task go on, and leave the result in the Deferred."""
    if not future.done():
        future.set_result(None)
    return result


def _ignore(failure: Failure) -> None:
    """Consume a failure."""
