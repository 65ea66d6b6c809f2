from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from twisted.internet.task import Clock

from tests.admin.conftest import Look
from tests.cluster.bus import Bus
from tests.memory import MemoryHost
from wshost.admin.metrics import Supervised, encode, export, read, supervised
from wshost.admin.seen import DRAINING
from wshost.cluster.local import LocalHubs
from wshost.cluster.outside import Outside
from wshost.cluster.subjects import Subjects
from wshost.handlers import echo
from wshost.handlers.timed import BOUNDS, Durations
from wshost.logs.limit import LogLimit
from wshost.process.watchdog import DELAYS, Watchdog

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1"


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples, by name and labels."""
    samples: dict[Any, float] = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples
            samples[key] = sample.value
    return samples


def scrape(look: Look, host: MemoryHost, state: str = "ready") -> Any:
    """Returns a function that returns one value, by name and labels."""
    exported: list[tuple[bytes, str]] = []
    export(look(state), "").addCallback(exported.append)
    host.reactor.advance(0)
    ((data, _),) = exported
    samples: Any = values(data.decode())
    return lambda name, **labels: samples[name, tuple(sorted(labels.items()))]


def test_a_scrape_counts_connections_and_what_went_through_them(look: Look, host: MemoryHost) -> None:
    host.connect()
    peer = host.open()
    peer.text("hello")
    value = scrape(look, host)
    assert value("wshost_ready") == 1
    assert value("wshost_connections", module="http") == 1
    assert value("wshost_connections", module="websocket") == 1
    assert value("wshost_connections_limit") == host.hub.shared.limits.max_connections
    assert value("wshost_connections_opened_total") == 2
    assert value("wshost_messages_total", direction="in") == 1
    assert value("wshost_messages_total", direction="out") == 1
    assert value("wshost_bytes_total", direction="in") == peer.connection.bytes_in
    assert value("wshost_bytes_total", direction="out") == peer.connection.stream.bytes_out
    assert value("wshost_output_waiting_bytes") == 0
    assert value("wshost_build_info", version="1.2.3", form="compiled") == 1
    assert value("process_resident_memory_bytes") > 0


@pytest.mark.parametrize("version", ["x", "1.x"])
def test_a_scraper_that_asks_for_a_version_that_is_no_number_gets_text(look: Look, version: str) -> None:
    exported: list[tuple[bytes, str]] = []
    export(look(), f"application/openmetrics-text;version={version}").addCallback(exported.append)
    [(data, media_type)] = exported
    assert media_type.startswith("text/plain")
    assert values(data.decode())


def test_a_scrape_counts_ends_and_refusals(look: Look, host: MemoryHost) -> None:
    host.open().connection.ref.close(4321)
    for connection in host.hub.shared.registry.all():
        connection.abort("on purpose")
    host.reactor.advance(0)
    host.connect().send(b"GET / HTTP/1.0\r\n\r\n")
    host.hub.shared.account.count_refusal(0, "It sent nothing.")
    value = scrape(look, host)
    assert value("wshost_closes_total", code="4xxx", side="server") == 1
    assert value("wshost_refusals_total", status="none", reason="It sent nothing.") == 1
    ((status, reason),) = [kind for kind in host.hub.shared.account.refused if kind[0]]
    assert value("wshost_refusals_total", status=str(status), reason=reason) == 1


def test_a_scrape_counts_topics_and_what_their_subscribers_did_not_get(look: Look, host: MemoryHost) -> None:
    first, second = host.open(), host.open()
    for peer, topics in ((first, "ab"), (second, "b")):
        for topic in topics:
            peer.connection.ref.subscribe(topic)
    first.transport.reading = False
    for _ in range(2):
        host.hub.topics.publish_locally("a", "x" * host.hub.shared.limits.max_output)
        first.turn()
    value = scrape(look, host)
    assert (value("wshost_topics"), value("wshost_subscriptions")) == (2, 3)
    assert value("wshost_publications_dropped_total") == host.hub.topics.dropped > 0


def test_a_scrape_counts_what_was_left_out_of_the_log(look: Look, host: MemoryHost) -> None:
    before = scrape(look, host)("wshost_log_events_left_out_total")
    host.hub.shared.failures.left_out += 2
    LogLimit.left_out += 3
    assert scrape(look, host)("wshost_log_events_left_out_total") == before + 5


def test_a_scrape_counts_crashes_and_messages_that_were_dropped(look: Look, host: MemoryHost) -> None:
    account = host.hub.shared.account
    account.count_crash("chat", "init")
    account.count_dropped("drop_old")
    value = scrape(look, host)
    assert value("wshost_handler_crashes_total", handler="chat", call="init") == 1
    assert value("wshost_ref_messages_dropped_total", policy="drop_old") == 1


def test_a_scrape_counts_slow_clients_that_were_dropped(look: Look, host: MemoryHost) -> None:
    assert scrape(look, host)("wshost_slow_clients_dropped_total") == 0
    limited = MemoryHost(echo, max_output_total=1 << 20).hub.shared
    assert limited.budget is not None
    limited.budget.dropped += 2
    assert scrape(lambda state: look(state)._replace(shared=limited), host)("wshost_slow_clients_dropped_total") == 2


def test_a_scrape_counts_what_goes_to_other_processes_and_comes(look: Look, host: MemoryHost) -> None:
    outside = Outside(Clock(), lambda call: None, LocalHubs(), Subjects(), machine="m", buffer=1_000)
    outside.add(Bus().backplane())
    outside.counts.published, outside.counts.received, outside.counts.dropped = 5, 4, 3
    outside.counts.lost, outside.counts.malformed, outside.counts.payloads_dropped = 2, 1, 6
    value = scrape(lambda state: look(state)._replace(outside=outside), host)
    assert value("wshost_backplane_away") == 1
    assert value("wshost_backplane_waiting_bytes") == 0
    assert value("wshost_backplane_messages_total", direction="out") == 5
    assert value("wshost_backplane_messages_total", direction="in") == 4
    assert value("wshost_backplane_messages_dropped_total") == 3
    assert value("wshost_backplane_payloads_dropped_total") == 6
    assert value("wshost_backplane_messages_lost_total") == 2
    assert value("wshost_backplane_malformed_total") == 1


def test_a_scrape_of_a_process_alone_shows_no_backplane_away(look: Look, host: MemoryHost) -> None:
    assert scrape(look, host)("wshost_backplane_away") == 0


def test_a_scrape_shows_how_late_the_reactor_is(look: Look, host: MemoryHost, watchdog: Watchdog) -> None:
    watchdog.long_turns = 2
    watchdog.delays[0], watchdog.delays[-1] = 3, 1
    watchdog.delayed = 12.5
    value = scrape(look, host)
    assert value("wshost_slow_turns_total") == 2
    name = "wshost_reactor_delay_seconds"
    assert [value(f"{name}_bucket", le=str(bound)) for bound in DELAYS] == [3] * len(DELAYS)
    assert value(f"{name}_bucket", le="+Inf") == value(f"{name}_count") == 4
    assert value(f"{name}_sum") == 12.5


def test_without_a_watchdog_there_are_no_slow_turns(look: Look, host: MemoryHost) -> None:
    exported: list[tuple[bytes, str]] = []
    export(look(watchdog=None), "").addCallback(exported.append)
    samples = values(exported[0][0].decode())
    assert samples["wshost_slow_turns_total", ()] == 0
    assert not [name for name, _ in samples if name.startswith("wshost_reactor_delay")]


def test_a_draining_server_is_not_ready(look: Look, host: MemoryHost) -> None:
    assert scrape(look, host, DRAINING)("wshost_ready") == 0


def test_handlers_seconds_are_a_histogram(look: Look, host: MemoryHost) -> None:
    durations = look().timings["chat"] = Durations()
    for seconds in (0.0002, 0.02, 0.02, 100.0):
        durations.add(seconds)
    value = scrape(look, host)
    name = "wshost_handler_seconds"
    counts = {bound: value(f"{name}_bucket", handler="chat", le=str(bound)) for bound in BOUNDS}
    assert (counts[0.0001], counts[0.00025], counts[0.01], counts[0.025], counts[10.0]) == (0, 1, 1, 3, 3)
    assert value(f"{name}_bucket", handler="chat", le="+Inf") == value(f"{name}_count", handler="chat") == 4
    assert value(f"{name}_sum", handler="chat") == 100.0402


def test_a_scraper_that_asks_for_openmetrics_gets_it(look: Look, host: MemoryHost) -> None:
    exported: list[tuple[bytes, str]] = []
    host.hub.shared.account.count_refusal(400, 'a "reason"\nwith a line end')
    export(look(), OPENMETRICS).addCallback(exported.append)
    ((data, media_type),) = exported
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(data.decode())}
    (refusal,) = families["wshost_refusals"].samples
    assert refusal.labels == {"status": "400", "reason": 'a "reason"\nwith a line end'}


def test_a_worker_has_its_processor_time_and_its_supervisor_counts_workers(look: Look) -> None:
    made: list[Any] = []
    read(look(), 1.5).addCallback(made.append)
    ours = supervised(Supervised(False, 50, 2, 3, {"w1": 1_000}))
    data, _ = encode([one for one in made[0] if one.name not in {family.name for family in ours}] + ours, "")
    samples = values(data.decode())
    assert samples["wshost_worker_cpu_seconds_total", ()] == 1.5
    assert samples["wshost_ready", ()] == 0
    assert samples["wshost_connections_limit", ()] == 50
    assert samples["wshost_workers", ()] == 2
    assert samples["wshost_worker_deaths_total", ()] == 3
    assert samples["wshost_worker_resident_bytes", (("worker", "w1"),)] == 1_000


def test_one_process_has_no_metrics_of_workers(look: Look, host: MemoryHost) -> None:
    exported: list[tuple[bytes, str]] = []
    export(look(), "").addCallback(exported.append)
    assert b"wshost_worker" not in exported[0][0]
