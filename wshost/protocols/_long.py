"""A plain frame that arrives in pieces: its payload so far, valid so far. Knows nothing of what comes behind it."""

from __future__ import annotations

from codecs import getincrementaldecoder
from io import BytesIO, StringIO

from wshost.protocols._lane import TEXT, unmask

_Decoder = getincrementaldecoder("utf-8")


class LongFrame:
    """The payload of one frame of which the head is read.

    Its pieces go into one buffer: kept one by one, those of a single byte would weigh fifty times what was sent.

    :param first: the frame's first byte, `TEXT` or `BINARY`.
    :param size: of the payload, in bytes.
    :param key: its mask.
    """

    __slots__ = ("_binary", "_decoder", "_key", "_text", "left", "size")

    def __init__(self, first: int, size: int, key: bytes) -> None:
        #: How many bytes are still to come.
        self.left = size
        self.size = size
        self._key = key
        self._binary = BytesIO()
        self._text = StringIO(newline="")
        self._decoder = _Decoder() if first == TEXT else None

    def add(self, data: bytes, at: int) -> int:
        """Take what is there of the payload.

        :param at: where in the data it goes on.
        :returns: where it ends.
        :raises UnicodeDecodeError: as soon as it can't become valid UTF-8 any more.
        """
        stop = min(at + self.left, len(data))
        size = stop - at
        payload = unmask(data[at:stop], self._key)
        self.left -= size
        turn = size & 3
        self._key = self._key[turn:] + self._key[:turn]
        if self._decoder is None:
            self._binary.write(payload)
        else:
            self._text.write(self._decoder.decode(payload, final=not self.left))
        return stop

    def message(self) -> tuple[str, str | bytes]:
        """Return the message, as handlers get it, when nothing is left to come."""
        if self._decoder is None:
            return ("binary", self._binary.getvalue())
        return ("text", self._text.getvalue())
