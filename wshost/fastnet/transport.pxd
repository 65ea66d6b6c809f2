# Types for Cython: the methods of transport.py that are called from C.

from wshost.fastnet.output cimport Output

cdef object _OPEN, _CLOSED

cdef class Transport(Output):
    cpdef data_received(self, data)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef eof_received(self)
    cdef bint _is_read_from(self) except -1
