"""Finds turns of the reactor that take long, and logs what holds them meanwhile. Knows no handler, no connection.

A thread posts a beat into the reactor, and waits until the reactor answers it. Turns and messages cost nothing more. If
the answer is late, the thread reads the stack of the reactor's thread.
"""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from twisted.logger import Logger, globalLogPublisher

from wshost.logs.limit import LogLimit
from wshost.logs.text import loggable
from wshost.process import reactors, stacks
from wshost.process.stacks import Stack

#: The upper bounds of the delays that are counted together, in seconds; there is no bound to the last ones.
DELAYS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: A shorter turn is not called long, whatever the option says, in seconds.
SHORTEST = 0.02

# As parts of the shortest turn that is long: the time from an answer to the next beat; the time that its answer may
# take; the time between two looks at whether it is there. The first two make up the whole.
_REST, _PATIENCE, _LOOK = 0.25, 0.75, 0.125
# Code that works has had this part of the time on a processor, even if the machine has much else to do.
_BUSY = 0.25
#: A turn that has not ended after so many times the shortest long one is logged while it goes on: it may never end.
ENDLESS = 10


@dataclass
class _Beat:
    """A beat that has no answer yet."""

    #: When it was posted, or would have been; and the processor's time at that time.
    begun: float
    used: float
    #: For how long C code has kept Python's lock, in seconds.
    kept: float
    #: The stack of the reactor's thread, as it was read last.
    stack: Stack | None
    #: For how long the process did not run, in seconds.
    lost: float = 0.0
    #: Its turn has been called endless.
    endless: bool = False


