# Types for Cython: the attributes of envelope.py, and the methods that are called from C.

cdef class Codec:
    cdef object _packer, _unpack

    cpdef bytes pack(self, message)
    cpdef bytes enclose(self, machine, sender, epoch, before, messages)
    cpdef bytes pack_all(self, machine, sender, epoch, before, messages)
    cpdef read(self, payload)
