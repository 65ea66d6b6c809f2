"""The sending side of a connection, and its end: writes, producers, closing. Knows nothing of input.

`Transport` adds the input, and the socket's addresses and options.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wshost.fastnet.layers import Layer
from wshost.fastnet.socket_transport import HIGH_WATER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wshost.fastnet.layers import Lower

_WHOLE = slice(None)

#: With this value of SO_LINGER, closing the socket sends the peer a reset.
_RESET = struct.pack("ii", 1, 0)


class State(Enum):
    """The state of a connection, which decides what happens to written bytes."""

    #: Written bytes are kept until the layer below is ready.
    OPENING = auto()
    #: Written bytes are sent.
    OPEN = auto()
    #: Written bytes are sent. A pull producer is asked for more whenever nothing is unsent.
    PULLING = auto()
    #: Written bytes are dropped: our half is closed. The peer's half is still read.
    HALF_CLOSED = auto()
    #: Written bytes are dropped: the connection ends when the layer below has sent all that it has.
    CLOSED = auto()


# Every write reads these, and compiled code finds them as globals without a look-up.
_OPENING, _OPEN, _PULLING, _HALF_CLOSED, _CLOSED = State


class Output(Layer):
    """The part of `Transport` that sends and ends. `Transport` explains the arguments."""

    #: The layer below.
    _transport: Lower

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
        self._state = _OPEN
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self._half_closing = False
        # The peer has closed its half.
        self._peer_ended = False
        # Why the connection ends, where the layer below can't tell.
        self._reason: Failure | None = None

    # Writes

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        if type(data) is not bytes:
            # The length of a subclass may lie.
            data = bytes.__getitem__(data, _WHOLE)
        if self._state is _OPEN:
            self._transport.write_nocheck(data)
        else:
            self._write_unless_open(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        try:
            data = b"".join(iovec)
        except TypeError:
            raise TypeError("Data must be bytes") from None
        self.write(data)

    def _write_unless_open(self, data: bytes) -> None:
        """Write bytes in a state other than OPEN, the usual one."""
        if self._state is _PULLING:
            self._transport.write_nocheck(data)
            self._pull_later()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are unsent, as asyncio's transports do."""
        return self._transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        """Pause a push producer. The layer below calls this when too much is unsent."""
        if self._producer is not None and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self._call(self._producer.pauseProducing)

    def resume_writing(self) -> None:
        """Resume the producer, or close if this was asked for. The layer below calls this when little is unsent."""
        if self._state is _PULLING:
            self._pull_later()
        elif self._producer_paused:
            self._producer_paused = False
            self._call(self._producer.resumeProducing)
        else:
            self._close_if_due()

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
            if self._state is _OPEN:
                self._start_pulling()
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._producer_paused = False
        if self._state is _PULLING:
            self._state = _OPEN
            self._transport.set_write_buffer_limits(HIGH_WATER, 0)
        self._close_if_due()

    def _start_pulling(self) -> None:
        self._state = _PULLING
        # Now `pause_writing` is called when anything is unsent, and `resume_writing` when nothing is.
        self._transport.set_write_buffer_limits(0, 0)
        self._pull_later()

    def _pull_later(self) -> None:
        """Ask a pull producer for more in the next turn of the loop, if nothing is unsent then."""
        if not self._producer_paused:
            self._producer_paused = True
            self.server.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._producer_paused = False
        if self._state is _PULLING and not self._transport.get_write_buffer_size():
            self._call(self._producer.resumeProducing)

    # Closing

    def loseConnection(self) -> None:
        if self.disconnecting or self._state is _CLOSED:
            return
        self.disconnecting = True
        self._read_until_closed()
        self._close_if_due()

    def _read_until_closed(self) -> None:
        """Decide what is read while the connection closes: nothing more."""
        self._transport.pause_reading()

    def loseWriteConnection(self) -> None:
        if not (self._half_closing or self.disconnecting or self._state is _CLOSED):
            self._half_closing = True
            self._close_if_due()

    def _close_if_due(self) -> None:
        """Close the connection or our half, if this was asked for and no producer has more to write."""
        if self._state in {_OPENING, _CLOSED} or not (self.disconnecting or self._half_closing):
            return
        if self._producer is not None and (self._producer_paused or not self._streaming):
            return
        if self.disconnecting:
            self._state = _CLOSED
            self._transport.close()
        elif self._state is not _HALF_CLOSED:
            self.server.loop.call_soon(self._close_half)

    def _close_half(self) -> None:
        if self._state not in {_OPEN, _PULLING} or self.disconnecting:
            return
        if self._transport.get_write_buffer_size():
            # `resume_writing` is called when all bytes are sent.
            self._transport.set_write_buffer_limits(0, 0)
            return
        self._state = _HALF_CLOSED
        self._transport.write_eof()
        protocol = IHalfCloseableProtocol(self.protocol, None)
        if protocol is not None:
            self._call(protocol.writeConnectionLost)

    def stopConsuming(self) -> None:
        self.unregisterProducer()
        self.loseConnection()

    def abortConnection(self) -> None:
        if self.disconnected or self._reason is not None:
            return
        with suppress(OSError):  # the socket is not connected any more
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._abort(Failure(ConnectionAborted()))

    def disconnect(self) -> None:
        """End the connection because the reactor stops, and tell the protocol while there is time."""
        self._abort(Failure(ConnectionLost()))
        self.connection_lost(None)

    def _call(self, call: Callable[[], object]) -> None:
        """Call the protocol or its producer. As in Twisted's transports, an exception ends this connection."""
        try:
            call()
        except BaseException:
            self._fail()

    def _fail(self) -> None:
        """End the connection: the protocol has raised the exception being handled."""
        failure = Failure()
        protocol = self.protocol
        # Abort first: logging may fail, too.
        self._abort(failure)
        self.server.loop.log.failure("{protocol} failed", failure, protocol=protocol)

    def _abort(self, reason: Failure) -> None:
        """End the connection at once; unsent bytes are lost.

        :param reason: the argument of the protocol's `connectionLost`.
        """
        self._reason = reason
        self._state = _CLOSED
        self._transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the protocol that the connection has ended. Called by the layer below, and when the reactor stops."""
        if self.disconnected:
            return
        self._state = _CLOSED
        self.connected = 0
        self.disconnected = 1
        self.server.loop.connections.discard(self)
        producer, self._producer = self._producer, None
        protocol, self.protocol = self.protocol, None
        reason, self._reason = self._reason or self._explain(exc), None
        try:
            if producer is not None:
                producer.stopProducing()
        except BaseException:  # the protocol must hear of the end, too
            self.server.loop.log.failure("the producer of {transport} failed to stop", transport=self)
        try:
            protocol.connectionLost(reason)
        except BaseException:  # the connection has ended already
            self.server.loop.log.failure("{protocol} failed in connectionLost", protocol=protocol)

    def _explain(self, exc: BaseException | None) -> Failure:
        """Return Twisted's reason for an error of the layer below."""
        if exc is None:
            return connectionDone
        if isinstance(exc, OSError):
            detail = exc.strerror or str(exc)
            return Failure(ConnectionLost(detail) if detail else ConnectionLost())
        return Failure(exc)
