"""The functions of `masking.py` in C; its docstrings say what each does."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)
    void* PyUnicode_1BYTE_DATA(object text)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    typedef uint64_t Vector __attribute__((vector_size(16)));

    /* Returns whether the result is ASCII. `to` and `from` may be the same memory. Four vectors are read before the
       first is written, so that reads do not wait for writes: a plain loop takes twice as long. */
    static int unmask_to(unsigned char* to, const unsigned char* from, Py_ssize_t size, const unsigned char* key) {
        uint32_t half;
        uint64_t mask, word, bits;
        Vector masks, all = {0}, a, b, c, d;
        Py_ssize_t i = 0;
        memcpy(&half, key, 4);
        mask = (uint64_t)half << 32 | half;
        masks = (Vector){mask, mask};
        for (; i + 64 <= size; i += 64) {
            memcpy(&a, from + i, 16);
            memcpy(&b, from + i + 16, 16);
            memcpy(&c, from + i + 32, 16);
            memcpy(&d, from + i + 48, 16);
            a ^= masks, b ^= masks, c ^= masks, d ^= masks;
            all |= (a | b) | (c | d);
            memcpy(to + i, &a, 16);
            memcpy(to + i + 16, &b, 16);
            memcpy(to + i + 32, &c, 16);
            memcpy(to + i + 48, &d, 16);
        }
        bits = all[0] | all[1];
        for (; i + 8 <= size; i += 8) {
            memcpy(&word, from + i, 8);
            word ^= mask;
            bits |= word;
            memcpy(to + i, &word, 8);
        }
        for (; i < size; i++) bits |= to[i] = from[i] ^ key[i & 3];
        return !(bits & 0x8080808080808080u);
    }
    """
    bint unmask_to(unsigned char* to, const unsigned char* from_, Py_ssize_t size, const unsigned char* key)


cdef inline const unsigned char* octets(bytes data) noexcept:
    return <const unsigned char*>PyBytes_AS_STRING(data)


cdef inline bint is_outside(Py_ssize_t start, Py_ssize_t size, Py_ssize_t whole) noexcept:
    return start < 0 or size < 0 or size > whole - start


cpdef bytes unmask(bytes data, Py_ssize_t start, Py_ssize_t size):
    cdef bytes payload
    if start < 4 or is_outside(start, size, PyBytes_GET_SIZE(data)):
        raise ValueError("that payload is not all there")
    payload = PyBytes_FromStringAndSize(NULL, size)
    unmask_to(<unsigned char*>octets(payload), octets(data) + start, size, octets(data) + start - 4)
    return payload


cpdef unmask_text(bytes data, Py_ssize_t start, Py_ssize_t size):
    cdef:
        str text
        unsigned char* at
    if start < 4 or is_outside(start, size, PyBytes_GET_SIZE(data)):
        raise ValueError("that payload is not all there")
    # Nearly all text is ASCII, so it is unmasked into the memory of an ASCII str, and needs no other copy.
    text = PyUnicode_New(size, 127)
    at = <unsigned char*>PyUnicode_1BYTE_DATA(text)
    if unmask_to(at, octets(data) + start, size, octets(data) + start - 4):
        return text
    try:
        return PyUnicode_DecodeUTF8(<const char*>at, size, NULL)
    except UnicodeDecodeError:
        return None


cpdef bytes framed(unsigned char first, data):
    cdef:
        const char* payload
        Py_ssize_t size, start, i
        bytes frame
        unsigned char* p
    if isinstance(data, str):
        payload = PyUnicode_AsUTF8AndSize(data, &size)
    elif isinstance(data, bytes):
        payload = PyBytes_AS_STRING(data)
        size = PyBytes_GET_SIZE(data)
    else:
        raise TypeError("a message is a str or bytes")
    start = 2 if size < 126 else 4 if size < 65536 else 10
    frame = PyBytes_FromStringAndSize(NULL, start + size)
    p = <unsigned char*>PyBytes_AS_STRING(frame)
    p[0] = first
    if start == 2:
        p[1] = size
    elif start == 4:
        p[1] = 126
        p[2] = size >> 8
        p[3] = size & 0xFF
    else:
        p[1] = 127
        for i in range(8):
            p[9 - i] = size >> (8 * i) & 0xFF
    memcpy(p + start, payload, size)
    return frame


cdef class Room:
    """See `masking.py`. The payload is written into the future message itself: bytes and ASCII are not copied again."""

    cdef:
        bint _is_text
        unsigned char _key[4]
        # A str or bytes to which nobody else has a reference yet; a pointer to its characters or bytes; their number.
        object _payload
        unsigned char* _at
        Py_ssize_t _size
        # How many views there are, by which others may still write.
        int _views

    def __init__(self, bytes key, bint is_text):
        if PyBytes_GET_SIZE(key) != 4:
            raise ValueError("a key has four bytes")
        memcpy(self._key, PyBytes_AS_STRING(key), 4)
        self._is_text = is_text

    def __len__(self):
        return self._size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._at, self._size, False, flags)
        self._views += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self._views -= 1

    def grow(self, Py_ssize_t size, Py_ssize_t used):
        cdef:
            object payload
            unsigned char* at
        if self._views or size < self._size or is_outside(0, used, self._size):
            raise BufferError("somebody has a view, or it would become smaller")
        # A smaller str or bytes serves as memory only: just one of the message's own size can become the message.
        if self._is_text:
            payload = PyUnicode_New(size, 127)
            at = <unsigned char*>PyUnicode_1BYTE_DATA(payload)
        else:
            payload = PyBytes_FromStringAndSize(NULL, size)
            at = <unsigned char*>PyBytes_AS_STRING(payload)
        if used:
            memcpy(at, self._at, used)
        self._payload, self._at, self._size = payload, at, size

    cdef bint _take(self, Py_ssize_t at, const unsigned char* data, Py_ssize_t count):
        cdef:
            unsigned char key[4]
            Py_ssize_t i
        for i in range(4):
            key[i] = self._key[(at + i) & 3]
        return unmask_to(self._at + at, data, count, key)

    def put(self, Py_ssize_t at, bytes data, Py_ssize_t start, Py_ssize_t count):
        if is_outside(start, count, PyBytes_GET_SIZE(data)) or is_outside(at, count, self._size):
            raise ValueError("that is more than there is room for")
        return self._take(at, octets(data) + start, count)

    def unmask(self, Py_ssize_t at, Py_ssize_t count):
        if is_outside(at, count, self._size):
            raise ValueError("that is more than there is room for")
        return self._take(at, self._at + at, count)

    def message(self, bint is_ascii):
        # A message must not change, but while there is a view, the payload still can.
        cdef bint is_settled = self._payload is not None and not self._views
        if not self._is_text:
            return self._payload if is_settled else PyBytes_FromStringAndSize(<char*>self._at, self._size)
        if is_settled and is_ascii:
            return self._payload
        return PyUnicode_DecodeUTF8(<char*>self._at, self._size, NULL)
