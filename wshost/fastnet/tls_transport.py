"""TLS between a socket and the layer above, by the standard library's `ssl`: records in and out, and closing.

Knows nothing of Twisted, and not where its certificates come from.
"""

from __future__ import annotations

from ssl import SSLContext, SSLError, SSLWantReadError, SSLZeroReturnError
from typing import TYPE_CHECKING, Any

from wshost.fastnet.layers import EventLoop, Layer, Lower, SecureUpper
from wshost.fastnet.socket_transport import SocketTransport
from wshost.fastnet.tls_handshake import Handshake
from wshost.fastnet.tls_records import CONTENT as _CONTENT
from wshost.fastnet.tls_records import count_records, end_of_records, shared_buffers

if TYPE_CHECKING:
    import socket

#: How many seconds a peer has for its part of the handshake, and for its part of closing. Twisted's TLS has no limits.
HANDSHAKE_TIMEOUT = 15.0
SHUTDOWN_TIMEOUT = 10.0
#: Each time is counted in so many parts. If the process stands still, however long, the peer loses only one part.
PARTS = 10

#: Records without data, such as key updates, cost a lot, and a peer may send nothing else. So each of them takes
#: `_PRICE` bytes from an allowance, to which data adds.
_ALLOWANCE, _PRICE = 32 << 14, 1 << 14
#: The most bytes that TLS may answer by itself, to key updates, while the peer does not read. No other limit counts
#: them.
_MOST_ANSWERS = 1 << 14
#: How many bytes are encrypted at once. The buffers do not grow beyond this.
_PIECE = 1 << 18
#: While received bytes are handled, up to so much output waits, to leave in one write: the end of the handshake with
#: the first answer, our last data with the close_notify.
_HELD = 1 << 14

#: One connection may have so many groups of records decrypted, each as many as `end_of_records` takes at once, before
#: other connections have their turn. The records of ordinary senders are so long that one read has a single group.
_GROUPS = 2

# The states of a connection. _CLOSING: our close_notify is sent, and received bytes are dropped. _LOST: nothing goes in
# or out.
_HANDSHAKING, _OPEN, _CLOSING, _LOST = range(4)


