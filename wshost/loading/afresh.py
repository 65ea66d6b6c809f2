"""Imports handlers once more, with the modules beside them, from their sources. Knows no connection and no option."""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from wshost.loading.handlers import load

_PATHS = sysconfig.get_paths()
#: Where Python has its own modules, and where packages are installed: the modules there are no part of a handler.
_LIBRARIES = tuple(
    Path(path)
    for path in (
        *(_PATHS[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
)
#: These are never imported again.
_FIXED = frozenset({"wshost", "__main__"})


def is_fixed(handler: str) -> bool:
    """Say whether a handler, named as for `load`, is part of wshost, and so is never imported again."""
    return _top(handler) in _FIXED


def load_afresh(handlers: Sequence[str], check: Callable[[str, Any], object]) -> list[Any]:
    """Return the handlers that these options name, from sources as they are now.

    A handler is imported together with all modules of its outermost package; one in no package, with all modules that
    were imported from its folder and the folders below, but not with installed packages.

    :param handlers: each as for `wshost.loading.handlers.load`.
    :param check: called with each of these and its handler; an exception counts as one of the import.
    :raises wshost.loading.importing.UserCodeError: when the user's own code raises an exception. Then, as after any
        other exception, `sys.modules` has the modules of before.
    :raises ConfigurationError: when there is no such module or attribute, or it is not a handler.
    """
    tree = _Tree(handlers)
    before = tree.take()
    prefix, writes_none = sys.pycache_prefix, sys.dont_write_bytecode
    # A compiled form counts as current if the source has the same size and the same second. So take none from the disk.
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True
    try:
        importlib.invalidate_caches()
        found = [load(handler) for handler in handlers]
        for handler, one in zip(handlers, found, strict=True):
            check(handler, one)
        return found
    except BaseException:  # users' code may raise anything
        tree.take()
        sys.modules.update(before)
        raise
    finally:
        sys.pycache_prefix, sys.dont_write_bytecode = prefix, writes_none


class _Tree:
    """The modules that belong to some handlers."""

    def __init__(self, handlers: Sequence[str]) -> None:
        self._tops = {_top(handler) for handler in handlers} - _FIXED
        places = [(sys.modules.get(top), _place(top)) for top in self._tops]
        folders = [place.parent for module, place in places if place is not None and not hasattr(module, "__path__")]
        self._folders = [folder for folder in folders if not _is_in_library(folder)]
        # What is installed in a folder, for those below them.
        self._installed: dict[Path, set[str]] = {}

    def take(self) -> dict[str, Any]:
        """Remove the modules from `sys.modules`, and return them by name."""
        loaded = list(sys.modules)
        tops = {top for top in {name.partition(".")[0] for name in loaded} if self._has(top)}
        # A file may have a dot in its stem, and is in no package then either.
        taken = [name for name in loaded if name.partition(".")[0] in tops or name in self._tops]
        return {name: sys.modules.pop(name) for name in taken}

    def _has(self, top: str) -> bool:
        if top in self._tops or top in _FIXED:
            return top in self._tops
        place = _place(top)
        if place is None or not any(map(place.is_relative_to, self._folders)) or _is_in_library(place):
            return False
        folder = place.parent
        if folder not in self._installed:
            self._installed[folder] = _installed_in(folder)
        return top not in self._installed[folder]


def _installed_in(folder: Path) -> set[str]:
    """Return the names of the modules and packages that pip has put into a folder, as with its `--target`."""
    # A package that is being developed has no RECORD beside its sources.
    records = [found.read_text("RECORD") or "" for found in distributions(path=[str(folder)])]
    return {line.partition("/")[0].partition(".")[0] for record in records for line in record.splitlines()}


def _top(handler: str) -> str:
    """Return the name of the module, or of the outermost package, that has a handler."""
    name = handler.partition(":")[0]
    return Path(name).stem if name.endswith(".py") else name.partition(".")[0]


def _place(top: str) -> Path | None:
    """Return the file of a module, or the folder of a package, that is imported; None if it has none."""
    module = sys.modules.get(top)
    with suppress(Exception):  # anything may be in sys.modules
        folders = list(getattr(module, "__path__", ()))
        found = folders[0] if folders else getattr(module, "__file__", None)
        return None if found is None else Path(found).absolute()
    return None


def _is_in_library(path: Path) -> bool:
    return any(map(path.is_relative_to, _LIBRARIES))
