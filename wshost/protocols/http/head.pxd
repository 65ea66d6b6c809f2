# Types for Cython: the functions of head.py that are called from C.

cimport cython
from wshost.protocols.http.fields cimport split

@cython.locals(parts=tuple, fields=dict, method=str, target=str, path=str, query=str)
cpdef parse(bytes head, max_headers=*)
@cython.locals(fields=dict)
cpdef demand_get(request)
cdef _check_framing(dict fields, bint is_1_1)
cdef _check_authority(str authority)
cdef tuple _parse_target(str target)
