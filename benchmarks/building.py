"""Compiles the programs in C, once for each change of their source; knows nothing of what they do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


class UnavailableError(Exception):
    """Something can't run on this machine; the message says why."""


@cache
def cache_directory() -> Path:
    """Where what is built and fetched for the benchmarks stays: inside the environment, as `make bench` has one."""
    made = Path(sys.prefix, "benchmarks")
    made.mkdir(exist_ok=True)
    return made


def built(source: str, flags: Sequence[str] = (), name: str = "", directory: Path | None = None) -> Path:
    """Compile a program, when its source has changed.

    :param source: its path, from this directory.
    :param flags: for the compiler, behind the source: libraries, too.
    :param name: of the program; without one the source's.
    :param directory: where the program is put; without one the cache.
    :raises UnavailableError: without a compiler, or when it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise UnavailableError("no C compiler is found")
    path = HERE / source
    program = (directory or cache_directory()) / (name or path.stem)
    if not program.exists() or program.stat().st_mtime < path.stat().st_mtime:
        command = [compiler, "-O2", "-o", str(program), str(path), *flags]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise UnavailableError(f"{compiler} can't compile {path.name}: {ended.stderr.strip().splitlines()[:1]}")
    return program
