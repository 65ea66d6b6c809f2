"""Adds up the metrics of several servers that serve as one. Knows no process, and not what a metric means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wshost.admin.metrics import Family

#: Of these gauges the largest value counts: the servers have the same topics, backplane and form.
LARGEST = frozenset({"wshost_topics", "wshost_backplane_away", "wshost_build_info"})
#: The kinds whose values never decrease.
_LASTING = frozenset({"counter", "histogram"})

#: A sample's name and its labels.
_Key = tuple[str, tuple[tuple[str, str], ...]]


class Sums:
    """The sums of servers that come and go. No counter and no histogram ever goes backwards."""

    def __init__(self) -> None:
        # The sums of those that have ended.
        self._ended: list[Family] = []
        # What was returned last: to add the same numbers in another order may give a little less.
        self._shown: dict[_Key, float] = {}

    def keep(self, families: Iterable[Family]) -> None:
        """Keep the counters and histograms of a server that has ended."""
        self._ended = added([self._ended, [one for one in families if one.kind in _LASTING]])

    def total(self, servers: Iterable[Iterable[Family]], whole: Sequence[Family]) -> list[Family]:
        """Return the sums over all servers, those that have ended included.

        :param servers: the metrics of each that is there.
        :param whole: metrics of all as one, instead of the servers' own.
        """
        left = {one.name: one for one in whole}
        sums = [left.pop(one.name, one) for one in added([*servers, self._ended])]
        return [self._grown(one) if one.kind in _LASTING else one for one in (*sums, *left.values())]

    def _grown(self, family: Family) -> Family:
        samples = []
        for name, labels, value in family.samples:
            key = (name, tuple(labels.items()))
            self._shown[key] = max(value, self._shown.get(key, 0.0))
            samples.append((name, labels, self._shown[key]))
        return family._replace(samples=samples)


def added(servers: Iterable[Iterable[Family]]) -> list[Family]:
    """Return each metric once, with the sums of its samples."""
    metrics: dict[str, Family] = {}
    sums: dict[str, dict[_Key, float]] = {}
    for families in servers:
        for family in families:
            metrics.setdefault(family.name, family)
            values = sums.setdefault(family.name, {})
            for name, labels, value in family.samples:
                key = (name, tuple(labels.items()))
                before = values.get(key, 0.0)
                values[key] = max(before, value) if name in LARGEST else before + value
    return [
        family._replace(samples=[(sample, dict(labels), value) for (sample, labels), value in sums[name].items()])
        for name, family in metrics.items()
    ]
