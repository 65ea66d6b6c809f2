"""The figures of turns, their median and their minimum. Does not know how they were measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Sample:
    """The figures of one turn, or the medians or minima of several. None: not measured in this cell."""

    #: The server's CPU time for each message (delivery, connection).
    cpu_us: float | None = None
    #: Messages (deliveries, connections).
    per_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    max_us: float | None = None
    #: The part of the time in which the server was on its core. Far below 1, the load or the kernel was the limit.
    busy: float | None = None
    #: Bytes that the server has sent for each message, if messages are compressed.
    wire_bytes: float | None = None
    #: Memory for each connection.
    bytes: float | None = None
    #: Time from the start to listening, of an import, or of a turn; a storm's turn ends when all connections are open.
    seconds: float | None = None


@dataclass
class Result:
    """All figures of one server in one cell."""

    cell: str
    server: str
    rounds: list[Sample] = field(default_factory=list)

    @property
    def median(self) -> Sample:
        """The median of each figure: this one counts."""
        return _of_each(self.rounds, statistics.median)

    @property
    def minimum(self) -> Sample:
        """The minimum of each figure: the server's on the machine at its fastest."""
        return _of_each(self.rounds, min)


def _of_each(samples: Sequence[Sample], one: Callable[[list[float]], float]) -> Sample:
    rows = [asdict(sample) for sample in samples]
    return Sample(**{name: None if rows[0][name] is None else one([row[name] for row in rows]) for name in rows[0]})


def percentile(values: Sequence[float], part: float) -> float:
    """Return the percentile of some values, by the nearest rank.

    :param part: from 0 to 1; 0.99 for p99.
    """
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]
