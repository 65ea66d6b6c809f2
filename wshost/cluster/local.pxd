# Types for Cython: the attributes of local.py, and the methods that are called from C.

cdef class LocalHubs:
    cdef dict _subscribed
    cdef object _patterns, _lock

    cpdef bint publish(self, topic, data) except -1
    cpdef publish_all(self, topic, messages)
    cdef _hubs(self, topic)
