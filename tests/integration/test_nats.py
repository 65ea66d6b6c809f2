"""The backplane over NATS with real servers, which are killed, stopped, and demand to know who we are."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.brokers import NatsServer, nats_server
from tests.integration.nats_accounts import USER, Key, account_and_credentials
from tests.integration.server import PATIENCE
from wshost.backplanes.conformity import Receiver, check_backplane
from wshost.backplanes.nats import NatsBackplane
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.results import ConfigurationError


def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def run(scenario: Coroutine[Any, Any, None]) -> Deferred[None]:
    """What a test returns is awaited."""
    return Deferred.fromCoroutine(scenario)


def settings(*servers: NatsServer | int, host: str = "127.0.0.1", **more: Any) -> BackplaneSettings:
    of_broker = {name: more.pop(name) for name in ("username", "password", "tls", "query") if name in more}
    ports = [server if isinstance(server, int) else server.port for server in servers]
    return BackplaneSettings(scheme="nats", brokers=tuple(Broker(host, port, **of_broker) for port in ports), **more)


async def conforms(using: BackplaneSettings) -> None:
    await check_backplane(lambda: NatsBackplane(using), reactor(), patience=PATIENCE)


async def conforms_with(
    directory: Path, *options: str, configuration: str = "", host: str = "127.0.0.1", **more: Any
) -> None:
    """Check the backplane with a server that has these options, and settings that have more."""
    with nats_server(directory / "nats", *options, configuration=configuration) as server:
        await conforms(settings(server, host=host, **more))


#: Checks the backplane in a process whose reactor is the module that is named, with a server at the port.
ON_A_REACTOR = """
import importlib, sys
importlib.import_module(sys.argv[1]).install()
from twisted.internet.task import react
from wshost.backplanes.conformity import check_backplane
from wshost.backplanes.nats import NatsBackplane
from wshost.backplanes.settings import BackplaneSettings, Broker
settings = BackplaneSettings(scheme="nats", brokers=(Broker("localhost", int(sys.argv[2])),))
react(lambda reactor: check_backplane(lambda: NatsBackplane(settings), reactor, patience=float(sys.argv[3])))
"""


class Member:
    """A backplane of one process, with its receiver."""

    def __init__(self, using: BackplaneSettings) -> None:
        self.backplane = NatsBackplane(using)
        self.receiver = Receiver(reactor(), PATIENCE)

    def connect(self) -> Deferred[None]:
        return self.backplane.connect(reactor(), self.receiver)

    async def until(self, what: str, is_so: Callable[[], bool]) -> None:
        await self.receiver.until(what, is_so)

    @property
    def connections(self) -> int:
        return self.receiver.changes.count("connected")

    @property
    def port(self) -> int:
        port: int = self.backplane._link.broker.port
        return port

    async def get(self, sender: Member, payload: bytes) -> None:
        """Publish a payload until it comes: a subscription may not be in place in all servers of a cluster."""
        while ("a", payload) not in self.receiver.got:
            sender.backplane.publish("a", payload)
            await deferLater(reactor(), 0.02)


class Stream:
    """Numbers that a member publishes, one a turn."""

    def __init__(self, sender: Member) -> None:
        self._sender = sender
        self.sent = 0

    async def flow(self, until: Callable[[], bool]) -> None:
        while not until():
            assert self._sender.backplane.publish("b", b"%d" % self.sent)
            self.sent += 1
            await deferLater(reactor(), 0.001)

    async def end(self, receiver: Member) -> None:
        last = ("b", b"%d" % (self.sent - 1))
        await receiver.until("the last number", lambda: last in receiver.receiver.got)

    @staticmethod
    def came_to(receiver: Member) -> list[int]:
        return [int(payload) for subject, payload in receiver.receiver.got if subject == "b"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "nats") as running:
        yield running


class TestConformity:
    def test_the_backplane_does_what_ibackplane_says(self, server: NatsServer) -> Deferred[None]:
        return run(conforms(settings(server)))

    @pytest.mark.parametrize(
        "module",
        [
            "twisted.internet.epollreactor",
            "twisted.internet.pollreactor",
            "twisted.internet.selectreactor",
            "wshost.process.reactors",
        ],
    )
    def test_the_backplane_works_on_other_reactors(self, server: NatsServer, module: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", ON_A_REACTOR, module, str(server.port), str(PATIENCE)],
            check=False,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_a_user_and_a_password_let_us_in(self, tmp_path: Path) -> Deferred[None]:
        return run(conforms_with(tmp_path, "--user", "me", "--pass", "secret", username="me", password="secret"))

    def test_a_token_lets_us_in(self, tmp_path: Path) -> Deferred[None]:
        return run(conforms_with(tmp_path, "--auth", "s3cret", username="s3cret"))

    def test_a_file_of_credentials_lets_us_in(self, tmp_path: Path) -> Deferred[None]:
        configuration, credentials = account_and_credentials()
        file = tmp_path / "user.creds"
        file.write_text(credentials)
        return run(conforms_with(tmp_path, configuration=configuration, credentials=str(file)))

    def test_the_seed_of_an_nkey_lets_us_in(self, tmp_path: Path) -> Deferred[None]:
        key = Key(USER, b"k" * 32)
        file = tmp_path / "user.nk"
        file.write_text(key.seed + "\n")
        configuration = f"authorization: {{ users: [ {{ nkey: {key.public} }} ] }}"
        return run(conforms_with(tmp_path, configuration=configuration, credentials=str(file)))


class TestTLS:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[str]:
        """A server's certificate and key, and the authority of both."""
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        paths = [tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem")]
        issued.cert_chain_pems[0].write_to_path(paths[0])
        issued.private_key_pem.write_to_path(paths[1])
        authority.cert_pem.write_to_path(paths[2])
        return [str(path) for path in paths]

    @pytest.mark.parametrize("first", [False, True])
    @pytest.mark.parametrize("shown", [False, True])
    def test_tls_is_spoken_where_the_server_demands_it(
        self, files: list[str], tmp_path: Path, first: bool, shown: bool
    ) -> Deferred[None]:
        cert, key, ca = files
        verify = f'ca_file: "{ca}", verify: true,' if shown else ""
        tls = f'tls: {{ cert_file: "{cert}", key_file: "{key}", {verify} handshake_first: {str(first).lower()} }}'
        query = (("tls", "first"),) if first else ()
        ours = {"cert": cert, "key": key} if shown else {}
        return run(conforms_with(tmp_path, configuration=tls, host="localhost", ca=ca, query=query, **ours))

    def test_a_server_whose_certificate_is_for_another_host_is_not_used(
        self, files: list[str], tmp_path: Path
    ) -> Deferred[None]:
        cert, key, ca = files
        tls = f'tls: {{ cert_file: "{cert}", key_file: "{key}" }}'

        async def scenario() -> None:
            with nats_server(tmp_path / "nats", configuration=tls) as server:
                member = Member(settings(server, ca=ca))
                connecting = member.connect()
                reason = f"127.0.0.1:{server.port}: its certificate is not for this host"
                while reason not in member.backplane._link._reasons:
                    await deferLater(reactor(), 0.02)
                connecting.addErrback(lambda _: None)
                await member.backplane.close()
                assert member.receiver.changes == []

        return run(scenario())


def test_a_wrong_password_fails_with_one_line(tmp_path: Path) -> Deferred[None]:
    async def scenario() -> None:
        with nats_server(tmp_path / "nats", "--user", "me", "--pass", "secret") as server:
            member = Member(settings(server, username="me", password="wrong"))
            with pytest.raises(ConfigurationError) as raised:
                await member.connect()
            assert str(raised.value) == (
                f"the NATS server 127.0.0.1:{server.port} does not let us in: Authorization Violation"
            )
            await member.backplane.close()

    return run(scenario())


class TestLosing:
    def test_a_server_that_is_killed_and_started_again_gets_all_subscriptions_again(
        self, server: NatsServer
    ) -> Deferred[None]:
        async def scenario() -> None:
            using = settings(server, patience=PATIENCE)
            sender, receiver = Member(using), Member(using)
            await sender.connect()
            await receiver.connect()
            for subject in ("a", "b", "c.*"):
                receiver.backplane.subscribe(subject)
            await receiver.get(sender, b"first")
            stream = Stream(sender)
            await stream.flow(lambda: stream.sent >= 100)
            server.kill()
            await stream.flow(lambda: min(len(sender.receiver.changes), len(receiver.receiver.changes)) >= 2)
            server.start()
            await stream.flow(lambda: min(sender.connections, receiver.connections) >= 2)
            both_are_back = stream.sent
            await stream.flow(lambda: stream.sent >= both_are_back + 100)
            await stream.end(receiver)
            came = stream.came_to(receiver)
            assert came == sorted(set(came))
            assert set(range(both_are_back, stream.sent)) <= set(came)
            assert sender.receiver.lost == 0
            sender.backplane.publish("c.d", b"pattern")
            await receiver.until("the pattern", lambda: ("c.d", b"pattern") in receiver.receiver.got)
            await sender.backplane.close()
            await receiver.backplane.close()

        return run(scenario())

    def test_payloads_that_wait_too_long_for_a_server_are_counted(self, server: NatsServer) -> Deferred[None]:
        async def scenario() -> None:
            member = Member(settings(server, patience=0.05))
            await member.connect()
            server.kill()
            await member.until("the loss", lambda: len(member.receiver.changes) >= 2)
            for _ in range(10):
                assert member.backplane.publish("a", b"late")
            await member.until("the drop", lambda: member.receiver.lost == 10)
            assert member.backplane.waiting == 0
            await member.backplane.close()

        return run(scenario())

    def test_a_server_that_stands_still_is_left_for_another(self, tmp_path: Path) -> Deferred[None]:
        async def scenario() -> None:
            with ExitStack() as stack:
                servers = [stack.enter_context(nats_server(tmp_path / name)) for name in "ab"]
                member = Member(settings(*servers))
                await member.connect()
                first = member.port
                (stopped,) = [server for server in servers if server.port == first]
                stopped.send(signal.SIGSTOP)
                await member.until("another server", lambda: member.connections >= 2 and member.port != first)
                assert f"127.0.0.1:{first}: it answers no pings" in member.receiver.changes
                await member.backplane.close()

        return run(scenario())

    def test_a_server_that_comes_later_is_found(self, server: NatsServer) -> Deferred[None]:
        async def scenario() -> None:
            server.kill()
            member = Member(settings(server, patience=PATIENCE))
            connecting = member.connect()
            member.backplane.subscribe("a")
            while not member.backplane._link._reasons:
                await deferLater(reactor(), 0.02)
            server.start()
            await connecting
            assert member.receiver.changes == ["connected"]
            sender = Member(settings(server))
            await sender.connect()
            await member.get(sender, b"now")
            await member.backplane.close()
            await sender.backplane.close()

        return run(scenario())


class TestClusters:
    @pytest.fixture
    def cluster(self, tmp_path: Path) -> Iterator[list[NatsServer]]:
        """Three servers that know each other."""
        options = ("--cluster_name", "test", "--cluster", "nats://127.0.0.1:-1")
        with ExitStack() as stack:
            servers = [stack.enter_context(nats_server(tmp_path / "a", *options))]
            routes = ("--routes", f"nats://127.0.0.1:{servers[0].cluster_port}")
            servers += [stack.enter_context(nats_server(tmp_path / name, *options, *routes)) for name in "bc"]
            yield servers

    @staticmethod
    async def at_home(cluster: list[NatsServer]) -> tuple[Member, Member]:
        """One member that was told of the first server only, and has heard of the others; another at the third."""
        one, other = Member(settings(cluster[0], patience=PATIENCE)), Member(settings(cluster[2]))
        await one.connect()
        await other.connect()
        while len(one.backplane._link._candidates.brokers) < 3:
            await deferLater(reactor(), 0.02)
        one.backplane.subscribe("a")
        await one.get(other, b"first")
        return one, other

    def test_nothing_is_lost_when_our_server_is_killed_but_what_was_on_its_way(
        self, cluster: list[NatsServer]
    ) -> Deferred[None]:
        async def scenario() -> None:
            sender, receiver = await self.at_home(cluster)
            receiver.backplane.subscribe("b")
            sender.backplane.unsubscribe("a")
            receiver.backplane.subscribe("a")
            await receiver.get(sender, b"second")
            stream = Stream(sender)
            await stream.flow(lambda: stream.sent >= 100)
            cluster[0].send(signal.SIGKILL)
            await stream.flow(lambda: len(sender.receiver.changes) >= 2)
            noticed = stream.sent
            await stream.flow(lambda: sender.connections >= 2 and stream.sent >= noticed + 100)
            await stream.end(receiver)
            came = stream.came_to(receiver)
            assert came == sorted(set(came))
            assert set(range(stream.sent)) - set(came) <= set(range(noticed))
            await sender.backplane.close()
            await receiver.backplane.close()

        return run(scenario())

    def test_our_server_says_that_nobody_gets_a_payload_in_its_cluster(
        self, cluster: list[NatsServer]
    ) -> Deferred[None]:
        async def scenario() -> None:
            one, other = await self.at_home(cluster)
            told: list[str] = []
            for subject in ("a", "b"):
                assert other.backplane.publish_or_tell(subject, b"x", partial(told.append, subject))
            await one.until("a payload for a member at another server", lambda: ("a", b"x") in one.receiver.got)
            while "b" not in told:
                await deferLater(reactor(), 0.02)
            assert told == ["b"]
            await one.backplane.close()
            await other.backplane.close()

        return run(scenario())

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGUSR2])
    def test_another_server_is_gone_to_when_ours_is_killed_or_a_lame_duck(
        self, cluster: list[NatsServer], how: signal.Signals
    ) -> Deferred[None]:
        async def scenario() -> None:
            one, other = await self.at_home(cluster)
            cluster[0].send(how)
            await one.until("another server", lambda: one.connections >= 2 and one.port != cluster[0].port)
            assert one.port in {cluster[1].port, cluster[2].port}
            await one.get(other, b"second")
            await one.backplane.close()
            await other.backplane.close()

        return run(scenario())
