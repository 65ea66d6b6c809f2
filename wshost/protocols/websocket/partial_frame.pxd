# Types for Cython: the attributes of partial_frame.py.

cimport cython

cdef class PartialFrame:
    cdef readonly Py_ssize_t size, left
    cdef bint _is_between, _is_text
    cdef object _decoder, _payload

    @cython.locals(before=Py_ssize_t, count=Py_ssize_t, room=Py_ssize_t, needed=Py_ssize_t)
    cpdef Py_ssize_t add(self, bytes data, Py_ssize_t at) except -1
    cpdef fill(self, Py_ssize_t count)
    cpdef _check(self, Py_ssize_t before, Py_ssize_t count, bint is_ascii)
