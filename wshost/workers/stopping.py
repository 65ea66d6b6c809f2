"""Stops a server with workers: they drain, and are killed when their time is over. Starts none, and replaces none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from wshost.connections.drain import REPORT, counted
from wshost.process.systemd import Notifier
from wshost.settings.options import Settings
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.staffing import OVERTIME

#: Seconds that a worker has to end after a second signal.
ABORTING = 0.4

_log = Logger("wshost")


class Stopping:
    """The way from the first signal to the end of the last worker.

    :param reactor: provides `IReactorTime`.
    :param settings: how long workers may drain.
    :param systemd: is told how many connections are waited for.
    :param kill: ends a worker by force.
    :param halt: called at first: ends all that may start workers, or give them connections.
    :param finish: called when all workers have ended; its Deferred fires when all else has.
    """

    def __init__(
        self,
        reactor: Any,
        crew: Crew,
        settings: Settings,
        systemd: Notifier,
        *,
        kill: Callable[[Worker], None],
        halt: Callable[[], None],
        finish: Callable[[], Deferred[Any]],
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._drain_timeout = settings.drain_timeout
        self._systemd = systemd
        self._kill = kill
        self._halt = halt
        self._finish = finish
        # What fires when all has stopped; None while nothing stops.
        self._stops: list[Deferred[None]] | None = None
        # A second signal has come.
        self._hurried = False
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = reactor

    @property
    def runs(self) -> bool:
        """Whether the server stops, and has not stopped."""
        return self._stops is not None

    def begin(self) -> Deferred[None]:
        """Have all workers drain. It may be called again meanwhile.

        :returns: fires when all has stopped.
        """
        done: Deferred[None] = Deferred()
        if self._stops is not None:
            self._stops.append(done)
            return done
        self._stops = [done]
        self._halt()
        for worker in self._crew:
            worker.state = State.LEAVING
            worker.waits_for = len(worker.connections)
            worker.line.tell({"stop": True})
        self._systemd.stopping(f"waiting for {counted(self._waits_for)}")
        if self._crew:
            self._reporting.start(REPORT, now=False)
            self._reactor.callLater(self._drain_timeout + OVERTIME, self._kill_all)
        else:
            self._all_ended()
        return done

    def abort(self) -> None:
        """End all at once, because of a second signal."""
        self._hurried = True
        self._crew.tell_all({"abort": True})
        self._reactor.callLater(ABORTING, self._kill_all)

    def forked(self, worker: Worker) -> None:
        """A worker was forked: after a second signal, it ends at once."""
        if self._hurried:
            self._kill(worker)

    def ended(self) -> None:
        """A worker has ended; the last one ends all."""
        if self._stops is not None and not self._crew:
            self._all_ended()

    @property
    def _waits_for(self) -> int:
        return sum(worker.waits_for for worker in self._crew)

    def _report(self) -> None:
        what = counted(self._waits_for)
        if self._waits_for:
            _log.info("waiting for {connections}", connections=what)
        self._systemd.stopping(f"waiting for {what}")

    def _all_ended(self) -> None:
        if self._reporting.running:
            self._reporting.stop()
        self._finish().addBoth(self._has_stopped)

    def _has_stopped(self, result: Any) -> None:
        stops, self._stops = self._stops or [], None
        for one in stops:
            one.callback(result)

    def _kill_all(self) -> None:
        for worker in self._crew:
            self._kill(worker)
