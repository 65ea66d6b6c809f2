# Types for Cython: the attributes of tls_transport.py, and the methods that are called from C.

cimport cython
from wshost.fastnet.layers cimport Layer
from wshost.fastnet.tls_records cimport Buffers, count_records, end_of_records, shared_buffers

cdef int _HANDSHAKING, _OPEN, _CLOSING, _LOST
cdef Py_ssize_t _CONTENT, _ALLOWANCE, _PRICE, _MOST_ANSWERS, _PIECE, _HELD, _GROUPS

cdef class TLSTransport(Layer):
    cdef public object ssl_object, _records
    cdef object _deadline, _deferred, _error, _handshake, _loop
    cdef Layer _protocol, _transport
    cdef Buffers _buffers
    cdef bytes _rest, _held
    cdef Py_ssize_t _allowance, _answers
    cdef int _state
    cdef bint _paused, _receiving, _rest_due

    cpdef data_received(self, data)
    @cython.locals(start=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t, groups=Py_ssize_t, records=bytes)
    cdef _receive(self, bytes data)
    cdef _continue_in_next_turn(self)
    cdef _continue_handshake(self, handshake, data)
    cdef _cancel_deadline(self)
    @cython.locals(
        buffers=Buffers,
        size=Py_ssize_t,
        left=Py_ssize_t,
        chunks=list,
        content=bytes,
        ended=bint,
    )
    cdef _decrypt(self, bytes data)
    cdef _send_answer(self, output)
    cdef _read_rest_later(self)
    cdef bint _may_read(self)
    cpdef write_nocheck(self, data)
    @cython.locals(buffers=Buffers, sent=Py_ssize_t)
    cdef bytes _encrypt(self, data)
    cdef bytes _encrypt_long(self, data)
    cdef _send(self, bytes output)
    @cython.locals(output=bytes)
    cdef _send_held(self)
    @cython.locals(buffers=Buffers)
    cdef _send_close_notify(self)
    cdef _answer_close_notify(self)
    cdef _fail(self, error)
    cpdef abort(self)
