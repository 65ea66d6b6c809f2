"""Processes of a cluster in memory, whose handlers note the infos that they get."""

from __future__ import annotations

from typing import Any

from tests.cluster.bus import Bus
from tests.memory import MemoryHost, MemoryReactor, Peer
from wshost.cluster.exchange import ALONE, Cluster, Exchange, Way
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref


class Noting:
    """A handler that notes the infos of each connection."""

    def __init__(self) -> None:
        self.infos: dict[Ref, list[Any]] = {}
        self.refs: list[Ref] = []

    def init(self, options: Any) -> Any:
        ref = options["worker"]
        self.refs.append(ref)
        self.infos[ref] = []
        return ref

    def handle(self, message: Any, ref: Any) -> Any:
        if message[0] == "info":
            self.infos[ref].append(message[1])
        return ("noreply", ref)


class Process:
    """One process, with a server in memory.

    :param bus: on which it meets others; None: it is alone.
    :param wall: its clock, in seconds since 1970.
    """

    def __init__(self, reactor: MemoryReactor, bus: Bus | None = None, wall: float = 1_000.0, **options: Any) -> None:
        self.reactor = reactor
        self.bus = bus
        self.wall = wall
        self.homes = Homes()
        self.exchange = Exchange(self.homes, lambda: self.wall)
        self.directory = self.exchange.directory
        self.handler = Noting()
        self.host = MemoryHost(
            self.handler, websocket_options={"ping_interval": 0}, reactor=reactor, exchange=self.exchange, **options
        )
        self.registry = self.host.hub.shared.registry
        self.homes.add(self.registry)
        self.exchange.open(self.registry.home.boot)
        self.backplane = None if bus is None else bus.backplane()
        ways = [] if bus is None else [Way("bus", lambda: self.backplane)]  # type: ignore[arg-type, return-value]
        self.exchange.connect(reactor, Cluster(ways=ways) if ways else ALONE)
        if self.backplane is not None:
            self.backplane.receiver.connected()

    def open(self) -> tuple[Ref, Peer]:
        """Return a new connection."""
        peer = self.host.open()
        return self.handler.refs[-1], peer

    def infos(self, ref: Ref) -> list[Any]:
        """Return the infos that a handler has got since the last time."""
        infos = self.handler.infos[ref]
        self.handler.infos[ref] = []
        return infos

    def of(self, ref: Ref) -> Ref:
        """Return what names a connection of another process here."""
        text: Any = str(ref)
        node, boot, id = text.split(".")
        return Ref(self.homes.find(type(self.registry.home)(node, boot)), id)

    def cut_off(self) -> None:
        """Let nothing go out or come in."""
        assert self.bus is not None
        self.bus.backplanes.remove(self.backplane)  # type: ignore[arg-type]
        self.backplane.takes = False  # type: ignore[union-attr]

    def come_back(self) -> None:
        """Undo `cut_off`."""
        assert self.bus is not None
        self.bus.backplanes.append(self.backplane)  # type: ignore[arg-type]
        self.backplane.takes = True  # type: ignore[union-attr]

    @property
    def counts(self) -> Any:
        """What went to other processes, and came."""
        assert self.exchange.outside is not None
        return self.exchange.outside.counts


class Together:
    """Processes on one bus, and time for all."""

    def __init__(self, processes: int = 2) -> None:
        self.reactor = MemoryReactor()
        self.bus = Bus()
        self.all = [Process(self.reactor, self.bus, 1_000.0 + number) for number in range(processes)]
        self.turn(2)

    def turn(self, seconds: float = 0) -> None:
        """Let time pass, and all arrive, some moments at a time."""
        end = self.reactor.seconds() + seconds
        while True:
            for _ in range(4):
                self.reactor.advance(0)
                self.bus.deliver()
            left = end - self.reactor.seconds()
            if left <= 1e-6:
                return
            self.reactor.advance(min(0.05, left))
