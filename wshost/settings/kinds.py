"""The kinds of values that options have: how each is read from text, and checked. Knows no option by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wshost import exact

_SIZE = re.compile(r"(\d+) ?([KMG]?)(?:iB)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_NUMBER = re.compile(r"(-?\d+)|-?\d+\.\d+", re.ASCII)
_TRUTH = {"true": True, "false": False}


class Kind(Protocol):
    """A kind of values."""

    @property
    def metavar(self) -> str:
        """What stands for a value in `--help`; empty for a flag, which takes none."""

    def add(self, before: Any, text: str) -> Any:
        """Return the value that a further use of the option makes on the command line.

        :param before: what the uses so far have made, None at the first.
        :raises ValueError: saying what is wrong with the text.
        """

    def check(self, value: Any) -> Any:
        """Return a value of a file or a mapping as it shall be. :raises ValueError: saying what is wrong with it."""


@dataclass(frozen=True)
class Integer:
    """A whole number within bounds."""

    minimum: int
    maximum: int
    metavar: str = "N"

    def add(self, before: Any, text: str) -> int:
        return self.check(int(text) if text.isdecimal() else text)

    def check(self, value: Any) -> int:
        whole = whole_number(value)
        if whole is None or not self.minimum <= whole <= self.maximum:
            raise ValueError(f"{value!r} is not a whole number from {self.minimum} to {self.maximum}")
        return whole


@dataclass(frozen=True)
class Size:
    """A number of bytes: 65536, 64KiB or 64K, 1MiB, 1GiB."""

    minimum: int
    maximum: int
    metavar: str = "SIZE"

    def add(self, before: Any, text: str) -> int:
        return self.check(text)

    def check(self, value: Any) -> int:
        size = whole_number(value)
        if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
            size = int(found[1]) * _UNITS[found[2].lower()]
        if size is None or not self.minimum <= size <= self.maximum:
            raise ValueError(f"{value!r} is not a size from {self.minimum} to {self.maximum}, such as 65536 or 64KiB")
        return size


@dataclass(frozen=True)
class Seconds:
    """A time in seconds, whole or not, within bounds."""

    minimum: float
    maximum: float
    metavar: str = "SECONDS"

    def add(self, before: Any, text: str) -> float:
        try:
            return self.check(float(text))
        except ValueError:
            raise self._wrong(text) from None

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.minimum <= value <= self.maximum:
            raise self._wrong(value)
        return float(value)

    def _wrong(self, value: Any) -> ValueError:
        return ValueError(f"{value!r} is not a number of seconds from {self.minimum:g} to {self.maximum:g}")


@dataclass(frozen=True)
class Flag:
    """True, when it is there."""

    metavar: str = ""

    def add(self, before: Any, text: str) -> bool:
        return True

    def check(self, value: Any) -> bool:
        if type(value) is not bool:
            raise ValueError(f"{value!r} is not true or false")
        return value


@dataclass(frozen=True)
class Text:
    """A string that is not empty."""

    metavar: str

    def add(self, before: Any, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError(f"{value!r} is not a string, or is empty")
        return exact.text(value)


@dataclass(frozen=True)
class Anything:
    """A string on the command line; in code it may be any object."""

    metavar: str

    def add(self, before: Any, text: str) -> str:
        return text

    def check(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Several:
    """A list of values of another kind; on the command line one for each use of the option."""

    kind: Kind

    @property
    def metavar(self) -> str:
        return self.kind.metavar

    def add(self, before: Any, text: str) -> list[Any]:
        return [*(before or ()), self.kind.add(None, text)]

    def check(self, value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r} is not a list")
        return [self.kind.check(one) for one in value]


@dataclass(frozen=True)
class Table:
    """Values by name; on the command line KEY=VALUE for each use of the option, and then they are strings."""

    metavar: str

    def add(self, before: Any, text: str) -> dict[str, Any]:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise ValueError(f"{text!r} is not {self.metavar}")
        if before and key in before:
            raise ValueError(f"{key!r} is there twice")
        return {**(before or {}), key: value}

    def check(self, value: Any) -> dict[str, Any]:
        return mapping(value)


@dataclass(frozen=True)
class Module:
    """A protocol module's name and its options.

    On the command line NAME,KEY=VALUE,…: whole numbers, decimal numbers, ``true`` and ``false`` are taken as such. In
    a file that, or a table with the key ``module``; in code a pair, too. Dashes in the options' names become
    underscores.
    """

    metavar: str = "NAME[,KEY=VALUE...]"

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
    """Return a mapping, or a list of pairs as Erlang has it, as a dict. :raises ValueError: when it is neither."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple) or not all(isinstance(one, list | tuple) and len(one) == 2 for one in pairs):
        raise ValueError(f"{value!r} is not a table")
    table = {}
    for key, one in pairs:
        if not isinstance(key, str) or exact.text(key) in table:
            raise ValueError(f"{key!r} is not a name, or it is there twice")
        table[exact.text(key)] = one
    return table


def whole_number(value: Any) -> int | None:
    """Return an int, also of an enumeration; None for what is none, as a truth value."""
    return exact.number(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(text: str) -> Any:
    number = _NUMBER.fullmatch(text)
    if number:
        return int(text) if number[1] else float(text)
    return _TRUTH.get(text, text)
