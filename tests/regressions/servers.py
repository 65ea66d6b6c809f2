"""Two servers in memory for one script of bytes and time: bare Autobahn, as people run it, and wshost.

Knows how the same application and the same options are given to each; knows no defect.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import pytest
import txaio
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from txaio import tx
from wsproto import ConnectionType
from wsproto.connection import Connection as PeerConnection

txaio.use_twisted()

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflateOfferAccept  # noqa: E402
from autobahn.websocket.types import ConnectionDeny  # noqa: E402

from tests.memory import MemoryHost, MemoryReactor, MemoryTransport, Peer  # noqa: E402
from tests.regressions import wire  # noqa: E402
from wshost import Accept, Reject  # noqa: E402


class Application:
    """What a user writes: lets everybody in, says back what it hears, and notes what it is told."""

    def __init__(self) -> None:
        #: "connect", "open" (Autobahn only), each message, "close".
        self.told: list[Any] = []

    def connect(self, query: str) -> Any:
        """Decide on a connection: None, or (subprotocol, headers), or a Deferred of that; or raise."""
        self.told.append("connect")

    def opened(self) -> None:
        """The connection is open."""

    def message(self, data: str | bytes) -> str | bytes | None:
        """Answer a message."""
        self.told.append(data)
        return data

    def closed(self) -> None:
        """The connection is gone."""
        self.told.append("close")


class Waiting(Application):
    """Takes its time to decide on a connection: until the test fires `decision`."""

    def __init__(self) -> None:
        super().__init__()
        self.decision: Deferred[None] = Deferred()

    def connect(self, query: str) -> Deferred[None]:
        super().connect(query)
        # Each call gets its own, as what it waits for would give it.
        waiting: Deferred[None] = Deferred()
        self.decision.addCallback(lambda _: waiting.callback(None))
        return waiting


class AutobahnProtocol(WebSocketServerProtocol):
    """A server as Autobahn's own examples write it."""

    factory: Any

    def onConnect(self, request: Any) -> Any:
        return self.factory.application.connect(request.params.get("q", [""])[0])

    def onOpen(self) -> None:
        self.factory.application.told.append("open")
        self.factory.application.opened()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        answer = self.factory.application.message(payload if isBinary else payload.decode())
        if isinstance(answer, str):
            self.sendMessage(answer.encode())  # type: ignore[no-untyped-call]
        elif answer is not None:
            self.sendMessage(answer, isBinary=True)  # type: ignore[no-untyped-call]

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.factory.application.closed()


class ForgivingReactor(MemoryReactor):
    """Logs what its calls raise, and goes on, as reactors do."""

    log = Logger()

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        def call() -> None:
            with self.log.failuresHandled("Unhandled Error"):
                callable(*args, **kw)

        return super().callLater(delay, call)


class ForgivingTransport(MemoryTransport):
    """Lets a producer be unregistered that never was, as Twisted's transports do; and holds megabytes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffer: Any = bytearray()

    def drain(self) -> None:
        super().drain()
        self._buffer = bytearray()

    def unregisterProducer(self) -> None:
        self._producer = None


class AutobahnPeer(Peer):
    """A client of `Autobahn`. What the protocol raises ends the connection, as in a reactor."""

    reactor: ForgivingReactor

    def __init__(self, server: Autobahn, peer: IAddress) -> None:
        self.reactor = server.reactor
        self.accepted = True
        protocol = server.factory.buildProtocol(peer)
        self.connection = protocol
        self.transport = ForgivingTransport(server.reactor, self.connection, peer)
        self.frames = PeerConnection(ConnectionType.CLIENT)
        protocol.makeConnection(self.transport)
        self.turn()

    def send(self, data: bytes) -> None:
        with self.reactor.log.failuresHandled("Unhandled Error") as operation:
            self.transport.receive(data)
        if operation.failed:
            self.leave(ConnectionLost())
        self.turn()

    def leave(self, reason: Exception | None = None) -> None:
        with self.reactor.log.failuresHandled("Unhandled Error"):
            super().leave(reason)


class Autobahn:
    """Bare Autobahn, its options named as ours are; what is not named has Autobahn's default.

    :param application: to be served.
    :param protocol: what people subclass.
    """

    def __init__(
        self,
        application: Application | None = None,
        *,
        protocol: type[WebSocketServerProtocol] = AutobahnProtocol,
        max_message_size: int | None = None,
        max_connections: int | None = None,
        close_timeout: float | None = None,
        ping_interval: float | None = None,
        ping_timeout: float | None = None,
        compress: bool = False,
        fail_by_drop: bool | None = None,
        trust_forwarded: int | None = None,
    ) -> None:
        self.application = application or Application()
        self.reactor = ForgivingReactor()
        # Autobahn's timers are on whatever this says.
        config: Any = tx.config
        config.loop = self.reactor
        factory: Any = WebSocketServerFactory(reactor=self.reactor)
        self.factory = factory
        self.factory.protocol = protocol
        self.factory.application = self.application
        options = {
            "maxMessagePayloadSize": max_message_size,
            "maxConnections": max_connections,
            "closeHandshakeTimeout": close_timeout,
            "autoPingInterval": ping_interval,
            "autoPingTimeout": ping_timeout,
            "failByDrop": fail_by_drop,
            "trustXForwardedFor": trust_forwarded,
            "perMessageCompressionAccept": (lambda offers: PerMessageDeflateOfferAccept(offers[0]))
            if compress
            else None,
        }
        self.factory.setProtocolOptions(**{name: value for name, value in options.items() if value is not None})

    def connect(self) -> Peer:
        """Return a new client."""
        return AutobahnPeer(self, IPv4Address("TCP", "127.0.0.1", 50_000))

    def open(self, path: str = "/", headers: dict[str, str] | None = None) -> Peer:
        """Return a new client that has done its opening handshake."""
        peer = self.connect()
        assert wire.status(peer.upgrade(path, headers)) == 101
        return peer

    def deny(self, text: str) -> Exception:
        """What an application raises to refuse a connection, with words of its own."""
        return ConnectionDeny(403, text)

    def send(self, peer: Peer, data: str) -> None:
        """Send a message out of turn."""
        protocol: Any = peer.connection
        protocol.sendMessage(data.encode())

    def close(self, peer: Peer, code: int = 1000) -> None:
        """Start the closing handshake."""
        protocol: Any = peer.connection
        protocol.sendClose(code)

    def idle(self) -> bool:
        """Whether it counts no connection, and no timer runs."""
        self.reactor.advance(0)
        return not self.factory.countConnections and not self.reactor.getDelayedCalls()


class _Handler:
    """An `Application` as a handler."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def init(self, options: Any) -> Any:
        connection = options["connection"]
        decision = self._application.connect(parse_qs(connection.query).get("q", [""])[0])
        if isinstance(decision, Deferred):
            return decision.addCallback(self._accept)
        return self._accept(decision)

    def _accept(self, decision: Any) -> Accept:
        self._application.opened()
        subprotocol, headers = decision or (None, {})
        return Accept(None, subprotocol, headers)

    def handle(self, message: Any, state: None) -> tuple[Any, ...]:
        match message:
            case ("text" | "binary", data):
                answer = self._application.message(data)
                return ("noreply", state) if answer is None else ("reply", answer, state)
            case "connection_close":
                self._application.closed()
        return ("noreply", state)


