"""Keeps as many workers as there are to be: has them forked, replaces those that end or are worn, ends them by force.

It must not know what they serve, nor how a server stops.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair
from typing import Any

from twisted.logger import Logger

from wshost.connections.drain import counted
from wshost.results import ConfigurationError
from wshost.settings.options import Settings
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.deaths import Deaths
from wshost.workers.forking import Forking
from wshost.workers.line import Line
from wshost.workers.passing import Passing

#: Seconds that a worker has to end: after it has closed its line; and after its drain timeout.
LAST_WORDS, OVERTIME = 5.0, 5.0
#: Seconds until a worker is replaced that was told to stop by others: systemd tells all processes of a service.
SETTLE = 0.2

_log = Logger("wshost")


class Staffing:
    """The beginning and the end of each worker.

    :param reactor: provides `IReactorTime`, and reads the workers' lines.
    :param settings: how many there are to be, and how long one may drain.
    :param passing: its sockets are copied for each worker; it forgets the connections of one that has ended.
    :param forking: where workers come from.
    :param deaths: how soon a dead one is replaced.
    :param kill: as `os.kill`.
    :param says: called with a worker's number and what it says: a head, bytes and sockets.
    :param complete: called once, when all workers serve for the first time.
    :param gone: called with each worker that has ended, before another one starts.
    :param failed: called with the reason when a worker ends that can't serve, before all have served.
    """

    def __init__(
        self,
        reactor: Any,
        crew: Crew,
        settings: Settings,
        passing: Passing,
        forking: Forking,
        *,
        deaths: Deaths,
        kill: Callable[[int, int], None],
        says: Callable[[int, Mapping[str, Any], bytes, list[socket]], None],
        complete: Callable[[], None],
        gone: Callable[[Worker], None],
        failed: Callable[[ConfigurationError], None],
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._settings = settings
        self._passing = passing
        self._forking = forking
        self._deaths = deaths
        self._kill = kill
        self._says = says
        self._complete = complete
        self._gone = gone
        self._failed = failed
        #: All workers have served.
        self.began = False
        # Why a worker could not start, by its number.
        self._failures: dict[int, ConfigurationError] = {}
        # A worker that its successor is to replace.
        self._worn: Worker | None = None
        # Nobody is replaced any more.
        self._stopped = False

    # Beginnings

    def start_workers(self) -> None:
        """Start as many workers as are missing."""
        for _ in range(self._settings.workers):
            self._start_worker()

    def stop(self) -> None:
        """Start none from now on."""
        self._stopped = True

    def _start_worker(self) -> None:
        enough = self._crew.lasting >= self._settings.workers + (self._worn is not None)
        if enough or self._stopped or not self._forking.is_able:
            return
        number = self._crew.next_number()
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        line = Line(self._reactor, ours, partial(self._says, number), partial(self.lost, number))
        worker = Worker(number, line)
        self._crew.add(worker)
        with theirs:
            forks = self._forking.fork(worker, theirs, self._passing.ports.sockets)
        if not forks:
            self.ended(worker, "could not be forked: its template takes no command")
            return
        for other in self._crew:
            if other is not worker and other.state is not State.LEAVING:
                _connect(worker, other)
        # It serves when it knows what these subscribe to.
        worker.line.tell({"peers": True})

    def serves(self, worker: Worker) -> None:
        """A worker that was starting serves."""
        worker.state = State.SERVING
        worker.served = True
        if self._worn is not None and len(self._crew.serving) > self._settings.workers:
            self._retire(self._worn)
        if not self.began and len(self._crew.serving) == self._settings.workers:
            self.began = True
            self._complete()
        self._passing.go_on()

    # Ends

    def replace(self, worker: Worker, why: str) -> None:
        """Start the successor of a worker, one at a time; once that serves, this one drains.

        :param why: for the log.
        """
        if self._worn is None:
            _log.info("{worker} is replaced: {why}", worker=str(worker), why=why)
            self._worn = worker
            self._start_worker()

    def _retire(self, worker: Worker) -> None:
        self._worn = None
        worker.state = State.LEAVING
        worker.left = True
        worker.line.tell({"stop": True})
        worker.timer = self._reactor.callLater(self._settings.drain_timeout + OVERTIME, self.end_by_force, worker)

    def leaves(self, worker: Worker) -> None:
        """A worker has begun to stop, unless it had before: start another one."""
        if worker.state is not State.LEAVING:
            # Users' code or somebody else has told it to stop; if the same signal comes here, none is to follow.
            worker.state = State.LEAVING
            worker.left = True
            self._make_good(SETTLE)

    def can_not_serve(self, worker: Worker, why: ConfigurationError) -> None:
        """A worker has said why it can't serve. Its end follows."""
        self._failures[worker.number] = why

    def lost(self, number: int) -> None:
        """A worker's line has ended: its end is near, or it has gone wrong. Its process may be there still."""
        worker = self._crew.find(number)
        if worker is None:
            return
        worker.state = State.LEAVING
        if worker.timer is None:
            worker.timer = self._reactor.callLater(LAST_WORDS, self.end_by_force, worker)

    def end_by_force(self, worker: Worker) -> None:
        """Kill a worker's process, if it was forked. What has come of it is heard later."""
        if worker.pid is not None:
            with suppress(ProcessLookupError):
                self._kill(worker.pid, signal.SIGKILL)

    def ended(self, worker: Worker, how: str) -> None:
        """A worker has ended: forget it, and start another one.

        :param how: for the log.
        """
        worker.line.finish()
        if self._crew.find(worker.number) is None:
            return
        worker.state = State.LEAVING
        lost = len(worker.connections)
        self._passing.forget(worker, list(worker.connections))
        self._crew.remove(worker)
        if worker is self._worn:
            self._worn = None
        if worker.timer is not None and worker.timer.active():
            worker.timer.cancel()
        error = self._failures.pop(worker.number, None)
        self._gone(worker)
        if self._stopped:
            return
        if not self.began and not worker.served:
            self._failed(error or ConfigurationError(f"{worker} {how} before it has served"))
            return
        if worker.left and not lost:
            self._start_worker()
            return
        what = how if error is None else f"can't start: {error}"
        self._crew.deaths += 1
        _log.error("{worker} {how}; {lost} lost", worker=str(worker), how=what, lost=counted(lost))
        self._make_good()

    def _make_good(self, least: float = 0.0) -> None:
        """Replace a worker, at once or later.

        :param least: seconds to wait at least.
        """
        wait, begins = self._deaths.note(self._reactor.seconds())
        if begins:
            _log.error("workers die one after another: from now on, each is replaced only after some time")
        if max(wait, least):
            self._reactor.callLater(max(wait, least), self._start_worker)
        else:
            self._start_worker()


def _connect(worker: Worker, other: Worker) -> None:
    """Give two workers the ends of a stream. What can't be given is closed: the other one finds that out."""
    ends = socketpair(AF_UNIX, SOCK_STREAM)
    for one, peer, end in zip((worker, other), (other, worker), ends, strict=True):
        with end:
            one.line.send({"peer": peer.number}, [end.fileno()])
