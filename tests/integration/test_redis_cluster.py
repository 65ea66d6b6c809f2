"""The backplane over sharded publish and subscribe with real clusters: masters are killed, and slots move."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import wshost
from tests.integration.redis_broker import RedisServer, free_port, redis_server, tls_before
from tests.integration.redis_cluster_broker import RedisCluster, redis_cluster
from tests.integration.server import PATIENCE
from wshost.backplanes.conformity import Receiver, check_backplane
from wshost.backplanes.redis_cluster import RedisClusterBackplane
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.backplanes.shards import PARTS, SLOT_OF_PART, part_of
from wshost.cluster.envelope import Codec
from wshost.results import ConfigurationError


def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def run(scenario: Coroutine[Any, Any, None]) -> Deferred[None]:
    """What a test returns is awaited."""
    return Deferred.fromCoroutine(scenario)


def settings(*servers: RedisServer, **of_broker: Any) -> BackplaneSettings:
    brokers = tuple(Broker("127.0.0.1", server.port, **of_broker) for server in servers)
    return BackplaneSettings(scheme="redis+cluster", brokers=brokers, patience=PATIENCE)


#: All that begins so is in one part, so what is known of one subscription is known of those before it.
PREFIX = "c.o.n.formity"


async def conforms(using: BackplaneSettings) -> None:
    await check_backplane(lambda: RedisClusterBackplane(using), reactor(), PREFIX, patience=PATIENCE)


#: A subject of each part.
SUBJECTS = {part_of(f"s.{number}"): f"s.{number}" for number in reversed(range(PARTS * 20))}


class Member:
    """A backplane of one process, with its receiver."""

    def __init__(self, using: BackplaneSettings) -> None:
        self.backplane = RedisClusterBackplane(using)
        self.receiver = Receiver(reactor(), PATIENCE)

    def connect(self) -> Deferred[None]:
        return self.backplane.connect(reactor(), self.receiver)

    def came(self, subject: str) -> list[int]:
        return [int(payload) for name, payload in self.receiver.got if name == subject]

    @property
    def is_up(self) -> bool:
        return self.receiver.changes[-1] == "connected"


class Traffic:
    """One member publishes numbers on subjects, in order; the other receives them by subject, or by a pattern."""

    def __init__(self, one: Member, other: Member, subjects: list[str]) -> None:
        self.one, self.other = one, other
        self._subjects = subjects
        self.count = 0

    async def go_on(self, what: str, until: Callable[[], bool]) -> None:
        """Publish until something is so."""
        deadline = reactor().seconds() + PATIENCE
        while not until():
            assert reactor().seconds() < deadline, f"{what}: {self.one.receiver.changes, self.other.receiver.changes}"
            for subject in self._subjects:
                assert self.one.backplane.publish(subject, b"%d" % self.count)
            self.count += 1
            await deferLater(reactor(), 0.005)

    async def flow(self) -> None:
        """Publish until something newer than what was published so far has come on all subjects."""
        start = self.count
        await self.go_on("traffic", lambda: all((self.other.came(one) or [-1])[-1] > start for one in self._subjects))

    def check(self) -> None:
        """Nothing has come twice or late."""
        for subject in self._subjects:
            came = self.other.came(subject)
            assert came == sorted(set(came)), subject


async def two_members(
    using: BackplaneSettings, scenario: Callable[[Traffic], Coroutine[Any, Any, None]], pattern: str = ""
) -> None:
    """Play a scenario with two members; the second has subscribed to a subject of each part, or to a pattern."""
    one, other = Member(using), Member(using)
    try:
        await one.connect()
        await other.connect()
        for subject in [pattern] if pattern else SUBJECTS.values():
            other.backplane.subscribe(subject)
        traffic = Traffic(one, other, list(SUBJECTS.values()))
        await traffic.flow()
        await scenario(traffic)
        await traffic.flow()
        traffic.check()
    finally:
        await one.backplane.close()
        await other.backplane.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One of Redis, whose masters live on."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class TestClusters:
    def test_the_backplane_does_what_ibackplane_says(self, cluster: RedisCluster) -> Deferred[None]:
        return run(conforms(settings(*cluster.masters)))

    def test_any_server_of_the_cluster_shows_the_way(self, cluster: RedisCluster) -> Deferred[None]:
        return run(conforms(settings(cluster.replica)))

    def test_each_payload_goes_to_one_master_alone(self, cluster: RedisCluster) -> Deferred[None]:
        async def scenario(traffic: Traffic) -> None:
            for master in cluster.masters:
                listening = {name.decode() for name in master.ask("PUBSUB", "SHARDCHANNELS")}
                assert 0 < len(listening) < PARTS

        return run(two_members(settings(*cluster.masters), scenario))

    @pytest.mark.parametrize("pattern", ["", "s.>"])
    def test_a_part_whose_slot_moves_under_load_is_found_again(
        self, cluster: RedisCluster, pattern: str
    ) -> Deferred[None]:
        async def scenario(traffic: Traffic) -> None:
            first, second, _ = cluster.masters
            for source, target in ((first, second), (second, first)):
                for part in range(4):
                    await deferToThread(cluster.move, SLOT_OF_PART[part], source, target)
                    await traffic.flow()
                    for member in (traffic.one, traffic.other):
                        assert member.backplane._owners[part].link.broker.port == target.port

        return run(two_members(settings(*cluster.masters), scenario, pattern))

    def test_programs_outside_publish_to_all_parts(self, cluster: RedisCluster) -> Deferred[None]:
        async def scenario() -> None:
            member = Member(settings(*cluster.masters))
            url = f"redis+cluster://127.0.0.1:{cluster.masters[0].port}"
            topics = [f"t{number}" for number in range(8)]
            try:
                await member.connect()
                member.backplane.subscribe("wshost.t.>")
                with wshost.connect(url, timeout=PATIENCE) as client:

                    def publish() -> None:
                        for topic in topics:
                            assert client.publish(topic, "hello")

                    def all_came() -> bool:
                        return {f"wshost.t.{topic}" for topic in topics} <= {name for name, _ in member.receiver.got}

                    deadline = reactor().seconds() + PATIENCE
                    while not all_came():
                        assert reactor().seconds() < deadline
                        await deferToThread(publish)
                assert {Codec().read(payload).messages[0] for _, payload in member.receiver.got} == {"hello"}
            finally:
                await member.backplane.close()

        return run(scenario())


class TestFailures:
    @pytest.mark.parametrize("pattern", ["", "s.>"])
    def test_a_replica_that_takes_the_place_of_its_master_is_found(
        self, tmp_path: Path, pattern: str
    ) -> Deferred[None]:
        async def failover(cluster: RedisCluster, traffic: Traffic) -> None:
            members = [traffic.one, traffic.other]
            await deferToThread(cluster.masters[0].kill)
            await traffic.go_on("the loss", lambda: not any(member.is_up for member in members))
            # The others go on.
            for part, subject in SUBJECTS.items():
                assert traffic.one.backplane.reaches(subject) is (SLOT_OF_PART[part] > SLOT_OF_PART[-1] // 3)
            await deferToThread(cluster.fail_over)
            await traffic.go_on("the return", lambda: all(member.is_up for member in members))

        async def scenario() -> None:
            with redis_cluster(tmp_path, program="valkey") as cluster:
                await conforms(settings(*cluster.masters))
                using = settings(*cluster.masters)
                await two_members(using, lambda traffic: failover(cluster, traffic), pattern)

        return run(scenario())

    def test_a_cluster_that_is_not_whole_yet_is_awaited(self, tmp_path: Path) -> Deferred[None]:
        """The user of the server has the permissions that docs/scaling.md names."""

        async def scenario() -> None:
            user = "user me on >secret resetchannels &* +@pubsub +@scripting +hello +cluster|slots"
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            with redis_server(tmp_path / "one", *options, program="redis", configuration=user) as server:
                member = Member(settings(server, username="me", password="secret"))
                try:
                    connecting = member.connect()
                    assert member.backplane.publish("a", b"early")
                    member.backplane.subscribe("a")
                    server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
                    await connecting
                    await member.receiver.until("what was early", lambda: ("a", b"early") in member.receiver.got)
                finally:
                    await member.backplane.close()

        return run(scenario())

    def test_a_server_of_no_cluster_is_one_line(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            with redis_server(tmp_path / "one") as server:
                member = Member(settings(server))
                with pytest.raises(ConfigurationError, match="it is no server of a cluster"):
                    await member.connect()
                await member.backplane.close()

        return run(scenario())


class TestTLS:
    def test_it_is_spoken_with_the_guide_and_the_masters(self, tmp_path: Path) -> Deferred[None]:
        """The servers that can be installed know no TLS: what is before each does, and its port is announced."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        async def scenario() -> None:
            with redis_cluster(tmp_path / "cluster") as cluster, ExitStack() as stack:
                ports = {stack.enter_context(tls_before(server, context)): server for server in cluster.masters}
                for port, server in ports.items():
                    server.ask("CONFIG", "SET", "cluster-announce-port", str(port))
                guide = cluster.masters[0]
                guide.ask_until(lambda answer: {entry[2][1] for entry in answer} == set(ports), "CLUSTER", "SLOTS")
                brokers = (Broker("127.0.0.1", next(iter(ports)), tls=True),)
                ca = str(tmp_path / "ca.pem")
                await conforms(BackplaneSettings(scheme="rediss+cluster", brokers=brokers, ca=ca, patience=PATIENCE))

        return run(scenario())
