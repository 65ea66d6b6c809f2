from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, capturedLogs, formatEvent

from tests.ports import Reactor
from wshost.commands.log import Log, begin, take_over
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


class Beginner:
    """Begins to log."""

    def __init__(self) -> None:
        self.observers: list[Any] = []

    def beginLoggingTo(self, observers: Any, redirectStandardIO: bool = True) -> None:
        assert not redirectStandardIO
        self.observers += observers


def test_a_log_can_begin_without_signals() -> None:
    log, beginner = Log(Settings(), "log", worker="w2"), Beginner()
    before = signal.getsignal(signals.HANGUP[0])
    begin(log, "info", beginner)
    Logger("chat", observer=beginner.observers[0]).info("hello")
    assert lines()[-1].endswith("chat: [w2] hello")
    assert signal.getsignal(signals.HANGUP[0]) == before


class TestLines:
    def test_the_option_chooses_the_format(self) -> None:
        _, text = made()
        text.info("hello")
        _, program = made("json", log_format="json")
        program.info("hello")
        assert lines()[0].endswith("Z info chat: hello")
        assert json.loads(lines("json")[0])["message"] == "hello"

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
        log.reopen()
        logger.info("again")
        [first, _] = lines()
        text = json.loads(first)["message"] if format == "json" else first.partition("wshost: ")[2]
        assert text == "1 lines could not be written before this one: No space left on device"

    def test_an_event_whose_values_fail_is_told(self) -> None:
        class Bad:
            def __str__(self) -> str:
                raise RuntimeError

        log, _ = made()
        log({"log_namespace": "log_legacy", "system": Bad()})
        assert lines()[0].endswith(" error wshost: an event can't be logged: RuntimeError")

    def test_a_file_can_be_given_to_the_user_of_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[Any] = []
        monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
        made()[0].give(7, None)
        made(None)[0].give(7, None)
        assert given == [(7, -1)]

    def test_a_file_that_can_not_be_given_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "fchown", fail)
        with pytest.raises(ConfigurationError, match=r"/log: Operation not permitted$"):
            made()[0].give(7, 7)


class TestTakingOver:
    @pytest.fixture(autouse=True)
    def _restored(self, called: list[int]) -> None:
        self.called = called

    def test_records_of_pythons_logging_are_published(self) -> None:
        take_over(made()[0], "warning")
        with capturedLogs() as events:
            logging.getLogger("rooms").warning("look")
            logging.getLogger("rooms").info("hello")
        assert [(event["log_namespace"], formatEvent(event)) for event in events] == [("rooms", "look")]

    @pytest.mark.parametrize("number", signals.HANGUP)
    def test_a_signal_opens_the_file_again(self, number: int) -> None:
        log, logger = made()
        take_over(log, "info")
        logger.info("one")
        Path("log").rename("log.1")
        assert said_at(number) == f"{signal.Signals(number).name}: {Path.cwd()}/log was opened again"
        logger.info("two")
        assert self.called == [number]
        assert len(lines("log.1")) == len(lines()) == 1

    def test_a_file_that_can_not_be_opened_again_is_told_and_stays(self) -> None:
        Path("logs").mkdir()
        log, logger = made("logs/log")
        take_over(log, "info")
        Path("logs").rename("old")
        assert said_at(signal.SIGHUP).startswith("SIGHUP: the log can't be opened again: [Errno 2] No such file")
        logger.info("still")
        assert len(lines("old/log")) == 1

    def test_a_stream_stays(self, capfd: pytest.CaptureFixture[str]) -> None:
        log, logger = made(None)
        take_over(log, "info")
        assert said_at(signal.SIGUSR1) == "SIGUSR1: the log is no file"
        logger.info("still")
        assert capfd.readouterr().err.endswith(" info chat: still\n")

    def test_another_log_is_left_alone_and_the_signal_harms_nobody(self) -> None:
        take_over(None, "info")
        assert said_at(signal.SIGHUP) == "SIGHUP: this log is not wshost's"


def said_at(number: int) -> str:
    """What the log says at a signal."""
    with capturedLogs() as events:
        os.kill(os.getpid(), number)
    [event] = events
    return str(formatEvent(event))


class TestTheTerminal:
    """A server that outlives its terminal would hold its port, unseen."""

    @pytest.fixture(autouse=True)
    def _prepared(self, called: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = True
        self.ends: list[Any] = []
        kill = os.kill
        monkeypatch.setattr(os, "isatty", lambda stream: stream == 0 and self.open)
        monkeypatch.setattr(
            os, "kill", lambda pid, number: self.ends.append(number) if number == signal.SIGTERM else kill(pid, number)
        )

    def test_when_it_is_closed_the_process_ends(self) -> None:
        take_over(made()[0], "info")
        os.kill(os.getpid(), signal.SIGHUP)
        assert self.ends == []
        self.open = False
        os.kill(os.getpid(), signal.SIGHUP)
        assert self.ends == [signal.SIGTERM]

    @pytest.mark.parametrize("how", ["daemon", "nohup"])
    def test_a_daemon_outlives_it_and_so_does_what_was_started_by_nohup(self, how: str) -> None:
        if how == "nohup":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        take_over(made()[0], "info", daemon=how == "daemon")
        self.open = False
        os.kill(os.getpid(), signal.SIGHUP)
        assert self.ends == []
