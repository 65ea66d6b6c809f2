"""TLS as browsers, curl, Java and OpenSSL speak it, on each way to listen (RFC 8446, RFC 7301)."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from tests.certificates import pem, self_signed
from tests.integration.server import SCRIPTS, Server, running_server
from tests.memory import request
from tests.regressions import wire

#: What a client has to wait for at most, in seconds.
SOON = 5
#: Python knows the alert no_application_protocol by its number alone.
TOLD = "(?i)alert.no.application.protocol"
#: What comes before anything else from a proxy.
PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 443\r\n"
#: Passes a listening socket on as systemd does.
SYSTEMD = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="chat", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"""
TAC = """
import wshost
from twisted.application.service import Application

application = Application("chat")
wshost.service(
    {{"handler": "tests.integration.tls_handler", "listen": ["ssl:0:interface=127.0.0.1:privateKey={cert}"]}}
).setServiceParent(application)
wshost.service(
    {{"handler": "tests.integration.tls_handler", "listen": ["tcp:0:interface=127.0.0.1"], "tls_cert": "{cert}"}}
).setServiceParent(application)
"""
EPOLL = ["--reactor=epoll"]
TCP = "tcp:0:interface=127.0.0.1"


class Process(NamedTuple):
    """A server: its reactor, whether `--tls-cert` brings TLS, and where it listens."""

    reactor: str | None
    tls: bool
    listen: tuple[str, ...]


#: By name. `{files}` is the directory of the certificates; what is no description of an endpoint is said in full below.
PROCESSES = {
    "default": Process(
        None,
        True,
        (TCP, f"haproxy:{TCP}", "unix:{sockets}/u1", "haproxy:unix:{sockets}/u2", "systemd:domain=INET:name=chat"),
    ),
    "default, own TLS": Process(
        None,
        False,
        (
            "ssl:0:interface=127.0.0.1:privateKey={files}/server.pem",
            "fast:0:interface=127.0.0.1:cert={files}/server.pem",
            "fast:unix={sockets}/u3:cert={files}/server.pem",
            "haproxy:ssl:0:interface=127.0.0.1:privateKey={files}/server.pem",
        ),
    ),
    "asyncio": Process("asyncio", True, (TCP,)),
    "epoll": Process(
        "epoll",
        True,
        (TCP, f"haproxy:{TCP}", "unix:{sockets}/u4", "haproxy:unix:{sockets}/u5", "systemd:domain=INET:name=chat"),
    ),
    "epoll, own TLS": Process("epoll", False, ("ssl:0:interface=127.0.0.1:privateKey={files}/server.pem",)),
    "select": Process("select", True, (TCP,)),
    "poll": Process("poll", True, (TCP,)),
    "tac": Process(None, True, ("ssl:", TCP)),
}
WAYS = [(name, number) for name, process in PROCESSES.items() for number in range(len(process.listen))]
#: One of each implementation of TLS, and of what may stand before it: wshost's ports and Twisted's, the PROXY protocol,
#: `ssl:`. The other ways only listen by other means; what is agreed on with a client is tried on all.
KINDS = [("default", 0), ("default", 1), ("default, own TLS", 0), ("asyncio", 0), ("epoll", 0), ("epoll", 1)]
DEMANDING = [("default", 0), ("default", 1), ("default", 2), ("asyncio", 0), ("epoll", 0), ("epoll", 1), ("epoll", 4)]


class Way:
    """One place where a server listens with TLS."""

    def __init__(self, server: Server, url: str, description: str) -> None:
        self.server = server
        self._url = url
        self._description = description

    def dial(self) -> socket.socket:
        """Connect, as far as TLS begins."""
        if self._url.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            client.connect(self._url.removeprefix("unix:"))
        else:
            client = socket.create_connection(("127.0.0.1", int(self._url.rpartition(":")[2])))
        client.settimeout(SOON)
        if self._description.startswith("haproxy:"):
            client.sendall(PROXY)
        return client


