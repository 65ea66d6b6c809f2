# Types for Cython: the attributes of sequence.py, and the methods that are called from C.

cdef class Outgoing:
    cdef Py_ssize_t _most
    cdef object _epoch, _subjects

    cpdef count(self, subject, messages)

cdef class Incoming:
    cdef Py_ssize_t _most
    cdef object _over

    cpdef count(self, sender, subject, epoch, before, messages)
