"""TLS with the standard library's client, and how silent or ended TLS connections go, on both kinds of reactor."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from tests.integration.server import Server, running_server
from tests.memory import request
from tests.regressions import wire

#: What a client has to wait for at most, in seconds; the servers' timeouts are 1.
SOON = 5


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem and server.pem."""
    directory = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    return directory


@contextmanager
def tls_server(files: Path, reactor: str, *options: str) -> Iterator[Server]:
    with running_server(
        "--handler=tests.integration.tls_handler",
        f"--tls-cert={files / 'server.pem'}",
        "--handshake-timeout=1",
        "--close-timeout=1",
        *options,
        reactor=None if reactor == "default" else reactor,
    ) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture(scope="session", params=["default", "epoll"])
def server(request: pytest.FixtureRequest, files: Path) -> Iterator[Server]:
    """A server with a certificate."""
    with tls_server(files, request.param) as server:
        yield server


@pytest.fixture(scope="session", params=["default", "epoll"])
def demanding(request: pytest.FixtureRequest, files: Path) -> Iterator[Server]:
    """One that demands certificates of clients, too."""
    with tls_server(files, request.param, f"--tls-client-ca={files / 'ca.pem'}") as server:
        yield server


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """For a client that trusts the server."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def dial(server: Server) -> socket.socket:
    """Connect, no more."""
    return socket.create_connection(("127.0.0.1", server.port), SOON)


def secure(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect, and shake TLS's hands. It tells a TLS that is closed from a TCP that is."""
    return context.wrap_socket(dial(server), server_hostname="localhost", suppress_ragged_eofs=False)


def upgraded(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect as far as a WebSocket."""
    client = secure(server, context)
    client.sendall(request())
    assert wire.status(client.recv(65_536)) == 101
    return client


def read_to_the_end(client: socket.socket) -> bytes:
    """Read until the server ends; over TLS, properly."""
    data = b""
    while more := client.recv(65_536):
        data += more
    return data


def assert_gone(client: socket.socket, start: float) -> None:
    """The server ends the connection in time, one way or the other."""
    with client, suppress(ConnectionResetError, ssl.SSLError):
        read_to_the_end(client)
    assert time.monotonic() - start < SOON


def ask(server: Server, context: ssl.SSLContext, question: str) -> str:
    with upgraded(server, context) as client:
        client.sendall(wire.frame(wire.TEXT, question.encode()) + wire.close())
        answer, _ = wire.frames(read_to_the_end(client))
        return answer.payload.decode()


def assert_alone(server: Server, context: ssl.SSLContext) -> None:
    """Whoever asks how many are there is the only one, soon."""
    deadline = time.monotonic() + SOON
    while (count := ask(server, context, "how many are we")) != "1" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count == "1"


def assert_not_heard(server: Server, context: ssl.SSLContext) -> None:
    """A client's request gets no answer. With TLS 1.3 it learns only from what it reads first that it is refused."""

    def ask() -> None:
        with secure(server, context) as client:
            client.sendall(request())
            read_to_the_end(client)

    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        ask()


class TestVersions:
    """RFC 8996: TLS 1.2 is the oldest that is spoken."""

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_tls_1_2_and_1_3_are_spoken_without_compression(
        self, server: Server, context: ssl.SSLContext, version: ssl.TLSVersion
    ) -> None:
        context.minimum_version = context.maximum_version = version
        with secure(server, context) as client:
            assert client.version() == version.name.replace("_", ".")
            assert client.compression() is None

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    def test_tls_1_0_and_1_1_are_refused(
        self, server: Server, context: ssl.SSLContext, version: ssl.TLSVersion
    ) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            secure(server, context)

    def test_the_log_names_a_wss_url(self, server: Server) -> None:
        assert server.url.startswith("wss://")


class TestClientCertificates:
    """`--tls-client-ca`: who has no certificate of that authority does not get as far as a request."""

    def test_the_handler_sees_the_clients_certificate(
        self, demanding: Server, context: ssl.SSLContext, authority: trustme.CA
    ) -> None:
        authority.issue_cert("alice@example.com", common_name="alice").configure_cert(context)
        assert "CN=alice" in ask(demanding, context, "who am I").split(",")

    def test_a_client_without_a_certificate_is_not_heard(self, demanding: Server, context: ssl.SSLContext) -> None:
        assert_not_heard(demanding, context)

    def test_a_client_with_another_authoritys_certificate_is_not_heard(
        self, demanding: Server, context: ssl.SSLContext
    ) -> None:
        trustme.CA().issue_cert("alice@example.com", common_name="alice").configure_cert(context)
        assert_not_heard(demanding, context)

    def test_a_certificate_that_is_not_demanded_is_not_looked_at(
        self, server: Server, context: ssl.SSLContext, authority: trustme.CA
    ) -> None:
        authority.issue_cert("alice@example.com", common_name="alice").configure_cert(context)
        assert ask(server, context, "who am I") == "no certificate"


class TestSilence:
    """From the TCP connection to the end of the request head there is one deadline, TLS included."""

    @pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
    def test_a_peer_silent_before_the_tls_handshake_is_dropped_in_time(
        self, server: Server, context: ssl.SSLContext, said: bytes
    ) -> None:
        start = time.monotonic()
        client = dial(server)
        client.sendall(said)
        assert_gone(client, start)
        assert time.monotonic() - start > 0.9
        assert_alone(server, context)

    def test_a_peer_silent_after_the_tls_handshake_is_dropped_in_time(
        self, server: Server, context: ssl.SSLContext
    ) -> None:
        start = time.monotonic()
        assert_gone(secure(server, context), start)

    def test_a_peer_silent_within_its_request_gets_408(self, server: Server, context: ssl.SSLContext) -> None:
        client = secure(server, context)
        client.sendall(request()[:-2])
        assert wire.status(read_to_the_end(client)) == 408
        client.close()

    def test_a_peer_that_does_not_answer_our_close_is_dropped_in_time(
        self, server: Server, context: ssl.SSLContext
    ) -> None:
        """Neither the Close nor the close_notify is answered, nor read."""
        client = upgraded(server, context)
        client.sendall(wire.frame(wire.TEXT, b"close me"))
        assert_alone(server, context)
        client.close()

    def test_a_refused_peer_that_goes_on_sending_is_dropped_in_time(
        self, server: Server, context: ssl.SSLContext
    ) -> None:
        client = secure(server, context)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 100_000)
        start = time.monotonic()
        assert_gone(client, start)


