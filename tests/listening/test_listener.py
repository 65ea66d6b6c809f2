from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trustme
import twisted.plugins
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet import endpoints
from twisted.internet import tcp as tcp_port
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IProtocolNegotiationFactory, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import MemoryReactor, RaisingMemoryReactor, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.python.systemd import ListenFDs
from zope.interface import implementer

from tests.certificates import pem, self_signed
from tests.ports import Port, Reactor
from wshost.fastnet import adopted
from wshost.fastnet import reactor as listening
from wshost.fastnet.port import AdoptedPort
from wshost.fastnet.reactor import FastReactor
from wshost.listening.certificates import Certificates
from wshost.listening.listener import BACKLOG, Listener, tcp
from wshost.listening.proxy_protocol import ProxiedFactory
from wshost.results import ConfigurationError

#: An endpoint that listens when `listening` fires.
LATE = """
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

@implementer(IStreamServerEndpoint)
class Endpoint:
    listening = Deferred()
    def listen(self, factory):
        return self.listening

@implementer(IPlugin, IStreamServerEndpointStringParser)
class Parser:
    prefix = "late"
    def parseStreamServer(self, reactor):
        return Endpoint()

parser = Parser()
"""


class Factory(ServerFactory):
    protocol = Protocol


@implementer(IProtocolNegotiationFactory)
class Speaking(Factory):
    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


def selected(factory: Any) -> str | None:
    """What TLS selects for a browser."""
    protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
    transport = StringTransport()
    protocol.makeConnection(transport)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    protocol.dataReceived(outgoing.read())
    incoming.write(transport.value())
    client.do_handshake()
    protocol.abortConnection()
    return client.selected_alpn_protocol()


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    path = tmp_path / "both.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def polled() -> MemoryReactor:
    """The reactor of `port`."""
    return MemoryReactor()


@pytest.fixture
def port(polled: MemoryReactor) -> Iterator[Any]:
    """A port of Twisted's, which accepts while its reactor reads from it."""
    port: Any = tcp_port.Port(0, Factory(), interface="127.0.0.1", reactor=polled)
    port.startListening()
    yield port
    port.connectionLost(Failure(ConnectionDone()))


def announced(listener: Listener) -> list[str]:
    with capturedLogs() as events:
        listener.announce("http -> websocket", "ws", "wss")
    return [formatEvent(event) for event in events]


