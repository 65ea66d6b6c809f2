# What Cython makes of tls_transport.py: the types of its attributes, and what is called from C.

cimport cython
from wshost.fastnet.socket_transport cimport Layer

cdef int STARTING, SHAKING, OPEN, CLOSING, LOST
cdef Py_ssize_t _HEAD, _RECORD, _EXPANSION, _PIECE, _AT_ONCE, _ALLOWANCE, _PRICE, _ANSWERS

cdef class Buffers:
    cdef public object incoming, outgoing, put, take
    cdef public bint busy

    cdef bytes leave(self)

@cython.locals(size=Py_ssize_t, end=Py_ssize_t, left=Py_ssize_t, length=Py_ssize_t)
cdef Py_ssize_t _whole(bytes data, Py_ssize_t start) except -1

@cython.locals(count=Py_ssize_t, end=Py_ssize_t)
cdef Py_ssize_t _count(bytes data) except -1

cdef class TLSTransport(Layer):
    cdef object __weakref__
    cdef public object ssl_object, _records
    cdef object _deadline, _error, _hello, _late, _loop, _protocols
    cdef Layer _protocol, _under
    cdef Buffers _buffers
    cdef bytes _rest
    cdef Py_ssize_t _allowance, _answers
    cdef int _state
    cdef bint _paused

    @cython.locals(start=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t)
    cpdef data_received(self, data)
    cdef _take(self, data)
    @cython.locals(buffers=Buffers, done=bint)
    cdef _shake(self, data)
    @cython.locals(
        buffers=Buffers, size=Py_ssize_t, count=Py_ssize_t, idle=Py_ssize_t, chunks=list, said=bytes, ended=bint
    )
    cdef _read(self, data)
    cdef _answer(self, output)
    cpdef write_nocheck(self, data)
    @cython.locals(buffers=Buffers, sent=Py_ssize_t)
    cdef bytes _encrypt(self, data)
    cdef bytes _encrypt_long(self, data)
    @cython.locals(buffers=Buffers)
    cdef _notify(self)
    cdef _end(self)
    cdef _fail(self, error)
    cpdef abort(self)
