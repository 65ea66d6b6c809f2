"""Reloads: the workers read certificates and handlers again, one after another. Knows no file and no handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wshost.process.systemd import Notifier
from wshost.workers.crew import Crew, Worker
from wshost.workers.rounds import Round


class Reloads:
    """All reloads of one server, one at a time.

    :param systemd: is told when one begins, and when it has ended.
    :param able: returns whether the server serves: all workers have begun to, and it does not stop.
    :param renew: called when a worker has anything new; None where workers are not forked with handlers (`--preload`).
    """

    def __init__(
        self, crew: Crew, systemd: Notifier, able: Callable[[], bool], renew: Callable[[], None] | None
    ) -> None:
        self._crew = crew
        self._systemd = systemd
        self._able = able
        self._renew = renew
        self._round = Round(lambda worker: worker.line.tell({"reload": True}), self._reloaded)
        # A worker has anything new; and another reload was asked for meanwhile.
        self._renewed = False
        self._again = False

    def begin(self) -> None:
        """Have the workers reload; after the current reload, if there is one. Each logs what it has done."""
        if self._round.runs:
            self._again = True
        elif self._able():
            self._systemd.reloading()
            self._round.begin(self._crew.serving)

    def asks(self, worker: Worker) -> bool:
        """Whether this worker is reloading."""
        return self._round.asks(worker)

    def answered(self, worker: Worker, done: bool, problems: Sequence[str]) -> None:
        """A worker has reloaded.

        :param done: whether it has anything new.
        :param problems: what has failed.
        """
        self._renewed = self._renewed or done
        # What fails in one worker, and is logged there, would fail in the others.
        self._round.answered(worker, others=done or not problems)

    def ended(self, worker: Worker) -> None:
        """A worker has ended: it is not waited for."""
        self._round.answered(worker)

    def _reloaded(self) -> None:
        if self._renewed and self._renew is not None and self._able():
            # Later workers must not have the code of before.
            self._renew()
        self._renewed = False
        if self._able():
            self._systemd.ready("serving")
        if self._again:
            self._again = False
            self.begin()
