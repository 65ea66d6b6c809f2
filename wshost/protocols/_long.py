"""A plain frame that arrives in pieces: its payload so far, valid so far. Knows nothing of what comes behind it."""

from __future__ import annotations

from codecs import getincrementaldecoder

from wshost.protocols._lane import TEXT, unmask_into_buffer

#: The least room that is made for a payload, in bytes.
_LEAST = 4_096

_Decoder = getincrementaldecoder("utf-8")


class LongFrame:
    """The payload of one frame of which the head is read.

    Its pieces go into one buffer: kept one by one, those of a single byte would weigh fifty times what was sent.

    :param first: the frame's first byte, `TEXT` or `BINARY`.
    :param size: of the payload, in bytes.
    :param key: its mask.
    """

    __slots__ = ("_between", "_decoder", "_key", "_payload", "left", "size")

    def __init__(self, first: int, size: int, key: bytes) -> None:
        self.size = size
        #: How many bytes are still to come.
        self.left = size
        self._key = key
        self._payload = bytearray()
        # Of a text, what judges it as it comes, and whether that stands between two characters.
        self._decoder = _Decoder() if first == TEXT else None
        self._between = True

    def add(self, data: bytes, at: int) -> int:
        """Take what is there of the payload.

        :param at: where in the data it goes on.
        :returns: where it ends.
        :raises UnicodeDecodeError: as soon as it can't become valid UTF-8 any more.
        """
        stop = min(at + self.left, len(data))
        before = self.size - self.left
        after = before + stop - at
        self._make_room(after)
        is_ascii = unmask_into_buffer(self._payload, before, data, at, stop, self._key)
        self.left -= stop - at
        if self._decoder is not None and not (is_ascii and self._between):
            with memoryview(self._payload) as payload:
                self._decoder.decode(payload[before:after], final=not self.left)
            self._between = not self._decoder.getstate()[0]
        return stop

    def _make_room(self, needed: int) -> None:
        """Have room for so many bytes: for all when an eighth of them is there, as each step copies what there is."""
        room = len(self._payload)
        if room < needed:
            self._payload += bytes(min(self.size, max(8 * needed, _LEAST)) - room)

    def message(self) -> tuple[str, str | bytes]:
        """Return the message, as handlers get it, when nothing is left to come."""
        if self._decoder is None:
            return ("binary", bytes(self._payload))
        return ("text", self._payload.decode())
