"""Connections of the process before this one, on their way to the workers with the fewest. Knows no process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from socket import socket
from typing import Any, NamedTuple

from twisted.logger import Logger

from wshost.connections.handover import name_of
from wshost.workers.crew import Crew, Worker
from wshost.workers.line import RETRY
from wshost.workers.passing import Passing

#: While so many wait for a worker, no more are taken: each has up to 96 KiB.
MOST_WAITING = 64

_log = Logger("wshost")


class _Carried(NamedTuple):
    head: Mapping[str, Any]
    data: bytes
    number: int
    #: It counts as one of its address here; otherwise, its worker counts it.
    counted: bool
    socket: socket


class Adopting:
    """Passes connections on, each with what its worker must know to go on with it.

    :param reactor: provides `IReactorTime`.
    :param passing: counts them with all others.
    :param pause: has the process before wait, and `resume` undoes it.
    """

    def __init__(
        self, reactor: Any, crew: Crew, passing: Passing, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self._passing = passing
        self._pause = pause
        self._resume = resume
        self._waiting: deque[_Carried] = deque()
        self._retry: Any = None
        self._paused = False
        # Called when nothing waits any more; None until no more come.
        self._ended: Callable[[], None] | None = None
        #: How many have come.
        self.count = 0

    def take(self, head: Mapping[str, Any], data: bytes, connected: socket) -> None:
        """Pass a connection on, at once or when a worker has room."""
        number, counted = self._passing.count_carried(name_of(head), head["client"])
        self.count += 1
        self._waiting.append(_Carried(head, data, number, counted, connected))
        self._go_on()

    def end(self, call: Callable[[], None]) -> None:
        """No more come: make a call when all have been passed on."""
        self._ended = call
        self._go_on()

    def stop(self) -> None:
        """Close those that wait."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for one in self._waiting:
            self._passing.gate.forget(one.number)
            one.socket.close()
        self._waiting.clear()
        self._ended = None

    def _go_on(self) -> None:
        shut: set[Worker] = set()
        while self._waiting:
            one = self._waiting[0]
            dealt = self._crew.deal([one.number], shut)
            if not dealt:
                break
            (worker,) = dealt
            try:
                passed = self._pass(worker, one)
            except ValueError as error:
                # As JSON, it had room in a packet.
                _log.error("a connection of the process before can't be passed on: {error}", error=error)
                self._passing.forget(worker, [one.number])
                one.socket.close()
                passed = True
            if passed:
                self._waiting.popleft()
            else:
                worker.connections.discard(one.number)
                shut.add(worker)
        if self._waiting and self._retry is None:
            self._retry = self._reactor.callLater(RETRY, self._try_again)
        full = len(self._waiting) >= MOST_WAITING
        if full != self._paused:
            self._paused = full
            (self._pause if full else self._resume)()
        if self._ended is not None and not self._waiting:
            ended, self._ended = self._ended, None
            ended()

    def _try_again(self) -> None:
        self._retry = None
        self._go_on()

    def _pass(self, worker: Worker, one: _Carried) -> bool:
        packet = {"carried": one.number, "counted": one.counted, "head": one.head}
        if not worker.line.send(packet, [one.socket.fileno()], one.data):
            return False
        one.socket.close()
        return True
