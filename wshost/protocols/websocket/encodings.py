"""Encodes published messages once for all connections with the same parameters. Knows no connection."""

from __future__ import annotations

from functools import cache

from zope.interface import implementer

from wshost.interfaces import IEncoding
from wshost.protocols.websocket.deflate import Deflater
from wshost.protocols.websocket.plain_frames import deflated_frame, frame


@implementer(IEncoding)
class FrameEncoding:
    """Encodes each message as one unmasked frame; text is UTF-8 (RFC 6455 §5.2)."""

    def encode(self, data: str | bytes) -> bytes:
        return frame(data)


@implementer(IEncoding)
class DeflatedFrameEncoding:
    """Encodes each message as one frame, deflated by itself, without a context (RFC 7692 §7.1.1.1).

    :param window_bits: the size of the LZ77 window that was agreed on.
    """

    def __init__(self, window_bits: int) -> None:
        self._deflater = Deflater(window_bits, takeover=False)

    def encode(self, data: str | bytes) -> bytes:
        payload = data.encode() if isinstance(data, str) else data
        return deflated_frame(self._deflater.deflate(payload), isinstance(data, bytes))


#: The only instance: connections are grouped by the identity of their encoding.
FRAMES = FrameEncoding()


@cache
def deflated_frames(window_bits: int) -> DeflatedFrameEncoding:
    """Return the only instance for this window size."""
    return DeflatedFrameEncoding(window_bits)
