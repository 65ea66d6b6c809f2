from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from wshost.logs.limit import MOST
from wshost.process.watchdog import DELAYS, ENDLESS, SHORTEST, Watchdog

SLOW = 0.25
#: When something begins: at any moment between two beats, and while one waits for its answer.
MOMENTS = [0.0, 0.01, 0.03, 0.05, 0.062, 0.063, 0.1]


def frame(module: str = "chat") -> FrameType:
    """Return a frame of a function of this module, which hangs."""
    names: dict[str, Any] = {"__name__": module}
    exec("def hang():\n    yield", names)
    stopped: FrameType = names["hang"]().gi_frame
    return stopped


#: Where it hangs: Pythons differ in how they count the lines of a generator that has not begun.
LINE = frame().f_lineno


class World:
    """A process with a reactor and the watchdog's thread; its time passes only when the thread waits.

    :param late: seconds by which each wait takes longer.
    """

    def __init__(self, *, late: float = 0.0) -> None:
        self.now = 1_000.0
        self.late = late
        self.running = True
        self.closed = False
        #: What the reactor's thread does: from when, to when, and how.
        self.spans: list[tuple[float, float, str]] = []
        #: The reactor's thread runs first when both may run again.
        self.reactor_first = False
        self.frame: FrameType | None = frame()
        self.seen: list[Sequence[FrameType]] = []
        self.posted: list[Callable[[], None]] = []
        self.woken = False
        #: Called with the time at the end of each wait.
        self.then: Callable[[], object] = lambda: None
        self.watchdog = Watchdog(
            SLOW, self, self.held, clock=lambda: self.now, cpu=self.cpu, frames=self.frames, loops=()
        )
        self.watchdog._wake = self  # type: ignore[assignment]

    def does(self, how: str, seconds: float, after: float = 0.0) -> None:
        """Let the reactor's thread do something.

        :param how: "hangs", "works" in Python, "keeps" Python's lock, or "stands" still, with the whole process.
        """
        begin = max([self.now, *(end for _, end, _ in self.spans)]) + after
        self.spans.append((begin, begin + seconds, how))

    def cpu(self) -> float:
        return sum(
            min(self.now, end) - begin
            for begin, end, how in self.spans
            if how in {"works", "keeps"} and begin < self.now
        )

    def frames(self) -> dict[int, FrameType]:
        return {} if self.frame is None else {0: self.frame}

    def held(self, frames: Sequence[FrameType]) -> str:
        self.seen.append(frames)
        return "handle of chat"

    # The reactor

    def callFromThread(self, call: Callable[[], None]) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.posted.append(call)

    def _free(self, moment: float, *hows: str) -> float:
        """The first moment at which none of these is done; all of them if none is given."""
        for begin, end, how in self.spans:
            if begin <= moment < end and (not hows or how in hows):
                moment = end
        return moment

    # The event of the thread

    def clear(self) -> None:
        self.woken = False

    def set(self) -> None:
        self.woken = True

    def wait(self, seconds: float) -> None:
        end = self.now + seconds + self.late
        answer = self._free(self.now) if self.posted else end
        back = self._free(end, "keeps", "stands")
        if not self.woken and (answer < end or (answer == back and self.reactor_first and self.posted)):
            self.now = answer
            self.posted.pop(0)()
            self.now = max(answer, self._free(answer, "keeps", "stands"))
        elif not self.woken:
            self.now = back
        self.then()

    def go_on(self, seconds: float) -> list[str]:
        """Let time pass, beat by beat; return what is logged."""
        end = self.now + seconds
        with capturedLogs() as events:
            while self.now < end and not self.watchdog._stopped:
                self.watchdog.beat()
        return [formatEvent(event) for event in events]


@pytest.fixture
def world() -> World:
    return World()


