# Types for Cython: the methods of layers.py that are called from C.

cdef class Layer:
    cpdef data_received(self, data)
    cpdef write_nocheck(self, data)
