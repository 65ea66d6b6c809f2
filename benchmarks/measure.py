"""Measures the servers in one cell: all run at the same time, and take short turns; one that waits is stopped."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import accounting, fairness, importing, turns
from benchmarks.building import UnavailableError
from benchmarks.cells import Cell
from benchmarks.frames import WrongAnswerError
from benchmarks.peers import Launch, Peer
from benchmarks.running import Running, running
from benchmarks.samples import Result, Sample

#: The kinds of cells that run one server at a time; True for those that are measured in several rounds.
ALONE = {"memory": False, "start": True, "import": True, "flood": False}

#: The most memory that a connection takes, in the server, the kernel and the load together.
_MEMORY_OF_ONE = 96 << 10
_MEMORY_OF_ONE_TLS = 192 << 10

#: How many files this process has open besides the connections of the load in Python.
_OTHER_FILES = 500

#: Seconds of a round beside a flood.
_FLOOD_SECONDS = 2.0


@dataclass(frozen=True)
class Pace:
    """How long to measure."""

    #: The turns of each server, after one to warm up.
    turns: int = 10
    warm_up: float = 0.3
    seconds: float = 0.3
    #: The rounds of a cell that runs one server at a time.
    rounds: int = 3


def launch_for(cell: Cell) -> Launch:
    """Return the features that a cell needs of a server."""
    return Launch(
        broadcast=cell.kind == "broadcast",
        deflate=cell.deflate,
        style=cell.style,
        cert=turns.certificate()[0] if cell.tls else "",
        connections=cell.connections if cell.connections >= 10_000 else 0,
    )


def measure(cell: Cell, peers: Sequence[Peer], pace: Pace, say: Callable[[str], None]) -> list[Result]:
    """Measure servers in a cell. A server that fails is reported and left out.

    :param say: takes a line for the user.
    """
    if why := turns.impossible(cell):
        say(f"{cell.name} is left out: {why}")
        return []
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
    else:
        size = together(cell)
        for at in range(0, len(suited), size):
            _take_turns(cell, suited[at : at + size], pace, found=found, failed=failed, say=say)
    return [Result(cell.name, name, samples) for name, samples in found.items() if name not in failed]


def together(cell: Cell) -> int:
    """Return how many servers of a cell can run at the same time: memory and the number of open files limit that."""
    available = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert available
    most = (int(available[1]) << 10) // (cell.connections * (_MEMORY_OF_ONE_TLS if cell.tls else _MEMORY_OF_ONE))
    if turns.kept_back(cell):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
        most = min(most, files // cell.connections)
    return max(1, most)


def _take_turns(
    cell: Cell,
    peers: Sequence[Peer],
    pace: Pace,
    *,
    found: dict[str, list[Sample]],
    failed: set[str],
    say: Callable[[str], None],
) -> None:
    """Start servers, open their connections, and give each one turn after the other."""
    with ExitStack() as stack:
        ready: list[tuple[Running, turns.Load]] = []
        for peer in peers:
            with _leaving_out(peer, cell, failed, say), ExitStack() as own:
                server = own.enter_context(running(peer, launch_for(cell)))
                load = own.enter_context(closing(turns.load_for(cell, server.port)))
                server.pause()
                ready.append((server, load))
                stack.enter_context(own.pop_all())
        for number in range(min(pace.turns, cell.turns) + 1):
            # Each turn begins with another server.
            first = number % max(1, len(ready))
            for server, load in ready[first:] + ready[:first]:
                if server.peer.name not in failed:
                    with _leaving_out(server.peer, cell, failed, say):
                        sample = _turn(cell, server, load, pace.seconds if number else pace.warm_up)
                        found[server.peer.name] += [sample] if number else []


def _turn(cell: Cell, server: Running, load: turns.Load, seconds: float) -> Sample:
    server.resume()
    try:
        sample = load.turn(seconds, server.cpu)
        if cell.kind == "storm":
            # The next turn must not begin while the server still closes this one's connections.
            accounting.wait_until_idle(server.process.pid, 5.0)
        return sample
    except (WrongAnswerError, OSError) as error:
        raise WrongAnswerError(server.ended() or str(error)) from error
    finally:
        server.pause()


@contextmanager
def _leaving_out(peer: Peer, cell: Cell, failed: set[str], say: Callable[[str], None]) -> Iterator[None]:
    """Leave a server out of a cell if it fails, and report it."""
    try:
        yield
    except (UnavailableError, WrongAnswerError, OSError) as error:
        failed.add(peer.name)
        say(f"{cell.name}: {peer.name} is left out: {error}")


def _once(cell: Cell, peer: Peer, pace: Pace) -> Sample:
    if cell.kind == "import":
        return Sample(seconds=importing.import_seconds(peer.module))
    with running(peer, launch_for(cell)) as server:
        if cell.kind == "start":
            return Sample(seconds=server.started_in)
        if cell.kind == "flood":
            target = turns.target_for(cell, server.port)
            seconds = _FLOOD_SECONDS * min(1.0, pace.seconds / Pace.seconds)
            return turns.sample_of(fairness.beside(cell.flood, target, server.cpu, seconds))
        echo = replace(cell, kind="echo")
        # The first connections make the server load code: this memory must not count.
        with closing(turns.load_for(replace(echo, connections=10), server.port)):
            accounting.wait_until_idle(server.process.pid)
            before = accounting.pss(server.process.pid)
            with closing(turns.load_for(replace(echo, connections=cell.connections - 10), server.port)):
                accounting.wait_until_idle(server.process.pid)
                grown = accounting.pss(server.process.pid) - before
    return Sample(bytes=grown / (cell.connections - 10))
