"""The examples of proxies in front of several nodes, docs/examples, run by the proxies themselves, as the pages say."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import wshost
from tests import programs
from tests.integration.brokers import nats_server
from tests.integration.clients import for_two_threads
from tests.integration.server import PATIENCE, SCRIPTS, Server, running_server

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"
HOST = "chat.example.com"
#: The nodes, as references name them, and where the examples have them.
NODES = {"one": "10.0.0.11:8080", "two": "10.0.0.12:8080"}
#: Where the examples have the proxy and the broker.
PROXY, BROKER = "10.0.0.2", "nats://10.0.0.5"


class Member:
    """Says who its client is, publishes, and sends to others."""

    def init(self, options: Any) -> Any:
        ref = options["worker"]
        ref.subscribe("room")
        return ref, options["connection"].peer

    async def handle(self, message: Any, state: Any) -> Any:
        match message:
            case ("text", "who"):
                return ("reply", f"{state[0]} {state[1]}", state)
            case ("text", text) if text.startswith("all "):
                wshost.publish("room", text.removeprefix("all "))
            case ("text", text) if text.startswith("to "):
                _, to, what = text.split(" ", 2)
                outcome = await wshost.Ref.parse(to).send(what, confirm=True)
                return ("reply", outcome.value, state)
        return ("noreply", state)


@dataclass(frozen=True)
class Recipe:
    """One example.

    :param name: of its file.
    :param bind: how it says where the proxy listens; there stands a socket that it inherits instead.
    :param command: makes its file, for a directory and a text, and returns what runs it.
    """

    name: str
    bind: str
    command: Callable[[Path, str], Sequence[str]]

    @property
    def text(self) -> str:
        return (EXAMPLES / self.name).read_text(encoding="ascii")

    @property
    def options(self) -> list[str]:
        """The options of the command that runs on each node."""
        found = re.search(r"# Each node: wshost (.*)", self.text)
        assert found
        return shlex.split(found[1])


def nginx(directory: Path, text: str) -> Sequence[str]:
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {temporary}\n{text} }}"
    )
    return [programs.find("nginx", package="nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf")]


def haproxy(directory: Path, text: str) -> Sequence[str]:
    (directory / "haproxy.cfg").write_text(text)
    return [programs.find("haproxy", package="haproxy"), "-db", "-f", str(directory / "haproxy.cfg")]


RECIPES = [
    Recipe("nginx-nodes.conf", "listen 443 ssl", nginx),
    Recipe("haproxy-nodes.cfg", "bind :443", haproxy),
]


class Site:
    """Two nodes, the broker between them, and the proxy before them."""

    def __init__(self, recipe: Recipe, directory: Path, broker: int) -> None:
        self._recipe = recipe
        self._directory = directory
        self._broker = broker
        self.nodes: dict[str, Server] = {}
        self._port = 0
        authority = trustme.CA()
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(directory / "chat.pem")
        # HAProxy reads the key from the same file, nginx from its own.
        (directory / "chat.key").write_bytes((directory / "chat.pem").read_bytes())
        self._tls = ssl.create_default_context()
        authority.configure_trust(self._tls)
        for_two_threads(self._tls)

    @contextmanager
    def node(self, name: str, port: int = 0, *more: str) -> Iterator[Server]:
        """Run a node as the example says, on the loopback."""
        others = {
            "8080": str(port),
            "0.0.0.0": "127.0.0.1",
            PROXY: "127.0.0.1",
            BROKER: f"nats://127.0.0.1:{self._broker}",
            "chat": f"{__name__}:Member",
        }
        assert others.keys() <= set(self._recipe.options)
        options = [others.get(option, option) for option in self._recipe.options]
        with running_server(*options, "--node", name, *more, command="wshost") as server:
            self.nodes[name] = server
            yield server

    @contextmanager
    def proxy(self) -> Iterator[None]:
        """Run the proxy before the nodes."""
        with socket.create_server(("127.0.0.1", 0)) as listening, (self._directory / "log").open("w+") as log:
            port = self._port = listening.getsockname()[1]
            inherited = {
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                "bind :443": f"bind fd@{listening.fileno()}",
            }
            text = self._recipe.text
            for old, new in (
                (self._recipe.bind, inherited[self._recipe.bind]),
                *((place, f"127.0.0.1:{self.nodes[name].port}") for name, place in NODES.items()),
            ):
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            text = re.sub(r"/etc/(nginx|haproxy)/", f"{self._directory}/", text)
            process = subprocess.Popen(
                self._recipe.command(self._directory, text),
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                env={**os.environ, "NGINX": f"{listening.fileno()};"},
            )
            try:
                self._wait(process, self._directory / "log")
                yield
            finally:
                process.terminate()
                process.wait(PATIENCE)

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, log.read_text()
            try:
                with self.client():
                    return
            except (OSError, InvalidStatus):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)

    @contextmanager
    def client(self, address: str = "127.0.0.9") -> Iterator[ClientConnection]:
        """Connect through the proxy, from this address."""
        made = socket.create_connection(("127.0.0.1", self._port), PATIENCE, source_address=(address, 0))
        with connect(
            f"wss://{HOST}/",
            sock=made,
            ssl=self._tls,
            proxy=None,
            compression=None,
            open_timeout=PATIENCE,
            ping_interval=None,
        ) as client:
            yield client


def read(client: ClientConnection) -> str:
    answer = client.recv(timeout=PATIENCE)
    assert isinstance(answer, str)
    return answer


def ask(client: ClientConnection, what: str) -> str:
    client.send(what)
    return read(client)


def node_of(client: ClientConnection) -> str:
    return ask(client, "who").partition(".")[0]


def meet(clients: Sequence[ClientConnection]) -> None:
    """Wait until what the first client publishes reaches all: the broker may not know of all subscriptions at first."""
    deadline = time.monotonic() + PATIENCE
    for client in clients:
        heard = None
        while heard is None:
            assert time.monotonic() < deadline
            clients[0].send("all ready")
            with suppress(TimeoutError):
                heard = client.recv(timeout=0.1)
    clients[0].send("all begin")
    for client in clients:
        while read(client) != "begin":
            pass


@pytest.fixture(scope="module", params=RECIPES, ids=lambda recipe: recipe.name)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    assert isinstance(request.param, Recipe)
    return request.param


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.port


@contextmanager
def two_nodes(recipe: Recipe, broker: int, directory: Path) -> Iterator[Site]:
    """Two nodes that know each other, behind the proxy."""
    made = Site(recipe, directory, broker)
    with made.node("one"), made.node("two"), made.proxy():
        yield made


@contextmanager
def four_clients(site: Site) -> Iterator[list[ClientConnection]]:
    """Clients of four addresses."""
    with ExitStack() as stack:
        yield [stack.enter_context(site.client(f"127.0.0.{number}")) for number in range(2, 6)]


@pytest.fixture(scope="module")
def clients(recipe: Recipe, broker: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ClientConnection]]:
    """Four clients of two nodes."""
    with two_nodes(recipe, broker, tmp_path_factory.mktemp("site")) as site, four_clients(site) as made:
        yield made


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_command_of_the_nodes_would_start(recipe: Recipe) -> None:
    done = subprocess.run(
        [SCRIPTS / "wshost", "check", *recipe.options],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout[-16:]) == (0, "It would start.\n"), done.stderr


def test_clients_are_on_both_nodes_by_halves(clients: list[ClientConnection]) -> None:
    assert sorted(node_of(client) for client in clients) == ["one", "one", "two", "two"]


def test_each_node_has_the_clients_addresses(clients: list[ClientConnection]) -> None:
    peers = [ask(client, "who").split(" ")[1].rpartition(":")[0] for client in clients]
    assert peers == ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]


def test_a_topic_reaches_the_clients_of_both_nodes(clients: list[ClientConnection]) -> None:
    meet(clients)
    for number in range(20):
        clients[0].send(f"all {number}")
    for client in clients:
        assert [read(client) for _ in range(20)] == [str(number) for number in range(20)]


def test_a_reference_of_one_node_works_on_the_other(clients: list[ClientConnection]) -> None:
    one, two = (next(client for client in clients if node_of(client) == name) for name in NODES)
    text = ask(two, "who").split(" ")[0]
    assert ask(one, f"to {text} hello") == "written"
    assert read(two) == "hello"


def test_clients_of_a_node_that_stops_come_to_the_other_and_find_it_when_it_is_back(
    recipe: Recipe, broker: int, tmp_path: Path
) -> None:
    with two_nodes(recipe, broker, tmp_path) as site:
        port = site.nodes["one"].port
        with four_clients(site) as clients:
            there = [client for client in clients if node_of(client) == "one"]
            os.kill(site.nodes["one"].pid, signal.SIGTERM)
            for client in there:
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(timeout=PATIENCE)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1001
                # Nobody waits until the proxy has noticed.
                with site.client() as again:
                    assert node_of(again) == "two"
        assert site.nodes["one"].wait()[0] == 0
        for _ in range(10):
            with site.client() as again:
                assert node_of(again) == "two"
        with site.node("one", port):
            deadline = time.monotonic() + PATIENCE
            found = ""
            while found != "one":
                assert time.monotonic() < deadline
                with site.client() as again:
                    found = node_of(again)


def test_a_full_node_is_passed_over(recipe: Recipe, broker: int, tmp_path: Path) -> None:
    site = Site(recipe, tmp_path, broker)
    with (
        site.node("one", 0, "--max-connections", "2"),
        site.node("two"),
        site.proxy(),
        ExitStack() as stack,
    ):
        deadline = time.monotonic() + PATIENCE
        held = 0
        while held < 2:
            # The proxy's own checks are connections for a moment, too.
            assert time.monotonic() < deadline
            try:
                stack.enter_context(connect(site.nodes["one"].url, proxy=None, ping_interval=None))
                held += 1
            except InvalidStatus:
                time.sleep(0.1)
        for _ in range(4):
            assert node_of(stack.enter_context(site.client())) == "two"
