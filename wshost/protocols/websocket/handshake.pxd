# Types for Cython: the functions of handshake.py that are called from C.

cdef bint _is_key(str key) except -1