class TestTcp:
    @pytest.mark.parametrize(
        ("interface", "listener"),
        [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::"), ("0.0.0.0", "0.0.0.0")],
    )
    def test_a_port_and_an_interface_describe_a_tcp_endpoint(
        self, reactor: Reactor, interface: str, listener: str
    ) -> None:
        factory = Factory()
        Listener(reactor, tcp(8080, interface), None).listen(factory)
        assert reactor.tcpServers == [(8080, factory, BACKLOG, listener)]


class TestOnAsynciosReactor:
    """Endpoints listen with our own ports."""

    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[FastReactor]:
        """The reactors with our own ports, as they are made."""
        made: list[FastReactor] = []

        class Noted(FastReactor):
            def __init__(self, reactor: Any, context: ssl.SSLContext | None = None, inherited: Any = None) -> None:
                super().__init__(reactor, context, inherited)
                self.context = context
                made.append(self)

            def listenTCP(self, port: int, factory: Any, *args: Any, **kwargs: Any) -> Any:
                self.factory = factory

        monkeypatch.setattr(listening, "FastReactor", Noted)
        return made

    @pytest.fixture
    def reactor(self) -> Iterator[AsyncioSelectorReactor]:
        loop = asyncio.new_event_loop()
        reactor = AsyncioSelectorReactor(loop)
        yield reactor
        for reader in reactor.removeAll():
            reader.connectionLost(None)
        loop.close()

    @pytest.mark.parametrize("description", ["tcp:8080", "tcp6:8080", "unix:/run/x", "haproxy:tcp:8080"])
    def test_plain_endpoints_listen_with_our_ports(
        self, reactor: AsyncioSelectorReactor, made: list[Any], description: str
    ) -> None:
        Listener(reactor, description, None)
        assert [fast.context for fast in made] == [None]

    @pytest.mark.parametrize(("description", "unix"), [("fast:unix=/run/x", True), ("fast:8080", False)])
    def test_a_fast_unix_endpoint_is_known_as_one(
        self, reactor: AsyncioSelectorReactor, description: str, unix: bool
    ) -> None:
        assert Listener(reactor, description, None).unix is unix

    def test_other_endpoints_and_reactors_listen_with_twisteds_ports(
        self, reactor: AsyncioSelectorReactor, made: list[Any], certificate: str
    ) -> None:
        Listener(reactor, f"ssl:8080:privateKey={certificate}", None)
        Listener(Reactor(), "tcp:8080", None)
        assert made == []

    def test_our_ports_do_tls_themselves(
        self, reactor: AsyncioSelectorReactor, made: list[Any], certificate: str
    ) -> None:
        certificates = Certificates([certificate])
        listener = Listener(reactor, "tcp:8080", certificates)
        factory = Factory()
        listener.listen(factory)
        assert [(fast.context, fast.factory) for fast in made] == [(certificates.context, factory)]
        assert announced(listener) == []

    def test_behind_a_proxys_header_twisted_does_tls(
        self, reactor: AsyncioSelectorReactor, made: list[Any], certificate: str
    ) -> None:
        Listener(reactor, "haproxy:tcp:8080", Certificates([certificate])).listen(Factory())
        assert [fast.context for fast in made] == [None]

    def test_tls_of_a_fast_endpoint_is_announced(
        self, reactor: AsyncioSelectorReactor, certificate: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = Port(IPv4Address("TCP", "127.0.0.1", 8443))
        monkeypatch.setattr(FastReactor, "listenTCP", lambda *_, **__: port)
        listener = Listener(reactor, f"fast:8443:cert={certificate}", None)
        listener.listen(Factory())
        assert announced(listener) == ["wshost listening on wss://127.0.0.1:8443 (http -> websocket)"]

    def test_endpoints_listen_with_twisteds_ports_where_there_are_no_unix_sockets(
        self, reactor: AsyncioSelectorReactor, made: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "wshost.fastnet.reactor", None)
        Listener(reactor, "tcp:8080", None)
        assert made == []


class TestListen:
    def test_listen_listens_once(self, reactor: Reactor) -> None:
        listener = Listener(reactor, "tcp:8080", None)
        assert reactor.tcpServers == []
        listener.listen(Factory())
        listener.listen(Factory())
        assert len(reactor.tcpServers) == 1

    def test_twisteds_tls_is_put_before_the_factory(self, reactor: Reactor, certificate: str) -> None:
        factory = Factory()
        Listener(reactor, "tcp:8080", Certificates([certificate])).listen(factory)
        ((_, listening, _, _),) = reactor.tcpServers
        assert isinstance(listening, TLSMemoryBIOFactory)
        assert listening.wrappedFactory is factory
        protocol = listening.buildProtocol(IPv6Address("TCP", "::1", 5))
        protocol.makeConnection(StringTransport())
        assert ISSLTransport.providedBy(protocol)
        protocol.abortConnection()

    def test_twisteds_tls_selects_what_the_factory_speaks(self, reactor: Reactor, certificate: str) -> None:
        Listener(reactor, "tcp:8080", Certificates([certificate])).listen(Speaking())
        ((_, listening, _, _),) = reactor.tcpServers
        assert selected(listening) == "http/1.1"

    def test_an_ssl_endpoints_tls_selects_what_the_factory_speaks(self, reactor: Reactor, certificate: str) -> None:
        factory = Speaking()
        Listener(reactor, f"ssl:8080:privateKey={certificate}:interface=127.0.0.1", None).listen(factory)
        ((port, listening, options, backlog, interface),) = reactor.sslServers
        assert (port, backlog, interface) == (8080, 50, "127.0.0.1")
        assert listening is factory
        assert selected(TLSMemoryBIOFactory(options, False, listening, reactor)) == "http/1.1"

    def test_a_certificate_without_a_common_cipher_is_refused(self, reactor: Reactor, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP224R1())
        (tmp_path / "odd.pem").write_bytes(pem(key) + self_signed(key))
        listener = Listener(reactor, f"ssl:8080:privateKey={tmp_path}/odd.pem", None)
        with pytest.raises(ConfigurationError) as caught:
            listener.listen(Factory())
        assert str(caught.value).startswith(
            f"can't listen on ssl:8080:privateKey={tmp_path}/odd.pem: "
            "the certificate: clients can't agree on a cipher for it: no shared cipher; "
        )
        assert reactor.sslServers == []

    def test_a_proxys_header_comes_before_tls(self, reactor: Reactor, certificate: str) -> None:
        listener = Listener(reactor, "haproxy:tcp:8080", Certificates([certificate]))
        listener.listen(Factory())
        ((_, listening, _, _),) = reactor.tcpServers
        assert listener.proxied
        assert isinstance(listening, ProxiedFactory)
        assert isinstance(listening.wrappedFactory, TLSMemoryBIOFactory)

    def test_an_ssl_endpoints_tls_behind_a_proxys_header_selects_what_the_factory_speaks(
        self, reactor: Reactor, certificate: str
    ) -> None:
        Listener(reactor, f"haproxy:ssl:8080:privateKey={certificate}", None).listen(Speaking())
        ((_, listening, _, _),) = reactor.tcpServers
        assert isinstance(listening, ProxiedFactory)
        assert selected(listening.wrappedFactory) == "http/1.1"

    def test_a_proxys_header_comes_before_an_ssl_endpoints_tls(self, reactor: Reactor, certificate: str) -> None:
        factory = Factory()
        Listener(reactor, f"haproxy:ssl:8443:privateKey={certificate}:interface=127.0.0.1:backlog=7", None).listen(
            factory
        )
        assert reactor.sslServers == []
        ((port, listening, backlog, interface),) = reactor.tcpServers
        assert (port, backlog, interface) == (8443, 7, "127.0.0.1")
        assert isinstance(listening, ProxiedFactory)
        assert isinstance(listening.wrappedFactory, TLSMemoryBIOFactory)
        assert listening.wrappedFactory.wrappedFactory is factory

    def test_a_proxys_header_comes_before_the_factory(self, reactor: Reactor) -> None:
        factory = Factory()
        Listener(reactor, "haproxy:tcp:8080", None).listen(factory)
        ((_, listening, _, _),) = reactor.tcpServers
        assert isinstance(listening, ProxiedFactory)
        assert listening.wrappedFactory is factory

    @pytest.mark.parametrize(
        ("description", "unix"),
        [
            ("unix:/run/x", True),
            ("haproxy:unix:/run/x", True),
            ("tcp:8080", False),
            ("haproxy:tcp:8080", False),
        ],
    )
    def test_unix_endpoints_are_known(self, reactor: Reactor, description: str, unix: bool) -> None:
        assert Listener(reactor, description, None).unix is unix

    def test_proxied_endpoints_are_known(self, reactor: Reactor) -> None:
        assert Listener(reactor, "haproxy:tcp:8080", None).proxied
        assert not Listener(reactor, "tcp:8080", None).proxied


class TestAUnixSocket:
    @pytest.mark.parametrize(
        ("description", "path", "mode"),
        [
            ("unix:/run/x", "/run/x", 0o660),
            ("unix:address=/run/x", "/run/x", 0o660),
            ("haproxy:unix:/run/x:backlog=7", "/run/x", 0o660),
            (r"unix:/run/x\:mode\=666", "/run/x:mode=666", 0o660),
            ("unix:/run/x:mode=600", "/run/x", 0o600),
            ("unix:/run/x:666", "/run/x", 0o666),
            ("unix:/run/x:lockfile=0:mode=666", "/run/x", 0o666),
            ("unix:mode=777:address=/run/x", "/run/x", 0o777),
        ],
    )
    def test_a_unix_socket_is_for_its_user_and_group_by_default(
        self, reactor: Reactor, description: str, path: str, mode: int
    ) -> None:
        Listener(reactor, description, None).listen(Factory())
        ((address, _, _, given, _),) = reactor.unixServers
        assert (address, given) == (path, mode)

    @pytest.fixture
    def path(self) -> Iterator[Path]:
        """A short one: the names of sockets have 108 bytes at most."""
        path = Path(f"/tmp/listeners-{os.getpid()}")
        yield path
        path.unlink(missing_ok=True)

    @pytest.mark.parametrize("options", ["", ":lockfile=0"])
    def test_the_socket_of_a_killed_server_is_replaced(self, reactor: Reactor, path: Path, options: str) -> None:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
        Listener(reactor, f"unix:{path}{options}", None).listen(Factory())
        assert not path.exists()
        assert len(reactor.unixServers) == 1

    def test_the_socket_of_a_living_server_is_in_use(self, reactor: Reactor, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            with pytest.raises(ConfigurationError) as caught:
                Listener(reactor, f"unix:{path}", None).listen(Factory())
        assert str(caught.value) == f"can't listen on unix:{path}: a server listens there already"
        assert reactor.unixServers == []


class TestSocketsThatSystemdPasses:
    @pytest.fixture
    def passed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, socket.socket]]:
        """Sockets by their names: one that listens, a Unix socket that listens, and one that does not listen."""
        first = socket.create_server(("127.0.0.1", 0))
        second = socket.socket(socket.AF_UNIX)
        second.bind("")  # Linux finds an abstract name
        second.listen()
        sockets = {"tcp": first, "unix": second, "idle": socket.socket()}
        # The endpoint closes the descriptor that it was passed.
        descriptors = [os.dup(one.fileno()) for one in sockets.values()]
        monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs(descriptors, list(sockets)))
        yield sockets
        for one in sockets.values():
            one.close()
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)

    @pytest.mark.parametrize(
        ("description", "kind", "name"),
        [
            ("domain=INET:index=0", adopted.Port, "tcp"),
            ("domain=INET:name=tcp", adopted.Port, "tcp"),
            ("domain=UNIX:name=unix", adopted.UNIXPort, "unix"),
        ],
    )
    def test_a_passed_socket_is_listened_on(
        self, passed: dict[str, socket.socket], description: str, kind: type, name: str
    ) -> None:
        reactor = MemoryReactor()
        listener = Listener(reactor, f"systemd:{description}", None)
        assert not listener.unix
        listener.listen(Factory())
        (port,) = reactor.readers
        assert isinstance(port, kind)
        assert port.socket.getsockname() == passed[name].getsockname()  # type: ignore[attr-defined]
        port.connectionLost(Failure(ConnectionDone()))  # type: ignore[attr-defined]

    @pytest.mark.usefixtures("passed")
    @pytest.mark.parametrize(
        ("description", "complaint"),
        [
            ("domain=INET6:index=0", "the socket's domain is INET"),
            (
                "domain=INET:name=idle",
                "the socket does not listen: systemd must not accept its connections (Accept=no)",
            ),
        ],
    )
    def test_a_socket_that_can_not_be_served_is_refused(self, description: str, complaint: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Listener(MemoryReactor(), f"systemd:{description}", None).listen(Factory())
        assert str(caught.value) == f"can't listen on systemd:{description}: {complaint}"

    @pytest.mark.usefixtures("passed")
    def test_asyncios_reactors_listen_with_our_ports(self, certificate: str) -> None:
        loop = asyncio.new_event_loop()
        reactor = AsyncioSelectorReactor(loop)
        certificates = Certificates([certificate])
        Listener(reactor, "systemd:domain=INET:name=tcp", certificates).listen(Factory())
        (port,) = [one for one in reactor.removeAll() if isinstance(one, AdoptedPort)]
        assert port.context is certificates.context
        port.connectionLost(Failure(ConnectionDone()))
        loop.close()


class TestADescriptionThatIsWrong:
    @pytest.mark.parametrize(
        ("description", "complaint"),
        [
            ("nope:1", "listen: 'nope:1': Unknown endpoint type: 'nope'"),
            ("haproxy:nope:1", "listen: 'haproxy:nope:1': Unknown endpoint type: 'nope'"),
            ("8080", "listen: '8080': Unknown endpoint type: '8080'"),
            ("tcp:http", "listen: 'tcp:http': invalid literal for int() with base 10: 'http'"),
            ("tcp", "listen: 'tcp': _parseTCP() missing 1 required positional argument: 'port'"),
            ("ssl:1:privateKey=none", "listen: 'ssl:1:privateKey=none': [Errno 2] No such file or directory: "),
            ("systemd:domain=INET:index=0", "listen: 'systemd:domain=INET:index=0': systemd has passed no such socket"),
            (
                "haproxy:haproxy:tcp:1",
                "listen: 'haproxy:haproxy:tcp:1': behind haproxy: there can't be haproxy:",
            ),
            (
                "haproxy:fast:1:cert=x.pem",
                "listen: 'haproxy:fast:1:cert=x.pem': behind haproxy: there can't be TLS of its own: use tls-cert",
            ),
        ],
    )
    def test_a_wrong_description_is_refused_with_a_reason(
        self, reactor: Reactor, description: str, complaint: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Listener(reactor, description, None)
        assert str(caught.value).startswith(complaint)

    @pytest.mark.parametrize(
        "description", ["ssl:443:privateKey=both.pem", "tls:certificates", "haproxy:ssl:443", "fast:443:cert=both.pem"]
    )
    def test_tls_of_the_endpoint_and_certificates_exclude_each_other(
        self, reactor: Reactor, certificate: str, description: str
    ) -> None:
        with pytest.raises(
            ConfigurationError, match=f"^listen: '{description}' brings its own TLS: leave out tls-cert"
        ):
            Listener(reactor, description, Certificates([certificate]))


class TestWhatPreventsIt:
    @pytest.mark.parametrize(
        ("description", "error", "complaint"),
        [
            (
                "tcp:80:interface=127.0.0.1",
                CannotListenError("127.0.0.1", 80, PermissionError(13, "Permission denied")),
                "can't listen on 127.0.0.1:80: Permission denied",
            ),
            (
                "tcp:80",
                CannotListenError("", 80, OSError(98, "Address already in use")),
                "can't listen on *:80: Address already in use",
            ),
            (
                "tcp:80:interface=nowhere",
                CannotListenError("nowhere", 80, socket.gaierror(-2, "Name or service not known")),
                "can't listen on nowhere:80: Name or service not known",
            ),
            (
                "unix:/run/x",
                CannotListenError(None, b"/run/x", "Cannot acquire lock"),
                "can't listen on unix:/run/x: Cannot acquire lock",
            ),
            ("unix:/run/x", OSError("odd"), "can't listen on unix:/run/x: odd"),
            ("tcp:99999", OverflowError("port must be 0-65535"), "can't listen on tcp:99999: port must be 0-65535"),
        ],
    )
    def test_what_prevents_listening_is_raised_and_logged(
        self, description: str, error: Exception, complaint: str
    ) -> None:
        listener = Listener(RaisingMemoryReactor(listenException=error), description, None)
        with capturedLogs() as events, pytest.raises(ConfigurationError) as caught:
            listener.listen(Factory())
        assert str(caught.value) == complaint
        assert caught.value.__cause__ is error
        assert [formatEvent(event) for event in events] == [complaint]

    def test_a_second_try_raises_the_same_error(self) -> None:
        reactor = RaisingMemoryReactor(listenException=OSError(98, "Address already in use"))
        listener = Listener(reactor, "tcp:80", None)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="Address already in use"):
                listener.listen(Factory())


class TestAnnounce:
    @pytest.mark.parametrize(
        ("description", "url"),
        [
            ("tcp:8080:interface=127.0.0.1", "ws://127.0.0.1:8080"),
            ("haproxy:tcp:8080:interface=127.0.0.1", "ws://127.0.0.1:8080"),
            ("unix:/run/x", "unix:/run/x"),
        ],
    )
    def test_the_url_of_an_endpoint_is_announced(self, reactor: Reactor, description: str, url: str) -> None:
        listener = Listener(reactor, description, None)
        listener.listen(Factory())
        assert announced(listener) == [f"wshost listening on {url} (http -> websocket)"]

    def test_the_url_of_tls_is_announced(self, reactor: Reactor, certificate: str) -> None:
        listener = Listener(reactor, "tcp:8080:interface=127.0.0.1", Certificates([certificate]))
        listener.listen(Factory())
        assert announced(listener) == ["wshost listening on wss://127.0.0.1:8080 (http -> websocket)"]

    def test_the_url_of_an_ssl_endpoint_is_announced(self, reactor: Reactor, certificate: str) -> None:
        listener = Listener(reactor, f"ssl:8080:privateKey={certificate}", None)
        listener.listen(Factory())
        assert announced(listener) == ["wshost listening on wss://0.0.0.0:8080 (http -> websocket)"]

    def test_nothing_is_announced_before_it_listens(self, reactor: Reactor) -> None:
        assert announced(Listener(reactor, "tcp:8080", None)) == []


class TestPause:
    """Nobody is accepted: clients wait, in the kernel."""

    @pytest.fixture
    def listener(self, reactor: Reactor, port: Any, monkeypatch: pytest.MonkeyPatch) -> Listener:
        """It listens by that port."""
        monkeypatch.setattr(reactor, "listenTCP", lambda *_, **__: port)
        listener = Listener(reactor, "tcp:8080", None)
        listener.listen(Factory())
        return listener

    def test_a_paused_port_accepts_nobody_until_it_is_resumed(
        self, listener: Listener, port: Any, polled: MemoryReactor
    ) -> None:
        assert polled.readers == {port}
        listener.pause()
        assert polled.readers == set()
        listener.resume()
        assert polled.readers == {port}

    def test_ports_of_other_kinds_are_not_paused(self, reactor: Reactor) -> None:
        listener = Listener(reactor, "tcp:8080", None)
        listener.pause()
        listener.resume()
        listener.listen(Factory())
        listener.pause()
        listener.resume()
        assert len(announced(listener)) == 1


class TestStop:
    def test_stop_before_listening_is_done_at_once(self, reactor: Reactor) -> None:
        results: list[None] = []
        Listener(reactor, "tcp:8080", None).stop().addCallback(results.append)
        assert results == [None]

    def test_stop_is_done_when_the_port_is_closed(self, reactor: Reactor) -> None:
        results: list[None] = []
        listener = Listener(reactor, "tcp:8080", None)
        listener.listen(Factory())
        listener.stop().addCallback(results.append)
        closed = reactor.ports[0].closed
        assert closed is not None
        assert results == []
        closed.callback(None)
        assert results == [None]


class TestAnEndpointThatTakesItsTime:
    @pytest.fixture
    def listening(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deferred[Any]]:
        """Fires when it listens."""
        (tmp_path / "wshost_late.py").write_text(LATE, encoding="ascii")
        monkeypatch.setattr(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(tmp_path)])
        plugin = import_module("twisted.plugins.wshost_late")
        yield plugin.Endpoint.listening
        del sys.modules[plugin.__name__]

    @pytest.fixture
    def listener(self, reactor: Reactor, listening: Deferred[Any]) -> Listener:
        listener = Listener(reactor, "late", None)
        listener.listen(Factory())
        return listener

    def test_a_late_endpoint_is_announced_when_it_listens(self, listener: Listener, listening: Deferred[Any]) -> None:
        assert announced(listener) == []
        with capturedLogs() as events:
            listening.callback(Port(IPv4Address("TCP", "127.0.0.1", 5)))
        assert [formatEvent(event) for event in events] == ["wshost listening on ws://127.0.0.1:5 (http -> websocket)"]

    def test_a_call_is_made_when_it_listens(self, listener: Listener, listening: Deferred[Any]) -> None:
        calls: list[bool] = []
        listener.when_listening(lambda: calls.append(True))
        assert calls == []
        listening.callback(Port(IPv4Address("TCP", "127.0.0.1", 5)))
        assert calls == [True]
        listener.when_listening(lambda: calls.append(True))
        assert calls == [True, True]

    def test_no_call_is_made_if_it_can_not_listen(self, listener: Listener, listening: Deferred[Any]) -> None:
        calls: list[bool] = []
        listener.when_listening(lambda: calls.append(True))
        with capturedLogs():
            listening.errback(OSError(99, "Cannot assign requested address"))
        assert calls == []

    def test_a_late_endpoint_that_fails_is_logged(self, listener: Listener, listening: Deferred[Any]) -> None:
        assert announced(listener) == []
        with capturedLogs() as events:
            listening.errback(OSError(99, "Cannot assign requested address"))
        assert [formatEvent(event) for event in events] == ["can't listen on late: Cannot assign requested address"]

    @pytest.mark.parametrize(("resumed", "reading"), [(False, 0), (True, 1)])
    def test_a_late_endpoint_can_be_paused_before_it_listens(  # noqa: PLR0917 - most are fixtures
        self,
        listener: Listener,
        listening: Deferred[Any],
        port: Any,
        polled: MemoryReactor,
        resumed: bool,
        reading: int,
    ) -> None:
        listener.pause()
        if resumed:
            listener.resume()
        listening.callback(port)
        assert len(polled.readers) == reading

    def test_stop_cancels_a_late_endpoint(self, listener: Listener) -> None:
        results: list[None] = []
        with capturedLogs() as events:
            listener.stop().addCallback(results.append)
        assert results == [None]
        assert events == []


