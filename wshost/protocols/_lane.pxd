# What of _lane.pyx is called from C.

cpdef tuple take(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef bytes frame(data)
