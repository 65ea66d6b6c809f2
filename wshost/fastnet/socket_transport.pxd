# Types for Cython: the attributes of socket_transport.py, and the methods that are called from C.

cimport cython
from wshost.fastnet.layers cimport Layer
from wshost.fastnet.syscalls cimport recv, recv_into, send

cdef class SocketTransport(Layer):
    # Every write reads these. So they are side by side in memory.
    cdef int _fd
    cdef bint _lost, _eof, _wrote, _last
    cdef object _backlog
    cdef Layer _protocol
    cdef bint _reading, _watched, _closing, _protocol_paused
    cdef object _buffer, _loop, _reset, _sock
    cdef Py_ssize_t _unsent, _sent, _high, _low, _filled

    @cython.locals(data=bytes, filled=Py_ssize_t)
    cpdef _read_ready(self)
    cdef _stop_watching(self)
    cdef _notice_reset(self)
    cdef _read_rest_later(self)
    cdef _stop_reading(self)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t)
    cpdef write_nocheck(self, data)
    cdef Py_ssize_t _send(self, data, Py_ssize_t start) except -1
    @cython.locals(sent=Py_ssize_t)
    cpdef _write_ready(self)
    cdef _pause_or_resume_protocol(self)
    cdef _shut_down_writing(self)
    cdef _force_close(self, error)
    cdef _report(self, message, error)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef write_last(self, data)
    cpdef write_eof(self)
    cpdef close(self)
    cpdef abort(self)
    cpdef _call_connection_lost(self, error)
