"""What the admin endpoint shows where workers serve: all of them as one. It asks them, and waits only so long.

The supervisor's half; `answers` is the worker's. It must not know what a metric means, nor start or end a worker.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, inlineCallbacks

from wshost.admin.connections import place
from wshost.admin.metrics import Family, Supervised, encode, supervised
from wshost.admin.sums import Sums
from wshost.workers.answers import LAST
from wshost.workers.crew import Crew, Worker
from wshost.workers.health import resident

#: Seconds that a worker has to answer; and how many questions it may leave without answer before it gets no more.
TIMEOUT, MOST_OPEN = 2.0, 100
#: The largest answer, in bytes.
LARGEST = 4 << 20


class Silent(TimeoutError):
    """A worker does not answer."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(f"{worker} does not answer.")


@dataclass(eq=False)
class _Question:
    """What a worker was asked, and what has come of its answer."""

    what: str
    answered: Deferred[Any]
    timer: Any = None
    parts: list[bytes] = field(default_factory=list)


class Overview:
    """All workers of a server, as one.

    :param reactor: has the time.
    :param limit: how many connections may be open in all.
    :param state: returns whether clients are let in, and the state in one line.
    :param resident: returns how many bytes of memory a process has.
    """

    def __init__(
        self,
        reactor: Any,
        crew: Crew,
        limit: int,
        state: Callable[[], tuple[bool, str]],
        resident: Callable[[int], int] = resident,
    ) -> None:
        #: Workers have connections whose ids name another one: those of the process before this one.
        self.mixed = False
        self.state = state
        self._reactor = reactor
        self._crew = crew
        self._limit = limit
        self._resident = resident
        self._asked = LAST
        # By the worker's number and the question's.
        self._questions: dict[tuple[int, int], _Question] = {}
        # How many questions each worker has not answered, those that nobody waits for any more included.
        self._open: Counter[int] = Counter()
        # The newest metrics of each worker, with the number of the question that they answer.
        self._known: dict[int, tuple[float, list[Family]]] = {}
        self._sums = Sums()

    # What the pages ask

    def export(self, accept: str) -> Deferred[tuple[bytes, str]]:
        """Return all metrics: of workers that don't answer, and of those that have ended, what they said last."""
        waits = [self._ask(worker, "metrics") for worker in self._able()]
        return DeferredList(waits, consumeErrors=True).addCallback(lambda _: self._exported(accept))

    def _exported(self, accept: str) -> tuple[bytes, str]:
        sizes = {f"w{one.number}": self._resident(one.pid) for one in self._crew if one.pid is not None}
        ready, _ = self.state()
        by = Supervised(ready, self._limit, len(self._crew.serving), self._crew.deaths, sizes)
        workers = [families for _, families in self._known.values()]
        return encode(self._sums.total(workers, supervised(by)), accept)

    def page(self, limit: int, after: str) -> Deferred[dict[str, Any]]:
        """Return connections in the order of their ids, and the id after which the next page begins.

        A page may be shorter than it could be. Workers that don't answer are named, and left out.

        :param limit: at most so many.
        :param after: only those after this id.
        :raises ValueError: when it is no id.
        """
        first, _ = place(after) if after else (0, 0)
        able = [one for one in self._able() if self.mixed or one.number >= first]
        found: Deferred[dict[str, Any]] = self._page(limit, after, able)
        return found

    @inlineCallbacks
    def _page(self, limit: int, after: str, left: list[Worker]) -> Any:
        shown: list[dict[str, Any]] = []
        silent: list[str] = []
        more = False
        while left and not shown:
            # The first few may have enough. After one that is silent, all are asked: nobody waits again and again.
            few = len(left) if silent or self.mixed else _enough(left, limit)
            asked, left = left[:few], left[few:]
            answers = yield DeferredList([self._ask(one, "page", limit, after) for one in asked], consumeErrors=True)
            for worker, (has_answered, found) in zip(asked, answers, strict=True):
                if has_answered:
                    shown += found["connections"]
                    # It has filled the page then.
                    more = more or found["next"] is not None
                else:
                    silent.append(f"w{worker.number}")
        shown.sort(key=lambda one: place(one["id"]))
        more = more or len(shown) > limit or bool(left)
        page = {
            "connections": shown[:limit],
            "total": sum(len(worker.connections) for worker in self._crew),
            "next": shown[:limit][-1]["id"] if more else None,
        }
        return {**page, "silent": silent} if silent else page

    def one(self, id: str) -> Deferred[dict[str, Any] | None] | None:
        """Return one connection; None when there is none of this id. Fails with `Silent`."""
        return self._ask_of(id, "one", id)

    def close(self, id: str, code: int, reason: str) -> Deferred[str | None] | None:
        """Close a connection, as in one process. Fails with `Silent`, or a `ValueError` for what may not be sent."""
        return self._ask_of(id, "close", id, code, reason)

    def _ask_of(self, id: str, what: str, *about: Any) -> Deferred[Any] | None:
        """Ask the worker that an id names; if that was one of the process before this one, ask all."""
        try:
            worker = self._crew.find(place(id)[0])
        except ValueError:
            return None
        if worker is not None:
            return self._ask(worker, what, *about)
        if not self.mixed:
            return None
        asked: Deferred[Any] = DeferredList([self._ask(one, what, *about) for one in self._able()], consumeErrors=True)
        return asked.addCallback(_first)

    def _able(self) -> list[Worker]:
        return [worker for worker in self._crew if worker.served]

    # Questions

    def _ask(self, worker: Worker, what: str, *about: Any) -> Deferred[Any]:
        if worker.line.closed or self._open[worker.number] >= MOST_OPEN:
            return fail(Silent(worker))
        self._asked += 1
        key = (worker.number, self._asked)
        question = self._questions[key] = _Question(what, Deferred())
        question.timer = self._reactor.callLater(TIMEOUT, self._give_up, worker, key)
        self._open[worker.number] += 1
        worker.line.tell({"ask": self._asked, "what": what, "about": about})
        return question.answered

    def _give_up(self, worker: Worker, key: tuple[int, int]) -> None:
        question = self._questions.pop(key)
        if question.timer is not None and question.timer.active():
            question.timer.cancel()
        question.answered.errback(Silent(worker))

    def told(self, worker: Worker, head: Mapping[str, Any], data: bytes) -> None:
        """A worker answers.

        :param head: names the question, and says how many parts of the answer follow.
        :param data: a part.
        """
        number, left = int(head["answer"]), int(head["left"])
        key = (worker.number, number)
        if number == LAST:
            # Nobody has asked, and nobody waits.
            self._questions.setdefault(key, _Question("metrics", Deferred().addErrback(lambda _: None)))
        elif not left:
            self._open[worker.number] -= 1
        question = self._questions.get(key)
        if question is None:
            # It comes too late.
            return
        question.parts.append(data)
        if sum(map(len, question.parts)) > LARGEST:
            self._give_up(worker, key)
        elif not left:
            del self._questions[key]
            if question.timer is not None:
                question.timer.cancel()
            self._answered(worker, math.inf if number == LAST else number, question, head)

    def _answered(self, worker: Worker, number: float, question: _Question, head: Mapping[str, Any]) -> None:
        found = json.loads(b"".join(question.parts))
        if "refused" in head:
            question.answered.errback(ValueError(found))
            return
        if "failed" in head:
            question.answered.errback(Silent(worker))
            return
        if question.what == "metrics" and number > self._known.get(worker.number, (0.0,))[0]:
            # An answer may overtake another one.
            self._known[worker.number] = (number, [Family(*one) for one in found])
        question.answered.callback(found)

    def ended(self, worker: Worker) -> None:
        """A worker has ended: keep what it has counted."""
        for key in [key for key in self._questions if key[0] == worker.number]:
            self._give_up(worker, key)
        self._open.pop(worker.number, None)
        _, families = self._known.pop(worker.number, (0.0, []))
        self._sums.keep(families)


def _first(answers: list[tuple[bool, Any]]) -> Any:
    """Return what the one has answered that knows something; None if all know nothing.

    :raises Exception: that of one that has not answered, if no other knows.
    """
    for has_answered, found in answers:
        if has_answered and found is not None:
            return found
    for has_answered, failure in answers:
        if not has_answered:
            failure.raiseException()
    return None


def _enough(workers: list[Worker], limit: int) -> int:
    """Return how many of the first workers have so many connections together."""
    have = 0
    for count, worker in enumerate(workers, 1):
        have += len(worker.connections)
        if have >= limit:
            return count
    return len(workers)
