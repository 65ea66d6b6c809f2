"""Compiles the programs in C and Go when their source has changed. Does not know what they do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent

#: Debian's packages of Go libraries are there.
_DEBIAN_GO = "/usr/share/gocode"


class UnavailableError(Exception):
    """Something can't run on this machine; the message says why."""


@cache
def cache_directory() -> Path:
    """Return the directory for files that are built or installed for the benchmarks, inside the virtual environment."""
    made = Path(sys.prefix, "benchmarks")
    made.mkdir(exist_ok=True)
    return made


def built(source: str, flags: Sequence[str] = (), name: str = "", directory: Path | None = None) -> Path:
    """Compile a program in C, if its source has changed; return the program.

    :param source: its path, relative to this directory.
    :param flags: the compiler's arguments after the source, such as libraries.
    :param name: the program's name; empty for the source's.
    :param directory: the program's directory; None for the cache.
    :raises UnavailableError: without a compiler, or when the compiler fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise UnavailableError("no C compiler is found")
    path = HERE / source
    program = (directory or cache_directory()) / (name or path.stem)
    return _compiled([compiler, "-O2", str(path), *flags], path, program, os.environ)


def built_by_go(source: str) -> Path:
    """Compile a program in Go, if its source has changed; return the program.

    The libraries that it imports must be in the GOPATH, or be Debian's packages: nothing is fetched.

    :param source: its path, relative to this directory.
    :raises UnavailableError: without Go or a library, or when the compiler fails.
    """
    go = shutil.which("go")
    if not go:
        raise UnavailableError("go is not found")
    path, program = HERE / source, cache_directory() / Path(source).stem
    libraries = os.pathsep.join(filter(None, (os.environ.get("GOPATH"), _DEBIAN_GO)))
    own = {"GO111MODULE": "off", "GOPATH": libraries, "GOCACHE": str(cache_directory() / "go-cache")}
    return _compiled([go, "build", str(path)], path, program, {**os.environ, **own})


def _compiled(command: Sequence[str], source: Path, program: Path, environment: Mapping[str, str]) -> Path:
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    # Another process may compile the same program, or run it.
    made = program.with_name(f"{program.name}.{os.getpid()}")
    command = [*command[:2], "-o", str(made), *command[2:]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise UnavailableError(f"{command[0]} can't compile {source.name}: {ended.stderr.strip().splitlines()[:1]}")
    made.replace(program)
    return program
