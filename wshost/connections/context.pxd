# Types for Cython: the attributes of context.py, and the methods that are called from C.

from wshost.connections.stream cimport Stream
from wshost.connections.timers cimport ModuleTimer
from wshost.topics.pending cimport Subscriber

cdef class Context:
    cdef object __weakref__
    cdef public Stream stream
    cdef public Subscriber subscriber
    cdef public ModuleTimer timers
    cdef public bint admitted, _in_module, _is_prompt, _keeps_actions, _reads_into
    cdef public dict notes
    cdef public object ref, request, outbox, policy, _driver, encoding, _transition, _shared, _route
    cdef public object proxy, counted_address
    cdef public Py_ssize_t _position, kept_size, retry_after
    cdef public bytes _unread
    cdef public list _kept

    cpdef write(self, data)
    cpdef receive(self, data, Py_ssize_t filled=*)
    cpdef _apply(self, results)
    cpdef call_soon(self, call)
    cpdef run(self, call, what=*)
    cdef _continue(self)
    cpdef perform(self, results)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef use_encoding(self, encoding)
    cpdef release_actions(self)
    cpdef call_later(self, seconds, call)
    cpdef run_timer(self, call)
    cpdef start(self)
    cpdef leave(self, reason)
    cdef _fail_module(self, what)
    cdef _enter(self, Py_ssize_t position)
    cdef _dismiss(self, driver, reason)
    cdef _make_transitions(self)
    cdef _close(self, data)
    cdef _switch(self, switch)
    cdef bint _keep(self, action, args) except -1

cdef _transition(result)
