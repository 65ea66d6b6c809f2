# Types for Cython: the attributes of driver.py, and the methods that are called from C.

cimport cython
from wshost.protocols.websocket.deflate cimport Deflater
from wshost.protocols.websocket.handshake cimport acceptance, agree, check, connection_info
from wshost.protocols.websocket.plain_frames cimport deflated_frame, frame
from wshost.protocols.websocket.reader cimport FrameReader

cdef object _CONNECTING, _OPEN, _CLOSING, _CLOSED, _CLOSE

cdef class WebSocket:
    cdef object __weakref__
    cdef public object _behind, _context, _control_rate, _encoding, _message_deadline, _next_turn, _offer, _options, _peers_close
    cdef public object _seconds, _session, _state
    cdef public Deflater _deflater
    cdef public FrameReader _reader
    cdef public bytes _unread
    cdef public bint _advancing, _close_received, _going_away, _has_policy
    cdef public Py_ssize_t _behind_infos, _steps, _turn_size, messages_in, messages_out
    cdef public double heard_at

    cpdef handle_connection_in(self, bytes data)
    cpdef on_message(self, tuple message, Py_ssize_t size)
    cpdef on_write(self, bytes data)
    cpdef send(self, data)
    @cython.locals(reader=FrameReader, steps=Py_ssize_t, turn_size=Py_ssize_t)
    cpdef _advance(self)
    cpdef begin(self)
    cpdef accept(self, accept)
    cpdef on_close(self, code, reason)
    cpdef close(self, code, reason)
    cpdef on_drop(self)
    cdef _refuse(self, status, body, headers, reason)
    cdef _watch_message(self)
    cdef bint _admit_control(self) except -1
    cdef _shut_down(self)
