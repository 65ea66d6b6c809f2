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

#: Streams of deflate in one message, each but the last ended by a block that is marked as final (RFC 7692 §7.2.1).
MAX_STREAMS = 256
#: What beginning another one weighs, beside the bytes of a message.
STREAM = 512

#: What ends a message, and is left out (RFC 7692 §7.2.1).
_TAIL = b"\0\0\xff\xff"
# With that, a message ends with an empty block, and more of those change nothing. To one that was cut within a block
# they add something, or are an error there. In the head of a block it takes many until it comes to that: 120 bytes were
# enough for each cut of a hundred thousand.
_MORE = b"\0\0\0\xff\xff" * 24
_END = _TAIL + _MORE
# What is behind a final block is given to zlib in pieces of this size: it hands back what it has no use for.
_PIECE = 4_096
_SYNC_FLUSH = zlib.Z_SYNC_FLUSH
_error = zlib.error


class TooLong(Exception):
    """A message is longer than it may be, or of too many streams.

    :param inflated: what the last piece holds, no further than is allowed; one byte of it may be too many.
    """

    def __init__(self, inflated: bytes = b"") -> None:
        super().__init__()
        self.inflated = inflated


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

    Behind a block that is marked as final, another stream begins, which may refer back to what was before (RFC 7692
    §7.2.2). zlib doesn't say what that was, so the last of all that was inflated is kept here.

    :param window_bits: of the peer's LZ77 window.
    :param limit: the largest message, in bytes.
    :param takeover: messages may refer back to those before; where not, nothing is kept between them.
    """

    __slots__ = ("_ended", "_left", "_limit", "_size", "_stream", "_takeover", "_window", "_window_bits", "streams")

    def __init__(self, window_bits: int, limit: int, takeover: bool = True) -> None:
        # A peer's zlib may well have made 9 bits of 8; and ours takes 8 for 9 or not, as its version is.
        self._window_bits = max(window_bits, 9)
        # What zlib can be asked for.
        self._limit = min(limit, sys.maxsize - 1)
        self._takeover = takeover
        # How much of the limit the message leaves.
        self._left = self._limit
        self._stream: Any = None
        # The window of what comes next, and perhaps as much again.
        self._window = bytearray()
        self._size = 1 << self._window_bits
        # A final block was the last that came.
        self._ended = False
        #: How many streams the message has gone on to.
        self.streams = 0

    def inflate(self, payload: bytes) -> bytes:
        """Return a whole message.

        :raises TooLong: when it exceeds the limit.
        :raises Corrupt: when that is none.
        """
        stream = self._stream
        if stream is None:
            self.begin()
            stream = self._stream
        # What `begin`, `add` and `end` do, at once.
        self.streams = 0
        limit = self._limit
        try:
            message: bytes = stream.decompress(payload, limit + 1)
            size = len(message)
            if size > limit:
                raise TooLong(message)
            self._remember(message, size)
            if stream.eof:
                self._left = limit - size
                message = self._go_on(self._end_stream(), message)
                self.end()
                return message
            cut = stream.decompress(_END, 1)
        except _error as error:
            raise Corrupt from error
        if cut or stream.eof:
            self._end_final(cut)
        if not self._takeover:
            self._forget()
        return message

    def begin(self) -> None:
        """A message begins."""
        self._left = self._limit
        self._ended = False
        self.streams = 0
        if self._stream is None:
            self._begin_stream()

    def add(self, payload: bytes) -> bytes:
        """Return what the next piece of a payload holds; raises what `inflate` does."""
        if self._ended:
            return self._go_on(payload, b"")
        inflated = self._add(payload)
        return self._go_on(self._end_stream(), inflated) if self._stream.eof else inflated

    def end(self) -> None:
        """A message ends; raises what `inflate` does."""
        if not self._ended:
            try:
                cut = self._stream.decompress(_END, 1)
            except _error as error:
                raise Corrupt from error
            if cut or self._stream.eof:
                self._end_final(cut)
        if not self._takeover:
            self._forget()

    def _end_final(self, cut: bytes) -> None:
        """A message ends with an empty block that is final, or is cut."""
        if cut or self._end_stream() != _MORE:
            raise Corrupt

    def _forget(self) -> None:
        self._stream = None
        self._window.clear()

    def _add(self, payload: bytes) -> bytes:
        try:
            inflated: bytes = self._stream.decompress(payload, self._left + 1)
        except _error as error:
            raise Corrupt from error
        size = len(inflated)
        if size > self._left:
            raise TooLong(inflated)
        self._left -= size
        self._remember(inflated, size)
        return inflated

    def _remember(self, inflated: bytes, size: int) -> None:
        """Keep what a next stream may refer back to."""
        window = self._window
        if size < self._size:
            window += inflated
            if len(window) > 2 * self._size:
                del window[: -self._size]
        else:
            window[:] = inflated[-self._size :]

    def _begin_stream(self) -> None:
        window = self._window
        bits = -self._window_bits
        # Without one, it needs no memory for a window before it is used.
        self._stream = zlib.decompressobj(bits, zdict=window) if window else zlib.decompressobj(bits)

    def _end_stream(self) -> bytes:
        """Behind a final block: return what is there of the next stream."""
        unused: bytes = self._stream.unused_data
        self._stream = None
        self._ended = True
        return unused

    def _go_on(self, payload: bytes, before: bytes) -> bytes:
        """Return what a payload holds that begins behind a final block; and before it, what was before."""
        parts = [before]
        at = 0
        while at < len(payload):
            if self._ended:
                self._ended = False
                self.streams += 1
                if self.streams >= MAX_STREAMS:
                    raise TooLong(b"".join(parts))
                self._begin_stream()
            piece = payload[at : at + _PIECE]
            at += len(piece)
            try:
                parts.append(self._add(piece))
            except TooLong as error:
                raise TooLong(b"".join([*parts, error.inflated])) from None
            if self._stream.eof:
                at -= len(self._end_stream())
        return b"".join(parts)
