# cython: language_level=3
"""The functions of `syscalls.py` in C; its docstrings say what each does.

None of them releases the GIL: the calls don't block, and another thread that gets the GIL may keep it for milliseconds.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EINTR, errno

import _socket
import os
import socket

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>

    /* Accepts a connection, and writes an IPv4 peer's address. Other systems than Linux, and other families than IPv4,
       are left to Python: -2. */
    static int accept_ipv4(int fd, char* host, int* port) {
    #if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC) && defined(__linux__)
        struct sockaddr_in name;
        socklen_t size = sizeof name;
        int accepted = accept4(fd, (struct sockaddr*)&name, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0) return -1;
        inet_ntop(AF_INET, &name.sin_addr, host, INET_ADDRSTRLEN);
        *port = ntohs(name.sin_port);
        return accepted;
    #else
        return -2;
    #endif
    }
    /* Not every system has it. Python ignores the signal anyway. */
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifndef MSG_MORE
    #define MSG_MORE 0
    #endif
    """
    Py_ssize_t c_recv "recv"(int fd, void* buffer, size_t size, int flags)
    Py_ssize_t c_send "send"(int fd, const void* buffer, size_t size, int flags)
    int accept_ipv4(int fd, char* host, int* port)
    int MSG_NOSIGNAL, MSG_MORE

cdef enum:
    SIZE = 262144

READ_SIZE = SIZE

# All connections read into this buffer. Its content is copied to bytes before the next read.
cdef char shared[SIZE]


# The family as an int: to look up the member of the enumeration takes longer than the call.
cdef object family_of = _socket.socket.family.__get__
cdef object INET = int(socket.AF_INET)
cdef object STREAM = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


def accept(listening):
    cdef int accepted = -2, port = 0
    cdef char host[64]
    if family_of(listening) == INET:
        while True:
            accepted = accept_ipv4(listening.fileno(), host, &port)
            if accepted != -1:
                break
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
    if accepted < 0:
        sock, name = listening.accept()
        sock.setblocking(False)
        return sock, name
    try:
        return socket.socket(INET, STREAM, 0, accepted), (host.decode("ascii"), port)
    except BaseException:
        os.close(accepted)
        raise


cdef Py_ssize_t read(int fd, void* to, Py_ssize_t size) except -1:
    cdef Py_ssize_t count
    while True:
        count = c_recv(fd, to, size, 0)
        if count >= 0:
            return count
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)


cpdef bytes recv(int fd):
    return PyBytes_FromStringAndSize(shared, read(fd, shared, SIZE))


cpdef Py_ssize_t recv_into(int fd, buffer, Py_ssize_t start) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
    try:
        if not 0 <= start <= view.len:
            raise ValueError("the start is not in the buffer")
        return read(fd, <char*>view.buf + start, min(view.len - start, SIZE))
    finally:
        PyBuffer_Release(&view)


cpdef Py_ssize_t send(int fd, data, Py_ssize_t start, bint last=False) except -1:
    cdef Py_ssize_t count
    cdef int flags = MSG_NOSIGNAL | MSG_MORE if last else MSG_NOSIGNAL
    # A type in the signature would let None pass.
    if not isinstance(data, bytes):
        raise TypeError("what is sent is bytes")
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        raise ValueError("the start is not in the data")
    while True:
        count = c_send(fd, PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start, flags)
        if count >= 0:
            return count
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
