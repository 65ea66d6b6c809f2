"""The examples of proxies, docs/examples, run by the proxies themselves in front of wshost, as the pages say."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests import programs
from tests.integration.server import Server, listening_ports, running_server
from tests.memory import request
from tests.regressions import wire

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"
HOST = "chat.example.com"
#: What is waited for at most, in seconds.
SOON = 20

ASK = wire.frame(wire.TEXT, b"who am I")


class Who:
    """Tells each client who it is to the server."""

    def init(self, options: Mapping[str, Any]) -> str:
        connection = options["connection"]
        return f"{connection.peer} {connection.proxy and connection.proxy.secure}"

    def handle(self, message: Any, who: str) -> tuple[Any, ...]:
        return ("reply", who, who) if message[0] == "text" else ("noreply", who)


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs, before a server."""

    server: Server
    port: int
    tls: ssl.SSLContext

    @contextmanager
    def connect(self, address: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
        """Connect from this address."""
        with (
            socket.create_connection(("127.0.0.1", self.port), SOON, source_address=(address, 0)) as plain,
            self.tls.wrap_socket(plain, server_hostname=HOST) as client,
        ):
            yield client


def ask(client: ssl.SSLSocket, *fields: str) -> str:
    """Shake hands, and return who the client is to the server, or the status of the refusal."""
    head = request(headers={"Host": HOST}).removesuffix(b"\r\n")
    client.sendall(head + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n")
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(4096)
        assert more, f"there came no more than {data!r}"
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    status = head.split(b" ")[1].decode()
    if status != "101":
        return status
    client.sendall(ASK)
    while not (frames := list(wire.frames(rest))):
        rest += client.recv(4096)
    return frames[0].payload.decode()


class Recipe:
    """One example: what it says, and how it is run."""

    def __init__(self, name: str, run: Callable[..., list[str]], package: str, secure: bool | None) -> None:
        self.name = name
        self.run = run
        self.package = package
        #: Whether it tells that its client came by TLS; None: it tells nothing.
        self.secure = secure
        self.text = (EXAMPLES / name).read_text(encoding="ascii")

    def options(self) -> list[str]:
        """The options of the command that the example names, at a port that is free."""
        found = re.search(r"# wshost (.*)", self.text)
        assert found
        given = shlex.split(found[1])
        assert any("8080" in option for option in given)
        return [option.replace("8080", "0") for option in given]


def with_paths(text: str, directory: Path, *pairs: tuple[str, str]) -> str:
    """An example whose paths and ports are others: each stands there once."""
    for old, new in (("/etc/haproxy", str(directory)), ("/etc/nginx", str(directory)), *pairs):
        assert old.startswith("/etc/") or text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def nginx(recipe: Recipe, directory: Path, listening: socket.socket, port: int) -> list[str]:
    at = f"127.0.0.1:{listening.getsockname()[1]}"
    pairs = [("listen 443 ssl", f"listen {at} ssl"), ("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")]
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr; events {{}}"
        f"http {{ access_log off; {temporary}\n{with_paths(recipe.text, directory, *pairs)} }}"
    )
    return [programs.find("nginx", package="nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf")]


def haproxy(recipe: Recipe, directory: Path, listening: socket.socket, port: int) -> list[str]:
    pairs = [("bind :443", f"bind fd@{listening.fileno()}"), ("chat1 127.0.0.1:8080", f"chat1 127.0.0.1:{port}")]
    (directory / "haproxy.cfg").write_text(with_paths(recipe.text, directory, *pairs))
    return [programs.find("haproxy", package="haproxy"), "-db", "-f", str(directory / "haproxy.cfg")]


def caddy(recipe: Recipe, directory: Path, _listening: socket.socket, port: int) -> list[str]:
    """It takes no socket, so it chooses the port itself, and there is no authority to get a certificate from."""
    program = programs.find("caddy", package="caddy")
    adapted = subprocess.check_output(
        [program, "adapt", "--config", EXAMPLES / recipe.name], text=True, stderr=subprocess.DEVNULL, timeout=SOON
    )
    configuration = json.loads(with_paths(adapted, directory, ("127.0.0.1:8080", f"127.0.0.1:{port}")))
    [server] = configuration["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    server.update(listen=["127.0.0.1:0"], automatic_https={"disable": True}, tls_connection_policies=[{}])
    files = {"certificate": str(directory / "chat.pem"), "key": str(directory / "chat.key")}
    configuration["apps"]["tls"] = {"certificates": {"load_files": [files]}}
    configuration["admin"] = {"disabled": True, "config": {"persist": False}}
    (directory / "caddy.json").write_text(json.dumps(configuration))
    return [program, "run", "--config", str(directory / "caddy.json")]


RECIPES = [
    Recipe("nginx.conf", nginx, "nginx", secure=True),
    Recipe("haproxy.cfg", haproxy, "haproxy", secure=None),
    Recipe("haproxy-http.cfg", haproxy, "haproxy", secure=True),
    Recipe("Caddyfile", caddy, "caddy", secure=True),
]


@contextmanager
def running(recipe: Recipe, directory: Path, *options: str) -> Iterator[Proxy]:
    """A proxy that runs as its example says, before a server that runs so."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(directory / "chat.pem")
    certificate.private_key_pem.write_to_path(directory / "chat.key")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with ExitStack() as stack:
        server = stack.enter_context(
            running_server("--handler", f"{__name__}:Who", "--access-log", *recipe.options(), *options)
        )
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        with (directory / "log").open("w+") as log:
            process = subprocess.Popen(
                recipe.run(recipe, directory, listening, server.port),
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                env={**os.environ, "NGINX": f"{listening.fileno()};", "HOME": str(directory)},
            )
            try:
                proxy = Proxy(server, ready(process, recipe, listening, directory / "log"), tls)
                answers(proxy, directory / "log")
                yield proxy
            finally:
                process.terminate()
                process.wait(SOON)
        assert "Traceback" not in server.log


def ready(process: subprocess.Popen[bytes], recipe: Recipe, listening: socket.socket, log: Path) -> int:
    """Wait until the proxy listens, and return its port."""
    if recipe.run is not caddy:
        return int(listening.getsockname()[1])
    deadline = time.monotonic() + SOON
    while True:
        assert process.poll() is None, log.read_text()
        # The socket that it has inherited is not its own.
        for port in set(listening_ports(process.pid)) - {listening.getsockname()[1]}:
            return port
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def answers(proxy: Proxy, log: Path) -> None:
    """Wait until a client is served: HAProxy waits for its first check."""
    deadline = time.monotonic() + SOON
    while True:
        with suppress(OSError, AssertionError), proxy.connect("127.0.0.9") as client:
            if ask(client).startswith("127.0.0.9:"):
                return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module", params=RECIPES, ids=lambda recipe: recipe.name)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    assert isinstance(request.param, Recipe)
    return request.param


@pytest.fixture(scope="module")
def proxy(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(recipe, tmp_path_factory.mktemp("proxy"), "--max-connections-per-address=2") as proxy:
        yield proxy


def seen(who: str) -> tuple[str, str]:
    """The address that the server sees, without its port, and what the proxy has told of TLS."""
    peer, _, secure = who.partition(" ")
    return peer.rpartition(":")[0], secure


def test_the_limit_for_an_address_holds_over_all_workers(recipe: Recipe, tmp_path: Path) -> None:
    options = ("--workers=2", "--max-connections-per-address=2")
    with running(recipe, tmp_path, *options) as proxy, ExitStack() as stack:

        def connect(address: str) -> str:
            return ask(stack.enter_context(proxy.connect(address)))

        whos = [connect("127.0.0.6") for _ in range(5)]
        assert [seen(who)[0] for who in whos[:2]] == ["127.0.0.6", "127.0.0.6"]
        assert whos[2:] == ["503"] * 3
        assert seen(connect("127.0.0.7"))[0] == "127.0.0.7"


class TestRecipes:
    def test_the_handler_and_the_log_have_the_clients_address(self, proxy: Proxy, recipe: Recipe) -> None:
        with proxy.connect("127.0.0.2") as client:
            who = ask(client)
        assert seen(who) == ("127.0.0.2", str(recipe.secure))
        proxy.server.wait_for(rf"wshost\.access: \[c\d+ {re.escape(who.split(' ')[0])}\] ")

    @pytest.mark.parametrize(
        "forged",
        [
            ["X-Forwarded-For: 192.0.2.6"],
            ["X-Forwarded-For: 192.0.2.6", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http"],
            ["Forwarded: for=192.0.2.6;proto=http"],
            ['Forwarded: for="', "X-Forwarded-For: 127.0.0.1"],
        ],
    )
    def test_a_client_can_not_forge_its_address(self, proxy: Proxy, recipe: Recipe, forged: list[str]) -> None:
        with proxy.connect("127.0.0.3") as client:
            assert seen(ask(client, *forged)) == ("127.0.0.3", str(recipe.secure))

    @pytest.mark.parametrize(
        ("origin", "allowed"), [(f"https://{HOST}", True), ("https://evil.example", False), ("null", False)]
    )
    def test_browsers_connect_from_the_servers_own_pages(self, proxy: Proxy, origin: str, allowed: bool) -> None:
        with proxy.connect("127.0.0.4") as client:
            answer = ask(client, f"Origin: {origin}")
        assert answer.startswith("127.0.0.4:") if allowed else answer == "403"

    def test_browsers_connect_from_pages_of_https_where_the_proxy_tells_of_tls(
        self, proxy: Proxy, recipe: Recipe
    ) -> None:
        with proxy.connect("127.0.0.5") as client:
            answer = ask(client, f"Origin: http://{HOST}")
        assert answer.startswith("127.0.0.5:") if recipe.secure is None else answer == "403"

    def test_the_limit_for_an_address_is_that_of_the_client(self, proxy: Proxy) -> None:
        with proxy.connect("127.0.0.6") as one, proxy.connect("127.0.0.6") as other:
            assert seen(ask(one))[0] == seen(ask(other))[0] == "127.0.0.6"
            with proxy.connect("127.0.0.6") as third:
                assert ask(third) == "503"
            with proxy.connect("127.0.0.7") as third:
                assert seen(ask(third))[0] == "127.0.0.7"

    @pytest.mark.parametrize(
        "fields",
        [
            ["Host: evil.example"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 5", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", "Content-Length: 5"],
            ["Transfer-Encoding: xchunked"],
            ["Content-Length: +5"],
            ["A name: with a blank"],
            [" a folded: line"],
        ],
    )
    def test_no_head_that_two_programs_read_differently_opens_a_connection(
        self, proxy: Proxy, fields: list[str]
    ) -> None:
        with proxy.connect("127.0.0.8") as client:
            head = request(headers={"Host": HOST}).removesuffix(b"\r\n")
            # The last chunk: Caddy passes no answer on before a body has come that its client has announced.
            client.sendall(head + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n0\r\n\r\n")
            client.settimeout(SOON)
            assert client.recv(4096).split(b" ")[1][:1] in {b"4", b"5"}
