from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from tests.commands.conftest import Beginner
from tests.commands.given import ECHO
from tests.ports import Reactor
from wshost.commands import check, foreground, log, reload, start
from wshost.commands.one_line import Exit
from wshost.process import ending, passed_sockets, reactors
from wshost.process.passed_sockets import PassedSocket, PassedSockets


class TestMain:
    def test_check_checks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "check", lambda options: options["port"])
        assert foreground.main(["check", "--port=7"]) == 7

    def test_reload_runs_the_command_again_and_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        runs: list[Any] = []

        def run(options: Any, given: Any) -> int:
            runs.append((options["port"], given))
            return 3

        monkeypatch.setattr(reload, "run", run)
        given = ["--reload", "--port=7"]
        assert foreground.main(given) == 3
        assert runs == [(7, given)]

    def test_otherwise_it_serves_as_the_command_line_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(foreground, "run", lambda options: options["port"])
        monkeypatch.setattr(sys, "argv", ["wshost", "--port", "7"])
        assert foreground.main() == 7

    @pytest.mark.usefixtures("reactor")
    def test_reload_refuses_passed_sockets_as_its_servers_would_not_get_them(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        passed = PassedSockets((PassedSocket.of(0, "chat"),))
        monkeypatch.setattr(passed_sockets, "PASSED", passed)
        with pytest.raises(Exit):
            foreground.main(["--reload"])
        assert capfd.readouterr().err == (
            "wshost: --reload can't serve the sockets that systemd has passed: leave it out\n"
        )

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (["chek"], "unexpected argument 'chek'; see --help"),
            (["check", "--reload"], "check starts nothing: leave out --reload"),
            (["check", "--handler=nowhere"], "handler 'nowhere' can't be imported"),
            ([], "there is no handler"),
        ],
    )
    @pytest.mark.usefixtures("reactor")
    def test_what_is_wrong_is_one_line(
        self, capfd: pytest.CaptureFixture[str], given: list[str], complaint: str
    ) -> None:
        with pytest.raises(Exit):
            foreground.main(given)
        assert capfd.readouterr().err.startswith(f"wshost: {complaint}")


class Runs(Reactor):
    """A reactor that runs until a signal comes, which comes at once."""

    running = False
    _exitSignal: int | None = None

    def __init__(self, number: int | None) -> None:
        super().__init__()
        self._number = number
        self.asked: list[Any] = []

    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Any, *args: Any, **kwargs: Any) -> None:
        self.asked.append((phase, eventType, callable))

    def run(self) -> None:
        self._exitSignal = self._number
        for phase, event, call in self.asked:
            if (phase, event) == ("before", "shutdown"):
                call()


class TestRun:
    @pytest.mark.parametrize(("number", "kills"), [(signal.SIGTERM, []), (None, []), (signal.SIGINT, [signal.SIGINT])])
    def test_it_serves_until_a_signal_comes(
        self, monkeypatch: pytest.MonkeyPatch, beginner: Beginner, number: int | None, kills: list[int]
    ) -> None:
        """A shell's script ends with a program that SIGINT has ended, and goes on after one that has handled it."""
        reactor = Runs(number)
        monkeypatch.setattr(reactors, "installed", lambda: reactor)
        killed: list[int] = []
        monkeypatch.setattr(ending, "end_by", killed.append)
        assert foreground.main([*ECHO, "--port=80"]) == 0
        assert [port for port, *_ in reactor.tcpServers] == [80]
        assert killed == kills
        assert len(beginner.observers) == 1
        assert not beginner.redirected

    def test_the_log_is_begun_before_the_handler_is_imported(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        monkeypatch.setattr(log, "take_over", lambda *_: order.append("log"))

        def fail(*_: Any) -> None:
            order.append("server")
            raise ZeroDivisionError

        monkeypatch.setattr(start, "start", fail)
        with pytest.raises(ZeroDivisionError):
            foreground.main(ECHO)
        assert order == ["log", "server"]
