# Types for Cython: the attributes of subscriptions.py, and the methods that are called from C.

cimport cython
from wshost.topics.pending cimport Pending

cdef class Topics:
    cdef object __weakref__
    cdef object _shared, _backplane, _patterns
    cdef dict _topics
    cdef public Py_ssize_t subscriptions
    cdef public object losses
    cdef Pending _pending

    cpdef publish_locally(self, topic, data)
    cpdef _publish(self, name, data)
