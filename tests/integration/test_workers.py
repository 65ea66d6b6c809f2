"""Several workers serve as one server, with real processes: their start, their connections, their deaths, their end."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.integration.server import PATIENCE, Server, running_server

HANDLER = str(Path(__file__).parent / "workers_handler.py")


@contextmanager
def serving(*options: str, **more: Any) -> Iterator[Server]:
    """A server with two workers."""
    given = ("--workers", "2", "--handler", HANDLER, *options)
    with running_server(*given, **{"command": "wshost", **more}) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def workers_of(server: Server) -> list[int]:
    """The process ids of the workers that the log names first."""
    return [int(pid) for pid in server.wait_for(r"2 workers: (\d+), (\d+)").groups()]


def open_one(server: Server) -> ClientConnection:
    return connect(server.url, compression=None)


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextmanager
def attempt(server: Server) -> Iterator[int]:
    """The status of the answer to a handshake. A refusal may come before the request has left."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        client.sendall(REQUEST)
        head = client.recv(4_096)
        yield int(head.split()[1])


def ask(client: ClientConnection, what: str = "pid") -> str:
    client.send(what)
    answer = client.recv(timeout=PATIENCE)
    assert isinstance(answer, str)
    return answer


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for counts, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_connections_are_spread_evenly_and_drained_at_sigterm() -> None:
    with serving() as server, ExitStack() as stack:
        clients = [stack.enter_context(open_one(server)) for _ in range(20)]
        counts = Counter(map(ask, clients))
        assert sorted(counts.values()) == [10, 10]
        assert sorted(map(int, counts)) == sorted(workers_of(server))
        os.kill(server.pid, signal.SIGTERM)
        for client in clients:
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=PATIENCE)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
        status, log = server.wait()
        assert status == 0
        assert "Traceback" not in log
        assert " error " not in log
        wait_until(lambda: all(map(has_gone, workers_of(server))))


def test_a_connection_that_ends_makes_room_for_the_next() -> None:
    with serving("--max-connections", "2") as server, open_one(server) as first:
        with open_one(server) as second:
            assert ask(first) != ask(second)
            with attempt(server) as status:
                assert status == 503

        def has_room() -> bool:
            with attempt(server) as status:
                return status == 101

        wait_until(has_room)


def test_the_limits_of_an_address_hold_over_all_workers() -> None:
    with serving("--max-connections-per-address", "1", "--connection-rate", "1") as server, attempt(server) as first:
        with attempt(server) as second:
            assert (first, second) == (101, 503)

        def too_often() -> bool:
            with attempt(server) as status:
                return status == 429

        wait_until(too_often)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_workers_run_on_the_loop_that_twistd_was_told(loop: str) -> None:
    with serving(command="twistd", reactor=loop) as server, open_one(server) as client:
        assert ask(client, "loop") == loop
        assert f"; on {loop}; " in server.log


def test_a_reactor_that_workers_can_not_run_on_is_refused_with_one_line() -> None:
    ready = re.compile("workers: ")
    with serving(command="twistd", reactor="epoll", ready=ready, forked=False) as server:
        status, log = server.wait()
    assert status == 1
    assert log.strip().endswith("workers: they need asyncio's reactor: leave out --reactor, or name asyncio or uvloop")
    assert "Traceback" not in log


def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on() -> None:
    with serving() as server, open_one(server) as first, open_one(server) as second:
        dead, living = ask(first), ask(second)
        os.kill(int(dead), signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            first.recv(timeout=PATIENCE)
        server.wait_for(rf"worker \d+ \(pid {dead}\) was ended by SIGKILL; 1 connection lost")
        assert ask(second) == living

        def replaced() -> bool:
            with open_one(server) as third:
                return ask(third) not in {dead, living}

        wait_until(replaced)
        assert server.stop()[0] == 0


def test_a_handler_that_can_not_be_imported_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such luck')\n", encoding="utf-8")
    options = ("--workers", "2", "--handler", str(tmp_path / "broken.py"))
    with running_server(*options, command="wshost", ready=re.compile("can't be imported")) as server:
        status, log = server.wait()
    assert status == 1
    lines = [line for line in log.splitlines() if line.startswith("wshost: ")]
    assert len(lines) == 1
    assert "RuntimeError: no such luck" in lines[0]
    assert log.count("Traceback") == 1


def test_connections_with_tls_and_those_of_unix_sockets_are_served(certificate: str) -> None:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = f"{folder}/chat"
        listen = ("--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{path}", "--tls-cert", certificate)
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with serving(*listen, command="twistd") as server, ExitStack() as stack:
            clients = [
                *(stack.enter_context(connect(server.url, ssl=context, compression=None)) for _ in range(2)),
                *(
                    stack.enter_context(unix_connect(path, "wss://localhost/", ssl=context, compression=None))
                    for _ in range(2)
                ),
            ]
            assert sorted(Counter(map(ask, clients)).values()) == [2, 2]
            assert server.url.startswith("wss://")
            # As twistd itself ends.
            assert server.stop()[0] == -signal.SIGTERM
        assert not Path(path).exists()


def test_workers_drain_and_end_when_their_supervisor_is_killed() -> None:
    with serving("--drain-timeout", "1") as server, open_one(server) as client:
        pids = workers_of(server)
        port = server.port
        os.kill(server.pid, signal.SIGKILL)
        assert ask(client) in map(str, pids)
        with serving("--port", str(port)) as successor, open_one(successor) as fresh:
            assert int(ask(fresh)) not in pids
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=PATIENCE)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
            wait_until(lambda: all(map(has_gone, pids)))


