"""The handler of the tortured server: an echo that also misbehaves when it is told to."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from wshost.connections.timers import Timer

#: What must be gone when its connection is: these objects are counted.
KINDS = ("Connection", "Context", "Stream", "WebSocket", "HandlerSession", "FrameReader", "Timer", "ModuleTimer")


class OddError(BaseException):
    """Nothing that a server expects."""


def raise_anything(name: str) -> None:
    """Raise an exception by its name."""
    raise {
        "ValueError": ValueError("a handler's mistake"),
        "RecursionError": RecursionError(),
        "MemoryError": MemoryError(),
        "GeneratorExit": GeneratorExit(),
        "StopIteration": StopIteration(),
        "StopAsyncIteration": StopAsyncIteration(),
        "CancelledError": asyncio.CancelledError(),
        "TimeoutError": TimeoutError(),
        "OddError": OddError(),
        "ExceptionGroup": ExceptionGroup("two", [ValueError("one"), OSError("two")]),
    }[name]


def counts() -> dict[str, int]:
    """Return how many objects of a connection's kinds exist, and how many descriptors are open."""
    gc.collect()
    objects = gc.get_objects()
    # Timers that were cancelled may stay for a while; of those, the number is limited.
    found = Counter(type(one).__name__ for one in objects if not isinstance(one, Timer) or one.active)
    # The directory that is listed is open meanwhile.
    descriptors = len(list(Path("/proc/self/fd").iterdir())) - 1
    return {name: found[name] for name in KINDS} | {"objects": len(objects), "descriptors": descriptors}


def init(options: Any) -> Any:
    """Return the connection's ref as the state."""
    return options["worker"]


def handle(message: Any, ref: Any) -> Any:
    """Answer a text by itself, or do what it says."""
    if message[0] not in {"text", "binary"}:
        return ("noreply", ref)
    data = message[1]
    if not isinstance(data, str) or not data.startswith("!"):
        return ("reply", data, ref)
    what, _, how = data[1:].partition(" ")
    if what == "counts":
        return ("reply", json.dumps(counts()), ref)
    if what == "raise":
        raise_anything(how)
    if what == "block":
        time.sleep(float(how))
        return ("reply", data, ref)
    if what == "never":
        return never()
    if what == "later":
        return later(float(how), data, ref)
    return ("reply", {"nonsense": 1}, ref)


async def never() -> Any:
    """Never return."""
    await asyncio.get_running_loop().create_future()


async def later(seconds: float, data: str, ref: Any) -> Any:
    """Answer after a while."""
    await asyncio.sleep(seconds)
    return ("reply", data, ref)
