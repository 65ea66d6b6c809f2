# What Cython makes of connection.py: the types of its attributes, and what is called from C.

from wshost.connections.stream cimport Stream

cdef class Connection(Stream):
    cdef public bint admitted, _buffered, _inside, _prompt
    cdef public object ref, request, encoding, published, _driver, _next, _address
    cdef public Py_ssize_t _position, _waiting, _early_size
    cdef public object _timers
    cdef public bytes _unread
    cdef public list _early

    cpdef dataReceived(self, data)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef _receive(self, data, Py_ssize_t filled=*)
    cpdef _do(self, results)
