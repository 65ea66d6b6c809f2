"""Reading a module's options out of a mapping, each with its type and range. Knows no option by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wshost.exact import number, text
from wshost.results import ConfigurationError


class Reader:
    """Takes options one by one; `done` finds those that nobody took.

    :param module: the module's name, for the messages.
    """

    def __init__(self, module: str, options: Mapping[str, Any]) -> None:
        self._module = module
        self._options = dict(options)

    def take(self, name: str, default: Any) -> Any:
        """Return the option as it is."""
        return self._options.pop(name, default)

    def integer(self, name: str, default: int, minimum: int) -> int:
        """Return a whole number. :raises ConfigurationError: when it is none, or too small."""
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or number(value) < minimum:
            raise self._wrong(name, value, f"a whole number, {minimum} or more")
        return number(value)

    def seconds(self, name: str, default: float, minimum: float = 0.001) -> float:
        """Return a time in seconds, at most a day. :raises ConfigurationError: when it is none."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= 86_400:
            raise self._wrong(name, value, f"a number of seconds, {minimum:g} to 86400")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        """Return a truth value. :raises ConfigurationError: when it is none."""
        value = self.take(name, default)
        if type(value) is not bool:
            raise self._wrong(name, value, "true or false")
        return value

    def string(self, name: str) -> str | None:
        """Return a string, None when absent. :raises ConfigurationError: when it is none."""
        value = self.take(name, None)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return None if value is None else text(value)

    def strings(self, name: str) -> list[str]:
        """Return a list of strings, [] when absent. :raises ConfigurationError: when it is none."""
        value = self.take(name, [])
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise self._wrong(name, value, "a list of strings")
        return [text(one) for one in value]

    def done(self) -> None:
        """:raises ConfigurationError: when there are options that the module does not know."""
        if self._options:
            unknown = ", ".join(sorted(map(str, self._options)))
            raise ConfigurationError(f"{self._module}: unknown option: {unknown}")

    def _wrong(self, name: str, value: Any, expected: str) -> ConfigurationError:
        return ConfigurationError(f"{self._module}: {name} is {value!r}, not {expected}")
