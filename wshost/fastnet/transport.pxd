# What Cython makes of transport.py: the types of its attributes, and what is called from C.

from wshost.fastnet.socket_transport cimport Layer

cdef class Transport(Layer):
    # What every write needs is side by side.
    cdef public Layer _under
    cdef public int _state
    cdef public bint _quiet
    cdef object __weakref__
    cdef public object socket, protocol, server, reactor, connected, disconnecting, disconnected, sessionno
    cdef public object _addr, _held, _producer, _reason
    cdef public bint _streaming, _producer_paused, _read_paused, _eof, _half_closing

    cpdef data_received(self, data)
    cpdef buffer_updated(self, Py_ssize_t nbytes)
    cpdef _receive(self, data, Py_ssize_t filled)
    cpdef write(self, data)
