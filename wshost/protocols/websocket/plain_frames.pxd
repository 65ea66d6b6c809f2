# Types for Cython: those of plain_frames.py, and the functions that are called from C. Data is read by a pointer in C.

cimport cython
from wshost.protocols.websocket.masking cimport framed, unmask, unmask_text

cdef int TEXT, BINARY, DEFLATED_TEXT, DEFLATED_BINARY, CLOSE, NORMAL, GOING_AWAY

@cython.locals(first=int, size=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t)
cpdef tuple take(bytes data, Py_ssize_t at, Py_ssize_t limit)
@cython.locals(first=int, size=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t)
cpdef tuple take_deflated(bytes data, Py_ssize_t at, Py_ssize_t limit)
@cython.locals(size=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, payload=bytes, code=int)
cpdef tuple take_close(bytes data, Py_ssize_t at)
@cython.locals(first=int, size=Py_ssize_t, start=Py_ssize_t)
cpdef tuple head(bytes data, Py_ssize_t at, Py_ssize_t limit)
@cython.locals(least=Py_ssize_t, size=Py_ssize_t, start=Py_ssize_t)
cdef (int, Py_ssize_t, Py_ssize_t) _plain(
    const unsigned char* data, Py_ssize_t at, Py_ssize_t length, Py_ssize_t limit, int text
) noexcept
@cython.locals(size=Py_ssize_t, start=Py_ssize_t)
cpdef Py_ssize_t frame_size(bytes data, Py_ssize_t at) except -2
@cython.locals(masked=int, size=Py_ssize_t, start=Py_ssize_t)
cdef (Py_ssize_t, Py_ssize_t) _extent(const unsigned char* data, Py_ssize_t at, Py_ssize_t length) noexcept
cpdef bytes frame(data)
cpdef bytes deflated_frame(bytes payload, bint is_binary)
