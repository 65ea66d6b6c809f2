# Types for Cython: the attributes of waiting.py.

cdef class Waiting:
    cdef object __weakref__
    cdef object _channel, _done, _error, _failed, _loop, _pending, _resume, _timer
    cdef bint _cancelled
    cdef int _left

    cdef _wait_for(self, pending)
    cdef _take(self, result)
    cdef _fail(self, error)
    cdef _stop_timer(self)
