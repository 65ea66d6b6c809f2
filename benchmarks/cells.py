"""The cells of the table: what each sends, which figure counts, and the goal. Does not know how cells are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["echo", "broadcast", "rate", "connect", "storm", "memory", "start", "import", "flood"]
Figure = Literal["cpu_us", "p50_us", "p99_us", "bytes", "seconds"]

#: The title of each figure in the table. Of all figures, less is better.
TITLES: dict[Figure, str] = {
    "cpu_us": "CPU µs",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "bytes": "bytes",
    "seconds": "seconds",
}

#: In a goal, this stands for the Python peer with the best figure.
BEST_PYTHON = "best Python peer"


@dataclass(frozen=True)
class Goal:
    """The most that wshost's figure may be."""

    limit: float
    #: The limit is a multiple of this server's figure; with `BEST_PYTHON`, of the best Python peer's.
    times: str = ""
    #: The limit is a distance from this server's figure.
    above: str = ""
    #: The limit is a multiple of wshost's own figure in this cell.
    cell: str = ""


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
    #: The async handler, by its name in `servers/answers.py`; empty for an echo in the server's fastest style.
    style: str = ""
    #: How many messages a second leave on all connections together, whether or not answers have arrived.
    rate: int = 0
    #: How many connections send at this rate while the connections of a storm arrive.
    polite: int = 0
    #: The kind of messages that another connection sends as fast as it can; empty for none.
    flood: str = ""
    #: The figure that is compared.
    figure: Figure = "cpu_us"
    goals: tuple[Goal, ...] = ()
    #: The most turns of each server. Fewer where a turn takes seconds.
    turns: int = 100
    #: The cell that measures this one's figure too; empty if this one is measured itself.
    of: str = ""
    #: The cell is part of a quick run.
    quick: bool = False


ECHO, LARGE, MANY = "echo", "echo, large messages", "echo, many connections"
BROADCAST, TLS, DEFLATE, COSTS = "broadcast to 1,000", "TLS echo", "deflate echo (JSON)", "connections, memory, start"
FLOOD, ASYNC, LATENCY = "one polite connection beside a flood", "async handlers", "latency at a fixed rate"
KIB = 1024
#: The longest p99 latency of a polite connection beside any flood, in µs, that wshost's limits promise.
PROMPT = 100_000


def _python(limit: float) -> tuple[Goal, ...]:
    return (Goal(limit, BEST_PYTHON),)


_STORM = Cell("", COSTS, "storm", connections=10_000, rate=1_600, polite=16, turns=4)

CELLS = (
    Cell("echo-64-1", ECHO, goals=(Goal(1.0, "picows"),), quick=True),
    Cell("echo-64-16", ECHO, in_flight=16, goals=(Goal(0.7),), quick=True),
    Cell("echo-1k-1", ECHO, size=KIB, goals=_python(1.0)),
    Cell("echo-1k-16", ECHO, size=KIB, in_flight=16, goals=_python(0.5)),
    Cell("async-echo-64-1", ASYNC, style="echo", goals=_python(1.0), quick=True),
    Cell("async-echo-64-16", ASYNC, style="echo", in_flight=16, goals=_python(0.5), quick=True),
    Cell("async-json-1", ASYNC, style="json", size=130, goals=_python(0.85), quick=True),
    Cell("async-json-16", ASYNC, style="json", size=130, in_flight=16, goals=_python(0.7), quick=True),
    Cell("async-orjson-1", ASYNC, style="orjson", size=130, goals=(*_python(0.85), Goal(11.0))),
    Cell("async-orjson-16", ASYNC, style="orjson", size=130, in_flight=16, goals=(*_python(0.7), Goal(5.0))),
    Cell("async-wait-1", ASYNC, style="wait", goals=_python(0.9), quick=True),
    Cell("async-wait-16", ASYNC, style="wait", in_flight=16, goals=_python(0.9)),
    Cell("async-future-1", ASYNC, style="future", goals=_python(0.9)),
    Cell("async-future-16", ASYNC, style="future", in_flight=16, goals=_python(0.9)),
    Cell("latency", LATENCY, "rate", rate=20_000, figure="p50_us", goals=(Goal(4.0, above="limit"),), quick=True),
    Cell("latency-p99", LATENCY, "rate", rate=20_000, figure="p99_us", of="latency", quick=True),
    Cell("echo-64k", LARGE, connections=8, size=64 * KIB, goals=_python(1.0), quick=True),
    Cell("echo-1m", LARGE, connections=4, size=KIB * KIB, goals=_python(1.0)),
    Cell("many-10", MANY, connections=10),
    Cell("many-1000", MANY, connections=1_000),
    Cell("many-10000", MANY, connections=10_000, goals=(Goal(1.3, cell="many-10"),)),
    Cell("broadcast-1", BROADCAST, "broadcast", connections=1_000, goals=(Goal(1.0, "bun"),)),
    Cell("broadcast-4", BROADCAST, "broadcast", connections=1_000, in_flight=4, goals=_python(1.0)),
    Cell(
        "broadcast-16", BROADCAST, "broadcast", connections=1_000, in_flight=16, goals=(Goal(1.0, "bun"),), quick=True
    ),
    Cell("broadcast-deflate", BROADCAST, "broadcast", connections=1_000, size=KIB, deflate=True),
    Cell("tls-64-1", TLS, tls=True, goals=(Goal(0.9, "picows"), Goal(1.3, "bun")), quick=True),
    Cell("tls-64-16", TLS, in_flight=16, tls=True, goals=(Goal(1.5, "bun"),)),
    Cell("tls-64k", TLS, connections=8, size=64 * KIB, tls=True, goals=(Goal(1.0, "bun"),)),
    Cell("deflate-200", DEFLATE, size=200, deflate=True, goals=_python(0.8)),
    Cell("deflate-1k", DEFLATE, size=KIB, deflate=True, goals=(Goal(19.7),), quick=True),
    Cell("deflate-16k", DEFLATE, size=16 * KIB, deflate=True, goals=(Goal(77.0),)),
    Cell("connect-64", COSTS, "connect", goals=(Goal(75.0),), quick=True),
    Cell("connect-1", COSTS, "connect", connections=1, goals=(Goal(130.0),), quick=True),
    Cell("connect-tls-64", COSTS, "connect", tls=True, goals=(Goal(600.0),)),
    replace(_STORM, name="storm", figure="seconds", goals=(Goal(2.0),)),
    replace(_STORM, name="storm-polite", figure="p99_us", goals=(Goal(40_000),), of="storm"),
    Cell("memory", COSTS, "memory", connections=10_000, figure="bytes", goals=(Goal(3_200),)),
    # Half as many connections: each handshake takes milliseconds, and the figure is for one connection.
    Cell("memory-tls", COSTS, "memory", connections=5_000, tls=True, figure="bytes", goals=(Goal(12_000),)),
    Cell("start", COSTS, "start", connections=0, figure="seconds", goals=(Goal(0.2),), quick=True),
    Cell("import", COSTS, "import", connections=0, figure="seconds", quick=True),
    Cell("flood-none", FLOOD, "flood", connections=1, figure="p99_us", quick=True),
    *(
        Cell(f"flood-{flood}", FLOOD, "flood", 1, flood=flood, figure="p99_us", goals=(Goal(PROMPT),), quick=quick)
        for flood, quick in (
            ("messages", True),
            ("unread", False),
            ("fragments", False),
            ("pings", False),
            ("large", False),
        )
    ),
)