class Wshost(MemoryHost):
    """wshost with an `Application`, or any handler, and options by the names that they have for its parts."""

    def __init__(self, application: Application | None = None, *, handler: Any = None, **options: Any) -> None:
        self.application = application or Application()
        http = {name: options.pop(name) for name in set(options) & _HTTP}
        host = {name: options.pop(name) for name in set(options) & _HOST}
        # One option of the command is for both.
        if "close_timeout" in options:
            host["close_timeout"] = options["close_timeout"]
        super().__init__(handler or _Handler(self.application), http_options=http, websocket_options=options, **host)

    @property
    def factory(self) -> IProtocolFactory:
        """What listens."""
        return self.hub.factory()

    def deny(self, text: str) -> Exception:
        """What an application raises to refuse a connection, with words of its own."""
        return Reject(403, text)

    def send(self, peer: Peer, data: str) -> None:
        """Send a message out of turn."""
        peer.connection.ref.send(data)
        peer.turn()

    def close(self, peer: Peer, code: int = 1000) -> None:
        """Start the closing handshake."""
        assert peer.connection.ref.close(code)
        peer.turn()


_HTTP = {"timeout", "max_head_size", "max_headers"}
_HOST = {"max_connections", "max_connections_per_address", "max_output", "stall_timeout", "drain_timeout"}


def both(*, autobahn: Any, wshost: Any) -> Callable[..., Any]:
    """Run a test with each server as `server`, and as `seen` what it has to see there."""
    return pytest.mark.parametrize(
        ("server", "seen"),
        [pytest.param(Autobahn, autobahn, id="autobahn"), pytest.param(Wshost, wshost, id="wshost")],
    )


class TLSClient:
    """A client of either server over TLS, in memory, that reads all that it is sent but ends nothing by itself.

    :param certificate: what the server shows.
    """

    def __init__(self, server: Any, certificate: CertificateOptions) -> None:
        self._clock = server.reactor
        address = IPv4Address("TCP", "127.0.0.1", 50_000)
        protocol = TLSMemoryBIOFactory(certificate, False, server.factory, self._clock).buildProtocol(address)
        assert protocol is not None
        self.transport = ForgivingTransport(self._clock, protocol, address)
        self._protocol: Any = protocol
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._tls = context.wrap_bio(self._in, self._out)
        protocol.makeConnection(self.transport)

    def shake_hands(self) -> None:
        """Do TLS's handshake."""
        for _ in range(3):
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
            self._exchange()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._tls.write(data)
        self._exchange()

    def take(self) -> bytes:
        """Return what has come."""
        self._exchange()
        try:
            return self._tls.read(1 << 20)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return b""

    def _exchange(self) -> None:
        data = self._out.read()
        if data and not self.transport.gone:
            self._protocol.dataReceived(data)
        for _ in range(3):
            self._clock.advance(0)
        self._in.write(self.transport.take())
