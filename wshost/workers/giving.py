"""Has workers give their connections to the process that takes over, and waits until they have. Knows no connection.

Each worker gets the supervisor's own channel to that process, and sends its connections there itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from wshost.process.takeover import Channel
from wshost.workers.crew import Crew, Worker
from wshost.workers.line import RETRY

#: Seconds that the workers have in all. What is left then stays, and drains.
SECONDS = 60.0


class Giving:
    """Asks the workers, once.

    :param reactor: provides `IReactorTime`.
    """

    def __init__(self, reactor: Any, crew: Crew) -> None:
        self._reactor = reactor
        self._crew = crew
        self._count = 0
        # The workers that have not answered; None while nobody is asked.
        self._asked: set[Worker] | None = None
        self._timer: Any = None
        self._done: Deferred[int] = Deferred()

    def begin(self, channel: Channel) -> Deferred[int]:
        """Ask all workers that serve, and whose numbers the other process knows of.

        :param channel: to the process that takes over. It must not be closed before the Deferred fires.
        :returns: fires with the number of connections that have gone over.
        """
        # Another process goes on to count after the last one that it knows of, or has the one after it do so. An older
        # one without workers does not say so.
        last = channel.said.get("workers", self._crew.started)
        self._asked = {worker for worker in self._crew.serving if worker.number <= last}
        self._timer = self._reactor.callLater(SECONDS, self._end)
        for worker in list(self._asked):
            self._ask(worker, channel)
        self._look()
        return self._done

    def _ask(self, worker: Worker, channel: Channel) -> None:
        if self._asked is None or worker not in self._asked:
            return
        if worker.line.closed:
            self.answered(worker, 0)
        elif not worker.line.send({"give": True}, [channel.socket.fileno()]):
            self._reactor.callLater(RETRY, partial(self._ask, worker, channel))

    def answered(self, worker: Worker, moved: int) -> None:
        """A worker has given so many connections away, or has ended."""
        if self._asked is not None and worker in self._asked:
            self._asked.remove(worker)
            self._count += moved
            self._look()

    def _look(self) -> None:
        if not self._asked:
            self._end()

    def _end(self) -> None:
        self._asked = None
        if self._timer.active():
            self._timer.cancel()
        self._done.callback(self._count)
