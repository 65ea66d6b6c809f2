"""`twistd wshost` and `twist wshost` as users run them: what starts, what does not, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.integration.clients import for_two_threads
from tests.integration.server import SCRIPTS, running_server

ECHO = ("--handler", "wshost.handlers.echo")

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: Takes the right to bind ports below 1024 from root: PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE.
UNPRIVILEGED = """
import ctypes, os, sys
if os.geteuid() == 0:
    assert ctypes.CDLL(None).prctl(24, 10, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
#: Passes a listening socket on as systemd does.
SYSTEMD = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="chat", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"""
HANDLER = """
def init(options):
    return {key: options[key] for key in ("room", "rooms") if key in options}

def handle(message, state):
    match message:
        case ("text", data):
            return ("reply", f"{data} {state}", state)
    return ("noreply", state)
"""
TAC = """
import wshost
from twisted.application.service import Application

application = Application("chat")
server = wshost.service({
    "port": 0,
    "number_of_workers": 10,
    "worker_options": {"protocol_modules": [("wsserver_websocket_protocol", {"handler_module": "chat"})]},
})
server.setServiceParent(application)
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    Path("chat.py").write_text(HANDLER, encoding="ascii")
    Path("broken.py").write_text("import json\njson.loads('nope')\n", encoding="ascii")
    Path("bad.toml").write_text("port = 0\n\nhandler = chat\n", encoding="ascii")
    Path("typo.toml").write_text("port = 0\nhandeler = 'chat'\n", encoding="ascii")
    return tmp_path


@pytest.fixture
def ca() -> trustme.CA:
    """Has signed server.pem, whose key is in it; itself it is in ca.pem, and another key in other.key."""
    ca = trustme.CA()
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path("server.pem")
    ca.cert_pem.write_to_path("ca.pem")
    ca.issue_cert("127.0.0.1").private_key_pem.write_to_path("other.key")
    return ca


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    for_two_threads(context)
    return context


def run(*command: str) -> tuple[int, str, str]:
    """The exit status of a command, and what it wrote on stdout and stderr."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def twistd(*options: str) -> tuple[int, str, str]:
    """The same of one that is not to start."""
    return run(str(SCRIPTS / "twistd"), *options)


def echoes(client: ClientConnection) -> bool:
    client.send("Grüße")
    return client.recv(timeout=10) == "Grüße"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


class TestServing:
    @pytest.mark.parametrize(
        ("reactor", "expected"),
        [(None, "AsyncioReactor"), ("asyncio", "AsyncioSelectorReactor"), ("epoll", "EPollReactor")],
    )
    def test_the_server_runs_on_each_reactor(self, reactor: str | None, expected: str) -> None:
        with running_server(reactor=reactor) as server, connect(server.url, proxy=None) as client:
            assert echoes(client)
            assert re.search(r"reactor class: \S+\.(\w+)", server.log)[1] == expected  # type: ignore[index]

    def test_the_log_names_the_address_in_any_encoding(self) -> None:
        """A line that can't be encoded would be lost."""
        with running_server(env={"PYTHONIOENCODING": "ascii"}) as server:
            assert re.search(r"wshost listening on ws://127\.0\.0\.1:\d+ \(http -> websocket; .+\)\n", server.log)

    def test_handlers_load_from_the_current_directory_with_their_options(self) -> None:
        with (
            running_server("--route", "/chat=chat", "--handler-option", "room=1", *ECHO) as server,
            connect(f"{server.url}/chat", proxy=None) as chat,
            connect(f"{server.url}/other", proxy=None) as other,
        ):
            chat.send("I am in")
            assert chat.recv(timeout=10) == "I am in {'room': '1'}"
            assert echoes(other)

    def test_options_are_read_from_a_toml_file(self) -> None:
        Path("chat.toml").write_text(
            "port = 0\nhandler-option = { rooms = [1, 2] }\n[[protocol_modules]]\nmodule = 'http'\ntimeout = 2.5\n"
            "[[protocol_modules]]\nmodule = 'websocket'\nhandler_module = 'chat.py'\n",
            encoding="ascii",
        )
        with running_server("--config", "chat.toml") as server, connect(server.url, proxy=None) as client:
            client.send("I am in")
            assert client.recv(timeout=10) == "I am in {'rooms': [1, 2]}"

    def test_a_unix_socket_is_listened_on_and_removed_at_the_end(self) -> None:
        with running_server("--listen", "unix:chat.sock") as server:
            assert server.url == "unix:chat.sock"
            with unix_connect("chat.sock", "ws://localhost/") as client:
                assert echoes(client)
            server.stop()
            assert not Path("chat.sock").exists()

    def test_a_socket_passed_by_systemd_is_listened_on(self) -> None:
        before = (sys.executable, "-c", SYSTEMD)
        with (
            running_server("--listen", "systemd:domain=INET:name=chat", before=before) as server,
            connect(server.url, proxy=None) as client,
        ):
            assert echoes(client)

    def test_a_certificate_makes_the_server_speak_tls(self, ca: trustme.CA) -> None:
        with running_server("--tls-cert", "server.pem") as server:
            assert server.url.startswith("wss://127.0.0.1:")
            with connect(server.url, ssl=trusting(ca), proxy=None) as client:
                assert echoes(client)

    def test_a_client_without_a_certificate_is_refused_if_one_is_demanded(self, ca: trustme.CA) -> None:
        context = trusting(ca)
        with running_server("--tls-cert", "server.pem", "--tls-client-ca", "ca.pem") as server:
            with pytest.raises(ssl.SSLError, match="alert handshake failure"):
                connect(server.url, ssl=context, proxy=None)
            ca.issue_cert("ada@example.com").configure_cert(context)
            with connect(server.url, ssl=context, proxy=None) as client:
                assert echoes(client)

    def test_an_application_file_runs_the_service(self) -> None:
        Path("chat.tac").write_text(TAC, encoding="ascii")
        with running_server(application="chat.tac") as server, connect(server.url, proxy=None) as client:
            client.send("I am in")
            assert client.recv(timeout=10) == "I am in {}"


class TestStopping:
    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_closes_clients_with_1001_and_is_the_exit_status(self, how: signal.Signals) -> None:
        with running_server() as server, connect(server.url, proxy=None) as client:
            assert echoes(client)
            started = time.monotonic()
            status, log = server.stop(how)
            assert time.monotonic() - started < 8
            assert status == -how
            assert "Traceback" not in log
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=10)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001

    def test_a_silent_client_delays_the_end_by_the_drain_timeout_only(self) -> None:
        with (
            running_server("--drain-timeout", "0.5", "--close-timeout", "60") as server,
            socket.create_connection(("127.0.0.1", server.port)) as silent,
        ):
            silent.sendall(HANDSHAKE)
            assert silent.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
            started = time.monotonic()
            assert server.stop()[0] == -signal.SIGTERM
            assert 0.4 < time.monotonic() - started < 8


