"""Processes of a cluster, all in this one: each has an exchange, homes and a server in memory of its own."""

from __future__ import annotations

from typing import Any

from tests.cluster.bus import Bus
from tests.memory import MemoryHost, MemoryReactor, Peer
from tests.rooms import Handler
from wshost.cluster.elsewhere import Elsewhere
from wshost.cluster.exchange import Cluster, Exchange, Way
from wshost.cluster.outside import Outside
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref


class Process:
    """One process, which has joined a bus.

    :param handle: handles the messages and infos of all its connections.
    """

    def __init__(self, bus: Bus, reactor: MemoryReactor, handle: Any = None, **options: Any) -> None:
        self.bus = bus
        self.reactor = reactor
        self.homes = Homes()
        self.exchange = Exchange(self.homes)
        self.backplane = bus.backplane()
        self.handler = Handler(handle)
        self.host = MemoryHost(
            self.handler, websocket_options={"ping_interval": 0}, reactor=reactor, exchange=self.exchange, **options
        )
        self.homes.add(self.registry)
        self.exchange.open(self.registry.home.boot)
        self.connecting = self.exchange.connect(reactor, Cluster(ways=[Way("bus", lambda: self.backplane)]))
        self.line.connected()

    @property
    def registry(self) -> Any:
        return self.host.hub.shared.registry

    @property
    def outside(self) -> Outside:
        """Its way to the others."""
        assert self.exchange.outside is not None
        return self.exchange.outside

    @property
    def elsewhere(self) -> Elsewhere:
        """The connections of the others, as it sees them."""
        elsewhere: Any = self.homes.elsewhere
        assert isinstance(elsewhere, Elsewhere)
        return elsewhere

    @property
    def line(self) -> Any:
        return self.outside.lines[0]

    def open(self, path: str = "/") -> Peer:
        """Return a client of this process."""
        return self.host.open(path)

    def ref(self, peer: Peer) -> Ref:
        """Return what names a client of any process in this one, where it was brought as text."""
        ref = peer.connection.ref
        return Ref(self.homes.find(ref._registry.home), ref.id)


class Pair:
    """Two processes on one bus, and time for both."""

    def __init__(self, handle: Any = None, **options: Any) -> None:
        self.bus = Bus()
        self.reactor = MemoryReactor()
        self.here = Process(self.bus, self.reactor, handle, **options)
        self.there = Process(self.bus, self.reactor, handle, **options)

    def turn(self, seconds: float = 0) -> None:
        """Let all that is published arrive, and be answered, and then time pass."""
        for _ in range(5):
            self.reactor.advance(0)
            self.bus.deliver()
        self.reactor.advance(seconds)
        self.bus.deliver()
        self.reactor.advance(0)


def results(*waiters: Any) -> list[Any]:
    """What Deferreds fire with, once they do."""
    fired: list[Any] = []
    for waiter in waiters:
        waiter.addBoth(fired.append)
    return fired
