"""A plain frame that arrives in pieces: its payload so far, valid so far. Knows nothing of what comes behind it."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder

from wshost.protocols.websocket.masking import Room

#: The least room that is made for a payload, in bytes.
_LEAST = 4_096

_Decoder = getincrementaldecoder("utf-8")


class PartialFrame:
    """The payload of one frame of which the head is read.

    Its pieces go into one buffer: kept one by one, those of a single byte would weigh fifty times what was sent.

    :param is_text: whether the payload is text.
    :param size: of the payload, in bytes.
    :param key: its mask.
    """

    def __init__(self, is_text: bool, size: int, key: bytes) -> None:
        self.size = size
        #: How many bytes are still to come.
        self.left = size
        self._payload = Room(key, is_text)
        self._is_text = is_text
        # What decodes a text from its first piece on that is not ASCII; and whether it stands between two characters.
        self._decoder: IncrementalDecoder | None = None
        self._is_between = True

    def add(self, data: bytes, at: int) -> int:
        """Take what is there of the payload.

        :param at: where in the data it goes on.
        :returns: where it ends.
        :raises UnicodeDecodeError: as soon as it can't become valid UTF-8 any more.
        """
        before = self.size - self.left
        count = min(self.left, len(data) - at)
        room, needed = len(self._payload), before + count
        # For all of it when an eighth is there, as each step copies what there is.
        if room < needed or room < self.size <= 8 * needed:
            self._payload.grow(min(self.size, max(8 * needed, _LEAST)), before)
        self._check(before, count, self._payload.put(before, data, at, count))
        return at + count

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
        if len(self._payload) < self.size:
            raise ValueError("that is more than there is room for")
        before = self.size - self.left
        self._check(before, count, self._payload.unmask(before, count))

    def _check(self, before: int, count: int, is_ascii: bool) -> None:
        self.left -= count
        if not self._is_text or (is_ascii and self._is_between):
            return
        if self._decoder is None:
            self._decoder = _Decoder()
        with memoryview(self._payload) as payload:
            self._decoder.decode(payload[before : before + count], final=not self.left)
        begun = self._decoder.getstate()[0]
        if begun[:1] == b"\xed" and begun[1:] >= b"\xa0":
            # A surrogate (RFC 3629 §3): the decoder would wait for the third byte.
            raise UnicodeDecodeError("utf-8", begun, 0, 2, "invalid continuation byte")
        self._is_between = not begun

    def message(self) -> tuple[str, str | bytes]:
        """Return the message, as handlers get it, when nothing is left to come."""
        return "text" if self._is_text else "binary", self._payload.message(is_ascii=self._decoder is None)
