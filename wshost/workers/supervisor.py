"""The process that starts, watches and ends the workers of one server, as a service. It runs no users' code.

It must not know what workers say to their clients.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from wshost import compiled
from wshost.admin.seen import DRAINING, READY, STARTING
from wshost.commands.one_line import Exit, one_line
from wshost.connections.drain import REPORT, counted
from wshost.process import ending, reactors, signals
from wshost.process.systemd import Notifier
from wshost.process.takeover import Channel
from wshost.results import ConfigurationError
from wshost.server import admin_endpoint, public
from wshost.settings.options import Settings
from wshost.workers import template
from wshost.workers.adopting import Adopting
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.deaths import Deaths
from wshost.workers.forking import Forking, adopt_orphans
from wshost.workers.giving import Giving
from wshost.workers.health import Health
from wshost.workers.kit import Kit
from wshost.workers.line import Line
from wshost.workers.passing import Passing
from wshost.workers.ports import Ports
from wshost.workers.rounds import Round
from wshost.workers.succession import Succession

if TYPE_CHECKING:
    from wshost.listening.listener import Listener
    from wshost.workers.overview import Overview

#: Seconds that a worker has to end: after it has closed its line; after a second signal; and after its drain timeout.
LAST_WORDS, ABORTING, OVERTIME = 5.0, 0.4, 5.0
#: Seconds until a worker is replaced that was told to stop by others: systemd tells all processes of a service.
SETTLE = 0.2

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
        self._reactor = reactor or reactors.installed()
        self._kill = kill
        self._crew = Crew()
        self._deaths = Deaths()
        # What operators see of the workers; None without an endpoint for them.
        self._overview: Overview | None = None
        self._admin = admin_endpoint(settings, self._oversee)
        path = None if settings.takeover is None else Path(settings.takeover)
        self._succession = Succession(self._reactor, path, self._endpoints)
        self._passing = Passing(self._reactor, settings, self._crew, listen, self._succession.inherited)
        self._crew.started = self._succession.workers
        self._giving = Giving(self._reactor, self._crew)
        self._adopting = Adopting(
            self._reactor, self._crew, self._passing, self._succession.pause, self._succession.resume
        )
        self._forking = Forking(self._reactor, self._crew, kit.packed(), self._deaths, spawn=spawn, wait=wait)
        self._forking.forked = self._forked
        self._forking.ended = self._ended
        self._forking.failed = self._can_not_start
        self._forking.renewed = self._start_workers
        # All workers have served.
        self._began = False
        # Why a worker could not start, by its number.
        self._failures: dict[int, ConfigurationError] = {}
        # What fires when all has stopped; None while nothing stops.
        self._stops: list[Deferred[None]] | None = None
        self._closing: Deferred[Any] = succeed(None)
        self._reporting = LoopingCall(self._report)
        self._reporting.clock = self._reactor
        self._health = Health(self._reactor, self._crew, settings, hangs=self._end_hanging, worn=self._replace)
        # A worker that its successor is to replace.
        self._worn: Worker | None = None
        self._reloads = Round(lambda worker: worker.line.tell({"reload": True}), self._reloaded)
        # A worker has new handlers; and another reload was asked for meanwhile.
        self._renewed = False
        self._reload_again = False

    @property
    def _endpoints(self) -> list[str]:
        """The descriptions of the endpoints, that for operators included."""
        return [*public(self._settings), *([] if self._admin is None else [self._admin.description])]

    @property
    def _operators(self) -> list[Listener]:
        """What listens for operators, once it does."""
        listener = None if self._admin is None else self._admin.listener
        return [] if listener is None else [listener]

    def _oversee(self) -> Overview:
        from wshost.workers.overview import Overview  # noqa: PLC0415 - few servers have the endpoint

        self._overview = Overview(self._reactor, self._crew, self._settings.max_connections, self._state)
        return self._overview

    def _state(self) -> tuple[bool, str]:
        """Return whether clients are let in, and the state in one line."""
        serving = len(self._crew.serving)
        ready = self._began and self._stops is None and serving > 0
        state = READY if ready else STARTING if self._stops is None else DRAINING
        return ready, f"{state}: {serving} of {self._settings.workers} workers serve"

    # Start

    def bind(self, unix: bool = True) -> None:
        """Listen on all endpoints that don't listen yet. Clients are let in once the workers serve.

        :param unix: False leaves out Unix sockets: a daemon must fork before it listens on them.
        :raises ConfigurationError: when one can't be listened on.
        """
        self._passing.ports.bind(unix)
        try:
            if self._admin is not None:
                inherited = self._succession.inherited.pop(self._admin.description, None)
                self._admin.listen(self._reactor, unix, inherited)
        except ConfigurationError:
            self._passing.stop()
            raise
        if self._succession.waits:
            # The process before this one answers operators, too, as long as it accepts.
            for listener in self._operators:
                listener.pause()

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
                self._offer()
        ending.watch(self._reactor, self._abort)
        signals.call_after(signals.HANGUP, self._reactor, lambda _: self._tell_all({"reopen": True}))
        signals.call_after(signals.RELOAD, self._reactor, lambda _: self.reload())
        self._systemd.live(self._reactor)
        self._start_workers()
        MultiService.startService(self)

    def _start_workers(self) -> None:
        for _ in range(self._settings.workers):
            self._start_worker()

    def _start_worker(self) -> None:
        enough = self._crew.lasting >= self._settings.workers + (self._worn is not None)
        if enough or self._stops is not None or not self._forking.is_able:
            return
        number = self._crew.next_number()
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        line = Line(self._reactor, ours, partial(self._worker_says, number), partial(self._worker_lost, number))
        worker = Worker(number, line)
        self._crew.add(worker)
        with theirs:
            forks = self._forking.fork(worker, theirs, self._passing.ports.sockets)
        if not forks:
            self._ended(worker, "could not be forked: its template takes no command")
            return
        for other in self._crew:
            if other is not worker and other.state is not State.LEAVING:
                _connect(worker, other)
        # It serves when it knows what these subscribe to.
        worker.line.tell({"peers": True})

    def _serves(self, worker: Worker) -> None:
        if worker.state is not State.STARTING:
            return
        worker.state = State.SERVING
        worker.served = True
        self._health.serves(worker)
        if self._worn is not None and len(self._crew.serving) > self._settings.workers:
            self._retire(self._worn)
        if not self._began and len(self._crew.serving) == self._settings.workers:
            self._began = True
            self._health.start()
            self._succession.go(self._let_in, self._adopt, lambda: self._adopting.end(self._has_taken_over))
        self._passing.go_on()

    def _let_in(self) -> None:
        """Accept clients: the process before this one, if there is one, does not any more."""
        self._announce()
        self._begin()
        self._systemd.ready("serving")
        if self._succession.waits:
            try:
                self._offer()
            except ConfigurationError as error:
                _log.error("{error}", error=error)

    def _adopt(self, head: Mapping[str, Any], data: bytes, connected: socket) -> None:
        if self._overview is not None:
            self._overview.mixed = True
        self._adopting.take(head, data, connected)

    def _begin(self) -> None:
        self._passing.begin()
        for listener in self._operators:
            listener.resume()

    def _has_taken_over(self) -> None:
        self._tell_all({"settled": True})
        _log.info("{connections} went over from the process before", connections=counted(self._adopting.count))

    def _offer(self) -> None:
        self._succession.offer(self._share, self._give_up_to, lambda: self._crew.started)

    def _share(self) -> dict[str, socket]:
        """Return the listening sockets by the descriptions of their endpoints."""
        listeners = [*self._passing.ports.listeners, *self._operators]
        return {listener.description: listener.port.socket for listener in listeners if listener.port is not None}

    def _give_up_to(self, channel: Channel) -> bool:
        """Let a successor accept, have the workers give it their connections, then stop; False: it has gone."""
        self._passing.pause()
        for listener in self._operators:
            listener.pause()
        try:
            channel.send({"opened": self._succession.opened})
        except OSError as error:
            _log.warn("the process that would take over has gone: {error}", error=error)
            channel.close()
            self._begin()
            return False
        for listener in [*self._passing.ports.listeners, *self._operators]:
            if listener.port is not None:
                listener.port.release()
        given = self._giving.begin(channel) if channel.takes_connections else succeed(0)
        given.addCallback(self._has_given, channel)
        return True

    def _has_given(self, moved: int, channel: Channel) -> None:
        channel.close()
        _log.info("another process has taken over, with {connections}", connections=counted(moved))
        if self._stops is None:
            self._reactor.stop()

    def _announce(self) -> None:
        settings = self._settings
        names = [name if isinstance(name, str) else type(name).__name__ for name, _ in settings.protocol_module]
        pids = ", ".join(str(worker.pid) for worker in self._crew)
        what = f"{' -> '.join(names)}; {compiled.form()}; on {reactors.name(self._reactor)}"
        how = f"{what}; pid {os.getpid()}; {len(self._crew)} workers: {pids}"
        scheme = ("ws", "tcp") if "websocket" in names else ("tcp", "tcp")
        scheme = {"ws": "wss", "tcp": "tls"}[scheme[0]] if settings.tls_cert else scheme[0]  # type: ignore[assignment]
        for listener in self._passing.ports.listeners:
            listener.announce(how, str(scheme), str(scheme))
        if self._admin is not None:
            self._admin.announce()

    # What others say

    def _forked(self, worker: Worker) -> None:
        if self._hurried:
            self._end_by_force(worker)

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
        elif "serves" in head:
            self._serves(worker)
        elif "waiting" in head:
            worker.waits_for = int(head["waiting"])
            if worker.state is not State.LEAVING:
                # Users' code or somebody else has told it to stop; if the same signal comes here, none is to follow.
                worker.state = State.LEAVING
                worker.left = True
                self._make_good(SETTLE)
        elif "given" in head:
            self._giving.answered(worker, int(head["given"]))
        elif "failed" in head:
            self._failures[number] = template.failure(head)
        elif "reloaded" in head:
            self._renewed = self._renewed or bool(head["done"])
            # What fails in one worker, and is logged there, would fail in the others.
            self._reloads.answered(worker, others=bool(head["done"]) or not head["reloaded"])

    # Ends

    def _worker_lost(self, number: int) -> None:
        """Its end is near, or it has gone wrong: its process may be there still."""
        worker = self._crew.find(number)
        if worker is None:
            return
        worker.state = State.LEAVING
        if worker.timer is None:
            worker.timer = self._reactor.callLater(LAST_WORDS, self._end_by_force, worker)

    def _end_by_force(self, worker: Worker) -> None:
        if worker.pid is not None:
            with suppress(ProcessLookupError):
                self._kill(worker.pid, signal.SIGKILL)

    def _ended(self, worker: Worker, how: str) -> None:
        """A worker has ended: forget it, and start another one."""
        worker.line.finish()
        if self._crew.find(worker.number) is None:
            return
        worker.state = State.LEAVING
        lost = len(worker.connections)
        self._passing.forget(worker, list(worker.connections))
        self._crew.remove(worker)
        self._forking.forget(worker)
        if self._overview is not None:
            self._overview.ended(worker)
        if worker is self._worn:
            self._worn = None
        if worker.timer is not None and worker.timer.active():
            worker.timer.cancel()
        self._reloads.answered(worker)
        self._giving.answered(worker, 0)
        error = self._failures.pop(worker.number, None)
        if self._stops is not None:
            if not self._crew:
                self._all_ended()
            return
        if not self._began and not worker.served:
            self._can_not_start(error or ConfigurationError(f"{worker} {how} before it has served"))
            return
        if worker.left and not lost:
            self._start_worker()
            return
        what = how if error is None else f"can't start: {error}"
        if self._overview is not None:
            self._overview.deaths += 1
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

    # Stop

    def _can_not_start(self, error: ConfigurationError) -> None:
        """End the process with one line, or log it if clients are served already."""
        if self._began:
            _log.error("workers can't start: {error}", error=error)
        elif self._error is None:
            self._error = error
            self._forking.retire()
            try:
                with one_line():
                    raise error
            except Exit as leaving:
                ending.leave(self._reactor, leaving)

    #: Why the start has failed; and a second signal has come.
    _error: ConfigurationError | None = None
    _hurried = False

    def stopService(self) -> Deferred[None]:
        """Stop listening, and have all workers drain. Fires when they have ended."""
        done: Deferred[None] = Deferred()
        if self._stops is not None:
            self._stops.append(done)
            return done
        self._stops = [done]
        self._forking.retire()
        self._health.stop()
        self._succession.stop()
        self._adopting.stop()
        self._closing = self._passing.stop()
        for worker in self._crew:
            worker.state = State.LEAVING
            worker.waits_for = len(worker.connections)
            worker.line.tell({"stop": True})
        self._systemd.stopping(f"waiting for {counted(self._waits_for)}")
        if self._crew:
            self._reporting.start(REPORT, now=False)
            self._reactor.callLater(self._settings.drain_timeout + OVERTIME, self._kill_all)
        else:
            self._all_ended()
        return done

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
        self._forking.stop()
        stopped = self._closing.addCallback(lambda _: MultiService.stopService(self))
        if self._admin is not None:
            admin = self._admin
            stopped.addCallback(lambda _: admin.stop())
        stopped.addBoth(self._has_stopped)

    def _has_stopped(self, result: Any) -> None:
        stops, self._stops = self._stops or [], None
        for one in stops:
            one.callback(result)

    def _abort(self) -> None:
        """End all at once, because of a second signal."""
        self._hurried = True
        self._tell_all({"abort": True})
        self._reactor.callLater(ABORTING, self._kill_all)

    def _kill_all(self) -> None:
        for worker in self._crew:
            self._end_by_force(worker)

    # While it runs

    def _end_hanging(self, worker: Worker, seconds: float) -> None:
        """End a worker whose reactor does not run. Its own watchdog has logged what holds it."""
        if not self._reloads.asks(worker):
            _log.error("{worker} has given no sign of life for {seconds:.0f} s", worker=str(worker), seconds=seconds)
            worker.state = State.LEAVING
            self._end_by_force(worker)

    def _replace(self, worker: Worker, why: str) -> None:
        """Start the successor of a worker, one at a time; once that serves, this one drains."""
        if self._worn is None:
            _log.info("{worker} is replaced: {why}", worker=str(worker), why=why)
            self._worn = worker
            self._start_worker()

    def _retire(self, worker: Worker) -> None:
        self._worn = None
        worker.state = State.LEAVING
        worker.left = True
        worker.line.tell({"stop": True})
        worker.timer = self._reactor.callLater(self._settings.drain_timeout + OVERTIME, self._end_by_force, worker)

    def _tell_all(self, head: Mapping[str, Any]) -> None:
        for worker in self._crew:
            worker.line.tell(head)

    def reload(self) -> None:
        """Have the workers read certificates and handlers again, one after another. Each logs what it has done."""
        if self._reloads.runs:
            self._reload_again = True
        elif self._began and self._stops is None:
            self._systemd.reloading()
            self._reloads.begin(self._crew.serving)

    def _reloaded(self) -> None:
        if self._renewed and self._settings.preload and self._stops is None:
            # Later workers must not have the code of before.
            self._forking.renew()
        self._renewed = False
        if self._stops is None:
            self._systemd.ready("serving")
        if self._reload_again:
            self._reload_again = False
            self.reload()


def check() -> None:
    """Check that this system can have workers. :raises ConfigurationError: when it can't."""
    if not hasattr(os, "pidfd_open"):
        raise ConfigurationError("workers: this system can't have them: they need Linux")


def _connect(worker: Worker, other: Worker) -> None:
    """Give two workers the ends of a stream. What can't be given is closed: the other one finds that out."""
    ends = socketpair(AF_UNIX, SOCK_STREAM)
    for one, peer, end in zip((worker, other), (other, worker), ends, strict=True):
        with end:
            one.line.send({"peer": peer.number}, [end.fileno()])
