# What Cython makes of driver.py: the types of its attributes, and what is called from C.

cimport cython
from wshost.protocols.websocket.deflate cimport Deflater
from wshost.protocols.websocket.reader cimport FrameReader
from wshost.protocols.websocket.plain_frames cimport deflated_frame, frame

cdef object _CONNECTING, _OPEN, _CLOSING, _CLOSED

cdef class WebSocket:
    cdef object __weakref__
    cdef public object _context, _early, _early_size, _encoding, _farewell, _offer, _options, _patience, _seconds, _session, _state
    cdef public object _turn
    cdef public Deflater _deflater
    cdef public FrameReader _frames
    cdef public list _out
    cdef public bytes _unread
    cdef public bint _held, _advancing, _peer_closed, _leaving
    cdef public Py_ssize_t _share
    cdef public double heard_at

    cpdef handle_connection_in(self, bytes data)
    cpdef deliver(self, tuple message, Py_ssize_t size)
    cpdef on_write(self, bytes data)
    cpdef send(self, data)
    @cython.locals(frames=FrameReader, steps=Py_ssize_t, share=Py_ssize_t)
    cpdef _advance(self)
    cpdef _take(self)
