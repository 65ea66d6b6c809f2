from __future__ import annotations

import gc
import logging
import os
import re
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

import wshost
from tests.ports import Reactor
from wshost import chain, command
from wshost.backplanes.memory import SHARED
from wshost.command import Exit, Options, makeService, one_line
from wshost.process import ending, open_files, reactors
from wshost.process.log_limit import MOST, PERIOD
from wshost.protocols.websocket import on_demand
from wshost.results import ConfigurationError
from wshost.settings.options import OPTIONS, Settings

asyncio_log = logging.getLogger("asyncio")

ECHO = ["--handler", "wshost.handlers.echo"]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
    """For which kinds of process a reactor was installed: daemons or not."""
    kinds: list[bool] = []
    monkeypatch.setattr(reactors, "choose", lambda *, daemon: kinds.append(daemon))
    monkeypatch.setattr(ending, "interrupt_quietly", lambda _: None)
    monkeypatch.chdir(tmp_path)
    return kinds


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """What a command changes is changed for the process."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.fixture(autouse=True)
def beginner(monkeypatch: pytest.MonkeyPatch) -> Beginner:
    beginner = Beginner()
    monkeypatch.setattr(command, "globalLogBeginner", beginner)
    return beginner


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Reactor:
    reactor = Reactor()
    monkeypatch.setattr(reactors, "installed", lambda: reactor)
    return reactor


class Beginner:
    """Begins to log."""

    def __init__(self) -> None:
        self.observers: list[Any] = []
        self.redirected = True

    def beginLoggingTo(self, observers: Any, redirectStandardIO: bool = True) -> None:
        self.observers += observers
        self.redirected = redirectStandardIO


def parsed(*given: str) -> Options:
    options = Options()
    options.parseOptions(list(given))
    return options


discard = Factory.forProtocol(Discard)


def twistd(*given: str) -> Options:
    """The options of wshost within those of twistd."""
    options = ServerOptions()
    options.parseOptions(list(given))
    ours: Options = options.subOptions
    return ours


def fail(*args: Any, **kwargs: Any) -> None:
    raise CannotListenError(None, b"/run/x", "Cannot acquire lock")


class TestTheCommandLine:
    def test_options_become_settings(self) -> None:
        options = parsed(
            *("--port", "0", "--origin", "https://a.example", "--origin=https://b.example", "--compress"),
            *("--handler", "chat", "--handler-option", "room=1", "--handler-option", "size=2", "--route", "/a=b"),
            *("--max-message-size", "64KiB", "--ping-interval", "2.5", "--protocol-module", "http,timeout=2.5"),
            *("--protocol-module", "websocket"),
        )
        assert options.settings() == Settings(
            port=0,
            origin=["https://a.example", "https://b.example"],
            compress=True,
            handler="chat",
            handler_option={"room": "1", "size": "2"},
            route={"/a": "b"},
            max_message_size=65_536,
            ping_interval=2.5,
            protocol_module=[("http", {"timeout": 2.5}), ("websocket", {})],
        )

    def test_options_win_over_those_of_the_file(self) -> None:
        Path("chat.toml").write_text("port = 1\ncompress = true\norigin = ['*']\n", encoding="ascii")
        options = parsed("--config", "chat.toml", "--port", "2", "--origin", "https://a.example")
        assert options.settings() == Settings(port=2, compress=True, origin=["https://a.example"])

    @pytest.mark.parametrize("name", OPTIONS)
    def test_every_option_can_be_given(self, name: str) -> None:
        option = OPTIONS[name]
        text = {"KEY=VALUE": "a=1", "PATH=HANDLER": "/a=b", "SIZE": "64KiB"}.get(option.kind.metavar, "1")
        options = parsed(f"--{option.dashed}{'=' * bool(option.kind.metavar)}{text * bool(option.kind.metavar)}")
        assert options[name] == option.kind.add(None, text)

    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            (["--prt", "1"], "option --prt not recognized; see --help"),
            (["--port"], "option --port requires argument; see --help"),
            (["--port", "http"], "--port: 'http' is not a whole number from 0 to 65535"),
            (["--compress=yes"], "option --compress must not have an argument; see --help"),
            (["--max-output", "5MB"], "--max-output: '5MB' is not a size from 1 to 2147483648, such as 65536 or 64KiB"),
            (["--route", "/chat"], "--route: '/chat' is not PATH=HANDLER"),
            (["chat"], "unexpected argument 'chat'; see --help"),
        ],
    )
    def test_a_wrong_option_ends_the_process_with_one_line(
        self, capfd: pytest.CaptureFixture[str], given: list[str], complaint: str
    ) -> None:
        with pytest.raises(Exit) as caught:
            parsed(*given)
        assert caught.value.code == 1
        assert capfd.readouterr() == ("", f"wshost: {complaint}\n")

    def test_version_prints_the_version_and_which_form_runs(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            parsed("--version")
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"wshost {wshost.__version__} ({wshost.compiled.form()})\n"


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
            (["--logfile=none/log"], "--logfile: none/log: No such file or directory"),
            (["--logfile=folder"], "--logfile: folder: Is a directory"),
            (["--logfile=locked/log"], "--logfile: locked/log: Permission denied"),
            (["--logfile=read-only"], "--logfile: read-only: Permission denied"),
            (["--pidfile=", "--rundir=/"], "--logfile: twistd.log: Is a directory"),
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
        for name in ("folder", "locked", "twistd.log"):
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


class TestTheHelp:
    def test_help_prints_the_help_and_ends_the_process(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            ServerOptions().parseOptions(["wshost", "--help"])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith("Usage: twistd [options] wshost [options]\n")

    @pytest.mark.parametrize("name", [*OPTIONS, "config", "version", "help"])
    def test_the_help_lists_every_option_once(self, name: str) -> None:
        shown = OPTIONS[name].dashed if name in OPTIONS else name
        assert len(re.findall(rf"^  --{shown}(?![\w-])", Options().getUsage(), re.MULTILINE)) == 1

    @pytest.mark.parametrize("name", OPTIONS)
    def test_the_help_shows_an_option_as_the_table_says(self, name: str) -> None:
        option = OPTIONS[name]
        shown = Options().getUsage().partition(f"  --{option.dashed}")[2].partition("\n  --")[0].partition("\n\n")[0]
        takes = f"={option.kind.metavar} " if option.kind.metavar else " "
        default = f" [{option.shown}]" if option.kind.metavar and option.shown else ""
        assert " ".join(shown.split()) == f"{takes}{option.help}{default}".strip()

    @pytest.mark.parametrize("columns", [None, 60, 132])
    def test_the_helps_lines_fit_the_terminal(self, monkeypatch: pytest.MonkeyPatch, columns: int | None) -> None:
        monkeypatch.setenv("COLUMNS", "100")
        table = Options().getUsage(columns).partition("Sizes are")[0]
        assert 50 < max(map(len, table.splitlines())) <= (columns or 100)

    def test_the_helps_examples_can_be_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("limits.toml").write_text("max-connections = 5\n", encoding="ascii")
        examples = re.findall(r"^  twistd .*wshost ((?:.*\\\n)*.*)", Options().getUsage(), re.MULTILINE)
        made = [parsed(*re.sub(r"[\\']", "", example).split()).settings() for example in examples]
        assert [(one.port, one.listen, one.max_connections) for one in made] == [
            (8080, Settings.listen.default, Settings.max_connections.default),
            (8080, ["tcp:443"], 5),
        ]


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
        monkeypatch.setattr(chain, "build", lambda _: quiet.append("built"))
        with pytest.raises(TypeError):
            makeService(parsed(*ECHO))
        assert quiet == [reactor, "built"]

    def test_a_backplane_that_cannot_connect_ends_the_process_with_one_line(
        self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        connecting: Deferred[None] = Deferred()
        monkeypatch.setattr(SHARED, "connect", lambda _: connecting)
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
        module = "factory,factory=tests.test_command.discard"
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


class TestOneLine:
    def test_a_handlers_traceback_is_printed_above_the_complaint(self, capfd: pytest.CaptureFixture[str]) -> None:
        class Broken(ConfigurationError):
            traceback_text = "Traceback:\n  their line\n"

        with pytest.raises(Exit), one_line():
            raise Broken("it can't be\nimported")
        assert capfd.readouterr().err == "Traceback:\n  their line\nwshost: it can't be imported\n"

    def test_an_exception_that_is_no_complaint_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError), one_line():
            1 / 0  # noqa: B018

    def test_a_complaint_is_an_exception_and_ends_the_process(self) -> None:
        """It removes its pid file after an `Exception` only, and prints that it had one on a daemon's terminal."""
        with pytest.raises(Exception, match=r"^a line$") as caught, one_line():
            raise ConfigurationError("a line")
        assert isinstance(caught.value, SystemExit)
        assert caught.value.code == 1
