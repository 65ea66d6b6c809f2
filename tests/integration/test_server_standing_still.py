"""A server that stands still, blocked by a handler or stopped by a signal, takes nobody for late afterwards."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pytest
import trustme

from tests.integration.server import PATIENCE, Server, running_server
from tests.memory import request
from tests.regressions import wire

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes can't be stopped there")

#: Peers of each kind; and the seconds for which the server stands still, longer than all its timeouts.
PEERS = 12
STALL = 1.2

HANDLER = """
import time

def init(options):
    return None

def handle(message, state):
    match message:
        case ("text", "bye"):
            return ("close", 4000, "bye", state)
        case ("text", "block"):
            time.sleep(1.2)
    return ("noreply", state)
"""


Stall = Callable[[Callable[[], None]], None]


class Endpoint(NamedTuple):
    server: Server
    #: For TLS.
    context: ssl.SSLContext | None


#: Reactors, whether with TLS, and how the server is made to stand still: every pair of these three comes.
CASES = [
    ("uvloop", False, "blocked"),
    ("uvloop", True, "stopped"),
    ("asyncio", True, "blocked"),
    ("asyncio", False, "stopped"),
    ("epoll", False, "blocked"),
    ("epoll", True, "stopped"),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, bool, str]:
    case: tuple[str, bool, str] = request.param
    return case


@pytest.fixture(scope="module")
def endpoint(case: tuple[str, bool, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A server with short timeouts."""
    reactor, tls, _ = case
    directory = tmp_path_factory.mktemp("stalls")
    (directory / "blocking.py").write_text(HANDLER)
    options = [f"--handler={directory / 'blocking.py'}", "--handshake-timeout=0.8", "--close-timeout=0.8"]
    options += ["--ping-interval=0.4", "--ping-timeout=0.8"]
    context = None
    if tls:
        authority = trustme.CA()
        context = ssl.create_default_context()
        authority.configure_trust(context)
        path = directory / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        options.append(f"--tls-cert={path}")
    with running_server(*options, reactor=reactor) as server:
        yield Endpoint(server, context)
        assert "Traceback" not in server.log


