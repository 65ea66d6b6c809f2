from __future__ import annotations

import importlib
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from wshost.connections import kernel
from wshost.connections.kernel import is_broken, limit_unsent, taken, waiting

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")


class Transport:
    """A transport as Twisted has it."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle

    def getHandle(self) -> socket.socket:
        return self._handle


class Ours(Transport):
    """A transport as ours is: it tells how much output it holds."""

    def __init__(self, handle: socket.socket, waiting: int) -> None:
        super().__init__(handle)
        self._waiting = waiting

    def get_write_buffer_size(self) -> int:
        return self._waiting


class Twisted(Transport):
    """A transport of Twisted's that holds output: a buffer of which three bytes are sent, and four bytes beside it."""

    dataBuffer = b"0123456789"
    offset = 3
    _tempDataLen = 4


def fill(one: socket.socket) -> int:
    """Send as much as the socket takes, and return how much that is."""
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += one.send(bytes(1 << 16))
    return sent


class Wrapper:
    """A transport as TLS has it: around another one, and with a handle that is no socket."""

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
    def test_a_tcp_peer_has_taken_what_it_has_acknowledged(
        self, connected: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = connected
        before = taken(Transport(one))
        assert before is not None
        one.send(bytes(1_000))
        assert other.recv(1_000, socket.MSG_WAITALL) == bytes(1_000)
        assert taken(Transport(one)) == before + 1_000

    def test_taken_grows_while_the_kernels_buffer_is_refilled(
        self, connected: tuple[socket.socket, socket.socket]
    ) -> None:
        """The amount that the kernel holds is the same before and after."""
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

    def test_taken_of_a_unix_socket_is_minus_what_kernel_and_transport_hold(
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

    def test_taken_looks_through_wrapping_transports(self, pair: tuple[socket.socket, socket.socket]) -> None:
        one, _ = pair
        one.send(bytes(1_000))
        assert taken(Wrapper(Wrapper(Ours(one, 5)))) == taken(Ours(one, 5)) != 0

    def test_taken_is_unknown_for_a_closed_socket(self) -> None:
        handle = socket.socket()
        handle.close()
        assert taken(Transport(handle)) is None

    def test_taken_is_unknown_for_a_handle_that_is_no_socket(self) -> None:
        with open(sys.executable, "rb") as file:  # noqa: PTH123 - a handle is wanted, and a file has one
            handle: Any = file
            assert taken(Transport(handle)) is None

    def test_taken_on_an_older_kernel_is_minus_what_the_transport_holds(
        self, connected: tuple[socket.socket, socket.socket]
    ) -> None:
        """The answer of an older kernel is too short to say what was acknowledged."""
        one, _ = connected

        class Older:
            def fileno(self) -> int:
                return one.fileno()

            def getsockopt(self, level: int, name: int, size: int) -> bytes:
                return bytes(104)

        older: Any = Older()
        assert taken(Ours(older, 300)) == -300


class TestTakenElsewhere:
    def test_taken_is_unknown_for_a_transport_without_a_handle(self) -> None:
        assert taken(object()) is None
        assert taken(Wrapper(object())) is None

    @pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
    def test_taken_on_other_platforms_asks_the_transport_alone(
        self, platform: str, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        pair[0].send(bytes(1_000))
        assert taken(Transport(pair[0])) is None
        assert taken(Ours(pair[0], 300)) == -300

    def test_the_module_imports_on_windows_which_has_no_fcntl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setattr(sys, "platform", "win32")
        assert importlib.reload(kernel).taken(object()) is None


class Listening:
    """A port as Twisted has it."""

    def __init__(self, handle: Any) -> None:
        self.socket = handle


class TestLimitUnsent:
    """The kernel holds output for a peer beyond what is on its way, and no limit of ours counts that."""

    @linux
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_the_kernel_holds_less_than_1_mb_for_a_peer_that_does_not_read(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as listening:
            limit_unsent(Listening(listening))
            with socket.create_connection(listening.getsockname()[:2]):
                accepted, _ = listening.accept()
                with accepted:
                    accepted.setblocking(False)
                    # Without, it is 2 to 4 MB here. The peer's buffer is some hundred KB.
                    assert fill(accepted) < 1_000_000

    def test_limit_unsent_leaves_other_sockets_alone(self) -> None:
        asked: list[Any] = []

        class Unix:
            family = socket.AF_UNIX

            def setsockopt(self, *args: Any) -> None:
                asked.append(args)

        limit_unsent(Listening(Unix()))
        limit_unsent(object())
        assert asked == []

    def test_limit_unsent_does_nothing_where_the_option_is_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        class Emulated:
            family = socket.AF_INET

            def setsockopt(self, *args: Any) -> None:
                asked.append(args)
                raise OSError("no such option")

        monkeypatch.setattr(socket, "TCP_NOTSENT_LOWAT", 25, raising=False)
        limit_unsent(Listening(Emulated()))
        assert len(asked) == 1
        monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT")
        limit_unsent(Listening(Emulated()))
        assert len(asked) == 1


class TestIsBroken:
    @pytest.mark.parametrize("wrap", [Transport, lambda one: Wrapper(Transport(one))], ids=["plain", "wrapped"])
    def test_a_connection_is_broken_once_the_peer_has_reset_it(
        self, connected: tuple[socket.socket, socket.socket], wrap: Any
    ) -> None:
        one, other = connected
        assert not is_broken(wrap(one))
        one.send(b"never read")
        assert not is_broken(wrap(one))
        other.close()
        assert is_broken(wrap(one))

    def test_a_connection_that_the_peer_has_half_closed_is_not_broken(
        self, connected: tuple[socket.socket, socket.socket]
    ) -> None:
        one, other = connected
        other.shutdown(socket.SHUT_WR)
        assert not is_broken(Transport(one))

    def test_a_connection_that_can_not_be_asked_is_not_broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = socket.socket()
        closed.close()
        assert not is_broken(Transport(closed))
        assert not is_broken(object())
        monkeypatch.delattr(select, "poll")
        with socket.socket() as one:
            assert not is_broken(Transport(one))


def test_a_transport_tells_how_much_it_holds() -> None:
    with socket.socket() as handle:
        assert waiting(Ours(handle, 17)) == waiting(Wrapper(Ours(handle, 17))) == 17
        assert waiting(Twisted(handle)) == 11
        assert waiting(Transport(handle)) is None
