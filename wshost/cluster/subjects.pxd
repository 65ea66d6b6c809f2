# Types for Cython: the attributes of subjects.py, and the methods that are called from C.

cdef class Subjects:
    cdef str _topics, _homes
    cdef public str all

    cpdef str of_topic(self, topic)
    cpdef str of_home(self, boot)
    cpdef topic(self, subject)
    cpdef boot(self, subject)
