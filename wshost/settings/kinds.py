"""The kinds of option values: each kind reads a value from text, checks it, and shows it. Knows no option by name."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from wshost import exact
from wshost.networks import Networks

_SIZE = re.compile(r"(\d+) ?([KMG]?)(?:iB)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_NUMBER = re.compile(r"(-?\d+)|-?\d+\.\d+", re.ASCII)
_TRUTH = {"true": True, "false": False}

T = TypeVar("T")
N = TypeVar("N", int, float)
T_co = TypeVar("T_co", covariant=True)


class Kind(ABC, Generic[T_co]):
    """One kind of values."""

    #: The placeholder for a value in `--help`; empty for a flag, which takes no value.
    metavar = ""
    #: Whether each use of the option on the command line adds to the value.
    repeatable = False

    def __init__(self, metavar: str = "") -> None:
        self.metavar = metavar or self.metavar

    @abstractmethod
    def check(self, value: Any) -> T_co:
        """Check a value of a file or a mapping, and return it in its exact type.

        :raises ValueError: with a message that says what is wrong.
        """

    def add(self, before: Any, text: str) -> T_co:
        """Return the value after one more use of the option on the command line.

        :param before: the value after earlier uses; None for the first use.
        :raises ValueError: with a message that says what is wrong.
        """
        return self.check(text)

    def show(self, value: Any) -> str:
        """Return a value as `--help` and the documentation show it."""
        return str(value)


class _Bounded(Kind[N]):
    def __init__(self, minimum: N, maximum: N, metavar: str = "") -> None:
        super().__init__(metavar)
        self.minimum: N = minimum
        self.maximum: N = maximum


class Integer(_Bounded[int]):
    """A whole number within bounds."""

    metavar = "N"

    def add(self, before: Any, text: str) -> int:
        return self.check(int(text) if text.isdecimal() else text)

    def check(self, value: Any) -> int:
        whole = whole_number(value)
        if whole is None or not self.minimum <= whole <= self.maximum:
            raise ValueError(f"{value!r} is not a whole number from {self.minimum} to {self.maximum}")
        return whole


class Processes(Integer):
    """A number of processes, or ``auto``: one for each processor that this one may use."""

    def add(self, before: Any, text: str) -> int:
        return self.check(text) if text == "auto" else super().add(before, text)

    def check(self, value: Any) -> int:
        if value == "auto":
            # Not on each system; then it is the number of all.
            able = getattr(os, "sched_getaffinity", None)
            return min(self.maximum, len(able(0)) if able else os.cpu_count() or 1)
        return super().check(value)


class Size(_Bounded[int]):
    """A number of bytes: 65536, 64KiB or 64K, 1MiB, 1GiB."""

    metavar = "SIZE"

    def check(self, value: Any) -> int:
        size = whole_number(value)
        if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
            size = int(found[1]) * _UNITS[found[2].lower()]
        if size is None or not self.minimum <= size <= self.maximum:
            raise ValueError(f"{value!r} is not a size from {self.minimum} to {self.maximum}, such as 65536 or 64KiB")
        return size

    def show(self, value: int) -> str:
        """Return the size in the largest unit that divides it."""
        unit, factor = max((one for one in _UNITS.items() if value % one[1] == 0), key=lambda one: one[1])
        return f"{value // factor}{unit and unit.upper() + 'iB'}"


class Seconds(_Bounded[float]):
    """A time in seconds, whole or not, within bounds."""

    metavar = "SECONDS"

    def add(self, before: Any, text: str) -> float:
        try:
            return self.check(float(text))
        except ValueError:
            raise self._wrong(text) from None

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.minimum <= value <= self.maximum:
            raise self._wrong(value)
        return float(value)

    def show(self, value: float) -> str:
        return f"{value:g}"

    def _wrong(self, value: Any) -> ValueError:
        return ValueError(f"{value!r} is not a number of seconds from {self.minimum:g} to {self.maximum:g}")


class Flag(Kind[bool]):
    """True or false; true when it is on the command line."""

    def add(self, before: Any, text: str) -> bool:
        return True

    def check(self, value: Any) -> bool:
        if type(value) is not bool:
            raise ValueError(f"{value!r} is not true or false")
        return value

    def show(self, value: bool) -> str:
        return str(value).lower()


class Choice(Kind[str]):
    """One of a few words."""

    def __init__(self, metavar: str, *words: str) -> None:
        super().__init__(metavar)
        self._words = words

    def check(self, value: Any) -> str:
        # Where the words are numbers, a file has them so.
        word = str(value) if type(value) is int else value
        if not isinstance(word, str) or word not in self._words:
            raise ValueError(f"{value!r} is none of {', '.join(self._words)}")
        return exact.text(word)


class Text(Kind[str]):
    """A string that is not empty."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError(f"{value!r} is not a string of one or more characters")
        if "\0" in value:
            # No path, name or address has one.
            raise ValueError(f"{value!r} has a null character")
        return exact.text(value)


