from __future__ import annotations

from wshost.protocols.websocket.control import PING, PONG, control_frame


def test_a_control_frame_is_unmasked_with_its_opcode_and_length() -> None:
    """RFC 6455 §5.5."""
    assert control_frame(PING, b"") == b"\x89\x00"
    assert control_frame(PONG, b"x" * 125) == b"\x8a\x7d" + b"x" * 125