def test_a_second_signal_ends_all_at_once() -> None:
    with serving("--drain-timeout", "60", "--drain-spread", "50") as server, ExitStack() as stack:
        clients = [stack.enter_context(open_one(server)) for _ in range(4)]
        for client in clients:
            ask(client)
        os.kill(server.pid, signal.SIGTERM)
        server.wait_for(r"waiting for \d connections?\n")
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait()[0] == 0
        assert all(map(has_gone, workers_of(server)))


def test_handlers_are_imported_again_in_all_workers(tmp_path: Path) -> None:
    handler = tmp_path / "changing.py"
    handler.write_text(Path(HANDLER).read_text(encoding="utf-8").replace("str(os.getpid())", "VERSION"), "utf-8")
    with serving("--handler", str(handler)) as server, ExitStack() as stack:
        clients = [stack.enter_context(open_one(server)) for _ in range(2)]
        assert [ask(client) for client in clients] == ["1", "1"]
        handler.write_text(handler.read_text("utf-8").replace('VERSION = "1"', 'VERSION = "two"'), "utf-8")
        os.kill(server.pid, signal.SIGHUP)
        for name in ("w1", "w2"):
            server.wait_for(rf"\[{name}\] reloaded: ")
        assert [ask(client) for client in clients] == ["two", "two"]
        with open_one(server) as fresh:
            assert ask(fresh) == "two"


def test_the_log_is_opened_again_by_all_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving("--log-file", str(log), "--access-log", "--log-format", "json", ready=re.compile("")) as server:
        wait_until(lambda: log.exists() and "wshost listening on" in log.read_text("utf-8"))
        found = re.search(r"ws://127\.0\.0\.1:\d+", log.read_text("utf-8"))
        assert found is not None
        server.url = found[0]
        log.rename(tmp_path / "log.1")
        os.kill(server.pid, signal.SIGUSR1)

        def all_write() -> bool:
            with open_one(server) as one, open_one(server) as other:
                ask(one)
                ask(other)
            return log.exists() and all(f'"worker": "w{k}"' in log.read_text("utf-8") for k in (1, 2))

        wait_until(all_write)
        assert '"connection": "w1c1"' in (tmp_path / "log.1").read_text("utf-8") + log.read_text("utf-8")


def test_a_worker_that_hangs_says_where_and_is_replaced() -> None:
    with serving("--worker-timeout", "5", "--slow-turn", "0.1") as server, open_one(server) as client:
        hung = ask(client)
        client.send("hang")
        server.wait_for(r"\[w\d\] a turn of the reactor has not ended after(.|\n)*workers_handler")
        server.wait_for(rf"\(pid {hung}\) has given no sign of life for \d+ s")
        server.wait_for(rf"\(pid {hung}\) was ended by SIGKILL")

        def replaced() -> bool:
            with open_one(server) as one, open_one(server) as other:
                return len({ask(one), ask(other)} - {hung}) == 2

        wait_until(replaced)


def test_an_old_worker_drains_once_its_successor_serves() -> None:
    with serving("--worker-max-age", "1", "--drain-timeout", "5") as server, open_one(server) as client:
        old = ask(client)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        server.wait_for(rf"\(pid {old}\) is replaced: it is \d s old")
        with open_one(server) as fresh:
            assert ask(fresh) != old


def test_preloaded_handlers_are_imported_anew_for_workers_after_a_reload(tmp_path: Path) -> None:
    handler = tmp_path / "preloaded.py"
    handler.write_text(Path(HANDLER).read_text("utf-8").replace('"pid"', '"version"'), "utf-8")
    text = handler.read_text("utf-8").replace("str(os.getpid())", 'f"{VERSION} {os.getpid()}"')
    handler.write_text(text, "utf-8")
    with serving("--handler", str(handler), "--preload") as server:
        with open_one(server) as client:
            assert ask(client, "version").split()[0] == "1"
        handler.write_text(text.replace('VERSION = "1"', 'VERSION = "two"'), "utf-8")
        os.kill(server.pid, signal.SIGHUP)
        for name in ("w1", "w2"):
            server.wait_for(rf"\[{name}\] reloaded: ")
        with open_one(server) as client:
            pid = ask(client, "version").split()[1]
            client.send("die")
        server.wait_for(rf"\(pid {pid}\) was ended by SIGKILL")

        def replaced() -> bool:
            with open_one(server) as one, open_one(server) as other:
                said = [ask(client, "version").split() for client in (one, other)]
            return {version for version, _ in said} == {"two"} and pid not in {one for _, one in said}

        wait_until(replaced)
        assert server.stop()[0] == 0


def test_systemd_is_told_of_the_whole_server(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        systemd.bind(f"{folder}/notify")
        systemd.settimeout(PATIENCE)
        with serving(env={"NOTIFY_SOCKET": f"{folder}/notify"}) as server:
            assert systemd.recv(4_096).startswith(b"READY=1")
            os.kill(server.pid, signal.SIGHUP)
            assert systemd.recv(4_096).startswith(b"RELOADING=1")
            assert systemd.recv(4_096).startswith(b"READY=1")
            os.kill(server.pid, signal.SIGTERM)
            assert systemd.recv(4_096).startswith(b"STOPPING=1")
            assert server.wait()[0] == 0


def test_a_server_with_workers_is_taken_over_with_its_listening_sockets() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        options = ("--takeover", f"{folder}/takeover", "--drain-timeout", "5")
        with serving(*options) as old, open_one(old) as client:
            before = workers_of(old)
            assert int(ask(client)) in before
            with serving(*options) as new:
                assert new.port == old.port
                with open_one(new) as fresh:
                    assert int(ask(fresh)) not in before
                with pytest.raises(ConnectionClosed) as caught:
                    client.recv(timeout=PATIENCE)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1001
                assert old.wait()[0] == 0
                with open_one(new) as fresh:
                    assert int(ask(fresh)) not in before
                assert "Traceback" not in old.log + new.log