class TestCloseNotify:
    """RFC 8446 §6.1: an end that is none of TLS's may be anybody's."""

    def test_close_notify_follows_the_closing_handshake(self, server: Server, context: ssl.SSLContext) -> None:
        with upgraded(server, context) as client:
            client.sendall(wire.close(1000, "bye"))
            assert wire.close_code(read_to_the_end(client)) == 1000

    def test_close_notify_follows_a_refusal(self, server: Server, context: ssl.SSLContext) -> None:
        with secure(server, context) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            response = read_to_the_end(client)
        assert wire.status(response) == 426
        head, _, body = response.partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head

    def test_a_peers_close_notify_ends_the_connection(self, server: Server, context: ssl.SSLContext) -> None:
        client = upgraded(server, context)
        plain = client.unwrap()
        assert read_to_the_end(plain) == b""
        plain.close()
        assert_alone(server, context)

    @pytest.mark.parametrize("how", ["close", "reset", "half-close"])
    def test_a_tcp_end_without_close_notify_ends_the_connection(
        self, server: Server, context: ssl.SSLContext, how: str
    ) -> None:
        client = upgraded(server, context)
        if how == "half-close":
            client.shutdown(socket.SHUT_WR)
        elif how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.close()
        else:
            client.close()
        assert_alone(server, context)
        client.close()


class TestOtherThanTLS:
    @pytest.mark.parametrize(
        "data",
        [request(), b"GET / HTTP/1.0\r\n\r\n", b"\x80\x2e\x01\x00\x02", b"\0" * 10_000, b"\x16\x03\x01\xff\xff" * 99],
    )
    def test_what_is_not_tls_gets_no_http_response(self, server: Server, context: ssl.SSLContext, data: bytes) -> None:
        start = time.monotonic()
        client = dial(server)
        client.sendall(data)
        answer = b""
        with client, suppress(ConnectionResetError):
            answer = read_to_the_end(client)
        assert time.monotonic() - start < SOON
        assert not answer.startswith(b"HTTP")
        assert_alone(server, context)