class Network(Text):
    """An IP address, a network, or ``unix`` for peers on Unix sockets."""

    metavar = "NETWORK"

    def check(self, value: Any) -> str:
        text = super().check(value)
        Networks([text])
        return text


class Anything(Kind[Any]):
    """A string on the command line; in code it may be any object."""

    def check(self, value: Any) -> Any:
        return value


class Several(Kind[list[T]]):
    """A list of values of another kind; each use of the option on the command line adds one."""

    repeatable = True

    def __init__(self, kind: Kind[T]) -> None:
        super().__init__(kind.metavar)
        self._kind = kind

    def add(self, before: Any, text: str) -> list[T]:
        return [*(before or ()), self._kind.add(None, text)]

    def check(self, value: Any) -> list[T]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r} is not a list")
        return [self._kind.check(one) for one in value]


class OneOrSeveral(Several[str]):
    """Several strings; in a file or in code, one may come without a list."""

    def check(self, value: Any) -> list[str]:
        return super().check([value] if isinstance(value, str) else value)


class Table(Kind[dict[str, Any]]):
    """Values by name; each use of the option on the command line, KEY=VALUE, adds one value, a string."""

    repeatable = True

    def add(self, before: Any, text: str) -> dict[str, Any]:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise ValueError(f"{text!r} is not {self.metavar}")
        if before and key in before:
            raise ValueError(f"{key!r} is given twice")
        return {**(before or {}), key: value}

    def check(self, value: Any) -> dict[str, Any]:
        return mapping(value)


class Module(Kind[tuple[str, dict[str, Any]]]):
    """A protocol module's name and its options.

    On the command line: NAME,KEY=VALUE,…, where whole numbers, decimal numbers, ``true`` and ``false`` are not strings.
    In a file: the same text, or a table with the key ``module``. In code: the same, or a pair. Dashes in the options'
    names become underscores.
    """

    metavar = "NAME[,KEY=VALUE...]"

    def add(self, before: Any, text: str) -> tuple[str, dict[str, Any]]:
        name, *options = text.split(",")
        table: dict[str, Any] = {}
        for option in options:
            table = Table("KEY=VALUE").add(table, option)
        return self._pair(name, {key: _plain(value) for key, value in table.items()})

    def check(self, value: Any) -> tuple[str, dict[str, Any]]:
        if isinstance(value, str):
            return self.add(None, exact.text(value))
        if isinstance(value, Mapping):
            if "module" not in value:
                raise ValueError("a protocol module needs its name, as in module = 'http'")
            return self._pair(value["module"], {key: one for key, one in value.items() if key != "module"})
        if isinstance(value, list | tuple) and len(value) == 2:
            return self._pair(*value)
        raise ValueError(f"{value!r} is not a protocol module and its options")

    def _pair(self, name: Any, options: Any) -> tuple[str, dict[str, Any]]:
        checked = {key.replace("-", "_"): value for key, value in mapping(options).items()}
        return Text("NAME").check(name), checked


def mapping(value: Any) -> dict[str, Any]:
    """Return a mapping, or a list of pairs as in Erlang, as a dict.

    :raises ValueError: when it is neither, when a key is not a string, or comes twice.
    """
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in pairs):
        raise ValueError(f"{value!r} is not a table")
    table = {}
    for key, one in pairs:
        if not isinstance(key, str):
            raise ValueError(f"{key!r} is not a name")
        if exact.text(key) in table:
            raise ValueError(f"{key!r} is given twice")
        table[exact.text(key)] = one
    return table


def whole_number(value: Any) -> int | None:
    """Return an int, also of an enumeration; None for anything else, True and False included."""
    return exact.number(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(text: str) -> Any:
    number = _NUMBER.fullmatch(text)
    if number:
        return int(text) if number[1] else float(text)
    return _TRUTH.get(text, text)
