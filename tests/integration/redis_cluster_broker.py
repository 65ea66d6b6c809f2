"""Runs a Redis Cluster in processes of its own, on free ports; must not know what is tested with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.integration.redis_broker import RedisServer, free_port, redis_server

SLOTS = 16_384


class RedisCluster:
    """Three masters, the first of which has a replica.

    :param masters: by the order of their slots.
    """

    def __init__(self, masters: list[RedisServer], replica: RedisServer) -> None:
        self.masters = masters
        self.replica = replica
        self._ids = {server.port: server.ask("CLUSTER", "MYID").decode() for server in [*masters, replica]}

    def id(self, server: RedisServer) -> str:
        """Its name in the cluster."""
        name: str = self._ids[server.port]
        return name

    def form(self, last_slot: int = SLOTS - 1) -> None:
        """Make them a cluster, and wait until all know it."""
        first, *others = self.masters
        ends = [*(number * SLOTS // len(self.masters) for number in range(len(self.masters))), last_slot + 1]
        for number, master in enumerate(self.masters):
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            master.ask("CLUSTER", "ADDSLOTSRANGE", str(ends[number]), str(ends[number + 1] - 1))
        for server in [*others, self.replica]:
            bus = _word(first.ask("CONFIG", "GET", "cluster-port"))
            server.ask("CLUSTER", "MEET", "127.0.0.1", str(first.port), bus)
        for server in [*self.masters, self.replica]:
            server.ask_until(lambda answer: b"cluster_known_nodes:4" in answer, "CLUSTER", "INFO")
        self.replica.ask_until(lambda answer: answer == b"OK", "CLUSTER", "REPLICATE", self.id(first))
        self.replica.ask_until(lambda answer: b"connected" in answer, "ROLE")
        for server in [*self.masters, self.replica]:
            server.ask_until(lambda answer: b"cluster_state:ok" in answer, "CLUSTER", "INFO")
            server.ask_until(lambda answer: any(len(entry) == 4 for entry in answer), "CLUSTER", "SLOTS")

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Give a slot to another master, as ``redis-cli --cluster reshard`` does: it has no keys."""
        target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id(source))
        source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id(target))
        for server in [target, source, *self.masters]:
            server.ask("CLUSTER", "SETSLOT", str(slot), "NODE", self.id(target))

    def fail_over(self) -> None:
        """Kill the first master, and let its replica take its place."""
        self.masters[0].kill()
        self.replica.ask_until(lambda answer: answer == b"OK", "CLUSTER", "FAILOVER", "TAKEOVER")
        self.replica.ask_until(lambda answer: answer[0] == b"master", "ROLE")


def _word(answer: Any) -> str:
    value: bytes = answer[1]
    return value.decode()


@contextmanager
def redis_cluster(directory: Path, program: str = "redis", configuration: str = "") -> Iterator[RedisCluster]:
    """Run a cluster until the block ends."""
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                redis_server(
                    directory / f"node{number}",
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    str(free_port()),
                    "--cluster-node-timeout",
                    "60000",
                    "--repl-diskless-sync-delay",
                    "0",
                    program=program,
                    configuration=configuration,
                )
            )
            for number in range(4)
        ]
        cluster = RedisCluster(servers[:3], servers[3])
        cluster.form()
        yield cluster
