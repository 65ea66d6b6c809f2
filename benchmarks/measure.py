"""Measures the servers in one cell: a warm-up and a run in each round, rounds of all servers in turn."""

from __future__ import annotations

import ssl
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache

import trustme

from benchmarks import accounting, fairness, importing, load, payloads
from benchmarks.cells import Cell
from benchmarks.client import Target, close_all, open_many, open_one
from benchmarks.frames import CLOSE, Burst, WrongAnswerError, bursts, client_frame
from benchmarks.peers import Launch, Peer, Running, UnavailableError, cache_directory, running

#: The kinds of cells that run one server at a time; True for those that are measured in several rounds.
ALONE = {"memory": False, "start": True, "import": True, "flood": False}

#: From so many connections on, all rounds of a server follow each other, on the same connections: opening them takes
#: longer than a round, and the load can't have the connections of all servers open at the same time.
MANY = 1_000

#: Seconds of a round beside a flood.
_FLOOD_SECONDS = 2.0

#: How many bytes of different messages are prepared; at least two bursts.
_PREPARED = 1 << 18

#: For compression, at least this many: when a message is repeated, its last copy must have left the widest window,
#: 32 KiB, long before.
_PREPARED_JSON = 1 << 17


@dataclass(frozen=True)
class Pace:
    """How long to measure."""

    rounds: int = 3
    warm_up: float = 0.3
    seconds: float = 0.7


@dataclass(frozen=True)
class Sample:
    """The figures of one round, or the medians of several. None: not measured in this cell."""

    #: The server's CPU time for each message (delivery, connection).
    cpu_us: float | None = None
    #: Messages (deliveries, connections).
    per_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    #: The part of the time in which the server was on its core. Far below 1, the load or the kernel was the limit.
    busy: float | None = None
    #: Bytes that the server has sent for each message, if messages are compressed.
    wire_bytes: float | None = None
    #: Memory for each connection.
    bytes: float | None = None
    #: Time from the start to listening, or of an import.
    seconds: float | None = None


@dataclass
class Result:
    """All figures of one server in one cell."""

    cell: str
    server: str
    median: Sample
    rounds: list[Sample] = field(default_factory=list)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the percentile of some values, by the nearest rank.

    :param part: from 0 to 1; 0.99 for p99.
    """
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each figure."""
    rows = [asdict(sample) for sample in samples]
    return Sample(
        **{
            name: statistics.median([row[name] for row in rows]) if rows[0][name] is not None else None
            for name in rows[0]
        }
    )


def sample_of(tally: load.Tally) -> Sample:
    """Return the figures of a tally.

    :raises WrongAnswerError: when no message came back in time.
    """
    if not tally.messages:
        raise WrongAnswerError("no message came back in the time of a round")
    return Sample(
        cpu_us=tally.cpu / tally.messages * 1e6,
        per_second=tally.messages / tally.seconds,
        p50_us=percentile(tally.times, 0.5) / 1e3,
        p99_us=percentile(tally.times, 0.99) / 1e3,
        busy=tally.cpu / tally.seconds,
    )


