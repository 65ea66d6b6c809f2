"""Reads a TOML file of options, and says on which line something is wrong with it. Knows no option by name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from wshost.results import ConfigurationError
from wshost.settings import options


def read(path: str) -> dict[str, Any]:
    """Return the options in a file, checked, by the names of `wshost.settings.options.Settings`.

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
    complaint = _complaint(table)
    if complaint:
        raise ConfigurationError(f"{path}: line {_line_of(complaint, text)}: {complaint}")
    return options.check_all(table)


def _complaint(table: dict[str, Any]) -> str:
    try:
        options.check_all(table)
    except ConfigurationError as error:
        return str(error)
    return ""


def _line_of(complaint: str, text: str) -> int:
    """Return where the statement starts from which on the text, read line by line, gives rise to the complaint."""
    lines = text.split("\n")
    start, found = 1, 0
    for end in range(1, len(lines) + 1):
        try:
            table = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            # A statement of several lines.
            continue
        # The head of a table without its first line may give rise to the same.
        found = (found or start) if _complaint(table) == complaint else 0
        start = end + 1
    return found
