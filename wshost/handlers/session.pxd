# What Cython makes of session.py: the types of its attributes, and what is called from C.

cimport cython

cdef object _OPEN, _LOST, _PLAIN

cdef class HandlerSession:
    cdef object __weakref__
    cdef public object _adapter, _channel, _handle, _infos, _pending, _stage, _state, _timer
    cdef public bint busy, waits, _late, _resuming, _held

    cpdef deliver(self, message)
    @cython.locals(left=Py_ssize_t)
    cpdef _work(self, message)
