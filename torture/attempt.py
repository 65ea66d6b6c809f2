"""Runs one test against one server, and says what became of it. Does not know what the test does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks.building import UnavailableError
from torture.figures import Figure, Outcome
from torture.server import Target


def attempt(name: str, run: Callable[[Target], Iterator[Figure]], server: str, *, shared: bool = False) -> Outcome:
    """Run a test.

    :param name: the test's.
    :param run: starts a server, and yields figures.
    :param server: the name of its kind.
    :param shared: several servers share a core: that one waits for another says nothing.
    """
    target = Target(server)
    start = time.monotonic()
    figures: list[Figure] = []
    failure = left_out = ""
    try:
        figures.extend(run(target))
    except UnavailableError as error:
        left_out = str(error)
    except Exception as error:  # the figures so far are shown, and the next test runs
        failure = f"{type(error).__name__}: {error}"
    if target.waited and not shared:
        # On a quiet machine next to nothing. Latencies are as much too long.
        figures.append(Figure("the server waited for its core", target.waited * 100, "%"))
    return Outcome(name, server, figures, time.monotonic() - start, failure, left_out, target.is_wshost)
