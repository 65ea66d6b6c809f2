"""Looks after workers that serve: whether they hang, have grown too large, or are too old. Ends and starts none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import uniform
from typing import Any

from twisted.internet.task import LoopingCall

from wshost.settings.kinds import Size
from wshost.settings.options import Settings
from wshost.workers.crew import Crew, Worker

#: Seconds from one look to the next.
EVERY = 1.0
#: A worker's largest age is this part longer or shorter than the option says: not all are replaced at once.
JITTER = 0.1


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has, what it shares with others included; 0 if it has gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Health:
    """The health of a crew.

    :param settings: the limits.
    :param hangs: called with a worker that has given no sign of life for too long, and for how many seconds.
    :param worn: called with a worker that is to be replaced, and why; again at each look until it is.
    :param resident: returns how many bytes of memory a process has.
    """

    def __init__(
        self,
        reactor: Any,
        crew: Crew,
        settings: Settings,
        *,
        hangs: Callable[[Worker, float], None],
        worn: Callable[[Worker, str], None],
        resident: Callable[[int], int] = resident,
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._timeout = settings.worker_timeout
        self._max_rss = settings.worker_max_rss
        self._max_age = settings.worker_max_age
        self._hangs = hangs
        self._worn = worn
        self._resident = resident
        self._last = 0.0
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Look from now on."""
        self._last = self._reactor.seconds()
        self._looking.start(EVERY, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def serves(self, worker: Worker) -> None:
        """A worker begins to serve."""
        worker.since = self._reactor.seconds()
        worker.lasts = self._max_age * uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def lives(self, worker: Worker) -> None:
        """A worker gives a sign of life."""
        worker.asked = False
        worker.silent = 0.0

    def _look(self) -> None:
        now = self._reactor.seconds()
        # Time in which this process stood still does not count against others: their answers wait to be read.
        passed, self._last = min(now - self._last, 2 * EVERY), now
        for worker in self._crew.serving:
            if self._timeout:
                self._ask(worker, passed)
            if self._max_age and now - worker.since >= worker.lasts:
                self._worn(worker, f"it is {now - worker.since:.0f} s old")
            elif self._max_rss and worker.pid is not None:
                size = self._resident(worker.pid)
                if size > self._max_rss:
                    self._worn(worker, f"it has {_SIZE.show(size >> 20 << 20)} of memory")

    def _ask(self, worker: Worker, passed: float) -> None:
        if not worker.asked:
            worker.asked = True
            worker.line.tell({"beat": True})
            return
        worker.silent += passed
        if worker.silent >= self._timeout:
            self._hangs(worker, worker.silent)


_SIZE = Size(0, 1 << 62)
