# Types for Cython: the attributes of tasks.py, and what is called from C.

cdef class Steps:
    cdef public object ended
    cdef object _coroutine, _deferred

    cpdef send(self, value)
    cpdef throw(self, error)
    cdef _step(self, step, value)
    cpdef awaited(self, yielded)
