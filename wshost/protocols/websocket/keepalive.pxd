# Types for Cython: the attributes of keepalive.py.

cdef class Keepalive:
    cdef object __weakref__
    cdef object _context, _driver, _seconds
    cdef double _interval, _timeout

cdef class MessageDeadline:
    cdef object __weakref__
    cdef object _context, _driver, _incoming
    cdef double _timeout
    cdef public bint running

cdef class ControlRate:
    cdef object __weakref__
    cdef object _seconds
    cdef double _allowance, _since
