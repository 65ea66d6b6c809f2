"""Handlers of each style that raise exceptions of each kind, also BaseExceptions, on each reactor."""

from __future__ import annotations

import re
import signal
import socket

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.integration.server import running_server
from tests.memory import request

REACTORS = [None, "asyncio", "epoll"]
NAMES = ["PanicException", "GeneratorExit", "BaseExceptionGroup", "ValueError", "StopIteration", "RecursionError"]
STYLES = ["plain", "coroutine", "waiting", "deferred"]


def ended(client: ClientConnection) -> tuple[int | None, str | None]:
    """With what code and reason the server ends a connection, which says nothing more."""
    with pytest.raises(ConnectionClosed):
        client.recv(20)
    return client.close_code, client.close_reason


@pytest.mark.parametrize("reactor", REACTORS)
def test_whatever_a_handler_raises_closes_its_own_connection_only(reactor: str | None) -> None:
    options = ("--handler=tests.integration.raising_handler", "--max-connections=4")
    with running_server(*options, reactor=reactor) as server, connect(f"{server.url}/plain", proxy=None) as other:
        for style in STYLES:
            for name in NAMES:
                with connect(f"{server.url}/{style}", proxy=None) as raising:
                    raising.send(name)
                    assert (style, name, *ended(raising)) == (style, name, 1011, "")
                other.send("echo")
                assert other.recv(10) == "echo"
        for name in NAMES:
            with socket.create_connection(("127.0.0.1", server.port), 20) as client:
                client.sendall(request(f"/plain?{name}", {"Host": "localhost"}))
                assert client.recv(1_000).startswith(b"HTTP/1.1 500 ")
        other.close()
        status, log = server.stop()
    assert status == -signal.SIGTERM
    # Each once, and the other's.
    assert len(re.findall(r"ended /", log)) == len(STYLES) * len(NAMES) + 1
    assert "Unhandled" not in log


#: Each style on each kind of event loop: asyncio's and uvloop's hear of tasks that exit, Twisted's own have none.
ENDINGS = [(style, "SystemExit", reactor) for reactor in (None, "epoll") for style in STYLES]
ENDINGS += [("waiting", "SystemExit", "asyncio"), ("plain", "KeyboardInterrupt", "asyncio")]
ENDINGS += [("waiting", "KeyboardInterrupt", None), ("plain", "KeyboardInterrupt", "epoll")]
ENDINGS += [("a_task_of_its_own", "SystemExit", reactor) for reactor in (None, "asyncio")]
STATUS = {"SystemExit": 3, "KeyboardInterrupt": 130}


@pytest.mark.parametrize(("style", "name", "reactor"), ENDINGS)
def test_a_handler_that_exits_drains_the_server_and_sets_the_exit_status(
    style: str, name: str, reactor: str | None
) -> None:
    with (
        running_server("--handler=tests.integration.raising_handler", reactor=reactor) as server,
        connect(f"{server.url}/plain", proxy=None) as other,
        connect(f"{server.url}/{style}", proxy=None) as client,
    ):
        client.send(name)
        assert ended(client) == (1011, "")
        assert ended(other) == (1001, "going away")
        status, log = server.wait()
    assert status == STATUS[name]
    assert len(re.findall(r"ended /", log)) == 2
    assert f"exit status {status}" in log
