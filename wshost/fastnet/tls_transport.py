"""TLS on a connected socket, by the standard library's `ssl`, with the part of asyncio's transports that is needed.

All connections of a thread share their buffers, so that an idle one has none. Knows nothing of Twisted, and not where
its certificates come from.
"""

from __future__ import annotations

import threading
from ssl import MemoryBIO, SSLContext, SSLError, SSLWantReadError, SSLZeroReturnError
from typing import TYPE_CHECKING, Any

from wshost.fastnet.negotiation import NO_APPLICATION_PROTOCOL, ClientHello

if TYPE_CHECKING:
    import socket

    from aiofastnet.selector_transport import SelectorSocketTransport
else:
    try:
        from wshost.fastnet.socket_transport import SocketTransport as SelectorSocketTransport
    except ImportError:  # where nothing is compiled
        from aiofastnet.selector_transport import SelectorSocketTransport

#: How many seconds a peer has for its part of the handshake, and of closing. Twisted's own TLS has no such limits.
HANDSHAKE_TIMEOUT = 15.0
SHUTDOWN_TIMEOUT = 10.0
#: In so many parts these times are counted: however long the process stands still, for the peer it is one of them.
PARTS = 10

#: A record's head; how much one holds at most, and how much longer encryption may make that (RFC 5246 §6.2.3).
_HEAD, _RECORD, _EXPANSION = 5, 1 << 14, 2048
#: So many records are read at once. Those that hold no data, such as new keys, cost a lot, and a peer may send nothing
#: else: each is paid for from an allowance, in bytes, to which data adds.
_AT_ONCE = 64
_ALLOWANCE, _PRICE = 32 << 14, 1 << 14
#: What TLS may have to say by itself, answering new keys, while the peer does not read: nobody else counts that.
_ANSWERS = 1 << 14
#: How much is encrypted at once. The buffers grow to that, and no further.
_PIECE = 1 << 18

# Where it stands. In the first, the transport below is not ready to be closed; in the fourth, we have sent our
# close_notify, and nothing that comes is told; in the last, nothing goes in or out.
STARTING, SHAKING, OPEN, CLOSING, LOST = range(5)


class Buffers:
    """What OpenSSL reads from and writes to.

    Both are empty whenever no call into OpenSSL is under way, so all connections of a thread can have the same.
    """

    __slots__ = ("busy", "incoming", "outgoing", "put", "take")

    def __init__(self) -> None:
        self.incoming = MemoryBIO()
        self.outgoing = MemoryBIO()
        # What every record needs, looked up once.
        self.put = self.incoming.write
        self.take = self.outgoing.read
        #: A call is under way: who comes between, by a signal or the collector, has to wait.
        self.busy = False

    def leave(self) -> bytes:
        """End a call; return what OpenSSL has to say by itself, or has encrypted. What it has not read is lost."""
        try:
            if self.incoming.pending:
                self.incoming.read()
            output: bytes = self.take()
        finally:
            self.busy = False
        return output


_thread = threading.local()


def buffers() -> Buffers:
    """Return this thread's."""
    try:
        found: Buffers = _thread.buffers
    except AttributeError:
        found = _thread.buffers = Buffers()
    return found


def _whole(data: bytes, start: int) -> int:
    """Return where the last of the next whole records ends; the end when OpenSSL will refuse what comes."""
    size = len(data)
    end = start
    left = _AT_ONCE
    while left and size - end >= _HEAD:
        left -= 1
        length = data[end + 3] << 8 | data[end + 4]
        # The types of content, and the first byte of all versions.
        if not 20 <= data[end] <= 23 or data[end + 1] != 3 or length > _RECORD + _EXPANSION:
            return size
        if end + _HEAD + length > size:
            break
        end += _HEAD + length
    return end


def _count(data: bytes) -> int:
    """Return how many records that are."""
    count = end = 0
    while len(data) - end >= _HEAD:
        end += _HEAD + (data[end + 3] << 8 | data[end + 4])
        count += 1
    return count


