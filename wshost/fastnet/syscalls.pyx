# cython: language_level=3
"""The functions of `syscalls.py` in C; its docstrings say what each does.

None of them releases the GIL: the calls don't block, and another thread that gets the GIL may keep it for milliseconds.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EINTR, errno

cdef extern from *:
    """
    #include <sys/socket.h>
    /* Not every system has it. Python ignores the signal anyway. */
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    """
    Py_ssize_t c_recv "recv"(int fd, void* buffer, size_t size, int flags)
    Py_ssize_t c_send "send"(int fd, const void* buffer, size_t size, int flags)
    int MSG_NOSIGNAL

cdef enum:
    SIZE = 262144

READ_SIZE = SIZE

# All connections read into this buffer. Its content is copied to bytes before the next read.
cdef char shared[SIZE]


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


cpdef Py_ssize_t send(int fd, data, Py_ssize_t start) except -1:
    cdef Py_ssize_t count
    # A type in the signature would let None pass.
    if not isinstance(data, bytes):
        raise TypeError("what is sent is bytes")
    if not 0 <= start <= PyBytes_GET_SIZE(data):
        raise ValueError("the start is not in the data")
    while True:
        count = c_send(fd, PyBytes_AS_STRING(data) + start, PyBytes_GET_SIZE(data) - start, MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
