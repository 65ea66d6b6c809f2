# What Cython makes of pending.py: the types of its attributes, and what is called from C.

cimport cython
from wshost.connections.connection cimport Connection

cdef class Topic:
    cdef public str name
    cdef public dict shared, direct
    cdef public list pending
    cdef public Py_ssize_t size

cdef class Subscriber:
    cdef public Py_ssize_t seen
    cdef public Connection connection
    cdef public Deliveries _deliveries
    cdef public object encoding
    cdef public dict topics
    cdef public list held

cdef class Deliveries:
    cdef public Py_ssize_t dropped, _number, _flushed
    cdef public bint flushing, _ahead
    cdef public object _host
    cdef public dict _dirty, _holding

    cpdef bytes take(self, Subscriber subscriber)
    @cython.locals(
        several=bint, topic=Topic, group=dict, whole=list, first=Py_ssize_t, seen=Py_ssize_t, subscriber=Subscriber,
        connection=Connection
    )
    cpdef _flush_apart(self)
    @cython.locals(data=bytes, missed=Py_ssize_t, large=bint, connection=Connection)
    cpdef _send(self, list connections, batch)
    cpdef bint _has_several(self, Subscriber subscriber) except -1
    cpdef list _due(self, Subscriber subscriber)
    cpdef _pass(self, Subscriber subscriber)
