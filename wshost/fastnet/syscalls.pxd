# Types for Cython: the functions of syscalls.pyx that are called from C.

cpdef bytes recv(int fd)
cpdef Py_ssize_t recv_into(int fd, buffer, Py_ssize_t start) except -1
cpdef Py_ssize_t send(int fd, data, Py_ssize_t start, bint last=*) except -1
