# Types for Cython: the attributes of session.py, and the methods that are called from C.

cimport cython
from wshost.handlers.awaiting cimport begin, is_pending

cdef object _INIT, _OPEN, _CLOSING, _LOST, _OVER, _PLAIN

cdef class HandlerSession:
    cdef object __weakref__
    cdef public object _channel, _connection, _handle, _loop, _queue, _stage, _state, _terms, _waiting
    cdef public bint busy, has_infos, _changes_code, _message_queued

    cpdef handle_message(self, message)
    @cython.locals(left=Py_ssize_t)
    cpdef _process(self, item)
    cpdef _handle_done(self, answer)
    cdef _wait_for(self, pending, done, failed)
    cdef _limit_wait(self, waiting)
    cdef _go_on(self)
    cpdef _go_on_and_proceed(self)
