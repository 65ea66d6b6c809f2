"""Runs what users have written for the first time, and tells their code's failures from its absence."""

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

    :param message: one line that says what and where.
    :param traceback_text: the traceback as Python prints it, without the frames that are ours or the import system's.
    """

    def __init__(self, message: str, traceback_text: str) -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


def make_importable(directory: Path) -> None:
    """Let modules be imported from this directory, before any other."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def run(failure: str, call: Callable[..., Any], *args: Any) -> Any:
    """Return what a call returns that may run the user's code.

    :param failure: what it means when the call fails, as a clause.
    :raises UserCodeError: when the user's own code raises an exception.
    :raises ConfigurationError: when the call fails without it.
    """
    try:
        return call(*args)
    except KeyboardInterrupt:
        # Nobody's fault.
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
    if filename.startswith("<frozen importlib"):
        return True
    return filename in {importlib.__file__, reflect.__file__} or Path(filename).is_relative_to(
        Path(__file__).parents[1]
    )