class TestRenew:
    """New connections get other certificates; the old ones stay until nothing can fail any more."""

    @pytest.fixture
    def other(self, tmp_path: Path) -> str:
        path = tmp_path / "other.pem"
        trustme.CA().issue_cert("other.example").private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)

    @pytest.fixture
    def asyncios(self) -> Iterator[AsyncioSelectorReactor]:
        loop = asyncio.new_event_loop()
        reactor = AsyncioSelectorReactor(loop)
        yield reactor
        for reader in reactor.removeAll():
            reader.connectionLost(None)
        loop.close()

    @staticmethod
    def presented(factory: Any) -> Any:
        """What Twisted's TLS presents to a new connection."""
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        protocol.makeConnection(StringTransport())
        certificate = protocol.getHandle().get_certificate().to_cryptography()
        protocol.abortConnection()
        return certificate

    @staticmethod
    def first(path: str) -> Any:
        return load_pem_x509_certificates(Path(path).read_bytes())[0]

    def test_twisteds_tls_presents_the_new_certificate(self, reactor: Reactor, certificate: str, other: str) -> None:
        listener = Listener(reactor, "tcp:8080", Certificates([certificate]))
        listener.listen(Speaking())
        ((_, listening, _, _),) = reactor.tcpServers
        use = listener.renew(Certificates([other]))
        assert self.presented(listening) == self.first(certificate)
        use()
        assert self.presented(listening) == self.first(other)
        assert selected(listening) == "http/1.1"

    def test_our_ports_get_the_new_context(
        self, asyncios: AsyncioSelectorReactor, certificate: str, other: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port: Any = Port(IPv4Address("TCP", "127.0.0.1", 8443))
        monkeypatch.setattr(FastReactor, "listenTCP", lambda *_, **__: port)
        listener = Listener(asyncios, "tcp:8443", Certificates([certificate]))
        listener.listen(Speaking())
        renewed = Certificates([other])
        listener.renew(renewed)()
        assert port.context is renewed.context

    @pytest.mark.parametrize("fast", [True, False])
    def test_who_does_not_listen_yet_begins_with_the_new_certificate(
        self, asyncios: AsyncioSelectorReactor, reactor: Reactor, certificate: str, other: str, fast: bool
    ) -> None:
        listener = Listener(asyncios if fast else reactor, "tcp:0:interface=127.0.0.1", Certificates([certificate]))
        renewed = Certificates([other])
        listener.renew(renewed)()
        port: Any = None
        if fast:
            listen = FastReactor.listenTCP
            with pytest.MonkeyPatch.context() as patch:
                ports: list[Any] = []

                def note(*args: Any, **options: Any) -> Any:
                    ports.append(listen(*args, **options))
                    return ports[0]

                patch.setattr(FastReactor, "listenTCP", note)
                listener.listen(Factory())
            port = ports[0]
            assert port.context is renewed.context
            port.connectionLost(Failure(ConnectionDone()))
        else:
            listener.listen(Factory())
            ((_, listening, _, _),) = reactor.tcpServers
            assert self.presented(listening) == self.first(other)

    @pytest.mark.parametrize("kind", ["tcp:8080", "ssl:8080:privateKey={}"])
    def test_an_endpoint_without_our_tls_stays_as_it_is(
        self, reactor: Reactor, certificate: str, other: str, kind: str
    ) -> None:
        listener = Listener(reactor, kind.format(certificate), None)
        listener.listen(Factory())
        listener.renew(Certificates([other]))()
        assert len(reactor.tcpServers) + len(reactor.sslServers) == 1


class TestAnotherProcess:
    def test_a_port_that_can_go_over_is_found(self, reactor: Any) -> None:
        listener = Listener(reactor, "tcp:80", None)
        assert listener.port is None
        listener.listen(ServerFactory())
        assert listener.port is None

    def test_a_socket_is_not_inherited_by_other_kinds_of_endpoints(self, reactor: Any) -> None:
        inherited: Any = object()
        with pytest.raises(ConfigurationError, match="only endpoints tcp:, tcp6: and unix: on asyncio's reactor"):
            Listener(reactor, "tcp:80", None, inherited=inherited)

    def test_a_copy_of_another_process_socket_is_left_as_it_is(self) -> None:
        loop = asyncio.new_event_loop()
        reactor = AsyncioSelectorReactor(loop)
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            first = Listener(reactor, f"unix:{folder}/x", None)
            first.listen(ServerFactory())
            # Its description needs to mean nothing here: systemd has passed the socket to the other process.
            second = Listener(reactor, "haproxy:systemd:domain=UNIX:index=0", None, copy=first.port.socket.dup())
            second.listen(ServerFactory())
            assert second.port.socket.getsockname() == f"{folder}/x"
            second.stop()
            reactor.runUntilCurrent()
            assert Path(folder, "x").is_socket()
            first.stop()
            reactor.runUntilCurrent()
        for reader in reactor.removeAll():
            reader.connectionLost(None)
        loop.close()

    @pytest.mark.parametrize("unix", [False, True])
    def test_a_listening_socket_goes_on_in_another_listener(self, unix: bool) -> None:
        loop = asyncio.new_event_loop()
        reactor = AsyncioSelectorReactor(loop)
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            description = f"unix:{folder}/x" if unix else "tcp:0:interface=127.0.0.1"
            first = Listener(reactor, description, None)
            first.listen(ServerFactory())
            second = Listener(reactor, description, None, inherited=first.port.socket.dup())
            second.listen(ServerFactory())
            assert second.port.socket.getsockname() == first.port.socket.getsockname()
            first.port.release()
            for listener in (first, second):
                listener.stop()
            reactor.runUntilCurrent()
        for reader in reactor.removeAll():
            reader.connectionLost(None)
        loop.close()
