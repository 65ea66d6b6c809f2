from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.fastnet.surroundings import fill
from wshost.compiled import form
from wshost.fastnet import syscalls


@pytest.fixture
def calls() -> ModuleType:
    """The form that runs."""
    return syscalls


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    for either in pair:
        either.setblocking(False)
    yield pair
    for either in pair:
        either.close()


Sockets = tuple[socket.socket, socket.socket]


class TestAccepting:
    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
    def test_an_accepted_socket_does_not_block_and_has_its_peers_name(
        self, calls: ModuleType, family: socket.AddressFamily
    ) -> None:
        host = "127.0.0.1" if family is socket.AF_INET else "::1"
        with socket.create_server((host, 0), family=family) as listening:
            listening.setblocking(False)
            with pytest.raises(BlockingIOError):
                calls.accept(listening)
            with socket.create_connection(listening.getsockname()[:2]) as peer:
                accepted, name = calls.accept(listening)
                with accepted:
                    assert name == peer.getsockname()
                    assert accepted.gettimeout() == 0
                    assert not os.get_blocking(accepted.fileno())
                    assert not os.get_inheritable(accepted.fileno())
                    assert (accepted.family, accepted.type, accepted.proto) == (family, socket.SOCK_STREAM, 0)
                    assert accepted.getpeername() == peer.getsockname()

    def test_unix_sockets_are_accepted(self, calls: ModuleType, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as peer:
            listening.bind(str(tmp_path / "x"))
            listening.listen()
            listening.setblocking(False)
            peer.connect(str(tmp_path / "x"))
            accepted, name = calls.accept(listening)
            with accepted:
                assert (name, accepted.gettimeout()) == ("", 0)

    def test_a_closed_socket_accepts_nothing(self, calls: ModuleType) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            pass
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            calls.accept(listening)


class TestReceiving:
    def test_recv_returns_what_the_peer_has_sent(self, calls: ModuleType, pair: Sockets) -> None:
        pair[1].send(b"hello")
        assert calls.recv(pair[0].fileno()) == b"hello"

    def test_recv_returns_nothing_at_the_peers_end(self, calls: ModuleType, pair: Sockets) -> None:
        pair[1].close()
        assert calls.recv(pair[0].fileno()) == b""
        assert calls.recv_into(pair[0].fileno(), memoryview(bytearray(3)), 0) == 0

    def test_recv_returns_at_most_256_kib(self, calls: ModuleType, pair: Sockets) -> None:
        for either in pair:
            for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
                either.setsockopt(socket.SOL_SOCKET, option, 1 << 22)
        sent = pair[1].send(bytes(calls.READ_SIZE + 1))
        assert len(calls.recv(pair[0].fileno())) == min(sent, calls.READ_SIZE)

    def test_recv_raises_blocking_io_error_when_nothing_has_come(self, calls: ModuleType, pair: Sockets) -> None:
        with pytest.raises(BlockingIOError):
            calls.recv(pair[0].fileno())
        with pytest.raises(BlockingIOError):
            calls.recv_into(pair[0].fileno(), memoryview(bytearray(3)), 0)

    def test_recv_raises_what_the_system_says(self, calls: ModuleType) -> None:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            calls.recv(-1)

    def test_recv_into_begins_where_it_is_told(self, calls: ModuleType, pair: Sockets) -> None:
        pair[1].send(b"hello")
        room = bytearray(5)
        assert calls.recv_into(pair[0].fileno(), memoryview(room), 2) == 3
        assert room == b"\0\0hel"

    def test_recv_into_needs_a_writable_buffer(self, calls: ModuleType, pair: Sockets) -> None:
        pair[1].send(b"hello")
        with pytest.raises((BufferError, TypeError)):
            calls.recv_into(pair[0].fileno(), memoryview(b"12345"), 0)


class TestSending:
    @pytest.mark.parametrize("start", [0, 2])
    def test_send_begins_where_it_is_told(self, calls: ModuleType, pair: Sockets, start: int) -> None:
        assert calls.send(pair[0].fileno(), b"hello", start) == 5 - start
        assert pair[1].recv(10) == b"hello"[start:]

    def test_send_returns_how_much_was_taken_and_raises_blocking_io_error_when_nothing_is(
        self, calls: ModuleType, pair: Sockets
    ) -> None:
        data = bytes(1 << 24)
        assert 0 < calls.send(pair[0].fileno(), data, 0) < len(data)
        fill(pair[0])
        with pytest.raises(BlockingIOError):
            calls.send(pair[0].fileno(), data, 0)

    def test_send_to_a_peer_that_has_left_raises(self, calls: ModuleType, pair: Sockets) -> None:
        pair[1].close()
        with pytest.raises(BrokenPipeError):
            calls.send(pair[0].fileno(), b"hello", 0)

    @pytest.mark.parametrize("data", [None, "hello"])
    def test_send_takes_no_text(self, calls: ModuleType, pair: Sockets, data: Any) -> None:
        with pytest.raises(TypeError):
            calls.send(pair[0].fileno(), data, 0)


# Python does not check the start: a wrong one is harmless there.
if form() == "compiled":

    class TestC:
        @pytest.mark.parametrize("start", [-1, 6])
        def test_c_refuses_a_start_outside_of_the_buffer(self, calls: ModuleType, pair: Sockets, start: int) -> None:
            pair[1].send(b"hello")
            with pytest.raises(ValueError, match="the start is not in the buffer"):
                calls.recv_into(pair[0].fileno(), memoryview(bytearray(5)), start)
            with pytest.raises(ValueError, match="the start is not in the data"):
                calls.send(pair[0].fileno(), b"hello", start)
