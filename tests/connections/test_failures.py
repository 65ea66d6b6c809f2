from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    capturedLogs,
    eventAsJSON,
    eventsFromJSONLogFile,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from wshost.connections.failures import Failures, asks_to_exit
from wshost.logs.limit import MOST, PERIOD
from wshost.logs.text import LENGTH


class Failing:
    """Fails on purpose, has the failures logged, and returns the events of the log."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.failures = Failures(self.clock)
        self.peer: Callable[[], str] | None = None
        self.route: str | None = None

    def __call__(self, error: BaseException | None = None, times: int = 1) -> list[Any]:
        with capturedLogs() as events:
            for _ in range(times):
                try:
                    raise error or ValueError("on purpose")
                except Exception:
                    self.failures.log("c7", "the module failed", self.peer, self.route)
        return list(events)


@pytest.fixture
def fail() -> Failing:
    return Failing()


def as_file(event: Any) -> str:
    """Return the lines that twistd's log has about an event."""
    file = io.StringIO()
    textFileLogObserver(file)(event)
    return file.getvalue()


class TestLog:
    def test_a_failure_is_logged_with_its_connection_and_traceback(self, fail: Failing) -> None:
        [event] = fail()
        assert event["log_level"] is LogLevel.error
        assert event["connection"] == "c7"
        first, *trace = as_file(event).splitlines()
        assert first.endswith("connection c7: the module failed")
        assert trace[0] == "\tTraceback (most recent call last):"
        assert 'raise error or ValueError("on purpose")' in trace[2]
        assert trace[-1] == "\tValueError: on purpose"

    def test_the_event_has_the_failure(self, fail: Failing) -> None:
        error = ValueError("on purpose")
        [event] = fail(error)
        assert isinstance(event["failure"], Failure)
        assert event["failure"].value is error

    def test_the_event_can_be_written_as_json(self, fail: Failing) -> None:
        [event] = fail()
        [read] = eventsFromJSONLogFile(io.StringIO("\x1e" + eventAsJSON(event) + "\n"))
        assert read["connection"] == "c7"


class TestThePeer:
    @pytest.mark.parametrize(("peer", "address"), [(lambda: "127.0.0.1:5000", "127.0.0.1:5000"), (None, "")])
    def test_the_event_has_its_address(self, fail: Failing, peer: Any, address: str) -> None:
        fail.peer = peer
        [event] = fail()
        assert event["peer"] == address

    def test_the_event_has_the_route(self, fail: Failing) -> None:
        fail.route = "/chat/*"
        [event] = fail()
        assert event["route"] == "/chat/*"
        fail.route = None
        [event] = fail()
        assert event["route"] == ""

    def test_an_address_that_can_not_be_told_leaves_the_failure(self, fail: Failing) -> None:
        """Any kind of transport may fail."""
        fail.peer = lambda: str(1 / 0)
        [event] = fail()
        assert (event["peer"], event["what"]) == ("", "the module failed")


class TestWhatAPeerSays:
    """CWE-117: what a peer has sent may be in the text of an exception."""

    def test_a_peers_words_can_not_forge_a_line_of_the_log(self, fail: Failing) -> None:
        [event] = fail(ValueError("x\r\n2026-01-01T00:00:00+0000 [-] \x1b[1mroot\x85logged in"))
        lines = as_file(event).splitlines()
        assert all(line.startswith("\t") for line in lines[1:])
        assert lines[-1] == r"	2026-01-01T00:00:00+0000 [-] \x1b[1mroot\x85logged in"


class TestLength:
    def test_a_peers_long_message_is_cut_and_the_traceback_stays(self, fail: Failing) -> None:
        [event] = fail(ValueError("x" * 1_000_000))
        text = as_file(event)
        assert len(text) < LENGTH + 200
        assert 'raise error or ValueError("on purpose")' in text


class TestRate:
    def test_only_the_first_failures_of_a_period_are_logged(self, fail: Failing) -> None:
        assert len(fail(times=MOST)) == MOST
        assert fail(times=1_000) == []

    def test_failures_left_out_are_counted_and_the_count_is_logged(self, fail: Failing) -> None:
        fail(times=MOST + 7)
        fail.clock.advance(PERIOD - 0.1)
        assert fail() == []
        assert fail.failures.left_out == 8
        fail.clock.advance(0.1)
        first, second = fail()
        assert as_file(first).endswith("8 more failures were not logged\n")
        assert second["what"] == "the module failed"

    def test_no_count_is_logged_when_no_failure_was_left_out(self, fail: Failing) -> None:
        fail(times=MOST)
        fail.clock.advance(PERIOD)
        assert len(fail()) == 1

    def test_a_period_begins_with_a_failure(self, fail: Failing) -> None:
        fail.clock.advance(1_000)
        fail()
        fail.clock.advance(PERIOD - 1)
        assert len(fail(times=MOST)) == MOST - 1


class Unspeakable(Exception):
    """Can't be formatted."""

    def __getattribute__(self, name: str) -> object:
        if name == "__notes__":
            raise GeneratorExit
        return super().__getattribute__(name)


class TestALogThatFails:
    def test_an_error_of_the_log_is_ignored(self, fail: Failing) -> None:
        seen: list[LogEvent] = []

        @implementer(ILogObserver)
        def broken(event: LogEvent) -> None:
            seen.append(event)
            raise GeneratorExit

        globalLogPublisher.addObserver(broken)
        try:
            fail()
        finally:
            globalLogPublisher.removeObserver(broken)
        assert [event["connection"] for event in seen] == ["c7"]

    def test_an_exception_that_can_not_be_formatted_is_named(self, fail: Failing) -> None:
        [event] = fail(Unspeakable())
        assert "in __call__" in event["traceback"]
        assert event["traceback"].endswith("Unspeakable, which can't be formatted")

    def test_without_an_exception_to_log_a_lookup_error_is_raised(self, fail: Failing) -> None:
        with pytest.raises(LookupError, match="no exception to log"):
            fail.failures.log("c7", "nothing failed")


class TestWhoAsksTheProcessToEnd:
    @pytest.mark.parametrize(
        ("error", "asks"),
        [
            (SystemExit(3), True),
            (KeyboardInterrupt(), True),
            (BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [SystemExit(3)])]), True),
            (BaseExceptionGroup("", [GeneratorExit()]), False),
            (GeneratorExit(), False),
            (ValueError(), False),
        ],
    )
    def test_an_exit_also_in_a_group_is_passed_on(self, error: BaseException, asks: bool) -> None:
        left: list[BaseException] = []
        failures = Failures(Clock(), left.append)
        try:
            raise error
        except BaseException:
            failures.log("c7", "the handler failed")
        assert len(left) == asks
        assert asks_to_exit(error) is (left[0] if asks else None)
