# Types for Cython: the attributes of turn.py, and the methods that are called from C.

cdef class Turn:
    cdef object __weakref__
    cdef object _context, _failures, _soon
    cdef list _calls, _deliveries, _streams
    cdef bint _scheduled

    cpdef call_soon(self, connection, call)
    cpdef flush_at_end(self, stream)
    cdef _schedule(self)
