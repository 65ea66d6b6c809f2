"""What an idle connection costs in memory: the server, the kernel, and the broker. Yields the figures."""

from __future__ import annotations

import itertools
import re
import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from scale.brokers import Broker, nats
from scale.nodes import node
from torture.figures import Figure
from torture.peers import ask, connected, many
from torture.server import Server, Target

#: Connections that come before: what the first ones make the processes load must not count.
_FIRST = 500


def _resident(pid: int) -> float:
    """Return the resident memory of a process in KB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def _kernel() -> float:
    """Return the memory of the kernel's own objects in KB, those of all processes together."""
    found = re.search(r"^Slab: +(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1])


class _Growth:
    """What connections add to the memory of a server, of the kernel, and of a broker."""

    def __init__(self, server: Server, broker: Broker, make: Callable[[], socket.socket]) -> None:
        self._server = server
        self._broker = broker
        self._make = make

    def measure(self, count: int) -> tuple[float, float, float]:
        """Make so many connections, and return what each of them adds, in KB."""
        with many(_FIRST, self._make):
            before = self._now()
            with many(count, self._make):
                after = self._now()
        server, kernel, broker = ((late - early) / count for early, late in zip(before, after, strict=True))
        # The clients are on this machine, too.
        return server, kernel / 2, broker

    def _now(self) -> tuple[float, float, float]:
        return _resident(self._server.pid), _kernel(), _resident(self._broker.pid)


def idle(count: int, times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: idle connections, as they are, and each with a subscription to a topic of its own.

    :param count: of connections, at one time.
    :param times: how often; the kernel's memory is that of all programs, so the median counts.
    """

    def row(target: Target) -> Iterator[Figure]:
        numbers = itertools.count()
        kernel: list[float] = []
        for what in ("", " with a topic of its own"):
            with ExitStack() as stack:
                broker = stack.enter_context(nats())
                server = stack.enter_context(node(target, broker))

                def make(port: int = server.port, subscribes: bool = bool(what)) -> socket.socket:
                    made = connected(port)
                    if subscribes:
                        ask(made, f"!subscribe user.{next(numbers)}")
                    return made

                growth = _Growth(server, broker, make)
                # Memory that was freed is used again, so only the first time says what a process needs.
                found = [growth.measure(count) for _ in range(times)]
                kernel += [one[1] for one in found]
                yield Figure(f"memory of the server for a connection{what}", found[0][0], "KB")
                if what:
                    yield Figure(f"memory of the broker for a connection{what}", found[0][2], "KB")
        yield Figure("memory of the kernel for a socket: median", statistics.median(kernel), "KB")

    return row
