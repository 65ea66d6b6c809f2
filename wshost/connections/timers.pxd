# Types for Cython: the attributes of timers.py, and the methods that are called from C.

cdef class Schedule:
    cdef object __weakref__
    cdef object _clock, _context, _failed, _soon, _wake, _wake_soon
    cdef list _heap
    cdef Py_ssize_t _count, _waiting
    cdef double _time, _looked_at, _due, _expected

    cpdef double seconds(self) except? -1
    cpdef add(self, double seconds, Timer timer)
    cpdef timer_cancelled(self)
    cpdef call_later(self, double seconds, call)
    cdef _look_at(self, double due)
    cdef _tick(self)
    cdef _sleep(self)
    cdef _call_soon(self)
    cdef _make_calls(self)
    cdef _go_on(self)
    cdef _call(self, Timer timer)

cdef class Timer:
    cdef object __weakref__
    cdef Schedule _schedule
    cdef object _call
    cdef public double due
    cdef public Py_ssize_t number

    cpdef cancel(self)
    cpdef fire(self)

cdef class ModuleTimer(Timer):
    cdef public ModuleTimer before, after
    cdef object _owner

    cdef _leave(self)
