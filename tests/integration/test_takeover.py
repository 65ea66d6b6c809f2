"""A process takes over from another one, with real sockets: connections go on, and none is lost that need not be."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.integration.server import PATIENCE, Server, running_server

ROOT = Path(__file__).parent.parent.parent
TALLY = str(ROOT / "docs" / "examples" / "moving.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def counted(client: ClientConnection) -> str:
    """The answer of docs/examples/moving.py."""
    client.send("x")
    answer = client.recv(timeout=15)
    assert isinstance(answer, str)
    return answer


def open_one(server: Server) -> ClientConnection:
    return connect(server.url, compression=None)


@pytest.mark.parametrize("command", ["wshost", "twistd"])
def test_connections_go_on_in_the_new_process(folder: Path, command: Literal["wshost", "twistd"]) -> None:
    options = ("--handler", TALLY, "--takeover", str(folder / "takeover"))
    with running_server(*options, "--port", "0", command=command) as old, ExitStack() as stack:
        clients = [stack.enter_context(open_one(old)) for _ in range(30)]
        assert {counted(client) for client in clients} == {"1"}
        with running_server(*options, "--port", "0", command=command) as new:
            assert old.wait()[0] == 0
            assert "another process has taken over, with 30 connections" in old.log
            assert {counted(client) for client in clients} == {"2"}
            with open_one(new) as fresh:
                assert counted(fresh) == "1"
            assert "Traceback" not in old.log + new.log


#: Says how references name its connections, and sends to one that is named so.
NAMED = """
import wshost
def init(options):
    return options["worker"]
def handle(message, ref):
    match message:
        case ("text", "who"):
            return ("reply", str(ref), ref)
        case ("text", to):
            wshost.Ref.parse(to).send("found")
    return ("noreply", ref)
def freeze(ref):
    return b""
def thaw(data, options):
    return options["worker"]
"""


def test_the_text_of_a_reference_means_the_same_connection_in_the_new_process(folder: Path) -> None:
    (folder / "named.py").write_text(NAMED)
    options = ("--port", "0", "--handler", str(folder / "named.py"), "--takeover", str(folder / "takeover"))
    with running_server(*options) as old, open_one(old) as client:
        client.send("who")
        text = client.recv(timeout=PATIENCE)
        with running_server(*options) as new:
            assert old.wait()[0] == 0
            with open_one(new) as other:
                other.send(text)
                assert client.recv(timeout=PATIENCE) == "found"
                other.send("who")
                assert other.recv(timeout=PATIENCE) == str(text).replace(".c1", ".c2")


def test_a_process_may_be_taken_over_again_and_again(folder: Path) -> None:
    options = ("--port", "0", "--handler", TALLY, "--takeover", str(folder / "takeover"))
    with running_server(*options) as old, open_one(old) as client:
        assert counted(client) == "1"
        with running_server(*options) as second:
            assert counted(client) == "2"
            with running_server(*options) as third:
                assert second.wait()[0] == 0
                assert counted(client) == "3"
                assert third.port == second.port == old.port


def test_what_can_not_go_over_gets_a_close(folder: Path) -> None:
    """A compressed connection has a context that no other process knows."""
    options = ("--port", "0", "--handler", TALLY, "--takeover", str(folder / "takeover"), "--compress")
    with running_server(*options) as old, connect(old.url) as client:
        assert counted(client) == "1"
        with running_server(*options):
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(timeout=15)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
            assert old.wait()[0] == 0


def test_a_unix_socket_goes_over_too(folder: Path) -> None:
    path = str(folder / "chat")
    options = ("--listen", f"unix:{path}", "--handler", TALLY, "--takeover", str(folder / "takeover"))
    with running_server(*options) as old, unix_connect(path, "ws://localhost/", compression=None) as client:
        assert counted(client) == "1"
        with running_server(*options) as new:
            assert old.wait()[0] == 0
            assert counted(client) == "2"
            with unix_connect(path, "ws://localhost/", compression=None) as fresh:
                assert counted(fresh) == "1"
            assert "Traceback" not in old.log + new.log


def test_a_successor_that_can_not_start_leaves_all_as_it_was(folder: Path) -> None:
    takeover = str(folder / "takeover")
    with running_server("--port", "0", "--handler", TALLY, "--takeover", takeover) as old, open_one(old) as client:
        wrong = ("--port", "0", "--handler", "no.such.handler", "--takeover", takeover)
        with running_server(*wrong, ready=re.compile(r"no\.such")) as new:
            assert new.wait()[0] == 1
        assert counted(client) == "1"
        with open_one(old) as fresh:
            assert counted(fresh) == "1"
        with running_server("--port", "0", "--handler", TALLY, "--takeover", takeover):
            assert old.wait()[0] == 0
            assert counted(client) == "2"


def test_the_admin_endpoint_goes_over_too(folder: Path) -> None:
    admin = folder / "admin"
    options = ("--port", "0", "--handler", TALLY, "--takeover", str(folder / "takeover"), "--admin", f"unix:{admin}")

    def ask(path: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(15)
            client.connect(str(admin))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65_536), b"")).decode().partition("\r\n\r\n")[2]

    with running_server(*options) as old, open_one(old) as client:
        assert counted(client) == "1"
        assert ask("/readyz") == "ready\n"
        with running_server(*options) as new:
            assert old.wait()[0] == 0
            assert counted(client) == "2"
            assert ask("/readyz") == "ready\n"
            metrics = ask("/metrics")
            assert '\nwshost_connections{module="websocket"} 1.0\n' in metrics
            assert '\nwshost_messages_total{direction="in"} 2.0\n' in metrics
            assert "Traceback" not in old.log + new.log
