"""Timers by the ten thousand: one of the reactor's for all of a host, and each ends with its module.

Knows no connection.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

from twisted.internet.interfaces import IDelayedCall

#: So many cancelled timers may wait for their time, or as many as there are others.
_LEFTOVERS = 64


class Schedule:
    """The timers of one host. A `DelayedCall` for each would cost a kilobyte, and the loop's attention.

    The reactor's timer is not cancelled with the last of them: on a busy host the next comes at once.

    :param clock: the reactor.
    :param failed: called while what a timer has raised is being handled.
    """

    def __init__(self, clock: Any, failed: Callable[[], object]) -> None:
        self._clock = clock
        self._failed = failed
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        # How many of them are not cancelled.
        self._waiting = 0
        # When the reactor calls, and what it has for that.
        self._due = 0.0
        self._wake: IDelayedCall | None = None
        self._firing = False

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, in a turn to come."""
        return Timer(self, seconds, call)

    def rest(self) -> None:
        """Let go of the reactor, if no timer is there."""
        if not self._waiting:
            self._sleep()

    def add(self, seconds: float, timer: Timer) -> None:
        """Let a timer fire, in a turn to come."""
        due = self._clock.seconds() + seconds
        heappush(self._heap, (due, next(self._order), timer))
        self._waiting += 1
        if not self._firing and (self._wake is None or due < self._due):
            self._wake_at(due)

    def discard(self) -> None:
        """One of the timers is cancelled."""
        self._waiting -= 1
        if not self._waiting:
            self._heap.clear()
        elif len(self._heap) - self._waiting > max(_LEFTOVERS, self._waiting):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapify(self._heap)

    def _wake_at(self, due: float) -> None:
        self._sleep()
        self._due = due
        self._wake = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._fire)

    def _sleep(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _fire(self) -> None:
        self._wake = None
        self._firing = True
        try:
            now = self._clock.seconds()
            due = []
            # What is added from here on is a later turn's.
            while self._heap and self._heap[0][0] <= now:
                due.append(heappop(self._heap)[2])
            for timer in due:
                self._waiting -= timer.active
                try:
                    timer.fire()
                except BaseException:  # the others are due, too
                    self._failed()
        finally:
            self._firing = False
            if self._heap:
                self._wake_at(self._heap[0][0])


class Timer:
    """One call to be made.

    :param schedule: its host's.
    :param seconds: from now.
    :param call: what to call, once.
    """

    __slots__ = ("__weakref__", "_call", "_schedule")

    def __init__(self, schedule: Schedule, seconds: float, call: Callable[[], None]) -> None:
        self._schedule = schedule
        # None when it was made or cancelled: the schedule may know us for long, and must not keep the connection.
        self._call: Callable[[], None] | None = call
        schedule.add(seconds, self)

    @property
    def active(self) -> bool:
        """Whether it is still to be made."""
        return self._call is not None

    def cancel(self) -> None:
        """Forget the call. Harmless after it was made, and twice."""
        if self._call is not None:
            self._call = None
            self._schedule.discard()

    def fire(self) -> None:
        """Make the call, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class ModuleTimer(Timer):
    """One of a set of timers, of which none is left when the module has gone.

    :param timers: where this timer is, until it was made or cancelled.
    :param run: makes the call.
    """

    __slots__ = ("_run", "_timers")

    def __init__(
        self,
        schedule: Schedule,
        seconds: float,
        call: Callable[[], None],
        timers: set[ModuleTimer],
        run: Callable[[Callable[[], None]], None],
    ) -> None:
        self._timers = timers
        self._run: Callable[[Callable[[], None]], None] | None = run
        timers.add(self)
        super().__init__(schedule, seconds, call)

    def cancel(self) -> None:
        self._leave()
        super().cancel()

    def fire(self) -> None:
        run, call = self._run, self._call
        self._leave()
        self._call = None
        if run is not None and call is not None:
            run(call)

    def _leave(self) -> None:
        self._timers.discard(self)
        # It knows the connection.
        self._run = None
