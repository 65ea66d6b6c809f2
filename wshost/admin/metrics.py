"""All metrics, each once: name, help and where its value is read, for Prometheus. Counts nothing itself.

To export one more number, add a line to `_values`: docs/operations.md has the table of all, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred

from wshost.admin.seen import READY, Seen
from wshost.admin.totals import Totals
from wshost.cluster.outside import Counts
from wshost.handlers.timed import BOUNDS
from wshost.logs.limit import LogLimit
from wshost.process.watchdog import DELAYS

#: A value without labels, or values by the labels' values, which are as many as the labels.
_Value = float | Mapping[Any, float]


class Family(NamedTuple):
    """A metric with its samples, as plain data that can go to another process."""

    name: str
    text: str
    #: ``gauge``, ``counter`` or ``histogram``.
    kind: str
    #: The name, the labels and the value of each.
    samples: Sequence[tuple[str, Mapping[str, str], float]]


class Supervised(NamedTuple):
    """What only the supervisor of several workers knows."""

    ready: bool
    connections_limit: int
    #: How many workers serve, and how many have died.
    workers: int
    deaths: int
    #: How many bytes of memory each worker has, by its name.
    resident: Mapping[str, int]


def export(seen: Seen, accept: str) -> Deferred[tuple[bytes, str]]:
    """Return all metrics in the format that the scraper prefers, and its media type.

    :param accept: the request's field Accept.
    """
    return read(seen).addCallback(encode, accept)


def read(seen: Seen, cpu_seconds: float | None = None, a_turn: int | None = None) -> Deferred[list[Family]]:
    """Return all metrics of a server, but those of its process.

    :param cpu_seconds: the processor time of a worker; None in a server without workers.
    :param a_turn: see `Totals`.
    """

    def made(totals: Totals) -> list[Family]:
        metrics = [*_values(seen, totals), _handler_seconds(seen), _reactor_delay(seen)]
        if cpu_seconds is not None:
            metrics.append(_counter("worker_cpu_seconds", "Processor time of workers.", cpu_seconds))
        return _plain(metrics)

    return Totals(seen, a_turn).add_all().addCallback(made)


def supervised(by: Supervised) -> list[Family]:
    """Return the metrics that the supervisor of several workers has itself."""
    return _plain(
        [
            *_admittance(by.ready, by.connections_limit),
            _gauge("workers", "Workers that serve.", by.workers),
            _counter("worker_deaths", "Workers that have died.", by.deaths),
            _gauge("worker_resident_bytes", "Memory of a worker, with what it shares.", _by(by.resident), "worker"),
        ]
    )


def encode(families: Iterable[Family], accept: str) -> tuple[bytes, str]:
    """Return metrics, with those of this process, in the format that the scraper prefers, and its media type.

    :param accept: the request's field Accept.
    """
    try:
        encoder, media_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version in it is no number.
        encoder, media_type = choose_encoder("")
    registry = CollectorRegistry()
    registry.register(_Collector(families))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return encoder(registry), media_type


class _Collector(Collector):
    """The metrics of one scrape."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


def _plain(metrics: Iterable[Metric]) -> list[Family]:
    return [
        Family(
            one.name, one.documentation, one.type, [(name, labels, value) for name, labels, value, *_ in one.samples]
        )
        for one in metrics
    ]


def _admittance(ready: bool, limit: int) -> Iterator[Metric]:
    yield _gauge("ready", "1 while clients are let in.", ready)
    yield _gauge("connections_limit", "Connections that may be open.", limit)


