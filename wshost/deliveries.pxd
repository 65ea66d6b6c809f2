# What Cython makes of deliveries.py: the types of its attributes, and what is called from C.

cimport cython
from wshost.connection cimport Connection

cdef class Topic:
    cdef public str name
    cdef public dict shared, direct
    cdef public list pending
    cdef public Py_ssize_t size

cdef class Subscriber:
    cdef public Deliveries _deliveries
    cdef public Connection connection
    cdef public object encoding
    cdef public dict topics
    cdef public Py_ssize_t seen
    cdef public list held

cdef class Deliveries:
    cdef public Py_ssize_t dropped, _number, _flushed
    cdef public object _host
    cdef public dict _dirty, _holding

    cpdef bytes take(self, Subscriber subscriber)
    @cython.locals(
        number=Py_ssize_t, first=Py_ssize_t, seen=Py_ssize_t, several=bint, dirty=dict, whole=dict, topic=Topic,
        subscriber=Subscriber
    )
    cpdef flush(self)
    cpdef _send(self, Connection connection, tuple batch)
