# Types for Cython: the attributes of poll.py, and the methods that are called from C.

cimport cython

cdef int _IN, _OUT, _ENDED

cdef class Watch:
    cdef int events, alone
    cdef bint handed_over
    cdef Py_ssize_t wake
    cdef object reader, writer, context

cdef class Poll:
    cdef object __weakref__
    cdef object _context, _failed, _epoll, _loop
    cdef dict _watches
    cdef Py_ssize_t _alone, _wakes

    @cython.locals(watch=Watch)
    cpdef add_reader(self, int fd, callback)
    @cython.locals(watch=Watch)
    cpdef add_writer(self, int fd, callback)
    @cython.locals(watch=Watch)
    cpdef remove_reader(self, int fd)
    @cython.locals(watch=Watch)
    cpdef remove_writer(self, int fd)
    @cython.locals(before=int)
    cdef _change(self, int fd, Watch watch, int events)
    @cython.locals(watch=Watch, ready=list, events=int)
    cpdef _run(self)
    cpdef note_ready(self, Py_ssize_t count)
    cdef Watch _watch(self)
    cdef _note_alone(self, int fd, Watch watch)
    cdef _call(self, Watch watch, callback)
