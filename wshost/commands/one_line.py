"""Ends a command with one line that says what is wrong, and the exit status 1. Knows no option."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wshost.results import ConfigurationError


class Exit(SystemExit, Exception):
    """Ends the process with status 1, and without a traceback.

    It is also an `Exception`: only for an `Exception` twistd removes its pid file, and reports a daemon's error on the
    terminal.
    """

    def __init__(self, line: str) -> None:
        super().__init__(1)
        self.line = line

    def __str__(self) -> str:
        return self.line


@contextmanager
def one_line() -> Iterator[None]:
    """Catch a `ConfigurationError`: print it as one line on stderr, and raise an `Exit` instead."""
    try:
        yield
    except ConfigurationError as error:
        line = " ".join(str(error).splitlines())
        # While twistd runs, sys.stderr is its log. If a handler failed to import, its traceback comes before the line.
        print(getattr(error, "traceback_text", ""), end="", file=sys.__stderr__)
        print(f"wshost: {line}", file=sys.__stderr__, flush=True)
        raise Exit(line) from error
