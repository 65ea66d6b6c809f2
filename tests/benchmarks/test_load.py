"""The load counts what came back, and only if it is right."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks.client import Connection
from benchmarks.frames import BINARY, Burst, Parser, WrongAnswerError, bursts, server_frame
from benchmarks.load import Tally, broadcast, echo

VARIANTS = bursts([f"message {number}".encode() for number in range(4)], 2)

Answer = Callable[[Burst], bytes]
Open = Callable[[bytes], Connection]


@pytest.fixture(name="opened")
def _opened() -> Iterator[Open]:
    """Opens connections on which something is to be read already."""
    sockets: list[socket.socket] = []

    def make(said: bytes) -> Connection:
        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        theirs.sendall(said)
        ours.setblocking(False)
        return Connection(ours, None, Parser())

    yield make
    for one in sockets:
        one.close()


def cpu() -> Callable[[], float]:
    """A server's clock that goes on by a second whenever it is looked at."""
    seconds = iter(range(100))
    return lambda: float(next(seconds))


def echoed(*connections: Connection) -> Tally:
    return echo(connections, VARIANTS, cpu(), warm_up=0.0, seconds=0.0)


def shortest(burst: Burst) -> bytes:
    return burst.reply


def long_lengths(burst: Burst) -> bytes:
    return b"".join(b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload for payload in burst.payloads)


def fragments(burst: Burst) -> bytes:
    return b"".join(
        server_frame(payload[:1], fin=False) + server_frame(b"", 9) + server_frame(payload[1:], 0)
        for payload in burst.payloads
    )


class Server(threading.Thread):
    """Answers the bursts of the first connection, on all of them, until it is left."""

    def __init__(self, answer: Answer, connections: int) -> None:
        super().__init__()
        pairs = [socket.socketpair() for _ in range(connections)]
        self.connections = [Connection(ours, None, Parser()) for ours, _ in pairs]
        self._sockets = [theirs for _, theirs in pairs]
        self._answer = answer
        for ours, _ in pairs:
            ours.setblocking(False)

    def run(self) -> None:
        for burst in itertools.cycle(VARIANTS):
            if self._sockets[0].recv(len(burst.request), socket.MSG_WAITALL) != burst.request:
                return
            for one in self._sockets:
                one.sendall(self._answer(burst))

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.socket.shutdown(socket.SHUT_WR)
        self.join()
        for connection, theirs in zip(self.connections, self._sockets, strict=True):
            connection.socket.close()
            theirs.close()


@pytest.mark.parametrize("answer", [shortest, long_lengths, fragments])
class TestRightAnswers:
    def test_each_burst_that_is_echoed_counts_once(self, answer: Answer) -> None:
        with Server(answer, 1) as server:
            tally = echo(server.connections, VARIANTS, cpu(), warm_up=0.01, seconds=0.02)
        assert tally.messages >= 6
        assert tally.total > tally.messages
        assert len(tally.times) == tally.messages / 2
        assert tally.cpu == 1.0
        assert 0.02 <= tally.seconds < 5.0

    def test_connections_can_be_used_for_another_run(self, answer: Answer) -> None:
        with Server(answer, 1) as server:
            for _ in range(2):
                # One burst of warm-up, three in the run, one waited for: after a sixth the server is where it was.
                assert echo(server.connections, VARIANTS, cpu(), warm_up=0.0, seconds=0.0).total == 8
                (connection,) = server.connections
                connection.socket.setblocking(True)
                connection.socket.sendall(VARIANTS[1].request)
                expected = answer(VARIANTS[1])
                assert connection.socket.recv(len(expected), socket.MSG_WAITALL) == expected
                connection.socket.setblocking(False)

    def test_a_broadcast_counts_for_each_of_its_receivers(self, answer: Answer) -> None:
        with Server(answer, 3) as server:
            tally = broadcast(server.connections, VARIANTS, cpu(), warm_up=0.01, seconds=0.02)
        assert tally.messages >= 6
        assert len(tally.times) == tally.messages / 6
        assert tally.cpu == 1.0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (VARIANTS[1].reply, "not those that were sent"),
        (VARIANTS[0].reply.replace(b"message 0", b"message O"), "not those that were sent"),
        (server_frame(b"message 0", BINARY) + VARIANTS[0].reply[11:], "opcode 2"),
        (b"\x83" + VARIANTS[0].reply[1:], "out of place"),
    ],
    ids=["the next burst", "one letter", "binary", "reserved"],
)
class TestWrongAnswers:
    def test_a_wrong_echo_is_an_error(self, opened: Open, said: bytes, why: str) -> None:
        with pytest.raises(WrongAnswerError, match=why):
            echoed(opened(said))

    def test_a_wrong_broadcast_is_an_error(self, opened: Open, said: bytes, why: str) -> None:
        with pytest.raises(WrongAnswerError, match=why):
            broadcast([opened(said)], VARIANTS, cpu(), warm_up=0.0, seconds=0.0)


def test_a_server_that_closes_a_connection_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(VARIANTS[0].reply[:5])
        theirs.shutdown(socket.SHUT_WR)
        ours.setblocking(False)
        with pytest.raises(WrongAnswerError, match="closed a connection"):
            echoed(Connection(ours, None, Parser()))


def test_each_connection_begins_with_another_burst(opened: Open) -> None:
    """One turn is the warm-up, three are the run; what is on its way then is waited for."""
    first, second = (variant.reply for variant in VARIANTS)
    connections = [opened((first + second) * 2 + first), opened((second + first) * 2 + second)]
    tally = echoed(*connections)
    assert (tally.messages, tally.total, tally.cpu) == (12, 16, 1.0)
