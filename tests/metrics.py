"""The metrics that the admin endpoint exports: read from a scrape, so that they are those of the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families as parse

from tests.memory import MemoryHost
from wshost.admin.metrics import Family, Supervised, encode, read, supervised
from wshost.admin.seen import READY, Seen
from wshost.admin.sums import Sums
from wshost.handlers import echo
from wshost.handlers.timed import Durations
from wshost.process.watchdog import Watchdog


class Exported(NamedTuple):
    """One metric; a counter has the name of its samples."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]
    samples: frozenset[str]


def exported() -> Iterator[Exported]:
    """All metrics of servers with workers, also those that have no samples until something has happened."""
    host = MemoryHost(echo)
    account = host.hub.shared.account
    account.count_refusal(400, "This is not HTTP.")
    account.closed["1000", "peer"] += 1
    account.count_crash("chat", "handle")
    account.count_dropped("close")
    watchdog = Watchdog(0.25, host.reactor, lambda frames: "")
    build = dict.fromkeys(("version", "form", "python", "reactor"), "x")
    made: list[list[Family]] = []
    seen = Seen(READY, host.hub.shared, host.hub.topics, {"echo": Durations()}, watchdog, build)
    read(seen, 0.0).addCallback(made.append)
    whole = supervised(Supervised(True, 1, 1, 0, {"w1": 1}))
    data, _ = encode(Sums().total(made, whole), "")
    for family in parse(data.decode()):
        names = frozenset(sample.name for sample in family.samples)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = tuple(dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le"))
        yield Exported(name, family.type, family.documentation, labels, names)


#: Those of wshost itself; prometheus_client adds some of the process and of Python.
OURS = [one for one in exported() if one.name.startswith("wshost_")]
