"""A conversation that ends at any byte, in any way, leaves nothing behind (RFC 6455 §7.1)."""

from __future__ import annotations

import gc
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from websockets.sync.client import connect

from tests.integration.server import Server, running_server
from tests.memory import MemoryHost, Peer
from tests.regressions.conftest import Log
from tests.regressions.conversation import BYTES, MESSAGES
from wshost.connections.connection import Connection
from wshost.handlers.session import HandlerSession
from wshost.protocols.websocket.autobahn_engine import Engine
from wshost.protocols.websocket.driver import WebSocket

#: Seconds after which nothing may remain: a handler has 10 to end when its connection is gone, a Close 5.
AFTERWARDS = 20


class Handler:
    """Says back what it hears, at once; and notes it."""

    def __init__(self) -> None:
        self.host: MemoryHost
        self.heard: list[Any] = []
        self.opened = 0

    def init(self, options: Any) -> Any:
        self.opened += 1

    def handle(self, message: Any, state: None) -> Any:
        self.heard.append(message)
        return ("reply", message[1], state) if message[0] == "text" else ("noreply", state)


class Slow(Handler):
    """Takes a tenth of a second for each."""

    def init(self, options: Any) -> Deferred[None]:
        return self._later(super().init, options)

    def handle(self, message: Any, state: None) -> Deferred[Any]:
        # It hears it now, and answers later.
        return self._later(lambda answer: answer, super().handle(message, state))

    def _later(self, call: Callable[[Any], Any], argument: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred(lambda _: timer.cancel())
        timer = self.host.reactor.callLater(0.1, lambda: deferred.callback(argument))
        return deferred.addCallback(call)


class Stuck(Handler):
    """Never ends with a message."""

    def handle(self, message: Any, state: None) -> Any:
        answer = super().handle(message, state)
        return answer if message == "connection_close" else Deferred()


def follow(peer: Peer) -> None:
    """The peer listens, and goes when the server does."""
    for _ in range(AFTERWARDS * 10):
        peer.turn(0.1)
        if peer.transport.half_closed and not peer.gone:
            peer.leave()


def half_close(peer: Peer) -> None:
    """The peer says that it has said all."""
    peer.half_close()
    follow(peer)


def leave(peer: Peer) -> None:
    """The peer is gone."""
    peer.leave(ConnectionDone())


def reset(peer: Peer) -> None:
    """The peer's kernel knows of no connection."""
    peer.leave(ConnectionLost())


def fall_silent(peer: Peer) -> None:
    """The peer says nothing any more, not even a pong, but reads on."""
    for _ in range(60):
        peer.turn(5)


def vanish(peer: Peer) -> None:
    """The peer does not read any more, either."""
    peer.transport.reading = False
    fall_silent(peer)


def cut(handler: Handler, size: int, end: Callable[[Peer], None]) -> MemoryHost:
    """Send that much of the conversation, end it, and let time pass."""
    host = handler.host = MemoryHost(handler, websocket_options={"compress": True})
    peer = host.connect()
    if size:
        peer.send(BYTES[:size])
    end(peer)
    for _ in range(AFTERWARDS):
        peer.turn(1)
    return host


def assert_leaves_nothing(kind: type[Handler], end: Callable[[Peer], None], log: Log) -> None:
    """End conversations with such a handler after each byte. Nothing is left of them, and the handler heard of it."""
    for size in range(len(BYTES) + 1):
        handler = kind()
        host = cut(handler, size, end)
        where = f"after {size} bytes: {BYTES[:size][-20:]!r}"
        assert host.idle(), where
        assert handler.heard.count("connection_close") == handler.opened, where
        if handler.opened:
            assert handler.heard.pop() == "connection_close", where
        assert handler.heard == MESSAGES[: len(handler.heard)], where
        assert log.text == "", where


class TestEveryByte:
    @pytest.mark.parametrize("end", [half_close, leave, reset])
    @pytest.mark.parametrize("kind", [Handler, Slow, Stuck])
    def test_nothing_is_left_when_a_conversation_ends_at_any_byte(
        self, kind: type[Handler], end: Callable[[Peer], None], log: Log
    ) -> None:
        assert_leaves_nothing(kind, end, log)

    @pytest.mark.parametrize("end", [fall_silent, vanish])
    @pytest.mark.parametrize("kind", [Handler, Slow])
    def test_nothing_is_left_when_a_peer_falls_silent_at_any_byte(
        self, kind: type[Handler], end: Callable[[Peer], None], log: Log
    ) -> None:
        assert_leaves_nothing(kind, end, log)

    def test_a_whole_conversation_is_heard(self) -> None:
        for kind in (Handler, Slow):
            handler = kind()
            cut(handler, len(BYTES), follow)
            assert handler.heard == [*MESSAGES, "connection_close"]

    def test_no_object_of_an_ended_connection_is_left(self) -> None:
        def objects() -> set[int]:
            gc.collect()
            kinds = (Connection, HandlerSession, WebSocket, Engine)
            return {id(one) for one in gc.get_objects() if isinstance(one, kinds)}

        before = objects()
        for size in range(0, len(BYTES), 7):
            for end in (half_close, leave, reset):
                cut(Slow(), size, end)
        assert objects() <= before


#: Waits for what runs on any reactor.
HANDLER = """
from twisted.internet import reactor
from twisted.internet.task import deferLater

async def init(options):
    await deferLater(reactor, 0.001)

async def handle(message, state):
    await deferLater(reactor, 0.001)
    return ("reply", message[1], state) if message[0] == "text" else ("noreply", state)
"""

#: Over TCP it ends at one byte in twenty; at each, where WSHOST_TEST_EVERY_BYTE is set.
STEP = 1 if os.environ.get("WSHOST_TEST_EVERY_BYTE") else 20

HEAD_SIZE = BYTES.index(b"\r\n\r\n") + 4


def sockets(server: Server) -> int:
    """How many sockets the process has open."""
    descriptors = Path(f"/proc/{server.pid}/fd").iterdir()
    count = 0
    for descriptor in descriptors:
        with suppress(OSError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def assert_serves(server: Server) -> None:
    with connect(server.url) as client:
        client.send("hello")
        assert client.recv(10) == "hello"


def at_rest(server: Server) -> int:
    """How many it has open when nobody is there; it says that it listens before it has them all."""
    assert_serves(server)
    time.sleep(0.2)
    return sockets(server)


def assert_rests(server: Server, count: int, seconds: float) -> None:
    """It has no more sockets than that open, soon."""
    deadline = time.monotonic() + seconds
    while (left := sockets(server)) > count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == count


def end_socket(client: socket.socket, how: str) -> None:
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half-close":
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass
    client.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
class TestSockets:
    @pytest.mark.parametrize("reactor", [None, "epoll"], ids=["default", "epoll"])
    @pytest.mark.parametrize("kind", ["plain", "async"])
    def test_no_socket_is_left_when_a_conversation_ends_at_any_byte(
        self, reactor: str | None, kind: str, tmp_path: Path
    ) -> None:
        handler = "wshost.handlers.echo"
        if kind == "async":
            handler = str(tmp_path / "slow.py")
            Path(handler).write_text(HANDLER)
        with running_server(
            f"--handler={handler}", "--compress", "--close-timeout=1", "--handshake-timeout=1", reactor=reactor
        ) as server:
            before = at_rest(server)
            for size in range(0, len(BYTES) + 1, STEP):
                for how in ("close", "half-close", "reset"):
                    client = socket.create_connection(("127.0.0.1", server.port), 10)
                    client.sendall(BYTES[:size])
                    end_socket(client, how)
            # Whoever is served has been accepted behind all others: a busy server has few sockets before it sees them.
            assert_serves(server)
            assert_rests(server, before, 10)
            assert "Traceback" not in server.log
            assert "#error" not in server.log

    @pytest.mark.parametrize("reactor", [None, "epoll"], ids=["default", "epoll"])
    def test_a_reset_right_behind_data_is_noticed_at_once(self, reactor: str | None) -> None:
        with running_server(reactor=reactor) as server:
            before = at_rest(server)
            for size in (20, HEAD_SIZE, HEAD_SIZE + 10) * 5:
                client = socket.create_connection(("127.0.0.1", server.port), 10)
                client.sendall(BYTES[:size])
                end_socket(client, "reset")
            assert_serves(server)
            # Before any of its timeouts would find it.
            assert_rests(server, before, 3)
