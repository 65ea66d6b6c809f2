"""The exact built-in value in what users give, of which a subclass may say anything. Imports nothing of ours.

What is compiled takes no subclasses, an enumeration's member is formatted as its name, and a length may be overridden:
where a value enters, it becomes what these return. Each costs one look at the type of what is exact already.
"""

from __future__ import annotations

from math import isfinite
from reprlib import Repr
from typing import Any

_ALL = slice(None)


class _Shown(Repr):
    def repr1(self, x: Any, level: int) -> str:
        try:
            return super().repr1(x, level)
        except Exception:
            # As an integer with too many digits does.
            return f"<{type(x).__name__}>"


_shown = _Shown()
_shown.maxlevel = 2


def shown(value: Any) -> str:
    """Return a value as an error message may show it: short, whatever it is."""
    return _shown.repr(value)


def text(value: str) -> str:
    """Return the characters of a str, also of a subclass. :raises TypeError: when it is no str."""
    return value if type(value) is str else str.__str__(value)


def number(value: int) -> int:
    """Return an int, also of a subclass. :raises TypeError: when it is no int."""
    return value if type(value) is int else int.__int__(value)


def octets(value: bytes | bytearray | memoryview) -> bytes:
    """Return bytes as they are now: in C's order, whatever the format of a memoryview.

    :raises TypeError: when it is none of these.
    :raises ValueError: for a memoryview that was released.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, bytes):
        return bytes.__getitem__(value, _ALL)
    if isinstance(value, bytearray):
        return bytes(bytearray.__getitem__(value, _ALL))
    if isinstance(value, memoryview):
        return bytes(value)
    raise TypeError(f"bytes are wanted, not {type(value).__name__}")


def message(value: str | bytes | bytearray | memoryview) -> str | bytes:
    """Return a message: a str is a text, and bytes, a bytearray or a memoryview are binary.

    :raises TypeError: when it is none of these.
    :raises ValueError: for a memoryview that was released.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return octets(value)
    raise TypeError(f"a message is a str or bytes, not {type(value).__name__}")


def seconds(value: float) -> float:
    """Return a time in seconds.

    :raises TypeError: when it is no number.
    :raises ValueError: when it is not finite.
    """
    if not isfinite(value):
        raise ValueError(f"{value!r} is no number of seconds")
    return float(value)
