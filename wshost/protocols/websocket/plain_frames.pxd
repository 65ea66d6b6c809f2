# What of plain_frames.pyx is called from C.

cpdef tuple take(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef take_deflated(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef head(bytes data, Py_ssize_t at, Py_ssize_t limit)
cpdef bytes frame(data)
cpdef bytes deflated_frame(bytes payload, bint is_binary)

# Unmask what is there; both places may be one. Returns whether it is ASCII.
cdef bint unmask(unsigned char* to, const unsigned char* from_, Py_ssize_t size, const unsigned char* key) noexcept
# Return a text to be filled with ASCII, before anybody else sees it; and where its characters are.
cdef str new_ascii(Py_ssize_t size)
cdef unsigned char* characters(str text) noexcept
