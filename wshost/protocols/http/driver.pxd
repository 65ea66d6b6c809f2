# Types for Cython: the attributes of driver.py, and the methods that are called from C.

cimport cython
from wshost.protocols.http.head cimport demand_get, parse

cdef class Driver:
    cdef object __weakref__
    cdef public object _asked, _context, _options, _received, _timer, _upgrade
    cdef public bytes _cr
    cdef public Py_ssize_t _empty_lines
    cdef public bint _done

    cdef _read(self, bytes data)
    cdef _skip(self, bytes data)
    cdef _judge(self, bytes received, Py_ssize_t size)
    cdef _pass_on(self, request, bytes unread, bint upgrade)
    cdef _finish(self)

@cython.locals(fields=dict)
cdef bint _is_upgrade(request) except -1
cdef bint _has(dict fields, str name, str member) except -1
