"""Accepted sockets on their way to a worker: judged, and passed to the one with the fewest. Knows no process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from socket import socket
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList

from wshost.fastnet.port import ACCEPTED
from wshost.networks import Networks
from wshost.process.takeover import MOST
from wshost.server import public
from wshost.settings.options import Settings
from wshost.workers.crew import Crew, Worker
from wshost.workers.line import RETRY
from wshost.workers.ports import Ports
from wshost.workers.verdicts import Gate

#: At most so many sockets wait for a worker; then those of further clients wait in the kernel.
MOST_WAITING = 1_024


class _Accepted(NamedTuple):
    place: int
    name: Any
    number: int
    verdict: int
    socket: socket


class Passing:
    """The way of all new connections.

    :param reactor: must be asyncio's.
    :param settings: the endpoints, and the limits on connections.
    :param listen: makes the ports.
    :param inherited: sockets that listen already, by the descriptions of their endpoints.
    :raises ConfigurationError: when connections of an endpoint can't be passed on.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        crew: Crew,
        listen: Callable[..., Ports] = Ports,
        inherited: Mapping[str, socket] | None = None,
    ) -> None:
        self._reactor = reactor
        self._crew = crew
        self.ports = listen(reactor, public(settings), self._take, inherited or {})
        #: Counts the connections of all workers, and those that wait for one.
        self.gate = Gate(
            settings.max_connections, settings.max_connections_per_address, settings.connection_rate, reactor.seconds
        )
        self._counts_hosts = bool(settings.max_connections_per_address or settings.connection_rate)
        self._trusted = Networks(settings.trust_proxy) if settings.trust_proxy else None
        self._waiting: deque[_Accepted] = deque()
        #: How many connections were accepted.
        self.accepted = 0
        # Too many wait; and connections are accepted at all.
        self._paused = False
        self._runs = False
        self._retry: Any = None

    def begin(self) -> None:
        """Accept connections from now on."""
        self._runs = True
        for listener in self.ports.listeners:
            listener.resume()

    def pause(self) -> None:
        """Accept nobody until `begin`."""
        self._runs = False
        for listener in self.ports.listeners:
            listener.pause()

    def stop(self) -> Deferred[Any]:
        """Accept none any more, and close those that wait. Fires when nothing listens."""
        self._runs = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for one in self._waiting:
            self.gate.forget(one.number)
            one.socket.close()
        self._waiting.clear()
        return DeferredList([listener.stop() for listener in self.ports.listeners])

    def forget(self, worker: Worker, numbers: Iterable[int]) -> None:
        """Forget connections of a worker that have ended."""
        for number in numbers:
            worker.connections.discard(number)
            self.gate.forget(number)

    def judge(self, worker: Worker, asked: Iterable[Sequence[Any]]) -> None:
        """Tell a worker whether clients have room that proxies have named.

        :param asked: the number of each connection, and the client's address.
        """
        known = [(number, host) for number, host in asked if number in worker.connections]
        worker.line.tell({"judged": [[number, self.gate.judge_named(number, host)] for number, host in known]})

    def count_carried(self, name: Any, client: Sequence[Any] | None) -> tuple[int, bool]:
        """Count a connection of the process before this one, which has admitted it.

        :param name: the peer's, as `accept` has returned it there.
        :param client: the address and the port of a client whom a proxy has named.
        :returns: its number, and whether it counts as one of its address here.
        """
        self.accepted += 1
        host = None
        if self._counts_hosts and client is not None:
            host = client[0]
        elif self._counts_hosts and isinstance(name, tuple):
            address = (IPv6Address if ":" in name[0] else IPv4Address)("TCP", *name[:2])
            if self._trusted is None or not self._trusted.have(address):
                host = name[0]
        self.gate.count(self.accepted, host)
        return self.accepted, host is not None

    def go_on(self) -> None:
        """Pass on what waits, as a worker may have room now."""
        shut: set[Worker] = set()
        while self._waiting and self._pass_some(shut):
            pass
        if self._waiting and shut and self._retry is None:
            self._retry = self._reactor.callLater(RETRY, self._try_again)
        self._regulate()

    def _take(self, place: int, accepted: deque[tuple[socket, Any]]) -> None:
        while accepted:
            connected, name = accepted.popleft()
            self.accepted += 1
            verdict = self.gate.judge(self.accepted, self._host(place, name) if self._counts_hosts else None)
            self._waiting.append(_Accepted(place, name, self.accepted, verdict, connected))
        self.go_on()

    def _host(self, place: int, name: Any) -> str | None:
        """Return the address as which a connection counts; None where only the worker will know the client."""
        if self.ports.listeners[place].proxied:
            return None
        address = self.ports.host(place, name)
        if self._trusted is not None and self._trusted.have(address):
            return None
        return getattr(address, "host", None)

    def _try_again(self) -> None:
        self._retry = None
        self.go_on()

    def _pass_some(self, shut: set[Worker]) -> bool:
        """Pass on as many as a packet may have; return whether any worker was there to get some.

        :param shut: the workers that have no room; there may be more of them after it.
        """
        batches: dict[Worker, list[_Accepted]] = {}
        numbers = [one.number for one in islice(self._waiting, MOST)]
        for worker in self._crew.deal(numbers, shut):
            batches.setdefault(worker, []).append(self._waiting.popleft())
        refused: list[_Accepted] = []
        for worker, batch in batches.items():
            if not self._send(worker, batch):
                shut.add(worker)
                worker.connections.difference_update([one.number for one in batch])
                refused += batch
        self._waiting.extendleft(sorted(refused, reverse=True, key=lambda one: one.number))
        return bool(batches)

    def _send(self, worker: Worker, batch: list[_Accepted]) -> bool:
        if not worker.line.send({"take": [one[:4] for one in batch]}, [one.socket.fileno() for one in batch]):
            return False
        for one in batch:
            one.socket.close()
        return True

    def _regulate(self) -> None:
        """Let clients wait in the kernel while too many wait here."""
        full = len(self._waiting) > MOST_WAITING - ACCEPTED
        if full != self._paused and self._runs:
            self._paused = full
            for listener in self.ports.listeners:
                (listener.pause if full else listener.resume)()
