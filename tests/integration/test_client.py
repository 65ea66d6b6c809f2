"""Programs that are no wshost process, with real brokers and a real server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as dial

import wshost
from tests.integration.brokers import nats_server
from tests.integration.redis_broker import redis_server
from tests.integration.redis_cluster_broker import redis_cluster
from tests.integration.server import PATIENCE, SCRIPTS, running_server
from wshost.results import ConfigurationError, Outcome

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"
HANDLER = """
def init(options):
    return options["worker"]

def handle(message, ref):
    match message:
        case ("text", "who"):
            return ("reply", str(ref), ref)
        case ("text", topic):
            ref.subscribe(topic)
            return ("reply", "subscribed", ref)
        case ("info", info):
            return ("reply", repr(info), ref)
    return ("noreply", ref)
"""


class Peer:
    """A client of a server that has a broker."""

    def __init__(self, broker: Any, url: str, socket: ClientConnection) -> None:
        self.broker = broker
        #: Of the broker.
        self.url = url
        self.socket = socket
        self.ref = self.ask("who")

    def ask(self, text: str) -> Any:
        self.socket.send(text)
        return self.got()

    def got(self) -> Any:
        return self.socket.recv(timeout=PATIENCE)

    def hears(self, topic: str, client: Any) -> None:
        """Subscribe, and publish until something comes: the subscription is in place then."""
        assert self.ask(topic) == "subscribed"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            client.publish(topic, "begin")
            try:
                first = self.socket.recv(timeout=0.1)
            except TimeoutError:
                continue
            assert first == "begin"
            client.publish(topic, "begun")
            while self.got() != "begun":
                pass
            return
        raise AssertionError("nothing comes")


@pytest.fixture(params=["nats", "redis"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    brokers: dict[str, Any] = {"nats": nats_server, "redis": redis_server}
    with (
        brokers[request.param](tmp_path / "broker") as broker,
        served(tmp_path, f"{request.param}://127.0.0.1:{broker.port}", broker) as peer,
    ):
        yield peer


@contextmanager
def served(directory: Path, url: str, broker: Any) -> Iterator[Peer]:
    """Run a server with a broker, and a client of it, until the block ends."""
    (directory / "named.py").write_text(HANDLER)
    with (
        running_server(f"--backplane={url}", "--handler=named", cwd=directory) as server,
        dial(server.url) as socket,
    ):
        yield Peer(broker, url, socket)


def in_thread(scenario: Any) -> None:
    """Run a coroutine in a thread: in this one, the reactor's loop may be running."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, scenario).result(PATIENCE)


def test_a_program_reaches_subscribers_and_connections_and_hears_what_became_of_it(peer: Peer) -> None:
    reach_all(peer)


def test_a_program_reaches_them_over_the_masters_of_a_redis_cluster(tmp_path: Path) -> None:
    with redis_cluster(tmp_path / "brokers") as cluster:
        url = f"redis+cluster://127.0.0.1:{cluster.replica.port},127.0.0.1:{cluster.masters[0].port}"
        with served(tmp_path, url, cluster) as peer:
            reach_all(peer)


def reach_all(peer: Peer) -> None:
    """Let a program outside do all that it can."""
    with wshost.connect(peer.url, timeout=PATIENCE) as cluster:
        peer.hears("room", cluster)
        assert cluster.send(peer.ref, b"bytes", confirm=True) is Outcome.WRITTEN
        assert peer.got() == b"bytes"
        assert cluster.info(wshost.Ref.parse(peer.ref), {"a": [1]})
        assert peer.got() == "{'a': [1]}"
        assert cluster.ping(peer.ref, b"now")
        assert cluster.close(peer.ref, 4000, "bye")
        with pytest.raises(Exception, match="4000"):
            peer.got()
        assert cluster.send(peer.ref, "late", confirm=True) is Outcome.GONE


def test_a_program_on_asyncio_does_the_same(peer: Peer) -> None:
    async def scenario() -> None:
        async with wshost.connect_async(peer.url, timeout=PATIENCE) as cluster:
            assert await cluster.send(peer.ref, "hello", confirm=True) is Outcome.WRITTEN
            assert await cluster.close(peer.ref)
            assert await cluster.send(peer.ref, "late", confirm=True) is Outcome.GONE

    in_thread(scenario())


