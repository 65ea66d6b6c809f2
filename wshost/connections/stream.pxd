# Types for Cython: the attributes of stream.py, and the methods that are called from C.

cdef class Stream:
    # `send_published` reads these of each of a thousand streams. So they are side by side in memory.
    cdef public object transport
    cdef public bint output_full, closing, blocked
    cdef public Py_ssize_t _queued, _handed_over, _mark, _max_output, kept, bytes_out, published
    cdef object __weakref__
    cdef public str _id
    cdef public object _shared, _drained, unblocked, refill
    cdef public list _out
    cdef public bint reading, _flush_scheduled, paused_by_module, held, patient, _ended, _peer_ended
    cdef public object _stall, _deadline, reason, client
    cdef public double idle_since

    cpdef write(self, data)
    cpdef flush(self)
    cpdef flush_later(self)
    cpdef bint send_published(self, bytes data, Py_ssize_t messages) except -1
    cpdef connect(self, transport)
    cpdef peer_ended(self)
    cpdef lost(self)
    cpdef regulate(self)
    cpdef end_turn(self)
    cpdef close(self, data)
    cpdef abort(self, reason)
    cdef _check_full(self)
    cdef _close_half(self)
