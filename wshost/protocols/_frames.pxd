# What Cython makes of _frames.py: the types of its attributes, and what is called from C.

cimport cython
from wshost.protocols._lane cimport take

cdef class Frames:
    cdef object __weakref__
    cdef public object _engine, _long, _make_engine, _sink
    cdef public bytes _data
    cdef public Py_ssize_t _at, _filled, _known, _limit, _read
    cdef public bint _engaged

    cpdef feed(self, bytes data)
    @cython.locals(at=Py_ssize_t, stop=Py_ssize_t)
    cpdef bint step(self) except -1
