# Types for Cython: the attributes of output.py, and the methods that are called from C.

from wshost.fastnet.layers cimport Layer

cdef object _OPENING, _OPEN, _PULLING, _HALF_CLOSED, _CLOSED

cdef class Output(Layer):
    # Every write reads these. So they are side by side in memory.
    cdef public Layer _transport
    cdef public object _state
    cdef object __weakref__
    cdef public object socket, protocol, server, reactor, connected, disconnecting, disconnected, sessionno
    cdef public object _addr, _producer, _reason
    cdef public bint _streaming, _producer_paused, _peer_ended, _half_closing

    cpdef write(self, data)
    cpdef loseConnection(self)
    cpdef loseWriteConnection(self)
    cpdef _close_if_due(self)
    cpdef _close_half(self)
    cpdef _call(self, call)
    cpdef _abort(self, reason)
    cpdef connection_lost(self, exc)
    cpdef _explain(self, exc)