class TestLongTurns:
    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("how", ["hangs", "works", "keeps"])
    def test_a_turn_that_is_longer_is_logged_once_whenever_it_begins(
        self, how: str, moment: float, world: World
    ) -> None:
        world.does(how, SLOW * 1.2, after=moment)
        [line] = world.go_on(2)
        assert line.startswith("a turn of the reactor took 0.")
        assert world.watchdog.long_turns == 1

    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("how", ["hangs", "works", "keeps"])
    def test_a_turn_that_is_much_shorter_is_not_logged(self, how: str, moment: float, world: World) -> None:
        world.does(how, SLOW * 0.7, after=moment)
        assert world.go_on(2) == []
        assert world.watchdog.long_turns == 0

    def test_its_length_what_has_held_it_and_its_stack_are_logged(self, world: World) -> None:
        world.does("hangs", 0.6)
        [line] = world.go_on(2)
        assert line.splitlines() == [
            "a turn of the reactor took 0.54 s or more, held by handle of chat; the stack, while it hung:",
            f'  File "<string>", line {LINE}, in hang',
        ]
        assert world.seen == [[world.frame]]

    def test_one_that_may_never_end_is_logged_while_it_hangs_with_another_stack(self, world: World) -> None:
        world.does("hangs", 60.0)
        first, last = world.go_on(61)
        assert first.splitlines() == [
            "a turn of the reactor has not ended after 2.50 s, held by handle of chat; the stack, while it hung:",
            f'  File "<string>", line {LINE}, in hang',
        ]
        assert last == "a turn of the reactor took 59.94 s or more, as was logged before"
        assert len(world.seen) == 2
        assert world.watchdog.long_turns == 1

    def test_what_comes_from_users_is_logged_without_control_characters(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(world.watchdog, "_held", lambda frames: "\x1b[31m")
        world.does("hangs", 0.6)
        [line] = world.go_on(2)
        assert "held by \\x1b[31m;" in line

    def test_only_some_are_logged_in_a_period_and_all_are_counted(self, world: World) -> None:
        for _ in range(MOST + 5):
            world.does("hangs", 0.3, after=0.3)
        assert len(world.go_on(60)) == MOST
        assert world.watchdog.long_turns == MOST + 5


class TestPythonsLock:
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_the_stack_is_read_as_soon_as_c_code_lets_go_of_it(self, moment: float, world: World) -> None:
        world.does("keeps", 5.0, after=moment)
        *_, line = world.go_on(7)
        assert "held by handle of chat; the stack, as C code returned that had kept Python's lock:\n" in line

    def test_its_time_counts_even_if_it_was_kept_before_the_beat(self, world: World) -> None:
        world.does("keeps", 1.0)
        [line] = world.go_on(2)
        assert line.startswith("a turn of the reactor took 0.94 s or more")

    def test_a_reactor_that_answers_before_its_stack_can_be_read_is_logged_without(self, world: World) -> None:
        world.reactor_first = True
        world.does("hangs", 0.07)
        world.does("keeps", 1.0)
        [line] = world.go_on(2)
        assert line.endswith("; no Python code was seen: it was C code, or the garbage collector")


class TestNoFalseAlarm:
    @pytest.mark.parametrize("reactor_first", [False, True])
    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("seconds", [0.02, 0.04, 0.2, 0.3, 60.0])
    def test_a_process_that_was_stopped_is_not_logged(
        self, seconds: float, moment: float, reactor_first: bool, world: World
    ) -> None:
        world.reactor_first = reactor_first
        world.does("hangs", 0.05, after=moment)
        world.does("stands", seconds)
        world.does("hangs", 0.05)
        assert world.go_on(seconds + 2) == []
        assert world.watchdog.long_turns == 0

    def test_the_time_for_which_a_process_was_stopped_does_not_count(self, world: World) -> None:
        world.does("hangs", 0.3)
        world.does("stands", 60.0)
        world.does("hangs", 0.3)
        [line] = world.go_on(70)
        assert line.startswith("a turn of the reactor took 0.5")

    @pytest.mark.parametrize("seconds", [0.5, 60.0])
    def test_a_person_with_a_debugger_may_take_any_time(self, seconds: float, world: World) -> None:
        world.frame = frame("bdb")
        world.does("hangs", seconds)
        assert world.go_on(seconds + 1) == []
        assert world.watchdog.long_turns == 0

    @pytest.mark.parametrize("where", [None, frame("selectors")])
    def test_a_reactor_that_waits_for_a_processor_is_not_logged(self, where: FrameType | None, world: World) -> None:
        world.frame = where
        world.does("hangs", 5.0)
        assert world.go_on(7) == []

    def test_a_reactor_that_works_without_a_frame_is_logged(self, world: World) -> None:
        world.frame = None
        world.does("works", 1.0)
        [line] = world.go_on(2)
        assert line.endswith("; no Python code was seen: it was C code, or the garbage collector")

    def test_an_answer_that_was_there_before_the_thread_had_time_to_look_is_not_logged(self) -> None:
        world = World(late=0.03)
        world.does("hangs", 0.29)
        assert world.go_on(2) == []
        assert world.seen == []


class TestDelays:
    def test_each_beat_is_counted_by_its_delay(self, world: World) -> None:
        world.go_on(1)
        assert world.watchdog.delays == [16] + [0] * len(DELAYS)
        assert world.watchdog.delayed == 0.0
        world.does("hangs", 0.162)
        world.go_on(0.1)
        assert world.watchdog.delays[DELAYS.index(0.1)] == 1
        assert world.watchdog.delayed == pytest.approx(0.0995)

    def test_one_is_not_counted_if_the_process_was_stopped_meanwhile(self, world: World) -> None:
        world.reactor_first = True
        world.does("hangs", 0.07)
        world.does("stands", 60.0)
        world.watchdog.beat()
        assert world.now > 1_060
        assert sum(world.watchdog.delays) == 0
        assert world.watchdog.delayed == 0.0

    def test_the_sum_of_delays_never_becomes_smaller(self, world: World) -> None:
        """The process may be stopped after the answer, before the thread has seen it."""

        def stand_still() -> None:
            if world.watchdog._answered is not None:
                world.now += 60

        world.does("hangs", SLOW)
        world.then = stand_still
        world.watchdog.beat()
        assert sum(world.watchdog.delays) == 1
        assert world.watchdog.delayed == 0.0

    def test_those_that_are_longer_than_all_bounds_are_counted_too(self, world: World) -> None:
        world.does("hangs", 11.0)
        world.go_on(1)
        assert world.watchdog.delays == [0] * len(DELAYS) + [1]


class TestThread:
    def test_it_ends_when_it_is_told_to_while_it_rests_and_while_it_waits_for_an_answer(self) -> None:
        for hangs in (0.0, 60.0):
            world = World()
            world.does("hangs", hangs)
            world.then = lambda world=world: world.watchdog.stop() if world.now > 1_000.5 else None  # type: ignore[misc]
            world.go_on(60)
            assert world.now < 1_001
            assert len(world.posted) == (1 if hangs else 0)

    def test_a_beat_after_the_end_does_nothing(self, world: World) -> None:
        world.watchdog.stop()
        world.watchdog.beat()
        assert world.posted == []

    def test_it_ends_when_the_reactor_does_not_run_any_more(self, world: World) -> None:
        world.running = False
        world.does("hangs", 60.0)
        assert world.go_on(60) == []
        assert world.now < 1_001

    def test_it_ends_when_the_loop_is_closed(self, world: World) -> None:
        world.closed = True
        assert world.go_on(60) == []
        assert world.now < 1_001

    def test_a_short_limit_is_raised_to_one_that_can_be_kept(self) -> None:
        assert Watchdog(0.001, World(), lambda frames: "")._slow == SHORTEST

    def test_it_watches_the_thread_that_makes_the_reactors_calls_until_it_is_stopped(self) -> None:
        done = threading.Event()

        class Reactor:
            """Makes each call at once."""

            running = True
            calls = 0

            def callFromThread(self, call: Callable[[], None]) -> None:
                call()
                self.calls += 1
                if self.calls == 3:
                    threads.append(threading.current_thread())
                    watchdog.stop()
                    done.set()

        threads: list[threading.Thread] = []
        watchdog = Watchdog(SHORTEST, Reactor(), lambda frames: "")
        watchdog.start()
        assert watchdog._watched == threading.get_ident()
        assert done.wait(20)
        [thread] = threads
        thread.join(20)
        assert not thread.is_alive()
        assert thread.daemon
        assert thread.name == "wshost-watchdog"
        assert sum(watchdog.delays) == 2

    def test_one_that_is_stopped_before_the_reactor_runs_starts_no_thread(self, world: World) -> None:
        world.watchdog.start()
        world.watchdog.stop()
        [begin] = world.posted
        before = threading.active_count()
        begin()
        assert threading.active_count() == before

    def test_without_a_thread_one_line_says_so(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
        with capturedLogs() as events:
            world.watchdog._begin()
        assert [formatEvent(event) for event in events] == ["long turns are not looked for: can't start new thread"]

    def test_its_own_failure_is_logged_and_ends_it(self, world: World) -> None:
        def fail() -> float:
            raise ZeroDivisionError

        world.watchdog._cpu = fail
        with capturedLogs() as events:
            world.watchdog._run()
        [event] = events
        assert event["log_failure"].type is ZeroDivisionError
        assert event["log_format"] == "long turns are not looked for any more"


def test_what_hangs_for_ever_is_named_in_a_time_that_an_operator_waits() -> None:
    assert ENDLESS * SLOW < 5
