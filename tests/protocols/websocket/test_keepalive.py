from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from wshost.protocols.websocket.keepalive import CONTROL_BURST, CONTROL_RATE, ControlRate, Keepalive, MessageDeadline


class Driver:
    """A driver that notes what it is told, and when."""

    def __init__(self, ping_interval: float = 20.0, ping_timeout: float = 10.0, message_timeout: float = 60.0) -> None:
        self.clock = Clock()
        # Not at zero: there, what was never heard would look like heard just now.
        self.clock.advance(1_000_000.1)
        self.start = self.clock.seconds()
        self.told: list[tuple[Any, ...]] = []
        self.is_open = True
        self.engine = SimpleNamespace(inside=False, arrived=0)
        self.context = SimpleNamespace(
            clock=self.clock,
            call_later=self.call_later,
            reading=True,
            reset_by_peer=False,
            output_full=False,
            blocked=False,
        )
        context: Any = self.context
        engine: Any = self.engine
        self.hear()
        if ping_interval:
            Keepalive(self, context, ping_interval, ping_timeout)
        self.deadline = MessageDeadline(self, engine, context, message_timeout)
        self.rate = ControlRate(self.clock.seconds)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        assert seconds > 0
        return self.clock.callLater(seconds, call)

    def ping_peer(self) -> None:
        self._told("ping")

    def fail(self, code: int, reason: str) -> None:
        self._told("fail", code, reason)
        self.is_open = False

    def drop(self, reason: str) -> None:
        self._told("drop", reason)
        self.is_open = False

    def _told(self, *what: Any) -> None:
        self.told.append((round(self.clock.seconds() - self.start, 6), *what))

    def hear(self) -> None:
        self.heard_at = self.clock.seconds()

    def wait(self, seconds: float) -> list[tuple[Any, ...]]:
        """Let time pass; return what the driver was told meanwhile, and when since the start."""
        self.told.clear()
        end = self.clock.seconds() + seconds
        while calls := [call for call in self.clock.getDelayedCalls() if call.getTime() <= end]:
            self.clock.advance(max(0, min(call.getTime() for call in calls) - self.clock.seconds()))
        self.clock.rightNow = end
        return self.told


GONE = "the peer is silent and answers no ping"


class TestHeartbeat:
    """RFC 6455 §5.5.2."""

    def test_a_silent_peer_is_pinged_and_then_dropped(self) -> None:
        assert Driver().wait(100) == [(20, "ping"), (30, "drop", GONE)]

    def test_a_peer_that_answers_pings_is_not_dropped(self) -> None:
        driver = Driver()
        for beat in range(20, 1_000, 20):
            assert driver.wait(20) == [(beat, "ping")]
            # The pong is as quick as can be.
            driver.hear()

    def test_a_peer_that_answers_a_ping_late_is_not_dropped(self) -> None:
        driver = Driver()
        assert driver.wait(29) == [(20, "ping")]
        driver.hear()
        assert driver.wait(100) == [(49, "ping"), (59, "drop", GONE)]

    def test_any_byte_shows_that_the_peer_is_alive(self) -> None:
        """A long upload, for example, leaves no room for a pong."""
        driver = Driver()
        for _ in range(100):
            assert driver.wait(19) == []
            driver.hear()
        assert driver.wait(100) == [(1_920, "ping"), (1_930, "drop", GONE)]

    @pytest.mark.parametrize("at", [0.001, 1, 7.3, 19.999])
    def test_silence_is_measured_from_the_last_byte(self, at: float) -> None:
        driver = Driver()
        driver.wait(at)
        driver.hear()
        assert driver.wait(100) == [(round(20 + at, 6), "ping"), (round(30 + at, 6), "drop", GONE)]

    def test_a_peer_that_we_do_not_read_is_pinged_and_not_dropped(self) -> None:
        """We cause its silence then. It has another interval from when that was last seen."""
        driver = Driver()
        driver.context.reading = False
        assert driver.wait(110) == [(at, "ping") for at in (20, 40, 60, 80, 100)]
        driver.context.reading = True
        assert driver.wait(100) == [(120, "ping"), (130, "drop", GONE)]

    def test_a_peer_that_we_stop_reading_after_the_ping_is_not_dropped(self) -> None:
        driver = Driver()
        assert driver.wait(25) == [(20, "ping")]
        driver.context.reading = False
        assert driver.wait(10) == [(30, "ping")]
        driver.context.reading = True
        assert driver.wait(100) == [(50, "ping"), (60, "drop", GONE)]

    def test_a_short_pause_of_reading_does_not_delay_the_next_ping(self) -> None:
        """The peer has sent so much that other connections have their turn first."""
        driver = Driver()
        driver.wait(19)
        driver.hear()
        driver.context.reading = False
        assert driver.wait(2) == []
        driver.context.reading = True
        assert driver.wait(100) == [(39, "ping"), (49, "drop", GONE)]

    def test_a_peer_is_not_dropped_while_the_ping_waits_behind_other_output(self) -> None:
        """A slow peer can't answer a ping that has not reached it. One that never reads is dropped elsewhere."""
        driver = Driver()
        assert driver.wait(25) == [(20, "ping")]
        driver.context.blocked = True
        assert driver.wait(40) == [(at, "ping") for at in (30, 50)]
        driver.context.blocked = False
        assert driver.wait(100) == [(70, "ping"), (80, "drop", GONE)]

    def test_a_peer_that_leaves_while_output_waits_is_dropped(self) -> None:
        driver = Driver()
        driver.context.blocked = True
        driver.wait(30)
        driver.context.reset_by_peer = True
        assert driver.wait(100) == [(40, "drop", "the peer has left")]

    def test_a_peer_that_leaves_while_we_do_not_read_it_is_dropped(self) -> None:
        """Nothing else would notice it, however long the handler takes."""
        driver = Driver()
        driver.context.reading = False
        assert driver.wait(30) == [(20, "ping")]
        driver.context.reset_by_peer = True
        assert driver.wait(100) == [(40, "drop", "the peer has left")]
        assert driver.clock.getDelayedCalls() == []

    def test_no_pings_are_sent_while_output_is_full(self) -> None:
        """A ping would only wait with the rest of the output."""
        driver = Driver()
        driver.context.reading = False
        driver.context.output_full = True
        assert driver.wait(100) == []

    @pytest.mark.parametrize("closing_after", [10, 25])
    def test_a_closing_connection_is_not_pinged(self, closing_after: float) -> None:
        driver = Driver()
        driver.wait(closing_after)
        driver.is_open = False
        assert driver.wait(100) == []
        assert driver.clock.getDelayedCalls() == []

    def test_a_closing_connection_whose_peer_answers_is_not_pinged(self) -> None:
        driver = Driver()
        driver.wait(25)
        driver.hear()
        driver.is_open = False
        assert driver.wait(100) == []
        assert driver.clock.getDelayedCalls() == []

    def test_no_pings_are_sent_when_the_interval_is_0(self) -> None:
        driver = Driver(ping_interval=0.0)
        assert driver.clock.getDelayedCalls() == []
        assert driver.wait(1_000) == []


