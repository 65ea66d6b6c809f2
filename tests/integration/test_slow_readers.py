"""Peers that read slowly or not at all, on real sockets: the kernel reports what they have read in leaps."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.integration.server import Server, running_server
from tests.memory import request
from tests.regressions import wire
from wshost.connections.kernel import MAX_UNSENT
from wshost.connections.stream import MAX_SAVED_STALLS

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can be asked")

#: Answers with as many bytes as it is asked for.
HANDLER = """
def init(options):
    return None

def handle(message, state):
    match message:
        case ("text", count):
            return ("reply", bytes(int(count)), state)
    return ("noreply", state)
"""
#: Seconds for which a peer may read nothing; seconds for which each is watched, longer than any may read nothing.
STALL = 1
WATCHED = STALL * MAX_SAVED_STALLS + 3
#: More than all buffers take.
MUCH = 8_000_000

Connect = Callable[[int], socket.socket]


#: Kinds of endpoints, each on wshost's own ports and on Twisted's; both event loops have those of wshost.
TCP = ["uvloop-tcp", "epoll-tcp"]
TLS = ["asyncio-tls", "epoll-tls"]
UNIX = ["uvloop-unix", "epoll-unix"]


@pytest.fixture(scope="module", params=[*TCP, *TLS, *UNIX])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a short stall timeout, on one kind of endpoint."""
    reactor, kind = request.param.split("-")
    directory = tmp_path_factory.mktemp("slow")
    (directory / "generous.py").write_text(HANDLER)
    options = [f"--handler={directory / 'generous.py'}", f"--stall-timeout={STALL}"]
    # A ping waits behind output that is read slowly: it must not end the connection.
    options += ["--ping-interval=1", "--ping-timeout=1"]
    if kind == "tls":
        path = directory / "server.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        options.append(f"--tls-cert={path}")
    elif kind == "unix":
        options.append(f"--listen=unix:{directory / 'socket'}")
    with running_server(*options, reactor=reactor) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    """How to connect with a receive buffer of some size, 0 for the kernel's choice, and ask for much."""
    opened = []

    def connect(buffer: int) -> socket.socket:
        unix = server.url.startswith("unix:")
        client = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        opened.append(client)
        client.settimeout(WATCHED)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.connect(Path(server.url.removeprefix("unix:")).as_posix() if unix else ("127.0.0.1", server.port))
        if server.url.startswith("wss"):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            client = context.wrap_socket(client)
            opened.append(client)
        client.sendall(request())
        assert wire.status(client.recv(4_096)) == 101
        client.sendall(wire.frame(wire.TEXT, str(MUCH).encode()))
        return client

    yield connect
    for client in opened:
        with suppress(OSError):
            client.close()


def read(client: socket.socket, rate: int, seconds: float) -> int:
    """Read at a rate, in bytes a second; return how much that was until the time was over, or the peer had ended."""
    start = time.monotonic()
    count = 0
    with suppress(ConnectionError, ssl.SSLError):
        while (passed := time.monotonic() - start) < seconds:
            if int(passed * rate) > count:
                data = client.recv(int(passed * rate) - count)
                if not data:
                    break
                count += len(data)
            time.sleep(0.05)
    return count


def lasts(client: socket.socket) -> float:
    """Wait for the end of a connection without reading; return how long that took."""
    start = time.monotonic()
    with suppress(OSError):
        # A socket that is read from would tell of what came before.
        while time.monotonic() - start < 2 * WATCHED:
            client.send(wire.frame(wire.PONG))
            time.sleep(0.05)
    return time.monotonic() - start


def test_peers_that_read_steadily_are_served_and_those_that_do_not_read_are_dropped(connect: Connect) -> None:
    """Each peer asks for more than all buffers hold, so a peer that is dropped can't have read it all."""
    with ThreadPoolExecutor() as pool:
        default = pool.submit(read, connect(0), 40_000, WATCHED)
        large = pool.submit(read, connect(200_000), 80_000, WATCHED)
        small = pool.submit(read, connect(4_096), 10_000, WATCHED)
        nothing = pool.submit(lasts, connect(0))
        little = pool.submit(lasts, connect(4_096))
        assert default.result() >= 40_000 * (WATCHED - 1)
        assert large.result() >= 80_000 * (WATCHED - 1)
        assert small.result() >= 10_000 * (WATCHED - 1)
        assert STALL * 0.9 < nothing.result() < STALL * MAX_SAVED_STALLS + 2
        assert STALL * 0.9 < little.result() < STALL * MAX_SAVED_STALLS + 2


@pytest.mark.parametrize("server", [*TCP, *TLS], indirect=True)
def test_the_kernel_holds_little_output_for_a_peer_that_does_not_read(server: Server, connect: Connect) -> None:
    """No limit of ours counts what the kernel holds. A Unix socket's buffer is small by itself."""
    with connect(4_096):
        time.sleep(0.5)
        assert 0 < send_queue(server.port) < 2 * MAX_UNSENT + 100_000


#: Sends 2,000 messages of 8 KiB with ten keys, and one without.
FLOOD = """
def init(options):
    return options["worker"]

def handle(message, ref):
    if message == ("text", "go"):
        for number in range(2_000):
            ref.send(str(number).rjust(8_192), key=str(number % 10))
        ref.send("end")
    return ("noreply", ref)
"""


@pytest.mark.parametrize("reactor", ["uvloop", "epoll"])
@pytest.mark.parametrize(("policy", "kept"), [("drop_new", 0), ("drop_old", 15), ("conflate", 10)])
def test_a_slow_peer_gets_what_its_handlers_policy_keeps(tmp_path: Path, reactor: str, policy: str, kept: int) -> None:
    """The last numbers that it gets are those of the outbox; the first are what buffers have taken."""
    (tmp_path / "flood.py").write_text(FLOOD)
    options = [f"--handler={tmp_path / 'flood.py'}", "--max-output=128KiB", f"--when-slow={policy}"]
    with running_server(*options, reactor=reactor) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(WATCHED)
        client.connect(("127.0.0.1", server.port))
        client.sendall(request())
        assert wire.status(client.recv(4_096)) == 101
        client.sendall(wire.frame(wire.TEXT, b"go") + wire.frame(wire.PING, b"all"))
        data = b""
        # The pong may come before or after what waits in the outbox.
        while not (b"all" in data and (policy == "drop_new" or b"end" in data)):
            data += client.recv(65_536)
        texts = [frame.payload for frame in wire.frames(data) if frame.opcode == wire.TEXT]
        numbers = [int(text) for text in texts if text != b"end"]
        assert 0 < len(numbers) < 1_000
        assert numbers[:10] == list(range(10))
        if kept:
            # The messages of keys keep the places of the first ones that have waited.
            assert sorted(numbers[-kept:]) == list(range(2_000 - kept, 2_000))
            assert numbers[-kept - 1] < 1_000
        else:
            assert numbers == list(range(len(numbers)))
        assert "Traceback" not in server.log


def send_queue(port: int) -> int:
    """Return how many bytes wait in the kernel for the peers of a port (proc_net_tcp: tx_queue)."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if int(local.split(":")[1], 16) == port and state == "01":
            total += int(queues.split(":")[0], 16)
    return total
