"""The workers as their supervisor sees them, and which of them gets the next connection. Knows no socket."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from typing import Any

from wshost.workers.line import Line


class State(enum.Enum):
    """What becomes of a worker."""

    STARTING = "starting"
    SERVING = "serving"
    #: It was told to stop, or has lost its line: it gets no more connections.
    LEAVING = "leaving"


@dataclass(eq=False)
class Worker:
    """One worker."""

    #: Counted from 1, over all that were ever started.
    number: int
    line: Line
    state: State = State.STARTING
    #: None until it was forked.
    pid: int | None = None
    #: The numbers of its connections.
    connections: set[int] = field(default_factory=set)
    #: The order in which workers got their last connections.
    given: int = 0
    #: How many connections it still waits for while it stops.
    waits_for: int = 0
    #: It has served; and it has said itself that it stops.
    served: bool = False
    left: bool = False
    #: What ends it by force, if it does not end.
    timer: Any = None
    #: When it has begun to serve, and for how many seconds it may.
    since: float = 0.0
    lasts: float = 0.0
    #: It was asked for a sign of life; and for how many seconds it has given none.
    asked: bool = False
    silent: float = 0.0

    def __str__(self) -> str:
        return f"worker {self.number}" + ("" if self.pid is None else f" (pid {self.pid})")


class Crew:
    """All workers that have not ended."""

    def __init__(self) -> None:
        #: How many were ever started.
        self.started = 0
        #: How many have died, asked by nobody.
        self.deaths = 0
        self._workers: dict[int, Worker] = {}
        self._given = 0

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def find(self, number: int) -> Worker | None:
        """Return the worker of this number; None if it has ended."""
        return self._workers.get(number)

    def next_number(self) -> int:
        """Return the number of one more worker."""
        self.started += 1
        return self.started

    def add(self, worker: Worker) -> None:
        """Add a worker."""
        self._workers[worker.number] = worker

    def remove(self, worker: Worker) -> None:
        """Remove a worker that has ended."""
        del self._workers[worker.number]

    def tell_all(self, head: Mapping[str, Any]) -> None:
        """Tell each worker something, as `Line.tell`."""
        for worker in self:
            worker.line.tell(head)

    @property
    def serving(self) -> list[Worker]:
        """Those that take connections."""
        return [one for one in self._workers.values() if one.state is State.SERVING]

    @property
    def lasting(self) -> int:
        """How many serve, or soon will."""
        return sum(one.state is not State.LEAVING for one in self._workers.values())

    def deal(self, connections: Iterable[int], without: Collection[Worker]) -> list[Worker]:
        """Give each connection to the worker with the fewest; of several, to the one whose turn it is.

        :param connections: their numbers.
        :param without: those that have no room now.
        :returns: who gets which, in this order; nobody when there is none.
        """
        # A heap: however many workers there are, they are looked at once for all these connections.
        able = [(len(one.connections), one.given, one.number, one) for one in self.serving if one not in without]
        heapify(able)
        dealt = []
        for connection in connections if able else ():
            count, _, number, worker = able[0]
            self._given += 1
            worker.given = self._given
            worker.connections.add(connection)
            heapreplace(able, (count + 1, worker.given, number, worker))
            dealt.append(worker)
        return dealt
