# Types for Cython: the function of steps.pyx that is called from C.

cpdef tuple step(context, coroutine)
