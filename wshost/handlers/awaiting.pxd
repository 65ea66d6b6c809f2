# Types for Cython: what is called of awaiting.py from C.

cpdef begin(result, loop)
cpdef bint is_pending(result) except -1
cpdef fired_with(result)
cdef _start(coroutine, loop)
