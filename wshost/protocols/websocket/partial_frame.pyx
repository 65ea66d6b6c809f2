# cython: language_level=3, boundscheck=False, wraparound=False
"""The long frame of `partial_frame.py` in Cython: see there for what each method does.

Its payload is put where the message will be, which then is there: a text that is ASCII, or bytes, is not copied again.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memcpy

from wshost.protocols.websocket.plain_frames cimport characters, new_ascii, unmask

from codecs import getincrementaldecoder

cdef enum:
    TEXT = 0x81
    #: The least room that is made for a payload, in bytes.
    LEAST = 4096

cdef object make_decoder = getincrementaldecoder("utf-8")


cdef class LongFrame:
    cdef:
        readonly Py_ssize_t size, left
        bint _is_text
        unsigned char _key[4]
        # A str or bytes which nobody else has yet, where its memory is, and for how much there is room in it.
        object _payload
        unsigned char* _at
        Py_ssize_t _room
        # How many may still write there.
        int _exports
        # What judges a text, from what is not ASCII on, and whether it stands between two characters.
        object _decoder
        bint _between

    def __init__(self, int first, Py_ssize_t size, bytes key):
        if PyBytes_GET_SIZE(key) != 4:
            raise ValueError("a key has four bytes")
        self.size = self.left = size
        self._is_text = first == TEXT
        memcpy(self._key, PyBytes_AS_STRING(key), 4)
        self._between = True

    def add(self, bytes data, Py_ssize_t at):
        cdef Py_ssize_t count = min(self.left, PyBytes_GET_SIZE(data) - at)
        if at < 0 or count < 0:
            raise ValueError("that is not all there")
        self._make_room(self.size - self.left + count)
        self._take(<const unsigned char*>PyBytes_AS_STRING(data) + at, count)
        return at + count

    def room(self):
        return None if self._room < self.size else memoryview(self)[self.size - self.left:]

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self._room < self.size:
            raise BufferError("there is no room yet")
        PyBuffer_FillInfo(buffer, self, self._at, self.size, False, flags)
        self._exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self._exports -= 1

    def fill(self, Py_ssize_t count):
        if not 0 <= count <= self.left or self._room < self.size:
            raise ValueError("that is more than there is room for")
        self._take(self._at + self.size - self.left, count)

    cdef _take(self, const unsigned char* masked, Py_ssize_t count):
        cdef:
            Py_ssize_t before = self.size - self.left, i
            unsigned char* to = self._at + before
            unsigned char key[4]
            bint is_ascii
        for i in range(4):
            key[i] = self._key[(before + i) & 3]
        is_ascii = unmask(to, masked, count, key)
        self.left -= count
        if self._is_text and not (is_ascii and self._between):
            if self._decoder is None:
                self._decoder = make_decoder()
            self._decoder.decode(PyBytes_FromStringAndSize(<char*>to, count), not self.left)
            begun = self._decoder.getstate()[0]
            if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
                raise UnicodeDecodeError("utf-8", begun, 0, 2, "invalid continuation byte")
            self._between = not begun

    cdef _make_room(self, Py_ssize_t needed):
        cdef:
            Py_ssize_t room
            unsigned char* at
        if needed <= self._room and not self._room < self.size <= 8 * needed:
            return
        room = min(self.size, max(8 * needed, LEAST))
        # Only of the whole size can it become the message; before, it is the same memory all the same.
        payload = new_ascii(room) if self._is_text else PyBytes_FromStringAndSize(NULL, room)
        at = characters(payload) if self._is_text else <unsigned char*>PyBytes_AS_STRING(payload)
        if self._payload is not None:
            memcpy(at, self._at, self.size - self.left)
        self._payload = payload
        self._at = at
        self._room = room

    def message(self):
        # A message must not change, and the payload still can while somebody has room.
        cdef bint is_settled = not self._exports
        if not self._is_text:
            return ("binary", self._payload if is_settled else PyBytes_FromStringAndSize(<char*>self._at, self.size))
        if is_settled and self._decoder is None:
            return ("text", self._payload)
        return ("text", PyUnicode_DecodeUTF8(<char*>self._at, self.size, NULL))
