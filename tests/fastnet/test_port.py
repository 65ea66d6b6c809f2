from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import IListeningPort
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import Reactor as FakeReactor
from tests.fastnet.surroundings import Recorder, turn
from wshost.fastnet.port import Loop, Port, UNIXPort, loop_of
from wshost.fastnet.secure import SecureTransport
from wshost.fastnet.transport import Transport


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def reactor(loop: asyncio.AbstractEventLoop) -> FakeReactor:
    return FakeReactor(loop)


class TestPorts:
    """What they do on sockets, Twisted's own tests see (tests/integration/test_twisted.py)."""

    @pytest.mark.parametrize(
        ("context", "transport"), [(None, Transport), (ssl.create_default_context(), SecureTransport)]
    )
    def test_know_which_transport(self, reactor: FakeReactor, context: Any, transport: type) -> None:
        port = Port(0, Recorder, 7, "127.0.0.1", reactor, context=context)
        assert verifyObject(IListeningPort, port)
        assert (port.transport, port.context, port.backlog) == (transport, context, 7)
        assert isinstance(port.loop, Loop)

    def test_of_unix_know_it_too(self, reactor: FakeReactor, tmp_path: Path) -> None:
        port = UNIXPort(str(tmp_path / "x"), Recorder, 7, 0o600, reactor, 1)
        assert (port.transport, port.context, port.backlog, port.mode) == (Transport, None, 7, 0o600)


class TestLoop:
    def test_is_one_of_each_reactor(self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop) -> None:
        assert loop_of(reactor) is loop_of(reactor)
        assert loop_of(reactor) is not loop_of(FakeReactor(loop))

    def test_is_that_of_twisteds_reactor(self, loop: asyncio.AbstractEventLoop) -> None:
        reactor = AsyncioSelectorReactor(loop)
        called: list[str] = []
        loop_of(reactor).call_soon(called.append, "x")
        turn(loop)
        assert called == ["x"]
        for reader in reactor.removeAll():
            reader.connectionLost(None)

    def test_ends_its_connections_with_the_reactor(self, reactor: FakeReactor) -> None:
        class Connection:
            ended = False

            def disconnect(self) -> None:
                self.ended = True
                of.connections.discard(self)

        of = loop_of(reactor)
        connections = [Connection(), Connection()]
        of.connections.update(connections)  # type: ignore[arg-type]
        (trigger,) = reactor.triggers
        trigger()
        assert [connection.ended for connection in connections] == [True, True]

    def test_logs_errors_to_twisteds_log(self, reactor: FakeReactor) -> None:
        with capturedLogs() as events:
            loop_of(reactor).call_exception_handler({"message": "odd {things}", "exception": ZeroDivisionError("x")})
        assert [str(formatEvent(event)).partition("\n")[0] for event in events] == ["odd {things}"]
        assert events[0]["log_failure"].type is ZeroDivisionError

    def test_does_not_log_that_a_peer_left_in_its_handshake(self, reactor: FakeReactor) -> None:
        with capturedLogs() as events:
            loop_of(reactor).call_exception_handler({"message": "x", "exception": ConnectionResetError})
        assert events == []


def test_a_socket_is_told_to_whom_it_belongs(reactor: FakeReactor, loop: asyncio.AbstractEventLoop) -> None:
    """As `twisted.internet.tcp.Port` makes it."""
    port = Port(0, Recorder, 7, "127.0.0.1", reactor)
    ours, theirs = socket.socketpair()
    protocol = Recorder()
    transport = port.transport(ours, protocol, "", port, 0, reactor)
    assert port.loop.connections == {transport}
    protocol.transport = transport
    transport.abortConnection()
    turn(loop)
    assert port.loop.connections == set()
    theirs.close()
