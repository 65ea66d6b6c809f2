# Types for Cython: the attributes of reader.py, and the methods that are called from C.

cimport cython
from wshost.protocols.websocket.deflate cimport Inflater
from wshost.protocols.websocket.plain_frames cimport frame_size, head, take, take_close, take_deflated

cdef class FrameReader:
    cdef object __weakref__
    cdef public object _engine, _make_engine, _partial, _sink
    cdef public Inflater _inflater
    cdef public bytes _data
    cdef public Py_ssize_t _at, _engine_work, _filled, _known, _limit, _read
    cdef public bint _engaged

    cpdef feed(self, bytes data)
    @cython.locals(at=Py_ssize_t, stop=Py_ssize_t)
    cpdef bint step(self) except -1
    cpdef bint _begin(self) except -1
    cpdef bint _inflate(self, Inflater inflater, bytes payload, bint is_binary) except -1
    cpdef leave_to_engine(self)
    cpdef answer_close(self, code, bytes reason)
