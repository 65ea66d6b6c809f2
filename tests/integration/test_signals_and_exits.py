"""Unusual ends of a server: two signals, a signal at the start, an exit in users' code, a backplane not connected."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.integration.server import SCRIPTS, Server, running_server

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: RFC 6455 §5.5.1: a server's Close with 1001.
GOING_AWAY = b"\x88\x0c\x03\xe9going away"
#: RFC 6455 §5.7: a masked text frame, "Hello".
HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
REACTORS = [None, "asyncio", "epoll"]
#: Peers have all the time of the world; what ends sooner was ended.
PATIENT = ("--drain-timeout", "60", "--close-timeout", "60")

#: Becomes a command that ignores SIGINT.
IGNORING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"

#: Leaves by a task of asyncio's, in all ways; and can be held up.
LEAVING = """
import asyncio, atexit, sys, threading, time
from pathlib import Path

atexit.register(Path("atexit").touch)

async def leave(how):
    await asyncio.sleep(0)
    exec(how)

def handle(message, state):
    match message:
        case ("text", "sleep"):
            print("falling asleep", flush=True)
            time.sleep(60)
        case ("text", "thread"):
            threading.Thread(target=time.sleep, args=(60,)).start()
        case ("text", "leave"):
            from twisted.internet import reactor
            from wshost.process import ending
            ending.leave(reactor, SystemExit(3))
        case ("text", data):
            asyncio.get_event_loop().create_task(leave(data))
        case ("info", "drain"):
            return ("noreply", state)
        case "connection_close":
            Path("closed").touch()
    return ("reply", "done", state)

def init(options):
    return None
"""
#: Servers that are not the command.
PROGRAM = """
import sys, wshost
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
server = wshost.service({"port": 0, "handler": "leaving"})
server.startService()
reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
reactor.run()
print("back in the program")
"""
TAC = """
import wshost
from twisted.application.service import Application

application = Application("chat")
wshost.service({"port": 0, "handler": "leaving"}).setServiceParent(application)
"""
#: A service beside the server that never stops.
STUCK = """
import wshost
from twisted.application.service import Application, Service
from twisted.internet.defer import Deferred

class Stuck(Service):
    def stopService(self):
        return Deferred()

application = Application("stuck")
wshost.service({"port": 0, "handler": "wshost.handlers.echo"}).setServiceParent(application)
Stuck().setServiceParent(application)
"""
#: A backplane that connects when the file `broker` is there, and can't when it says so.
BACKPLANE = """
from pathlib import Path
from twisted.application.service import Application
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from wshost.cluster.exchange import Exchange
from wshost.settings.options import Settings
from wshost.server import Server

class Backplane(Exchange):
    def connect(self, reactor, cluster):
        def look():
            if Path("broker").exists():
                looking.stop()
                if Path("broker").read_text() == "refused":
                    connected.errback(OSError(111, "Connection refused"))
                else:
                    connected.callback(None)
        connected = Deferred(lambda _: looking.stop())
        looking = LoopingCall(look)
        looking.start(0.05, now=False)
        return connected

application = Application("chat")
server = Server(Settings(handler="wshost.handlers.echo", listen=["tcp:0:interface=127.0.0.1"]), None, Backplane())
server.setServiceParent(application)
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    Path("leaving.py").write_text(LEAVING, encoding="ascii")
    return tmp_path


@contextmanager
def silent_peer(server: Server) -> Iterator[socket.socket]:
    """A WebSocket whose peer answers nothing."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as peer:
        peer.sendall(HANDSHAKE)
        assert peer.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
        yield peer


def drains(peer: socket.socket) -> bool:
    """Whether a silent peer is told good-bye; a signal from now on is none that was sent twice at a time."""
    told = peer.recv(1 << 16) == GOING_AWAY
    time.sleep(0.1)
    return told


def is_cut_off(peer: socket.socket) -> bool:
    try:
        return not peer.recv(1)
    except ConnectionResetError:
        return True


class TestDrain:
    """A signal ends the server when its connections have ended."""

    def test_what_the_drain_waits_for_is_logged_and_aborted_at_last(self) -> None:
        options = ("--drain-timeout", "2.5", "--close-timeout", "60")
        with (
            running_server(*options, command="wshost") as server,
            silent_peer(server),
            silent_peer(server),
            silent_peer(server) as last,
        ):
            os.kill(server.pid, signal.SIGTERM)
            assert drains(last)
            server.wait_for("waiting for 3 connections\n")
            status, log = server.wait()
            assert is_cut_off(last)
        assert status == 0
        assert "aborting 3 connections that are still open after 2.5 s\n" in log

    def test_connections_close_one_after_the_other_with_the_chosen_code(self) -> None:
        """The second of two is served for half of the time."""
        options = ("--drain-spread", "50", "--drain-code", "1012", *PATIENT)
        with (
            running_server(*options, command="wshost") as server,
            silent_peer(server) as one,
            silent_peer(server) as other,
        ):
            os.kill(server.pid, signal.SIGTERM)
            [first], _, _ = select.select([one, other], [], [], 15)
            assert first.recv(1 << 16) == b"\x88\x11\x03\xf4service restart"
            [second] = {one, other} - {first}
            second.sendall(HELLO)
            assert second.recv(1 << 16) == b"\x81\x05Hello"
            os.kill(server.pid, signal.SIGINT)
            assert server.wait(8)[0] == 0
            assert is_cut_off(second)


class TestASecondSignal:
    """It ends the server now."""

    @pytest.mark.parametrize(
        ("reactor", "how"),
        [
            (None, "TERM TERM TERM"),
            (None, "INT TERM INT"),
            ("asyncio", "INT INT INT"),
            ("epoll", "TERM INT TERM"),
        ],
    )
    def test_a_second_signal_aborts_the_connections_that_are_left(self, reactor: str | None, how: str) -> None:
        first, second, third = (signal.Signals[f"SIG{name}"] for name in how.split())
        with (
            running_server(*PATIENT, reactor=reactor, own=["--nodaemon", "--pidfile=pid"]) as server,
            silent_peer(server) as peer,
        ):
            os.kill(server.pid, first)
            assert drains(peer)
            os.kill(server.pid, second)
            os.kill(server.pid, third)
            status, log = server.wait(8)
            assert status == -first
            assert is_cut_off(peer)
        assert "Traceback" not in log
        assert "Received a second signal, ending now." in log
        assert "Server Shut Down." in log
        assert not Path("pid").exists()

    def test_two_signals_at_the_same_moment_count_as_one(self) -> None:
        """As `timeout` does it, and a shell's Ctrl-C below a parent that passes it on."""
        with running_server("--drain-timeout", "1", "--close-timeout", "60") as server, silent_peer(server):
            started = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            os.kill(server.pid, signal.SIGTERM)
            status, log = server.wait()
            assert time.monotonic() - started > 0.9
        assert status == -signal.SIGTERM
        assert "Traceback" not in log

    @pytest.mark.parametrize("reactor", ["uvloop", "asyncio", "epoll"])
    def test_a_second_signal_does_not_wait_for_other_services(self, reactor: str) -> None:
        Path("stuck.tac").write_text(STUCK, encoding="ascii")
        own = ["--nodaemon", "--pidfile=pid"]
        with (
            running_server(application="stuck.tac", reactor=reactor, own=own) as server,
            silent_peer(server) as peer,
        ):
            os.kill(server.pid, signal.SIGTERM)
            assert drains(peer)
            os.kill(server.pid, signal.SIGTERM)
            status, log = server.wait(8)
        assert status == -signal.SIGTERM
        assert "Server Shut Down." in log
        assert "Traceback" not in log
        assert not Path("pid").exists()

    @pytest.mark.parametrize("reactor", REACTORS)
    def test_a_second_signal_does_not_wait_for_a_handler_that_blocks(self, reactor: str | None) -> None:
        with (
            running_server("--handler", "leaving", reactor=reactor) as server,
            connect(server.url, proxy=None) as client,
        ):
            client.send("sleep")
            server.wait_for("falling asleep")
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.2)
            os.kill(server.pid, signal.SIGINT)
            status, log = server.wait(8)
        assert status == -signal.SIGTERM
        assert "Traceback" not in log

    def test_a_second_signal_does_not_wait_for_a_thread(self) -> None:
        with running_server("--handler", "leaving") as server, connect(server.url, proxy=None) as client:
            client.send("thread")
            assert client.recv(timeout=10) == "done"
            client.send("sys.exit(3)")
            server.wait_for("Server Shut Down")
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.2)
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait(8)[0] == 3


