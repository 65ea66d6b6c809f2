"""Reads frames that need no engine: a message in one frame, and a plain Close (RFC 6455 §5.2). Knows no state, no peer.

It rejects nothing: for a frame that is not plainly right it returns None, and the engine gets it from its first byte.
"""

from __future__ import annotations

from wshost.protocols.websocket.masking import framed, unmask, unmask_text

#: The first byte of a message's only frame, without extensions.
TEXT, BINARY = 0x81, 0x82
#: The same, with a deflated payload (RFC 7692 §6).
DEFLATED_TEXT, DEFLATED_BINARY = 0xC1, 0xC2
#: The first byte of a Close (RFC 6455 §5.5.1).
CLOSE = 0x88
#: A peer that closes with one of these codes, or with none, reports no error (RFC 6455 §7.4.1).
NORMAL, GOING_AWAY = 1000, 1001


def take(data: bytes, at: int, limit: int) -> tuple[tuple[str, str | bytes], int] | None:
    """Read one message.

    :param data: what the peer has sent.
    :param at: where a frame begins in it.
    :param limit: the largest payload to read, in bytes; -1 to read nothing.
    :returns: the message, as handlers get it, and where the next frame begins; None unless it is whole and valid.
    """
    first, size, start = _plain(data, at, len(data), limit, TEXT)
    stop = start + size
    if not first or stop > len(data):
        return None
    if first == BINARY:
        return ("binary", unmask(data, start, size)), stop
    text = unmask_text(data, start, size)
    return None if text is None else (("text", text), stop)


def take_deflated(data: bytes, at: int, limit: int) -> tuple[bytes, bool, int] | None:
    """Read the frame of a deflated message.

    :returns: its payload, whether it is binary, and where the next frame begins; None unless it is whole.
    """
    first, size, start = _plain(data, at, len(data), limit, DEFLATED_TEXT)
    stop = start + size
    if not first or stop > len(data):
        return None
    return unmask(data, start, size), first == DEFLATED_BINARY, stop


def take_close(data: bytes, at: int) -> tuple[int | None, str, int] | None:
    """Read a Close.

    :returns: its code or None, its reason, and where the next frame begins; None unless it is whole and valid, with
        1000, 1001 or no code.
    """
    size, start = _extent(data, at, len(data))
    stop = start + size
    # The payload begins here only if it is masked, and has at most 125 bytes.
    if start != at + 6 or stop > len(data) or data[at] != CLOSE:
        return None
    if not size:
        return None, "", stop
    payload = unmask(data, start, size)
    code = payload[0] << 8 | payload[1] if size > 1 else 0
    if code != NORMAL and code != GOING_AWAY:  # noqa: PLR1714 - the faster form
        return None
    try:
        return code, payload[2:].decode(), stop
    except UnicodeDecodeError:
        return None


def head(data: bytes, at: int, limit: int) -> tuple[bool, int, int] | None:
    """Read the head of a message's only frame. The payload may still be missing.

    :returns: whether it is text, the payload's size, and where the payload begins; None unless the head is whole and
        plain: masked, the size not above the limit, and encoded in the fewest bytes.
    """
    first, size, start = _plain(data, at, len(data), limit, TEXT)
    return (first == TEXT, size, start) if first else None


def _plain(data: bytes, at: int, length: int, limit: int, text: int) -> tuple[int, int, int]:
    """Do what `head` does, for a first byte of `text` (a text message) or `text` + 1 (a binary one).

    :returns: the first byte, or 0 where `head` returns None; the payload's size, and where it begins.
    """
    if length - at < 6 or (data[at] != text and data[at] != text + 1) or data[at + 1] < 0x80:
        return 0, 0, 0
    size, start, least = data[at + 1] - 0x80, at + 6, 0
    if size > 125:
        size, start = _extent(data, at, length)
        least = 126 if start == at + 8 else 65_536
    if not least <= size <= limit or start > length:
        return 0, 0, 0
    return data[at], size, start


def frame_size(data: bytes, at: int) -> int:
    """Return the size of any frame, its head included; -1 while it is unknown, or when it is impossible."""
    size, start = _extent(data, at, len(data))
    return start + size - at if start > at else -1


def _extent(data: bytes, at: int, length: int) -> tuple[int, int]:
    """Read the size of a frame's payload, and where it begins (RFC 6455 §5.2).

    :returns: both; -1, -1 while the length is incomplete, and when it is more than any memory can hold.
    """
    start = at + 2
    if start > length:
        return -1, -1
    masked, size = data[at + 1] >> 7, data[at + 1] & 0x7F
    if size == 126:
        start += 2
        if start > length:
            return -1, -1
        size = data[at + 2] << 8 | data[at + 3]
    elif size == 127:
        start += 8
        if start > length or data[at + 2] >= 0x40:
            return -1, -1
        size = int.from_bytes(data[at + 2 : start], "big")
    return size, start + 4 * masked


def frame(data: str | bytes) -> bytes:
    """Return a message as a server sends it: text for a str, binary for bytes.

    :raises TypeError: for anything else.
    :raises UnicodeEncodeError: for a str with lone surrogates.
    """
    return framed(TEXT if isinstance(data, str) else BINARY, data)


def deflated_frame(payload: bytes, is_binary: bool) -> bytes:
    """Return the frame of a message with this deflated payload, as a server sends it."""
    return framed(DEFLATED_BINARY if is_binary else DEFLATED_TEXT, payload)
