# What Cython makes of stream.py: the types of its attributes, and what is called from C.

cdef class Stream:
    # What is published needs these of each of a thousand: they are side by side.
    cdef public object transport
    cdef public bint full, _closing, _blocked
    cdef public Py_ssize_t _queued, _handed, _max_output
    cdef object __weakref__
    cdef public str id
    cdef public object _host
    cdef public list _out
    cdef public bint _dirty, _paused_by_module, _paused, _ended, _peer_ended
    cdef public object _stall, _deadline, _reason

    cpdef _write(self, data)
    cpdef _flush(self)
    cpdef _flush_later(self)
    cpdef bint deliver(self, bytes data, bint large) except -1
