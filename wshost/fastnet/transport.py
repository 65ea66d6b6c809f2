"""One accepted connection: for its protocol a transport with Twisted's interfaces, for the layer below a protocol.

`Output` has the sending side, and the end. Knows only the event loop of its port, and nothing of TLS.
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
from zope.interface import classImplements, implementedBy

from wshost.fastnet.addresses import address_of
from wshost.fastnet.output import Output, State
from wshost.fastnet.socket_transport import SocketTransport

if TYPE_CHECKING:
    from wshost.fastnet.layers import Lower

# Every read needs this, and compiled code finds it as a global without a look-up.
_OPEN, _CLOSED = State.OPEN, State.CLOSED


class Transport(Output):
    """A plain connection, TCP or Unix.

    Its arguments are those of `twisted.internet.tcp.Server`, which `twisted.internet.tcp.Port` calls.

    :param skt: the accepted socket.
    :param protocol: Twisted's protocol. The creator of this object calls the protocol's `makeConnection`.
    :param addr: the peer's address, as `accept` returned it.
    :param server: the port, which has the event loop.
    :param sessionno: the connection's number, counted by the port.
    :param reactor: kept as an attribute only, as some protocols look for it here.
    """

    def __init__(self, skt: socket.socket, protocol: Any, addr: Any, server: Any, sessionno: int, reactor: Any) -> None:  # noqa: PLR0917
        super().__init__(skt, protocol, addr, server, sessionno, reactor)
        self._transport = self._connect()
        server.loop.connections.add(self)

    @property
    def __providedBy__(self) -> Any:
        # Of an extension type, zope.interface finds this out anew each time, in microseconds.
        return implementedBy(type(self))

    def _connect(self) -> Lower:
        """Return the layer below."""
        return SocketTransport(self.server.loop, self.socket, self)

    # Input

    def data_received(self, data: bytes) -> None:
        if self._state is _CLOSED:
            return
        try:
            self.protocol.dataReceived(data)
        except BaseException:  # an exception ends this connection, as in Twisted's transports
            self._fail()

    def buffer_updated(self, nbytes: int) -> None:
        """Tell the protocol that `nbytes` bytes were read into the buffer of `receive_into`."""
        if self._state is _CLOSED:
            return
        try:
            self.protocol.buffer_updated(nbytes)
        except BaseException:  # an exception ends this connection, as in Twisted's transports
            self._fail()

    def eof_received(self) -> bool:
        """Tell the protocol that the peer has closed its half. Return whether our half stays open."""
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
        """Say whether the protocol may pause and resume reading.

        After the peer has closed its half, there is nothing to read: a socket would report this end again and again.
        """
        return not (self._peer_ended or self.disconnecting or self._state is _CLOSED)

    def stopProducing(self) -> None:
        self.loseConnection()

    def receive_into(self, buffer: Any) -> bool:
        """Read into this buffer until it is full, instead of giving bytes to the protocol.

        :param buffer: writable, contiguous; None ends this before the buffer is full.
        :returns: False when this is not supported: the layer below can't do it, or the protocol has no
            `buffer_updated`, which is called like that of an `asyncio.BufferedProtocol`.
        :raises TypeError, ValueError: when this is no such buffer, or has no room.
        """
        view = None
        if buffer is not None:
            # Make another view: while it exists, the buffer's owner can't resize it, and the caller can't release it.
            view = memoryview(buffer)
            if view.readonly or not view.c_contiguous or not view.nbytes:
                raise ValueError("that is no buffer to read into: writable, contiguous, and with room in it")
            view = view.cast("B")
        # Ask the class: a wrapper that forwards all attributes to its transport would return this transport's method.
        return hasattr(type(self.protocol), "buffer_updated") and self._transport.receive_into(view)

    def write_last(self, data: bytes) -> None:
        """Write the last bytes before `loseWriteConnection` or `loseConnection`, which must follow at once.

        One packet may have them and the end.

        :param data: exactly of type bytes.
        """
        last = getattr(self._transport, "write_last", None)
        if last is None or self._state is not _OPEN:
            self.write(data)
        else:
            last(data)

    def detach(self) -> tuple[socket.socket, Any] | None:
        """Give the socket away, as another process goes on with it. This transport is over; its protocol is not told.

        :returns: the socket, for the caller to close, and the peer's name as `accept` has returned it; None if
            something would be lost, or TLS can't go over.
        """
        detach = getattr(self._transport, "detach", None)
        ends = self._state is not _OPEN or self._half_closing or self._peer_ended or self.disconnecting
        if ends or detach is None or not detach():
            return None
        self._state = _CLOSED
        self.connected, self.disconnected = 0, 1
        self.server.loop.connections.discard(self)
        # Break the reference cycles.
        self.protocol = self._producer = None
        return self.socket, self._addr

    # In no interface, but many programs call these on Twisted's transports.
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
