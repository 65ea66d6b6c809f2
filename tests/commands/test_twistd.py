from __future__ import annotations

import gc
import logging
import os
import pdb
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.protocols.wire import Discard
from twisted.scripts._twistd_unix import ServerOptions
from zope.interface.verify import verifyObject

from tests.commands.conftest import Beginner
from tests.commands.given import ECHO, parsed, twistd
from tests.ports import Reactor
from wshost import chain
from wshost.cluster.exchange import SHARED
from wshost.commands import log
from wshost.commands.one_line import Exit
from wshost.commands.twistd import Options, makeService
from wshost.logs.limit import MOST, PERIOD
from wshost.process import ending, open_files
from wshost.protocols.websocket import on_demand

asyncio_log = logging.getLogger("asyncio")
discard = Factory.forProtocol(Discard)


def fail(*args: Any, **kwargs: Any) -> None:
    raise CannotListenError(None, b"/run/x", "Cannot acquire lock")


class TestTheReactor:
    def test_the_reactor_is_installed_when_the_command_line_is_read(self, installed: list[bool]) -> None:
        parsed()
        assert installed == [False]

    @pytest.mark.parametrize(("given", "daemon"), [([], True), (["--nodaemon"], False)])
    def test_the_reactor_is_chosen_for_a_daemon_where_twistd_makes_one(
        self, installed: list[bool], given: list[str], daemon: bool
    ) -> None:
        ServerOptions().parseOptions([*given, "wshost", *ECHO])
        assert installed == [daemon]

    def test_a_debugged_process_is_no_daemon(self, installed: list[bool]) -> None:
        options = Options()
        options.parent = {"nodaemon": 0, "debug": True}  # type: ignore[assignment]
        options.postOptions()
        assert installed == [False]


class TestTwistdsFiles:
    """Twistd itself shows a traceback, long after the mistake was made."""

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (["--pidfile=none/pid"], "--pidfile: none/pid: No such file or directory"),
            (["--pidfile=folder"], "--pidfile: folder: Is a directory"),
            (["--pidfile=locked/pid"], "--pidfile: locked/pid: Permission denied"),
            (["--pidfile=read-only"], "--pidfile: read-only: Permission denied"),
        ],
    )
    def test_twistds_files_that_cannot_be_written_are_named(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        given: Any,
        complaint: str,
    ) -> None:
        for name in ("folder", "locked"):
            Path(name).mkdir()
        Path("read-only").touch()
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name not in {"locked", "read-only"})
        with pytest.raises(Exit):
            ServerOptions().parseOptions([*given, "wshost", *ECHO])
        assert capfd.readouterr().err == f"wshost: {complaint}\n"

    @pytest.mark.parametrize(
        "given",
        [
            [],
            ["--pidfile=", "--logfile=log"],
            ["--nodaemon", "--logfile=-"],
            ["--syslog", "--logfile=none/log"],
            ["--logger=builtins.print", "--logfile=none/log"],
            ["--chroot=/", "--pidfile=/none/pid"],
        ],
    )
    def test_twistds_files_that_can_be_written_are_left_alone(self, given: list[str]) -> None:
        ServerOptions().parseOptions([*given, "wshost", *ECHO])
        assert list(Path().iterdir()) == []


