"""Times the calls of a handler, for the metrics. Knows no session, and not how metrics are shown."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred

#: The upper bounds of the classes of a histogram, in seconds. The last class has all that took longer.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """How long the calls of one handler took: a histogram."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        #: How many calls fell into each class of `BOUNDS`.
        self.counts = [0] * (len(BOUNDS) + 1)
        #: How long all of them took.
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one call."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


#: The durations of each handler, by its name. Handlers of the same name are counted together.
Timings = dict[str, Durations]


class Timed:
    """A handler's `handle`, timed until its answer is there, also if that has to be awaited.

    :param handle: the handler's own.
    :param durations: counts the calls.
    :param seconds: returns the time.
    """

    __slots__ = ("_durations", "_handle", "_seconds")

    def __init__(
        self,
        handle: Callable[[Any, Any], Any],
        durations: Durations,
        seconds: Callable[[], float] = perf_counter,
    ) -> None:
        self._handle = handle
        self._durations = durations
        self._seconds = seconds

    def __call__(self, message: Any, state: Any) -> Any:
        """Call `handle`."""
        began = self._seconds()
        try:
            answer = self._handle(message, state)
        except BaseException:
            self._done(began)
            raise
        # Most answers are tuples, and to ask whether something is awaitable takes long.
        if type(answer) is tuple or not isawaitable(answer):
            self._done(began)
        elif isinstance(answer, Deferred):
            answer.addBoth(partial(self._done, began))
        elif asyncio.isfuture(answer):
            answer.add_done_callback(partial(self._done, began))
        else:
            return self._awaited(began, answer)
        return answer

    async def _awaited(self, began: float, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        finally:
            self._done(began)

    def _done(self, began: float, result: Any = None) -> Any:
        self._durations.add(self._seconds() - began)
        return result
