"""Figures of turns, and what stands for many of them: median and minimum; knows nothing of how they were measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Sample:
    """What one turn has found; or what stands for several, figure by figure. None: not measured in such a cell."""

    #: Of the server, for each message (delivery, connection).
    cpu_us: float | None = None
    #: Messages (deliveries, connections).
    per_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    max_us: float | None = None
    #: The part of the time in which the server was on its core. Far from 1, the load or the kernel was what limits.
    busy: float | None = None
    #: That the server has sent for each message, where its messages are compressed.
    wire_bytes: float | None = None
    #: Of memory, for each connection.
    bytes: float | None = None
    #: From the start to listening; in a storm, until all connections are open.
    seconds: float | None = None


@dataclass
class Result:
    """All that is known of one server in one cell."""

    cell: str
    server: str
    rounds: list[Sample] = field(default_factory=list)

    @property
    def median(self) -> Sample:
        """The median of each figure over the turns: what counts."""
        return _of_each(self.rounds, statistics.median)

    @property
    def minimum(self) -> Sample:
        """The smallest of each figure over the turns: what the server took when the machine was at its fastest."""
        return _of_each(self.rounds, min)


def _of_each(samples: Sequence[Sample], one: Callable[[list[float]], float]) -> Sample:
    rows = [asdict(sample) for sample in samples]
    return Sample(**{name: None if rows[0][name] is None else one([row[name] for row in rows]) for name in rows[0]})


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which such a part of the values lies, by the nearest rank.

    :param part: from 0 to 1.
    """
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]
