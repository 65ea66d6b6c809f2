# Types for Cython: the attributes of thread.py, and the methods that are called from C.

cdef class ReactorThread:
    cdef object __weakref__
    cdef object _reactor, _ident, _lock
    cdef dict _waiting

    cpdef bint is_current(self) except -1
