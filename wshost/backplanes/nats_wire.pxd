# Types for Cython: the attributes of nats_wire.py, and the methods that are called from C.

cimport cython

cdef class Parser:
    cdef object _received, _told
    cdef public object limit
    cdef list _held
    cdef Py_ssize_t _size, _needed
    cdef public dict _heads
    cdef bint _stopped

    @cython.locals(
        heads=dict, end=Py_ssize_t, position=Py_ssize_t, needed=Py_ssize_t, line_end=Py_ssize_t, start=Py_ssize_t,
        headers=Py_ssize_t, size=Py_ssize_t, stop=Py_ssize_t, head=bytes
    )
    cpdef feed(self, bytes data)

cpdef bytes pub(str subject, bytes payload)
