"""The whole stack without sockets and without waiting: a clock, transports in memory, and a client on wsproto."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import fields
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IConsumer, IDelayedCall, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from wsproto import ConnectionType
from wsproto.connection import Connection as PeerConnection
from wsproto.events import CloseConnection, Event, Message, Ping, Pong
from zope.interface import alsoProvides, implementer

from wshost.connections.admission import Admission
from wshost.connections.connection import Connection
from wshost.connections.hub import Hub
from wshost.connections.shared import Limits, Link
from wshost.connections.timers import LOOK
from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import IExchange
from wshost.networks import Networks
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket
from wshost.settings.options import OPTIONS

#: An address of the server that is none of the loopback, where browsers are asked for its names.
OUTSIDE = IPv4Address("TCP", "192.0.2.1", 8080)

KEY = base64.b64encode(b"the sample nonce")


class MemoryReactor(Clock):
    """A reactor of which only time passes: `advance` does what is due."""

    def __init__(self) -> None:
        super().__init__()
        self._from_threads: deque[Callable[[], Any]] = deque()
        self._context = copy_context()

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        self._from_threads.append(partial(call, *args))

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        """Make all calls in the context of whoever asked last, as Twisted's asyncio reactor may do."""
        self._context = copy_context()
        later: IDelayedCall = super().callLater(delay, callable, *args, **kw)
        return later

    def advance(self, amount: float) -> None:
        """Let time pass, as it does for a process that runs: look by look."""
        end = self.seconds() + amount
        while end - self.seconds() > LOOK:
            idle = self.calls[0].getTime() - self.seconds() if self.calls else amount
            self.stall(min(max(LOOK, idle), end - self.seconds()))
        self.stall(end - self.seconds())
        self.rightNow = end

    def stall(self, amount: float) -> None:
        """Let time pass at once, as it does for a process that stands still."""
        self._context.copy().run(super().advance, amount)
        while self._from_threads:
            for _ in range(len(self._from_threads)):
                self.callLater(0, self._from_threads.popleft())
            super().advance(0)


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """A TCP transport whose peer reads when the test says so.

    What Twisted's do is done here: a streaming producer is paused while more than 64 KiB wait; `abortConnection` and
    `loseConnection` take effect in a later turn.
    """

    def __init__(
        self, clock: Clock, protocol: Any, peer: IAddress, *, secure: bool = False, host: IAddress = OUTSIDE
    ) -> None:
        #: What has left, and the writes it left in.
        self.sent = b""
        self.writes: list[bytes] = []
        #: False while the peer reads nothing.
        self.reading = True
        self.producing = True
        self.no_delay = False
        self.half_closed = self.disconnecting = self.aborted = self.gone = False
        #: Whether it can read into a buffer of the protocol's, as ours can; and that.
        self.buffered = False
        self.held = False
        self.room: memoryview | None = None
        #: Who writes to it, and is paused while too much waits.
        self.producer: Any = None
        self._clock = clock
        self._protocol: Any = protocol
        self._peer = peer
        self._host = host
        self._buffer = b""
        # What the peer has sent while we did not read.
        self._unread: list[bytes] = []
        self._paused = False
        if secure:
            alsoProvides(self, ISSLTransport)

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.gone or self.half_closed or self.disconnecting:
            return
        self.writes.append(data)
        self._buffer += data
        if self.producer is not None and len(self._buffer) > 65_536 and not self._paused:
            self._paused = True
            self.producer.pauseProducing()
        if self.reading:
            self._clock.callLater(0, self.drain)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def drain(self) -> None:
        """The peer reads all there is."""
        if self.gone:
            return
        self.sent += self._buffer
        self._buffer = b""
        if self._paused and self.producer is not None:
            self._paused = False
            self.producer.resumeProducing()
        if self.disconnecting and not self._buffer:
            self.lose(ConnectionDone())

    def get_write_buffer_size(self) -> int:
        """How much the peer has not read, as our transports say it."""
        return len(self._buffer)

    def take(self) -> bytes:
        """Return what has left since the last time."""
        sent, self.sent = self.sent, b""
        return sent

    def receive(self, data: bytes) -> None:
        """The peer has sent this: it comes in, or will when it is read."""
        self._unread.append(data)
        self._read()

    def _read(self) -> None:
        while self._unread and self.producing and not self.held and not self.aborted and not self.gone:
            data = self._unread.pop(0)
            if self.room is None:
                self._protocol.dataReceived(data)
            else:
                self._fill(self.room, data)

    def receive_into(self, buffer: memoryview | None) -> bool:
        self.room = buffer if self.buffered else None
        return self.buffered

    def _fill(self, room: memoryview, data: bytes) -> None:
        count = min(len(room), len(data))
        room[:count] = data[:count]
        self.room = room[count:] if count < len(room) else None
        if data[count:]:
            self._unread.insert(0, data[count:])
        self._protocol.buffer_updated(count)

    def lose(self, reason: Exception) -> None:
        """The connection is gone."""
        if not self.gone:
            self.gone = True
            protocol, self._protocol, self.producer = self._protocol, None, None
            protocol.connectionLost(Failure(reason))

    def loseConnection(self, connDone: Any = None) -> None:
        self.disconnecting = True
        if self.reading:
            self._clock.callLater(0, self.drain)

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        self._clock.callLater(0, self.lose, ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        assert self.producer is not None
        self.producer = None

    def pauseProducing(self) -> None:
        self.producing = False

    def resumeProducing(self) -> None:
        self.producing = True
        if self._unread:
            self._clock.callLater(0, self._read)

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> Any:
        return self._peer

    #: Whether the proxy's header names nobody.
    anonymous = False

    def call_when_known(self, call: Any) -> None:
        """As the transport behind a proxy's header."""
        self.known = call

    def become(self, peer: IAddress) -> None:
        """The header has come, and says that the peer is this."""
        self._peer = peer
        self.known()

    def hold(self) -> None:
        """Keep what comes, as that transport."""
        self.held = True

    def release(self) -> None:
        self.held = False
        self._read()

    def getHost(self) -> Any:
        return self._host

    def getPeerCertificate(self) -> None:
        return None

    def getTcpNoDelay(self) -> bool:
        return self.no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing."""


class Peer:
    """A client of a `MemoryHost`, down to the byte or up to the message."""

    def __init__(
        self,
        host: MemoryHost,
        peer: IAddress,
        *,
        proxied: bool = False,
        secure: bool = False,
        buffered: bool = False,
        at: IAddress = OUTSIDE,
    ) -> None:
        self.reactor = host.reactor
        self.hub = host.hub
        connection: Any = host.hub.factory(proxied).buildProtocol(peer)
        self.connection: Connection = connection
        self.transport = MemoryTransport(host.reactor, connection, peer, secure=secure, host=at)
        self.transport.buffered = buffered
        self.frames = PeerConnection(ConnectionType.CLIENT)
        self.connection.makeConnection(self.transport)
        self.turn()
        #: False when the server closed the socket at once.
        self.accepted = not self.gone

    @property
    def gone(self) -> bool:
        """Whether the server's side of the connection has ended."""
        return self.transport.gone

    def turn(self, seconds: float = 0) -> None:
        """Let the reactor turn, and time pass."""
        self.reactor.advance(seconds)
        # What a turn asks for "now" is the next turn's.
        for _ in range(3):
            self.reactor.advance(0)

    def send(self, data: bytes) -> None:
        """Send bytes; where the server has paused reading, they come in when it goes on."""
        self.transport.receive(data)
        self.turn()

    def take(self) -> bytes:
        """Return the bytes that have come since the last time."""
        self.turn()
        return self.transport.take()

    def upgrade(self, path: str = "/", headers: Mapping[str, str] | None = None, after: bytes = b"") -> bytes:
        """Send an opening handshake, with more bytes right after it, and return the response's head."""
        self.send(request(path, headers) + after)
        head, _, rest = self.take().partition(b"\r\n\r\n")
        self.frames.receive_data(rest)
        return head + b"\r\n\r\n"

    def send_event(self, event: Event) -> None:
        """Send a frame, by wsproto."""
        self.send(self.frames.send(event))

    def text(self, data: str) -> None:
        """Send a text message."""
        self.send_event(Message(data))

    def events(self) -> list[Event]:
        """Return the frames that have come, by wsproto; fails when they break the protocol."""
        self.frames.receive_data(self.take())
        return list(self.frames.events())

    def messages(self) -> list[Any]:
        """Return what has come, shorter: str, bytes, ("ping", data), ("pong", data), ("close", code, reason)."""
        short: list[Any] = []
        for event in self.events():
            match event:
                case Message():
                    short.append(event.data if isinstance(event.data, str) else bytes(event.data))
                case Ping():
                    short.append(("ping", bytes(event.payload)))
                case Pong():
                    short.append(("pong", bytes(event.payload)))
                case CloseConnection():
                    short.append(("close", event.code, event.reason))
        return short

    def half_close(self) -> None:
        """Send FIN."""
        self.connection.readConnectionLost()
        self.turn()

    def leave(self, reason: Exception | None = None) -> None:
        """Go, properly or for another reason."""
        self.transport.lose(reason or ConnectionDone())
        self.turn()


def request(path: str = "/", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of an opening handshake (RFC 6455 §4.1); a header of value "" is left out."""
    fields = {
        "Host": "example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY.decode(),
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode()


def link(name: str, module: Any, options: Mapping[str, Any] | None = None) -> Link:
    """Return a link of a chain, prepared."""
    return Link(name, module, module.prepare(options or {}))


def limits_of(**given: Any) -> Limits:
    """Return the limits of a hub: these, and the defaults of the others."""
    defaults = {field.name: OPTIONS[field.name].default for field in fields(Limits) if field.name in OPTIONS}
    return Limits(**{**defaults, **given})


class MemoryHost:
    """A host in memory.

    :param handler: an `IHandler`; or
    :param chain: any chain of modules, prepared.
    :param http_options: for the http module, with a handler.
    :param websocket_options: for the websocket module, with a handler.
    :param reactor: one of its own by default.
    :param exchange: for the `Hub`; and
    :param leave: likewise.
    :param access: likewise.
    :param counts_ends: likewise.
    :param trusted: likewise.
    :param admission: likewise.
    :param limits: for the `Limits`.
    """

    def __init__(
        self,
        handler: Any = None,
        *,
        chain: Sequence[Link] | None = None,
        http_options: Mapping[str, Any] | None = None,
        websocket_options: Mapping[str, Any] | None = None,
        reactor: MemoryReactor | None = None,
        exchange: IExchange | None = None,
        leave: Any = None,
        access: bool = False,
        counts_ends: bool = False,
        trusted: Networks | None = None,
        admission: Admission | None = None,
        **limits: Any,
    ) -> None:
        self.reactor = reactor or MemoryReactor()
        if chain is None:
            adapter = HandlerAdapter(handler, {})
            chain = [
                link("http", http, http_options),
                link("websocket", websocket, {"handler": adapter, **(websocket_options or {})}),
            ]
        self.hub = Hub(
            self.reactor,
            chain,
            limits_of(**limits),
            exchange=exchange,
            leave=leave,
            access=access,
            counts_ends=counts_ends,
            trusted=trusted,
            admission=admission,
        )

    def connect(self, address: str = "127.0.0.1", port: int = 50_000, **how: Any) -> Peer:
        """Return a new client."""
        return Peer(self, IPv4Address("TCP", address, port), **how)

    def open(self, path: str = "/", headers: Mapping[str, str] | None = None, *, buffered: bool = False) -> Peer:
        """Return a new client that has done its opening handshake."""
        peer = self.connect(buffered=buffered)
        head = peer.upgrade(path, headers)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return peer

    def idle(self) -> bool:
        """Whether nothing is left of any connection: no connection, no timer."""
        self.reactor.advance(0)
        self.hub.shared.schedule.release_if_idle()
        return not self.hub.shared.registry.all() and not self.reactor.getDelayedCalls()
