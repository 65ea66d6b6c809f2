"""Compiles the programs in C and Go, once for each change of their source; knows nothing of what they do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

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
    _compile([compiler, "-O2", "-o", str(program), str(path), *flags], path, program)
    return program


def built_by_go(source: str) -> Path:
    """Compile a program in Go, when its source has changed; nothing is fetched.

    What it imports is where `make bench` has put it, or where Debian's packages are.

    :param source: its path, from this directory.
    :raises UnavailableError: without Go or what is imported, or when it fails.
    """
    go = shutil.which("go")
    if not go:
        raise UnavailableError("go is not found")
    path, module = HERE / source, cache_directory() / "go"
    program = cache_directory() / path.stem
    environment = {**os.environ, "GOCACHE": str(cache_directory() / "go-cache"), "GOPROXY": "off"}
    if (module / "go.mod").exists():
        environment["GOFLAGS"] = "-mod=mod"
    else:
        module = HERE
        environment |= {"GO111MODULE": "off", "GOPATH": os.environ.get("GOPATH", "/usr/share/gocode")}
    _compile([go, "build", "-o", str(program), str(path)], path, program, cwd=module, env=environment)
    return program


def _compile(command: list[str], source: Path, program: Path, **how: Any) -> None:
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    if ended.returncode:
        raise UnavailableError(f"{command[0]} can't compile {source.name}: {ended.stderr.strip().splitlines()[:1]}")