def test_messages_of_many_threads_and_of_a_forked_process_all_come_once(peer: Peer) -> None:
    with wshost.connect(peer.url, timeout=PATIENCE) as cluster:
        peer.hears("room", cluster)
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda number: cluster.publish("room", str(number)), range(100)))
        assert sorted(int(peer.got()) for _ in range(100)) == list(range(100))
    # A process without threads forks: a child of this one might wait for a lock for ever.
    code = (
        "import os, sys, wshost\n"
        "cluster = wshost.connect(sys.argv[1], timeout=60)\n"
        "cluster.publish('room', 'before')\n"
        "child = os.fork()\n"
        "for number in range(20):\n"
        "    cluster.publish('room', f'{\"parent\" if child else \"child\"} {number}')\n"
        "if child:\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, peer.url], check=True, timeout=PATIENCE)
    assert peer.got() == "before"
    came = [peer.got() for _ in range(40)]
    for name in ("parent", "child"):
        assert [text for text in came if text.startswith(name)] == [f"{name} {number}" for number in range(20)]


def test_without_a_broker_a_call_raises_and_the_next_one_finds_it_again(peer: Peer) -> None:
    with wshost.connect(peer.url, timeout=0.5) as cluster:
        peer.broker.kill()
        with pytest.raises(
            wshost.UndeliveredError, match=r"^no broker has taken it in time; the last one 127\.0\.0\.1:"
        ):
            cluster.publish("room", "nobody")
    with wshost.connect(peer.url, timeout=PATIENCE) as cluster:
        peer.broker.start()
        assert cluster.publish("room", "one")
        peer.broker.kill()
        peer.broker.start()
        assert cluster.publish("room", "two")


def test_the_command_publishes(peer: Peer) -> None:
    with wshost.connect(peer.url, timeout=PATIENCE) as cluster:
        peer.hears("room", cluster)
    command = [str(SCRIPTS / "wshost"), "publish", "room"]
    subprocess.run([*command, "from a shell", f"--backplane={peer.url}"], check=True, timeout=PATIENCE)
    assert peer.got() == "from a shell"
    variables = {**os.environ, "WSHOST_BACKPLANE": peer.url}
    subprocess.run([*command, "-", "--binary"], input=b"\xff", check=True, timeout=PATIENCE, env=variables)
    assert peer.got() == b"\xff"


def test_the_examples_publish_and_confirm_without_a_reactor(peer: Peer) -> None:
    with wshost.connect(peer.url, timeout=PATIENCE) as cluster:
        peer.hears("room", cluster)
    run = [sys.executable, "-W", "error"]
    subprocess.run([*run, str(EXAMPLES / "shout.py"), peer.url, "room", "hi"], check=True, timeout=PATIENCE)
    assert peer.got() == "hi"
    nudge = [*run, str(EXAMPLES / "nudge.py"), peer.url, peer.ref, "psst"]
    done = subprocess.run(nudge, check=True, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("written\n", "")
    assert peer.got() == "psst"


def test_the_client_brings_no_reactor_in(peer: Peer) -> None:
    code = (
        "import sys, wshost\n"
        "with wshost.connect(sys.argv[1], timeout=60) as cluster:\n"
        "    cluster.publish('room', 'hi')\n"
        "print(sorted({'twisted.internet.reactor', 'autobahn'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, peer.url], check=True, capture_output=True, timeout=PATIENCE)
    assert done.stdout == b"[]\n"


class TestTLS:
    @pytest.fixture
    def ca(self, tmp_path: Path) -> str:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        return str(tmp_path / "ca.pem")

    def test_a_nats_server_with_tls_is_trusted_by_its_authority_only(self, ca: str, tmp_path: Path) -> None:
        options = ("--tls", "--tlscert", str(tmp_path / "cert.pem"), "--tlskey", str(tmp_path / "key.pem"))
        with nats_server(tmp_path / "broker", *options) as broker:
            url = f"tls://localhost:{broker.port}"
            # The scheme says that the connection has TLS; the server speaks first.
            with wshost.connect(url, ca=ca, timeout=PATIENCE) as cluster:
                assert cluster.publish("room", "hi")

            async def scenario() -> None:
                async with wshost.connect_async(url, ca=ca, timeout=PATIENCE) as cluster:
                    assert await cluster.publish("room", "hi")

            in_thread(scenario())
            with wshost.connect(url, timeout=2) as cluster, pytest.raises(wshost.UndeliveredError, match=r"(?i)certif"):
                cluster.publish("room", "hi")

    def test_a_wrong_password_is_a_configuration_error(self, tmp_path: Path) -> None:
        with nats_server(tmp_path / "broker", "--user", "ada", "--pass", "secret") as broker:
            with wshost.connect(f"nats://ada:secret@127.0.0.1:{broker.port}", timeout=PATIENCE) as cluster:
                assert cluster.publish("room", "hi")
            stranger = wshost.connect(f"nats://ada:wrong@127.0.0.1:{broker.port}", timeout=PATIENCE)
            with pytest.raises(ConfigurationError, match="does not let us in"):
                stranger.publish("room", "hi")
