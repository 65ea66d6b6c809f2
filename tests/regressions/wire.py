"""Frames down to the bit, right or wrong: what a client library would refuse to send, or to show."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: The bit that marks a compressed message (RFC 7692 §7.2.3.1).
RSV1 = 0x40
#: What a sender of compressed messages leaves out at the end of each (RFC 7692 §7.2.1).
TAIL = b"\x00\x00\xff\xff"

_MASK = b"\x37\xfa\x21\x3d"


class Frame(NamedTuple):
    """One frame of a server."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False


def mask(payload: bytes) -> bytes:
    """Mask, or unmask (RFC 6455 §5.3)."""
    key = (_MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def head(opcode: int, size: int, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return the head of a client's frame, which may lie about the size, with its mask (RFC 6455 §5.2)."""
    first = (0x80 if fin else 0) | rsv | opcode
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + _MASK
    if size < 1 << 16:
        return struct.pack("!BBH", first, 0x80 | 126, size) + _MASK
    return struct.pack("!BBQ", first, 0x80 | 127, size) + _MASK


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a client's frame."""
    return head(opcode, len(payload), fin=fin, rsv=rsv) + mask(payload)


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """Return a client's Close."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def frames(data: bytes) -> Iterator[Frame]:
    """Read a server's frames, the last of which may be cut off."""
    while len(data) >= 2:
        first, size = data[0], data[1]
        start = 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + size:
            return
        yield Frame(first & 0x0F, data[start : start + size], bool(first & 0x80), bool(first & RSV1))
        data = data[start + size :]


def close_code(data: bytes) -> int | None:
    """Return the code of a server's Close among these frames; None without one."""
    for one in frames(data):
        if one.opcode == CLOSE:
            return int.from_bytes(one.payload[:2], "big")
    return None


def status(response: bytes) -> int | None:
    """Return the status of an HTTP response; None when there is none."""
    return int(response[9:12]) if response.startswith(b"HTTP/1.1 ") else None
