"""The backplane over Valkey and Redis with real servers, which are killed, stopped, and demand to know who we are."""

from __future__ import annotations

import signal
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.redis_broker import PROGRAMS, RedisServer, free_port, redis_server, tls_before
from tests.integration.server import PATIENCE
from wshost.backplanes.conformity import Receiver, check_backplane
from wshost.backplanes.redis import RedisBackplane
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.results import ConfigurationError


def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def run(scenario: Coroutine[Any, Any, None]) -> Deferred[None]:
    """What a test returns is awaited."""
    return Deferred.fromCoroutine(scenario)


def settings(*ports: int, scheme: str = "redis", host: str = "127.0.0.1", **more: Any) -> BackplaneSettings:
    of_broker = {name: more.pop(name) for name in ("username", "password", "tls", "path") if name in more}
    brokers = tuple(Broker(host, port, **of_broker) for port in ports)
    return BackplaneSettings(scheme=scheme, brokers=brokers, **more)


async def conforms(using: BackplaneSettings) -> None:
    await check_backplane(lambda: RedisBackplane(using), reactor(), patience=PATIENCE)


class Member:
    """A backplane of one process, with its receiver."""

    def __init__(self, using: BackplaneSettings) -> None:
        self.backplane = RedisBackplane(using)
        self.receiver = Receiver(reactor(), PATIENCE)

    def connect(self) -> Deferred[None]:
        return self.backplane.connect(reactor(), self.receiver)

    @property
    def changes(self) -> list[str]:
        return self.receiver.changes

    @property
    def connections(self) -> int:
        return self.changes.count("connected")

    @property
    def got(self) -> list[tuple[str, bytes]]:
        return self.receiver.got

    @property
    def port(self) -> int:
        """That of its server."""
        assert self.backplane._link is not None
        return self.backplane._link.broker.port

    async def until(self, what: str, is_so: Callable[[], bool]) -> None:
        await self.receiver.until(what, is_so)

    async def be_lost(self) -> None:
        """Wait until it has lost its server."""
        await self.until("the loss", lambda: len(self.changes) > 1)

    async def come_back(self) -> None:
        """Wait until it has a server again."""
        await self.until("the return", lambda: self.connections > 1)

    async def get(self, sender: Member, payload: bytes) -> None:
        """Publish a payload until it comes."""
        deadline = reactor().seconds() + PATIENCE
        while ("a", payload) not in self.got:
            assert reactor().seconds() < deadline, f"{payload!r} does not come: {self.changes}"
            sender.backplane.publish("a", payload)
            await deferLater(reactor(), 0.02)


async def two_members(
    using: BackplaneSettings, scenario: Callable[[Member, Member], Coroutine[Any, Any, None]]
) -> None:
    """Play a scenario with two members; the second has subscribed to ``a``."""
    one, other = Member(using), Member(using)
    try:
        await one.connect()
        await other.connect()
        other.backplane.subscribe("a")
        await other.get(one, b"first")
        await scenario(one, other)
    finally:
        await one.backplane.close()
        await other.backplane.close()


async def refusal(using: BackplaneSettings, subject: str = "a") -> str:
    """Connect in vain; return why."""
    member = Member(using)
    connecting = member.connect()
    member.backplane.subscribe(subject)
    try:
        with pytest.raises(ConfigurationError) as caught:
            await connecting
    finally:
        await member.backplane.close()
    assert member.changes == []
    return str(caught.value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "server") as running:
        yield running


