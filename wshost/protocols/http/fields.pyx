"""The function of `fields.py` in C; its docstring says what it does."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeLatin1
from libc.string cimport memcmp

import re

from wshost.request import TOKEN

TARGET = re.compile(r'[!"$-~]+')

cdef enum:
    IN_TOKEN = 1
    IN_TARGET = 2
    IN_VALUE = 4
    SHORT = 64

# What each byte may be part of, and its lower case. The byte after the last, which is 0, is part of nothing.
cdef unsigned char kinds[256]
cdef char lower[256]

cdef int byte
for byte in range(256):
    kinds[byte] = 0
    lower[byte] = <char>(byte + 32 if 0x41 <= byte <= 0x5A else byte)
    if byte < 0x80 and TOKEN.fullmatch(chr(byte)):
        kinds[byte] |= IN_TOKEN
    if byte < 0x80 and TARGET.fullmatch(chr(byte)):
        kinds[byte] |= IN_TARGET
    if byte == 0x09 or 0x20 <= byte <= 0x7E or byte >= 0x80:
        kinds[byte] |= IN_VALUE


cdef str lowered(const unsigned char* data, Py_ssize_t size):
    cdef char name[SHORT]
    cdef Py_ssize_t i
    if size > SHORT:
        return PyUnicode_DecodeASCII(<const char*>data, size, NULL).lower()
    for i in range(size):
        name[i] = lower[data[i]]
    return PyUnicode_DecodeASCII(name, size, NULL)


cpdef split(bytes head, Py_ssize_t most):
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(head)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head), at = 0, start, stop, count = 0, commas = 0
    cdef unsigned char seen, all_seen = 0
    cdef str method, target, name, value
    cdef bint is_1_1
    cdef dict fields = {}
    cdef list again = []
    while kinds[data[at]] & IN_TOKEN:
        at += 1
    if not at or data[at] != b" ":
        return None
    method = PyUnicode_DecodeASCII(<const char*>data, at, NULL)
    start = at = at + 1
    while kinds[data[at]] & IN_TARGET:
        at += 1
    if at == start or size - at < 13 or memcmp(data + at, b" HTTP/1.", 8) or memcmp(data + at + 9, b"\r\n", 2):
        return None
    target = PyUnicode_DecodeASCII(<const char*>data + start, at - start, NULL)
    if data[at + 8] != b"0" and data[at + 8] != b"1":
        return None
    is_1_1 = data[at + 8] == b"1"
    at += 11
    while data[at] != b"\r":
        start = at
        while kinds[data[at]] & IN_TOKEN:
            at += 1
        if at == start or data[at] != b":":
            return None
        name = lowered(data + start, at - start)
        at += 1
        while data[at] == b" " or data[at] == b"\t":
            at += 1
        start = at
        while True:
            seen = data[at]
            if not kinds[seen] & IN_VALUE:
                break
            commas += seen == b","
            all_seen |= seen
            at += 1
        # Where this is the last byte, the byte after it is a 0.
        if data[at] != b"\r" or data[at + 1] != b"\n":
            return None
        stop = at
        while stop > start and (data[stop - 1] == b" " or data[stop - 1] == b"\t"):
            stop -= 1
        at += 2
        count += 1
        if count > most:
            continue
        value = PyUnicode_DecodeLatin1(<const char*>data + start, stop - start, NULL)
        if name in fields:
            again.append(name)
            fields[name] = <str>fields[name] + ("; " if name == "cookie" else ", ") + value
        else:
            fields[name] = value
    if at + 2 != size or data[at + 1] != b"\n":
        return None
    return method, target, is_1_1, fields, count, tuple(again), commas, all_seen < 0x80
