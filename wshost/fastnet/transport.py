"""One accepted connection: to its protocol one of Twisted's transports, to the layer below an asyncio protocol.

Knows of ports no more than their event loop, and nothing of TLS. `Output` has what it sends, and how it ends.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.fastnet.addresses import address_of
from wshost.fastnet.output import Output, State
from wshost.fastnet.socket_transport import SocketTransport

if TYPE_CHECKING:
    from wshost.fastnet.layers import Lower

# What every read looks at, as a name that compiled code finds without a look-up.
_CLOSED = State.CLOSED


class Transport(Output):
    """A plain connection, TCP or Unix.

    Its name and arguments are those of `twisted.internet.tcp.Server`, as `twisted.internet.tcp.Port` calls that.

    :param skt: the accepted socket.
    :param protocol: of Twisted; whoever makes this calls its `makeConnection`.
    :param addr: the peer's, as the port tells it.
    :param server: the port, which has the event loop.
    :param sessionno: counts the port's connections.
    :param reactor: for those who look for it there.
    """

    def __init__(self, skt: socket.socket, protocol: Any, addr: Any, server: Any, sessionno: int, reactor: Any) -> None:  # noqa: PLR0917
        super().__init__(skt, protocol, addr, server, sessionno, reactor)
        self._transport = self._connect()
        server.loop.connections.add(self)

    def _connect(self) -> Lower:
        """Return the layer below."""
        return SocketTransport(self.server.loop, self.socket, self)

    # Input

    def data_received(self, data: bytes) -> None:
        if self._state is _CLOSED:
            return
        try:
            self.protocol.dataReceived(data)
        except BaseException:  # as Twisted's transports: what fails is this connection
            self._fail()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were read into the buffer of `receive_into`."""
        if self._state is _CLOSED:
            return
        try:
            self.protocol.buffer_updated(nbytes)
        except BaseException:  # as Twisted's transports: what fails is this connection
            self._fail()

    def eof_received(self) -> bool:
        """The peer has closed its half. Return whether ours stays open."""
        if self._state is _CLOSED:
            return False
        self._peer_ended = True
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._abort(Failure(ConnectionDone()))
            return False
        self._call(protocol.readConnectionLost)
        return True

    def pauseProducing(self) -> None:
        if self._is_read_from():
            self._transport.pause_reading()

    def resumeProducing(self) -> None:
        if self._is_read_from():
            self._transport.resume_reading()

    def _is_read_from(self) -> bool:
        """Say whether the protocol decides if the socket is read from.

        Behind the peer's end there is nothing to read: a socket would only tell the end again.
        """
        return not (self._peer_ended or self.disconnecting or self._state is _CLOSED)

    def stopProducing(self) -> None:
        self.loseConnection()

    def receive_into(self, buffer: Any) -> bool:
        """Read into this instead of giving the protocol bytes, until it is full.

        :param buffer: writable, contiguous; None ends it before it is full.
        :returns: False when that can't be done: the layer below can't, or the protocol has no `buffer_updated`, which
            is called as that of an `asyncio.BufferedProtocol`.
        :raises TypeError, ValueError: when that is no such buffer, or there is no room in it.
        """
        view = None
        if buffer is not None:
            # One of our own: while it exists, the buffer's owner can't resize it, and the caller can't release it.
            view = memoryview(buffer)
            if view.readonly or not view.c_contiguous or not view.nbytes:
                raise ValueError("that is no buffer to read into: writable, contiguous, and with room in it")
            view = view.cast("B")
        # The class is asked: a wrapper with all attributes of its transport would have this transport's own method.
        return hasattr(type(self.protocol), "buffer_updated") and self._transport.receive_into(view)

    # In no interface, and yet what many call on Twisted's.
    stopReading = pauseProducing
    startReading = resumeProducing

    # The socket

    def getHandle(self) -> socket.socket:
        return self.socket

    def getHost(self) -> Any:
        return address_of(self.socket.getsockname())

    def getPeer(self) -> Any:
        return address_of(self._addr)

    def getTcpNoDelay(self) -> bool:
        if not isinstance(self._addr, tuple):
            return False
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        if isinstance(self._addr, tuple):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    # For logs

    def __repr__(self) -> str:
        return f"<{type(self.protocol).__name__} #{self.sessionno} of {self.server}>"

    def logPrefix(self) -> str:
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            prefix: str = protocol.logPrefix()
            return prefix
        return type(protocol).__name__


classImplements(Transport, ITCPTransport, IConsumer, IPushProducer, ISystemHandle, ILoggingContext)
