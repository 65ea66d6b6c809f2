"""Connections to brokers of Redis in memory: a test answers as the broker. Knows no backplane."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from wshost.backplanes.connection import Speaker
from wshost.backplanes.link import Link
from wshost.backplanes.resp import Parser
from wshost.backplanes.settings import BackplaneSettings, Broker


class Transport:
    """The client's transport of a connection, seen from the broker."""

    def __init__(self, clock: Clock, broker: Broker, protocol: Any) -> None:
        self._clock = clock
        self.broker = broker
        self.writes: list[bytes] = []
        self.open = True
        #: For whom the certificate must be, when TLS was started.
        self.secure_for: str | None = None
        self._protocol = protocol
        protocol.makeConnection(self)

    def commands(self) -> list[list[str]]:
        """The commands that were written since this was asked last."""
        found: list[Any] = []
        Parser({}, lambda _: None, lambda *_: None, found.append, 16 << 20).feed(b"".join(self.writes))
        self.writes.clear()
        return [[word.decode() for word in words] for words in found]

    def answer(self, *replies: bytes) -> None:
        """Send the client these bytes, in one read."""
        self._protocol.dataReceived(b"".join(replies))
        self._clock.pump([0] * 4)

    def end(self) -> None:
        """Close the connection from the broker's side."""
        self.open = False
        self._protocol.connectionLost(Failure(ConnectionDone()))

    # For the client

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def startTLS(self, options: Any) -> None:
        assert not self.writes
        self.secure_for = options._hostname

    def loseConnection(self) -> None:
        self.abortConnection()

    def abortConnection(self) -> None:
        self.open = False
        self._clock.callLater(0, self._protocol.connectionLost, Failure(ConnectionDone()))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Brokers:
    """All brokers of a test."""

    def __init__(self) -> None:
        self.clock = Clock()
        #: Every connection that was made.
        self.connections: list[Transport] = []
        #: The ports at which nobody listens.
        self.gone: set[int] = set()

    def link(self, reactor: Any, settings: BackplaneSettings, speaker: Speaker, *brokers: Any, **more: Any) -> Link:
        """A link to these brokers; it tries them in the same order in each run."""
        return Link(reactor, settings, speaker, *brokers, random=Random(1), endpoint=self._endpoint, **more)

    def _endpoint(self, reactor: Any, broker: Broker) -> Any:
        brokers = self

        class Endpoint:
            def connect(self, factory: Any) -> Deferred[Any]:
                if broker.port in brokers.gone:
                    return fail(ConnectError())
                protocol = factory.buildProtocol(None)
                brokers.connections.append(Transport(brokers.clock, broker, protocol))
                return succeed(protocol)

        return Endpoint()

    @property
    def last(self) -> Transport:
        """The newest connection."""
        return self.connections[-1]

    def turn(self, seconds: float = 0) -> None:
        """Let so much time pass, then some turns."""
        self.clock.advance(seconds)
        self.clock.pump([0] * 4)

    def again(self) -> Transport:
        """Return the next connection, when the time has come for it."""
        count = len(self.connections)
        for _ in range(100):
            self.turn(0.1)
            if len(self.connections) > count:
                return self.last
        raise AssertionError("no further connection was made")
