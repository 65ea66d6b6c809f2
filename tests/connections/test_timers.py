import gc
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import permutations

import pytest

from tests.memory import MemoryReactor
from wshost.connections.timers import MOST, ModuleTimer, Schedule, Timer


class Module:
    """A module that has timers, and counts their calls and failures."""

    def __init__(self) -> None:
        self.clock = MemoryReactor()
        self.schedule = Schedule(self.clock, self.failed)
        self.timers: ModuleTimer | None = None
        self.called = self.ran = 0
        self.failures = 0

    def start(self, seconds: float = 1) -> ModuleTimer:
        return ModuleTimer(self.schedule, seconds, self.call, self)

    def call(self) -> None:
        self.called += 1

    def run_timer(self, call: Callable[[], None]) -> None:
        self.ran += 1
        call()

    def failed(self) -> None:
        assert sys.exception() is not None
        self.failures += 1
        self.told()

    def told(self) -> None:
        """Nothing."""


@pytest.fixture
def module() -> Module:
    return Module()


class TestModuleTimer:
    def test_a_timer_calls_once(self, module: Module) -> None:
        module.start(2)
        module.clock.advance(1)
        assert module.called == 0
        module.clock.advance(1)
        assert module.called == 1
        module.clock.advance(10)
        assert module.called == 1

    def test_a_timer_is_in_its_modules_list_until_it_fires(self, module: Module) -> None:
        timer = module.start()
        assert module.timers is timer
        module.clock.advance(1)
        assert module.timers is None

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_a_modules_timers_leave_its_list_in_any_order(self, module: Module, order: tuple[int, ...]) -> None:
        timers = [module.start() for _ in order]
        for number in order:
            assert module.timers is not None
            timers[number].cancel()
        assert module.timers is None

    def test_a_cancelled_timer_does_not_call(self, module: Module) -> None:
        module.start().cancel()
        assert module.timers is None
        module.schedule.release_if_idle()
        assert module.clock.getDelayedCalls() == []
        assert module.called == 0

    def test_a_timer_may_be_cancelled_twice_and_after_it_has_fired(self, module: Module) -> None:
        timer = module.start()
        timer.cancel()
        timer.cancel()
        timer = module.start()
        module.clock.advance(1)
        timer.cancel()
        assert module.called == 1

    def test_a_timer_may_be_cancelled_by_its_own_call(self, module: Module) -> None:
        def call() -> None:
            timer.cancel()
            module.call()

        timer = ModuleTimer(module.schedule, 1, call, module)
        module.clock.advance(1)
        assert (module.called, module.failures) == (1, 0)

    def test_a_timers_call_that_raises_is_reported_as_a_failure(self, module: Module) -> None:
        def call() -> None:
            raise ValueError("no call")

        ModuleTimer(module.schedule, 1, call, module)
        module.clock.advance(1)
        assert module.failures == 1

    @pytest.mark.parametrize("fires", [True, False])
    def test_a_timer_that_is_done_needs_no_garbage_collector(self, module: Module, fires: bool) -> None:
        """A module holds its timer, and the timer holds the module's method."""

        class Driver:
            timers: ModuleTimer | None = None

            def __init__(self) -> None:
                self.timer = ModuleTimer(module.schedule, 1, self.call, self)

            def call(self) -> None:
                """Nothing."""

            def run_timer(self, call: Callable[[], None]) -> None:
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
    @pytest.mark.parametrize("seconds", [0, 1])
    def test_a_timer_sees_no_context_of_users_code(self, module: Module, seconds: float) -> None:
        user: ContextVar[str] = ContextVar("user", default="nobody")
        seen: list[str] = []

        def users_code() -> None:
            user.set("somebody")
            module.schedule.call_later(seconds, lambda: seen.append(user.get()))

        copy_context().run(users_code)
        module.clock.advance(1)
        assert seen == ["nobody"]

    def test_timers_fire_in_the_order_of_their_times(self, module: Module) -> None:
        made: list[str] = []
        for seconds, name in [(3, "d"), (1, "a"), (2, "b"), (2, "c")]:
            ModuleTimer(module.schedule, seconds, partial(made.append, name), module)
            assert len(module.clock.getDelayedCalls()) == 1
        for _ in range(4):
            module.clock.advance(0.5)
        assert made == ["a", "b", "c"]
        module.clock.advance(1)
        assert made == ["a", "b", "c", "d"]
        module.schedule.release_if_idle()
        assert module.clock.getDelayedCalls() == []

    def test_a_timer_of_0_seconds_fires_in_the_next_turn(self, module: Module) -> None:
        def again() -> None:
            module.call()
            if module.called < 3:
                ModuleTimer(module.schedule, 0, again, module)

        again()
        turns = []
        while module.clock.calls:
            call = module.clock.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
            turns.append(module.called)
        assert turns == [2, 3]

    def test_a_timer_that_a_call_starts_delays_no_other(self, module: Module) -> None:
        def start() -> None:
            module.start(9)

        module.schedule.call_later(1, start)
        module.start(2)
        module.clock.advance(1)
        module.clock.advance(1)
        assert module.called == 1
        module.clock.advance(8)
        assert module.called == 2

    def test_a_timers_call_may_cancel_another_timer_that_is_due(self, module: Module) -> None:
        def cancel() -> None:
            other.cancel()

        ModuleTimer(module.schedule, 1, cancel, module)
        other = module.start(1)
        last = module.start(1)
        module.clock.advance(1)
        assert (module.called, module.failures, module.timers) == (1, 0, None)
        assert not last.active
        module.schedule.release_if_idle()
        assert module.clock.getDelayedCalls() == []

    def test_the_reactors_timer_outlives_a_cancelled_timer_for_the_next(self, module: Module) -> None:
        module.start(2).cancel()
        [first] = module.clock.getDelayedCalls()
        module.start(3)
        assert module.clock.getDelayedCalls() == [first]
        module.schedule.release_if_idle()
        module.clock.advance(2)
        assert (module.called, len(module.clock.getDelayedCalls())) == (0, 1)
        module.clock.advance(1)
        assert module.called == 1

    def test_a_timer_may_belong_to_no_module(self, module: Module) -> None:
        module.schedule.call_later(1, module.call)
        module.schedule.call_later(1, module.call).cancel()
        module.clock.advance(1)
        assert module.called == 1

    def test_the_reactor_has_one_timer_for_the_earliest(self, module: Module) -> None:
        module.start(0.2)
        [first] = module.clock.getDelayedCalls()
        module.start(0.3)
        assert module.clock.getDelayedCalls() == [first]
        module.start(0.1)
        [sooner] = module.clock.getDelayedCalls()
        assert sooner.getTime() == 0.1
        module.clock.advance(5)
        assert module.called == 3

    def test_cancelled_timers_do_not_pile_up(self, module: Module) -> None:
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

    def test_a_cancelled_timer_does_not_keep_its_owner_alive(self, module: Module) -> None:
        class Owner:
            timers: ModuleTimer | None = None

            def call(self) -> None:
                """Nothing."""

            def run_timer(self, call: Callable[[], None]) -> None:
                """Nothing."""

        owner = Owner()
        reference = weakref.ref(owner)
        module.start(9)
        timer = ModuleTimer(module.schedule, 5, owner.call, owner)
        timer.cancel()
        del owner
        assert reference() is None


