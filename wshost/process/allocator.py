"""How the C library's allocator serves this process. Knows nothing of what is allocated."""

from __future__ import annotations

import ctypes
import os

#: Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Unused memory on top of the heap that is kept, and the size from which on a block is mapped by itself, in bytes.
KEPT = 32 << 20
MAPPED = 8 << 20


def keep_memory() -> bool:
    """Let glibc keep a little of the memory that was freed; a server is to use it again at once.

    By default it goes back to the kernel, and is mapped, faulted in and cleared anew for each large message: that costs
    more than all that is done with one. What the user has said by environment variables (mallopt(3)) stays.

    :returns: whether it does now: there may be another C library, or another allocator.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, KEPT) and mallopt(_MMAP_THRESHOLD, MAPPED))
