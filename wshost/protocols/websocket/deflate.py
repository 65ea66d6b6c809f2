"""Deflates and inflates the messages of a connection, never beyond the size limit (RFC 7692 §7.2). Knows no frames.

ISA-L deflates, where it is installed: it takes an eighth of zlib's time for 16 KiB of JSON. zlib inflates: it takes
half of ISA-L's time for a small message, and a fifth of the memory (`python -m benchmarks.deflate`).
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

#: The LZ77 window of both directions, if the client leaves the choice to the server. With this window and the memory
#: level below, a compressor of zlib takes 37 KiB instead of 256; a compressor of ISA-L takes 63.
WINDOW_BITS = 12
#: The window without an agreement on a smaller one (RFC 7692 §7.1.2).
MAX_WINDOW_BITS = 15
MEMORY_LEVEL = 5
#: A higher level takes three times the memory in ISA-L, to save 2 % of the size; in zlib it takes more time.
LEVEL = 1

#: The most deflate streams in one message; each but the last ends with a final block (RFC 7692 §7.2.1).
MAX_STREAMS = 256
#: Beginning another stream costs as much as this many bytes of a message.
STREAM = 512

#: The end of a flushed message, which is not sent (RFC 7692 §7.2.1).
_TAIL = b"\0\0\xff\xff"
# These empty blocks tell a truncated message. A complete message plus _TAIL ends with an empty block, and more empty
# blocks change nothing. Within a truncated block they yield bytes or an error; within the head of a block, only after
# many of them: 120 bytes were enough for each of a hundred thousand truncated messages.
_MORE = b"\0\0\0\xff\xff" * 24
_END = _TAIL + _MORE
# After a final block zlib gets pieces of this size: it copies and returns all input that follows the next final block.
_PIECE = 4_096
_SYNC_FLUSH = zlib.Z_SYNC_FLUSH
_error = zlib.error


class TooLong(Exception):
    """A message exceeds the size limit, or has too many streams.

    :param inflated: the content of the last piece, up to the limit or one byte beyond it.
    """

    def __init__(self, inflated: bytes = b"") -> None:
        super().__init__()
        self.inflated = inflated


class Corrupt(Exception):
    """The input is no deflated message."""


class Deflater:
    """Deflates one message after the other.

    :param window_bits: the size of the LZ77 window, 9 to 15.
    :param takeover: whether a message may refer back to earlier ones.
    """

    def __init__(self, window_bits: int, takeover: bool) -> None:
        self._window_bits = window_bits
        self._takeover = takeover
        self._stream: Any = None

    def deflate(self, message: bytes) -> bytes:
        """Return the payload of a message, deflated (RFC 7692 §7.2.1)."""
        stream = self._stream
        if stream is None:
            stream = codec.compressobj(LEVEL, codec.DEFLATED, -self._window_bits, MEMORY_LEVEL)
            if self._takeover:
                self._stream = stream
        deflated: bytes = stream.compress(message) + stream.flush(_SYNC_FLUSH)
        return deflated[:-4]


class Inflater:
    """Inflates one message after the other, each as a whole or piece by piece.

    zlib is asked for one byte beyond the limit, to tell a message that ends at the limit from one that goes on.

    After a final block another stream begins, which may refer back to earlier output (RFC 7692 §7.2.2). zlib forgets
    its window there, so the end of the output is kept here.

    :param window_bits: the size of the peer's LZ77 window.
    :param limit: the largest message, in bytes.
    :param takeover: whether messages may refer back to earlier ones; if not, nothing is kept between them.
    """

    def __init__(self, window_bits: int, limit: int, takeover: bool = True) -> None:
        # A peer's zlib may use 9 bits when it is asked for 8. Whether the zlib here does depends on its version.
        self._window_bits = max(window_bits, 9)
        # The most that zlib can be asked for.
        self._limit = min(limit, sys.maxsize - 1)
        self._takeover = takeover
        # How much more of the current message the limit allows.
        self._left = self._limit
        self._stream: Any = None
        # The end of the output: at least a window, at most two.
        self._window = bytearray()
        self._size = 1 << self._window_bits
        # Whether the last block was a final one.
        self._ended = False
        #: How many streams followed the first in this message.
        self.streams = 0

    def inflate(self, payload: bytes) -> bytes:
        """Return a whole message.

        :raises TooLong: when it exceeds the limit.
        :raises Corrupt: when it is malformed or truncated.
        """
        stream = self._stream
        if stream is None:
            self.begin()
            stream = self._stream
        # The fast form of `begin`, `add` and `end`.
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
        """Begin a message."""
        self._left = self._limit
        self._ended = False
        self.streams = 0
        if self._stream is None:
            self._begin_stream()

    def add(self, payload: bytes) -> bytes:
        """Inflate the next piece of a payload; raises what `inflate` does."""
        if self._ended:
            return self._go_on(payload, b"")
        inflated = self._add(payload)
        return self._go_on(self._end_stream(), inflated) if self._stream.eof else inflated

    def end(self) -> None:
        """End a message; raises what `inflate` does."""
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
        """Accept a message that ends with an empty final block; refuse a truncated one."""
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
        """Keep the output that a next stream may refer back to."""
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
        # Without a dictionary, zlib allocates no window before it is used.
        self._stream = zlib.decompressobj(bits, zdict=window) if window else zlib.decompressobj(bits)

    def _end_stream(self) -> bytes:
        """After a final block: return the bytes of the next stream that zlib has already been given."""
        unused: bytes = self._stream.unused_data
        self._stream = None
        self._ended = True
        return unused

    def _go_on(self, payload: bytes, before: bytes) -> bytes:
        """Inflate a payload that begins after a final block.

        :param before: output of the same message, to put in front.
        """
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
