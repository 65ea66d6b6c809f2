"""Converts users' values to exact built-in types, such as a subclass of str to str. Imports no other module of wshost.

A subclass may override anything: a member of an enumeration is formatted as its name, and a length may lie. Compiled
code takes no subclasses. So values are converted where they enter. For an exact value this is only a check of its type.
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
            # Such as the `repr` of an integer with too many digits.
            return f"<{type(x).__name__}>"


_shown = _Shown()
_shown.maxlevel = 2


def shown(value: Any) -> str:
    """Return a short text of any value, for an error message. Never raises."""
    return _shown.repr(value)


def text(value: str) -> str:
    """Return a str or an instance of a subclass as a str. :raises TypeError: when it is no str."""
    return value if type(value) is str else str.__str__(value)


def number(value: int) -> int:
    """Return an int or an instance of a subclass as an int. :raises TypeError: when it is no int."""
    return value if type(value) is int else int.__int__(value)


def octets(value: bytes | bytearray | memoryview) -> bytes:
    """Return a value as exact bytes; anything but exact bytes is copied. A memoryview of any format yields its memory.

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
    """Return a message: a str for a str; bytes for bytes, a bytearray or a memoryview.

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
