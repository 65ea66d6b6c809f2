"""Behind a proxy: the PROXY protocol byte by byte, and from HAProxy itself, on both kinds of reactor."""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from tests import programs
from tests.integration.server import Server, running_server
from tests.listening.test_proxy_header import INVALID, VALID
from tests.memory import request
from tests.regressions import wire
from wshost.connections.address import address

#: What a client has to wait for at most, in seconds; the servers' timeouts are 1.
SOON = 10

REACTORS = ["default", "epoll"]

ASK = request() + wire.frame(wire.TEXT, b"who am I")


@contextmanager
def proxied_server(reactor: str, *options: str) -> Iterator[Server]:
    with running_server(
        "--handler=tests.integration.proxy_handler",
        "--handshake-timeout=1",
        "--close-timeout=1",
        "--health-path=/healthz",
        *(options or ["--listen=haproxy:tcp:0:interface=127.0.0.1"]),
        reactor=None if reactor == "default" else reactor,
    ) as server:
        yield server
        assert "Traceback" not in server.log
        assert "not logged" not in server.log


@pytest.fixture(scope="module", params=REACTORS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with proxied_server(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("proxy") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


def dial(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SOON)


def said(client: socket.socket) -> str:
    """What the server says to the first message: who the client is."""
    data = b""
    while b"\r\n\r\n" not in data or not data.partition(b"\r\n\r\n")[2].endswith((b"plain", b"TLS")):
        more = client.recv(4096)
        assert more, f"the server said no more than {data!r}"
        data += more
    assert data.startswith(b"HTTP/1.1 101 ")
    (frame,) = wire.frames(data.partition(b"\r\n\r\n")[2])
    return frame.payload.decode()


def heard_until_the_end(client: socket.socket) -> tuple[bytes, float]:
    """All that the server says, and how many seconds it took."""
    begin = time.monotonic()
    data = b""
    with suppress(ConnectionResetError):
        while more := client.recv(4096):
            data += more
    return data, time.monotonic() - begin


class TestTheBytes:
    """Of doc/proxy-protocol.txt."""

    @pytest.mark.parametrize(("header", "source", "destination"), VALID)
    def test_a_valid_header_names_the_client(
        self, server: Server, header: bytes, source: object, destination: object
    ) -> None:
        with dial(server) as client:
            client.sendall(header + ASK)
            name = f"127.0.0.1:{client.getsockname()[1]}"
            assert said(client) == f"{address(source) if source else name} plain"  # type: ignore[arg-type]

    @pytest.mark.parametrize("header", [header for header, _, _ in VALID if len(header) < 60][::3])
    def test_a_header_may_come_byte_by_byte(self, server: Server, header: bytes) -> None:
        with dial(server) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in header:
                client.sendall(bytes([byte]))
                # So that they are read one by one, most of them.
                time.sleep(0.001)
            client.sendall(ASK)
            assert said(client).endswith(" plain")

    @pytest.mark.parametrize("data", INVALID[::3])
    def test_an_invalid_header_closes_the_connection_at_once_and_logs_nothing(
        self, server: Server, data: bytes
    ) -> None:
        with dial(server) as client:
            client.sendall(data)
            assert heard_until_the_end(client)[0] == b""

    @pytest.mark.parametrize("data", [b"", b"P", b"PROXY TCP4 192.0.2.1", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"])
    def test_an_unfinished_header_closes_the_connection_after_the_handshake_timeout(
        self, server: Server, data: bytes
    ) -> None:
        with dial(server) as client:
            client.sendall(data)
            heard, seconds = heard_until_the_end(client)
        assert heard == b""
        assert 0.5 < seconds < SOON

    @pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192.0.2.1", b"PROXY UNKNOWN\r\n"])
    def test_a_connection_may_end_in_or_behind_the_header(self, server: Server, data: bytes) -> None:
        """As those of a health check."""
        with dial(server) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert heard_until_the_end(client)[0] == b""

    def test_a_half_closed_peer_still_gets_its_answer(self, server: Server) -> None:
        with dial(server) as client:
            client.sendall(b"PROXY UNKNOWN\r\n" + ASK)
            client.shutdown(socket.SHUT_WR)
            assert said(client).endswith(" plain")

    def test_max_connections_per_address_counts_by_the_address_in_the_header(self) -> None:
        """Whether or not anything comes behind it."""
        with (
            proxied_server(
                "default", "--listen=haproxy:tcp:0:interface=127.0.0.1", "--max-connections-per-address=1"
            ) as server,
            dial(server) as silent,
            dial(server) as second,
            dial(server) as other,
        ):
            silent.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n")
            time.sleep(0.2)
            second.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n" + ASK)
            other.sendall(b"PROXY TCP4 192.0.2.2 192.0.2.9 1 2\r\n" + ASK)
            assert second.recv(4096).startswith(b"HTTP/1.1 503 ")
            assert said(other) == "192.0.2.2:1 plain"


class TestTLS:
    """Behind the header."""

    @pytest.mark.parametrize("reactor", REACTORS)
    @pytest.mark.parametrize("own", [False, True])
    def test_tls_begins_behind_the_header(self, certificate: Path, reactor: str, own: bool) -> None:
        options = (
            [f"--listen=haproxy:ssl:0:interface=127.0.0.1:privateKey={certificate}"]
            if own
            else ["--listen=haproxy:tcp:0:interface=127.0.0.1", f"--tls-cert={certificate}"]
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with proxied_server(reactor, *options) as server, dial(server) as plain:
            plain.sendall(b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n")
            with context.wrap_socket(plain) as client:
                client.sendall(ASK)
                assert said(client) == "[2001:db8::1]:4711 TLS"


HAPROXY = """\
global
    stats socket {directory}/stats.sock
defaults
    mode {mode}
    option httpchk
    http-check send meth GET uri /healthz
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout tunnel 5s
frontend tcp
    bind fd@{ipv4}
    default_backend wshost
frontend tcp6
    bind fd@{ipv6}
    default_backend wshost
frontend unix
    bind unix@{directory}/unix.sock
    default_backend wshost
backend wshost
    server one {server} {how} check inter 5s fastinter 100ms downinter 100ms check-send-proxy
"""


class HAProxy:
    """HAProxy in its own process, before a server."""

    def __init__(self, directory: Path, port: int, port6: int) -> None:
        self.directory = directory
        self.port = port
        self.port6 = port6

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.directory / "stats.sock"))
            client.sendall(command.encode() + b"\n")
            return heard_until_the_end(client)[0].decode()

    def status(self) -> tuple[str, str]:
        """Whether it takes the server for up, and why."""
        head, *rows = self.ask("show stat").splitlines()
        names = head.removeprefix("# ").split(",")
        (row,) = [dict(zip(names, row.split(","), strict=False)) for row in rows if row.startswith("wshost,one,")]
        return row["status"], row["check_status"]


@contextmanager
def haproxy(server: str, how: str, mode: str) -> Iterator[HAProxy]:
    """Run it, and wait until its health checks find the server."""
    program = programs.find("haproxy", package="haproxy")
    # The names of Unix sockets are short. A port that is free now may be another's when HAProxy binds it.
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as name,
        socket.create_server(("127.0.0.1", 0)) as ipv4,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as ipv6,
    ):
        directory = Path(name)
        configuration = directory / "haproxy.cfg"
        configuration.write_text(
            HAPROXY.format(
                directory=directory, ipv4=ipv4.fileno(), ipv6=ipv6.fileno(), server=server, how=how, mode=mode
            ),
            encoding="ascii",
        )
        process = subprocess.Popen(
            [program, "-db", "-f", configuration],
            pass_fds=(ipv4.fileno(), ipv6.fileno()),
            stderr=subprocess.PIPE,
            text=True,
        )
        running = HAProxy(directory, ipv4.getsockname()[1], ipv6.getsockname()[1])
        try:
            deadline = time.monotonic() + SOON
            while True:
                # After a check that has taken too long, as it may on a loaded machine, two have to succeed.
                with suppress(OSError, ValueError):
                    if running.status() == ("UP", "L7OK"):
                        break
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, running.ask("show stat")
                time.sleep(0.05)
            yield running
        finally:
            process.terminate()
            process.communicate()


class TestHAProxy:
    @pytest.mark.parametrize(
        ("how", "mode"),
        [
            ("send-proxy", "tcp"),
            ("send-proxy", "http"),
            ("send-proxy-v2", "tcp"),
            ("send-proxy-v2 proxy-v2-options ssl,cert-cn,authority,crc32c,unique-id", "http"),
        ],
    )
    def test_haproxy_names_its_clients(self, server: Server, mode: str, how: str) -> None:
        """Its health checks are LOCAL ones; a client of its Unix socket has no address, or one without a name."""
        with haproxy(f"127.0.0.1:{server.port}", how, mode) as proxy:
            for host, port in (("127.0.0.1", proxy.port), ("::1", proxy.port6)):
                with socket.create_connection((host, port), SOON) as client:
                    client.sendall(ASK)
                    name = client.getsockname()
                    assert said(client) == f"{f'[{host}]' if ':' in host else host}:{name[1]} plain"
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SOON)
                client.connect(str(proxy.directory / "unix.sock"))
                client.sendall(ASK)
                who = said(client)
            assert who.startswith("127.0.0.1:") or who == "unix: plain"

    @pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
    def test_haproxy_may_connect_by_a_unix_socket(self, how: str) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            path = f"{directory}/chat.sock"
            with (
                proxied_server("default", f"--listen=haproxy:unix:{path}"),
                haproxy(f"unix@{path}", how, "tcp") as proxy,
                socket.create_connection(("127.0.0.1", proxy.port), SOON) as client,
            ):
                client.sendall(ASK)
                assert said(client) == f"127.0.0.1:{client.getsockname()[1]} plain"

    @pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2"])
    @pytest.mark.parametrize("own", [False, True])
    def test_haproxy_may_speak_tls_with_the_server(self, certificate: Path, how: str, own: bool) -> None:
        options = (
            [f"--listen=haproxy:ssl:0:interface=127.0.0.1:privateKey={certificate}"]
            if own
            else ["--listen=haproxy:tcp:0:interface=127.0.0.1", f"--tls-cert={certificate}"]
        )
        how += " ssl verify none"
        with (
            proxied_server("default", *options) as server,
            haproxy(f"127.0.0.1:{server.port}", how, "tcp") as proxy,
            socket.create_connection(("127.0.0.1", proxy.port), SOON) as client,
        ):
            client.sendall(ASK)
            assert said(client) == f"127.0.0.1:{client.getsockname()[1]} TLS"
