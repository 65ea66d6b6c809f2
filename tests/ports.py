"""A reactor without a network, whose ports a test closes."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from wshost.connections.timers import LOOK


@implementer(IListeningPort)
class Port:
    """A port that closes when its Deferred fires."""

    def __init__(self, host: IAddress) -> None:
        self._host = host
        self.closed: Deferred[None] | None = None

    def startListening(self) -> None:
        """Nothing."""

    def getHost(self) -> IAddress:
        return self._host

    def stopListening(self) -> Deferred[None]:
        self.closed = Deferred()
        return self.closed


class Reactor(MemoryReactorClock):
    """Keeps the ports it has handed out."""

    def __init__(self) -> None:
        MemoryReactorClock.__init__(self)
        self.ports: list[Port] = []
        self.running = True

    def advance(self, amount: float) -> None:
        """Let time pass, as it does for a process that runs: look by look."""
        end = self.seconds() + amount
        while end - self.seconds() > LOOK:
            super().advance(LOOK)
        super().advance(end - self.seconds())

    def callFromThread(self, call: Any, *args: Any) -> None:
        """Never make the call: no loop runs."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        MemoryReactorClock.listenTCP(self, port, factory, backlog, interface)
        kind = IPv6Address if ":" in interface else IPv4Address
        self.ports.append(Port(kind("TCP", interface, port)))
        return self.ports[-1]
