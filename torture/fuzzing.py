"""Random input, chosen by the code that it reaches. Yields how much of it was not handled. Knows no part of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.building import UnavailableError
from torture.figures import Figure
from torture.processes import running
from torture.server import Target

#: The oracles' names, and how many inputs each gets in the long run: ten million in all. The last two parse a few
#: bytes, the others drive three servers in memory for each input.
PARTS = {"head": 200_000, "frames": 300_000, "deflate": 200_000, "PROXY": 4_600_000, "TLS records": 4_700_000}

_RUNS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_ROOT = Path(__file__).parent.parent


def fuzz(part: str, runs: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the test of one part: any exception, logged failure or difference ends it."""

    def test(_: Target) -> Iterator[Figure]:
        if find_spec("atheris") is None:
            raise UnavailableError("it needs atheris, which has no wheel for this Python")
        # A crash leaves a file with its input.
        with tempfile.TemporaryDirectory() as directory:
            status, said = _run([sys.executable, "-m", "torture.fuzzer", part, str(runs)], directory)
        found = _RUNS.search(said)
        if found is None:
            raise RuntimeError(" ".join(said.split())[-300:])
        yield Figure("inputs", int(found[1]))
        yield Figure("inputs that were not handled alike", float(status != 0), "", 0)
        if status:
            raise RuntimeError(" ".join(said.split())[-2_000:])

    return test


def _run(command: Sequence[str], directory: str) -> tuple[int, str]:
    """Return the status of a command, and what it said."""
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
