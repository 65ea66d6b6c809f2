from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConnector, IReactorTime
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import Recorder, turn
from wshost.fastnet.client import Client, ConnectingReactor, Connector
from wshost.fastnet.transport import Transport

#: The loop is given so many turns to see what its sockets have.
TURNS = 1_000
#: Seconds.
PATIENCE = 10.0


class Notes(ClientFactory):
    """Makes a protocol, and notes how connecting failed."""

    noisy = False

    def __init__(self, protocol: Protocol | None) -> None:
        self._made = protocol
        self.addresses: list[Any] = []
        self.failures: list[Any] = []

    def buildProtocol(self, addr: Any) -> Protocol | None:
        self.addresses.append(addr)
        return self._made

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.failures.append(reason.value)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def reactor(loop: asyncio.AbstractEventLoop) -> Iterator[AsyncioSelectorReactor]:
    reactor = AsyncioSelectorReactor(loop)
    yield reactor
    for reader in reactor.removeAll():
        reader.connectionLost(None)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def until(loop: asyncio.AbstractEventLoop, fact: Any) -> None:
    for _ in range(TURNS):
        if fact():
            return
        turn(loop, 1)
    pytest.fail("nothing came of it")


def accepted(listening: socket.socket) -> tuple[socket.socket, Any]:
    """The connection that was made; nothing is waited for longer than `PATIENCE`."""
    listening.settimeout(PATIENCE)
    there, name = listening.accept()
    there.settimeout(PATIENCE)
    return there, name


def connect(reactor: Any, listening: socket.socket, factory: Notes) -> IConnector:
    host, port = listening.getsockname()
    connector: IConnector = ConnectingReactor(reactor).connectTCP(host, port, factory)
    return connector


class TestConnecting:
    def test_the_protocol_gets_our_transport_with_the_peers_address(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        protocol = Recorder()
        factory = Notes(protocol)
        connector = connect(reactor, listening, factory)
        until(loop, lambda: protocol.transport is not None)
        assert verifyObject(IConnector, connector)
        assert type(protocol.transport) is Transport
        assert (protocol.transport.getPeer().host, protocol.transport.getPeer().port) == listening.getsockname()
        assert factory.addresses == [protocol.transport.getPeer()]

    def test_bytes_go_both_ways_and_what_is_written_leaves_at_once(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        protocol: Any = Recorder()
        connect(reactor, listening, Notes(protocol))
        until(loop, lambda: protocol.transport is not None)
        there, _ = accepted(listening)
        with there:
            protocol.transport.write(b"question")
            assert there.recv(100) == b"question"
            there.sendall(b"answer")
            until(loop, lambda: protocol.received)
        assert protocol.received == b"answer"

    def test_the_end_reaches_the_protocol(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        ends: list[Any] = []

        class Ending(Protocol):
            def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
                ends.append(reason.value)

        protocol = Ending()
        connector = connect(reactor, listening, Notes(protocol))
        until(loop, lambda: protocol.transport is not None)
        connector.disconnect()
        until(loop, lambda: ends)
        assert type(ends[0]) is ConnectionDone

    def test_twisteds_endpoints_connect_by_it(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        made: list[Any] = []
        factory = Factory.forProtocol(Recorder)
        factory.noisy = False
        host, port = listening.getsockname()
        TCP4ClientEndpoint(ConnectingReactor(reactor), host, port).connect(factory).addCallback(made.append)
        until(loop, lambda: made)
        assert type(made[0].transport) is Transport

    def test_a_refusal_is_told_to_the_factory(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        factory = Notes(Recorder())
        listening.close()
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            host, port = nobody.getsockname()
            ConnectingReactor(reactor).connectTCP(host, port, factory)
            until(loop, lambda: factory.failures)
        assert [type(failure) for failure in factory.failures] == [error.ConnectionRefusedError]


class TestResets:
    def test_one_that_comes_at_once_reaches_the_protocol(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        ends: list[Any] = []

        class Ending(Protocol):
            def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
                transport: Any = self.transport
                ends.append((reason.value, transport.getPeer().port))

        class Resetting(Notes):
            def buildProtocol(self, addr: Any) -> Any:
                there, _ = accepted(listening)
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                there.close()
                return super().buildProtocol(addr)

        _, port = listening.getsockname()
        connect(reactor, listening, Resetting(Ending()))
        until(loop, lambda: ends)
        assert [(type(error), peer) for error, peer in ends] == [(ConnectionLost, port)]


class TestFactories:
    def test_one_that_wants_no_connection_gets_none(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        factory = Notes(None)
        connect(reactor, listening, factory)
        until(loop, lambda: factory.addresses)
        there, _ = accepted(listening)
        with there:
            assert there.recv(100) == b""

    def test_a_protocol_that_fails_at_the_start_loses_its_connection(
        self, loop: asyncio.AbstractEventLoop, reactor: Any, listening: socket.socket
    ) -> None:
        class Failing(Protocol):
            def connectionMade(self) -> None:
                raise RuntimeError("not me")

        factory = Notes(Failing())
        with capturedLogs() as events:
            connect(reactor, listening, factory)
            until(loop, lambda: events)
        there, _ = accepted(listening)
        turn(loop)
        with there, pytest.raises(ConnectionResetError):
            there.recv(100)
        assert str(events[0]["log_failure"].value) == "not me"


class TestConnectingReactor:
    def test_all_else_is_done_by_the_reactor_that_it_wraps(self, reactor: Any) -> None:
        connecting = ConnectingReactor(reactor)
        assert IReactorTime.providedBy(connecting)
        assert connecting.callLater == reactor.callLater


class TestConnector:
    def test_it_makes_our_client(self, reactor: Any, listening: socket.socket) -> None:
        host, port = listening.getsockname()
        connector = Connector(host, port, Notes(None), 1, None, reactor)
        made = connector._makeTransport()
        assert type(made) is Client
        client: Any = made
        client.failIfNotConnected(ConnectionDone())
