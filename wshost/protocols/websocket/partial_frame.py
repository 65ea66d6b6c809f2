"""A plain frame that arrives in pieces: its payload so far, valid so far. Knows nothing of what comes behind it.

`partial_frame.pyx` is the same in Cython, and is used where it is built.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

from wshost.protocols.websocket.plain_frames import TEXT, unmasked

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
        self._make_room(self.size - self.left + stop - at)
        self._take(data[at:stop])
        return stop

    def room(self) -> memoryview | None:
        """Return where the rest of the payload may be put as it comes, for `fill` to take; None before there is room.

        Nobody may write there any more when nothing is left to come.
        """
        if len(self._payload) < self.size:
            return None
        return memoryview(self._payload)[self.size - self.left :]

    def fill(self, count: int) -> None:
        """Take so many bytes more that were put there.

        :raises ValueError: when so many are not left to come.
        :raises UnicodeDecodeError: as soon as it can't become valid UTF-8 any more.
        """
        if not 0 <= count <= self.left or len(self._payload) < self.size:
            raise ValueError("that is more than there is room for")
        before = self.size - self.left
        self._take(bytes(memoryview(self._payload)[before : before + count]))

    def _take(self, masked: bytes) -> None:
        before = self.size - self.left
        turn = before & 3
        piece = unmasked(masked, self._key[turn:] + self._key[:turn])
        self._payload[before : before + len(piece)] = piece
        self.left -= len(piece)
        if self._decoder is not None and not (self._between and piece.isascii()):
            self._decoder.decode(piece, final=not self.left)
            begun = self._decoder.getstate()[0]
            if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
                # A surrogate (RFC 3629 §3): the decoder would wait for the third byte.
                raise UnicodeDecodeError("utf-8", begun, 0, 2, "invalid continuation byte")
            self._between = not begun

    def _make_room(self, needed: int) -> None:
        """Have room for so many bytes: for all when an eighth of them is there, as each step copies what there is."""
        room = len(self._payload)
        if room < needed or room < self.size <= 8 * needed:
            self._payload += bytes(min(self.size, max(8 * needed, _LEAST)) - room)

    def message(self) -> tuple[str, str | bytes]:
        """Return the message, as handlers get it, when nothing is left to come."""
        if self._decoder is None:
            return ("binary", bytes(self._payload))
        return ("text", self._payload.decode())
