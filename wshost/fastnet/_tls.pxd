# What Cython makes of _tls.py: the types of its attributes, and what is called from C.

cimport cython
from wshost.fastnet._socket cimport Layer

cdef int STARTING, SHAKING, OPEN, CLOSING, LOST
cdef Py_ssize_t _HEAD, _RECORD, _EXPANSION, _PIECE

cdef class Buffers:
    cdef public object incoming, outgoing, put, take
    cdef public bint busy

    cdef bytes leave(self)

@cython.locals(size=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t)
cdef Py_ssize_t _whole(bytes data) except -1

cdef class TLSTransport(Layer):
    cdef object __weakref__
    cdef public object ssl_object, _records
    cdef object _deadline, _error, _late, _loop
    cdef Layer _protocol, _under
    cdef Buffers _buffers
    cdef bytes _rest
    cdef int _state
    cdef bint _paused

    @cython.locals(end=Py_ssize_t)
    cpdef data_received(self, data)
    @cython.locals(buffers=Buffers, done=bint)
    cdef _shake(self, data)
    @cython.locals(buffers=Buffers, size=Py_ssize_t, chunks=list, ended=bint)
    cdef _read(self, data)
    cpdef write_nocheck(self, data)
    @cython.locals(buffers=Buffers, sent=Py_ssize_t)
    cdef bytes _encrypt(self, data)
    cdef bytes _encrypt_long(self, data)
    @cython.locals(buffers=Buffers)
    cdef _notify(self)
    cdef _end(self)
    cdef _fail(self, error)
    cpdef abort(self)
