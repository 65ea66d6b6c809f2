# Types for Cython: the attributes of pending.py, and the methods that are called from C.

cimport cython
from wshost.connections.stream cimport Stream

cdef class Topic:
    cdef public str name
    cdef public dict encoded, others
    cdef public list pending
    cdef public Py_ssize_t size

cdef class Subscriber:
    cdef public Py_ssize_t last_seen
    cdef public Stream stream
    cdef public Pending _pending
    cdef public object ask, encoding
    cdef public str id
    cdef public dict topics
    cdef public list snapshot

    cpdef bytes drain(self)

cdef class Pending:
    cdef public Py_ssize_t dropped, _number, _flushed
    cdef public bint flushing, _some_drained, _some_shared, _scheduled
    cdef public object _shared
    cdef public dict _published, _snapshots

    cpdef bytes drain(self, Subscriber subscriber)
    @cython.locals(
        several=bint, topic=Topic, group=dict, whole=list, first=Py_ssize_t, last_seen=Py_ssize_t,
        subscriber=Subscriber, stream=Stream
    )
    cpdef _flush_by_need(self)
    @cython.locals(data=bytes, missed=Py_ssize_t, messages=Py_ssize_t, stream=Stream)
    cpdef _send(self, list streams, batch)
    cpdef bint _has_several(self, Subscriber subscriber) except -1
    cpdef list _pending_for(self, Subscriber subscriber)
    cpdef _mark_seen(self, Subscriber subscriber)