class TestADaemon:
    @contextmanager
    def daemon(self, *options: str) -> Iterator[tuple[int, str]]:
        """Run one until the block ends.

        :returns: its process id, and the URL.
        """
        status, out, err = twistd(*options, "--logfile=chat.log", "--pidfile=chat.pid", "wshost", "--port=0", *ECHO)
        assert (status, out, err) == (0, "", "")
        pid = int(Path("chat.pid").read_text(encoding="ascii"))
        try:
            log = Path("chat.log")
            wait_until(lambda: log.exists() and "wshost listening" in log.read_text(encoding="utf-8"))
            found = re.search(r"wshost listening on (\S+)", log.read_text(encoding="utf-8"))
            assert found
            yield pid, found[1]
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not Path(f"/proc/{pid}").exists())

    def test_a_daemon_serves_until_sigterm_and_removes_its_pid_file(self) -> None:
        with self.daemon() as (_, url), connect(url, proxy=None) as client:
            assert echoes(client)
        assert not Path("chat.pid").exists()
        log = Path("chat.log").read_text(encoding="utf-8")
        assert "AsyncioReactor" in log
        assert "Server Shut Down." in log
        assert "Traceback" not in log

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_a_daemon_runs_as_the_user_that_uid_names(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        with self.daemon("--uid", "nobody") as (pid, url), connect(url, proxy=None) as client:
            assert echoes(client)
            assert Path(f"/proc/{pid}").owner() == "nobody"
        assert "Traceback" not in Path("chat.log").read_text(encoding="utf-8")

    def test_a_daemon_that_cannot_bind_says_why_on_the_terminal(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            given = twistd("--logfile=chat.log", "--pidfile=chat.pid", "wshost", "--port", str(port), *ECHO)
        assert given == (1, "", f"wshost: can't listen on 127.0.0.1:{port}: Address already in use\n")
        assert not Path("chat.pid").exists()

    def test_a_daemon_that_fails_after_the_fork_says_why_on_the_terminal_and_in_the_log(self) -> None:
        status, _, err = twistd("--logfile=chat.log", "--pidfile=chat.pid", "wshost", "--listen=unix:none/x", *ECHO)
        assert status == 1
        assert "wshost.commands.one_line.Exit: can't listen on unix:none/x: No such file or directory" in err
        assert "Traceback" not in err
        assert not Path("chat.pid").exists()
        log = Path("chat.log").read_text(encoding="utf-8")
        assert "can't listen on unix:none/x: No such file or directory" in log
        assert "Traceback" not in log


class TestAStartThatFails:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--prt", "0"], "unknown option --prt; did you mean --port?"),
            ([], "there is no handler: name one with --handler, or with --route for each path"),
            (["--handler", "nowhere"], "handler 'nowhere' can't be imported: "),
            ([*ECHO, "--protocol-module", "nope"], "no protocol module is named 'nope'; there are: "),
            (["--config", "typo.toml"], "typo.toml: line 2: unknown option 'handeler'; did you mean handler?"),
            ([*ECHO, "--tls-cert", "server.pem", "--tls-key", "other.key"], "other.key: the private key is not that "),
            ([*ECHO, "--listen", "tcp:http"], "listen: 'tcp:http': invalid literal for int() with base 10: 'http'"),
            ([*ECHO, "--origin", "file:///"], "'file:///' is not an origin: write https://example.com"),
            ([*ECHO, "--listen", "unix:none/x"], "can't listen on unix:none/x: No such file or directory"),
        ],
    )
    @pytest.mark.usefixtures("ca")
    def test_a_wrong_option_is_explained_in_one_line(self, options: list[str], complaint: str) -> None:
        status, _, err = twistd("--nodaemon", "wshost", *options)
        assert status == 1
        assert err.startswith(f"wshost: {complaint}")
        assert err.count("\n") == 1
        assert not Path("twistd.pid").exists()

    def test_a_handler_that_fails_to_import_shows_its_own_traceback(self) -> None:
        status, _, err = twistd("--nodaemon", "wshost", "--handler", "broken")
        assert status == 1
        *traceback, line = err.splitlines()
        assert line.startswith("wshost: handler 'broken' can't be imported: JSONDecodeError: ")
        assert traceback[0] == "Traceback (most recent call last):"
        assert traceback[1].endswith('broken.py", line 2, in <module>')
        assert "wshost/" not in err
        assert "importlib" not in err

    def test_a_port_in_use_is_said(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, _, err = twistd("--nodaemon", "wshost", "--port", str(port), *ECHO)
        assert (status, err) == (1, f"wshost: can't listen on 127.0.0.1:{port}: Address already in use\n")
        assert not Path("twistd.pid").exists()

    def test_a_privileged_port_is_said(self) -> None:
        before = (sys.executable, "-c", UNPRIVILEGED)
        status, _, err = run(*before, str(SCRIPTS / "twistd"), "--nodaemon", "wshost", "--port", "79", *ECHO)
        assert (status, err) == (1, "wshost: can't listen on 127.0.0.1:79: Permission denied\n")


class TestTwist:
    def test_twist_runs_the_server(self) -> None:
        with running_server(command="twist") as server, connect(server.url, proxy=None) as client:
            assert echoes(client)
            status, log = server.stop()
            assert status == -signal.SIGTERM
            assert "Traceback" not in log

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--prt", "0"], "unknown option --prt; did you mean --port?"),
            ([], "there is no handler: name one with --handler, or with --route for each path"),
            ([*ECHO, "--listen", "unix:none/x"], "can't listen on unix:none/x: No such file or directory"),
        ],
    )
    def test_twist_explains_a_wrong_option_in_one_line(self, options: list[str], complaint: str) -> None:
        assert run(str(SCRIPTS / "twist"), "wshost", *options) == (1, "", f"wshost: {complaint}\n")


def test_the_help_is_printed_without_a_reactor() -> None:
    status, out, err = twistd("wshost", "--help")
    assert (status, err) == (0, "")
    assert out.startswith("Usage: twistd [options] wshost [options]\n\nA WebSocket server that runs your handler.\n")
