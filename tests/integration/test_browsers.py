"""What browsers and others send in a request's head, to real servers: names, origins, bytes beyond ASCII, lists."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.integration.server import Server, running_server
from tests.memory import request
from tests.regressions.wire import status

ECHO = "--handler=wshost.handlers.echo"
#: For what is on its way, in seconds.
SOON = 10


@contextmanager
def dial(server: Server, ahead: bytes = b"") -> Iterator[socket.socket]:
    """Connect; what has to come first is sent."""
    if server.url.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SOON)
        client.connect(server.url.removeprefix("unix:"))
    else:
        client = socket.create_connection(("127.0.0.1", server.port), SOON)
    with client:
        client.sendall(ahead)
        yield client


def answer(server: Server, host: str, origin: str | None, ahead: bytes = b"") -> int:
    """Return the status that the client of websockets gets, which asks for this host from a page of this origin."""
    said = None if origin is None else Origin(origin)
    with dial(server, ahead) as client:
        try:
            with connect(f"ws://{host}/", sock=client, origin=said, proxy=None, close_timeout=SOON) as websocket:
                websocket.send("Grüße")
                assert websocket.recv(timeout=SOON) == "Grüße"
                return 101
        except InvalidStatus as caught:
            refused = caught.response
    assert (b"--host" in (refused.body or b"")) is (refused.status_code == 421)
    return refused.status_code


class TestRebinding:
    """A page of evil.example has its own name lead to a server on this machine."""

    @pytest.mark.parametrize(
        ("reactor", "options"), [(None, []), ("epoll", ["--origin=https://app.example"])], ids=["bare", "origin"]
    )
    def test_on_a_loopback_address_a_foreign_host_gets_421(self, options: list[str], reactor: str | None) -> None:
        with running_server(ECHO, *options, reactor=reactor) as server:
            for _ in range(3):
                assert answer(server, f"evil.example:{server.port}", f"http://evil.example:{server.port}") == 421
            assert answer(server, f"localhost:{server.port}", f"http://localhost:{server.port}") == 101
            assert answer(server, f"127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}") == 101
            assert answer(server, f"localhost:{server.port}", "http://evil.example") == 403
            assert answer(server, "evil.example", None) == 101
            server.wait_for("a browser asked for the host 'evil.example'.*--host")
            assert server.log.count("--host") == 1

    def test_only_names_given_by_the_host_option_are_served(self) -> None:
        with running_server(ECHO, "--host=chat.example.com", "--host=*.example.org") as server:
            assert answer(server, "chat.example.com", "https://chat.example.com") == 101
            assert answer(server, "a.example.org", "http://a.example.org") == 101
            assert answer(server, "evil.example", "http://evil.example") == 421
            assert answer(server, "localhost", "http://localhost") == 421

    def test_behind_the_proxy_protocol_the_address_in_its_header_decides(self) -> None:
        """A proxy says which address its client has connected to."""
        ahead = b"PROXY TCP4 198.51.100.7 203.0.113.1 50000 443\r\n"
        with running_server("--listen=haproxy:tcp:0:interface=127.0.0.1", ECHO) as server:
            assert answer(server, "chat.example.com", "https://chat.example.com", ahead) == 101
        with running_server("--listen=haproxy:tcp:0:interface=127.0.0.1", ECHO, "--host=chat.example.com") as server:
            assert answer(server, "chat.example.com", "https://chat.example.com", ahead) == 101
            assert answer(server, "evil.example", "https://evil.example", ahead) == 421

    def test_on_a_unix_socket_any_name_is_served(self, tmp_path: Path) -> None:
        with running_server(f"--listen=unix:{tmp_path}/socket", ECHO) as server:
            assert answer(server, "chat.example.com", "https://chat.example.com") == 101

    @pytest.mark.parametrize("reactor", [None, "epoll"])
    def test_over_tls_an_http_origin_gets_403(self, tmp_path: Path, reactor: str | None) -> None:
        """The page of an attacker on the network, who can't forge https."""
        authority = trustme.CA()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with running_server(ECHO, f"--tls-cert={tmp_path}/server.pem", reactor=reactor) as server:
            for scheme, expected in (("https", 101), ("http", 403)):
                origin = f"{scheme}://localhost:{server.port}"
                with dial(server) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
                    client.sendall(request(headers={"Host": f"localhost:{server.port}", "Origin": origin}))
                    assert status(client.recv(65_536)) == expected


class TestApplications:
    def test_an_application_origin_is_served_only_if_an_option_names_it(self) -> None:
        origins = ["file://", "capacitor://localhost", "app://x", "vscode-webview://1ga8gk0ss5cqk8t1d3pqkm2m8k"]
        with running_server(ECHO, *(f"--origin={origin}" for origin in origins)) as server:
            for origin in origins:
                assert answer(server, "chat.example.com", origin) == 101
            for origin in ("null", "ionic://localhost", "app://y"):
                assert answer(server, "chat.example.com", origin) == 403


class TestHeads:
    @pytest.fixture(scope="class", params=[None, "epoll"])
    @classmethod
    def server(cls, request: pytest.FixtureRequest) -> Iterator[Server]:
        with running_server(ECHO, "--compress", reactor=request.param) as server:
            yield server

    def test_a_utf_8_cookie_is_accepted(self, server: Server) -> None:
        lines = "Cookie: name=Zoë; theme=日本語\r\nUser-Agent: Grüße/1.0 ✓\r\n\r\n"
        with dial(server, request()[:-2] + lines.encode()) as client:
            assert status(client.recv(65_536)) == 101

    @pytest.mark.parametrize("cut", [0, 1, 2, 3])
    def test_empty_lines_before_the_request_are_ignored(self, server: Server, cut: int) -> None:
        """RFC 9112 §2.2."""
        data = b"\r\n\r\n" + request()
        with dial(server, data[:cut]) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            time.sleep(0.05)
            client.sendall(data[cut:])
            assert status(client.recv(65_536)) == 101

    @pytest.mark.parametrize("member", [b"a,", b"permessage-deflate; client_max_window_bits,", b"a;b,", b"a;"])
    def test_an_endless_list_of_extensions_gets_431(self, server: Server, member: bytes) -> None:
        line = b"Sec-WebSocket-Extensions: " + member * (15_000 // len(member)) + b"a"
        with dial(server, request()[:-2] + line + b"\r\n\r\n") as client:
            assert status(client.recv(65_536)) == 431