class TLSTransport(Layer):
    """The server's side of one connection.

    :param loop: watches the socket.
    :param sock: a connected socket. It is made non-blocking, and closed at the end.
    :param protocol: the layer above.
    :param context: the server's TLS context.
    :param protocols: the protocols that `context` may select by ALPN; see `Handshake`.
    """

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        protocol: SecureUpper,
        context: SSLContext,
        protocols: tuple[bytes, ...] = (),
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._state = _HANDSHAKING
        # Bytes that are not decrypted yet: the beginning of a record; while reading is paused, whole records, too. They
        # can't stay in OpenSSL's buffers, which all connections share.
        self._rest = b""
        # `_read_rest` will be called for these bytes.
        self._rest_due = False
        # The layer above has paused reading. During the handshake, the socket is read all the same.
        self._paused = False
        # The allowance for records without data, in bytes; and how many bytes of TLS's own answers are unsent.
        self._allowance = _ALLOWANCE
        self._answers = 0
        # Bytes that were written during another call into OpenSSL.
        self._deferred: list[bytes] | None = None
        # `data_received` is under way; and the records that leave when it ends.
        self._receiving = False
        self._held = b""
        # Why the connection ends, where the socket can't tell.
        self._error: BaseException | None = None
        self._buffers = shared_buffers()
        #: The standard library's object for the connection.
        self.ssl_object = context.wrap_bio(self._buffers.incoming, self._buffers.outgoing, server_side=True)
        # The C object inside, if this version of Python has it there: the Python methods only call this object's.
        self._records: Any = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self._handshake: Handshake | None = Handshake(self.ssl_object, self._buffers, protocols)
        self._deadline: Any = None
        self._count_down_handshake(PARTS)
        self._transport: Lower = SocketTransport(loop, sock, self)

    # What the socket calls

    def data_received(self, data: bytes) -> None:
        self._receiving = True
        try:
            self._receive(data)
        finally:
            self._receiving = False
            if self._held:
                self._send_held()

    def _receive(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        start, size = 0, len(data)
        groups = _GROUPS
        while start < size:
            if not groups:
                self._continue_in_next_turn()
                break
            groups -= 1
            end = end_of_records(data, start)
            if end == start:
                break
            records = data if end - start == size else data[start:end]
            start = end
            if self._handshake is not None:
                records = self._continue_handshake(self._handshake, records)
            if self._state == _LOST:
                break
            if records and not self._paused:
                self._decrypt(records)
                records = b""
            if self._paused and self._state != _HANDSHAKING:
                self._rest = records
                break
        if start < size:
            self._rest += data[start:]

    def _continue_in_next_turn(self) -> None:
        """Let other connections have their turn, then go on with the rest."""
        self._transport.pause_reading()
        self._read_rest_later()

    def buffer_updated(self, nbytes: int) -> None:
        """Do nothing: it is never called, as TLS never calls the socket's `receive_into`."""

    def eof_received(self) -> bool:
        # The peer, or an attacker, has ended the connection without a close_notify. The layer above decides about it.
        if self._state == _HANDSHAKING:
            self._error = ConnectionResetError()
        self.abort()
        return False

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._state = _LOST
        self._cancel_deadline()
        protocol = self._protocol
        # Break the reference cycle. The protocol is not called any more after this.
        self._protocol = None  # type: ignore[assignment]
        protocol.connection_lost(self._error or exc)

    # The handshake

    def _continue_handshake(self, handshake: Handshake, data: bytes) -> bytes:
        """Give whole records to the handshake; return those that come after the handshake."""
        output, rest, failure = handshake.feed(data)
        if output:
            self._send(output)
        if failure is not None:
            self._fail(failure)
        elif rest is not None and self._state == _HANDSHAKING:
            self._handshake = None
            self._cancel_deadline()
            self._state = _OPEN
            if self._paused:
                self._transport.pause_reading()
            self._protocol.handshake_completed()
        return rest or b""

    def _count_down_handshake(self, parts: int) -> None:
        """Time out after so many parts of `HANDSHAKE_TIMEOUT`."""
        if parts:
            self._deadline = self._loop.call_later(HANDSHAKE_TIMEOUT / PARTS, self._count_down_handshake, parts - 1)
        else:
            self._time_out()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # Input

    def _decrypt(self, data: bytes) -> None:
        """Decrypt whole records, and give their content to the layer above."""
        buffers = self._buffers
        content = b""
        # How many records were not read yet. Each read returns the content of one.
        left = count_records(data)
        chunks: list[bytes] | None = None
        failure = None
        ended = False
        # One record has at most this much content.
        size = min(len(data), _CONTENT)
        buffers.busy = True
        try:
            buffers.write_incoming(data)
            while chunk := self._records.read(size):
                left -= 1
                # Usually there is only one chunk.
                if not content:
                    content = chunk
                elif chunks is None:
                    chunks = [content, chunk]
                else:
                    chunks.append(chunk)
                if not left:
                    break
            else:
                ended = True
        except SSLWantReadError:
            # A record had no data, such as a key update.
            pass
        except SSLZeroReturnError:
            ended = True
        except SSLError as error:
            failure = error
        finally:
            # If all was read, nothing is left for OpenSSL.
            output = buffers.end_call() if left else buffers.take_output()
        if output:
            self._send_answer(output)
        if chunks is not None:
            content = b"".join(chunks)
        if left or self._allowance < _ALLOWANCE:
            # The records that were not read had no data.
            self._allowance = min(_ALLOWANCE, self._allowance + len(content)) - left * _PRICE
        if content and self._state == _OPEN:
            self._protocol.data_received(content)
        if failure is not None:
            self._fail(failure)
        elif ended:
            self._answer_close_notify()
        elif self._allowance < 0:
            self._fail(ConnectionAbortedError("too many TLS records without data"))

    def _send_answer(self, output: bytes) -> None:
        """Send bytes that TLS answers by itself."""
        # In one write with the records before it: between two, the protocol might write a later record.
        self._held += output
        self._send_held()
        self._answers = self._answers + len(output) if self._transport.get_write_buffer_size() else 0
        if self._answers > _MOST_ANSWERS:
            self._fail(ConnectionAbortedError("the peer asks for new TLS keys and does not read them"))

    def receive_into(self, buffer: memoryview | None) -> bool:
        """Return False: this is not supported, as received bytes must be decrypted first."""
        return False

    def pause_reading(self) -> None:
        self._paused = True
        if self._state != _HANDSHAKING:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self._rest and self._state != _HANDSHAKING:
            # The rest comes first.
            self._read_rest_later()
        else:
            self._transport.resume_reading()

    def _read_rest_later(self) -> None:
        if not self._rest_due:
            self._rest_due = True
            self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        self._rest_due = False
        if self._may_read():
            self.data_received(b"")
            if self._may_read() and not self._rest_due:
                self._transport.resume_reading()

    def _may_read(self) -> bool:
        return self._state == _HANDSHAKING or (not self._paused and self._state != _LOST)

    # Output

    def write_nocheck(self, data: bytes) -> None:
        """Encrypt these bytes and send them. Before the end of the handshake, and while closing, they are dropped."""
        if self._state != _OPEN or not data:
            return
        if self._buffers.busy or self._deferred is not None:
            if self._deferred is None:
                self._deferred = []
                self._loop.call_soon(self._write_deferred)
            self._deferred.append(data)
            return
        try:
            output = self._encrypt(data) if len(data) <= _PIECE else self._encrypt_long(data)
        except SSLError as error:
            self._fail(error)
        else:
            # Send all records in one call. Between two calls, the protocol might be resumed, and write more.
            self._send(output)

    def _write_deferred(self) -> None:
        deferred, self._deferred = self._deferred, None
        self.write_nocheck(b"".join(deferred or ()))

    def _encrypt(self, data: bytes | memoryview) -> bytes:
        buffers = self._buffers
        output = b""
        buffers.busy = True
        try:
            sent = self._records.write(data)
            while sent < len(data):
                # Some versions of OpenSSL take only one record at a time.
                sent += self._records.write(memoryview(data)[sent:])
        finally:
            output = buffers.take_output()
        return output

    def _encrypt_long(self, data: bytes) -> bytes:
        view = memoryview(data)
        return b"".join([self._encrypt(view[start : start + _PIECE]) for start in range(0, len(data), _PIECE)])

    def _send(self, output: bytes) -> None:
        """Send records: at once, or when `data_received` ends."""
        self._held = self._held + output if self._held else output
        if not self._receiving or len(self._held) >= _HELD:
            self._send_held()

    def _send_held(self) -> None:
        output, self._held = self._held, b""
        self._transport.write_nocheck(output)

    def write_eof(self) -> None:
        """Do nothing: TLS closes both halves at once."""

    def get_write_buffer_size(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self._transport.set_write_buffer_limits(high, low)

    # The end

    def close(self) -> None:
        """Close the connection when all is sent and the peer has answered; during the handshake, at once."""
        if self._state == _HANDSHAKING:
            self.abort()
        elif self._state == _OPEN:
            if self._buffers.busy or self._deferred is not None:
                self._loop.call_soon(self.close)
            else:
                self._send_close_notify()

    def _send_close_notify(self) -> None:
        """Send our close_notify: we send no more data. From now on, only wait for the peer's close_notify."""
        self._state = _CLOSING
        buffers = self._buffers
        buffers.busy = True
        try:
            self.ssl_object.unwrap()
        except SSLError:
            # The peer's close_notify has not arrived yet.
            pass
        finally:
            output = buffers.end_call()
        self._send(output)
        self._count_down_closing(PARTS, self.get_write_buffer_size())
        self.resume_reading()

    def _count_down_closing(self, parts: int, unsent: int) -> None:
        """Time out after so many parts of `SHUTDOWN_TIMEOUT` in which the unsent bytes do not become fewer."""
        now = self.get_write_buffer_size()
        if now < unsent:
            parts = PARTS
        if parts:
            self._deadline = self._loop.call_later(SHUTDOWN_TIMEOUT / PARTS, self._count_down_closing, parts - 1, now)
        else:
            self._time_out()

    def _answer_close_notify(self) -> None:
        """Close, as the peer has sent its close_notify."""
        if self._state == _OPEN:
            self._protocol.eof_received()
        if self._state == _OPEN:
            self._send_close_notify()
        self._send_held()
        self._transport.close()

    def _time_out(self) -> None:
        self._fail(TimeoutError("the peer took too long for its part of TLS's handshake, or of closing"))

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.abort()

    def abort(self) -> None:
        """Close the connection at once; unsent bytes are lost, and the peer gets no close_notify."""
        self._state = _LOST
        # As if they had not been held: the peer may need them, such as the alert that says why.
        self._send_held()
        self._transport.abort()
