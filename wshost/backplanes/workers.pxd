# Types for Cython: the attributes of workers.py, and the methods that are called from C.

cimport cython

cdef class Neighbour:
    cdef object __weakref__
    cdef object _loop, _socket, _received, _lost
    cdef bytearray _in
    cdef list _out
    cdef bint _blocked
    cdef public Py_ssize_t waiting
    cdef public bint synced, closed

    cpdef write(self, bytes data)
    cpdef flush(self)
    cpdef _write(self)
    cpdef _read(self)

cdef class WorkersBackplane:
    cdef object __weakref__
    cdef object _loop, _reactor, _receiver, _connecting, _timeout
    cdef Py_ssize_t _buffer
    cdef public dict _neighbours
    cdef dict _own, _subjects, _patterns
    cdef list _early
    cdef bint _scheduled, _closed, _complete

    @cython.locals(frame=bytes, taken=bint, neighbour=Neighbour)
    cpdef publish(self, subject, payload)
    cdef dict _wanted(self, subject)
    cdef _flush_later(self)
    @cython.locals(neighbour=Neighbour)
    cpdef flush(self)