class TestATaskThatExits:
    """What is none of a handler's calls, on asyncio's reactors."""

    @pytest.mark.parametrize(
        ("reactor", "how", "expected", "printed"),
        [
            (None, "sys.exit(3)", 3, None),
            (None, "sys.exit()", 0, None),
            (None, "sys.exit('no more')", 1, "^no more$"),
            (None, "raise KeyboardInterrupt", 130, None),
            ("asyncio", "sys.exit(-1)", 255, None),
            ("asyncio", "raise KeyboardInterrupt", 130, None),
            ("uvloop", "sys.exit(3)", 3, None),
        ],
    )
    def test_a_task_that_exits_drains_the_server_and_sets_the_exit_status(
        self, reactor: str | None, how: str, expected: int, printed: str | None
    ) -> None:
        with running_server("--handler", "leaving", reactor=reactor, own=["--nodaemon", "--pidfile=pid"]) as server:
            with connect(server.url, proxy=None) as client, connect(server.url, proxy=None) as other:
                client.send(how)
                assert client.recv(timeout=10) == "done"
                for one in (client, other):
                    with pytest.raises(ConnectionClosed) as caught:
                        one.recv(timeout=10)
                    assert caught.value.rcvd is not None
                    assert caught.value.rcvd.code == 1001
            status, log = server.wait()
        assert status == expected
        assert "Traceback" not in log
        assert f"shutting down, exit status {expected}" in log
        assert printed is None or re.search(printed, log, re.MULTILINE)
        assert "Server Shut Down." in log
        assert not Path("pid").exists()
        assert Path("closed").exists()
        assert Path("atexit").exists()

    def test_a_task_that_exits_ends_an_application_too(self) -> None:
        Path("chat.tac").write_text(TAC, encoding="ascii")
        with running_server(application="chat.tac", reactor="asyncio") as server:
            with connect(server.url, proxy=None) as client:
                client.send("sys.exit(3)")
                assert list(client) == ["done"]
                assert client.close_code == 1001
            status, log = server.wait()
        assert status == 3
        assert "Traceback" not in log


class TestWhatUsersCodeEndsWith:
    """What `ending.leave` is told of, wherever the server runs."""

    def ends(self, server: Server) -> tuple[int, str]:
        with connect(server.url, proxy=None) as client:
            client.send("leave")
            assert list(client) == ["done"]
            assert client.close_code == 1001
        return server.wait()

    @pytest.mark.parametrize(
        ("application", "reactor"), [(None, None), ("chat.tac", None), ("chat.tac", "asyncio"), (None, "epoll")]
    )
    def test_an_exit_in_users_code_is_the_exit_status_of_twistd(
        self, application: str | None, reactor: str | None
    ) -> None:
        Path("chat.tac").write_text(TAC, encoding="ascii")
        own = ["--nodaemon", "--pidfile=pid"]
        with running_server("--handler", "leaving", application=application, reactor=reactor, own=own) as server:
            status, log = self.ends(server)
        assert status == 3
        assert "SystemExit: 3: shutting down, exit status 3" in log
        assert "Traceback" not in log
        assert Path("atexit").exists()
        assert not Path("pid").exists()

    def test_an_exit_in_users_code_is_the_exit_status_of_twist(self) -> None:
        with running_server("--handler", "leaving", command="twist") as server:
            assert self.ends(server)[0] == 3

    def test_an_exit_in_users_code_is_the_exit_status_of_a_program_that_runs_the_reactor(self) -> None:
        Path("program.py").write_text(PROGRAM, encoding="ascii")
        with running_server(before=(sys.executable, "program.py")) as server:
            status, log = self.ends(server)
        assert status == 3
        assert log.endswith("back in the program\n")
        assert Path("atexit").exists()

    def test_an_exit_in_users_code_ends_a_daemon(self) -> None:
        words = ["--pidfile=pid", "--logfile=log", "wshost", "--port=0", "--handler=leaving"]
        subprocess.run([str(SCRIPTS / "twistd"), *words], check=True, timeout=30)
        url = wait_for(r"wshost listening on (\S+)")[1]
        pid = int(Path("pid").read_text(encoding="ascii"))
        with connect(url, proxy=None) as client:
            client.send("leave")
        wait_for(r"Server Shut Down\.\n")
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        assert not Path("pid").exists()
        assert Path("atexit").exists()
        assert "Traceback" not in Path("log").read_text(encoding="utf-8")


def wait_for(pattern: str) -> re.Match[str]:
    """Wait for a line in a daemon's log."""
    deadline = time.monotonic() + 15
    while True:
        log = Path("log").read_text(encoding="utf-8") if Path("log").exists() else ""
        if found := re.search(pattern, log):
            return found
        assert time.monotonic() < deadline, log
        time.sleep(0.02)


