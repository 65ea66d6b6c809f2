"""Published messages as frames, the same bytes for every connection that does not compress (RFC 6455 §5.2)."""

from __future__ import annotations

from zope.interface import implementer

from wshost.interfaces import IEncoding


@implementer(IEncoding)
class Frames:
    """Each message in one unmasked frame; text is UTF-8."""

    def encode(self, data: str | bytes) -> bytes:
        if isinstance(data, str):
            head, payload = 0x81, data.encode()
        else:
            head, payload = 0x82, data
        size = len(payload)
        if size < 126:
            return bytes((head, size)) + payload
        if size < 1 << 16:
            return bytes((head, 126)) + size.to_bytes(2, "big") + payload
        return bytes((head, 127)) + size.to_bytes(8, "big") + payload


#: The one instance, by which connections that share are known.
FRAMES = Frames()
