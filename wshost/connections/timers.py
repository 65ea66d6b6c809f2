"""Many timers on a single timer of the reactor. Their clock stands still while the process does.

Knows no connection. A module's timers are kept in a list; when the module leaves, its connection cancels them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall

#: While there are timers, the reactor's time is read this often, in seconds.
LOOK = 0.25
#: At most this many seconds count between two readings. If more time has passed, the process was blocked or stopped.
MOST = 0.3
#: A timer is late if the reactor runs it more than this many seconds after it was due.
LATE = 0.002
#: Cancelled timers stay in the heap until there are more than this many of them, and more than active ones.
_LEFTOVERS = 64


class Owner(Protocol):
    """A connection, as what has timers of its modules."""

    #: The first timer of the list; None when there is none.
    timers: ModuleTimer | None

    def run_timer(self, call: Callable[[], None]) -> None:
        """Make a timer's call."""


class Schedule:
    """The timers of one hub. A `DelayedCall` of the reactor for each would take a kilobyte, and time in every turn.

    Most timers wait for silent peers. Bytes that peers sent while the process stood still have not been read yet, so at
    most `MOST` seconds of that time count. A reactor may also run timers before it reads sockets. So a late timer waits
    two more turns, in one of which the sockets are read. Every reading of the time counts something, so a silent peer
    is dropped in the end, however busy the reactor is.

    The reactor's timer stays when the last timer here is cancelled: on a busy server, the next one is added at once.

    :param clock: the reactor.
    :param failed: called when a timer has raised, while the exception is being handled.
    """

    def __init__(self, clock: Any, failed: Callable[[], object]) -> None:
        self._clock = clock
        self._context = copy_context()
        self._failed = failed
        self._heap: list[Timer] = []
        # How many timers were added.
        self._count = 0
        # Calls for the next turn. They wait for no peer, so they are never put off.
        self._soon: deque[Timer] = deque()
        # How many timers are active, in the heap and among the calls for the next turn.
        self._waiting = 0
        # The time at the last reading, by this schedule's clock and by the reactor's.
        self._time = 0.0
        self._looked_at: float = clock.seconds()
        # When the time is read again, by this schedule's clock and by the reactor's; and the reactor's timers, for that
        # and for the next turn.
        self._due = 0.0
        self._expected = 0.0
        self._wake: IDelayedCall | None = None
        self._wake_soon: IDelayedCall | None = None

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, in a later turn.

        :param seconds: by this schedule's clock; 0 for the next turn.
        """
        return Timer(self, seconds, call)

    def seconds(self) -> float:
        """Return the time of this schedule's clock, in seconds. It stands still while the process does."""
        passed: float = self._clock.seconds() - self._looked_at
        if passed > MOST:
            passed = MOST
        elif passed < 0:
            # The reactor's clock was set back.
            passed = 0.0
        return self._time + passed

    def release_if_idle(self) -> None:
        """Cancel the reactor's timers if this schedule has no active one."""
        if not self._waiting:
            self._sleep()
            if self._wake_soon is not None:
                self._wake_soon.cancel()
                self._wake_soon = None

    def add(self, seconds: float, timer: Timer) -> None:
        """Let a timer fire after so many seconds, in a later turn."""
        self._waiting += 1
        if seconds <= 0:
            self._soon.append(timer)
            self._call_soon()
            return
        if self._wake is None:
            # There were no timers, so the time was not read. It counts again from here.
            self._tick()
        due = timer.due = self.seconds() + seconds
        timer.number = self._count = self._count + 1
        heappush(self._heap, timer)
        if self._wake is None or due < self._due:
            self._look_at(due)

    def timer_cancelled(self) -> None:
        """Note that one of the timers was cancelled."""
        self._waiting -= 1
        if not self._waiting:
            self._heap.clear()
        elif len(self._heap) - self._waiting > max(_LEFTOVERS, self._waiting):
            self._heap = [timer for timer in self._heap if timer.active]
            heapify(self._heap)

    def _look_at(self, due: float) -> None:
        """Read the time when a timer is due, or after `LOOK` seconds if that is earlier."""
        self._sleep()
        now = self.seconds()
        delay = max(0.0, min(due - now, LOOK))
        self._due = now + delay
        self._expected = self._clock.seconds() + delay
        self._wake = self._call_later(delay, self._look)

    def _tick(self) -> None:
        """Read the reactor's time, and move this schedule's clock on."""
        self._time = self.seconds()
        self._looked_at = self._clock.seconds()

    def _call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> Any:
        # Others must not see the context of the code that is running now. To call `callLater` in another context would
        # not do: Twisted's asyncio reactor makes all calls in the context of whoever asked for the earliest.
        return self._clock.callLater(delay, self._context.copy().run, call, *arguments)

    def _sleep(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _look(self) -> None:
        self._wake = None
        self._tick()
        # The time is a sum of many small differences, so it may be off by a rounding error.
        until = self._time + 1e-6
        if not self._heap or self._heap[0].due > until:
            self._go_on()
        elif self._looked_at - self._expected > LATE:
            # One turn may end before sockets are read, as in uvloop; two can't.
            self._due = until
            self._wake = self._call_later(0, self._give_turn, until)
        else:
            self._fire(until)

    def _give_turn(self, until: float) -> None:
        self._wake = self._call_later(0, self._fire, until)

    def _fire(self, until: float) -> None:
        """Make the calls that were due at this time, and were not cancelled."""
        self._wake = None
        while self._heap and self._heap[0].due <= until:
            self._soon.append(heappop(self._heap))
        # Before the calls: the time must be read again even if one of them raises.
        self._go_on()
        self._make_calls()

    def _call_soon(self) -> None:
        if self._soon and self._wake_soon is None:
            self._wake_soon = self._call_later(0, self._fire_soon)

    def _fire_soon(self) -> None:
        self._wake_soon = None
        self._make_calls()

    def _make_calls(self) -> None:
        try:
            # Calls that are added during these calls belong to a later turn.
            for _ in range(len(self._soon)):
                self._call(self._soon.popleft())
        finally:
            self._call_soon()

    def _go_on(self) -> None:
        if self._heap:
            self._look_at(self._heap[0].due)

    def _call(self, timer: Timer) -> None:
        self._waiting -= timer.active
        try:
            timer.fire()
        except BaseException:  # the other timers are due, too
            self._failed()


class Timer:
    """One call to be made.

    :param schedule: makes the call.
    :param seconds: from now, by the schedule's clock.
    :param call: made once.
    """

    __slots__ = ("__weakref__", "_call", "_schedule", "due", "number")

    def __init__(self, schedule: Schedule, seconds: float, call: Callable[[], None]) -> None:
        self._schedule = schedule
        #: When the call is due, by the schedule's clock; and the timer's number, as those of one time are due in order.
        self.due = 0.0
        self.number = 0
        # None when it was made or cancelled: the schedule may keep this timer, but must not keep the connection alive.
        self._call: Callable[[], None] | None = call
        schedule.add(seconds, self)

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due or (self.due == other.due and self.number < other.number)

    @property
    def active(self) -> bool:
        """Whether the call is still to be made."""
        return self._call is not None

    def cancel(self) -> None:
        """Drop the call. Harmless twice, and after the call was made."""
        if self._call is not None:
            self._call = None
            self._schedule.timer_cancelled()

    def fire(self) -> None:
        """Make the call, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class ModuleTimer(Timer):
    """A timer of a protocol module. The connection cancels those that are left when the module leaves.

    :param owner: keeps this timer in its list until the call is made or cancelled, and makes the call.
    """

    __slots__ = ("_owner", "after", "before")

    def __init__(self, schedule: Schedule, seconds: float, call: Callable[[], None], owner: Owner) -> None:
        #: The neighbours in the owner's list. Nearly always this timer is alone.
        self.before: ModuleTimer | None = None
        self.after = owner.timers
        if self.after is not None:
            self.after.before = self
        owner.timers = self
        self._owner: Owner | None = owner
        super().__init__(schedule, seconds, call)

    def cancel(self) -> None:
        self._leave()
        Timer.cancel(self)

    def fire(self) -> None:
        owner, call = self._owner, self._call
        self._leave()
        self._call = None
        if owner is not None and call is not None:
            owner.run_timer(call)

    def _leave(self) -> None:
        owner = self._owner
        if owner is None:
            return
        # Break the references to the connection.
        self._owner = None
        before, after = self.before, self.after
        self.before = self.after = None
        if before is None:
            owner.timers = after
        else:
            before.after = after
        if after is not None:
            after.before = before
