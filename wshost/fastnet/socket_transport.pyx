# cython: language_level=3
"""A connected socket on an event loop, with the part of aiofastnet's SelectorSocketTransport that `transport.py` uses.

That one has room for 256 buffers in each connection, which are 4 KB; this one reads into one buffer for all of them.
Knows nothing of Twisted.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno

from collections import deque
import os
import socket

cdef extern from *:
    """
    #include <sys/socket.h>
    /* Not everybody has it; Python ignores the signal anyway. */
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    """
    Py_ssize_t c_recv "recv"(int fd, void* buffer, size_t size, int flags)
    Py_ssize_t c_send "send"(int fd, const void* buffer, size_t size, int flags)
    int MSG_NOSIGNAL

cdef enum:
    #: What is read at once, in bytes; and it is others' turn after that.
    SIZE = 262144

cdef char shared[SIZE]


cdef inline bint again(int error) noexcept:
    """Say whether the socket is merely not ready."""
    return error == EAGAIN or error == EINTR


cdef class Layer:
    """A socket, TLS above it, or Twisted's transport above either: what each calls of its neighbours for every message.

    The others say in their .pxd that this is their base. It is only for C, which looks no method up then.
    """

    cpdef data_received(self, data):
        """Take what the layer below has received."""

    cpdef write_nocheck(self, data):
        """Take what the layer above has to send."""


cdef class SocketTransport(Layer):
    """One socket.

    :param loop: an event loop with `add_reader` and `add_writer`.
    :param sock: connected; it will not block from now on.
    :param protocol: is told as an `asyncio.Protocol` is, but for `connection_made`.
    """

    # What every write needs is side by side.
    cdef int _fd
    cdef bint _lost, _eof
    cdef Py_ssize_t _waiting
    cdef object __weakref__
    cdef object _loop, _sock, _protocol
    cdef object _backlog, _buffer
    cdef Py_ssize_t _high, _low, _filled
    cdef bint _reading, _paused, _closing, _blocked

    def __init__(self, loop, sock, protocol):
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        # What `accept` returns blocks, on Linux, whatever the listening socket does.
        sock.setblocking(False)
        self._fd = sock.fileno()
        self._high = self._low = 65536
        loop.add_reader(self._fd, self._read_ready)
        self._reading = True

    # Input

    def _read_ready(self):
        cdef Py_ssize_t size
        if not self._reading:
            return
        if self._buffer is not None:
            self._fill()
            return
        # It does not block: to let go of the GIL would only invite other threads to keep it.
        size = c_recv(self._fd, shared, SIZE, 0)
        self._received(size, False, errno)

    cdef _fill(self):
        """Read into the protocol's buffer."""
        cdef:
            Py_buffer view
            Py_ssize_t size, room
            int error
        PyObject_GetBuffer(self._buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        room = view.len - self._filled
        size = c_recv(self._fd, <char*>view.buf + self._filled, min(room, SIZE), 0)
        error = errno
        PyBuffer_Release(&view)
        if size > 0:
            self._filled += size
            if size == room:
                self._buffer = None
        self._received(size, True, error)

    cdef _received(self, Py_ssize_t size, bint filled, int error):
        """Tell the protocol what was read, or the end."""
        if size < 0:
            if not again(error):
                self._fail(error)
            return
        try:
            if size > 0:
                if filled:
                    self._protocol.buffer_updated(size)
                elif isinstance(self._protocol, Layer):
                    (<Layer>self._protocol).data_received(PyBytes_FromStringAndSize(shared, size))
                else:
                    self._protocol.data_received(PyBytes_FromStringAndSize(shared, size))
            elif self._protocol.eof_received():
                self._stop_reading()
            else:
                self.close()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:
            # First the end: to report it may fail, too.
            self._lose(failure)
            self._report("the protocol failed on what was read", failure)

    cdef _stop_reading(self):
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def receive_into(self, buffer):
        """Read into this, and tell the protocol by `buffer_updated`, until it is full.

        :param buffer: writable and contiguous; None for none any more.
        """
        cdef Py_buffer view
        if buffer is not None:
            # Of our own: what it is of can't be made smaller then, or be taken away.
            buffer = memoryview(buffer)
            PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
            PyBuffer_Release(&view)
            if not view.len:
                raise ValueError("there is no room in the buffer")
        self._buffer = None if self._lost else buffer
        self._filled = 0

    def pause_reading(self):
        if not self._closing:
            self._stop_reading()

    def resume_reading(self):
        if not self._closing and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._read_ready)

    # Output

    cpdef write_nocheck(self, data):
        """Send these bytes, or what is left of them when the socket can take it."""
        cdef Py_ssize_t size, sent = 0
        # Not by a type: that would take None, and no subclasses.
        if not isinstance(data, bytes):
            raise TypeError(f"what is written is bytes, not {type(data).__name__}")
        size = PyBytes_GET_SIZE(data)
        if self._lost or self._eof or not size:
            return
        if not self._waiting:
            sent = self._send(data, 0)
            if sent == size or sent < 0:
                return
            if self._backlog is None:
                self._backlog = deque()
            self._loop.add_writer(self._fd, self._write_ready)
        self._backlog.append((data, sent))
        self._waiting += size - sent
        self._tell()

    cdef Py_ssize_t _send(self, data, Py_ssize_t start) except -2:
        """Return where what could not be sent begins, -1 when the connection is broken."""
        cdef:
            Py_ssize_t sent
            const char* p = PyBytes_AS_STRING(data) + start
            Py_ssize_t size = PyBytes_GET_SIZE(data) - start
        sent = c_send(self._fd, p, size, MSG_NOSIGNAL)
        if sent >= 0:
            return start + sent
        if again(errno):
            return start
        self._fail(errno)
        return -1

    def _write_ready(self):
        cdef Py_ssize_t sent
        if self._lost:
            return
        while self._waiting:
            data, start = self._backlog[0]
            sent = self._send(data, start)
            if sent < 0:
                return
            self._waiting -= sent - <Py_ssize_t>start
            if sent < PyBytes_GET_SIZE(data):
                self._backlog[0] = (data, sent)
                break
            self._backlog.popleft()
        if not self._waiting:
            self._backlog = None
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._lose(None)
            elif self._eof:
                self._shut()
        self._tell()

    cdef _tell(self):
        """Tell the protocol when too much waits, and when little does."""
        if self._lost:
            return
        try:
            if not self._blocked and self._waiting > self._high:
                self._blocked = True
                self._protocol.pause_writing()
            elif self._blocked and self._waiting <= self._low:
                self._blocked = False
                self._protocol.resume_writing()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # That is not the writer's fault, and no end of the connection.
            self._report("the protocol failed to pause or resume writing", error)

    def get_write_buffer_size(self):
        return self._waiting

    def set_write_buffer_limits(self, high, low):
        self._high = high
        self._low = low
        self._tell()

    def write_eof(self):
        """Close our half, behind what waits."""
        if self._eof or self._closing:
            return
        self._eof = True
        if not self._waiting:
            self._shut()

    cdef _shut(self):
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            # It is broken; the next read says so.
            pass

    # The end

    def close(self):
        """Close it, behind what waits."""
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if not self._waiting:
            self._lose(None)

    def abort(self):
        """Close it; what waits is lost."""
        self._lose(None)

    cdef _report(self, message, error):
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    cdef _fail(self, int error):
        self._lose(OSError(error, os.strerror(error)))

    cdef _lose(self, error):
        if self._lost:
            return
        self._lost = self._closing = True
        self._stop_reading()
        self._buffer = None
        if self._waiting:
            self._waiting = 0
            self._backlog = None
            self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._end, error)

    def _end(self, error):
        protocol, self._protocol = self._protocol, None
        try:
            protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._sock = None
            self._loop = None
