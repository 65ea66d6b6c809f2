"""Runs users' code for the first time, and tells errors in this code from missing code. Knows no options."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import Any

from twisted.python import reflect

from wshost.results import ConfigurationError

_OURS = Path(__file__).parents[1]


class UserCodeError(ConfigurationError):
    """The user's own code raised an exception when it was imported or instantiated.

    :param message: one line that says what failed, and why.
    :param traceback_text: the traceback as Python prints it, without frames of wshost and of the import system.
    """

    def __init__(self, message: str, traceback_text: str) -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


def make_importable(directory: Path) -> None:
    """Let modules be imported from this directory: put it first in `sys.path`, unless it is there already."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def run(failure: str, call: Callable[..., Any], *args: Any) -> Any:
    """Make a call that may run the user's code, and return its result.

    :param failure: the error message, as a clause, if the call fails: "handler 'chat' can't be imported".
    :raises UserCodeError: when the user's own code raises an exception.
    :raises ConfigurationError: when the call fails before it reaches the user's code.
    """
    try:
        return call(*args)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        summary = _without_ours(TracebackException.from_exception(error))
        cause = f"{type(error).__name__}: {summary}".partition("\n")[0]
        message = f"{failure}: {cause}"
        if summary.stack:
            raise UserCodeError(message, "".join(summary.format())) from error
        if isinstance(error, SyntaxError):
            raise UserCodeError(message, "".join(summary.format_exception_only())) from error
        raise ConfigurationError(message) from error


def _without_ours(summary: TracebackException) -> TracebackException:
    chain = [summary]
    for link in chain:
        link.stack = StackSummary.from_list([frame for frame in link.stack if not _is_ours(frame.filename)])
        chain.extend(before for before in (link.__cause__, link.__context__) if before is not None)
    return summary


def _is_ours(filename: str) -> bool:
    importing = filename.startswith("<frozen importlib") or filename in {importlib.__file__, reflect.__file__}
    return importing or Path(filename).is_relative_to(_OURS)
