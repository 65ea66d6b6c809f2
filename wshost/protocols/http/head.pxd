# Types for Cython: the functions of head.py that are called from C.

from wshost.protocols.http.fields cimport split

cdef _check_framing(dict fields, bint is_1_1)
cdef _check_authority(str authority)
cdef tuple _parse_target(str target)
