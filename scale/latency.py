"""How long a message takes to a connection of another process, and whether all arrive. Yields the figures."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.running import CORES, on_core
from scale.brokers import bare_round_trip, nats
from scale.crowd import tell
from scale.nodes import OPTIONS, apart, needs_workers, node
from torture.figures import Figure
from torture.peers import ask, connected, read_frame
from torture.server import Target

#: Sends back what it gets, until the other end is closed.
_ECHO = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as connected:
    while data := connected.recv(1_000):
        connected.send(data)
"""


def _one_way(one: socket.socket, other: socket.socket, rounds: int) -> list[float]:
    """Return half of how long each answer of another process took, in microseconds, sorted."""
    name = ask(other, "!name")
    times: list[float] = []
    # The first ones are not counted: caches are filled.
    for count in (rounds // 10, rounds):
        tell(one, f"!ask {name} {count}")
        times = json.loads(read_frame(one)[1])
    return sorted(seconds / 2 * 1e6 for seconds in times)


def _figures(times: list[float], goal: float | None) -> Iterator[Figure]:
    yield Figure("one way, reactor to reactor: least", times[0], "µs")
    yield Figure("one way, reactor to reactor: p50", times[len(times) // 2], "µs", goal)
    yield Figure("one way, reactor to reactor: p99", times[int(len(times) * 0.99)], "µs")


def across_nodes(rounds: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: a question to another node and its answer, over NATS, beside NATS alone."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            broker = stack.enter_context(nats())
            servers = [stack.enter_context(node(target, broker)) for _ in range(2)]
            one, other = (stack.enter_context(connected(server.port)) for server in servers)
            bare = bare_round_trip(broker.port, rounds)
            times = _one_way(one, other, rounds)
        between = bare[len(bare) // 2] * 1e6
        yield Figure("NATS alone, there and back: p50", between, "µs")
        yield from _figures(times, None)
        yield Figure("p50 by that of NATS alone", times[len(times) // 2] / between, "", 2)

    return row


def across_workers(rounds: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: a question to another worker of the machine, and its answer."""

    def row(target: Target) -> Iterator[Figure]:
        needs_workers()
        with target.start("--workers=2", *OPTIONS, handler="scale.handler") as server, ExitStack() as stack:
            one, other = apart(server.port, stack)
            bare = _bare_hop(rounds)
            yield Figure("bytes alone between two processes, one way: p50", bare[len(bare) // 2] * 1e6, "µs")
            yield from _figures(_one_way(one, other, rounds), 40)

    return row


def _bare_hop(rounds: int) -> list[float]:
    """Return how long bytes take to another process on the core of the servers: seconds, sorted."""
    ours, theirs = socket.socketpair()
    with on_core(CORES[0]), ours:
        with theirs:
            echo = subprocess.Popen([sys.executable, "-c", _ECHO, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            ours.send(b"x" * 150)
            ours.recv(1_000)
            times.append((time.perf_counter() - start) / 2)
    echo.wait()
    return sorted(times)


def by_text(count: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: two processes send to a connection of a third, of which they have the text only."""

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            broker = stack.enter_context(nats())
            servers = [stack.enter_context(node(target, broker)) for _ in range(3)]
            receiver = stack.enter_context(connected(servers[0].port))
            senders = [stack.enter_context(connected(server.port)) for server in servers[1:]]
            name = ask(receiver, "!name")
            for number, sender in enumerate(senders):
                tell(sender, f"!send {name} {count} {number}")
            due = [0] * len(senders)
            disordered = arrived = 0
            receiver.settimeout(5.0)
            while arrived < count * len(senders):
                try:
                    who, number = map(int, read_frame(receiver)[1].split())
                except TimeoutError:
                    break
                arrived += 1
                disordered += number != due[who]
                due[who] = number + 1
            yield Figure("sent", count * len(senders))
            yield Figure("lost", count * len(senders) - arrived, "", 0)
            yield Figure("out of order", disordered, "", 0)

    return row
