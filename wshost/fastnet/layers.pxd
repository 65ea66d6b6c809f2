# Types for Cython: what of layers.py is called from C.

cdef class Layer:
    cpdef data_received(self, data)
    cpdef write_nocheck(self, data)
