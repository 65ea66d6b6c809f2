# Types for Cython: the attributes of connection.py, and the methods that are called from C.

from wshost.connections.context cimport Context
from wshost.connections.stream cimport Stream

cdef class Connection:
    cdef object __weakref__
    cdef public Stream stream
    cdef public Context context
    cdef public object _shared, _topics, _waiters, _confirmations
    cdef public bint _refusal_posted
    cdef public str id
    cdef public Py_ssize_t bytes_in
    cdef public double made_at

    cpdef dataReceived(self, data)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef makeConnection(self, transport)
    cpdef connectionMade(self)
    cpdef readConnectionLost(self)
    cpdef _count_address(self)
    cpdef _start(self)
