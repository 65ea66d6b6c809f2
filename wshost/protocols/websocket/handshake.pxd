# Types for Cython: the functions of handshake.py that are called from C.

cimport cython

@cython.locals(fields=dict, offered=str, extensions=str, version=str, key=str)
cpdef check(request)
cdef bint _is_key(str key) except -1
cpdef agree(offer, accept, subprotocols)
@cython.locals(head=str)
cpdef acceptance(str key, subprotocol, str extensions, headers)
cpdef cookies(str header)
@cython.locals(fields=dict)
cpdef connection_info(request, offer, peer, tls, proxy=*)
