# cython: language_level=3
"""The function of `steps.py` in C; its docstring says what it does."""

from cpython.ref cimport Py_XDECREF, PyObject

cdef extern from *:
    """
    /* Cython takes NULL for the exception that is set. */
    static PyObject* raise_what_is_set(void) { return NULL; }
    """
    object raise_what_is_set()
    ctypedef enum PySendResult:
        PYGEN_ERROR
        PYGEN_NEXT
        PYGEN_RETURN
    PySendResult PyIter_Send(object iterator, object value, PyObject** result)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context)


cpdef tuple step(context, coroutine):
    cdef PyObject* result = NULL
    cdef PySendResult status
    cdef tuple stepped = None
    PyContext_Enter(context)
    status = PyIter_Send(coroutine, None, &result)
    if PyContext_Exit(context) or status == PYGEN_ERROR:
        Py_XDECREF(result)
        raise_what_is_set()
    stepped = (status == PYGEN_RETURN, <object>result)
    Py_XDECREF(result)
    return stepped