class TestMakeService:
    def test_the_server_listens_before_the_reactor_runs(self, reactor: Reactor) -> None:
        server = makeService(parsed(*ECHO, "--port", "80"))
        assert verifyObject(IService, server)
        assert [port for port, *_ in reactor.tcpServers] == [80]
        server.privilegedStartService()
        server.startService()
        assert len(reactor.tcpServers) == 1

    @pytest.mark.usefixtures("reactor")
    def test_the_garbage_collector_leaves_out_what_was_loaded(self) -> None:
        gc.unfreeze()
        makeService(parsed(*ECHO))
        assert gc.get_freeze_count()

    @pytest.mark.usefixtures("reactor")
    def test_handlers_beside_the_configuration_are_found(self, tmp_path: Path) -> None:
        folder = tmp_path / "etc"
        folder.mkdir()
        (folder / "handler_beside_it.py").write_text("init = handle = print\n", encoding="ascii")
        (folder / "chat.toml").write_text("handler = 'handler_beside_it'\n", encoding="ascii")
        assert makeService(parsed("--config", "etc/chat.toml"))

    def test_unix_sockets_are_left_to_the_daemon(self, reactor: Reactor) -> None:
        server = makeService(parsed(*ECHO, "--listen", "unix:/run/x"))
        assert reactor.unixServers == []
        server.privilegedStartService()
        assert len(reactor.unixServers) == 1

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ([], "there is no handler: name one with --handler, or with --route for each path"),
            ([*ECHO, "--tls-cert", "none.pem"], "none.pem: No such file or directory"),
            ([*ECHO, "--config", "none.toml"], "none.toml: No such file or directory"),
            ([*ECHO, "--listen", "nope:"], "listen: 'nope:': Unknown endpoint type: 'nope'"),
        ],
    )
    @pytest.mark.usefixtures("reactor")
    def test_what_prevents_a_start_ends_the_process_with_one_line(
        self, capfd: pytest.CaptureFixture[str], given: list[str], complaint: str
    ) -> None:
        options = parsed(*given)
        with pytest.raises(Exit):
            makeService(options)
        assert capfd.readouterr() == ("", f"wshost: {complaint}\n")

    @pytest.mark.parametrize("start", ["privilegedStartService", "startService"])
    def test_a_unix_socket_that_cannot_be_had_ends_the_process_with_one_line(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], start: str
    ) -> None:
        server = makeService(parsed(*ECHO, "--listen", "unix:/run/x"))
        monkeypatch.setattr(reactor, "listenUNIX", fail)
        with pytest.raises(Exit):
            getattr(server, start)()
        assert capfd.readouterr().err == "wshost: can't listen on unix:/run/x: Cannot acquire lock\n"

    def test_an_interrupt_while_the_handler_is_imported_leaves_no_traceback(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Importing a handler may take its time."""
        quiet: list[Any] = []
        monkeypatch.setattr(ending, "interrupt_quietly", quiet.append)
        monkeypatch.setattr(chain, "build", lambda *_: quiet.append("built"))
        with pytest.raises(TypeError):
            makeService(parsed(*ECHO))
        assert quiet == [reactor, "built"]

    def test_a_backplane_that_cannot_connect_ends_the_process_with_one_line(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        connecting: Deferred[None] = Deferred()
        monkeypatch.setattr(SHARED, "connect", lambda *_: connecting)
        left: list[Any] = []
        monkeypatch.setattr(ending, "leave", lambda *args: left.append(args))
        makeService(parsed(*ECHO)).startService()
        connecting.errback(OSError(111, "Connection refused"))
        assert capfd.readouterr().err == "wshost: the backplane can't connect: [Errno 111] Connection refused\n"
        [(stopped, error)] = left
        assert stopped is reactor
        assert error.code == 1

    @pytest.mark.parametrize(
        ("given", "limit", "said"),
        [
            ((), 10_049, ["max-connections is 10000"]),
            ((), 10_050, []),
            (("--max-connections", "100"), 149, ["max-connections is 100"]),
            (("--max-connections", "100"), 150, []),
            (("--max-connections", "100"), None, []),
        ],
    )
    @pytest.mark.usefixtures("reactor")
    def test_too_few_descriptors_are_warned_of(
        self, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], limit: int | None, said: list[str]
    ) -> None:
        monkeypatch.setattr(open_files, "raise_limit", lambda: limit)
        with capturedLogs() as events:
            makeService(parsed(*ECHO, *given))
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        assert [str(formatEvent(event)).partition(",")[0] for event in warnings] == said


class TestWhatIsImportedLater:
    """Autobahn is not needed to serve the first connections."""

    @pytest.fixture
    def loads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The threads in which it is imported."""
        loads: list[str] = []
        monkeypatch.setattr(open_files, "raise_limit", lambda: None)
        monkeypatch.setattr(on_demand, "load", lambda: loads.append(threading.current_thread().name))
        return loads

    def test_it_is_imported_in_a_thread_once_the_server_serves(self, reactor: Reactor, loads: list[str]) -> None:
        reactor.running = False
        server = makeService(parsed(*ECHO))
        server.privilegedStartService()
        server.startService()
        assert loads == []
        for call, args, options in reactor.whenRunningHooks:
            call(*args, **options)
        for thread in threading.enumerate():
            if thread.name == "wshost-load":
                thread.join()
        assert loads == ["wshost-load"]

    @pytest.mark.parametrize("given", ["--chroot=/srv", "--uid=0", "--gid=0"])
    @pytest.mark.usefixtures("reactor")
    def test_it_is_imported_before_twistd_may_lose_sight_of_its_files(self, loads: list[str], given: str) -> None:
        makeService(twistd(given, "wshost", *ECHO))
        assert loads == [threading.current_thread().name]

    @pytest.mark.parametrize(("limit", "at_once"), [(278, False), (277, True)])
    @pytest.mark.usefixtures("reactor")
    def test_it_is_imported_at_once_where_connections_may_take_all_descriptors(
        self, loads: list[str], monkeypatch: pytest.MonkeyPatch, limit: int, at_once: bool
    ) -> None:
        monkeypatch.setattr(open_files, "raise_limit", lambda: limit)
        makeService(parsed(*ECHO, "--max-connections=100"))
        assert bool(loads) is at_once

    @pytest.mark.usefixtures("reactor")
    def test_a_chain_without_websocket_never_needs_it(self, loads: list[str]) -> None:
        module = "factory,factory=tests.commands.test_twistd.discard"
        makeService(twistd("--uid=0", "wshost", f"--protocol-module={module}"))
        assert loads == []


class TestTheLog:
    """A peer may be the reason for what Twisted and asyncio log."""

    @pytest.fixture(autouse=True)
    def _restored(self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(reactor, "callFromThread", lambda call, *args: call(*args), raising=False)
        filters = asyncio_log.filters[:]
        yield
        asyncio_log.filters[:] = filters

    def test_what_twisted_logs_is_limited_and_what_handlers_log_is_not(
        self, reactor: Reactor, beginner: Beginner
    ) -> None:
        makeService(parsed(*ECHO))
        makeService(parsed(*ECHO))
        events: list[Any] = []
        more: list[Any] = []
        beginner.beginLoggingTo([events.append, more.append], redirectStandardIO=False)
        assert vars(beginner).keys() == {"observers", "redirected"}
        assert not beginner.redirected
        (observer,) = beginner.observers
        for _ in range(MOST + 7):
            Logger("twisted.internet.tcp", observer=observer).info("a socket is closed")
            Logger("chat", observer=observer).info("mine")
        assert events == more
        assert [event["log_namespace"] for event in events].count("twisted.internet.tcp") == MOST
        assert [event["log_namespace"] for event in events].count("chat") == MOST + 7
        # Then it says how many it has left out.
        assert [call.getTime() for call in reactor.getDelayedCalls()] == [pytest.approx(PERIOD, rel=0.1)]

    @pytest.mark.usefixtures("reactor")
    def test_what_asyncio_logs_is_limited(self, beginner: Beginner) -> None:
        makeService(parsed(*ECHO))
        beginner.beginLoggingTo([lambda _: None])
        records: list[Any] = []
        handler: Any = logging.Handler()
        handler.emit = records.append
        asyncio_log.addHandler(handler)
        for _ in range(MOST + 7):
            asyncio_log.error("Exception in callback")
        asyncio_log.removeHandler(handler)
        assert len(records) == MOST


class TestTheFormOfTheLog:
    """The log is ours, unless twistd's own options name another."""

    @pytest.fixture(autouse=True)
    def _taken(self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "take_over", lambda *_: None)

    @pytest.mark.parametrize(
        ("given", "file"),
        [
            ([], "twistd.log"),
            (["--logfile=theirs"], "theirs"),
            (["--nodaemon", "--logfile=theirs"], "theirs"),
        ],
    )
    def test_the_log_is_where_twistd_has_its_own(self, given: list[str], file: str) -> None:
        options = twistd(*given, "wshost", *ECHO)
        makeService(options)
        Logger("chat", observer=options.twistd["logger"]()).info("hello")
        assert [path.name for path in Path().iterdir()] == [file]
        assert Path(file).read_text(encoding="utf-8").endswith(" info chat: hello\n")

    @pytest.mark.parametrize("given", [[], ["--logfile=-"]])
    def test_in_the_foreground_the_log_is_stdout(self, given: list[str], capfd: pytest.CaptureFixture[str]) -> None:
        options = twistd("--nodaemon", *given, "wshost", *ECHO, "--log-format=json")
        makeService(options)
        Logger("chat", observer=options.twistd["logger"]()).info("hello")
        assert '"message": "hello"' in capfd.readouterr().out

    def test_a_log_that_can_not_be_opened_is_named(self, capfd: pytest.CaptureFixture[str]) -> None:
        Path("twistd.log").mkdir()
        with pytest.raises(Exit):
            makeService(twistd("wshost", *ECHO))
        assert capfd.readouterr().err == "wshost: --logfile: twistd.log: Is a directory\n"
        assert makeService(twistd("wshost", *ECHO, "--log-file=log"))

    def test_the_log_belongs_to_the_user_of_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[Any] = []
        monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
        makeService(twistd("--uid=7", "wshost", *ECHO))
        assert given == [(7, -1)]

    @pytest.mark.parametrize("given", [["--syslog"], ["--logger=builtins.print"], None])
    def test_another_log_gets_the_applications_logging_too(
        self, given: list[str] | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[Any] = []
        monkeypatch.setattr(log, "take_over", lambda *args: taken.append(args))
        makeService(parsed(*ECHO) if given is None else twistd("--nodaemon", *given, "wshost", *ECHO))
        assert taken == [(None, "info", False)]

    @pytest.mark.parametrize("given", [["--syslog"], ["--logger=builtins.print"], None])
    @pytest.mark.parametrize("option", ["--log-format=json", "--log-level=info", "--log-file=log"])
    def test_another_log_has_no_options_of_ours(
        self, given: list[str] | None, option: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        options = parsed(*ECHO, option) if given is None else twistd(*given, "wshost", *ECHO, option)
        with pytest.raises(Exit):
            makeService(options)
        name = option.partition("=")[0][2:]
        assert (
            capfd.readouterr().err == f"wshost: {name}: this log is not wshost's, but twist's, syslog's or --logger's\n"
        )


class TestBreakpoints:
    """twistd takes sys.stdout for its log."""

    @pytest.fixture(autouse=True)
    def _hook(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "breakpointhook", sys.__breakpointhook__)
        monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)

    def test_in_the_foreground_the_debugger_talks_to_the_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Python's debugger itself would end the measuring of coverage; tests/integration/test_operating.py uses it."""

        class Debugger:
            stopped_at: list[str] = []  # noqa: RUF012 - of one test

            def __init__(self, stdin: Any, stdout: Any) -> None:
                assert (stdin, stdout) == (sys.__stdin__, sys.__stdout__)

            def set_trace(self, frame: Any) -> None:
                self.stopped_at.append(frame.f_code.co_name)

        monkeypatch.setattr(pdb, "Pdb", Debugger)
        twistd("--nodaemon", "wshost", *ECHO)
        breakpoint()
        assert Debugger.stopped_at == ["test_in_the_foreground_the_debugger_talks_to_the_terminal"]

    def test_what_the_environment_says_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONBREAKPOINT", "builtins.print")
        twistd("--nodaemon", "wshost", *ECHO)
        assert sys.breakpointhook is sys.__breakpointhook__

    def test_a_daemon_has_no_terminal(self) -> None:
        twistd("wshost", *ECHO)
        assert sys.breakpointhook is sys.__breakpointhook__
