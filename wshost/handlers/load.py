"""Finds the user's handler by what `--handler` says, and makes sure that it is one; knows no other option."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from reprlib import repr as short_repr
from traceback import StackSummary, TracebackException
from types import ModuleType
from typing import Any, cast

from wshost.results import ConfigurationError

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_SPEC = re.compile(rf"(?:(?P<path>.+?\.py)|(?P<module>{_NAME}))(?::(?P<attribute>{_NAME}))?")


class HandlerImportError(ConfigurationError):
    """The user's own code raised an exception when it was imported or instantiated.

    :param message: one line that says what and where.
    :param traceback_text: the traceback as Python prints it, without the frames that are ours or the import system's.
    """

    def __init__(self, message: str, traceback_text: str) -> None:
        super().__init__(message)
        self.traceback_text = traceback_text


def load(handler: Any) -> Any:
    """Return the handler that is meant.

    :param handler: ``MODULE`` or ``MODULE:ATTRIBUTE``. The module is a dotted path to import, from the current
        directory, too; or a path to a ``.py`` file, which is imported by its stem, as is what lies beside it. The
        attribute may be dotted. Anything but a str is the handler itself. A class is instantiated without arguments.
    :returns: what has an `init` and a `handle` that can be called.
    :raises HandlerImportError: when the user's own code raises an exception.
    :raises ConfigurationError: when nothing is there by that name, or no handler.
    """
    if isinstance(handler, str):
        name = repr(handler)
        found = _find(name, handler)
    else:
        name = short_repr(handler)
        found = handler
    if isinstance(found, type):
        found = _run(name, "instantiated", found)
    missing = [function for function in ("init", "handle") if not callable(getattr(found, function, None))]
    if missing:
        raise ConfigurationError(
            f"handler {name} has no callable {' and no callable '.join(missing)}: "
            "a handler has init(options) and handle(message, state)"
        )
    return found


def _find(name: str, spec: str) -> Any:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ConfigurationError(f"handler {name} is neither MODULE[:ATTRIBUTE] nor FILE.py[:ATTRIBUTE]")
    if match["path"]:
        found = _load_file(name, Path(match["path"]).absolute())
    else:
        _make_importable(Path.cwd())
        found = _run(name, "imported", importlib.import_module, match["module"])
    if match["attribute"]:
        try:
            return attrgetter(match["attribute"])(found)
        except AttributeError as error:
            raise ConfigurationError(f"handler {name} can't be found: {error}") from error
    return found


def _load_file(name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"handler {name} can't be found: there is no file {path}")
    loaded = sys.modules.get(path.stem)
    if loaded is None:
        _make_importable(path.parent)
        return cast("ModuleType", _run(name, "imported", _import_file, path))
    origin = getattr(loaded, "__file__", None)
    if origin != str(path):
        raise ConfigurationError(
            f"handler {name} can't be imported as {path.stem!r}: "
            f"that is another module already, {origin or 'a part of Python'}; rename the file"
        )
    return loaded


def _import_file(path: Path) -> ModuleType:
    # There always is one for a name that ends in .py.
    spec = cast("ModuleSpec", spec_from_file_location(path.stem, path))
    module = sys.modules[path.stem] = module_from_spec(spec)
    try:
        cast("Any", spec.loader).exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _make_importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _run(name: str, done: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call what may run the user's code, and tell that code's failures from its absence."""
    try:
        return call(*args)
    except (Exception, SystemExit) as error:
        summary = _without_ours(TracebackException.from_exception(error))
        cause = f"{type(error).__name__}: {summary}".partition("\n")[0]
        message = f"handler {name} can't be {done}: {cause}"
        if summary.stack:
            raise HandlerImportError(message, "".join(summary.format())) from error
        if isinstance(error, SyntaxError):
            raise HandlerImportError(message, "".join(summary.format_exception_only())) from error
        raise ConfigurationError(message) from error


def _without_ours(summary: TracebackException) -> TracebackException:
    chain = [summary]
    for link in chain:
        link.stack = StackSummary.from_list([frame for frame in link.stack if not _is_ours(frame.filename)])
        chain.extend(before for before in (link.__cause__, link.__context__) if before is not None)
    return summary


def _is_ours(filename: str) -> bool:
    return filename in {__file__, importlib.__file__} or filename.startswith("<frozen importlib")