class Watchdog:
    """Watches the turns of one reactor.

    :param slow: seconds. A longer turn is always found; one that is up to a quarter shorter may be.
    :param reactor: its turns are watched from the call of `start` to that of `stop`.
    :param held: says what holds the reactor's thread, given its frames, the outermost first; "" if it does not know. It
        is called in another thread.
    :param clock: the time, in seconds, which only goes forward.
    :param cpu: the processor's time that the process has used, in seconds.
    :param frames: returns the current frame of each thread, by its id.
    """

    def __init__(
        self,
        slow: float,
        reactor: Any,
        held: Callable[[Sequence[FrameType]], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,  # noqa: SLF001 - there is no other way
        loops: Container[CodeType] = reactors.LOOPS,
    ) -> None:
        #: How many turns were long.
        self.long_turns = 0
        #: How many beats were answered, by their delays: not longer than each of `DELAYS`, and longer than all.
        self.delays = [0] * (len(DELAYS) + 1)
        #: The sum of these delays, in seconds.
        self.delayed = 0.0
        self._slow = max(slow, SHORTEST)
        self._reactor = reactor
        self._post = reactors.from_threads(reactor)
        self._held = held
        self._clock = clock
        self._cpu = cpu
        self._frames = frames
        self._loops = loops
        self._log = Logger("wshost", observer=LogLimit(globalLogPublisher))
        # The reactor's thread.
        self._watched = 0
        # Set when the reactor has answered, and when `stop` was called.
        self._wake = threading.Event()
        self._stopped = False
        # When the reactor has answered the last beat; None until then.
        self._answered: float | None = None

    def start(self) -> None:
        """Begin as soon as the reactor runs. Called once."""
        self._post(self._begin)

    def stop(self) -> None:
        """End the thread, soon. Called in any thread, at any time."""
        self._stopped = True
        self._wake.set()

    def _begin(self) -> None:
        if not self._stopped:
            self._watched = threading.get_ident()
            try:
                threading.Thread(target=self._run, name="wshost-watchdog", daemon=True).start()
            except RuntimeError as error:
                self._log.warn("long turns are not looked for: {why}", why=error)

    def _run(self) -> None:
        try:
            while not self._stopped:
                self.beat()
        except Exception:
            self._log.failure("long turns are not looked for any more")

    def beat(self) -> None:
        """Wait until the next beat is due, post it, and judge its answer. Called in the thread."""
        self._wake.clear()
        if self._stopped:
            return
        # C code that began meanwhile, and lets go of Python's lock only now, has delayed the beat itself.
        kept, _ = self._rest(_REST)
        if self._stopped:
            return
        beat = _Beat(self._clock() - kept, self._cpu(), kept, self._look() if kept else None)
        self._answered = None
        try:
            self._post(self._answer)
        except RuntimeError:
            # asyncio's loop was closed.
            self._stopped = True
            return
        while self._answered is None:
            kept, lost = self._rest(_LOOK)
            beat.kept, beat.lost = beat.kept + kept, beat.lost + lost
            if self._answered is not None:
                break
            if self._stopped or not self._reactor.running:
                self._stopped = True
                return
            self._look_at(beat, bool(kept))
        self._judge(beat, self._answered)

    def _look_at(self, beat: _Beat, kept: bool) -> None:
        """Read the stack, if it is time: the beat has no answer.

        :param kept: C code has just let go of Python's lock. The next step of the reactor's thread is another one.
        """
        hung = self._clock() - beat.begun - beat.lost
        endless = not beat.endless and hung >= ENDLESS * self._slow
        if kept or endless or (beat.stack is None and hung >= _PATIENCE * self._slow):
            beat.stack = self._look()
        if endless:
            beat.endless = True
            if not self._is_excused(beat, hung):
                what = _described(beat)
                self._log.warn(
                    "a turn of the reactor has not ended after {seconds:.2f} s{what}", seconds=hung, what=what
                )

    def _judge(self, beat: _Beat, answered: float) -> None:
        if beat.lost and beat.stack is None:
            # The process was stopped, and nobody knows for how much of the time.
            return
        # It may have been stopped after the answer.
        length = max(answered - beat.begun - beat.lost, 0.0)
        self.delays[bisect_left(DELAYS, length)] += 1
        self.delayed += length
        if length < _PATIENCE * self._slow or self._is_excused(beat, length):
            return
        self.long_turns += 1
        what = ", as was logged before" if beat.endless else _described(beat)
        self._log.warn("a turn of the reactor took {seconds:.2f} s or more{what}", seconds=length, what=what)

    def _answer(self) -> None:
        self._answered = self._clock()
        self._wake.set()

    def _rest(self, part: float) -> tuple[float, float]:
        """Wait, unless woken. If that takes too long, this thread could not run.

        :param part: of the shortest long turn.
        :returns: for how long C code has kept Python's lock, and for how long the process did not run, in seconds. One
            of them is 0. A process that does not run uses no time of the processor.
        """
        seconds = part * self._slow
        before, used = self._clock(), self._cpu()
        self._wake.wait(seconds)
        over = self._clock() - before - seconds
        if over <= _LOOK * self._slow:
            return 0.0, 0.0
        return (over, 0.0) if self._cpu() - used > over * _BUSY else (0.0, over)

    def _look(self) -> Stack:
        return stacks.read(self._frames().get(self._watched), self._loops, self._held)

    def _is_excused(self, beat: _Beat, seconds: float) -> bool:
        """Return whether a turn that took so long is nobody's fault, or only seems to have been long."""
        if beat.kept:
            return False
        if beat.stack is None:
            # The answer was there before this thread had time to look.
            return True
        # A person is at work; or the machine has too much to do.
        return beat.stack.debugged or (beat.stack.idle and self._cpu() - beat.used < seconds * _BUSY)


def _described(beat: _Beat) -> str:
    """Say what has held a turn."""
    stack = beat.stack
    holder = f", held by {loggable(stack.holder)}" if stack is not None and stack.holder else ""
    if stack is None or not stack.text:
        return f"{holder}; no Python code was seen: it was C code, or the garbage collector"
    when = "as C code returned that had kept Python's lock" if beat.kept else "while it hung"
    return f"{holder}; the stack, {when}:\n{loggable(stack.text)}"
