"""Sets how much freed memory the C library's allocator keeps for this process."""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: How many unused bytes stay at the top of the heap; and the size from which on a block gets its own mapping.
KEPT = 32 << 20
MAPPED = 8 << 20


def keep_memory() -> bool:
    """Let glibc keep some of the memory that was freed, as a server soon needs it again.

    By default, the memory of a large message returns to the kernel. For the next message it is mapped, faulted in and
    cleared again, which costs more than all other work for a message.

    :returns: False when nothing was changed: the user has set environment variables of mallopt(3), or the process has
        another C library or allocator.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, KEPT) and mallopt(_MMAP_THRESHOLD, MAPPED))
