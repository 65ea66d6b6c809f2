"""Reads what the kernel counts for a process: CPU time and memory. Knows nothing of what the process does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

#: Linux's clock of a process's CPU time: the nanoseconds on a core (CPUCLOCK_SCHED, see clock_getcpuclockid(3)).
_SCHEDULED = 2

T = TypeVar("T", int, float)


def descendants(pid: int) -> list[int]:
    """Return a process, its children, their children, and so on, if they still run."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # the process has just ended
                found += map(int, children.read_text().split())
    return found


def cpu(pid: int) -> float:
    """Return a process's CPU time in seconds: that of all its threads, ended ones too, and its running descendants."""
    return _sum(pid, own_cpu)


def own_cpu(pid: int) -> float:
    """Return a process's CPU time in seconds, without that of its descendants.

    :raises OSError: when it has ended.
    """
    return time.clock_gettime(~pid << 3 | _SCHEDULED)


def pss(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes; each shared page counts in part."""
    return _sum(pid, lambda process: read_pss(Path(f"/proc/{process}/smaps_rollup").read_text()))


def own_memory(pid: int) -> int:
    """Return how many bytes of memory a process shares with no other one.

    :raises OSError: when it has ended.
    """
    smaps = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", smaps, re.MULTILINE))


def _sum(pid: int, read: Callable[[int], T]) -> T:
    """Return the sum of `read` for a process and its descendants; a descendant that ends meanwhile counts nothing.

    :raises OSError: when the process itself has ended.
    """
    total = read(pid)
    for process in descendants(pid)[1:]:
        with suppress(OSError):
            total += read(process)
    return total


def read_pss(smaps: str) -> int:
    """Return the Pss in a smaps_rollup file, in bytes.

    :raises ValueError: when there is none.
    """
    found = re.search(r"^Pss:\s+(\d+) kB$", smaps, re.MULTILINE)
    if not found:
        raise ValueError("there is no Pss in smaps_rollup")
    return int(found[1]) * 1024


def wait_until_idle(pid: int, seconds: float = 20.0) -> None:
    """Return when a process has used next to no CPU for a moment, or the time is up."""
    deadline = time.monotonic() + seconds
    before = cpu(pid)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = cpu(pid)
        if now - before < 0.0025:
            return
        before = now
