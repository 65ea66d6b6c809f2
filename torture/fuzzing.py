"""Random input, chosen by the code that it reaches. Yields how much of it was not handled. Knows no part of it."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from benchmarks.building import UnavailableError
from torture.figures import Figure
from torture.processes import run
from torture.server import Target

#: The oracles' names, and how many inputs each gets in the long run: ten million in all. The last two parse a few
#: bytes, the others drive three servers in memory for each input.
PARTS = {"head": 200_000, "frames": 300_000, "deflate": 200_000, "PROXY": 4_600_000, "TLS records": 4_700_000}

_RUNS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


def fuzz(part: str, runs: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the test of one part: any exception, logged failure or difference ends it."""

    def test(_: Target) -> Iterator[Figure]:
        if find_spec("atheris") is None:
            raise UnavailableError("it needs atheris, which has no wheel for this Python")
        # A crash leaves a file with its input.
        with tempfile.TemporaryDirectory() as directory:
            status, said = run([sys.executable, "-m", "torture.fuzzer", part, str(runs)], directory)
        found = _RUNS.search(said)
        if found is None:
            raise RuntimeError(" ".join(said.split())[-300:])
        yield Figure("inputs", int(found[1]))
        yield Figure("inputs that were not handled alike", float(status != 0), "", 0)
        if status:
            raise RuntimeError(" ".join(said.split())[-2_000:])

    return test
