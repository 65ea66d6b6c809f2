"""Control frames as a server sends them (RFC 6455 §5.5). Knows no state."""

from __future__ import annotations

#: The opcodes of control frames (RFC 6455 §5.5).
CLOSE, PING, PONG = 8, 9, 10


def control_frame(opcode: int, payload: bytes) -> bytes:
    """Return a control frame as a server sends it (RFC 6455 §5.5).

    :param payload: of at most `MAX_PAYLOAD` bytes.
    """
    return bytes((0x80 | opcode, len(payload))) + payload