class TestMessageDeadline:
    """CVE-2026-48779 and others: a message has a limited time to arrive."""

    def driver(self) -> Driver:
        driver = Driver(ping_interval=0.0)
        assert not driver.deadline.running
        driver.engine.inside = True
        driver.deadline.start()
        assert driver.deadline.running
        return driver

    def test_a_message_that_does_not_end_in_time_fails_with_1008(self) -> None:
        driver = self.driver()
        assert driver.wait(100) == [(60, "fail", 1008, "a message took too long")]
        assert not driver.deadline.running

    def test_more_bytes_do_not_extend_the_time_of_a_message(self) -> None:
        """The message has one deadline, however much of it comes."""
        driver = self.driver()
        for _ in range(59):
            assert driver.wait(1) == []
            driver.hear()
        assert driver.wait(1) == [(60, "fail", 1008, "a message took too long")]

    def test_a_message_that_has_come_ends_its_deadline(self) -> None:
        driver = self.driver()
        driver.engine.inside, driver.engine.arrived = False, 1
        assert driver.wait(100) == []
        assert not driver.deadline.running
        assert driver.clock.getDelayedCalls() == []

    def test_each_message_has_a_deadline_of_its_own(self) -> None:
        driver = self.driver()
        for _ in range(20):
            driver.wait(50)
            driver.engine.arrived += 1
        assert driver.is_open
        # The last of them, which had begun to come by then, has its own time from when it was seen first.
        assert driver.wait(200) == [(1_080, "fail", 1008, "a message took too long")]

    def test_time_in_which_we_do_not_read_does_not_count_against_a_message(self) -> None:
        driver = self.driver()
        driver.context.reading = False
        assert driver.wait(110) == []
        driver.context.reading = True
        assert driver.wait(100) == [(120, "fail", 1008, "a message took too long")]

    def test_a_closing_connection_has_no_message_deadline(self) -> None:
        driver = self.driver()
        driver.is_open = False
        assert driver.wait(100) == []
        assert driver.clock.getDelayedCalls() == []


class TestControlRate:
    """CVE-2021-3690 and others: pings and pongs have a rate."""

    def test_control_frames_are_taken_up_to_the_burst(self) -> None:
        rate = Driver().rate
        assert [rate.take() for _ in range(CONTROL_BURST + 2)] == [True] * CONTROL_BURST + [False] * 2

    def test_the_allowance_of_control_frames_refills_at_the_rate(self) -> None:
        driver = Driver(ping_interval=0.0)
        while driver.rate.take():
            pass
        driver.wait(0.5)
        allowed = [driver.rate.take() for _ in range(CONTROL_RATE)]
        assert allowed == [True] * (CONTROL_RATE // 2) + [False] * (CONTROL_RATE // 2)

    def test_the_allowance_of_control_frames_does_not_exceed_the_burst(self) -> None:
        driver = Driver(ping_interval=0.0)
        driver.wait(1_000_000)
        assert sum(driver.rate.take() for _ in range(2 * CONTROL_BURST)) == CONTROL_BURST

    def test_control_frames_at_the_rate_are_always_taken(self) -> None:
        driver = Driver(ping_interval=0.0)
        for _ in range(5_000):
            driver.wait(1 / CONTROL_RATE)
            assert driver.rate.take()
