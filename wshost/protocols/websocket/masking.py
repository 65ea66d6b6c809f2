"""All code that touches every byte of a payload: it masks (RFC 6455 §5.3), and copies. Knows no rules of frames.

`masking.pyx` has the same functions in C. Where it was compiled, it runs in place of this file.
"""

from __future__ import annotations

#: From this size on, Autobahn's C code is faster than Python's integers.
_LARGE = 2_048


def unmask(data: bytes, start: int, size: int) -> bytes:
    """Return a payload without its mask.

    :param start: where the payload begins in the data, right after its masking key.
    :param size: the payload's size in bytes; the data has all of it.
    """
    return _unmasked(data[start : start + size], data[start - 4 : start])


def unmask_text(data: bytes, start: int, size: int) -> str | None:
    """Return a payload without its mask, as text; None when it is not UTF-8."""
    try:
        return _unmasked(data[start : start + size], data[start - 4 : start]).decode()
    except UnicodeDecodeError:
        return None


def _unmasked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    if size >= _LARGE:
        from wshost.protocols.websocket.autobahn_engine import xor  # noqa: PLC0415 - slow to import

        return xor(payload, key)
    mask = int.from_bytes((key * ((size + 3) >> 2))[:size], "little")
    return (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")


def framed(first: int, data: str | bytes) -> bytes:
    """Return data as the payload of an unmasked frame, text as UTF-8 (RFC 6455 §5.2).

    :param first: the frame's first byte.
    :raises TypeError: when the data is neither str nor bytes.
    :raises UnicodeEncodeError: for a str with lone surrogates.
    """
    if isinstance(data, str):
        payload = data.encode()
    elif isinstance(data, bytes):
        payload = data
    else:
        raise TypeError("a message is a str or bytes")
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class Room(bytearray):
    """The memory for a payload that arrives piece by piece. Others may write there by a `memoryview` of it.

    :param key: the payload's masking key, four bytes.
    :param is_text: whether the payload is text.
    """

    __slots__ = ("_is_text", "_key")

    def __init__(self, key: bytes, is_text: bool) -> None:
        if len(key) != 4:
            raise ValueError("a key has four bytes")
        self._key = key
        self._is_text = is_text

    def grow(self, size: int, used: int) -> None:
        """Make room for `size` bytes in all. The first `used` bytes keep their values.

        :raises BufferError: when there is a `memoryview` of it.
        """
        self.extend(bytes(size - len(self)))

    def put(self, at: int, data: bytes, start: int, count: int) -> bool:
        """Unmask `count` bytes of the data, from `start` on, and write them into the payload at `at`.

        :returns: whether they are ASCII.
        :raises ValueError: when the data has fewer bytes, or there is no room for them.
        """
        if start < 0 or not 0 <= count <= len(data) - start or not 0 <= at <= len(self) - count:
            raise ValueError("that is more than there is room for")
        turn = at & 3
        piece = _unmasked(data[start : start + count], self._key[turn:] + self._key[:turn])
        self[at : at + count] = piece
        return piece.isascii()

    def unmask(self, at: int, count: int) -> bool:
        """Unmask `count` bytes in place, which were written at `at` by a view. Returns and raises what `put` does."""
        return self.put(at, bytes(self[at : at + count]) if at >= 0 else b"", 0, count)

    def message(self, is_ascii: bool) -> str | bytes:
        """Return the whole payload; it never changes from now on.

        :param is_ascii: whether all of a text is ASCII.
        :raises UnicodeDecodeError: for a text that is not UTF-8.
        """
        return self.decode() if self._is_text else bytes(self)
