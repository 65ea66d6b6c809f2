"""Removes the PROXY protocol's header from a connection, and presents the addresses in it as the connection's own.

`ProxiedTransport` is the protocol of the transport below, and the transport of the inner protocol. The inner protocol
is connected from the start, so its time limits also hold for clients that send no header. An invalid header ends the
connection without an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import alsoProvides, directlyProvides, implementer, providedBy

from wshost.listening.proxy_header import Header, InvalidHeader, parse


@implementer(IProtocol)
class ProxiedTransport:
    """One connection.

    :param protocol: the inner protocol, which speaks with the client after the header.
    """

    def __init__(self, protocol: Any) -> None:
        self._protocol: Any = protocol
        #: The transport below.
        self.transport: Any = None
        self._header: Header | None = None
        # The bytes of the header so far, then those behind it while they are held; None once they aren't.
        self._received: bytearray | None = bytearray()
        self._held = False
        # The peer has closed its half while its bytes were held.
        self._half_closed = False
        self._invalid = False
        # Calls to be made when the addresses are known.
        self._waiting: list[Callable[[], None]] = []
        self.write: Any = None

    # The protocol of the transport below

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        directlyProvides(self, providedBy(transport))
        # For speed: otherwise each call would find the method by `__getattr__`.
        self.write = transport.write
        self.connectionMade()

    def connectionMade(self) -> None:
        self._protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        if self._received is None:
            self._protocol.dataReceived(data)
        else:
            self._receive(self._received, data)

    def buffer_updated(self, nbytes: int) -> None:
        """Tell the protocol that `nbytes` bytes were read into the buffer of `receive_into`."""
        self._protocol.buffer_updated(nbytes)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Break the reference cycle: the protocol refers to this object as its transport.
        protocol, self._protocol = self._protocol, None
        self._waiting.clear()
        protocol.connectionLost(reason)

    def _receive(self, received: bytearray, data: bytes) -> None:
        if self._invalid:
            return
        received += data
        if self._header is None:
            try:
                header = parse(received)
            except InvalidHeader:
                self._refuse(received)
                return
            if header is None:
                return
            self._header = header
            del received[: header.size]
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()
        if not self._held:
            self._pass_on(received)

    def _pass_on(self, received: bytearray) -> None:
        self._received = None
        if received and self._protocol is not None:
            self._protocol.dataReceived(bytes(received))
        if self._half_closed and self._protocol is not None:
            self._protocol.readConnectionLost()

    def _refuse(self, received: bytearray) -> None:
        self._invalid = True
        received.clear()
        self.transport.loseConnection()

    # The transport of the inner protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def call_when_known(self, call: Callable[[], None]) -> None:
        """Make this call once the client's address is known; never if no valid header comes."""
        if self._header is not None:
            call()
        else:
            self._waiting.append(call)

    def hold(self) -> None:
        """Keep what comes behind the header until `release`. For such a call only; it also pauses the transport."""
        self._held = True

    def release(self) -> None:
        """Give the protocol what was kept."""
        self._held = False
        if self._received is not None:
            self._pass_on(self._received)

    @property
    def anonymous(self) -> bool:
        """Whether no header has named the client: `getPeer` then returns the address of the proxy."""
        return self._header is None or self._header.source is None

    def receive_into(self, buffer: Any) -> bool:
        """Let the transport below read into this buffer; return False when it or the protocol can't do so."""
        if not hasattr(type(self._protocol), "buffer_updated"):
            return False
        receive = getattr(self.transport, "receive_into", None)
        return receive is not None and bool(receive(buffer))

    def getPeer(self) -> IAddress:
        """Return the client's address from the header; if the header has none, the proxy's address."""
        address: IAddress = (self._header and self._header.source) or self.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        """Return the address that the client has connected to, from the header; if it has none, the socket's own."""
        address: IAddress = (self._header and self._header.destination) or self.transport.getHost()
        return address


@implementer(IHalfCloseableProtocol)
class HalfCloseable(ProxiedTransport):
    """A connection whose inner protocol is half-closeable."""

    def readConnectionLost(self) -> None:
        if self._received is None:
            self._protocol.readConnectionLost()
        elif self._held:
            self._half_closed = True
        else:
            # The header can't become whole any more.
            self._refuse(self._received)

    def writeConnectionLost(self) -> None:
        self._protocol.writeConnectionLost()


@implementer(IProtocolFactory, ILoggingContext)
class ProxiedFactory:
    """Builds another factory's protocols, and wraps each in a `ProxiedTransport`.

    :param factory: builds the inner protocols.
    """

    def __init__(self, factory: Any) -> None:
        #: The inner factory. The attribute has the same name in `twisted.protocols.policies.WrappingFactory`.
        self.wrappedFactory = factory
        if IProtocolNegotiationFactory.providedBy(factory):
            # Twisted's TLS asks the factory that it wraps, which may be this one.
            alsoProvides(self, IProtocolNegotiationFactory)

    def buildProtocol(self, addr: IAddress) -> ProxiedTransport | None:
        protocol = self.wrappedFactory.buildProtocol(addr)
        if protocol is None:
            return None
        kind = HalfCloseable if IHalfCloseableProtocol.providedBy(protocol) else ProxiedTransport
        return kind(protocol)

    def logPrefix(self) -> str:
        """Return the name in Twisted's log line "… starting on 8080"."""
        factory = self.wrappedFactory
        name = factory.logPrefix() if ILoggingContext.providedBy(factory) else type(factory).__name__
        return f"{name} (PROXY)"

    def acceptableProtocols(self) -> list[bytes]:
        protocols: list[bytes] = self.wrappedFactory.acceptableProtocols()
        return protocols

    def doStart(self) -> None:
        self.wrappedFactory.doStart()

    def doStop(self) -> None:
        self.wrappedFactory.doStop()
