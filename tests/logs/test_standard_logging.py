from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogPublisher, STDLibLogObserver

from wshost.logs import standard_logging
from wshost.logs.entry import Entry, entry
from wshost.logs.standard_logging import Publisher

log = logging.getLogger("chat.rooms")


@pytest.fixture
def entries() -> Iterator[list[Entry]]:
    """What is published, while `logging` is ours."""
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    root.handlers[:] = []
    found: list[Entry] = []
    standard_logging.publish(lambda event: found.append(entry(event)), "info")  # type: ignore[arg-type]
    yield found
    logging.captureWarnings(False)
    warnings.showwarning = show
    root.handlers[:] = handlers
    root.setLevel(level)


def take(entries: list[Entry]) -> Entry:
    [one] = entries
    entries.clear()
    return one


@pytest.mark.parametrize("level", ["info", "warning", "error", "critical"])
def test_a_record_is_published_with_its_level_and_logger(entries: list[Entry], level: str) -> None:
    getattr(log, level)("hello %s", "you")
    made = take(entries)
    assert (made.level, made.logger, made.message) == (level, "chat.rooms", "hello you")


def test_what_is_less_important_is_left_out(entries: list[Entry]) -> None:
    log.debug("hello")
    assert entries == []


def test_a_level_of_ones_own_is_the_next_lower_one(entries: list[Entry]) -> None:
    log.log(logging.INFO + 5, "hello")
    assert take(entries).level == "info"


def test_the_lowest_level_is_debug(entries: list[Entry]) -> None:
    logging.getLogger().setLevel(1)
    log.log(3, "hello")
    assert take(entries).level == "debug"


def test_an_exception_is_published_with_its_traceback(entries: list[Entry]) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("oh")
    made = take(entries)
    assert made.message == "oh"
    assert made.traceback.endswith("\nValueError: no")


def test_no_exception_is_no_traceback(entries: list[Entry]) -> None:
    log.error("oh", exc_info=True)
    assert take(entries).traceback == ""


def test_a_stack_is_a_part_of_the_text(entries: list[Entry]) -> None:
    log.warning("here", stack_info=True)
    first, second, *_ = take(entries).message.splitlines()
    assert (first, second) == ("here", "Stack (most recent call last):")


def test_arguments_that_do_not_fit_are_told_with_the_message() -> None:
    events: list[Any] = []
    record = logging.LogRecord("chat", logging.INFO, __file__, 1, "hello %d", ("you",), None)
    Publisher(events.append).emit(record)  # type: ignore[arg-type]
    assert entry(events[0]).message.startswith("'hello %d', whose arguments don't fit: TypeError(")


def test_braces_stay_as_they_are(entries: list[Entry]) -> None:
    log.info("{text} {nothing}")
    assert take(entries).message == "{text} {nothing}"


def test_a_warning_is_published(entries: list[Entry]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    made = take(entries)
    assert (made.level, made.logger) == ("warning", "py.warnings")
    assert "UserWarning: old" in made.message


def test_it_can_be_said_anew_how_much_is_published(entries: list[Entry]) -> None:
    more: list[Any] = []
    standard_logging.publish(more.append, "warning")  # type: ignore[arg-type]
    log.info("hello")
    log.warning("look")
    assert entries == []
    assert [event["text"] for event in more] == ["look"]


def test_an_observer_that_fails_does_not_fail_who_logs() -> None:
    def fail(_: Any) -> None:
        raise OSError

    record = logging.LogRecord("chat", logging.INFO, __file__, 1, "hello", (), sys.exc_info())
    Publisher(fail).emit(record)  # type: ignore[arg-type]


def test_a_message_that_can_not_be_shown_does_not_fail_who_logs() -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    events: list[Any] = []
    record = logging.LogRecord("chat", logging.INFO, __file__, 1, Bad(), (), None)
    Publisher(events.append).emit(record)  # type: ignore[arg-type]
    assert ", whose arguments don't fit: RuntimeError()" in events[0]["text"]


def test_an_observer_that_logs_the_same_again_gets_it_once(entries: list[Entry]) -> None:
    """The application may give Twisted's events to `logging`."""
    events: list[Any] = []
    publisher = LogPublisher(events.append, STDLibLogObserver("bridge"))  # type: ignore[arg-type]
    standard_logging.publish(publisher, "info")
    log.info("hello")
    assert [event["text"] for event in events] == ["hello"]
