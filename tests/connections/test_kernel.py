from __future__ import annotations

import importlib
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from wshost.connections import kernel
from wshost.connections.kernel import is_broken, limit_unsent, taken

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")


class Transport:
    """As Twisted's transports are."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle

    def getHandle(self) -> socket.socket:
        return self._handle


class Ours(Transport):
    """As ours are."""

    def __init__(self, handle: socket.socket, waiting: int) -> None:
        super().__init__(handle)
        self._waiting = waiting

    def get_write_buffer_size(self) -> int:
        return self._waiting


class Twisted(Transport):
    """With what Twisted's have of their output: what is sent from, of which some is sent, and what came since."""

    dataBuffer = b"0123456789"
    offset = 3
    _tempDataLen = 4


def fill(one: socket.socket) -> int:
    """Send as much as it takes; return that."""
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += one.send(bytes(1 << 16))
    return sent


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
class TestTaken:
    def test_of_tcp_is_what_the_peer_has_acknowledged(self, connected: tuple[socket.socket, socket.socket]) -> None:
        one, other = connected
        before = taken(Transport(one))
        assert before is not None
        one.send(bytes(1_000))
        assert other.recv(1_000, socket.MSG_WAITALL) == bytes(1_000)
        assert taken(Transport(one)) == before + 1_000

    def test_grows_though_what_is_taken_is_replaced_at_once(
        self, connected: tuple[socket.socket, socket.socket]
    ) -> None:
        """What the kernel holds is as much as before then."""
        one, other = connected
        one.setblocking(False)
        fill(one)
        before = taken(Transport(one))
        assert before is not None
        for _ in range(100):
            other.recv(1 << 20)
            fill(one)
        after = taken(Transport(one))
        assert after is not None
        assert after > before

    def test_of_a_unix_socket_is_what_is_left_both_there_and_in_the_transport(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = pair
        assert taken(Transport(one)) == 0
        one.send(bytes(1_000))
        left = taken(Transport(one))
        assert left is not None
        assert left <= -1_000
        assert taken(Ours(one, 500)) == left - 500
        assert taken(Twisted(one)) == left - 7 - 4
        other.recv(1_000)
        assert taken(Ours(one, 500)) == -500

    def test_looks_through_wrappers(self, pair: tuple[socket.socket, socket.socket]) -> None:
        one, _ = pair
        one.send(bytes(1_000))
        assert taken(Wrapper(Wrapper(Ours(one, 5)))) == taken(Ours(one, 5)) != 0

    def test_of_a_closed_socket_is_unknown(self) -> None:
        handle = socket.socket()
        handle.close()
        assert taken(Transport(handle)) is None

    def test_of_what_is_no_socket_is_unknown(self) -> None:
        with open(sys.executable, "rb") as file:  # noqa: PTH123 - a handle is wanted, and a file has one
            handle: Any = file
            assert taken(Transport(handle)) is None

    def test_of_an_older_kernel_is_what_is_left(self, connected: tuple[socket.socket, socket.socket]) -> None:
        """Its answer is shorter."""
        one, _ = connected

        class Older:
            def fileno(self) -> int:
                return one.fileno()

            def getsockopt(self, level: int, name: int, size: int) -> bytes:
                return bytes(104)

        older: Any = Older()
        assert taken(Ours(older, 300)) == -300


class TestUnknown:
    def test_where_there_is_no_handle(self) -> None:
        assert taken(object()) is None
        assert taken(Wrapper(object())) is None

    @pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
    def test_on_other_platforms_the_transport_alone_is_asked(
        self, platform: str, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        pair[0].send(bytes(1_000))
        assert taken(Transport(pair[0])) is None
        assert taken(Ours(pair[0], 300)) == -300

    def test_windows_has_no_fcntl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setattr(sys, "platform", "win32")
        assert importlib.reload(kernel).taken(object()) is None


class Listening:
    """As Twisted's ports are."""

    def __init__(self, handle: Any) -> None:
        self.socket = handle


class TestUnsent:
    """What the kernel takes for one peer beyond what is on its way, which no limit of ours counts."""

    @linux
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_is_limited_where_a_port_accepts(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as listening:
            limit_unsent(Listening(listening))
            with socket.create_connection(listening.getsockname()[:2]):
                accepted, _ = listening.accept()
                with accepted:
                    accepted.setblocking(False)
                    # Without, it is 2 to 4 MB here. The peer's buffer is some hundred KB.
                    assert fill(accepted) < 1_000_000

    def test_of_other_sockets_is_left_alone(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            limit_unsent(Listening(listening))
        limit_unsent(object())

    def test_is_not_limited_where_that_is_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Emulated:
            family = socket.AF_INET

            def setsockopt(self, *args: Any) -> None:
                raise OSError("no such option")

        limit_unsent(Listening(Emulated()))
        monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT", raising=False)
        limit_unsent(Listening(None))


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
