"""Starts the processes of a run, which end with it, however it ends. Knows not what they do.

Each has a process group of its own: Ctrl-C reaches only the run itself, which then ends them all.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import CHILDREN, end

_ROOT = Path(__file__).parent.parent


@contextmanager
def running(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process, and kill it in the end if it still runs.

    :param how: further arguments of `subprocess.Popen`.
    """
    make: Callable[[], subprocess.Popen[Any]] = partial(subprocess.Popen, command, process_group=0, **how)
    process = CHILDREN.start(make)
    try:
        yield process
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def run(command: Sequence[str], directory: str) -> tuple[int, str]:
    """Run a command on wshost in pure Python; return its status, and what it said.

    :param directory: where it runs, and may leave files.
    """
    with (
        tempfile.TemporaryFile() as output,
        running(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "WSHOST_PURE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        status = process.wait()
        output.seek(0)
        return status, output.read().decode(errors="replace")