class TestConformity:
    @pytest.mark.parametrize("program", PROGRAMS)
    def test_the_backplane_does_what_ibackplane_says(self, tmp_path: Path, program: str) -> Deferred[None]:
        async def scenario() -> None:
            with redis_server(tmp_path / "server", program=program) as server:
                await conforms(settings(server.port))

        return run(scenario())

    def test_a_server_of_a_cluster_serves_as_any_other(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            with redis_server(tmp_path / "server", *options) as server:
                await conforms(settings(server.port))

        return run(scenario())

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_the_server_says_that_nobody_gets_a_payload(self, tmp_path: Path, program: str) -> Deferred[None]:
        told: list[str] = []

        async def scenario(one: Member, other: Member) -> None:
            for subject in ("a", "b"):
                assert one.backplane.publish_or_tell(subject, b"x", partial(told.append, subject))
            await other.until("a payload for a subscriber", lambda: ("a", b"x") in other.got)
            while "b" not in told:
                await deferLater(reactor(), 0.02)

        async def with_server() -> None:
            user = "user me on >secret &* +@pubsub +hello +info"
            with redis_server(tmp_path / "server", program=program, configuration=user) as server:
                await two_members(settings(server.port, username="me", password="secret"), scenario)

        def check(_: None) -> None:
            assert told == ["b"]

        return run(with_server()).addCallback(check)

    def test_nobody_is_said_of_no_payload_that_a_replica_passes_on(self, tmp_path: Path) -> Deferred[None]:
        """What was one address goes over to another server, and a subscriber is still at the one of before."""
        told: list[int] = []

        async def scenario() -> None:
            with redis_server(tmp_path / "new") as new, redis_server(tmp_path / "old") as old:
                one, other = Member(settings(new.port)), Member(settings(old.port))
                await one.connect()
                await other.connect()
                other.backplane.subscribe("a")
                old.ask("REPLICAOF", "127.0.0.1", str(new.port))
                new.ask_until(lambda answer: b"connected_slaves:1" in answer, "INFO", "replication")
                for number in range(100):
                    assert one.backplane.publish_or_tell("a", b"%d" % number, partial(told.append, number))
                    await deferLater(reactor(), 0.01)
                await one.backplane.close()
                await other.backplane.close()
                assert not {int(payload) for _, payload in other.got} & set(told)

        return run(scenario())

    @pytest.mark.parametrize(
        ("configuration", "credentials"),
        [
            ("requirepass secret", {"password": "secret"}),
            ("user me on >secret &* +@pubsub +hello", {"username": "me", "password": "secret"}),
        ],
    )
    @pytest.mark.parametrize("program", PROGRAMS)
    def test_a_password_lets_us_in(
        self, tmp_path: Path, program: str, configuration: str, credentials: dict[str, str]
    ) -> Deferred[None]:
        async def scenario() -> None:
            with redis_server(tmp_path / "server", program=program, configuration=configuration) as server:
                await conforms(settings(server.port, **credentials))

        return run(scenario())


class TestTLS:
    def test_tls_shows_and_checks_certificates(self, tmp_path: Path, server: RedisServer) -> Deferred[None]:
        """The servers that can be installed know no TLS: what is before this one does."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        async def scenario() -> None:
            files = {"ca": str(tmp_path / "ca.pem"), "cert": str(tmp_path / "client.pem")}
            with tls_before(server, context) as port:
                await conforms(settings(port, scheme="rediss", tls=True, **files))

        return run(scenario())


class TestRefusals:
    def test_a_wrong_password_is_one_line(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            with redis_server(tmp_path / "server", "--requirepass", "secret") as server:
                reason = await refusal(settings(server.port, password="wrong"))
                start = f"the broker 127.0.0.1:{server.port} refuses us: "
                assert reason == f"{start}WRONGPASS invalid username-password pair or user is disabled."
                assert (await refusal(settings(server.port))).startswith(f"{start}NOAUTH ")

        return run(scenario())

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_a_channel_that_is_not_permitted_is_one_line(self, tmp_path: Path, program: str) -> Deferred[None]:
        async def scenario() -> None:
            user = "user me on >secret resetchannels &b +@pubsub +hello"
            with redis_server(tmp_path / "server", program=program, configuration=user) as server:
                using = settings(server.port, username="me", password="secret")
                assert "refuses us: NOPERM" in await refusal(using)

        return run(scenario())

    def test_a_sentinel_is_no_server(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            with redis_server(tmp_path / "sentinel", "--sentinel") as sentinel:
                assert "it is a Sentinel" in await refusal(settings(sentinel.port))

        return run(scenario())


class TestLosses:
    def test_a_server_that_is_killed_and_comes_back_is_found_again(self, server: RedisServer) -> Deferred[None]:
        async def scenario(one: Member, other: Member) -> None:
            other.backplane.subscribe("b")
            count = 0

            async def publish(until: Callable[[], bool]) -> None:
                nonlocal count
                deadline = reactor().seconds() + PATIENCE
                while not until():
                    assert reactor().seconds() < deadline, f"{one.changes}, {other.changes}, {count} published"
                    one.backplane.publish("b", b"%d" % count)
                    count += 1
                    await deferLater(reactor(), 0.001)

            await publish(lambda: len(other.got) > 100)
            server.kill()
            await publish(lambda: len(one.changes) > 1 and len(other.changes) > 1)
            server.start()
            await publish(lambda: one.connections > 1 and other.connections > 1)
            here = count
            await publish(lambda: count > here + 100)
            last = ("b", b"%d" % (count - 1))
            await other.until("the last number", lambda: last in other.got)
            came = [int(payload) for subject, payload in other.got if subject == "b"]
            assert came == sorted(set(came))
            assert came[-(count - here) :] == list(range(here, count))

        return run(two_members(settings(server.port), scenario))

    def test_what_waits_for_a_server_reaches_who_is_there_when_it_comes_back(
        self, server: RedisServer
    ) -> Deferred[None]:
        async def scenario(one: Member, other: Member) -> None:
            server.kill()
            await one.be_lost()
            one.backplane.subscribe("c")
            assert one.backplane.publish("c", b"waits")
            server.start()
            await one.until("what waited", lambda: ("c", b"waits") in one.got)

        return run(two_members(settings(server.port, patience=PATIENCE), scenario))

    def test_a_server_that_is_stopped_is_noticed(self, server: RedisServer) -> Deferred[None]:
        async def scenario(one: Member, other: Member) -> None:
            server.send(signal.SIGSTOP)
            for member in (one, other):
                await member.be_lost()
                assert member.changes[1] == "it answers no pings"
            server.send(signal.SIGCONT)
            for member in (one, other):
                await member.come_back()
            await other.get(one, b"second")

        return run(two_members(settings(server.port), scenario))

    def test_a_server_that_is_not_there_at_first_is_awaited(
        self, tmp_path: Path, server: RedisServer
    ) -> Deferred[None]:
        async def scenario() -> None:
            server.kill()
            member = Member(settings(server.port))
            try:
                connecting = member.connect()
                await deferLater(reactor(), 0.1)
                assert not connecting.called
                server.start()
                await connecting
                assert member.changes == ["connected"]
            finally:
                await member.backplane.close()

        return run(scenario())

    def test_a_receiver_for_whom_too_much_waits_comes_back(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            limit = "client-output-buffer-limit pubsub 1mb 1mb 60"
            with redis_server(tmp_path / "server", configuration=limit) as server:
                await two_members(settings(server.port, buffer=32 << 20), partial(too_much, server))

        async def too_much(server: RedisServer, one: Member, other: Member) -> None:
            link = other.backplane._link
            assert link is not None
            assert link._connection is not None
            transport = link._connection.transport
            transport.pauseProducing()
            # More than the kernel keeps for it.
            for _ in range(24):
                assert one.backplane.publish("a", b"x" * (1 << 20))
            # On a very busy machine, it may find first that the server answers no pings.
            while "overcoming of output buffer limits" not in server.log and other.changes == ["connected"]:
                await deferLater(reactor(), 0.02)
            transport.resumeProducing()
            await other.come_back()
            await other.get(one, b"second")
            assert one.changes == ["connected"]

        return run(scenario())


class TestSentinels:
    def test_the_replica_that_becomes_the_master_is_found(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            with ExitStack() as stack:
                master = stack.enter_context(redis_server(tmp_path / "master"))
                replica_of = f"replicaof 127.0.0.1 {master.port}"
                replica = stack.enter_context(redis_server(tmp_path / "replica", configuration=replica_of))
                configuration = (
                    f"sentinel monitor main 127.0.0.1 {master.port} 2\n"
                    "sentinel down-after-milliseconds main 1000\n"
                    "sentinel failover-timeout main 5000\n"
                )
                sentinels = [
                    stack.enter_context(
                        redis_server(tmp_path / f"sentinel{number}", "--sentinel", configuration=configuration)
                    )
                    for number in range(3)
                ]
                replica.ask_until(lambda answer: b"connected" in answer, "ROLE")
                for sentinel in sentinels:
                    sentinel.ask_until(lambda answer: len(answer) == 1, "SENTINEL", "REPLICAS", "main")
                    sentinel.ask_until(lambda answer: len(answer) == 2, "SENTINEL", "SENTINELS", "main")
                ports = [sentinel.port for sentinel in sentinels]
                using = settings(*ports, scheme="redis+sentinel", path="main")

                async def failover(one: Member, other: Member) -> None:
                    assert one.port == other.port == master.port
                    master.kill()
                    for member in (one, other):
                        await member.come_back()
                        assert member.port == replica.port
                    await other.get(one, b"second")

                await two_members(using, failover)

        return run(scenario())
