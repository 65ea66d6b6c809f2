"""What deflates a connection's messages, and inflates them no further than they may be (RFC 7692 §7.2).

ISA-L deflates, where it is installed: 16 KiB of JSON in an eighth of zlib's time. zlib inflates: a small message
in half of ISA-L's time; and its decompressors, once used, have a fifth of the memory (`python -m benchmarks.deflate`).
Knows no frames.
"""

from __future__ import annotations

import sys
import zlib
from typing import Any

__all__ = ["MAX_WINDOW_BITS", "WINDOW_BITS", "Corrupt", "Deflater", "Inflater", "TooLong", "codec"]

try:
    from isal import isal_zlib as codec
except ImportError:  # pragma: no cover - PyPy, for one, has no wheel
    codec = zlib  # type: ignore[misc]

#: LZ77 window, of both directions where the client lets us choose, and zlib's memory level for deflating: by these its
#: compressors take 37 KiB instead of 256. ISA-L's take 63.
WINDOW_BITS = 12
#: The window where nothing smaller was agreed on (RFC 7692 §7.1.2).
MAX_WINDOW_BITS = 15
MEMORY_LEVEL = 5
#: In ISA-L more takes three times the memory, for two hundredths of the size; in zlib more takes time.
LEVEL = 1

#: What ends a message, and is left out (RFC 7692 §7.2.1).
_TAIL = b"\0\0\xff\xff"
# Behind the last block of a stream comes the header of an empty one, or nothing (RFC 7692 §7.2.3.4).
_BEHIND = frozenset((b"", b"\0"))
_SYNC_FLUSH = zlib.Z_SYNC_FLUSH
_error = zlib.error


class TooLong(Exception):
    """A message is longer than it may be."""


class Corrupt(Exception):
    """What came is no deflated message."""


class Deflater:
    """What deflates messages, one after the other.

    :param window_bits: of the LZ77 window, 9 to 15.
    :param takeover: each message may refer back to those before it. Where not, it depends on nothing but itself.
    """

    __slots__ = ("_stream", "_takeover", "_window_bits")

    def __init__(self, window_bits: int, takeover: bool) -> None:
        self._window_bits = window_bits
        self._takeover = takeover
        self._stream: Any = None

    def deflate(self, message: bytes) -> bytes:
        """Return a message's payload (RFC 7692 §7.2.1)."""
        stream = self._stream
        if stream is None:
            stream = codec.compressobj(LEVEL, codec.DEFLATED, -self._window_bits, MEMORY_LEVEL)
            if self._takeover:
                self._stream = stream
        deflated: bytes = stream.compress(message) + stream.flush(_SYNC_FLUSH)
        return deflated[:-4]


class Inflater:
    """What inflates messages, one after the other, each as a whole or piece by piece.

    zlib is asked for one byte more than is allowed: by that, a message that ends there is told from one that goes on.

    :param window_bits: of the peer's LZ77 window.
    :param limit: the largest message, in bytes.
    """

    __slots__ = ("_left", "_limit", "_stream", "_window_bits")

    def __init__(self, window_bits: int, limit: int) -> None:
        self._window_bits = window_bits
        # What zlib can be asked for.
        self._limit = min(limit, sys.maxsize - 1)
        # How much of the limit the message leaves.
        self._left = self._limit
        self._stream: Any = None

    def inflate(self, payload: bytes) -> bytes:
        """Return a whole message.

        :raises TooLong: when it exceeds the limit.
        :raises Corrupt: when that is none.
        """
        self.begin()
        message = self.add(payload)
        self.end()
        return message

    def begin(self) -> None:
        """A message begins."""
        self._left = self._limit
        if self._stream is None:
            self._stream = zlib.decompressobj(-self._window_bits)

    def add(self, payload: bytes) -> bytes:
        """Return what the next piece of a payload holds; raises what `inflate` does."""
        try:
            inflated: bytes = self._stream.decompress(payload, self._left + 1)
        except _error as error:
            raise Corrupt from error
        if len(inflated) > self._left:
            raise TooLong
        self._left -= len(inflated)
        if self._stream.unused_data not in _BEHIND:
            raise Corrupt
        return inflated

    def end(self) -> None:
        """A message ends; raises what `inflate` does."""
        try:
            # This completes an empty block (RFC 7692 §7.2.1). To one that was cut it mostly adds something; where it
            # happens to end that, the next message is wrong.
            cut = self._stream.decompress(_TAIL, 1)
        except _error as error:
            raise Corrupt from error
        if cut:
            raise Corrupt
        if self._stream.eof:
            # The next message starts a stream of its own.
            self._stream = None
