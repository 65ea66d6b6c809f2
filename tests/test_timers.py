import gc
import weakref

import pytest
from twisted.internet.task import Clock

from wshost.timers import ModuleTimer


class Module:
    """Has timers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.timers: set[ModuleTimer] = set()
        self.called = 0
        self.failures = 0

    def start(self, seconds: float = 1) -> ModuleTimer:
        return ModuleTimer(self.clock, seconds, self.call, self.timers, self.failed)

    def call(self) -> None:
        self.called += 1

    def failed(self) -> None:
        self.failures += 1


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

        timer = ModuleTimer(module.clock, 1, call, module.timers, module.failed)
        module.clock.advance(1)
        assert (module.called, module.failures) == (1, 0)

    def test_what_it_calls_may_fail(self, module: Module) -> None:
        def call() -> None:
            raise ValueError("no call")

        ModuleTimer(module.clock, 1, call, module.timers, module.failed)
        module.clock.advance(1)
        assert module.failures == 1

    @pytest.mark.parametrize("fires", [True, False])
    def test_nothing_waits_for_the_collector(self, module: Module, fires: bool) -> None:
        """A module holds its timer, which calls the module."""

        class Driver:
            def __init__(self) -> None:
                self.timer = ModuleTimer(module.clock, 1, self.call, module.timers, self.call)

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
