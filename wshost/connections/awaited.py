"""A Deferred that asyncio's own tasks may await, too. Knows nothing of what is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context as ContextVars
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Awaited(Deferred[T]):
    """A Deferred that asyncio's own tasks may await, too.

    To a task that awaits it, it speaks the protocol of futures (CPython's documentation, "Extending"). Its class is not
    that of a future: so `asyncio.wait_for` and the like make a task that awaits it.
    """

    def __await__(self) -> Generator[Any, Any, T]:
        while not self.called:
            # Only asyncio looks at this.
            self._asyncio_future_blocking = True
            yield self
        return (yield from super().__await__())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the task that awaits this."""
        return asyncio.get_running_loop()

    def add_done_callback(self, call: Callable[[Any], object], *, context: ContextVars | None = None) -> None:
        """Call the task that awaits this when this has fired."""
        future = self.get_loop().create_future()
        future.add_done_callback(call, context=context)

        def wake(result: Any) -> Any:
            future.set_result(None)
            # The task that has cancelled this raises its own error.
            return None if isinstance(result, Failure) else result

        self.addBoth(wake)

    def cancel(self, msg: object = None) -> None:
        """Stop waiting.

        :param msg: what asyncio's tasks give a future that they cancel.
        """
        super().cancel()
