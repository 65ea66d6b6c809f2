# Types for Cython: the attributes of output.py, and the methods that are called from C.

cimport cython

cdef class Output:
    cdef object __weakref__
    cdef object _reactor, _dropped, _progress, _context, _soon, _transport, _timer
    cdef public object _kept
    cdef double _patience
    cdef Py_ssize_t _limit, _commands
    cdef public Py_ssize_t waiting
    cdef list _turn, _greeting
    cdef bint _ready, _blocked, _closed, _scheduled

    @cython.locals(waiting=Py_ssize_t)
    cpdef bint send(self, bytes payload) except -1
    cdef _schedule(self)
    @cython.locals(size=Py_ssize_t, pieces=list)
    cpdef flush(self)
    cdef _write_greeting(self)
    cdef _keep_turn(self)
    cdef _write_kept(self)