class Reactor(MemoryReactor):
    """A reactor that runs turn by turn: first the calls that are due, then the sockets, as epoll's reactor does.

    :param early: a turn may make calls twice before it looks at the sockets, as uvloop does.
    """

    def __init__(self, *, early: bool = False) -> None:
        super().__init__()
        self.arrived: list[Callable[[], object]] = []
        self._early = early

    def turn(self) -> None:
        """One turn of the loop, without waiting."""
        for _ in range(2 if self._early else 1):
            due = [call for call in self.calls if call.getTime() <= self.seconds()]
            for call in due:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
        arrived, self.arrived = self.arrived, []
        for read in arrived:
            read()

    def run(self, seconds: float) -> None:
        """Let time pass in turns of 10 ms."""
        for _ in range(round(seconds * 100)):
            self.rightNow += 0.01
            self.turn()


@pytest.fixture(params=[False, True], ids=["epoll", "uvloop"])
def reactor(request: pytest.FixtureRequest) -> Reactor:
    return Reactor(early=request.param)


class Peers:
    """Peers, for each of which a timer waits. What a peer sends cancels its timer."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.schedule = Schedule(reactor, self.failed)
        self.dropped: list[int] = []

    def failed(self) -> None:
        raise AssertionError("a timer has failed")

    def wait_for(self, count: int, seconds: float) -> list[Timer]:
        return [self.schedule.call_later(seconds, partial(self.dropped.append, each)) for each in range(count)]

    def stand_still(self, seconds: float, says: list[Timer]) -> None:
        """Let the process do nothing for some time, while the peers of these timers send something."""
        self.reactor.rightNow += seconds
        self.reactor.arrived += [timer.cancel for timer in says]


@pytest.fixture
def peers(reactor: Reactor) -> Peers:
    return Peers(reactor)


class TestOurOwnStall:
    """What peers send while our process stands still is read late, but is not late."""

    @pytest.mark.parametrize("at", [0, 0.1, 0.99, 1])
    @pytest.mark.parametrize("stall", [0.005, 0.1, 0.31, 1, 6, 3_600])
    def test_bytes_that_came_during_a_stall_are_read_before_timers_fire(
        self, peers: Peers, at: float, stall: float
    ) -> None:
        timers = peers.wait_for(10, 1)
        # The loop is in the midst of a turn.
        peers.reactor.run(at - 0.01 if at else 0)
        peers.stand_still(stall, timers)
        peers.reactor.run(5)
        assert peers.dropped == []

    def test_a_stall_does_not_count_against_peers(self, peers: Peers) -> None:
        """A peer has its full time to answer what could not be sent to it during the stall."""
        timers = peers.wait_for(10, 5)
        peers.reactor.run(2)
        peers.stand_still(6, [])
        peers.reactor.run(3 - MOST - 0.05)
        assert peers.dropped == []
        for timer in timers[:9]:
            timer.cancel()
        peers.reactor.run(MOST + 0.1)
        assert peers.dropped == [9]

    def test_a_stall_long_before_a_deadline_does_not_count_against_peers(self, peers: Peers) -> None:
        peers.wait_for(1, 20)
        peers.reactor.run(5)
        peers.stand_still(10, [])
        peers.reactor.run(14)
        assert peers.dropped == []
        peers.reactor.run(1.1)
        assert peers.dropped == [0]

    def test_several_stalls_in_a_row_do_not_count_against_peers(self, peers: Peers) -> None:
        """Between two stalls there is a moment, in which what has come is read."""
        timers = peers.wait_for(10, 1)
        for _ in range(3):
            peers.stand_still(1.5, timers[:3])
            del timers[:3]
            peers.reactor.run(0.02)
        assert peers.dropped == []

    def test_a_silent_peer_is_dropped_after_a_stall(self, peers: Peers) -> None:
        peers.wait_for(1, 1)
        peers.stand_still(6, [])
        peers.reactor.run(1.1)
        assert peers.dropped == [0]

    @pytest.mark.parametrize("turn", [0.05, 0.1, 0.2, 0.25])
    def test_a_busy_loop_is_no_stall(self, peers: Peers, turn: float) -> None:
        """The time that turns take counts, or most of it."""
        peers.wait_for(1, 5)
        passed = 0.0
        while not peers.dropped:
            peers.reactor.rightNow += turn
            passed += turn
            peers.reactor.turn()
        assert 5 <= passed < 7.5

    @pytest.mark.parametrize("turn", [0.6, 2, 60])
    def test_an_overloaded_loop_still_drops_silent_peers(self, peers: Peers, turn: float) -> None:
        """It drops them after a number of turns, however long these are."""
        peers.wait_for(1, 5)
        turns = 0
        while not peers.dropped:
            peers.reactor.rightNow += turn
            peers.reactor.turn()
            turns += 1
        assert turns <= 5 / MOST * 3

    def test_a_schedules_time_leaves_stalls_out(self, peers: Peers) -> None:
        peers.wait_for(1, 100)
        start = peers.schedule.seconds()
        peers.reactor.run(1)
        assert peers.schedule.seconds() - start == pytest.approx(1)
        peers.stand_still(50, [])
        assert 1 <= peers.schedule.seconds() - start <= 1 + MOST + 0.01
        peers.reactor.run(1)
        assert 2 <= peers.schedule.seconds() - start <= 2 + MOST + 0.01

    def test_a_clock_that_is_set_back_fires_no_timer_early_and_loses_none(self, peers: Peers) -> None:
        peers.wait_for(1, 1)
        peers.reactor.run(0.5)
        before = peers.schedule.seconds()
        # Twisted's own timers wait for that long then.
        peers.reactor.rightNow -= 0.3
        assert peers.schedule.seconds() == pytest.approx(before, abs=MOST)
        peers.reactor.run(0.4)
        assert peers.dropped == []
        peers.reactor.run(1)
        assert peers.dropped == [0]

    def test_a_stall_does_not_delay_a_call_for_the_next_turn(self, peers: Peers) -> None:
        """Such a call does not wait for a peer."""
        peers.schedule.call_later(0, partial(peers.dropped.append, 0))
        peers.stand_still(6, [])
        peers.reactor.turn()
        assert peers.dropped == [0]

    def test_a_timer_that_starts_while_a_due_one_is_put_off_fires(self, peers: Peers) -> None:
        peers.wait_for(1, 1)
        peers.reactor.run(0.9)
        peers.stand_still(0.2, [])
        peers.reactor.turn()
        peers.schedule.call_later(0.05, partial(peers.dropped.append, 1))
        peers.reactor.run(0.3)
        assert peers.dropped == [0, 1]

    def test_an_idle_schedule_has_no_timer_in_the_reactor(self, peers: Peers) -> None:
        for timer in peers.wait_for(10, 5):
            timer.cancel()
        peers.reactor.run(MOST + 0.1)
        assert peers.reactor.getDelayedCalls() == []
        peers.wait_for(1, 5)
        peers.reactor.run(5.1)
        assert peers.dropped == [0]
        peers.reactor.run(MOST + 0.1)
        assert peers.reactor.getDelayedCalls() == []

    def test_a_schedule_goes_on_after_a_timer_that_was_put_off_is_cancelled(self, peers: Peers) -> None:
        """The schedule has no timer left then, and begins anew with the next."""
        [timer] = peers.wait_for(1, 0.1)
        peers.stand_still(1, [])
        peers.reactor.turn()
        timer.cancel()
        peers.schedule.call_later(0, timer.cancel).cancel()
        peers.schedule.release_if_idle()
        assert peers.reactor.getDelayedCalls() == []
        peers.wait_for(1, 1)
        peers.reactor.run(1.1)
        assert peers.dropped == [0]


class Exit(BaseException):
    """A BaseException that is no Exception."""


class TestWhatACallRaises:
    @pytest.mark.parametrize("error", [ValueError, Exit, SystemExit, KeyboardInterrupt, GeneratorExit])
    @pytest.mark.parametrize("seconds", [0, 1])
    def test_a_call_that_raises_keeps_no_other_from_being_made(
        self, module: Module, error: type[BaseException], seconds: float
    ) -> None:
        def call() -> None:
            raise error

        module.schedule.call_later(seconds, call)
        module.schedule.call_later(seconds, module.call)
        module.clock.advance(1)
        module.start(1)
        module.clock.advance(1)
        assert (module.called, module.failures) == (2, 1)

    def test_a_failure_that_can_not_be_reported_keeps_no_other_call_from_being_made(self, module: Module) -> None:
        def fail() -> None:
            raise Exit

        module.told = fail  # type: ignore[method-assign]
        module.schedule.call_later(1, fail)
        module.schedule.call_later(1, module.call)
        with pytest.raises(Exit):
            module.clock.advance(1)
        module.clock.advance(0)
        module.start(1)
        module.clock.advance(1)
        assert module.called == 2
