"""Opens the load that a cell needs: the one in C if it can do that, else the one in Python. Does not know servers."""

from __future__ import annotations

import atexit
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import trustme

from benchmarks import compiled_load, load, payloads
from benchmarks.cells import Cell
from benchmarks.client import Target, close_all, open_many, open_one
from benchmarks.compiled_load import CompiledLoad
from benchmarks.frames import CLOSE, Burst, WrongAnswerError, bursts, client_frame
from benchmarks.samples import Sample, percentile

#: How many bytes of different messages are prepared; at least two bursts.
_PREPARED = 1 << 18

#: For compression, at least this many: when a message is repeated, its last copy must have left the widest window,
#: 32 KiB, long before.
_PREPARED_JSON = 1 << 17


class Load(Protocol):
    """The connections to one server, open between turns."""

    def turn(self, seconds: float, cpu: Callable[[], float]) -> Sample:
        """Send for so many seconds; return the figures. See `CompiledLoad.turn`."""

    def close(self) -> None:
        """Close the connections."""


def sample_of(tally: load.Tally) -> Sample:
    """Return the figures of a tally.

    :raises WrongAnswerError: when no message came back in time.
    """
    if not tally.messages:
        raise WrongAnswerError("no message came back in the time of a turn")
    return Sample(
        cpu_us=tally.cpu / tally.messages * 1e6,
        per_second=tally.messages / tally.seconds,
        p50_us=percentile(tally.times, 0.5) / 1e3,
        p99_us=percentile(tally.times, 0.99) / 1e3,
        p999_us=percentile(tally.times, 0.999) / 1e3,
        max_us=max(tally.times) / 1e3,
        busy=tally.cpu / tally.seconds,
        seconds=tally.seconds,
    )


@cache
def certificate() -> tuple[str, str, ssl.SSLContext]:
    """Make a certificate, for this process alone.

    :returns: the server's file with key and chain, the authority's file, and a context for clients.
    """
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory)
    path, trusted = directory / "server.pem", directory / "authority.pem"
    path.write_bytes(issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.create_default_context()
    context.check_hostname = False
    authority.configure_trust(context)
    return str(path), str(trusted), context


def target_for(cell: Cell, port: int) -> Target:
    """Return where and how the load in Python connects."""
    return Target(port, certificate()[2] if cell.tls else None, cell.deflate)


@cache
def messages(cell: Cell) -> tuple[list[bytes], list[bytes] | None]:
    """Return the messages of a cell, and the answer to each; None for an echo."""
    bursts_of_a_cell = max(2, min(16, _PREPARED // (cell.size * cell.in_flight)))
    count = cell.in_flight * max(bursts_of_a_cell, cell.deflate * _PREPARED_JSON // cell.size)
    if cell.style in ("json", "orjson"):
        pairs = payloads.requests(count)
        return [request for request, _ in pairs], [reply for _, reply in pairs]
    return (payloads.jsons if cell.deflate else payloads.texts)(cell.size, count), None


@cache
def variants(cell: Cell, window_bits: int | None) -> list[Burst]:
    """Return the bursts of a cell, for the load in Python."""
    asked, answered = messages(cell)
    return bursts(asked, cell.in_flight, window_bits=window_bits, replies=answered)


@cache
def kept_back(cell: Cell) -> str:
    """Return the reason why a cell can't have the load in C; empty if it can."""
    if cell.deflate:
        return "load.c does not compress"
    return compiled_load.missing(tls=cell.tls)


def impossible(cell: Cell) -> str:
    """Return the reason why a cell can't be measured; empty if it can."""
    if cell.style == "orjson" and not find_spec("orjson"):
        return "orjson is not installed"
    if cell.kind in ("rate", "storm") or (cell.kind == "connect" and cell.connections > 1):
        why = kept_back(cell)
        return why and f"only the load in C can do this: {why}"
    return ""


def load_for(cell: Cell, port: int) -> Load:
    """Open the connections of a cell to a server.

    :raises WrongAnswerError: when they can't be opened.
    """
    if not kept_back(cell):
        asked, answered = messages(cell)
        options = {"rate": cell.rate, "polite": cell.polite, "in_flight": cell.in_flight}
        return CompiledLoad(
            cell.kind,
            port,
            cell.connections,
            asked,
            answered,
            authority=certificate()[1] if cell.tls else "",
            options={name: value for name, value in options.items() if value},
        )
    return PythonConnects(cell, port) if cell.kind == "connect" else PythonLoad(cell, port)


class PythonLoad:
    """The load in Python, for echoes and broadcasts."""

    def __init__(self, cell: Cell, port: int) -> None:
        self._cell = cell
        self._connections = open_many(target_for(cell, port), cell.connections)

    def turn(self, seconds: float, cpu: Callable[[], float]) -> Sample:
        """Send for so many seconds; return the figures."""
        connections = self._connections
        prepared = variants(self._cell, connections[0].window_bits)
        run = load.broadcast if self._cell.kind == "broadcast" else load.echo
        before = sum(connection.received for connection in connections)
        tally = run(connections, prepared, cpu, warm_up=0.0, seconds=seconds)
        wire = sum(connection.received for connection in connections) - before
        sample = sample_of(tally)
        return replace(sample, wire_bytes=wire / tally.total) if self._cell.deflate else sample

    def close(self) -> None:
        """Close the connections."""
        close_all(self._connections)


class PythonConnects:
    """The load in Python, for one new connection after the other: opening handshake, first echo, closing handshake."""

    def __init__(self, cell: Cell, port: int) -> None:
        self._target = target_for(cell, port)
        self._burst = variants(cell, None)[0]

    def turn(self, seconds: float, cpu: Callable[[], float]) -> Sample:
        """Connect again and again for so many seconds; return the figures."""
        farewell = client_frame((1000).to_bytes(2, "big"), b"\x12\x34\x56\x78", CLOSE)
        tally = load.Tally()
        with load.no_collection():
            before, start = cpu(), time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                begun = time.perf_counter_ns()
                connection = open_one(self._target)
                socket = connection.socket
                socket.settimeout(load.PATIENCE)
                socket.sendall(self._burst.request)
                said = b""
                while len(said) < len(self._burst.reply):
                    said += _some(socket.recv(4096))
                if said != self._burst.reply:
                    raise WrongAnswerError("the message that came back is not the one that was sent")
                tally.times.append(time.perf_counter_ns() - begun)
                socket.sendall(farewell)
                if _some(socket.recv(4096))[0] != 0x80 | CLOSE:
                    raise WrongAnswerError("the close is not answered by a close")
                socket.close()
                tally.messages += 1
            tally.cpu, tally.seconds = cpu() - before, elapsed
        return sample_of(tally)

    def close(self) -> None:
        """Do nothing: no connection is open between turns."""


def _some(data: bytes) -> bytes:
    if not data:
        raise WrongAnswerError("the server has closed the connection without a word")
    return data
