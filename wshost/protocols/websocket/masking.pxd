# Types for Cython: the functions of masking.pyx that are called from C.

cpdef bytes unmask(bytes data, Py_ssize_t start, Py_ssize_t size)
cpdef unmask_text(bytes data, Py_ssize_t start, Py_ssize_t size)
cpdef bytes framed(unsigned char first, data)
