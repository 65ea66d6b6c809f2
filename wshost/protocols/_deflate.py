"""Which library deflates and inflates (RFC 1951): ISA-L where it is installed, and else zlib. Knows no WebSocket.

To deflate 16 KiB of JSON, zlib takes eight times as long at its default level, and to inflate it twice as long. zlib-ng
lies between them, and its compressors take four times the memory of either's (`python -m benchmarks.deflate`).
"""

from __future__ import annotations

import zlib
from typing import Any

__all__ = ["LEVEL", "codec", "compressor", "decompressor", "errors", "flushed"]

try:
    from isal import isal_zlib as codec
except ImportError:  # pragma: no cover - PyPy, for one, has no wheel
    codec = zlib  # type: ignore[misc]

#: In ISA-L more takes three times the memory, for two hundredths of the size; in zlib more takes time.
LEVEL = 1

#: What the decompressors raise.
errors: tuple[type[Exception], ...] = (zlib.error, codec.error)  # type: ignore[assignment]


def compressor(window_bits: int, memory_level: int) -> Any:
    """Return what deflates a stream.

    :param window_bits: of the LZ77 window, 9 to 15.
    :param memory_level: 1 to 9; ISA-L has but one.
    """
    return codec.compressobj(LEVEL, codec.DEFLATED, -window_bits, memory_level)


def decompressor(window_bits: int) -> Any:
    """Return what inflates a stream.

    :param window_bits: of the compressor's window.
    """
    return codec.decompressobj(-window_bits)


def flushed(stream: Any, data: bytes) -> bytes:
    """Return all that a compressor has to say of its data so far, with an empty block behind (RFC 7692 §7.2.1)."""
    deflated: bytes = stream.compress(data) + stream.flush(codec.Z_SYNC_FLUSH)
    return deflated
