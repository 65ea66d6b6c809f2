"""The fast lane: a message in one frame, read and written without the engine.

It judges nothing: what is not plainly right it leaves alone, for the engine to see from its first byte. Knows the bytes
of RFC 6455 §5.2; no state, and not who sends them. `plain_frames.pyx` is the same in Cython.
"""

from __future__ import annotations

from wshost.protocols.websocket.autobahn_engine import xor

#: The first byte of a message's only frame, without extensions.
TEXT, BINARY = 0x81, 0x82
#: Of these the payload is deflated (RFC 7692 §6).
DEFLATED_TEXT, DEFLATED_BINARY = 0xC1, 0xC2
#: That of a Close (RFC 6455 §5.5.1).
CLOSE = 0x88
# With what codes peers go that have nothing to complain of (RFC 6455 §7.4.1).
_GOING = frozenset({None, 1000, 1001})
#: From this size on Autobahn's C is faster than Python's integers.
_LARGE = 2_048


def take(data: bytes, at: int, limit: int) -> tuple[tuple[str, str | bytes], int] | None:
    """Read one message.

    :param data: what the peer has sent.
    :param at: where in it a frame begins.
    :param limit: the largest payload to read, in bytes; with -1 there is none.
    :returns: the message, as handlers get it, and where the next frame begins; None unless it is a whole and valid one.
    """
    found = head(data, at, limit)
    if found is None:
        return None
    first, size, start = found
    stop = start + size
    if stop > len(data):
        return None
    payload = unmasked(data[start:stop], data[start - 4 : start])
    if first == BINARY:
        return ("binary", payload), stop
    try:
        return ("text", payload.decode()), stop
    except UnicodeDecodeError:
        return None


def take_deflated(data: bytes, at: int, limit: int) -> tuple[bytes, bool, int] | None:
    """Read the frame of a deflated message.

    :returns: its payload, whether it is binary, and where the next frame begins; None unless it is a whole one.
    """
    found = _head(data, at, limit, DEFLATED_TEXT, DEFLATED_BINARY)
    if found is None:
        return None
    first, size, start = found
    stop = start + size
    if stop > len(data):
        return None
    return unmasked(data[start:stop], data[start - 4 : start]), first == DEFLATED_BINARY, stop


def take_close(data: bytes, at: int) -> tuple[int | None, str, int] | None:
    """Read a Close.

    :returns: its code or None, its reason, and where the next frame begins; None unless it is a whole one, of a peer
        that goes as it should: with 1000, 1001 or no code, and a reason that is UTF-8.
    """
    if len(data) - at < 6 or data[at] != CLOSE:
        return None
    size = data[at + 1] - 0x80
    start = at + 6
    stop = start + size
    if not 0 <= size <= 125 or size == 1 or stop > len(data):
        return None
    payload = unmasked(data[start:stop], data[at + 2 : start])
    code = payload[0] << 8 | payload[1] if size else None
    if code not in _GOING:
        return None
    try:
        return code, payload[2:].decode(), stop
    except UnicodeDecodeError:
        return None


def head(data: bytes, at: int, limit: int) -> tuple[int, int, int] | None:
    """Read the head of a frame.

    :returns: its first byte, its payload's size, and where that begins; None unless it is whole and plain: `TEXT` or
        `BINARY`, masked, its size not larger than the limit, and written as short as it can be.
    """
    return _head(data, at, limit, TEXT, BINARY)


def _head(data: bytes, at: int, limit: int, text: int, binary: int) -> tuple[int, int, int] | None:
    length = len(data)
    if length - at < 6:
        return None
    first, size = data[at], data[at + 1] & 0x7F
    if (first != text and first != binary) or data[at + 1] < 0x80:  # noqa: PLR1714 - the faster form
        return None
    start = at + 6
    if size == 126:
        start = at + 8
        size = data[at + 2] << 8 | data[at + 3]
        if size < 126:
            return None
    elif size == 127:
        start = at + 14
        size = int.from_bytes(data[at + 2 : at + 10], "big")
        if size < 65_536:
            return None
    return None if size > limit or start > length else (first, size, start)


def unmasked(payload: bytes, key: bytes) -> bytes:
    """Return a payload without its mask (RFC 6455 §5.3).

    :param key: of four bytes.
    :raises ValueError: when it is not.
    """
    if len(key) != 4:
        raise ValueError("a key has four bytes")
    size = len(payload)
    if size >= _LARGE:
        return xor(payload, key)
    mask = int.from_bytes((key * ((size + 3) >> 2))[:size], "little")
    return (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")


def frame(data: str | bytes) -> bytes:
    """Return a message as a server sends it: text for a str, binary for bytes.

    :raises TypeError: for anything else.
    :raises UnicodeEncodeError: for a str with lone surrogates.
    """
    if isinstance(data, str):
        return _framed(TEXT, data.encode())
    if isinstance(data, bytes):
        return _framed(BINARY, data)
    raise TypeError("a message is a str or bytes")


def deflated_frame(payload: bytes, is_binary: bool) -> bytes:
    """Return a message, of which this is the deflated payload, as a server sends it."""
    return _framed(DEFLATED_BINARY if is_binary else DEFLATED_TEXT, payload)


def _framed(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126, size >> 8, size & 0xFF)) + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload
