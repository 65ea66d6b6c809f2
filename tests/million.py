"""Computes the numbers of docs/million.md from the measured ones: those of its first table, and of docs/performance.md.

Knows no test. `tests/figures.py` ties what is here to the page.
"""

from __future__ import annotations

import re
from math import ceil
from pathlib import Path

from wshost.settings.options import Settings

_DOCS = Path(__file__).parent.parent / "docs"
_PAGE = " ".join((_DOCS / "million.md").read_text().split())
_PERFORMANCE = (_DOCS / "performance.md").read_text()

Tie = tuple[str, tuple[str, ...]]
"""A phrase with {} for each number, and the numbers."""


def cell(row: str) -> str:
    """The figure of wshost in a row of the tables of docs/performance.md: the median, as it stands there."""
    (found,) = re.findall(rf"^\| {re.escape(row)} \| \*{{0,2}}([\d,.]+)", _PERFORMANCE, re.MULTILINE)
    return str(found)


def row(what: str) -> str:
    """A figure in the first table of the page, which `make scale` has printed."""
    (found,) = re.findall(rf"\| {re.escape(what)} \| ([\d,.]+) ", _PAGE)
    return str(found)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def short(value: float) -> str:
    """A number with two digits that count, and with all those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = f"{value:.1f}" if value >= 1 else f"{value:.2g}"
    return digits.removesuffix(".0")


def whole(value: float) -> str:
    return f"{round(value):,}"


_SCALE = {
    "server": "memory of the server for a connection with a topic of its own",
    "kernel": "memory of the kernel for a socket",
    "broker": "memory of the broker for a topic",
    "publisher": "CPU of a message for another process, publisher",
    "receiver": "CPU of a message for another process, receiver",
    "carrier": "CPU of a message for another process, broker",
}
_CELLS = {
    "memory": "memory, bytes",
    "memory_tls": "memory-tls, bytes",
    "connect": "connect-64, CPU µs",
    "connect_tls": "connect-tls-64, CPU µs",
    "echo": "many-10000, CPU µs",
    "delivery": "broadcast-1, CPU µs",
    "joined": "broadcast-16, CPU µs",
}

#: What the example has. The page says each.
CONNECTIONS, MACHINES, PROCESSORS = 1_000_000, 10, 4
#: Members of a room; seconds between two messages.
ROOM, PAUSE = 50, 10
#: Seconds over which clients come back; of a drain; the most that may be open; ports of one proxy for one address.
SOON, LATER, SPREAD, MOST, PORTS = 10, 60, 45, 30_000, 60_999 - 32_768 + 1

_M = {name: number(row(what)) for name, what in _SCALE.items()} | {
    name: number(cell(what)) for name, what in _CELLS.items()
}
_PROCESSES = MACHINES * PROCESSORS
_EACH = CONNECTIONS / _PROCESSES
_ON_MACHINE = CONNECTIONS / MACHINES
#: In KB.
_PLAIN = _M["server"] + _M["kernel"]
_TLS = (_M["memory_tls"] - _M["memory"]) / 1_000


def _cores(rate: float, cost: float) -> str:
    """How many processors something takes that comes so often a second, and costs so many µs."""
    return short(rate * cost / 1e6)


def _storm(connections: float, processes: int, seconds: float) -> tuple[str, str, str, str]:
    """What each process gets: connections, connections a second, and the share of its time in %, plain and with TLS."""
    rate = connections / processes / seconds
    return (
        whole(connections / processes),
        whole(rate),
        short(rate * _M["connect"] / 1e4),
        short(rate * _M["connect_tls"] / 1e4),
    )


def _measured() -> list[Tie]:
    """The first table."""
    return [
        *((f"| {what} | {{}} ", (row(what),)) for what in _SCALE.values()),
        (
            "| memory of the server for a connection, plain and with TLS | {} and {} bytes |",
            (cell(_CELLS["memory"]), cell(_CELLS["memory_tls"])),
        ),
        (
            "| CPU of a new connection with one echo and its end, plain and with TLS | {} and {} µs |",
            (cell(_CELLS["connect"]), cell(_CELLS["connect_tls"])),
        ),
        ("| CPU of an echo, with {} connections | {} µs |", ("10,000", cell(_CELLS["echo"]))),
        (
            "| CPU of a delivery to one of {} subscribers, one message in a turn and {} | {} and {} µs |",
            ("1,000", "16", cell(_CELLS["delivery"]), cell(_CELLS["joined"])),
        ),
    ]


def _example() -> list[Tie]:
    return [
        (
            "{} machines with {} processors each: {} processes with {} connections each, {} on a machine",
            (whole(MACHINES), whole(PROCESSORS), whole(_PROCESSES), whole(_EACH), whole(_ON_MACHINE)),
        ),
        ("`--max-connections {}`", (str(MOST * PROCESSORS),)),
        (
            "If one machine is lost, each process of the others has {}.",
            (whole(CONNECTIONS / (_PROCESSES - PROCESSORS)),),
        ),
        ("A proxy has {} ports for one address and port", (whole(PORTS),)),
        ("so {} proxies at least", (whole(ceil(_ON_MACHINE / PORTS)),)),
    ]


def _memory() -> list[Tie]:
    machine = _PLAIN * _ON_MACHINE / 1e6
    tls = (_PLAIN + _TLS) * _ON_MACHINE / 1e6
    return [
        (
            "| the server and the kernel | {} + {} = {} KB | {} GB | {} GB |",
            (
                row(_SCALE["server"]),
                row(_SCALE["kernel"]),
                short(_PLAIN),
                short(machine),
                short(machine * MACHINES),
            ),
        ),
        (
            "| the same with TLS in wshost | {} + {} = {} KB | {} GB | {} GB |",
            (short(_PLAIN), short(_TLS), short(_PLAIN + _TLS), short(tls), short(tls * MACHINES)),
        ),
        (
            "| a broker that knows all topics | {} KB | – | {} GB |",
            (row(_SCALE["broker"]), short(_M["broker"] * CONNECTIONS / 1e6)),
        ),
    ]


def _processors() -> list[Tie]:
    ping = Settings().ping_interval
    pings, messages = CONNECTIONS / ping, CONNECTIONS / PAUSE
    return [
        (
            "asked every {} seconds: {} pings a second, {} processors.",
            (f"{ping:g}", whole(pings), _cores(pings, _M["echo"])),
        ),
        (
            "every {} seconds, and gets an answer: {} a second, {} processors",
            (whole(PAUSE), whole(messages), _cores(messages, _M["echo"])),
        ),
    ]


def _broker() -> list[Tie]:
    own = CONNECTIONS / PAUSE
    rooms = CONNECTIONS / ROOM
    said = rooms / PAUSE
    interested = _PROCESSES * (1 - (1 - 1 / _PROCESSES) ** ROOM)
    others = _PROCESSES - 1
    return [
        (
            "a message for each connection, every {} seconds | {} | {} | {} | {} | {} + {} + {} |",
            (
                whole(PAUSE),
                whole(own),
                "1",
                whole(own),
                whole(own),
                *(_cores(own, _M[name]) for name in ("publisher", "carrier", "receiver")),
            ),
        ),
        (
            "a message in each room of {}, every {} seconds | {} | {} | {} | {} | {} + {} + {} |",
            (
                whole(ROOM),
                whole(PAUSE),
                whole(said),
                short(interested),
                whole(said * interested),
                whole(said * ROOM),
                _cores(said, _M["publisher"]),
                _cores(said * interested, _M["carrier"]),
                _cores(said * interested, _M["receiver"]),
            ),
        ),
        (
            "a message for all, every second | {} | {} | {} | {} | {} |",
            ("1", whole(others), whole(others), whole(CONNECTIONS), _cores(CONNECTIONS, _M["delivery"])),
        ),
        (
            "Its {} connections take a process {} seconds; {} if {} messages are published in one turn",
            (whole(_EACH), short(_EACH * _M["delivery"] / 1e6), short(_EACH * _M["joined"] * 16 / 1e6), "16"),
        ),
    ]


def _reconnecting() -> list[Tie]:
    one, two = _EACH, _ON_MACHINE
    return [
        (
            "A process makes {} connections a second, {} with TLS.",
            (whole(1e6 / _M["connect"]), whole(1e6 / _M["connect_tls"])),
        ),
        (
            "| one process dies; its clients come back within {} seconds | {} | {} | {} % | {} % |",
            (whole(SOON), *_storm(one, _PROCESSES - 1, SOON)),
        ),
        (
            "| one machine dies; its clients come back within {} seconds | {} | {} | {} % | {} % |",
            (whole(SOON), *_storm(two, _PROCESSES - PROCESSORS, SOON)),
        ),
        (
            "| one machine stops, with `--drain-spread {}` | {} | {} | {} % | {} % |",
            (whole(SPREAD), *_storm(two, _PROCESSES - PROCESSORS, SPREAD)),
        ),
        (
            "| all clients come back within {} seconds | {} | {} | {} % | {} % |",
            (whole(LATER), *_storm(CONNECTIONS, _PROCESSES, LATER)),
        ),
        (
            "they need {} seconds, {} with TLS",
            (short(_EACH * _M["connect"] / 1e6), short(_EACH * _M["connect_tls"] / 1e6)),
        ),
        ("waits {} seconds for a handshake", (f"{Settings().handshake_timeout:g}",)),
        (
            "With TLS, half of the processors' time is enough within {} seconds",
            (whole(ceil(CONNECTIONS * _M["connect_tls"] / 1e6 / _PROCESSES / 0.5)),),
        ),
    ]


def ties() -> list[Tie]:
    """All of the page."""
    return [
        *_measured(),
        *_example(),
        *_memory(),
        *_processors(),
        *_broker(),
        *_reconnecting(),
    ]
