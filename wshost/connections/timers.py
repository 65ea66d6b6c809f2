"""Timers by the ten thousand: one of the reactor's for all of a host, and each ends with its module.

Their time stands still while the process does. Knows no connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

from twisted.internet.interfaces import IDelayedCall

#: While there are timers, the reactor's time is looked at that often, in seconds.
LOOK = 0.25
#: So much of it counts from one look to the next. What is more, the process has stood still for, or was blocked.
MOST = 0.3
#: What is due is late when the reactor comes to it that much later, in seconds.
LATE = 0.002
#: So many cancelled timers may wait for their time, or as many as there are others.
_LEFTOVERS = 64


class Schedule:
    """The timers of one host. A `DelayedCall` for each would cost a kilobyte, and the loop's attention.

    They are there for peers that are silent. What peers have sent while the process stood still has not been read yet,
    so that time is not held against them: at most `MOST` of it counts. And a reactor may run its timers before it
    reads; so what it comes to late has two turns, in one of which the sockets are read, before it is called. However
    busy a reactor is, each look at the time counts, so that a peer that is silent is always dropped in the end.

    The reactor's timer is not cancelled with the last of ours: on a busy host the next comes at once.

    :param clock: the reactor.
    :param failed: called while what a timer has raised is being handled.
    """

    def __init__(self, clock: Any, failed: Callable[[], object]) -> None:
        self._clock = clock
        self._failed = failed
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        # What is to be called in the next turn. Who asks for no more than that waits for no peer.
        self._soon: deque[Timer] = deque()
        # How many of all these are not cancelled.
        self._waiting = 0
        # Our time at the last look, and the reactor's.
        self._time = 0.0
        self._looked_at: float = clock.seconds()
        # When we look again, by our time and the reactor's, and what the reactor has for that.
        self._due = 0.0
        self._expected = 0.0
        self._wake: IDelayedCall | None = None
        self._wake_soon: IDelayedCall | None = None

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, in a turn to come."""
        return Timer(self, seconds, call)

    def seconds(self) -> float:
        """Return the time by which the timers go, in seconds: it stands still while the process does."""
        passed: float = self._clock.seconds() - self._looked_at
        if passed > MOST:
            passed = MOST
        elif passed < 0:
            # It is no clock that only goes forward.
            passed = 0.0
        return self._time + passed

    def release_if_idle(self) -> None:
        """Let go of the reactor, if no timer is there."""
        if not self._waiting:
            self._sleep()
            if self._wake_soon is not None:
                self._wake_soon.cancel()
                self._wake_soon = None

    def add(self, seconds: float, timer: Timer) -> None:
        """Let a timer fire, in a turn to come."""
        self._waiting += 1
        if seconds <= 0:
            self._soon.append(timer)
            self._call_soon()
            return
        if self._wake is None:
            # Nobody has waited: our time goes on from here.
            self._tick()
        due = self.seconds() + seconds
        heappush(self._heap, (due, next(self._order), timer))
        if self._wake is None or due < self._due:
            self._look_at(due)

    def timer_cancelled(self) -> None:
        """One of the timers is cancelled."""
        self._waiting -= 1
        if not self._waiting:
            self._heap.clear()
        elif len(self._heap) - self._waiting > max(_LEFTOVERS, self._waiting):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapify(self._heap)

    def _look_at(self, due: float) -> None:
        """Look at the time when something is due, or earlier."""
        self._sleep()
        now = self.seconds()
        delay = max(0.0, min(due - now, LOOK))
        self._due = now + delay
        self._expected = self._clock.seconds() + delay
        self._wake = self._clock.callLater(delay, self._look)

    def _tick(self) -> None:
        """Let our time go on to the reactor's."""
        self._time = self.seconds()
        self._looked_at = self._clock.seconds()

    def _sleep(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _look(self) -> None:
        self._wake = None
        self._tick()
        # The reactor's time is large, and our own a sum of what little was between: they may differ by some rounding.
        until = self._time + 1e-6
        if not self._heap or self._heap[0][0] > until:
            self._go_on()
        elif self._looked_at - self._expected > LATE:
            # One turn may end before sockets are read, as that of uvloop does, but not two.
            self._due = until
            self._wake = self._clock.callLater(0, self._give_turn, until)
        else:
            self._fire(until)

    def _give_turn(self, until: float) -> None:
        self._wake = self._clock.callLater(0, self._fire, until)

    def _fire(self, until: float) -> None:
        """Call what was due at this time, and has not been cancelled meanwhile."""
        self._wake = None
        while self._heap and self._heap[0][0] <= until:
            self._soon.append(heappop(self._heap)[2])
        # Now: whatever happens below, we look again.
        self._go_on()
        self._make_calls()

    def _call_soon(self) -> None:
        if self._soon and self._wake_soon is None:
            self._wake_soon = self._clock.callLater(0, self._fire_soon)

    def _fire_soon(self) -> None:
        self._wake_soon = None
        self._make_calls()

    def _make_calls(self) -> None:
        try:
            # What is added from here on is a later turn's.
            for _ in range(len(self._soon)):
                self._call(self._soon.popleft())
        finally:
            self._call_soon()

    def _go_on(self) -> None:
        if self._heap:
            self._look_at(self._heap[0][0])

    def _call(self, timer: Timer) -> None:
        self._waiting -= timer.active
        try:
            timer.fire()
        except BaseException:  # the others are due, too
            self._failed()


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
            self._schedule.timer_cancelled()

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
