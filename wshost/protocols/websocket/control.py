"""Encodes control frames (RFC 6455 §5.5). Knows no connection."""

from __future__ import annotations

#: The opcodes of control frames (RFC 6455 §5.5).
CLOSE, PING, PONG = 8, 9, 10


def control_frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked control frame, as a server sends it.

    :param opcode: `CLOSE`, `PING` or `PONG`.
    :param payload: at most 125 bytes.
    """
    return bytes((0x80 | opcode, len(payload))) + payload
