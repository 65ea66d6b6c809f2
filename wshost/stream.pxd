# What Cython makes of stream.py: the types of its attributes, and what is called from C.

cdef class Stream:
    cdef object __weakref__
    cdef public str id
    cdef public object transport
    cdef public bint full
    cdef public object _host
    cdef public list _out
    cdef public Py_ssize_t _handed, _queued
    cdef public bint _blocked, _dirty, _paused_by_module, _paused, _closing, _ended, _peer_ended
    cdef public object _stall, _deadline, _reason

    cpdef _write(self, data)
    cpdef _flush(self)
    cpdef _flush_later(self)
    cpdef bint deliver(self, data) except -1
