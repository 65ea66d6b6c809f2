# What of _lane.pyx is called from C.

cpdef tuple take(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef take_deflated(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef head(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef bytes frame(data)
cpdef bytes deflated_frame(bytes payload, bint is_binary)
