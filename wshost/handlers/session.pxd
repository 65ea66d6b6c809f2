# Types for Cython: the attributes of session.py, and the methods that are called from C.

cimport cython

cdef object _OPEN, _LOST, _PLAIN

cdef class HandlerSession:
    cdef object __weakref__
    cdef public object _channel, _connection, _handle, _queue, _stage, _state, _terms, _waiting
    cdef public bint busy, has_infos, _message_queued

    cpdef handle_message(self, message)
    @cython.locals(left=Py_ssize_t)
    cpdef _process(self, item)
