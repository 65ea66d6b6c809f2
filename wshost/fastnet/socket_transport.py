"""A connected socket on an event loop: the lowest layer of a connection. Knows nothing of TLS and of Twisted.

It is small, as a server may have ten thousand of them. It keeps bytes that wait to be sent, but no received bytes.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress

from wshost.fastnet.layers import EventLoop, Layer, Upper
from wshost.fastnet.syscalls import recv, recv_into, send

#: While more bytes than this are unsent, the layer above is asked to pause writing, as by Twisted's own transports.
HIGH_WATER = 1 << 16


class SocketTransport(Layer):
    """One socket.

    :param loop: watches the socket.
    :param sock: a connected socket. It is made non-blocking, and closed at the end.
    :param protocol: the layer above.
    """

    def __init__(self, loop: EventLoop, sock: socket.socket, protocol: Upper) -> None:
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        self._fd = sock.fileno()
        # The unsent pieces in order; their size without the sent part; how much of the first piece has been sent.
        self._backlog: deque[bytes] | None = None
        self._unsent = 0
        self._sent = 0
        self._high = HIGH_WATER
        self._low = 0
        self._protocol_paused = False
        # The buffer to read into, and how much of it is filled.
        self._buffer: memoryview | None = None
        self._filled = 0
        # The peer has reset the connection. What it has sent before is read first.
        self._reset: OSError | None = None
        # Our half is closed after the bytes that are being written.
        self._last = False
        # Whether the protocol has written since the last read.
        self._wrote = False
        # Three stages of the end: nothing more is written; the connection ends when all is sent; it has ended.
        self._eof = False
        self._closing = False
        self._lost = False
        loop.add_reader(self._fd, self._read_ready)
        self._reading = True
        # The loop watches the socket. That goes on while reading is paused, until something comes: mostly reading is
        # resumed before, and the loop's system calls are saved.
        self._watched = True

    # Input

    def _read_ready(self) -> None:
        if not self._reading:
            self._stop_watching()
            return
        data = b""
        filled = 0
        try:
            if self._buffer is None:
                data = recv(self._fd)
            else:
                filled = recv_into(self._fd, self._buffer, self._filled)
                self._filled += filled
                if self._filled == len(self._buffer):
                    self._buffer = None
        except BlockingIOError:
            return
        except OSError as error:
            self._force_close(error)
            return
        if self._reset is not None and not data and not filled:
            self._force_close(self._reset)
            return
        self._wrote = False
        try:
            if data:
                self._protocol.data_received(data)
            elif filled:
                self._protocol.buffer_updated(filled)
            elif self._protocol.eof_received():
                self._stop_reading()
            else:
                self.close()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:
            # Close first: reporting may fail, too.
            self._force_close(failure)
            self._report("the protocol failed on what was read", failure)
            return
        if self._reading:
            self._notice_reset()

    def _notice_reset(self) -> None:
        """See to the end of a connection that the peer has reset just behind the last data.

        When the kernel has both at once, uvloop calls the reader once, and watches no more (`UVPoll._fatal_error`).
        `process/reactors.py` does the same after reads of Twisted's own transports: neither package may import the
        other.
        """
        # A write would have met the reset.
        if not self._wrote and self._reset is None:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._reset = OSError(code, os.strerror(code))
                self._read_rest_later()

    def _read_rest_later(self) -> None:
        self._loop.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        """Read what came before a reset, a piece a turn. When reading is paused, `resume_reading` lets it go on."""
        if self._reading:
            self._read_ready()
            if self._reading:
                self._read_rest_later()

    def receive_into(self, buffer: memoryview | None) -> bool:
        """Read into this buffer, and call the protocol's `buffer_updated`, until the buffer is full.

        :param buffer: writable, of bytes, not empty, and not released meanwhile; None ends this before it is full.
        :returns: True, as this layer supports it.
        """
        self._buffer = None if self._lost else buffer
        self._filled = 0
        return True

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._closing:
            paused, self._reading = not self._reading, True
            if not self._watched:
                self._watched = True
                self._loop.add_reader(self._fd, self._read_ready)
            elif paused:
                self._notice_reset()
            if paused and self._reset is not None:
                self._read_rest_later()

    def _stop_watching(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._fd)

    def _stop_reading(self) -> None:
        self._reading = False
        self._stop_watching()

    # Output

    def write_nocheck(self, data: bytes) -> None:
        size = len(data)
        if self._lost or self._eof or not size:
            return
        self._wrote = True
        if self._backlog is None:
            sent = self._send(data, 0)
            if sent == size or self._lost:
                return
            self._backlog = deque()
            self._sent = sent
            size -= sent
            self._loop.add_writer(self._fd, self._write_ready)
        self._backlog.append(data)
        self._unsent += size
        self._pause_or_resume_protocol()

    def write_last(self, data: bytes) -> None:
        """Write the last bytes before `write_eof` or `close`, which must follow soon: one packet may have both."""
        self._last = True
        try:
            self.write_nocheck(data)
        finally:
            self._last = False

    def _send(self, data: bytes, start: int) -> int:
        """Return how many bytes the kernel has taken; 0 when the connection is broken, which also closes it."""
        try:
            return send(self._fd, data, start, self._last)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._force_close(error)
            return 0

    def _write_ready(self) -> None:
        # The loop may have queued this call before the end.
        while self._backlog is not None:
            data = self._backlog[0]
            sent = self._send(data, self._sent)
            if self._lost:
                return
            self._unsent -= sent
            self._sent += sent
            if self._sent < len(data):
                break
            self._backlog.popleft()
            self._sent = 0
            if not self._backlog:
                # All is sent: now close the connection or our half, if this was asked for.
                self._backlog = None
                self._loop.remove_writer(self._fd)
                if self._closing:
                    self._force_close(None)
                elif self._eof:
                    self._shut_down_writing()
        self._pause_or_resume_protocol()

    def _pause_or_resume_protocol(self) -> None:
        """Tell the protocol when too much is unsent, and when little enough is."""
        if self._lost:
            return
        try:
            if not self._protocol_paused and self._unsent > self._high:
                self._protocol_paused = True
                self._protocol.pause_writing()
            elif self._protocol_paused and self._unsent <= self._low:
                self._protocol_paused = False
                self._protocol.resume_writing()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # The caller, which writes, is not to blame, and the connection goes on.
            self._report("the protocol failed to pause or resume writing", error)

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self._high = high
        self._low = low
        self._pause_or_resume_protocol()

    def write_eof(self) -> None:
        """Close our half when all is sent."""
        if self._eof or self._closing:
            return
        self._eof = True
        if self._backlog is None:
            self._shut_down_writing()

    def _shut_down_writing(self) -> None:
        with suppress(OSError):  # the connection is broken, and the next read says so
            self._sock.shutdown(socket.SHUT_WR)

    # The end

    def close(self) -> None:
        """Close the connection when all is sent."""
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if self._backlog is None:
            self._force_close(None)

    def abort(self) -> None:
        """Close the connection at once; unsent bytes are lost."""
        self._force_close(None)

    def detach(self) -> bool:
        """Stop to use the socket, and leave it open: another process has a copy. The protocol is not called any more.

        :returns: False if that would lose something: bytes wait, in either direction, or the connection ends.
        """
        if self._closing or self._eof or self._backlog is not None:
            return False
        if self._buffer is not None or self._reset is not None:
            return False
        self._lost = self._closing = True
        self._stop_reading()
        # Break the reference cycle.
        self._protocol = None  # type: ignore[assignment]
        return True

    def _force_close(self, error: BaseException | None) -> None:
        """Close the connection, and tell the protocol in the next turn of the loop.

        :param error: why, for `connection_lost`.
        """
        if self._lost:
            return
        self._lost = self._closing = True
        self._stop_reading()
        self._buffer = None
        if self._backlog is not None:
            self._backlog = None
            self._unsent = 0
            self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        protocol = self._protocol
        # Break the reference cycle. The protocol is not called any more after this.
        self._protocol = None  # type: ignore[assignment]
        try:
            protocol.connection_lost(error)
        finally:
            self._sock.close()

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )
