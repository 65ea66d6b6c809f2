"""A plain frame that arrives in pieces: its payload so far, checked so far. Knows nothing of later frames."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder

from wshost.protocols.websocket.masking import Room

#: The room for a payload is at least this large, in bytes, unless the whole payload is smaller.
_LEAST = 4_096

_Decoder = getincrementaldecoder("utf-8")


class PartialFrame:
    """The payload of one frame whose head has been read.

    Its pieces go into one buffer: a list of pieces of a single byte would take fifty times the memory.

    :param is_text: whether the payload is text.
    :param size: the payload's size in bytes.
    :param key: its masking key.
    """

    def __init__(self, is_text: bool, size: int, key: bytes) -> None:
        self.size = size
        #: How many bytes are still to come.
        self.left = size
        self._payload = Room(key, is_text)
        self._is_text = is_text
        # Decodes a text, from its first piece that is not ASCII; and whether the pieces so far end between characters.
        self._decoder: IncrementalDecoder | None = None
        self._is_between = True

    def add(self, data: bytes, at: int) -> int:
        """Take the next piece of the payload from these bytes.

        :param at: where the piece begins in the data.
        :returns: where it ends.
        :raises UnicodeDecodeError: as soon as the payload can't become valid UTF-8 any more.
        """
        before = self.size - self.left
        count = min(self.left, len(data) - at)
        room, needed = len(self._payload), before + count
        # Each step copies the payload so far. So make room for all of it as soon as an eighth has arrived.
        if room < needed or room < self.size <= 8 * needed:
            self._payload.grow(min(self.size, max(8 * needed, _LEAST)), before)
        self._check(before, count, self._payload.put(before, data, at, count))
        return at + count

    def room(self) -> memoryview | None:
        """Return the memory for the rest of the payload, to be read into; then call `fill`. None before there is room.

        Nobody may write there any more once the payload is complete.
        """
        if len(self._payload) < self.size:
            return None
        return memoryview(self._payload)[self.size - self.left :]

    def fill(self, count: int) -> None:
        """Take `count` more bytes that were written into `room`.

        :raises ValueError: when fewer bytes are still to come.
        :raises UnicodeDecodeError: as soon as the payload can't become valid UTF-8 any more.
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
        """Return the message, as handlers get it. Called once the payload is complete."""
        return "text" if self._is_text else "binary", self._payload.message(is_ascii=self._decoder is None)
