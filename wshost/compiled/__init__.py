"""Chooses the form in which wshost's modules run: compiled, or Python. Names no module.

`hatch_build.py` puts compiled modules into this directory, in directories of the packages' names, with a list of their
sources. One process runs one form. It runs Python when nothing was compiled for this Python version, or when a source
has changed since.

The environment variable ``WSHOST_PURE=1`` asks for Python. ``WSHOST_COMPILED`` names a directory with compiled modules:
if they can't be used, imports fail.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec

#: The suffix of extension modules for this Python version, and for no other.
SUFFIX = EXTENSION_SUFFIXES[0]
#: Files beside them: the first has the SHA-256 of each source, in the format of `sha256sum`; the second says why
#: nothing was compiled.
SOURCES, REASON = f"sources{SUFFIX}.sha256", "reason.txt"
#: Whether `WSHOST_PURE` asks for Python.
PURE = os.environ.get("WSHOST_PURE", "") not in {"", "0"}

_REQUIRED = os.environ.get("WSHOST_COMPILED", "")
_HERE = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is slow to import, and twistd --help imports this file


class Finder:
    """Finds the compiled modules; an entry of `sys.meta_path`.

    :param directory: where they are.
    :param required: whether it is an error when they can't be used.
    :param pure: whether to run Python, even if there are compiled modules.
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
        """Why the compiled modules can't be used; empty when they can.

        :raises ImportError: when they can't, but are required.
        """
        why = self._why_not()
        if why and self._required:
            raise ImportError(f"WSHOST_COMPILED={self._directory}: {why}")
        return why

    def _why_not(self) -> str:
        if self._pure:
            return "WSHOST_PURE is set"
        from hashlib import sha256  # noqa: PLC0415 - slow to import, too

        sources = _read(f"{self._directory}/{SOURCES}").decode().splitlines()
        if not sources:
            return _read(f"{self._directory}/{REASON}").decode() or "nothing is compiled for this Python"
        for digest, _, name in (line.partition("  ") for line in sources):
            if sha256(_read(f"{_HERE}/../../{name}")).hexdigest() != digest:
                return f"{name} has changed since it was compiled"
        return ""


def _read(file: str) -> bytes:
    """Return the content of a file; no bytes when there is no such file."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            return opened.read()
    except OSError:
        return b""


FINDER = Finder(_REQUIRED or _HERE, required=bool(_REQUIRED), pure=PURE)


def install() -> None:
    """Let imports find the compiled modules. :raises ImportError: when they are required, but can't be used."""
    sys.meta_path.insert(0, FINDER)
    _ = _REQUIRED and FINDER.why_not


def form() -> str:
    """Return which form runs, and why, as text for the log."""
    return f"pure Python, which is slower: {FINDER.why_not}" if FINDER.why_not else "compiled"
