# Types for Cython: the attributes of tls_records.py, and the methods that are called from C.

cimport cython

cdef Py_ssize_t _HEADER, _LONGEST, _AT_ONCE

cdef class Buffers:
    cdef public object incoming, outgoing, write_incoming, read_outgoing
    cdef public bint busy

    cpdef bytes end_call(self)
    cpdef bytes take_output(self)

cpdef Buffers shared_buffers()

@cython.locals(size=Py_ssize_t, end=Py_ssize_t, left=Py_ssize_t, length=Py_ssize_t)
cpdef Py_ssize_t end_of_records(bytes data, Py_ssize_t start) except -1

@cython.locals(count=Py_ssize_t, end=Py_ssize_t)
cpdef Py_ssize_t count_records(bytes data) except -1
