"""Finds the handler that `--handler` names, and checks that it is a handler. Knows no other option."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from wshost.exact import shown, text
from wshost.loading.importing import make_importable, run
from wshost.results import ConfigurationError

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_SPEC = re.compile(rf"(?:(?P<path>.+?\.py)|(?P<module>{_NAME}))(?::(?P<attribute>{_NAME}))?")


def load(handler: Any) -> Any:
    """Return the handler that this option names.

    :param handler: ``MODULE`` or ``MODULE:ATTRIBUTE``; or the handler itself, if it is not a str. The module is a
        dotted path to import, also from the current directory; or the path of a ``.py`` file, which is imported under
        its stem, and can import the modules beside it. The attribute may be dotted. A class is instantiated without
        arguments.
    :returns: an object with a callable `init` and a callable `handle`.
    :raises wshost.loading.importing.UserCodeError: when the user's own code raises an exception.
    :raises ConfigurationError: when there is no such module or attribute, or it is not a handler.
    """
    if isinstance(handler, str):
        name = repr(handler)
        found = _find(name, handler)
    else:
        name = shown(handler)
        found = handler
    if isinstance(found, type):
        found = run(f"handler {name} can't be instantiated", found)
    missing = [function for function in ("init", "handle") if not callable(_read(found, function, name))]
    if missing:
        raise ConfigurationError(
            f"handler {name} has no callable {' and no callable '.join(missing)}: "
            "a handler has init(options) and handle(message, state)"
        )
    if not callable(_read(found, "code_change", name, _nothing)):
        raise ConfigurationError(f"handler {name} has a code_change that can't be called")
    return found


def name_of(handler: Any) -> str:
    """Return a handler's name, for the log and the metrics: as the option names it, or as its code does.

    :param handler: the option that names the handler, or the handler itself.
    """
    if isinstance(handler, str):
        return handler
    if isinstance(handler, ModuleType):
        return handler.__name__
    kind = handler if isinstance(handler, type) else type(handler)
    return f"{kind.__module__}:{kind.__qualname__}"


def restarts(handler: Any, found: Any, otherwise: str) -> bool:
    """Return whether a handler is to be started again after a crash.

    :param handler: the option that names the handler.
    :param found: what `load` has returned for it; its attribute `on_crash` says so.
    :param otherwise: "close" or "restart", for a handler without that attribute.
    :raises ConfigurationError: when the attribute is neither.
    """
    return choice(handler, found, "on_crash", ("close", "restart"), otherwise) == "restart"


def choice(handler: Any, found: Any, attribute: str, words: Sequence[str], otherwise: str) -> str:
    """Return a handler's attribute that is one of a few words.

    :param handler: the option that names the handler.
    :param found: what `load` has returned for it.
    :param otherwise: the word for a handler without that attribute.
    :raises ConfigurationError: when the attribute is none of the words.
    """
    name = shown(handler)
    asked = _read(found, attribute, name, otherwise)
    if not isinstance(asked, str) or asked not in words:
        allowed = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
        raise ConfigurationError(f"handler {name}: {attribute} is {shown(asked)}: it must be {allowed}")
    return text(asked)


def _read(found: Any, attribute: str, name: str, otherwise: Any = None) -> Any:
    """Return a handler's attribute, or else `otherwise`: it may be a property, or users' code may have made it up."""
    return run(f"{attribute} of the handler {name} can't be read", getattr, found, attribute, otherwise)


def _nothing() -> None:
    """Do nothing."""


def _find(name: str, spec: str) -> Any:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ConfigurationError(f"handler {name} is neither MODULE[:ATTRIBUTE] nor FILE.py[:ATTRIBUTE]")
    if match["path"]:
        found = _load_file(name, Path(match["path"]).absolute())
    else:
        make_importable(Path.cwd())
        found = run(f"handler {name} can't be imported", importlib.import_module, match["module"])
    if match["attribute"]:
        try:
            return run(f"handler {name} can't be read", attrgetter(match["attribute"]), found)
        except ConfigurationError as error:
            if isinstance(error.__cause__, AttributeError):
                raise ConfigurationError(f"handler {name} can't be found: {error.__cause__}") from error
            raise
    return found


def _load_file(name: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"handler {name} can't be found: there is no file {path}")
    loaded = sys.modules.get(path.stem)
    if loaded is None:
        make_importable(path.parent)
        return cast("ModuleType", run(f"handler {name} can't be imported", _import_file, path))
    origin = getattr(loaded, "__file__", None)
    if origin != str(path):
        raise ConfigurationError(
            f"handler {name} can't be imported as {path.stem!r}: "
            f"that is another module already, {origin or 'a part of Python'}; rename the file"
        )
    return loaded


def _import_file(path: Path) -> ModuleType:
    # The spec is never None for a name that ends in .py.
    spec = cast("ModuleSpec", spec_from_file_location(path.stem, path))
    module = sys.modules[path.stem] = module_from_spec(spec)
    try:
        cast("Any", spec.loader).exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