@contextmanager
def serve(name: str, files: Path, *options: str) -> Iterator[list[Way]]:
    process = PROCESSES[name]
    # Two servers can't have one Unix socket.
    sockets = tempfile.mkdtemp(dir=files)
    listen = [one.replace("{files}", str(files)).replace("{sockets}", sockets) for one in process.listen]
    words = [f"--listen={description}" for description in listen]
    if process.tls:
        words.append(f"--tls-cert={files / 'server.pem'}")
    how: dict[str, Any] = {"reactor": process.reactor}
    if name == "tac":
        (files / "chat.tac").write_text(TAC.format(cert=files / "server.pem"))
        how["application"] = str(files / "chat.tac")
    if any(description.startswith("systemd:") for description in listen):
        how["before"] = (sys.executable, "-c", SYSTEMD)
    with running_server("--handler=tests.integration.tls_handler", *words, *options, **how) as server:
        server.wait_for(rf"(?s)(wshost listening on .*){{{len(listen)}}}")
        urls = re.findall(r"wshost listening on (\S+)", server.log)
        assert {url.partition(":")[0] for url in urls} <= {"wss", "unix"}
        yield [Way(server, url, description) for url, description in zip(urls, listen, strict=True)]
        assert "Traceback" not in server.log
        assert "Unhandled" not in server.log


class Servers:
    """Those that are running: each is started when it is first asked for, and ends with the tests."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._running: dict[tuple[str, tuple[str, ...]], list[Way]] = {}
        self._stack = ExitStack()

    def way(self, name: str, number: int, *options: str) -> Way:
        if (name, options) not in self._running:
            self._running[name, options] = self._stack.enter_context(serve(name, self._files, *options))
        return self._running[name, options][number]

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem and server.pem."""
    directory = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        directory / "server.pem"
    )
    return directory


@pytest.fixture(scope="module")
def servers(files: Path) -> Iterator[Servers]:
    servers = Servers(files)
    yield servers
    servers.stop()


def _name(way: tuple[str, int]) -> str:
    name, number = way
    description = PROCESSES[name].listen[number].replace("{files}/", "").replace("{sockets}/", "")
    return f"{name}: {description.replace(':interface=127.0.0.1', '')}"


@pytest.fixture(params=WAYS, ids=_name)
def way(request: pytest.FixtureRequest, servers: Servers) -> Way:
    return servers.way(*request.param)


@pytest.fixture(params=KINDS, ids=_name)
def kind(request: pytest.FixtureRequest, servers: Servers) -> Way:
    return servers.way(*request.param)


@pytest.fixture(params=DEMANDING, ids=_name)
def demanding(request: pytest.FixtureRequest, servers: Servers, files: Path) -> Way:
    """One that demands certificates of clients, too."""
    return servers.way(*request.param, f"--tls-client-ca={files / 'ca.pem'}")


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """For a client that trusts the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def records(size: int) -> Callable[[bytes], list[bytes]]:
    """Return what makes one record of a message many, each with so many bytes, all in one piece."""

    def fragment(data: bytes) -> list[bytes]:
        message = b""
        while data:
            assert data[0] == 22, "only the handshake is plain"
            length = int.from_bytes(data[3:5])
            message, version, data = message + data[5 : 5 + length], data[1:3], data[5 + length :]
        parts = [message[at : at + size] for at in range(0, len(message), size)]
        return [b"".join(b"\x16" + version + struct.pack("!H", len(part)) + part for part in parts)]

    return fragment


class Client:
    """A client's TLS, its records in our hands.

    :param pieces: how the first of what it says is sent.
    """

    def __init__(
        self,
        way: Way,
        context: ssl.SSLContext,
        *,
        name: str | None = "localhost",
        session: ssl.SSLSession | None = None,
        pieces: Callable[[bytes], list[bytes]] = whole,
    ) -> None:
        self.way = way
        self.socket = way.dial()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context.check_hostname = name == "localhost"
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name, session=session)
        self._pieces = pieces

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        data = self._out.read()
        pieces, self._pieces = self._pieces(data) if data else [], whole
        for piece in pieces:
            self.socket.sendall(piece)

    def _until(self, call: Callable[[], Any]) -> Any:
        """Do something, as often as it takes to read for it."""
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(1 << 16)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                self.flush()
                return result

    def shake(self, behind: bytes = b"") -> Self:
        """Shake hands; something may leave together with the last of it."""

        def shake() -> None:
            self.tls.do_handshake()
            if behind:
                self.tls.write(behind)

        self._until(shake)
        return self

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    def read(self) -> bytes:
        """Read what comes next; nothing when TLS is closed as it should be."""
        try:
            data: bytes = self._until(lambda: self.tls.read(1 << 16))
        except ssl.SSLZeroReturnError:
            return b""
        return data

    def upgrade(self) -> Self:
        """Go on as far as a WebSocket."""
        self.shake()
        self.write(request())
        response = b""
        while b"\r\n\r\n" not in response:
            more = self.read()
            assert more, "the server has closed"
            response += more
        assert wire.status(response) == 101
        return self

    def ask(self, question: str) -> str:
        self.write(wire.frame(wire.TEXT, question.encode()))
        data = b""
        while True:
            for answer in wire.frames(data):
                return answer.payload.decode()
            more = self.read()
            assert more, "the server has closed"
            data += more

    def close(self) -> None:
        """Close properly: the WebSocket, then TLS, then TCP."""
        self.write(wire.close())
        data = b""
        while more := self.read():
            data += more
        assert wire.close_code(data) == 1000


def assert_served(way: Way, context: ssl.SSLContext) -> None:
    """The next client gets what it wants."""
    with Client(way, context) as client:
        assert client.upgrade().ask("who am I") == "no certificate"
        client.close()


def assert_alone(way: Way, context: ssl.SSLContext) -> None:
    """Whoever asks how many are there is the only one, soon."""
    deadline = time.monotonic() + SOON
    count = ""
    while count != "1" and time.monotonic() < deadline:
        with Client(way, context) as client:
            count = client.upgrade().ask("how many are we")
            client.close()
    assert count == "1"


class TestALPN:
    """RFC 7301 §3.2: what a client offers and the server speaks, or the alert for it."""

    @pytest.mark.parametrize(
        "offered",
        [
            ["http/1.1"],  # Chromium and Firefox, for wss:
            ["h2", "http/1.1"],  # curl, Java, and browsers for https:
            ["http/1.1", "h2"],
            ["http/1.0", "http/1.1"],
            ["\x0a\x0a", "h3", "h2", "http/1.1"],  # RFC 8701 §3.1
            [*(f"protocol-{number:03}" for number in range(300)), "http/1.1"],
        ],
        ids=["browser", "curl", "turned", "old", "GREASE", "many"],
    )
    def test_http_1_1_is_selected(self, way: Way, context: ssl.SSLContext, offered: list[str]) -> None:
        context.set_alpn_protocols(offered)
        with Client(way, context) as client:
            client.upgrade()
            assert client.tls.selected_alpn_protocol() == "http/1.1"
            assert client.ask("who am I") == "no certificate"
            client.close()

    def test_no_protocol_is_selected_if_none_is_offered(self, way: Way, context: ssl.SSLContext) -> None:
        with Client(way, context) as client:
            assert client.upgrade().tls.selected_alpn_protocol() is None
            client.close()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    @pytest.mark.parametrize(
        ("offered", "pieces"),
        [(["h2"], whole), (["h2", "h3", "http/1.0", "HTTP/1.1"], whole), (["h2"], bytewise), (["h2"], records(50))],
        ids=["h2", "others", "bytewise", "records"],
    )
    def test_a_client_that_offers_only_other_protocols_gets_the_alert(
        self, way: Way, context: ssl.SSLContext, version: ssl.TLSVersion, offered: list[str], pieces: Any
    ) -> None:
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(offered)
        with (
            Client(way, context, pieces=pieces) as client,
            pytest.raises(ssl.SSLError, match=TOLD),
        ):
            client.shake()

    def test_after_refused_clients_the_next_one_is_served(self, way: Way, context: ssl.SSLContext) -> None:
        refused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        refused.set_alpn_protocols(["h2"])
        for _ in range(3):
            with Client(way, refused) as client, pytest.raises(ssl.SSLError):
                client.shake()
        assert_served(way, context)


class TestServerNames:
    """RFC 6066 §3: there is one certificate, so any name gets that."""

    @pytest.mark.parametrize(
        "name",
        [
            "localhost",
            "other.example",
            "localhost.",
            "127.0.0.1",
            "::1",
            "xn--bcher-kva.example",
            "a." * 120 + "x",
            None,
        ],
        ids=["known", "unknown", "dot", "IPv4", "IPv6", "IDN", "long", "none"],
    )
    def test_any_server_name_is_served(self, kind: Way, context: ssl.SSLContext, name: str | None) -> None:
        context.check_hostname = False
        with Client(kind, context, name=name) as client:
            client.upgrade().close()


class TestVersions:
    """RFC 8996: TLS 1.2 is the oldest that is spoken."""

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_tls_1_2_and_1_3_are_spoken(self, kind: Way, context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
        context.minimum_version = context.maximum_version = version
        with Client(kind, context) as client:
            assert client.upgrade().tls.version() == version.name.replace("_", ".")
            client.close()

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
    def test_tls_1_0_and_1_1_get_an_alert(self, kind: Way, context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with Client(kind, context) as client, pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            client.shake()

    def test_a_client_without_a_common_cipher_gets_an_alert(self, kind: Way, context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA:@SECLEVEL=0")
        with Client(kind, context) as client, pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
            client.shake()

    @pytest.mark.parametrize("curve", ["prime256v1", "secp384r1", "secp521r1"])
    def test_a_client_with_any_common_curve_is_served(self, kind: Way, context: ssl.SSLContext, curve: str) -> None:
        """RFC 8446 §4.1.4: HelloRetryRequest."""
        context.set_ecdh_curve(curve)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with Client(kind, context) as client:
            assert client.upgrade().tls.selected_alpn_protocol() == "http/1.1"
            client.close()


class TestResumption:
    """Tickets (RFC 5077, RFC 8446 §2.2) and sessions: who brings one is served, whether or not it is taken."""

    @pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "no tickets"])
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_a_client_that_comes_back_with_a_session_is_served(
        self, kind: Way, context: ssl.SSLContext, version: ssl.TLSVersion, tickets: bool
    ) -> None:
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        if not tickets:
            context.options |= ssl.OP_NO_TICKET
        session = None
        for _ in range(3):
            with Client(kind, context, session=session) as client:
                assert client.upgrade().ask("who am I") == "no certificate"
                assert client.tls.selected_alpn_protocol() == "http/1.1"
                session = client.tls.session
                client.close()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_a_resumed_session_keeps_the_clients_certificate(
        self, demanding: Way, context: ssl.SSLContext, authority: trustme.CA, version: ssl.TLSVersion
    ) -> None:
        context.minimum_version = context.maximum_version = version
        authority.issue_cert("ada@example.com", common_name="ada").configure_cert(context)
        session = None
        for _ in range(3):
            with Client(demanding, context, session=session) as client:
                assert "CN=ada" in client.upgrade().ask("who am I").split(",")
                session = client.tls.session
                client.close()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_a_resumed_session_without_a_common_protocol_gets_the_alert(
        self, kind: Way, context: ssl.SSLContext, version: ssl.TLSVersion
    ) -> None:
        context.minimum_version = context.maximum_version = version
        with Client(kind, context) as client:
            client.upgrade()
            session = client.tls.session
            client.close()
        context.set_alpn_protocols(["h2"])
        with (
            Client(kind, context, session=session) as client,
            pytest.raises(ssl.SSLError, match=TOLD),
        ):
            client.shake()


class TestPieces:
    """How a ClientHello comes is the client's to choose (RFC 8446 §5.1)."""

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    @pytest.mark.parametrize("pieces", [bytewise, records(1), records(100)], ids=["bytes", "tiny", "small"])
    def test_a_client_hello_in_pieces_is_read(
        self, kind: Way, context: ssl.SSLContext, version: ssl.TLSVersion, pieces: Callable[[bytes], list[bytes]]
    ) -> None:
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with Client(kind, context, pieces=pieces) as client:
            assert client.upgrade().tls.selected_alpn_protocol() == "http/1.1"
            client.close()

    def test_a_client_hello_longer_than_a_record_is_read(self, kind: Way, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols([*("x" * 250 + f"{number:03}" for number in range(120)), "http/1.1"])
        with Client(kind, context) as client:
            assert client.upgrade().tls.selected_alpn_protocol() == "http/1.1"
            client.close()

    def test_an_endless_client_hello_is_refused(self, kind: Way, context: ssl.SSLContext) -> None:
        client = kind.dial()
        with client, suppress(ConnectionError):
            client.sendall(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")
            for _ in range(20):
                client.sendall(b"\x16\x03\x01\x40\x00" + bytes(1 << 14))
            while client.recv(1 << 16):
                pass
        assert_served(kind, context)

    def test_a_request_in_one_piece_with_the_handshakes_end_is_answered(
        self, kind: Way, context: ssl.SSLContext
    ) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with Client(kind, context) as client:
            client.shake(behind=request() + wire.frame(wire.TEXT, b"who am I") + wire.close())
            data = b""
            while more := client.read():
                data += more
        assert wire.status(data) == 101
        answer, _ = wire.frames(data.partition(b"\r\n\r\n")[2])
        assert answer.payload == b"no certificate"


class TestClientCertificates:
    def test_a_certificate_that_is_not_demanded_is_not_looked_at(
        self, kind: Way, context: ssl.SSLContext, authority: trustme.CA
    ) -> None:
        authority.issue_cert("ada@example.com", common_name="ada").configure_cert(context)
        context.post_handshake_auth = True
        assert_served(kind, context)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    @pytest.mark.parametrize("whose", ["nobody's", "another authority's"])
    def test_a_client_without_the_authoritys_certificate_is_refused(
        self, demanding: Way, context: ssl.SSLContext, version: ssl.TLSVersion, whose: str
    ) -> None:
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        if whose != "nobody's":
            trustme.CA().issue_cert("ada@example.com").configure_cert(context)
        with Client(demanding, context) as client, pytest.raises((ssl.SSLError, ConnectionError)):
            # With TLS 1.3, a client learns only from what it reads first that it is refused.
            client.shake().read()


class TestTheEnd:
    """RFC 8446 §6.1: close_notify, or none; and what nobody should do."""

    @pytest.mark.parametrize("how", ["close", "half-close", "reset"])
    @pytest.mark.parametrize("when", ["TCP", "TLS", "WebSocket", "Close"])
    def test_an_end_without_close_notify_leaves_nothing_behind(
        self, kind: Way, context: ssl.SSLContext, when: str, how: str
    ) -> None:
        with Client(kind, context) as client:
            if when == "TLS":
                client.shake()
            elif when != "TCP":
                client.upgrade()
            if when == "Close":
                client.write(wire.close())
            if how == "half-close":
                client.socket.shutdown(socket.SHUT_WR)
                with suppress(ConnectionError):
                    while client.socket.recv(1 << 16):
                        pass
            elif how == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert_alone(kind, context)

    def test_a_client_that_does_not_trust_the_server_leaves_nothing_behind(
        self, kind: Way, context: ssl.SSLContext
    ) -> None:
        with Client(kind, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
            with pytest.raises(ssl.SSLCertVerificationError):
                client.shake()
            # It says why.
            client.flush()
        assert_alone(kind, context)


class TestRenegotiation:
    """RFC 5746; it is what makes a server work hard for little."""

    def test_renegotiation_is_refused(self, way: Way, context: ssl.SSLContext) -> None:
        theirs = SSL.Context(SSL.TLS_METHOD)
        theirs.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(theirs, None)
        client.set_connect_state()
        with way.dial() as plain:

            def until(call: Callable[[], Any]) -> Any:
                while True:
                    result = None
                    with suppress(SSL.WantReadError):
                        result = call()
                    with suppress(SSL.WantReadError):
                        plain.sendall(client.bio_read(1 << 16))
                    if result is not None:
                        return result
                    data = plain.recv(1 << 16)
                    if not data:
                        raise EOFError
                    client.bio_write(data)

            def shaken() -> bool:
                client.do_handshake()
                return True

            until(shaken)
            client.send(request())
            assert until(lambda: client.recv(1 << 16)).startswith(b"HTTP/1.1 101 ")
            assert client.renegotiate()
            # The alert no_renegotiation (§4.5), which the client may take for its end or not, or the connection's end.
            with pytest.raises((SSL.Error, EOFError)):
                until(shaken)
        assert_served(way, context)


class TestACertificateThatNoClientTakes:
    """The server says so in one line, and does not start."""

    @pytest.mark.parametrize(
        ("reactor", "options"),
        [
            ([], ["--port=0", "--tls-cert=odd.pem"]),
            ([], ["--listen=ssl:0:privateKey=odd.pem"]),
            ([], ["--listen=fast:0:cert=odd.pem"]),
            (EPOLL, [f"--listen=haproxy:{TCP}", "--tls-cert=odd.pem"]),
            (EPOLL, ["--listen=ssl:0:privateKey=odd.pem"]),
        ],
        ids=["fast", "ssl:", "fast:", "epoll, haproxy:", "epoll, ssl:"],
    )
    def test_a_certificate_that_no_client_accepts_is_refused_at_the_start(
        self, tmp_path: Path, reactor: list[str], options: list[str]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256K1())
        (tmp_path / "odd.pem").write_bytes(pem(key) + self_signed(key))
        ended = subprocess.run(
            [
                SCRIPTS / "twistd",
                "--nodaemon",
                "--pidfile=",
                *reactor,
                "wshost",
                "--handler=wshost.handlers.echo",
                *options,
            ],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        said = [line for line in ended.stderr.splitlines() if line.startswith("wshost:")]
        assert len(said) == 1
        assert "clients can't agree on a cipher for it: no shared cipher" in said[0]
        assert "Traceback" not in ended.stdout + ended.stderr
        assert ended.returncode == 1
