"""One accepted connection: to its protocol one of Twisted's transports, to the transport below it an asyncio protocol.

That one is `socket_transport.pyx`, TLS (`tls_transport.py`) on it, or aiofastnet's where nothing is compiled.

It knows no more of ports than their event loop, and nothing of TLS.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
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

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiofastnet.selector_transport import SelectorSocketTransport
else:
    try:
        from wshost.fastnet.socket_transport import SocketTransport as SelectorSocketTransport
    except ImportError:  # where nothing is compiled
        from aiofastnet.selector_transport import SelectorSocketTransport

#: A streaming producer is paused while more than that many bytes wait, as by Twisted's own transports.
HIGH_WATER = 1 << 16

_ALL = slice(None)

#: What `close` does with it: the peer is sent a reset.
_RESET = struct.pack("ii", 1, 0)

# Where it stands, as far as output goes; the hot path asks only whether it is the first. In the second, a pull producer
# is told to go on whenever nothing waits; in the third, the transport below is not ready; in the fourth, our half is
# closed; in the fifth, nothing goes in or out any more but what the transport below may have to flush.
OPEN, PULLING, STARTING, SHUT, CLOSED = range(5)


class Transport:
    """A plain connection, TCP or Unix.

    Its name and arguments are those of `twisted.internet.tcp.Server`, as `twisted.internet.tcp.Port` calls that.

    :param skt: the accepted socket.
    :param protocol: of Twisted; whoever makes this calls its `makeConnection`.
    :param addr: the peer's, as the port tells it.
    :param server: the port, which has the event loop.
    :param sessionno: counts the port's connections.
    :param reactor: for those who look for it there.
    """

    # There are ten thousand of them.
    __slots__ = (
        "__weakref__",
        "_addr",
        "_eof",
        "_half_closing",
        "_held",
        "_producer",
        "_producer_paused",
        "_quiet",
        "_read_paused",
        "_reason",
        "_state",
        "_streaming",
        "_under",
        "connected",
        "disconnected",
        "disconnecting",
        "protocol",
        "reactor",
        "server",
        "sessionno",
        "socket",
    )

    def __init__(self, skt: socket.socket, protocol: Any, addr: Any, server: Any, sessionno: int, reactor: Any) -> None:  # noqa: PLR0917
        self.socket = skt
        self.protocol = protocol
        self.server = server
        self.sessionno = sessionno
        self.reactor = reactor
        self.connected = 1
        self.disconnecting = False
        self.disconnected = 0
        self._addr = addr
        self._state = STARTING
        # What is written before the transport below can take it.
        self._held: list[bytes] | None = None
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self._read_paused = False
        self._eof = False
        self._half_closing = False
        # The protocol has not written during the present call.
        self._quiet = False
        # Why it ends, where the transport below can't tell.
        self._reason: Failure | None = None
        self._under: Any = self._connect(server.loop)
        server.loop.connections.add(self)

    def _connect(self, loop: Any) -> Any:
        under = SelectorSocketTransport(loop, self.socket, self)
        # Only behind what it has scheduled itself can it be paused or closed: its reader is not there before.
        loop.call_soon(self._begin)
        return under

    # What the transport below calls

    def connection_made(self, transport: Any) -> None:
        """Nothing: it is ready a moment later."""

    def data_received(self, data: bytes) -> None:
        self._receive(data, 0)

    def buffer_updated(self, nbytes: int) -> None:
        self._receive(b"", nbytes)

    def _receive(self, data: bytes, filled: int) -> None:
        if self._state and self._state == CLOSED:
            return
        self._quiet = True
        try:
            if filled:
                self.protocol.buffer_updated(filled)
            else:
                self.protocol.dataReceived(data)
        except BaseException:  # as Twisted's transports: what fails is this connection
            self._fail()
            return
        # When the kernel has data and a reset at once, uvloop calls the reader once, and watches no more
        # (`UVPoll._fatal_error`). A write would have met the reset; who reads again, having paused, meets it then.
        if self._quiet and not self._read_paused:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._drop(Failure(ConnectionLost(os.strerror(error))))

    def eof_received(self) -> bool:
        if self._state == CLOSED:
            return False
        self._eof = True
        self._quiet = False
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is None:
            self._drop(Failure(ConnectionDone()))
            return False
        try:
            protocol.readConnectionLost()
        except BaseException:  # as Twisted's transports: what fails is this connection
            self._fail()
        return True

    def pause_writing(self) -> None:
        if self._producer is not None and self._streaming and not self._producer_paused:
            self._producer_paused = True
            try:
                self._producer.pauseProducing()
            except BaseException:  # as Twisted's transports: what fails is this connection
                self._fail()

    def resume_writing(self) -> None:
        if self._state == PULLING:
            self._pull_later()
        elif self._producer_paused:
            self._producer_paused = False
            self._resume_producer()
        else:
            self._finish()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.disconnected:
            return
        self._state = CLOSED
        self.connected = 0
        self.disconnected = 1
        self.server.loop.connections.discard(self)
        producer, self._producer = self._producer, None
        protocol, self.protocol = self.protocol, None
        reason = self._reason or self._explain(exc)
        # What has made a cycle goes without the collector.
        self._held = self._reason = self._under = None
        try:
            if producer is not None:
                producer.stopProducing()
        except BaseException:  # as Twisted's transports: what fails is this connection
            self.server.loop.log.failure("the producer of {transport} failed to stop", transport=self)
        try:
            protocol.connectionLost(reason)
        except BaseException:  # as Twisted's transports: what fails is this connection
            self.server.loop.log.failure("{protocol} failed to lose its connection", protocol=protocol)

    def _explain(self, exc: BaseException | None) -> Failure:
        if exc is None:
            return Failure(ConnectionDone())
        if isinstance(exc, OSError):
            detail = exc.strerror or str(exc)
            return Failure(ConnectionLost(detail) if detail else ConnectionLost())
        return Failure(exc)

    # Output

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if type(data) is not bytes:
            # A subclass may say anything of its length.
            data = bytes.__getitem__(data, _ALL)
        if self._state:
            self._write_otherwise(data)
        else:
            self._quiet = False
            self._under.write_nocheck(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        try:
            data = b"".join(iovec)
        except TypeError:
            raise TypeError("Data must be bytes") from None
        self.write(data)

    def _write_otherwise(self, data: bytes) -> None:
        if self._state == STARTING:
            if self._held is None:
                self._held = []
            self._held.append(data)
            if self._producer is not None and sum(map(len, self._held)) > HIGH_WATER:
                self.pause_writing()
        elif self._state == PULLING:
            self._quiet = False
            self._under.write_nocheck(data)
            self._pull_later()

    def _begin(self) -> None:
        """The transport below is ready: do what it was too early for."""
        if self.disconnected:
            return
        if self._state == CLOSED:
            self._under.abort()
            return
        self._state = OPEN
        self._under.set_write_buffer_limits(HIGH_WATER, 0)
        if self._read_paused:
            self._under.pause_reading()
        if self._producer is not None and not self._streaming:
            self._start_pulling()
        held, self._held = self._held, None
        if held is not None:
            self.write(b"".join(held))
            if self._producer_paused and self._state == OPEN and self._under.get_write_buffer_size() <= HIGH_WATER:
                self.resume_writing()
        self._finish()

    # Producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"Cannot register producer {producer}: {self._producer} was never unregistered.")
        if self.disconnected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            if self._state == OPEN:
                self._start_pulling()
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False
        if self._state == PULLING:
            self._state = OPEN
            self._under.set_write_buffer_limits(HIGH_WATER, 0)
        self._finish()

    def _start_pulling(self) -> None:
        # Whatever stays unsent shall be heard of.
        self._state = PULLING
        self._under.set_write_buffer_limits(0, 0)
        self._pull_later()

    def _pull_later(self) -> None:
        """Let the producer go on in the next turn, if nothing waits any more then."""
        if not self._producer_paused:
            self._producer_paused = True
            self.server.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._producer_paused = False
        if self._state == PULLING and not self._under.get_write_buffer_size():
            self._resume_producer()

    def _resume_producer(self) -> None:
        try:
            self._producer.resumeProducing()
        except BaseException:  # as Twisted's transports: what fails is this connection
            self._fail()

    # The end

    def loseConnection(self) -> None:
        if self.disconnecting or self._state == CLOSED:
            return
        self.disconnecting = True
        if self._state != STARTING:
            self._stop_reading()
        self._finish()

    def _stop_reading(self) -> None:
        self._under.pause_reading()

    def _finish(self) -> None:
        """Close it or its half if that was asked for, and nothing has to come before."""
        if self._state in {STARTING, CLOSED} or not (self.disconnecting or self._half_closing):
            return
        if self._producer is not None and (self._producer_paused or not self._streaming):
            return
        if self.disconnecting:
            self._state = CLOSED
            self._quiet = False
            self._under.close()
        elif self._state != SHUT:
            self.server.loop.call_soon(self._close_half)

    def loseWriteConnection(self) -> None:
        if not (self._half_closing or self.disconnecting or self._state == CLOSED):
            self._half_closing = True
            self._finish()

    def _close_half(self) -> None:
        if self._state not in {OPEN, PULLING} or self.disconnecting:
            return
        if self._under.get_write_buffer_size():
            # `resume_writing` comes when nothing of that is left.
            self._under.set_write_buffer_limits(0, 0)
            return
        self._state = SHUT
        with suppress(OSError):  # it is broken; the next read says so
            self._under.write_eof()
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None:
            try:
                protocol.writeConnectionLost()
            except BaseException:  # as Twisted's transports: what fails is this connection
                self._fail()

    def stopConsuming(self) -> None:
        self.unregisterProducer()
        self.loseConnection()

    def abortConnection(self) -> None:
        if self.disconnected or self._reason is not None:
            return
        with suppress(OSError):  # it is not connected any more
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._drop(Failure(ConnectionAborted()))

    def disconnect(self) -> None:
        """The reactor stops: end it, and tell the protocol while there is time."""
        under = self._under
        self._drop(Failure(ConnectionLost()))
        self.connection_lost(None)
        # As `_begin` would, which has nothing to abort any more.
        self.server.loop.call_soon(under.abort)

    def _fail(self) -> None:
        """End it for the exception being handled, which is the protocol's."""
        failure = Failure()
        protocol = self.protocol
        # First the end: to log it may fail, too.
        self._drop(failure)
        self.server.loop.log.failure("{protocol} failed", failure, protocol=protocol)

    def _drop(self, reason: Failure) -> None:
        """End it at once; what waits is lost."""
        starting = self._state == STARTING
        self._reason = reason
        self._quiet = False
        self._state = CLOSED
        if starting:
            self._drop_early()
        else:
            self._under.abort()

    def _drop_early(self) -> None:
        """Nothing: `_begin` does."""

    # Input

    def pauseProducing(self) -> None:
        # Behind the peer's end there is nothing to read, and to start again would find the end once more.
        if self._eof or self.disconnecting or self._state == CLOSED:
            return
        self._read_paused = True
        if self._state != STARTING:
            self._under.pause_reading()

    def resumeProducing(self) -> None:
        if self._eof or self.disconnecting or self._state == CLOSED:
            return
        self._read_paused = False
        if self._state != STARTING:
            self._under.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    def receive_into(self, buffer: Any) -> bool:
        """Read into this instead of giving the protocol bytes, until it is full.

        :param buffer: writable, contiguous; None ends it before it is full.
        :returns: False when that can't be done: the transport below can't, or the protocol has no `buffer_updated`,
            which is called as that of an `asyncio.BufferedProtocol`.
        :raises TypeError, ValueError: when that is no such buffer, or there is no room in it.
        """
        if buffer is not None:
            # Of every form of the transport below the same is said.
            view = memoryview(buffer)
            if view.readonly or not view.c_contiguous or not view.nbytes:
                raise ValueError("that is no buffer to read into: writable, contiguous, and with room in it")
        receive = getattr(self._under, "receive_into", None)
        # One that wraps another, and has what that has by `__getattr__`, is none: it would be asked itself.
        if receive is None or not hasattr(type(self.protocol), "buffer_updated"):
            return False
        receive(buffer)
        return True

    # In no interface, and yet what many call on Twisted's.
    stopReading = pauseProducing
    startReading = resumeProducing

    # The socket

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait that the kernel has not taken, as asyncio's transports do."""
        return 0 if self._under is None else int(self._under.get_write_buffer_size())

    def getHandle(self) -> socket.socket:
        return self.socket

    def getHost(self) -> Any:
        return _address(self.socket.getsockname())

    def getPeer(self) -> Any:
        return _address(self._addr)

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

    def __repr__(self) -> str:
        return f"<{type(self.protocol).__name__} #{self.sessionno} of {self.server}>"

    def logPrefix(self) -> str:
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            prefix: str = protocol.logPrefix()
            return prefix
        return type(protocol).__name__


def _address(name: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    # Not by the socket's family: to name that takes longer than all the rest.
    if not isinstance(name, tuple):
        return UNIXAddress(name or None)
    if len(name) == 2:
        return IPv4Address("TCP", *name)
    host, port, flow, scope = name
    if scope and "%" not in host:
        # The interface is part of the address for Twisted.
        host, _ = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return IPv6Address("TCP", host, port, flow, scope)


classImplements(Transport, ITCPTransport, IConsumer, IPushProducer, ISystemHandle, ILoggingContext)
