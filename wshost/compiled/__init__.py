"""Chooses the form in which our modules run: compiled, or Python. Knows no module.

`hatch_build.py` puts what it compiles into this directory, below the names of the packages, with a list of the sources.
One process runs one form. It is Python when nothing was compiled for this Python, or when a source has changed since.

In the environment, ``WSHOST_PURE=1`` asks for Python, and ``WSHOST_COMPILED`` for what is compiled in a directory: when
that can't be used, imports fail.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec

#: How the files are called that are compiled for this Python, and for no other.
SUFFIX = EXTENSION_SUFFIXES[0]
#: Beside them: a line for each source, with its SHA-256, as `sha256sum` has them; or why nothing was compiled.
SOURCES, REASON = f"sources{SUFFIX}.sha256", "reason.txt"
#: Whether Python is asked for.
PURE = os.environ.get("WSHOST_PURE", "") not in {"", "0"}

_REQUIRED = os.environ.get("WSHOST_COMPILED", "")
_HERE = os.path.dirname(__file__)  # noqa: PTH120 - twistd reads this file for its --help: no pathlib then


class Finder:
    """Finds our modules where they are compiled; one of `sys.meta_path`.

    :param directory: where they are.
    :param required: whether it is an error when what is there can't be used.
    :param pure: whether Python is asked for, whatever is there.
    """

    def __init__(self, directory: str, required: bool = False, pure: bool = False) -> None:
        self._directory = directory
        self._required = required and not pure
        self._pure = pure

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not name.startswith("wshost."):
            return None
        file = f"{self._directory}/{name.partition('.')[2].replace('.', '/')}{SUFFIX}"
        if not os.access(file, os.R_OK) or self.why_not:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, file), origin=file)
        spec.has_location = True
        return spec

    @cached_property
    def why_not(self) -> str:
        """Why what is compiled can't be used; empty when it can.

        :raises ImportError: instead, when it is required.
        """
        why = self._why_not()
        if why and self._required:
            raise ImportError(f"WSHOST_COMPILED={self._directory}: {why}")
        return why

    def _why_not(self) -> str:
        if self._pure:
            return "WSHOST_PURE is set"
        from hashlib import sha256  # noqa: PLC0415 - nor this

        sources = _read(f"{self._directory}/{SOURCES}").decode().splitlines()
        if not sources:
            return _read(f"{self._directory}/{REASON}").decode() or "nothing is compiled for this Python"
        for digest, _, name in (line.partition("  ") for line in sources):
            if sha256(_read(f"{_HERE}/../../{name}")).hexdigest() != digest:
                return f"{name} has changed since it was compiled"
        return ""


def _read(file: str) -> bytes:
    """Return what a file holds: nothing when it is not there."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            return opened.read()
    except OSError:
        return b""


FINDER = Finder(_REQUIRED or _HERE, required=bool(_REQUIRED), pure=PURE)


def install() -> None:
    """Let imports find what is compiled. :raises ImportError: when that is required, and can't be used."""
    sys.meta_path.insert(0, FINDER)
    _ = _REQUIRED and FINDER.why_not


def form() -> str:
    """Return which form runs, and why, for those who run the server."""
    return f"pure Python, which is slower: {FINDER.why_not}" if FINDER.why_not else "compiled"
