"""Lists the rows, in the order in which they run. Knows no command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scale import fanout, latency, losses, memory, outages, partitions, peers, workers
from torture.figures import Figure
from torture.server import Target


@dataclass(frozen=True)
class Row:
    """One row.

    :param name: by which `--only` finds it.
    :param run: starts servers, measures, and yields figures.
    """

    name: str
    run: Callable[[Target], Iterator[Figure]]


def rows(long: bool) -> Sequence[Row]:
    """Return all rows of a run.

    :param long: with more turns and more faults.
    """
    return (
        Row("send across nodes", latency.across_nodes(20_000 if long else 3_000)),
        Row("send across workers", latency.across_workers(20_000 if long else 3_000)),
        Row("references as text", latency.by_text(10_000)),
        Row("deliveries on two nodes", fanout.nodes(1_000, 60 if long else 12)),
        Row("deliveries on two workers", fanout.workers(1_000, 60 if long else 12)),
        Row("publish across nodes", fanout.publish(1_000, 30 if long else 6)),
        Row("deliveries beside other servers", peers.beside_peers(50, 20 if long else 5)),
        Row("burst beside other servers", losses.burst(100, 500 if long else 200)),
        Row("Redis that fails, beside other servers", losses.restart(5 if long else 1)),
        Row("memory of idle connections", memory.idle(10_000 if long else 3_000, 3)),
        Row("broker that fails", outages.nats_server(20 if long else 7)),
        Row("cluster of brokers that fail", outages.cluster(20 if long else 3)),
        Row("broker that fails: Valkey", outages.redis_server(20 if long else 7)),
        Row("master that fails: Valkey and Sentinel", outages.master(20 if long else 3)),
        Row("machine that is cut off", partitions.one_broker(10 if long else 1)),
        Row("machine that is cut off with its broker", partitions.own_brokers(10 if long else 1)),
        Row("echo by two workers", workers.echo(20 if long else 5)),
        Row("new connections at two workers", workers.connecting(20 if long else 5)),
        Row("memory of workers", workers.memory),
        Row("workers that are killed", workers.deaths(50 if long else 5)),
    )