class Peer:
    """A client that never blocks.

    :param answers: pings, and Close.
    """

    def __init__(self, endpoint: Endpoint, *, answers: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", endpoint.server.port))
        self.socket.setblocking(False)
        self.answers = answers
        #: The response's head, and the frames behind it.
        self.head = b""
        self.frames: list[wire.Frame] = []
        #: How the server has ended it.
        self.end: str | None = None
        self._received = b""
        self._waiting = b""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if endpoint.context is not None:
            self._tls = endpoint.context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def send(self, data: bytes) -> None:
        """Send bytes; over TLS as soon as its handshake, which the first begin, is done."""
        self._waiting += data
        self._exchange()

    def receive(self) -> None:
        """Take what has come, and answer it."""
        try:
            data = self.socket.recv(65_536)
        except OSError:
            self.end = "reset"
            return
        if not data:
            self.end = "closed"
            return
        self._received += data if self._tls is None else self._decrypt(data)
        if not self.head and b"\r\n\r\n" in self._received:
            self.head, _, self._received = self._received.partition(b"\r\n\r\n")
        if self.head:
            # Those of these tests come whole.
            frames, self._received = list(wire.frames(self._received)), b""
            self.frames += frames
            for frame in frames:
                if self.answers and frame.opcode in {wire.PING, wire.CLOSE}:
                    self.send(wire.frame(wire.PONG if frame.opcode == wire.PING else wire.CLOSE, frame.payload))

    def _decrypt(self, data: bytes) -> bytes:
        assert self._tls is not None
        self._in.write(data)
        self._exchange()
        said = b""
        try:
            while more := self._tls.read(65_536):
                said += more
            self.end = "closed"
        except ssl.SSLWantReadError:
            pass
        return said

    def _exchange(self) -> None:
        try:
            if self._tls is None:
                self.socket.sendall(self._waiting)
            else:
                try:
                    self._tls.do_handshake()
                    self._tls.write(self._waiting)
                finally:
                    self.socket.sendall(self._out.read())
            self._waiting = b""
        except ssl.SSLWantReadError:
            pass
        except OSError:
            self.end = "reset"


@pytest.fixture
def peers(endpoint: Endpoint) -> Iterator[Peers]:
    """The clients of one test."""
    peers = Peers(endpoint)
    yield peers
    for peer in peers.all:
        peer.socket.close()


class Peers:
    """Clients that do what they do at the same time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.all: list[Peer] = []

    def connect(self, count: int = 1, *, answers: bool = True) -> list[Peer]:
        """Return new clients that have sent nothing."""
        peers = [Peer(self._endpoint, answers=answers) for _ in range(count)]
        self.all += peers
        return peers

    def open(self, count: int = 1, *, answers: bool = True) -> list[Peer]:
        """Return new clients that have done their handshakes."""
        peers = self.connect(count, answers=answers)
        for peer in peers:
            peer.send(request())
        assert self.wait(PATIENCE, lambda: all(peer.head for peer in peers))
        assert [wire.status(peer.head) for peer in peers] == [101] * count
        return peers

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let all of them do what they do, for some time or until something is so; return whether it is."""
        deadline = time.monotonic() + seconds
        there = {peer.socket.fileno(): peer for peer in self.all if peer.end is None}
        poll = select.poll()
        for number in there:
            poll.register(number, select.POLLIN)
        while not until() and (left := deadline - time.monotonic()) > 0:
            for number, _ in poll.poll(min(left, 0.05) * 1_000):
                there[number].receive()
                if there[number].end is not None:
                    poll.unregister(number)
        return until()

    def ended(self, peers: Iterable[Peer]) -> list[str]:
        """How those that have ended did."""
        return [peer.end for peer in peers if peer.end is not None]


@pytest.fixture
def stand_still(case: tuple[str, bool, str], endpoint: Endpoint, peers: Peers) -> Iterator[Stall]:
    """Let the server stand still for `STALL` seconds, while what is given is done by the peers."""
    server = endpoint.server
    if case[2] == "stopped":

        def stop(meanwhile: Callable[[], None]) -> None:
            os.kill(server.pid, signal.SIGSTOP)
            peers.wait(0.1)
            meanwhile()
            peers.wait(STALL)
            os.kill(server.pid, signal.SIGCONT)

        yield stop
        os.kill(server.pid, signal.SIGCONT)
    else:
        [blocker] = peers.open()

        def block(meanwhile: Callable[[], None]) -> None:
            blocker.send(wire.frame(wire.TEXT, b"block"))
            peers.wait(0.1)
            meanwhile()
            peers.wait(STALL - 0.1)

        yield block


def nothing() -> None:
    """Nothing is done meanwhile."""


def test_what_peers_sent_while_the_server_stood_still_counts_as_in_time(peers: Peers, stand_still: Stall) -> None:
    """However often it stands still in a row, with hardly time to read between. Peers that stay silent are dropped."""
    healthy = peers.open(PEERS)
    closing = peers.open(PEERS, answers=False)
    [silent] = peers.open(answers=False)
    [closed] = peers.open(answers=False)
    peers.wait(0.45)
    # TLS's handshakes begin only when the server looks no more.
    late = peers.connect(PEERS)
    [begun] = peers.connect()
    begun.send(request()[:20])
    for peer in [*closing, closed]:
        peer.send(wire.frame(wire.TEXT, b"bye"))
    bye = wire.Frame(wire.CLOSE, b"\x0f\xa0bye")
    assert peers.wait(PATIENCE, lambda: all(bye in peer.frames for peer in [*closing, closed]))

    def speak() -> None:
        for peer in late:
            peer.send(request())
        for peer in closing:
            peer.send(wire.close(4000))

    stand_still(speak)
    assert peers.wait(PATIENCE, lambda: all(peer.head or peer.end for peer in late))
    assert [wire.status(peer.head) for peer in late] == [101] * PEERS
    assert peers.wait(PATIENCE, lambda: len(peers.ended(closing)) == PEERS)
    assert peers.ended(closing) == ["closed"] * PEERS
    for _ in range(2):
        stand_still(nothing)
        peers.wait(0.02)
    assert peers.wait(PATIENCE, lambda: None not in {silent.end, closed.end, begun.end})
    assert peers.ended([*healthy, *late]) == []
    assert wire.PING in {frame.opcode for frame in silent.frames}
    assert closed.end == "reset"
    assert wire.status(begun.head) == 408