class TLSTransport:
    """The server's side of one connection.

    :param loop: an event loop.
    :param sock: connected; it will not block from now on.
    :param protocol: is told as an `asyncio.Protocol` is: of the handshake's end by `connection_made`, and, whether or
        not it came to that, of the connection's by `connection_lost`.
    :param context: the server's.
    :param protocols: what it has been told to select by ALPN. Who offers others alone is refused (RFC 7301 §3.2), which
        `ssl` does not do; with none, nobody is.
    """

    __slots__ = (
        "__weakref__",
        "_allowance",
        "_answers",
        "_buffers",
        "_deadline",
        "_error",
        "_hello",
        "_late",
        "_loop",
        "_paused",
        "_protocol",
        "_protocols",
        "_records",
        "_rest",
        "_state",
        "_under",
        "ssl_object",
    )

    def __init__(
        self, loop: Any, sock: socket.socket, protocol: Any, context: SSLContext, protocols: tuple[bytes, ...] = ()
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._state = STARTING
        # The beginning of a record, or what came behind the handshake while reading is paused.
        self._rest = b""
        self._paused = False
        self._protocols = protocols
        # Until what the client offers is known.
        self._hello = ClientHello() if protocols else None
        # For records without data, in bytes; and how much TLS has said that waits.
        self._allowance = _ALLOWANCE
        self._answers = 0
        # What was written from within another's call.
        self._late: list[bytes] | None = None
        # Why it ends, where the transport below can't tell.
        self._error: BaseException | None = None
        self._buffers = buffers()
        #: The connection, as the standard library has it.
        self.ssl_object = context.wrap_bio(self._buffers.incoming, self._buffers.outgoing, server_side=True)
        # What that is made of, if it still is: its methods in Python do no more than call these.
        self._records: Any = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self._wait(PARTS)
        self._under = SelectorSocketTransport(loop, sock, self)
        # Only behind what that has scheduled itself can it be closed.
        loop.call_soon(self._start)

    def _start(self) -> None:
        if self._state == LOST:
            self._under.abort()
        else:
            self._state = SHAKING

    def _wait(self, parts: int) -> None:
        """Time out after so many parts of the handshake's time."""
        if parts:
            self._deadline = self._loop.call_later(HANDSHAKE_TIMEOUT / PARTS, self._wait, parts - 1)
        else:
            self._time_out()

    # What the transport below calls

    def connection_made(self, transport: Any) -> None:
        """Nothing: the handshake comes first."""

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        start, size = 0, len(data)
        while True:
            end = _whole(data, start)
            if end == start:
                break
            self._take(data if end - start == size else data[start:end])
            start = end
            if self._paused or self._state == LOST:
                break
        if start < size:
            self._rest += data[start:]

    def _take(self, data: bytes) -> None:
        """Look at whole records."""
        if self._state <= SHAKING:
            data = self._shake(data)
            if self._paused:
                self._rest = data
                return
        if data and self._state != LOST:
            self._read(data)

    def eof_received(self) -> bool:
        # An end without close_notify may be an attacker's; who is told decides by what it was told before.
        if self._state <= SHAKING:
            self._error = ConnectionResetError()
        self.abort()
        return False

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._state = LOST
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(self._error or exc)

    # Input

    def _shake(self, data: bytes) -> bytes:
        """Go on with the handshake; return what comes behind it."""
        if self._hello is not None and not self._accepts(self._hello.feed(data)):
            return b""
        buffers = self._buffers
        failure = None
        done = False
        rest = b""
        buffers.busy = True
        try:
            buffers.put(data)
            self.ssl_object.do_handshake()
            done = True
            rest = buffers.incoming.read()
        except SSLWantReadError:
            pass
        except SSLError as error:
            failure = error
        finally:
            output = buffers.leave()
        if output:
            # When it has failed, that is an alert which says why (RFC 8446 §6.2).
            self._under.write_nocheck(output)
        if failure is not None:
            self._fail(failure)
        elif done and self._state <= SHAKING:
            self._deadline.cancel()
            self._deadline = None
            self._state = OPEN
            self._protocol.connection_made(self)
        return rest

    def _accepts(self, offered: tuple[bytes, ...] | None) -> bool:
        """Look at what the client offers by ALPN, as soon as that is known; False when it has been refused."""
        if offered is not None:
            self._hello = None
            if offered and not set(offered).intersection(self._protocols):
                self._under.write_nocheck(NO_APPLICATION_PROTOCOL)
                self._fail(SSLError("the client speaks no protocol of ours (ALPN)"))
                return False
        return True

    def _read(self, data: bytes) -> None:
        """Decrypt whole records, and tell what they say."""
        buffers = self._buffers
        incoming = buffers.incoming
        said = b""
        count = 0
        chunks: list[bytes] | None = None
        failure = None
        ended = False
        # None has more in it.
        size = min(len(data), _RECORD)
        buffers.busy = True
        try:
            buffers.put(data)
            while chunk := self._records.read(size):
                count += 1
                # Mostly it is one.
                if not said:
                    said = chunk
                elif chunks is None:
                    chunks = [said, chunk]
                else:
                    chunks.append(chunk)
                if not incoming.pending:
                    break
            else:
                ended = True
        except SSLWantReadError:
            # The last was none of the protocol's; it may have brought a new key.
            pass
        except SSLZeroReturnError:
            ended = True
        except SSLError as error:
            failure = error
        finally:
            output = buffers.leave()
        if output:
            self._answer(output)
        if chunks is not None:
            said = b"".join(chunks)
        idle = _count(data) - count
        if idle or self._allowance < _ALLOWANCE:
            self._allowance = min(_ALLOWANCE, self._allowance + len(said)) - idle * _PRICE
        if said and self._state == OPEN:
            self._protocol.data_received(said)
        if failure is not None:
            self._fail(failure)
        elif ended:
            self._end()
        elif self._allowance < 0:
            self._fail(ConnectionAbortedError("too many TLS records without data"))

    def _answer(self, output: bytes) -> None:
        """Send what TLS says by itself."""
        self._under.write_nocheck(output)
        self._answers = self._answers + len(output) if self._under.get_write_buffer_size() else 0
        if self._answers > _ANSWERS:
            self._fail(ConnectionAbortedError("the peer asks for new TLS keys, and reads none"))

    def pause_reading(self) -> None:
        self._paused = True
        self._under.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self._rest:
            # That comes first.
            self._loop.call_soon(self._go_on)
        else:
            self._under.resume_reading()

    def _go_on(self) -> None:
        if not self._paused and self._state != LOST:
            self.data_received(b"")
            if not self._paused and self._state != LOST:
                self._under.resume_reading()

    # Output

    def write_nocheck(self, data: bytes) -> None:
        """Encrypt these bytes and send them, or what is left of them when the socket can take it."""
        if self._state != OPEN or not data:
            return
        if self._buffers.busy or self._late is not None:
            if self._late is None:
                self._late = []
                self._loop.call_soon(self._catch_up)
            self._late.append(data)
            return
        try:
            output = self._encrypt(data) if len(data) <= _PIECE else self._encrypt_long(data)
        except SSLError as error:
            self._fail(error)
        else:
            # At once: the protocol may write more when it hears how much waits.
            self._under.write_nocheck(output)

    def _catch_up(self) -> None:
        late, self._late = self._late, None
        self.write_nocheck(b"".join(late or ()))

    def _encrypt(self, data: bytes | memoryview) -> bytes:
        buffers = self._buffers
        output = b""
        buffers.busy = True
        try:
            sent = self._records.write(data)
            while sent < len(data):
                # Not every OpenSSL takes more than a record.
                sent += self._records.write(memoryview(data)[sent:])
        finally:
            output = buffers.leave()
        return output

    def _encrypt_long(self, data: bytes) -> bytes:
        view = memoryview(data)
        return b"".join([self._encrypt(view[start : start + _PIECE]) for start in range(0, len(data), _PIECE)])

    def get_write_buffer_size(self) -> int:
        size: int = self._under.get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self._under.set_write_buffer_limits(high, low)

    # The end

    def close(self) -> None:
        """Close it, behind what waits, and then when the peer has answered; in the handshake, at once."""
        if self._state < OPEN:
            self.abort()
        elif self._state == OPEN:
            if self._buffers.busy or self._late is not None:
                self._loop.call_soon(self.close)
            else:
                self._notify()

    def _notify(self) -> None:
        """Send our close_notify: from now on only the peer's counts."""
        self._state = CLOSING
        buffers = self._buffers
        buffers.busy = True
        try:
            self.ssl_object.unwrap()
        except SSLError:
            # The peer's is not there yet.
            pass
        finally:
            output = buffers.leave()
        self._under.write_nocheck(output)
        self._look(PARTS, self.get_write_buffer_size())
        self.resume_reading()

    def _look(self, parts: int, left: int) -> None:
        """Time out after so many parts of the time for closing, in which no less than that is left to be sent."""
        now = self.get_write_buffer_size()
        if now < left:
            parts = PARTS
        if parts:
            self._deadline = self._loop.call_later(SHUTDOWN_TIMEOUT / PARTS, self._look, parts - 1, now)
        else:
            self._time_out()

    def _end(self) -> None:
        """The peer has sent its close_notify."""
        if self._state == OPEN:
            self._protocol.eof_received()
        if self._state == OPEN:
            self._notify()
        self._under.close()

    def _time_out(self) -> None:
        self._fail(TimeoutError("the peer took too long for its part of TLS's handshake, or of closing"))

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.abort()

    def abort(self) -> None:
        """Close it; what waits is lost, and the peer is told nothing."""
        starting = self._state == STARTING
        self._state = LOST
        if not starting:
            self._under.abort()
