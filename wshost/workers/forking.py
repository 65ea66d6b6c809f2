"""The template as its supervisor sees it: has it fork workers, hears of their ends, and replaces it when it dies.

It must not know what a worker does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from socket import socket
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from wshost.results import ConfigurationError
from wshost.workers import template
from wshost.workers.crew import Crew, Worker
from wshost.workers.deaths import Deaths
from wshost.workers.line import Line

#: Seconds from one look at workers whose template has died to the next.
LOOK = 0.25

_log = Logger("wshost")


class Forking:
    """Where workers come from.

    :param packed: what a template has to know.
    :param deaths: a template that has died counts as a worker.
    :param spawn: starts a template, and returns its socket and its process, as `template.spawn`.
    :param wait: as `os.waitpid`.
    """

    def __init__(
        self,
        reactor: Any,
        crew: Crew,
        packed: bytes,
        deaths: Deaths,
        *,
        spawn: Callable[[], tuple[socket, Any]],
        wait: Callable[[int, int], tuple[int, int]],
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._packed = packed
        self._deaths = deaths
        self._spawn = spawn
        self._wait = wait
        #: Called when a worker was forked; when one has ended, and how; when a template can't prepare, and why; when
        #: there is a template again.
        self.forked: Callable[[Worker], None]
        self.ended: Callable[[Worker, str], None]
        self.failed: Callable[[ConfigurationError], None]
        self.renewed: Callable[[], None]
        self._line: Line | None = None
        self._process: Any = None
        # A template that dies is replaced.
        self._lasts = True
        # Workers whose template has died: nobody reports their ends.
        self._orphans: set[Worker] = set()
        self._looking = LoopingCall(self._look_at_orphans)
        self._looking.clock = reactor

    def start(self) -> None:
        """Start a template. :raises OSError: when that can't be."""
        connected, self._process = self._spawn()
        self._line = Line(self._reactor, connected, self._says, partial(self._died, self._process))
        self._line.tell({"kit": True}, self._packed)

    def fork(self, worker: Worker, line: socket, copies: Sequence[socket]) -> bool:
        """Have a worker forked; return False if nobody takes the command.

        :param line: the worker's end of its line.
        :param copies: the listening sockets.
        """
        descriptors = [line.fileno(), *(one.fileno() for one in copies)]
        return self._line is not None and self._line.send({"fork": worker.number}, descriptors)

    @property
    def is_able(self) -> bool:
        """Whether there is a template."""
        return self._line is not None

    def forget(self, worker: Worker) -> None:
        """Forget a worker that has ended."""
        self._orphans.discard(worker)

    def retire(self) -> None:
        """Replace no template that dies from now on."""
        self._lasts = False

    def stop(self) -> None:
        """End the template. Its workers have ended."""
        self._lasts = False
        if self._line is not None:
            self._line.close()
            self._line = None
            _end(self._process)

    def _says(self, head: Mapping[str, Any], _: bytes, sockets: list[socket]) -> None:
        if "failed" in head:
            self.failed(template.failure(head))
            return
        worker = self._crew.find(int(head.get("forked", head.get("ended", 0))))
        if worker is None:
            return
        if "forked" in head:
            worker.pid = int(head["pid"])
            self.forked(worker)
        else:
            self.ended(worker, _how(head["status"], str(head.get("why", ""))))

    def renew(self) -> None:
        """Fork workers from another template, which has the handlers' code of now (`--preload`)."""
        line = self._line
        if line is not None:
            self._line = None
            _end(self._process)
            line.finish()
            self._leave_workers()
            self._renew()

    def _died(self, process: Any) -> None:
        """Start another template."""
        self._line = None
        _end(process)
        if self._lasts:
            _log.error("the process that forks workers has ended: another one starts")
            self._renew_later()
        self._leave_workers()

    def _leave_workers(self) -> None:
        """The workers of a template that has died go on; their ends must be looked for."""
        unforked = [worker for worker in self._crew if worker.pid is None]
        self._orphans.update(worker for worker in self._crew if worker.pid is not None)
        for worker in unforked:
            self.ended(worker, "was never forked")
        if self._orphans and not self._looking.running:
            self._looking.start(LOOK)

    def _renew_later(self) -> None:
        wait, _ = self._deaths.note(self._reactor.seconds())
        self._reactor.callLater(wait, self._renew)

    def _renew(self) -> None:
        if not self._lasts:
            return
        try:
            self.start()
        except OSError as error:
            _log.error("no process can be started: {why}", why=error.strerror)
            self._renew_later()
        else:
            self.renewed()

    def _look_at_orphans(self) -> None:
        for worker in list(self._orphans):
            try:
                pid, status = self._wait(int(worker.pid or 0), os.WNOHANG)
            except ChildProcessError:
                # Another process has adopted it. Its line tells of its end.
                if worker.line.closed:
                    self.ended(worker, "has ended")
                continue
            if pid:
                self.ended(worker, _how(os.waitstatus_to_exitcode(status), ""))
        if not self._orphans:
            self._looking.stop()


def _end(process: Any) -> None:
    process.kill()
    process.wait()


def _how(status: int | None, why: str) -> str:
    """Say how a process has ended.

    :param status: as `subprocess.Popen.returncode`; None: it was never started.
    :param why: the reason of that.
    """
    if status is None:
        return f"could not be forked: {why}"
    if status >= 0:
        return f"has exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def adopt_orphans() -> None:
    """Let workers become children of this process when their template dies: prctl(2), PR_SET_CHILD_SUBREAPER."""
    import ctypes  # noqa: PLC0415 - few processes need it

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(36, 1, 0, 0, 0)
