"""Random conversations, as a test of `make torture`. Yields how many there were. Knows no step, and no model."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from random import SystemRandom

from torture.figures import Figure
from torture.processes import run
from torture.server import Target

#: The most characters of what is shown of a difference: the last ones have the fewest steps that lead there.
_SHOWN = 4_000
#: So many conversations are made in one process. Hypothesis remembers each: five thousand take gigabytes.
BATCH = 250


def converse(examples: int, seed: int | None = None) -> Callable[[Target], Iterator[Figure]]:
    """Return the test: any difference between the server and the model ends it, and is shown with its steps.

    :param examples: so many conversations.
    :param seed: for always the same ones; None for others each time.
    """

    def test(_: Target) -> Iterator[Figure]:
        number = SystemRandom().randrange(1 << 32) if seed is None else seed
        totals: Counter[str] = Counter()
        before: list[str] = []
        for done in range(0, examples, BATCH):
            found, before = _converse(min(BATCH, examples - done), number + done)
            totals.update(found)
            if found["differences"]:
                break
        yield Figure("conversations", totals["examples"])
        yield Figure("steps", totals["steps"])
        yield Figure("differences", totals["differences"], "", 0)
        if totals["differences"]:
            raise RuntimeError("\n".join(before)[-_SHOWN:])

    return test


def _converse(examples: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Run the command; return what it has counted, and the lines before that."""
    with tempfile.TemporaryDirectory() as directory:
        status, said = run([sys.executable, "-m", "torture.stateful.machine", str(examples), str(seed)], directory)
    *before, last = said.strip().splitlines() or [""]
    try:
        found: dict[str, int] = json.loads(last)
    except ValueError:
        raise RuntimeError(said[-_SHOWN:] or f"it ended with status {status}") from None
    return found, before
