"""Published messages as frames, the same bytes for every connection that does not compress (RFC 6455 §5.2)."""

from __future__ import annotations

from zope.interface import implementer

from wshost.interfaces import IEncoding
from wshost.protocols._lane import frame


@implementer(IEncoding)
class Frames:
    """Each message in one unmasked frame; text is UTF-8."""

    def encode(self, data: str | bytes) -> bytes:
        return frame(data)


#: The one instance, by which connections that share are known.
FRAMES = Frames()
