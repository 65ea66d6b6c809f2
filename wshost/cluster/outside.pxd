# Types for Cython: the attributes of outside.py, and the methods that are called from C.

cimport cython
from wshost.cluster.envelope cimport Codec
from wshost.cluster.sequence cimport Incoming, Outgoing
from wshost.cluster.subjects cimport Subjects

cdef class Line:
    cdef public object backplane, flush, reason
    cdef public bint local, is_connected
    cdef object _outside
    cdef bint _was_connected

cdef class _Batch:
    cdef list messages, nobody
    cdef bint packed
    cdef Py_ssize_t size

cdef class Outside:
    cdef object __weakref__
    cdef public object reactor, own, thread, log, soon, act, ended, tells_all, asks
    cdef public object counts
    cdef public list lines
    cdef object _hubs
    cdef Codec _codec
    cdef Outgoing _outgoing
    cdef Incoming _incoming
    cdef public Subjects _subjects
    cdef str _machine
    cdef dict _batches, _subscribed
    cdef Py_ssize_t _buffer, _size, _room, _largest

    @cython.locals(packed=bytes, taken=bint, batch=_Batch)
    cpdef bint _put(self, str subject, message, nobody=*) except -1
    @cython.locals(batch=_Batch)
    cpdef bint _add(self, str subject, message, Py_ssize_t size, bint packed) except -1
    @cython.locals(batch=_Batch, line=Line)
    cpdef _flush(self)
    @cython.locals(line=Line)
    cpdef measure(self)
    @cython.locals(messages=list, lines=list, payload=bytes, line=Line)
    cdef _send(self, str subject, _Batch batch)
    cdef bytes _envelope(self, str subject, list messages, bint packed)
    @cython.locals(line=Line)
    cdef list _lines_to(self, str subject)
    cpdef receive(self, Line line, subject, payload)
    cdef _bring_published(self, subject, topic, messages)
    cdef _bring_home(self, subject, sender, messages)
    cdef _note_malformed(self, subject, why)
