from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from wshost.logs.entry import LEVELS, Entry, entry


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


def logged(**event: Any) -> Entry:
    return entry({"log_level": LogLevel.info, "log_namespace": "chat", "log_time": 5.0, **event})


def failure(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException:
        return Failure()


def test_an_entry_has_the_time_the_level_the_logger_and_the_text() -> None:
    assert logged(log_format="hello {name}", name="you") == Entry(5.0, "info", "chat", "hello you")


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (LogLevel.debug, "debug"),
        (LogLevel.info, "info"),
        (LogLevel.warn, "warning"),
        (LogLevel.error, "error"),
        (LogLevel.critical, "critical"),
        (None, "info"),
    ],
)
def test_levels_have_the_names_of_pythons_logging(level: Any, name: str) -> None:
    assert logged(log_level=level).level == name
    assert name.upper() in logging.getLevelNamesMapping()


def test_the_levels_of_the_option_are_twisteds() -> None:
    assert [logged(log_level=level).level for level in LEVELS.values()] == list(LEVELS)


def test_an_event_without_anything_is_an_entry_of_now() -> None:
    before = time.time()
    made = entry({})
    assert before <= made.time <= time.time()
    assert (made.level, made.logger, made.message) == ("info", "-", "")


def test_a_failure_of_a_connection_has_its_parts() -> None:
    made = logged(
        log_namespace="wshost",
        log_format="connection {connection}: {what}\n{traceback}",
        connection="c7",
        peer="127.0.0.1:5000",
        what="it failed",
        traceback="Traceback …\nValueError\n",
    )
    assert made == Entry(
        5.0, "info", "wshost", "it failed", "c7", "127.0.0.1:5000", traceback="Traceback …\nValueError"
    )


def test_the_facts_of_an_access_log_are_those_of_the_event() -> None:
    made = logged(log_namespace="wshost.access", log_format="{line}", line="path=/", route="/", access={"path": "/"})
    assert (made.message, made.route, made.facts) == ("path=/", "/", {"path": "/"})
    assert logged(access={"path": "/"}).facts == {}


def test_a_failure_of_no_connection_names_none() -> None:
    assert logged(log_namespace="wshost", connection="-", what="it failed", traceback="").connection == ""


def test_fields_of_the_same_names_are_others_own() -> None:
    fields = {"connection": object(), "peer": ("10.0.0.1", 5), "what": "no", "traceback": "no", "warning": "no"}
    assert logged(log_format="hello", **fields) == Entry(5.0, "info", "chat", "hello")


def test_a_failure_of_twisteds_log_has_its_traceback() -> None:
    made = logged(log_format="oh", log_failure=failure(ValueError("no")))
    assert made.message == "oh"
    assert made.traceback.startswith("Traceback (most recent call last):\n")
    assert made.traceback.endswith("\nValueError: no")


def test_a_traceback_has_causes_notes_and_groups() -> None:
    error = ExceptionGroup("several", [KeyError("inner")])
    error.add_note("a note")
    error.__cause__ = ZeroDivisionError("cause")
    text = logged(log_failure=failure(error)).traceback
    assert all(part in text for part in ("ZeroDivisionError: cause", "KeyError: 'inner'", "a note", "several"))


def test_a_failure_that_was_cleaned_has_its_own_frames() -> None:
    cleaned = failure(ValueError("no"))
    assert cleaned.value
    cleaned.value.__traceback__ = None
    text = logged(log_failure=cleaned).traceback
    assert "in failure" in text
    assert text.endswith("builtins.ValueError: no")


def test_an_exception_whose_methods_fail_leaves_an_entry() -> None:
    class Broken:
        type = Unprintable
        value = Unprintable()

        def getTraceback(self) -> str:
            raise Unprintable

    assert logged(log_failure=Broken()).traceback.endswith("Unprintable'>, which can't be formatted")


class TestOlderFunctions:
    """`twisted.python.log` goes into the same log."""

    def published(self, call: Any, *args: Any, **kwargs: Any) -> Entry:
        events: list[Any] = []
        publisher = legacy.LogPublisher(publishPublisher=LogPublisher(events.append))  # type: ignore[arg-type]
        getattr(publisher, call)(*args, **kwargs)
        return entry(events[0])

    def test_a_message_is_twisteds_unless_it_names_its_system(self) -> None:
        made = self.published("msg", "hello")
        assert (made.level, made.logger, made.message) == ("info", "twisted", "hello")
        assert self.published("msg", "hello", system="chat").logger == "chat"

    @pytest.mark.parametrize(("why", "message"), [("it broke", "it broke"), (None, "Unhandled Error")])
    def test_an_error_has_its_traceback_once(self, why: str | None, message: str) -> None:
        made = self.published("msg", failure=failure(ValueError("no")), why=why, isError=1)
        assert (made.level, made.message) == ("critical", message)
        assert made.traceback.count("ValueError: no") == 1


def test_a_warning_is_of_the_logger_that_python_names_for_it() -> None:
    events: list[Any] = []
    Logger("twisted.logger._global", observer=events.append).warn(  # type: ignore[arg-type]
        "{filename}:{lineno}: {category}: {warning}",
        warning=warnings.WarningMessage("old", UserWarning, "chat.py", 8).message,
        category="builtins.UserWarning",
        filename="chat.py",
        lineno=8,
    )
    made = entry(events[0])
    assert (made.level, made.logger) == ("warning", "py.warnings")
    assert made.message == "chat.py:8: builtins.UserWarning: old"
