# cython: language_level=3, boundscheck=False, wraparound=False
"""The fast lane of `plain_frames.py` in Cython: see there for what each function does."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE, PyBytes_FromStringAndSize
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

    /* Where both places are one, no step depends on another either. */
    #if defined(__clang__)
    #define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
    #elif defined(__GNUC__)
    #define INDEPENDENT _Pragma("GCC ivdep")
    #else
    #define INDEPENDENT
    #endif

    /* Eight bytes at a time, which compilers make into vectors. Returns whether it is ASCII. */
    static int unmask_into(unsigned char* to, const unsigned char* from, Py_ssize_t size, const unsigned char* key) {
        uint32_t half;
        uint64_t mask, word, all = 0;
        Py_ssize_t i = 0;
        memcpy(&half, key, 4);
        mask = (uint64_t)half << 32 | half;
        INDEPENDENT
        for (; i + 8 <= size; i += 8) {
            memcpy(&word, from + i, 8);
            word ^= mask;
            all |= word;
            memcpy(to + i, &word, 8);
        }
        for (; i < size; i++) all |= to[i] = from[i] ^ key[i & 3];
        return !(all & 0x8080808080808080u);
    }
    """
    bint unmask_into(unsigned char* to, const unsigned char* from_, Py_ssize_t size, const unsigned char* key) nogil

TEXT, BINARY = 0x81, 0x82
DEFLATED_TEXT, DEFLATED_BINARY = 0xC1, 0xC2


cdef bint unmask(unsigned char* to, const unsigned char* from_, Py_ssize_t size, const unsigned char* key) noexcept:
    return unmask_into(to, from_, size, key)


cdef str new_ascii(Py_ssize_t size):
    return PyUnicode_New(size, 127)


cdef unsigned char* characters(str text) noexcept:
    return <unsigned char*>PyUnicode_1BYTE_DATA(text)


cdef inline Py_ssize_t find(const unsigned char* p, Py_ssize_t length, Py_ssize_t limit, int bits,
                            Py_ssize_t* size) noexcept nogil:
    """Return where the payload begins, and its size; -1 unless the head is whole and plain, but for these bits."""
    cdef Py_ssize_t start = 6, n, i
    if length < 6 or (p[0] != (0x81 | bits) and p[0] != (0x82 | bits)) or p[1] < 0x80:
        return -1
    n = p[1] & 0x7F
    if n == 126:
        start = 8
        n = p[2] << 8 | p[3]
        if n < 126:
            return -1
    elif n == 127:
        start = 14
        if length < start or p[2] >= 0x80:
            return -1
        n = 0
        for i in range(2, 10):
            n = n << 8 | p[i]
        if n < 65536:
            return -1
    if n > limit or start > length:
        return -1
    size[0] = n
    return start


cpdef tuple take(bytes data, Py_ssize_t at, Py_ssize_t limit):
    cdef:
        Py_ssize_t length = PyBytes_GET_SIZE(data) - at, size = 0
        const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(data) + at
        Py_ssize_t start = find(p, length, limit, 0, &size)
        bytes payload
        str text
    # Not `start + size`, which a peer may choose to be too large for it.
    if start < 0 or size > length - start:
        return None
    if p[0] == 0x82:
        payload = PyBytes_FromStringAndSize(NULL, size)
        unmask_into(<unsigned char*>PyBytes_AS_STRING(payload), p + start, size, p + start - 4)
        return ("binary", payload), at + start + size
    # As nearly all text is ASCII, it becomes that where it is.
    text = new_ascii(size)
    if not unmask_into(characters(text), p + start, size, p + start - 4):
        try:
            text = PyUnicode_DecodeUTF8(<const char*>characters(text), size, NULL)
        except UnicodeDecodeError:
            return None
    return ("text", text), at + start + size


cpdef take_deflated(bytes data, Py_ssize_t at, Py_ssize_t limit):
    cdef:
        Py_ssize_t length = PyBytes_GET_SIZE(data) - at, size = 0
        const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(data) + at
        Py_ssize_t start = find(p, length, limit, 0x40, &size)
        bytes payload
    if start < 0 or size > length - start:
        return None
    payload = PyBytes_FromStringAndSize(NULL, size)
    unmask_into(<unsigned char*>PyBytes_AS_STRING(payload), p + start, size, p + start - 4)
    return payload, p[0] == 0xC2, at + start + size


def take_close(bytes data, Py_ssize_t at):
    cdef:
        Py_ssize_t length = PyBytes_GET_SIZE(data) - at, size
        const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(data) + at
        int code
        unsigned char plain[125]
    if length < 6 or p[0] != 0x88:
        return None
    size = p[1] - 0x80
    if size < 0 or size > 125 or size == 1 or size > length - 6:
        return None
    unmask_into(plain, p + 6, size, p + 2)
    if not size:
        return None, "", at + 6
    code = plain[0] << 8 | plain[1]
    if code != 1000 and code != 1001:
        return None
    try:
        return code, PyUnicode_DecodeUTF8(<char*>plain + 2, size - 2, NULL), at + 6 + size
    except UnicodeDecodeError:
        return None


cpdef head(bytes data, Py_ssize_t at, Py_ssize_t limit):
    cdef:
        Py_ssize_t size = 0
        const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(data) + at
        Py_ssize_t start = find(p, PyBytes_GET_SIZE(data) - at, limit, 0, &size)
    return None if start < 0 else (p[0], size, at + start)


def unmasked(bytes payload, bytes key):
    cdef:
        Py_ssize_t size = PyBytes_GET_SIZE(payload)
        bytes plain = PyBytes_FromStringAndSize(NULL, size)
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError("a key has four bytes")
    unmask_into(
        <unsigned char*>PyBytes_AS_STRING(plain),
        <const unsigned char*>PyBytes_AS_STRING(payload),
        size,
        <const unsigned char*>PyBytes_AS_STRING(key),
    )
    return plain


cpdef bytes frame(data):
    cdef:
        const char* payload
        Py_ssize_t size
    if isinstance(data, str):
        payload = PyUnicode_AsUTF8AndSize(data, &size)
        return framed(0x81, payload, size)
    if isinstance(data, bytes):
        return framed(0x82, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    raise TypeError("a message is a str or bytes")


cpdef bytes deflated_frame(bytes payload, bint is_binary):
    return framed(0xC2 if is_binary else 0xC1, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))


cdef bytes framed(unsigned char first, const char* payload, Py_ssize_t size):
    cdef:
        Py_ssize_t start = 2 if size < 126 else 4 if size < 65536 else 10, i
        bytes frame = PyBytes_FromStringAndSize(NULL, start + size)
        unsigned char* p = <unsigned char*>PyBytes_AS_STRING(frame)
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
