from __future__ import annotations

import importlib
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from wshost import sockets
from wshost.sockets import is_broken, unacknowledged

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")


class Transport:
    """As Twisted's transports are."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle

    def getHandle(self) -> socket.socket:
        return self._handle


class Wrapper:
    """As TLS is: it has a transport, and a handle of its own that is no socket."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def getHandle(self) -> object:
        return object()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as one:
        other, _ = listening.accept()
        with other:
            yield one, other


@linux
class TestUnacknowledged:
    def test_grows_with_what_is_not_read_and_shrinks_with_what_is(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = pair
        transport = Transport(one)
        assert unacknowledged(transport) == 0
        one.send(bytes(1_000))
        waiting = unacknowledged(transport)
        assert waiting is not None
        assert waiting >= 1_000
        other.recv(1_000)
        assert unacknowledged(transport) == 0

    def test_of_tcp_is_what_the_peers_buffers_do_not_take(self, connected: tuple[socket.socket, socket.socket]) -> None:
        one, _ = connected
        one.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                one.send(bytes(1 << 20))
        waiting = unacknowledged(Transport(one))
        assert waiting is not None
        assert waiting > 0

    def test_looks_through_wrappers(self, pair: tuple[socket.socket, socket.socket]) -> None:
        one, _ = pair
        one.send(bytes(1_000))
        assert unacknowledged(Wrapper(Wrapper(Transport(one)))) == unacknowledged(Transport(one)) != 0

    def test_of_a_closed_socket_is_unknown(self) -> None:
        handle = socket.socket()
        handle.close()
        assert unacknowledged(Transport(handle)) is None

    def test_of_what_is_no_socket_is_unknown(self) -> None:
        with open(sys.executable, "rb") as file:  # noqa: PTH123 - a handle is wanted, and a file has one
            handle: Any = file
            assert unacknowledged(Transport(handle)) is None


class TestUnknown:
    def test_where_there_is_no_handle(self) -> None:
        assert unacknowledged(object()) is None
        assert unacknowledged(Wrapper(object())) is None

    @pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
    def test_on_other_platforms(
        self, platform: str, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        assert unacknowledged(Transport(pair[0])) is None

    def test_windows_has_no_fcntl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setattr(sys, "platform", "win32")
        assert importlib.reload(sockets).unacknowledged(object()) is None


class TestBroken:
    @pytest.mark.parametrize("wrap", [Transport, lambda one: Wrapper(Transport(one))], ids=["plain", "wrapped"])
    def test_by_a_reset_and_not_before(self, connected: tuple[socket.socket, socket.socket], wrap: Any) -> None:
        one, other = connected
        assert not is_broken(wrap(one))
        one.send(b"never read")
        assert not is_broken(wrap(one))
        other.close()
        assert is_broken(wrap(one))

    def test_not_by_an_end_as_a_half_closed_peer_may_read(self, connected: tuple[socket.socket, socket.socket]) -> None:
        one, other = connected
        other.shutdown(socket.SHUT_WR)
        assert not is_broken(Transport(one))

    def test_as_far_as_is_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = socket.socket()
        closed.close()
        assert not is_broken(Transport(closed))
        assert not is_broken(object())
        monkeypatch.delattr(select, "poll")
        with socket.socket() as one:
            assert not is_broken(Transport(one))