def _values(seen: Seen, totals: Totals) -> Iterator[Metric]:
    shared, topics, traffic = seen.shared, seen.topics, totals.traffic
    account = shared.account
    yield from _admittance(seen.state == READY, shared.limits.max_connections)
    yield _gauge("connections", "Connections that are open.", _by(totals.modules), "module")
    yield _counter("connections_opened", "Connections that were made.", account.opened)
    yield _counter("refusals", "Clients that were refused.", _refusals(seen), "status", "reason")
    yield _counter("closes", "WebSockets that have ended.", account.closed, "code", "side")
    messages = {("in",): traffic.messages_in, ("out",): traffic.messages_out}
    yield _counter("messages", "Messages from and to clients.", messages, "direction")
    size = {("in",): traffic.bytes_in, ("out",): traffic.bytes_out}
    yield _counter("bytes", "Bytes from and to clients, without TLS.", size, "direction")
    yield _gauge("output_waiting_bytes", "Output that waits for clients.", totals.waiting)
    yield _gauge("topics", "Topics and patterns that have subscribers.", len(topics.names))
    yield _gauge("subscriptions", "Subscriptions to topics and patterns.", topics.subscriptions)
    yield _counter("publications_dropped", "Messages that subscribers did not get.", topics.dropped)
    yield _counter("ref_messages_dropped", "Messages of refs that were dropped.", _by(account.dropped), "policy")
    slow = shared.budget.dropped if shared.budget else 0
    yield _counter("slow_clients_dropped", "Clients that were dropped: too much output waited in all.", slow)
    yield _counter("handler_crashes", "Exceptions of users' code.", account.crashes, "handler", "call")
    outside = seen.outside
    counts = Counts() if outside is None else outside.counts
    away = outside is not None and not outside.is_connected
    yield _gauge("backplane_away", "1 while a backplane is not connected.", away)
    yield _gauge("backplane_waiting_bytes", "Output for other processes.", outside.waiting if outside else 0)
    messages = {("in",): counts.received, ("out",): counts.published}
    yield _counter("backplane_messages", "Messages from and to other processes.", messages, "direction")
    yield _counter("backplane_messages_dropped", "Messages for others that were not sent.", counts.dropped)
    dropped = counts.payloads_dropped
    yield _counter("backplane_payloads_dropped", "Payloads, of one message or more, that waited in vain.", dropped)
    yield _counter("backplane_messages_lost", "Messages of others that did not come.", counts.lost)
    yield _counter("backplane_malformed", "What came from others and was not understood.", counts.malformed)
    watchdog = seen.watchdog
    yield _counter("slow_turns", "Turns of the reactor that took too long.", watchdog.long_turns if watchdog else 0)
    left_out = LogLimit.left_out + shared.failures.left_out
    yield _counter("log_events_left_out", "Log events that the limit has left out.", left_out)
    yield _gauge("build_info", "What runs; its value is 1.", {tuple(seen.build.values()): 1}, *seen.build)


def _refusals(seen: Seen) -> dict[tuple[str, ...], float]:
    return {(str(status or "none"), reason): count for (status, reason), count in seen.shared.account.refused.items()}


def _handler_seconds(seen: Seen) -> Metric:
    family = HistogramMetricFamily("wshost_handler_seconds", "Time until handle has answered.", labels=["handler"])
    for name, durations in seen.timings.items():
        family.add_metric([name], _buckets(BOUNDS, durations.counts), durations.seconds)
    return family


def _reactor_delay(seen: Seen) -> Metric:
    family = HistogramMetricFamily("wshost_reactor_delay_seconds", "How late the reactor answers the watchdog.")
    if seen.watchdog is not None:
        family.add_metric([], _buckets(DELAYS, seen.watchdog.delays), seen.watchdog.delayed)
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    return list(zip([*map(str, bounds), "+Inf"], map(float, accumulate(counts)), strict=True))


def _by(values: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in values.items()}


def _gauge(name: str, text: str, value: _Value, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"wshost_{name}", text, labels=labels), value)


def _counter(name: str, text: str, value: _Value, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"wshost_{name}", text, labels=labels), value)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, value: _Value) -> Metric:
    for labels, one in (value if isinstance(value, Mapping) else {(): value}).items():
        family.add_metric(labels, float(one))
    return family
