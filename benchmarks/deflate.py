"""Compares libraries that deflate: ``python -m benchmarks.deflate``. Knows nothing of wshost.

For each library and level, it prints the CPU time to deflate and to inflate a message, with the context of earlier
messages, and the compression ratio; then the memory of a used compressor and a used decompressor. Messages that were
deflated with a window of 12 bits are inflated by zlib with the same window, as a check: no library may look back
farther than was agreed. zlib-ng is compared if it is installed: ``pip install zlib-ng``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from benchmarks.accounting import pss

WINDOW_BITS, MEMORY_LEVEL = 12, 5
LIBRARIES = {"zlib": "zlib", "zlib-ng": "zlib_ng.zlib_ng", "ISA-L": "isal.isal_zlib"}
LEVELS = {"zlib": (1, 6), "zlib-ng": (1, 2, 6), "ISA-L": (0, 1, 2, 3)}
SIZES = (200, 1_024, 16_384)
#: How many messages of each size, and how many objects whose memory is measured.
MESSAGES, OBJECTS = 200, 1_000
WORDS = ("alpha", "beta", "gamma", "price", "volume", "bid", "ask", "symbol", "user", "room", "message", "status")


def libraries() -> Iterator[tuple[str, ModuleType]]:
    """Yield the libraries that are installed, by name."""
    for name, module in LIBRARIES.items():
        try:
            yield name, import_module(module)
        except ImportError:
            print(f"{name}: not installed")


def messages(size: int) -> list[bytes]:
    """Return JSON texts of a size, all different, but of the same structure."""
    chance = random.Random(size)

    def row() -> dict[str, Any]:
        return {
            "id": chance.randrange(10**6),
            "symbol": chance.choice(WORDS),
            "price": round(chance.random() * 1_000, 2),
            "text": " ".join(chance.choices(WORDS, k=5)),
        }

    return [json.dumps([row() for _ in range(1 + size // 60)]).encode()[:size] for _ in range(MESSAGES)]


def best(call: Callable[[], object], times: int = 5) -> float:
    """Return the least CPU time of several calls, in µs for each message."""
    found = []
    for _ in range(times):
        start = time.process_time()
        call()
        found.append((time.process_time() - start) / MESSAGES * 1e6)
    return min(found)


def deflated(library: Any, level: int, texts: Sequence[bytes]) -> list[bytes]:
    """Return the texts, deflated one after the other in one context."""
    stream = library.compressobj(level, library.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
    return [stream.compress(text) + stream.flush(library.Z_SYNC_FLUSH) for text in texts]


def inflated(library: Any, payloads: Sequence[bytes]) -> list[bytes]:
    """Return the payloads, inflated one after the other in one context."""
    stream = library.decompressobj(-WINDOW_BITS)
    return [stream.decompress(payload, 1 << 20) for payload in payloads]


def compare(size: int) -> None:
    """Print the libraries' figures for messages of a size."""
    texts = messages(size)
    payloads = deflated(zlib, 6, texts)
    for name, library in libraries():
        inflating = best(lambda library=library: inflated(library, payloads))  # type: ignore[misc]
        for level in LEVELS[name]:
            deflating = best(lambda library=library, level=level: deflated(library, level, texts))  # type: ignore[misc]
            ours = deflated(library, level, texts)
            right = inflated(zlib, ours) == texts and inflated(library, payloads) == texts
            ratio = sum(map(len, ours)) / sum(map(len, texts))
            print(
                f"{size:>6} B  {name:8} level {level}: {deflating:7.2f} µs to deflate, {inflating:6.2f} to inflate, "
                f"{ratio:.3f} of the size{'' if right else ', WRONG'}"
            )


def weigh(name: str, level: int) -> None:
    """Print the memory of a compressor, or of a decompressor for level -1. Runs in a process of its own."""
    library: Any = import_module(LIBRARIES[name])
    texts = messages(1_024)
    payloads = deflated(zlib, 6, texts)
    before = pss(os.getpid())
    streams = []
    for _ in range(OBJECTS):
        if level < 0:
            stream = library.decompressobj(-WINDOW_BITS)
            for payload in payloads:
                stream.decompress(payload, 1 << 20)
        else:
            stream = library.compressobj(level, library.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
            for text in texts:
                stream.compress(text)
                stream.flush(library.Z_SYNC_FLUSH)
        streams.append(stream)
    what = "a decompressor" if level < 0 else f"a compressor of level {level}"
    print(f"{name:8} {what}: {(pss(os.getpid()) - before) / OBJECTS / 1_024:.1f} KiB")


def main() -> None:
    if len(sys.argv) == 3:
        weigh(sys.argv[1], int(sys.argv[2]))
        return
    for size in SIZES:
        compare(size)
    for name, _ in libraries():
        for level in (-1, *LEVELS[name]):
            subprocess.run([sys.executable, "-m", "benchmarks.deflate", name, str(level)], check=True)


if __name__ == "__main__":
    main()
