# Types for Cython: the attributes of tasks.py, and the methods that are called from C.

from wshost.handlers.steps cimport step

cdef object _CancelledError, _PENDING, _CANCELLED, _FINISHED, _enter_task, _leave_task, _register_task, _current_task

cdef class Task:
    cdef object __weakref__
    cdef readonly object _cancel_message, _coro, _context, _exception, _fut_waiter, _loop, _result, _source_traceback
    cdef readonly object _state
    cdef readonly list _callbacks
    cdef public object ended
    cdef public bint _asyncio_future_blocking
    cdef readonly bint _must_cancel
    cdef object _cancelled_by, _deferred, _name
    cdef int _cancels

    cdef _return(self, value)
    cdef _fail(self, error)
    cdef _end(self, state)
    cpdef _make_cancelled_error(self)
    cdef _wait_for(self, awaited)
    cdef _future_of(self, deferred)
