# Types for Cython: the attributes of deflate.py, and the methods that are called from C.

cimport cython

cdef class Deflater:
    cdef object __weakref__
    cdef public int _window_bits
    cdef public bint _takeover
    cdef public object _stream

    cpdef bytes deflate(self, bytes message)

cdef class Inflater:
    cdef object __weakref__
    cdef public int _window_bits
    cdef public Py_ssize_t _limit, _left, _size, streams
    cdef public bint _takeover, _ended
    cdef public object _stream
    cdef public bytearray _window

    @cython.locals(size=Py_ssize_t, limit=Py_ssize_t)
    cpdef bytes inflate(self, bytes payload)
    cpdef begin(self)
    cpdef bytes add(self, bytes payload)
    cpdef end(self)
    cpdef bytes _add(self, bytes payload)
    cpdef _remember(self, bytes inflated, Py_ssize_t size)
    cpdef _end_final(self, bytes cut)
    cpdef _forget(self)
    cpdef _begin_stream(self)
    cpdef bytes _end_stream(self)
    cpdef bytes _go_on(self, bytes payload, bytes before)