@cache
def certificate() -> tuple[str, ssl.SSLContext]:
    """Make a certificate; return the file of key and chain for servers, and a context for clients."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    path = cache_directory() / "server.pem"
    path.write_bytes(issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    context = ssl.create_default_context()
    context.check_hostname = False
    authority.configure_trust(context)
    return str(path), context


@cache
def variants(size: int, in_flight: int, *, json: bool, window_bits: int | None) -> list[Burst]:
    """Return the bursts of a cell."""
    count = in_flight * max(2, min(16, _PREPARED // (size * in_flight)), json * _PREPARED_JSON // size)
    texts = payloads.jsons(size, count) if json else payloads.texts(size, count)
    return bursts(texts, in_flight, window_bits=window_bits)


def launch_for(cell: Cell) -> Launch:
    """Return the features that a cell needs of a server."""
    return Launch(
        broadcast=cell.kind == "broadcast",
        deflate=cell.deflate,
        cert=certificate()[0] if cell.tls else "",
        connections=cell.connections if cell.connections >= 10_000 else 0,
    )


def target_for(cell: Cell, port: int) -> Target:
    """Return where and how the load connects."""
    return Target(port, certificate()[1] if cell.tls else None, cell.deflate)


def measure(cell: Cell, peers: Sequence[Peer], pace: Pace, say: Callable[[str], None]) -> list[Result]:
    """Measure servers in a cell. A server that fails is reported and left out.

    :param say: takes a line for the user.
    """
    launch = launch_for(cell)
    suited = [peer for peer in peers if peer.suits(launch) and (cell.kind != "import" or peer.module)]
    found: dict[str, list[Sample]] = {peer.name: [] for peer in suited}
    failed: set[str] = set()
    if cell.kind in ALONE:
        # Each sample needs a fresh process, and no other server may run meanwhile.
        for _ in range(pace.rounds if ALONE[cell.kind] else 1):
            for peer in suited:
                if peer.name not in failed:
                    with _leaving_out(peer, cell, failed, say):
                        found[peer.name].append(_once(cell, peer, pace))
    elif cell.connections >= MANY:
        for peer in suited:
            with _leaving_out(peer, cell, failed, say), running(peer, launch) as server:
                found[peer.name] = _rounds(cell, server, pace, pace.rounds)
    else:
        with ExitStack() as stack:
            servers: list[Running] = []
            for peer in suited:
                with _leaving_out(peer, cell, failed, say):
                    servers.append(stack.enter_context(running(peer, launch)))
            for _ in range(pace.rounds):
                for server in servers:
                    if server.peer.name not in failed:
                        with _leaving_out(server.peer, cell, failed, say):
                            found[server.peer.name] += _rounds(cell, server, pace, 1)
                            accounting.wait_until_idle(server.process.pid)
    return [Result(cell.name, name, median(samples), samples) for name, samples in found.items() if name not in failed]


@contextmanager
def _leaving_out(peer: Peer, cell: Cell, failed: set[str], say: Callable[[str], None]) -> Iterator[None]:
    """Leave a server out of a cell if it fails, and report it."""
    try:
        yield
    except (UnavailableError, WrongAnswerError, OSError) as error:
        failed.add(peer.name)
        say(f"{cell.name}: {peer.name} is left out: {error}")


def _rounds(cell: Cell, server: Running, pace: Pace, count: int) -> list[Sample]:
    """Measure so many rounds on the same connections."""
    target = target_for(cell, server.port)
    if cell.kind == "connect":
        return [sample_of(_connects(target, server, pace)) for _ in range(count)]
    samples = []
    connections = open_many(target, cell.connections)
    try:
        bits = connections[0].window_bits
        prepared = variants(cell.size, cell.in_flight, json=cell.deflate, window_bits=bits)
        run = load.broadcast if cell.kind == "broadcast" else load.echo
        for _ in range(count):
            before = sum(connection.received for connection in connections)
            tally = run(connections, prepared, server.cpu, warm_up=pace.warm_up, seconds=pace.seconds)
            wire = sum(connection.received for connection in connections) - before
            sample = sample_of(tally)
            samples.append(replace(sample, wire_bytes=wire / tally.total) if cell.deflate else sample)
    finally:
        close_all(connections)
    return samples


def _connects(target: Target, server: Running, pace: Pace) -> load.Tally:
    """Make one connection after another: opening handshake, first echo, closing handshake."""
    tally = load.Tally()
    burst = variants(64, 1, json=False, window_bits=None)[0]
    farewell = client_frame((1000).to_bytes(2, "big"), b"\x12\x34\x56\x78", CLOSE)
    with load.no_collection():
        for seconds in (pace.warm_up, pace.seconds):
            tally = load.Tally()
            before, start = server.cpu(), time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                begun = time.perf_counter_ns()
                connection = open_one(target)
                socket = connection.socket
                socket.settimeout(load.PATIENCE)
                socket.sendall(burst.request)
                said = b""
                while len(said) < len(burst.reply):
                    said += _some(socket.recv(4096))
                if said != burst.reply:
                    raise WrongAnswerError("the message that came back is not the one that was sent")
                tally.times.append(time.perf_counter_ns() - begun)
                socket.sendall(farewell)
                if _some(socket.recv(4096))[0] != 0x80 | CLOSE:
                    raise WrongAnswerError("the close is not answered by a close")
                socket.close()
                tally.messages += 1
            tally.cpu, tally.seconds = server.cpu() - before, elapsed
    return tally


def _some(data: bytes) -> bytes:
    if not data:
        raise WrongAnswerError("the server has closed the connection without a word")
    return data


def _once(cell: Cell, peer: Peer, pace: Pace) -> Sample:
    if cell.kind == "import":
        return Sample(seconds=importing.import_seconds(peer.module))
    with running(peer, launch_for(cell)) as server:
        if cell.kind == "start":
            return Sample(seconds=server.started_in)
        target = target_for(cell, server.port)
        if cell.kind == "flood":
            return sample_of(fairness.beside(cell.flood, target, server.cpu, _FLOOD_SECONDS * min(1.0, pace.seconds)))
        # The first connections make the server load code: this memory must not count.
        connections = open_many(target, 10)
        try:
            accounting.wait_until_idle(server.process.pid)
            before = accounting.pss(server.process.pid)
            connections += open_many(target, cell.connections - 10)
            accounting.wait_until_idle(server.process.pid)
            grown = accounting.pss(server.process.pid) - before
        finally:
            close_all(connections)
    return Sample(bytes=grown / (cell.connections - 10))