class TestADaemonThatIsToldTwice:
    def test_a_second_signal_ends_a_daemon_at_once(self) -> None:
        words = ["--pidfile=pid", "--logfile=log", "wshost", "--port=0", "--handler=wshost.handlers.echo", *PATIENT]
        subprocess.run([str(SCRIPTS / "twistd"), *words], check=True, timeout=30)
        port = int(wait_for(r"wshost listening on ws://127.0.0.1:(\d+)")[1])
        pid = int(Path("pid").read_text(encoding="ascii"))
        with socket.create_connection(("127.0.0.1", port), timeout=15) as peer:
            peer.sendall(HANDSHAKE)
            assert peer.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
            os.kill(pid, signal.SIGTERM)
            assert drains(peer)
            os.kill(pid, signal.SIGTERM)
            assert is_cut_off(peer)
            wait_for(r"Server Shut Down\.\n")
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        assert not Path("pid").exists()
        assert "Traceback" not in Path("log").read_text(encoding="utf-8")


def test_the_tests_servers_can_be_interrupted_even_if_the_tests_ignore_sigint() -> None:
    """A shell that is not interactive has what it starts in the background ignore SIGINT, and so on down."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with running_server() as server:
            assert server.stop(signal.SIGINT)[0] == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


class TestAtOnce:
    """It says that it listens when it is ready for signals."""

    @pytest.mark.parametrize("reactor", REACTORS)
    def test_a_signal_right_after_the_listening_line_ends_the_server(self, reactor: str | None) -> None:
        for how in (signal.SIGTERM, signal.SIGINT):
            with running_server(reactor=reactor) as server:
                status, log = server.stop(how)
            assert status == -how
            assert "Server Shut Down." in log
            assert "Traceback" not in log

    def test_an_interrupt_during_the_start_prints_no_traceback(self) -> None:
        Path("slow.py").write_text("print('starting', flush=True)\nimport time\ntime.sleep(60)\n", encoding="ascii")
        with running_server("--handler", "slow", ready=re.compile("^starting", re.MULTILINE)) as server:
            status, log = server.stop(signal.SIGINT)
        assert status == -signal.SIGINT
        assert "Traceback" not in log


def test_a_server_that_was_started_with_interrupts_ignored_ignores_them() -> None:
    """As scripts start what is in the background: Ctrl-C is for the script."""
    with (
        running_server(before=(sys.executable, "-c", IGNORING)) as server,
        connect(server.url, proxy=None) as client,
    ):
        os.kill(server.pid, signal.SIGINT)
        client.send("still there?")
        assert client.recv(timeout=10) == "still there?"
        assert server.stop()[0] == -signal.SIGTERM


class TestABackplaneThatIsNotConnected:
    @contextmanager
    def waiting_server(self, reactor: str | None) -> Iterator[Server]:
        Path("chat.tac").write_text(BACKPLANE, encoding="ascii")
        waiting = re.compile("waiting for the backplane to connect")
        with running_server(application="chat.tac", reactor=reactor, ready=waiting) as server:
            (port,) = server.listening_ports
            server.url = f"ws://127.0.0.1:{port}"
            yield server

    @pytest.mark.parametrize("reactor", ["asyncio", "epoll"])
    def test_clients_wait_until_the_backplane_is_connected(self, reactor: str) -> None:
        with self.waiting_server(reactor) as server:
            with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as peer:
                peer.sendall(HANDSHAKE)
                with pytest.raises(TimeoutError):
                    peer.recv(1)
                assert "wshost listening" not in server.log
                Path("broker").touch()
                server.wait_for("wshost listening on ")
                peer.settimeout(10)
                assert peer.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
            assert server.stop()[0] == -signal.SIGTERM

    def test_a_signal_ends_a_server_that_waits_for_its_backplane(self) -> None:
        with self.waiting_server(None) as server:
            status, log = server.stop()
        assert status == -signal.SIGTERM
        assert "Traceback" not in log

    def test_a_backplane_that_cannot_connect_is_logged_and_stops_listening(self) -> None:
        with self.waiting_server("asyncio") as server:
            Path("broker").write_text("refused", encoding="ascii")
            server.wait_for(r"the backplane can't connect: \[Errno 111\] Connection refused\n")
            assert server.listening_ports == []
            status, log = server.stop()
        assert status == -signal.SIGTERM
        assert "Traceback" not in log
