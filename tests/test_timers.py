import gc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import cast

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from tests.memory import MemoryReactor
from wshost.timers import ModuleTimer, Schedule


class Module:
    """Has timers."""

    def __init__(self) -> None:
        self.clock = MemoryReactor()
        self.schedule = Schedule(self.clock)
        self.timers: set[ModuleTimer] = set()
        self.called = 0
        self.failures = 0

    def start(self, seconds: float = 1) -> ModuleTimer:
        return ModuleTimer(self.schedule, seconds, self.call, self.timers, self.failed)

    def call(self) -> None:
        self.called += 1

    def failed(self) -> None:
        self.failures += 1


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What is logged meanwhile."""
    events: list[LogEvent] = []
    observer = cast("ILogObserver", events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def module() -> Module:
    return Module()


class TestModuleTimer:
    def test_calls_once(self, module: Module) -> None:
        module.start(2)
        module.clock.advance(1)
        assert module.called == 0
        module.clock.advance(1)
        assert module.called == 1
        module.clock.advance(10)
        assert module.called == 1

    def test_is_in_the_set_until_then(self, module: Module) -> None:
        timer = module.start()
        assert module.timers == {timer}
        module.clock.advance(1)
        assert module.timers == set()

    def test_cancelled_it_does_not_call(self, module: Module) -> None:
        module.start().cancel()
        assert module.timers == set()
        module.schedule.rest()
        assert module.clock.getDelayedCalls() == []
        assert module.called == 0

    def test_it_may_be_cancelled_twice_and_afterwards(self, module: Module) -> None:
        timer = module.start()
        timer.cancel()
        timer.cancel()
        timer = module.start()
        module.clock.advance(1)
        timer.cancel()
        assert module.called == 1

    def test_it_may_be_cancelled_by_what_it_calls(self, module: Module) -> None:
        def call() -> None:
            timer.cancel()
            module.call()

        timer = ModuleTimer(module.schedule, 1, call, module.timers, module.failed)
        module.clock.advance(1)
        assert (module.called, module.failures) == (1, 0)

    def test_what_it_calls_may_fail(self, module: Module) -> None:
        def call() -> None:
            raise ValueError("no call")

        ModuleTimer(module.schedule, 1, call, module.timers, module.failed)
        module.clock.advance(1)
        assert module.failures == 1

    @pytest.mark.parametrize("fires", [True, False])
    def test_nothing_waits_for_the_collector(self, module: Module, fires: bool) -> None:
        """A module holds its timer, which calls the module."""

        class Driver:
            def __init__(self) -> None:
                self.timer = ModuleTimer(module.schedule, 1, self.call, module.timers, self.call)

            def call(self) -> None:
                """Nothing."""

        driver = Driver()
        if fires:
            module.clock.advance(1)
        else:
            driver.timer.cancel()
        reference = weakref.ref(driver)
        gc.disable()
        try:
            del driver
            assert reference() is None
        finally:
            gc.enable()


class TestSchedule:
    def test_in_order(self, module: Module) -> None:
        made: list[str] = []
        for seconds, name in [(3, "d"), (1, "a"), (2, "b"), (2, "c")]:
            ModuleTimer(module.schedule, seconds, partial(made.append, name), module.timers, module.failed)
            assert len(module.clock.getDelayedCalls()) == 1
        for _ in range(4):
            module.clock.advance(0.5)
        assert made == ["a", "b", "c"]
        module.clock.advance(1)
        assert made == ["a", "b", "c", "d"]
        module.schedule.rest()
        assert module.clock.getDelayedCalls() == []

    def test_what_is_added_now_is_for_the_next_turn(self, module: Module) -> None:
        def again() -> None:
            module.call()
            if module.called < 3:
                ModuleTimer(module.schedule, 0, again, module.timers, module.failed)

        again()
        turns = []
        while module.clock.calls:
            call = module.clock.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
            turns.append(module.called)
        assert turns == [2, 3]

    def test_what_is_added_then_delays_nothing(self, module: Module) -> None:
        def start() -> None:
            module.start(9)

        module.schedule.call_later(1, start)
        module.start(2)
        module.clock.advance(1)
        module.clock.advance(1)
        assert module.called == 1
        module.clock.advance(8)
        assert module.called == 2

    def test_one_may_cancel_another_that_is_due(self, module: Module) -> None:
        def cancel() -> None:
            other.cancel()

        ModuleTimer(module.schedule, 1, cancel, module.timers, module.failed)
        other = module.start(1)
        last = module.start(1)
        module.clock.advance(1)
        assert (module.called, module.failures, module.timers) == (1, 0, set())
        assert not last.active
        module.schedule.rest()
        assert module.clock.getDelayedCalls() == []

    def test_the_reactors_timer_stays_for_the_next(self, module: Module) -> None:
        module.start(2).cancel()
        [first] = module.clock.getDelayedCalls()
        module.start(3)
        assert module.clock.getDelayedCalls() == [first]
        module.schedule.rest()
        module.clock.advance(2)
        assert (module.called, len(module.clock.getDelayedCalls())) == (0, 1)
        module.clock.advance(1)
        assert module.called == 1

    def test_a_timer_of_nobody(self, module: Module) -> None:
        module.schedule.call_later(1, module.call)
        module.schedule.call_later(1, module.call).cancel()
        module.clock.advance(1)
        assert module.called == 1

    def test_one_that_fails_is_logged(self, module: Module, logged: list[LogEvent]) -> None:
        def call() -> None:
            raise ValueError("no call")

        module.schedule.call_later(1, call)
        module.schedule.call_later(1, module.call)
        module.clock.advance(1)
        assert module.called == 1
        assert [event["log_failure"].type for event in logged] == [ValueError]

    def test_the_reactor_is_told_of_the_first_only(self, module: Module) -> None:
        module.start(2)
        [first] = module.clock.getDelayedCalls()
        module.start(3)
        assert module.clock.getDelayedCalls() == [first]
        module.start(1)
        [sooner] = module.clock.getDelayedCalls()
        assert sooner.getTime() == 1
        module.clock.advance(5)
        assert module.called == 3

    def test_cancelled_ones_do_not_pile_up(self, module: Module) -> None:
        last = module.start(9)
        timers = [module.start(5) for _ in range(1_000)]
        for timer in timers:
            timer.cancel()
        reference = weakref.ref(timers[0])
        del timers, timer
        assert reference() is None
        module.clock.advance(5)
        assert (module.called, last.active) == (0, True)
        module.clock.advance(4)
        assert module.called == 1

    def test_a_cancelled_one_keeps_nothing_alive(self, module: Module) -> None:
        class Owner:
            def call(self) -> None:
                """Nothing."""

        owner = Owner()
        reference = weakref.ref(owner)
        module.start(9)
        timer = ModuleTimer(module.schedule, 5, owner.call, module.timers, owner.call)
        timer.cancel()
        del owner
        assert reference() is None
