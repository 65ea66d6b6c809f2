"""The cells of the table: what each sends, which figure counts, and the goal. Does not know how cells are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["echo", "broadcast", "connect", "memory", "start", "import", "flood"]
Figure = Literal["cpu_us", "p50_us", "p99_us", "per_second", "bytes", "seconds"]

#: The title of each figure in the table.
TITLES: dict[Figure, str] = {
    "cpu_us": "CPU µs",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "per_second": "per s",
    "bytes": "bytes",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    name: str
    group: str
    kind: Kind = "echo"
    connections: int = 64
    #: The size of each message, in bytes.
    size: int = 64
    in_flight: int = 1
    tls: bool = False
    #: Messages are JSON instead of text, and compressed.
    deflate: bool = False
    #: The kind of messages that another connection sends as fast as it can; empty for none.
    flood: str = ""
    #: The figure that is compared.
    figure: Figure = "cpu_us"
    #: The goal: wshost's figure is at most so many times the best peer's; at least, where more is better.
    ratio: float | None = None
    #: For the goal, only peers count that sleep while there is nothing to do. A peer that polls answers a single client
    #: sooner than even a C server that sleeps, but keeps a whole core busy for it.
    sleeping: bool = False
    #: The goal: wshost's figure is at most this.
    absolute: float | None = None
    #: The goal: wshost's figure is at most so many times its own figure in another cell.
    growth: tuple[str, float] | None = None
    #: The cell is part of a quick run.
    quick: bool = False

    @property
    def more_is_better(self) -> bool:
        """Whether a higher figure is a better one."""
        return self.figure == "per_second"


ECHO, LARGE, MANY = "echo", "echo, large messages", "echo, many connections"
BROADCAST, TLS, DEFLATE, COSTS = "broadcast to 1,000", "TLS echo", "deflate echo (JSON)", "connections, memory, start"
FLOOD = "one polite connection beside a flood"
KIB = 1024
#: The longest p99 latency of a polite connection beside any flood, in µs, that wshost's limits promise.
PROMPT = 100_000

CELLS = (
    Cell("echo-64-1", ECHO, ratio=1.0, quick=True),
    Cell("echo-64-16", ECHO, in_flight=16, absolute=1.0, quick=True),
    Cell("echo-1k-1", ECHO, size=KIB, ratio=1.0),
    Cell("echo-1k-16", ECHO, size=KIB, in_flight=16, ratio=0.5),
    Cell("latency-64", ECHO, connections=1, figure="p50_us", ratio=1.0, sleeping=True, quick=True),
    Cell("echo-64k", LARGE, connections=8, size=64 * KIB, ratio=1.0, quick=True),
    Cell("echo-1m", LARGE, connections=4, size=KIB * KIB, ratio=1.0),
    Cell("many-10", MANY, connections=10),
    Cell("many-1000", MANY, connections=1_000),
    Cell("many-10000", MANY, connections=10_000, growth=("many-10", 1.3)),
    Cell("broadcast-1", BROADCAST, "broadcast", connections=1_000, ratio=1.0),
    Cell("broadcast-4", BROADCAST, "broadcast", connections=1_000, in_flight=4, ratio=1.0),
    Cell("broadcast-16", BROADCAST, "broadcast", connections=1_000, in_flight=16, ratio=1.0, quick=True),
    Cell("broadcast-deflate", BROADCAST, "broadcast", connections=1_000, size=KIB, deflate=True),
    Cell("tls-64-1", TLS, tls=True, ratio=1.0, quick=True),
    Cell("tls-64-16", TLS, in_flight=16, tls=True, ratio=1.0),
    Cell("tls-64k", TLS, connections=8, size=64 * KIB, tls=True, ratio=1.0),
    Cell("deflate-200", DEFLATE, size=200, deflate=True, ratio=0.8),
    Cell("deflate-1k", DEFLATE, size=KIB, deflate=True, ratio=0.7, quick=True),
    Cell("deflate-16k", DEFLATE, size=16 * KIB, deflate=True, ratio=0.5),
    Cell("connect", COSTS, "connect", connections=1, figure="per_second", ratio=1.0, sleeping=True, quick=True),
    Cell("memory", COSTS, "memory", connections=10_000, figure="bytes", absolute=6_656),
    # Half as many connections: the handshakes take minutes, and the figure is for one connection.
    Cell("memory-tls", COSTS, "memory", connections=5_000, tls=True, figure="bytes", absolute=25_600),
    Cell("start", COSTS, "start", connections=0, figure="seconds", absolute=0.6, quick=True),
    Cell("import", COSTS, "import", connections=0, figure="seconds", quick=True),
    Cell("flood-none", FLOOD, "flood", connections=1, figure="p99_us", quick=True),
    Cell(
        "flood-messages", FLOOD, "flood", connections=1, flood="messages", figure="p99_us", absolute=PROMPT, quick=True
    ),
    Cell("flood-unread", FLOOD, "flood", connections=1, flood="unread", figure="p99_us", absolute=PROMPT),
    Cell("flood-fragments", FLOOD, "flood", connections=1, flood="fragments", figure="p99_us", absolute=PROMPT),
    Cell("flood-pings", FLOOD, "flood", connections=1, flood="pings", figure="p99_us", absolute=PROMPT),
    Cell("flood-large", FLOOD, "flood", connections=1, flood="large", figure="p99_us", absolute=PROMPT),
)
