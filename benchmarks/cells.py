"""The table: what each cell sends, what of it counts, and the goal; knows nothing of how that is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["echo", "broadcast", "rate", "connect", "storm", "memory", "start", "import", "flood"]
Figure = Literal["cpu_us", "p50_us", "p99_us", "bytes", "seconds"]

#: How each figure is called in the table. Of each, less is better.
TITLES: dict[Figure, str] = {
    "cpu_us": "CPU µs",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "bytes": "bytes",
    "seconds": "seconds",
}

#: Whose figure a goal speaks of, beside the names of servers.
BEST_PYTHON = "best Python peer"


@dataclass(frozen=True)
class Goal:
    """What wshost's figure may be at most."""

    limit: float
    #: The limit is so many times the figure of a server, or of the best Python peer. Empty: it is the figure itself.
    times: str = ""
    #: The limit is so much more than the figure of a server.
    above: str = ""
    #: The limit is so many times wshost's own figure in another cell.
    cell: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    name: str
    group: str
    kind: Kind = "echo"
    connections: int = 64
    #: Of each message, in bytes.
    size: int = 64
    in_flight: int = 1
    tls: bool = False
    #: JSON instead of text, and compressed.
    deflate: bool = False
    #: The handler, as `servers/answers.py` names it; empty for the plain one, in the server's fastest style.
    style: str = ""
    #: Messages a second, over all connections, whether or not answers have come.
    rate: int = 0
    #: Connections that send at the rate while those of a storm come.
    polite: int = 0
    #: Of what one other connection sends as fast as it can.
    flood: str = ""
    #: What of the figures is compared.
    figure: Figure = "cpu_us"
    goals: tuple[Goal, ...] = ()
    #: At most so many turns of each server, where one takes seconds.
    turns: int = 100
    #: The cell that this one shows another figure of.
    of: str = ""
    #: Part of a quick run.
    quick: bool = False


ECHO, LARGE, MANY = "echo", "echo, large messages", "echo, many connections"
BROADCAST, TLS, DEFLATE, COSTS = "broadcast to 1,000", "TLS echo", "deflate echo (JSON)", "connections, memory, start"
FLOOD, ASYNC, LATENCY = "one polite connection beside a flood", "async handlers", "latency at a fixed rate"
KIB = 1024
#: Of a polite connection beside any flood: what the guards promise.
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
    # Half as many: a handshake takes milliseconds, and the figure is for each.
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
