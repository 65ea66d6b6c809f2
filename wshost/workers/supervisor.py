"""The process that several workers serve for, as a service: it puts its roles together, and hears what workers say.

It runs no users' code. It must not know what workers say to their clients.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from wshost.admin.seen import DRAINING, READY, STARTING
from wshost.commands.one_line import Exit, one_line
from wshost.connections.drain import counted
from wshost.process import ending, reactors, signals
from wshost.process.systemd import Notifier
from wshost.results import ConfigurationError
from wshost.server import admin_endpoint
from wshost.settings.options import Settings
from wshost.workers import template
from wshost.workers.adopting import Adopting
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.deaths import Deaths
from wshost.workers.endpoints import Endpoints, descriptions
from wshost.workers.forking import Forking, adopt_orphans
from wshost.workers.giving import Giving
from wshost.workers.health import Health
from wshost.workers.kit import Kit
from wshost.workers.passing import Passing
from wshost.workers.ports import Ports
from wshost.workers.reloads import Reloads
from wshost.workers.resigning import Resigning
from wshost.workers.staffing import Staffing
from wshost.workers.stopping import Stopping
from wshost.workers.succession import Succession

if TYPE_CHECKING:
    from wshost.workers.overview import Overview

_log = Logger("wshost")


class Supervisor(MultiService):
    """A server whose connections are served by other processes.

    :param settings: the checked options.
    :param kit: what the workers have to know.
    :param reactor: by default the global one.
    :param spawn: starts a template, and returns its socket and its process, as `template.spawn`.
    :param listen: makes the ports.
    :param kill: as `os.kill`.
    :param wait: as `os.waitpid`.
    :raises ConfigurationError: when the options don't fit with workers.
    """

    def __init__(
        self,
        settings: Settings,
        kit: Kit,
        reactor: Any = None,
        *,
        spawn: Callable[[], tuple[socket, Any]] = template.spawn,
        listen: Callable[..., Ports] = Ports,
        kill: Callable[[int, int], None] = os.kill,
        wait: Callable[[int, int], tuple[int, int]] = os.waitpid,
    ) -> None:
        MultiService.__init__(self)
        check()
        self._systemd = Notifier()
        self._settings = settings
        self._reactor = reactor = reactor or reactors.installed()
        self._crew = crew = Crew()
        deaths = Deaths()
        # What operators see of the workers; None without an endpoint for them.
        self._overview: Overview | None = None
        self._admin = admin_endpoint(settings, self._oversee)
        path = None if settings.takeover is None else Path(settings.takeover)
        self._succession = Succession(reactor, path, descriptions(settings, self._admin))
        crew.started = self._succession.workers
        inherited = self._succession.inherited
        self._passing = Passing(reactor, settings, crew, listen, inherited)
        self._endpoints = Endpoints(reactor, settings, self._passing, self._admin, inherited)
        self._giving = Giving(reactor, crew)
        self._resigning = Resigning(crew, self._succession, self._endpoints, self._giving, self._resign)
        self._adopting = Adopting(reactor, crew, self._passing, self._succession.pause, self._succession.resume)
        self._forking = Forking(reactor, crew, kit.packed(), deaths, spawn=spawn, wait=wait)
        self._staffing = staffing = Staffing(
            reactor,
            crew,
            settings,
            self._passing,
            self._forking,
            deaths=deaths,
            kill=kill,
            says=self._worker_says,
            complete=self._complete,
            gone=self._gone,
            failed=self._can_not_start,
        )
        self._stopping = Stopping(
            reactor, crew, settings, self._systemd, kill=staffing.end_by_force, halt=self._halt, finish=self._finish
        )
        self._forking.forked = self._stopping.forked
        self._forking.ended = staffing.ended
        self._forking.failed = self._can_not_start
        self._forking.renewed = staffing.start_workers
        self._health = Health(reactor, crew, settings, hangs=self._end_hanging, worn=staffing.replace)
        renew = self._forking.renew if settings.preload else None
        self._reloads = Reloads(crew, self._systemd, self._serves, renew)
        # Why the start has failed.
        self._error: ConfigurationError | None = None
        # Fires when nothing listens for clients.
        self._closing: Deferred[Any] = succeed(None)

    def _oversee(self) -> Overview:
        from wshost.workers.overview import Overview  # noqa: PLC0415 - few servers have the endpoint

        self._overview = Overview(self._reactor, self._crew, self._settings.max_connections, self._state)
        return self._overview

    def _state(self) -> tuple[bool, str]:
        """Return whether clients are let in, and the state in one line."""
        serving = len(self._crew.serving)
        ready = self._serves() and serving > 0
        state = READY if ready else DRAINING if self._stopping.runs else STARTING
        return ready, f"{state}: {serving} of {self._settings.workers} workers serve"

    def _serves(self) -> bool:
        """Return whether all workers have begun to serve, and the server does not stop."""
        return self._staffing.began and not self._stopping.runs

    # Start

    def bind(self, unix: bool = True) -> None:
        """Listen on all endpoints that don't listen yet. Clients are let in once the workers serve.

        :param unix: False leaves out Unix sockets: a daemon must fork before it listens on them.
        :raises ConfigurationError: when one can't be listened on.
        """
        # The process before this one answers operators, too, as long as it accepts.
        self._endpoints.bind(unix, operators=not self._succession.waits)

    def privilegedStartService(self) -> None:
        with one_line():
            self.bind()
        MultiService.privilegedStartService(self)

    def startService(self) -> None:
        """Start a template, and have it fork the workers."""
        with one_line():
            self.bind()
            adopt_orphans()
            try:
                self._forking.start()
            except OSError as error:
                raise ConfigurationError(f"workers: no process can be started: {error.strerror}") from error
            if not self._succession.waits:
                self._resigning.offer()
        ending.watch(self._reactor, self._stopping.abort)
        signals.call_after(signals.HANGUP, self._reactor, lambda _: self._crew.tell_all({"reopen": True}))
        signals.call_after(signals.RELOAD, self._reactor, lambda _: self.reload())
        self._systemd.live(self._reactor)
        self._staffing.start_workers()
        MultiService.startService(self)

    def _complete(self) -> None:
        """All workers serve: let clients in, once the process before this one does not any more."""
        self._health.start()
        self._succession.go(self._let_in, self._adopt, lambda: self._adopting.end(self._has_taken_over))

    def _let_in(self) -> None:
        """Accept clients: the process before this one, if there is one, does not any more."""
        self._endpoints.announce([worker.pid for worker in self._crew])
        self._endpoints.begin()
        self._systemd.ready("serving")
        if self._succession.waits:
            try:
                self._resigning.offer()
            except ConfigurationError as error:
                _log.error("{error}", error=error)

    def _adopt(self, head: Mapping[str, Any], data: bytes, connected: socket) -> None:
        if self._overview is not None:
            self._overview.mixed = True
        self._adopting.take(head, data, connected)

    def _has_taken_over(self) -> None:
        self._crew.tell_all({"settled": True})
        _log.info("{connections} went over from the process before", connections=counted(self._adopting.count))

    def _can_not_start(self, error: ConfigurationError) -> None:
        """End the process with one line, or log it if clients are served already."""
        if self._staffing.began:
            _log.error("workers can't start: {error}", error=error)
        elif self._error is None:
            self._error = error
            self._forking.retire()
            try:
                with one_line():
                    raise error
            except Exit as leaving:
                ending.leave(self._reactor, leaving)

    # What workers say

    def _worker_says(self, number: int, head: Mapping[str, Any], data: bytes, sockets: list[socket]) -> None:
        worker = self._crew.find(number)
        if worker is None:
            return
        if "ended" in head:
            self._passing.forget(worker, head["ended"])
            self._passing.go_on()
        elif "judge" in head:
            self._passing.judge(worker, head["judge"])
        elif "beat" in head:
            self._health.lives(worker)
        elif "answer" in head and self._overview is not None:
            self._overview.told(worker, head, data)
        elif "serves" in head and worker.state is State.STARTING:
            worker.pid = worker.pid or head.get("pid")
            self._health.serves(worker)
            self._staffing.serves(worker)
        elif "waiting" in head:
            worker.waits_for = int(head["waiting"])
            self._staffing.leaves(worker)
        elif "given" in head:
            self._giving.answered(worker, int(head["given"]))
        elif "failed" in head:
            self._staffing.can_not_serve(worker, template.failure(head))
        elif "reloaded" in head:
            self._reloads.answered(worker, bool(head["done"]), head["reloaded"])

    def _gone(self, worker: Worker) -> None:
        """Tell all of a worker's end who know of it."""
        self._forking.forget(worker)
        if self._overview is not None:
            self._overview.ended(worker)
        self._reloads.ended(worker)
        self._giving.answered(worker, 0)
        self._stopping.ended()

    # While it runs

    def _end_hanging(self, worker: Worker, seconds: float) -> None:
        """End a worker whose reactor does not run. Its own watchdog has logged what holds it."""
        if not self._reloads.asks(worker):
            _log.error("{worker} has given no sign of life for {seconds:.0f} s", worker=str(worker), seconds=seconds)
            worker.state = State.LEAVING
            self._staffing.end_by_force(worker)

    def reload(self) -> None:
        """Have the workers read certificates and handlers again, one after another. Each logs what it has done."""
        self._reloads.begin()

    # Stop

    def _resign(self) -> None:
        """Another process has taken over."""
        if not self._stopping.runs:
            ending.stop(self._reactor)

    def stopService(self) -> Deferred[None]:
        """Stop listening, and have all workers drain. Fires when they have ended."""
        return self._stopping.begin()

    def _halt(self) -> None:
        self._staffing.stop()
        self._forking.retire()
        self._health.stop()
        if self._succession.stop():
            # It starts still, and can't do without them.
            self._endpoints.release()
        self._adopting.stop()
        self._closing = self._passing.stop()

    def _finish(self) -> Deferred[Any]:
        """Stop all else: no worker is left."""
        self._forking.stop()
        stopped = self._closing.addCallback(lambda _: MultiService.stopService(self))
        if self._admin is not None:
            admin = self._admin
            stopped.addCallback(lambda _: admin.stop())
        return stopped


def check() -> None:
    """Check that this system can have workers. :raises ConfigurationError: when it can't."""
    if not hasattr(os, "pidfd_open"):
        raise ConfigurationError("workers: this system can't have them: they need Linux")
