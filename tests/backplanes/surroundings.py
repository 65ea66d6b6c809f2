"""Brokers in memory: attempts to connect that a test accepts or refuses, and transports that it reads and ends."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from wshost.backplanes.connection import Speaker
from wshost.backplanes.link import Link
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.interfaces import IBackplaneReceiver


class Turns(Clock):
    """A clock of which each `advance` is one turn of a reactor: what is asked for during a turn is done in the next."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        # Sums of times are off by rounding errors.
        due = [call for call in self.calls if call.getTime() <= self.rightNow + 1e-9]
        for call in sorted(due, key=lambda call: call.getTime()):
            if call in self.calls:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class Transport:
    """A connection in memory, which ends in the next turn of a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.protocol: Any = None
        self.writes: list[bytes] = []
        self.producer: Any = None
        #: The options of TLS, when it was started.
        self.tls: Any = None
        #: How it was ended by its user.
        self.ended: Any = ""
        #: It takes so many writes before it is full.
        self.room = 1_000_000

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.room -= 1
        if self.room == 0:
            self.producer.pauseProducing()

    def read(self) -> bytes:
        """What was written; it is forgotten."""
        writes, self.writes = self.writes, []
        return b"".join(writes)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def setTcpKeepAlive(self, on: bool) -> None:
        assert on

    def setTcpNoDelay(self, on: bool) -> None:
        assert on

    def startTLS(self, options: Any) -> None:
        self.tls = options

    def loseConnection(self) -> None:
        self.end("closed", ConnectionDone())

    def abortConnection(self) -> None:
        self.end("aborted", ConnectionAborted())

    def end(self, how: str, error: Exception) -> None:
        if not self.ended:
            self.ended = how
            self._clock.callLater(0, self.protocol.connectionLost, Failure(error))


class Attempt:
    """An attempt to connect to one broker."""

    def __init__(self, clock: Clock, broker: Broker) -> None:
        self._clock = clock
        self.broker = broker
        self._factory: Any = None
        self._done = Deferred[Any]()

    def connect(self, factory: Any) -> Deferred[Any]:
        self._factory = factory
        return self._done

    def accept(self) -> Transport:
        transport = Transport(self._clock)
        transport.protocol = self._factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        self._done.callback(transport.protocol)
        return transport

    def refuse(self, error: Exception | None = None) -> None:
        self._done.errback(error or ConnectError(string="no way."))


class Network:
    """Keeps all attempts; makes the endpoints of brokers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.attempts: list[Attempt] = []

    def endpoint(self, reactor: Any, broker: Broker) -> Attempt:
        self.attempts.append(Attempt(self.clock, broker))
        return self.attempts[-1]

    def next(self) -> Attempt:
        """The attempt that is made when what is due now is done."""
        count = len(self.attempts)
        self.clock.advance(0)
        assert len(self.attempts) == count + 1
        return self.attempts[-1]

    def make_link(self, reactor: Any, settings: BackplaneSettings, speaker: Speaker, brokers: Any = ()) -> Link:
        return Link(reactor, settings, speaker, brokers, random=Random(1), endpoint=self.endpoint)


def settings(*hosts: str, **more: Any) -> BackplaneSettings:
    """Settings for brokers with these names."""
    return BackplaneSettings(scheme="test", brokers=tuple(Broker(host, 1) for host in hosts or ("a",)), **more)


def turns(clock: Clock, count: int = 4) -> None:
    """Let so many turns end."""
    for _ in range(count):
        clock.advance(0)


@implementer(IBackplaneReceiver)
class Notes:
    """A receiver that notes all that it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def received(self, subject: str, payload: bytes) -> None:
        self.told.append((subject, payload))

    def connected(self) -> None:
        self.told.append("connected")

    def disconnected(self, reason: str) -> None:
        self.told.append(reason)

    def dropped(self, payloads: int) -> None:
        self.told.append(payloads)
