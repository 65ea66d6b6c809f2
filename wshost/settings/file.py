"""Reads a TOML file of options; an error names the wrong line. Knows no option by name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from wshost.results import ConfigurationError
from wshost.settings import options

#: Matches TOML's strings and comments: a string of several lines may contain text that looks like a key.
_QUOTED = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*', re.DOTALL)


def read(path: str) -> dict[str, Any]:
    """Return the checked options of a file, by their names in `wshost.settings.options.Settings`.

    :raises ConfigurationError: ``chat.toml: line 3: …``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = found[1] if found else text.rstrip("\n").count("\n") + 1
        raise ConfigurationError(f"{path}: line {line}: {what}") from error
    try:
        return options.check(table)
    except options.WrongOption as error:
        raise ConfigurationError(f"{path}: {_place(error.key, table[error.key], text)}{error}") from None


def _place(key: str, value: Any, text: str) -> str:
    """Return the place of a wrong option, as ``line 3: ``; in an array of tables, the place of the wrong table.

    The result is empty for a key with escapes, which is not found.
    """
    text = _QUOTED.sub(lambda found: "\n" * found[0].count("\n") or found[0], text)
    name = rf"[ \t]*([\"']?){re.escape(key)}\1[ \t]*"
    tables = [*re.finditer(rf"^[ \t]*\[\[{name}\]\]", text, re.MULTILINE)]
    found: re.Match[str] | None
    if tables:
        found = tables[next((number for number, one in enumerate(value) if _is_wrong(key, [one])), 0)]
    else:
        table = re.search(rf"^[ \t]*\[{name}[.\]]", text, re.MULTILINE)
        found = table or re.search(rf"^{name}[=.]", text, re.MULTILINE)
    line = text.count("\n", 0, found.start()) + 1 if found else 0
    return f"line {line}: " if line else ""


def _is_wrong(key: str, value: Any) -> bool:
    try:
        options.check({key: value})
    except options.WrongOption:
        return True
    return False
