from __future__ import annotations

import json
import logging
import os
import pty
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent

from tests.ports import Reactor
from wshost.commands.log import Log
from wshost.process import signals
from wshost.results import ConfigurationError
from wshost.settings.options import Settings


def made(path: str | None = "log", **given: Any) -> tuple[Log, Logger]:
    """A log, and a logger that logs to it."""
    log = Log(Settings(**given), path)
    return log, Logger("chat", observer=log)


def lines(name: str = "log") -> list[str]:
    return Path(name).read_text(encoding="utf-8").splitlines()


@pytest.fixture
def called(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that were told, as if the reactor ran."""
    numbers: list[int] = []

    def call(function: Any, number: int) -> None:
        numbers.append(number)
        function(number)

    monkeypatch.setattr(reactor, "callFromThread", call, raising=False)
    return numbers


class TestLines:
    def test_the_option_chooses_the_format(self) -> None:
        _, text = made()
        text.info("hello")
        _, program = made("json", log_format="json")
        program.info("hello")
        assert lines()[0].endswith("Z info chat: hello")
        assert json.loads(lines("json")[0])["message"] == "hello"

    @pytest.mark.parametrize(
        ("level", "logged"),
        [("debug", 5), ("info", 4), ("warning", 3), ("error", 2)],
    )
    def test_what_is_less_important_is_left_out(self, level: str, logged: int) -> None:
        _, logger = made(log_level=level)
        for one in LogLevel.iterconstants():
            logger.emit(one, "hello")
        assert len(lines()) == logged

    def test_the_option_names_the_file(self) -> None:
        _, logger = made("twistd.log", log_file="ours")
        logger.info("hello")
        assert len(lines("ours")) == 1
        assert not Path("twistd.log").exists()

    def test_without_a_file_it_is_the_stream(self, capfd: pytest.CaptureFixture[str]) -> None:
        _, logger = made(None)
        logger.info("hello")
        assert capfd.readouterr().err.endswith(" info chat: hello\n")

    def test_a_file_that_can_not_be_opened_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^log-file: none/log: No such file or directory$"):
            made(log_file="none/log")

    @pytest.mark.parametrize("format", ["text", "json"])
    def test_lost_lines_are_told_in_the_format(self, format: str) -> None:
        Path("log").symlink_to("/dev/full")
        log, logger = made(log_format=format)
        logger.info("hello")
        Path("log").unlink()
        log.hang_up(signal.SIGHUP)
        logger.info("again")
        [first, _] = lines()
        text = json.loads(first)["message"] if format == "json" else first.partition("wshost: ")[2]
        assert text == "1 lines could not be written before this one: No space left on device"


class TestTakingOver:
    @pytest.fixture(autouse=True)
    def _restored(self, called: list[int]) -> None:
        self.called = called

    def test_records_of_pythons_logging_are_published(self) -> None:
        log, _ = made(log_level="warning")
        log.take_over()
        with capturedLogs() as events:
            logging.getLogger("rooms").warning("look")
            logging.getLogger("rooms").info("hello")
        assert [(event["log_namespace"], formatEvent(event)) for event in events] == [("rooms", "look")]

    @pytest.mark.parametrize("number", signals.HANGUP)
    def test_a_signal_opens_the_file_again(self, number: int) -> None:
        log, logger = made()
        log.take_over()
        logger.info("one")
        Path("log").rename("log.1")
        with capturedLogs() as events:
            os.kill(os.getpid(), number)
        logger.info("two")
        assert self.called == [number]
        assert [formatEvent(event) for event in events] == [f"{signal.Signals(number).name}: the log was opened again"]
        assert len(lines("log.1")) == len(lines()) == 1

    def test_a_file_that_can_not_be_opened_again_is_told_and_stays(self) -> None:
        Path("logs").mkdir()
        log, logger = made("logs/log")
        Path("logs").rename("old")
        with capturedLogs() as events:
            log.hang_up(signal.SIGHUP)
        logger.info("still")
        [event] = events
        why = f"SIGHUP: the log can't be opened again: {Path('logs/log').absolute()}: No such file or directory"
        assert (event["log_level"], formatEvent(event)) == (LogLevel.error, why)
        assert len(lines("old/log")) == 1

    def test_a_stream_stays(self, capfd: pytest.CaptureFixture[str]) -> None:
        log, logger = made(None)
        with capturedLogs() as events:
            log.hang_up(signal.SIGUSR1)
        logger.info("still")
        assert [formatEvent(event) for event in events] == ["SIGUSR1: the log is no file"]
        assert capfd.readouterr().err.endswith(" info chat: still\n")


class TestTheTerminal:
    def test_a_terminal_that_is_closed_ends_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise it would live on, unseen, and hold its port."""
        ends: list[Any] = []
        monkeypatch.setattr(os, "kill", lambda *args: ends.append(args))
        ours, terminal = pty.openpty()
        log = Log(Settings(), None, terminal)
        log.hang_up(signal.SIGHUP)
        assert ends == []
        os.close(ours)
        log.hang_up(signal.SIGHUP)
        assert ends == [(os.getpid(), signal.SIGTERM)]
        os.close(terminal)

    def test_a_log_in_a_file_outlives_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ends: list[Any] = []
        monkeypatch.setattr(os, "kill", lambda *args: ends.append(args))
        log, _ = made()
        log.hang_up(signal.SIGHUP)
        assert ends == []
