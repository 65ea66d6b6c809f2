# Types for Cython: the function of fields.pyx that is called from C.

cpdef split(bytes head, Py_ssize_t most)
