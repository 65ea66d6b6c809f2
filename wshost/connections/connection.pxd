# Types for Cython: the attributes of connection.py, and what is called from C.

from wshost.connections.stream cimport Stream
from wshost.topics.pending cimport Subscriber

cdef class Connection:
    cdef object __weakref__
    cdef public Stream stream
    cdef public bint admitted, _in_module, _is_prompt, _keeps_actions, _reads_into
    cdef public object ref, request, _driver, _encoding, _transition, _counted_address, _shared, _timers, _topics
    cdef public str id
    cdef public Subscriber _subscriber
    cdef public Py_ssize_t _position, _kept_size
    cdef public bytes _unread
    cdef public list _kept

    cpdef dataReceived(self, data)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef write(self, data)
    cpdef _receive(self, data, Py_ssize_t filled=*)
    cpdef _apply(self, results)
