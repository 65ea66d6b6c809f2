from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import CannotListenError, ConnectionAborted
from twisted.internet.interfaces import IListeningPort, IProtocolNegotiationFactory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import Reactor as FakeReactor
from tests.fastnet.surroundings import Recorder, turn
from wshost.fastnet import port as module
from wshost.fastnet.port import MADE, PAUSE, REFUSALS, Loop, Port, UNIXPort, loop_of
from wshost.fastnet.secure import SecureTransport
from wshost.fastnet.syscalls import accept
from wshost.fastnet.transport import Transport
from wshost.logs.limit import MOST


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(autouse=True)
def _accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that are none have their own way."""
    monkeypatch.setattr(module, "accept", lambda sock: sock.accept() if isinstance(sock, FakeSocket) else accept(sock))


@pytest.fixture
def reactor(loop: asyncio.AbstractEventLoop) -> FakeReactor:
    return FakeReactor(loop)


class Selecting:
    """A context that notes what it is to select."""

    selected: list[str] | None = None

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        self.selected = protocols


@implementer(IProtocolNegotiationFactory)
class Speaking:
    def acceptableProtocols(self) -> list[bytes]:
        return [b"chat", b"http/1.1"]


class TestPorts:
    """What they do on sockets, Twisted's own tests see (tests/integration/test_twisteds_own_tests.py)."""

    @pytest.mark.parametrize(
        ("context", "transport"), [(None, Transport), (ssl.create_default_context(), SecureTransport)]
    )
    def test_ports_make_transports_with_tls_where_they_have_a_context(
        self, reactor: FakeReactor, context: Any, transport: type
    ) -> None:
        port = Port(0, Recorder, 7, "127.0.0.1", reactor, context=context)
        assert verifyObject(IListeningPort, port)
        assert (port.transport, port.context, port.backlog) == (transport, context, 7)
        assert isinstance(port.loop, Loop)

    def test_tls_selects_what_the_factory_speaks(self, reactor: FakeReactor) -> None:
        context: Any = Selecting()
        port = Port(0, Speaking(), 7, "127.0.0.1", reactor, context=context)
        assert port.protocols == (b"chat", b"http/1.1")
        assert context.selected == ["chat", "http/1.1"]

    def test_tls_selects_nothing_for_a_factory_that_says_nothing(self, reactor: FakeReactor) -> None:
        context: Any = Selecting()
        assert Port(0, Factory(), 7, "127.0.0.1", reactor, context=context).protocols == ()
        assert context.selected is None
        assert Port(0, Speaking(), 7, "127.0.0.1", reactor).protocols == ()

    def test_unix_ports_make_plain_transports(self, reactor: FakeReactor, tmp_path: Path) -> None:
        port = UNIXPort(str(tmp_path / "x"), Recorder, 7, 0o600, reactor, 1)
        assert (port.transport, port.context, port.backlog, port.mode) == (Transport, None, 7, 0o600)

    def test_unix_ports_replace_the_socket_of_a_killed_server(
        self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reactor = AsyncioSelectorReactor(loop)
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            path = Path(name) / "x"
            with socket.socket(socket.AF_UNIX) as killed:
                killed.bind(str(path))
            path.with_name("x.lock").symlink_to(str(os.getppid()))
            port: Any = UNIXPort(str(path), Factory(), 7, 0o600, reactor, 1)
            port.factory.doStart = port.factory.doStop = lambda: None
            port.startListening()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert str(path.with_name("x.lock").readlink()) == str(os.getpid())
            second = UNIXPort(str(path), Factory(), 7, 0o600, reactor)
            with pytest.raises(CannotListenError, match="a server listens there already"):
                second.startListening()
            port.stopListening()
            reactor.runUntilCurrent()
        for reader in reactor.removeAll():
            reader.connectionLost(None)


class FakeSocket:
    """A listening socket, and those who wait at it; or what happens instead."""

    def close(self) -> None:
        """Nothing."""

    def shutdown(self, how: int) -> None:
        """Nothing."""

    def __init__(self, *waiting: Any) -> None:
        self.waiting = list(waiting)

    def accept(self) -> Any:
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        first = self.waiting.pop(0)
        if isinstance(first, Exception):
            raise first
        return first


class Factory:
    """Builds protocols, and does what a test wants done."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.built: list[Recorder] = []
        self.build: Any = Recorder

    def buildProtocol(self, addr: Any) -> Any:
        self.addresses.append(addr)
        self.built.append(self.build())
        return self.built[-1]


class Waiting:
    """A port, of which the peers wait in a list."""

    ADDRESS = ("127.0.0.1", 50_000)

    def __init__(self, reactor: FakeReactor, kind: Any = Port, addresses: Any = (ADDRESS,)) -> None:
        self.factory = Factory()
        self.port: Any = kind(0, self.factory, 7, "127.0.0.1", reactor)
        self.pairs = [socket.socketpair() for _ in addresses]
        self.socket = FakeSocket(*((ours, addr) for (ours, _), addr in zip(self.pairs, addresses, strict=True)))
        self.port.socket = self.socket

    def is_closed(self, number: int) -> bool:
        return self.pairs[number][0].fileno() == -1

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        for connection in list(self.port.loop.connections):
            connection.abortConnection()
        turn(loop)
        for pair in self.pairs:
            for either in pair:
                either.close()


class TestAccepting:
    def test_all_waiting_connections_are_accepted(self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop) -> None:
        waiting = Waiting(reactor, addresses=[("127.0.0.1", 50_000 + number) for number in range(3)])
        waiting.port.doRead()
        assert [addr.port for addr in waiting.factory.addresses] == [50_000, 50_001, 50_002]
        transports: list[Any] = [built.transport for built in waiting.factory.built]
        assert [transport.sessionno for transport in transports] == [0, 1, 2]
        assert waiting.port.loop.connections == set(transports)
        waiting.end(loop)

    def test_accepted_sockets_may_go_elsewhere(self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop) -> None:
        waiting = Waiting(reactor, addresses=[("127.0.0.1", 50_000 + number) for number in range(2)])
        taken: list[Any] = []

        def take(accepted: Any) -> None:
            while accepted:
                taken.append(accepted.popleft())

        waiting.port.hand_on = take
        waiting.port.doRead()
        assert [name[1] for _, name in taken] == [50_000, 50_001]
        assert waiting.factory.built == []
        waiting.end(loop)

    def test_connections_are_accepted_faster_than_they_are_made(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ACCEPTED", 5)
        monkeypatch.setattr(module, "MADE", 2)
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * 9)
        counts = []
        waiting.port.doRead()
        for _ in range(5):
            counts.append((len(waiting.socket.waiting), len(waiting.factory.built)))
            turn(loop, 1)
        assert counts == [(4, 2), (4, 4), (4, 5), (4, 5), (4, 5)]
        waiting.port.doRead()
        turn(loop)
        assert len(waiting.factory.built) == 9
        waiting.end(loop)

    def test_the_kernel_keeps_connections_while_many_are_accepted_and_not_made(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_ACCEPTED", 3)
        monkeypatch.setattr(module, "MADE", 1)
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * 8)
        left = []
        for _ in range(3):
            waiting.port.doRead()
            left.append(len(waiting.socket.waiting))
        assert left == [5, 4, 3]
        waiting.end(loop)

    def test_accepted_sockets_without_a_connection_are_closed_with_the_port(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp.Port, "connectionLost", lambda _port, _reason: None)
        monkeypatch.setattr(module, "MADE", 1)
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * 3)
        waiting.port.doRead()
        assert [waiting.is_closed(number) for number in range(3)] == [False, False, False]
        waiting.port.connectionLost(None)
        turn(loop)
        assert [waiting.is_closed(number) for number in range(3)] == [False, True, True]
        assert len(waiting.factory.built) == 1
        waiting.end(loop)

    def test_accepting_ends_when_the_port_stops_listening(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp.Port, "connectionLost", lambda _port, _reason: None)
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * 2)

        def build() -> Recorder:
            waiting.port.disconnecting = True
            return Recorder()

        waiting.factory.build = build
        waiting.port.doRead()
        waiting.port.doRead()
        turn(loop)
        assert len(waiting.factory.built) == 1
        waiting.port.connectionLost(None)
        assert [waiting.is_closed(number) for number in range(2)] == [False, True]
        waiting.end(loop)

    def test_a_factory_that_builds_nothing_refuses_the_connection(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        waiting = Waiting(reactor)
        waiting.factory.build = lambda: None
        waiting.port.doRead()
        assert waiting.is_closed(0)
        assert waiting.port.sessionno == 0
        waiting.end(loop)

    def test_accepting_goes_on_after_a_factory_that_fails(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * 2)
        failures = [ZeroDivisionError()]

        def build() -> Recorder:
            if failures:
                raise failures.pop()
            return Recorder()

        waiting.factory.build = build
        with capturedLogs() as events:
            waiting.port.doRead()
        assert [event["log_failure"].type for event in events] == [ZeroDivisionError]
        assert [waiting.is_closed(0), waiting.is_closed(1)] == [True, False]
        assert len(waiting.factory.built) == 1
        waiting.end(loop)

    def test_a_protocol_that_fails_when_it_is_connected_loses_its_connection(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        class Failing(Recorder):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        waiting = Waiting(reactor)
        waiting.factory.build = Failing
        with capturedLogs() as events:
            waiting.port.doRead()
        assert [event["log_failure"].type for event in events] == [ZeroDivisionError]
        turn(loop)
        assert waiting.factory.built[0].lost is ConnectionAborted
        assert waiting.is_closed(0)
        waiting.end(loop)

    @pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPERM])
    def test_accepting_goes_on_after_a_connection_that_is_gone(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, error: int
    ) -> None:
        waiting = Waiting(reactor)
        waiting.socket.waiting.insert(0, OSError(error, "gone"))
        with capturedLogs() as events:
            waiting.port.doRead()
            waiting.port.doRead()
        assert events == []
        assert len(waiting.factory.built) == 1
        waiting.end(loop)

    def test_failures_to_connect_are_logged_within_limits(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * 50)

        def build() -> None:
            raise ZeroDivisionError

        waiting.factory.build = build
        with capturedLogs() as events:
            waiting.port.doRead()
            turn(loop)
        assert len(events) == MOST
        assert all(waiting.is_closed(number) for number in range(50))
        waiting.end(loop)

    def test_a_link_local_peers_address_has_its_interface(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getnameinfo", lambda addr, _flags: (f"{addr[0]}%eth0", "50000"))

        def kind(port: int, factory: Any, backlog: int, _interface: str, reactor: Any) -> Port:
            return Port(port, factory, backlog, "::1", reactor)

        waiting = Waiting(reactor, kind, [("fe80::1", 50_000, 0, 2), ("::1", 50_000, 0, 0)])
        waiting.port.doRead()
        assert [addr.host for addr in waiting.factory.addresses] == ["fe80::1%eth0", "::1"]
        waiting.end(loop)

    def test_a_unix_sockets_peer_has_a_unix_address(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, tmp_path: Path
    ) -> None:
        def kind(_port: int, factory: Any, *_others: Any) -> UNIXPort:
            return UNIXPort(str(tmp_path / "x"), factory, 7, 0o600, reactor)

        waiting = Waiting(reactor, kind, [""])
        waiting.port.doRead()
        assert [addr.name for addr in waiting.factory.addresses] == [b""]
        waiting.end(loop)

    def test_the_event_loop_calls_the_port_directly(self, loop: asyncio.AbstractEventLoop) -> None:
        reactor = AsyncioSelectorReactor(loop)
        factory = Factory()
        port: Any = Port(0, factory, 7, "127.0.0.1", reactor)
        port.socket = socket.create_server(("127.0.0.1", 0))
        port.socket.setblocking(False)
        port.fileno = port.socket.fileno
        port.startReading()
        assert port in reactor.getReaders()
        with socket.create_connection(port.socket.getsockname()):
            turn(loop)
            assert len(factory.built) == 1
            port.stopReading()
            port.loop.connections.pop().abortConnection()
            turn(loop)
        port.socket.close()
        for reader in reactor.removeAll():
            reader.connectionLost(None)


class Spare:
    """The descriptor that Twisted's ports keep for when there is none."""

    def __init__(self, there: bool) -> None:
        self.there = there
        self.events: list[str] = []

    def available(self) -> bool:
        return self.there

    def __enter__(self) -> None:
        self.events.append("given")

    def __exit__(self, *args: object) -> None:
        self.events.append("taken")


class Paused:
    """A reactor's clock, and whether a port is read from."""

    def __init__(self, waiting: Waiting, reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        port = waiting.port
        port.connected = True
        port.startReading = lambda: self.asked.append("start")
        port.stopReading = lambda: self.asked.append("stop")
        monkeypatch.setattr(reactor, "callLater", self.clock.callLater, raising=False)


class TestOutOfDescriptors:
    """Whoever listens is told of the same peer again and again, until it is accepted."""

    def test_waiting_connections_are_closed_while_no_descriptor_is_free(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spare = Spare(True)
        monkeypatch.setattr(tcp, "_reservedFD", spare)
        waiting = Waiting(reactor, addresses=[Waiting.ADDRESS] * (REFUSALS + 2))
        waiting.socket.waiting.insert(1, OSError(errno.EMFILE, "Too many open files"))
        with capturedLogs() as events:
            waiting.port.doRead()
        assert spare.events == ["given", "taken"]
        assert [waiting.is_closed(number) for number in range(REFUSALS + 2)] == [False, *[True] * REFUSALS, False]
        assert len(waiting.factory.built) == 1
        assert [formatEvent(event) for event in events] == ["Too many open files: waiting connections were closed"]
        waiting.end(loop)

    def test_all_waiting_connections_may_be_closed(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp, "_reservedFD", Spare(True))
        waiting = Waiting(reactor)
        waiting.socket.waiting.insert(0, OSError(errno.EMFILE, "Too many open files"))
        waiting.port.doRead()
        assert waiting.is_closed(0)
        waiting.end(loop)

    @pytest.mark.parametrize(
        ("error", "there"),
        [
            (errno.EMFILE, False),
            (errno.EMFILE, True),
            (errno.ENFILE, True),
            (errno.ENOBUFS, True),
            (errno.ENOMEM, True),
        ],
    )
    def test_without_a_spare_descriptor_accepting_pauses(
        self,
        reactor: FakeReactor,
        loop: asyncio.AbstractEventLoop,
        monkeypatch: pytest.MonkeyPatch,
        error: int,
        there: bool,
    ) -> None:
        monkeypatch.setattr(tcp, "_reservedFD", Spare(there))
        waiting = Waiting(reactor, addresses=[])
        waiting.socket.waiting.append(OSError(error, "none left"))
        paused = Paused(waiting, reactor, monkeypatch)
        with capturedLogs() as events:
            waiting.port.doRead()
        assert [formatEvent(event) for event in events] == ["can't accept connections: none left"]
        assert paused.asked == ["stop"]
        paused.clock.advance(PAUSE)
        assert paused.asked == ["stop", "start"]

    @pytest.mark.parametrize("name", ["connected", "disconnecting"])
    def test_a_port_that_was_closed_does_not_resume_accepting(
        self, reactor: FakeReactor, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        waiting = Waiting(reactor, addresses=[])
        waiting.socket.waiting.append(OSError(errno.ENFILE, "none left"))
        paused = Paused(waiting, reactor, monkeypatch)
        waiting.port.doRead()
        setattr(waiting.port, name, name == "disconnecting")
        paused.clock.advance(PAUSE)
        assert paused.asked == ["stop"]


class TestLoop:
    def test_a_connection_that_fails_to_end_does_not_stop_the_others_ending(self, reactor: FakeReactor) -> None:
        """Of those that the reactor's end finds."""
        ended: list[Any] = []

        class Connection:
            def disconnect(self) -> None:
                ended.append(self)
                raise ZeroDivisionError

        loop = Loop(reactor)
        connections: set[Any] = {Connection(), Connection()}
        loop.connections |= connections
        with capturedLogs() as events:
            reactor.triggers[0]()
        assert set(ended) == connections
        assert [event["log_failure"].type for event in events] == [ZeroDivisionError] * 2

    def test_each_reactor_has_one_loop(self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop) -> None:
        assert loop_of(reactor) is loop_of(reactor)
        assert loop_of(reactor) is not loop_of(FakeReactor(loop))

    def test_the_loop_is_that_of_twisteds_reactor(self, loop: asyncio.AbstractEventLoop) -> None:
        reactor = AsyncioSelectorReactor(loop)
        called: list[str] = []
        loop_of(reactor).call_soon(called.append, "x")
        turn(loop)
        assert called == ["x"]
        for reader in reactor.removeAll():
            reader.connectionLost(None)

    def test_its_calls_see_no_context_of_the_code_that_asks_for_them(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        user: ContextVar[str] = ContextVar("user", default="nobody")
        seen: list[str] = []
        ours, theirs = socket.socketpair()
        theirs.send(b"x")

        def users_code() -> None:
            user.set("somebody")
            of = loop_of(reactor)
            look = lambda: seen.append(user.get())  # noqa: E731
            of.call_soon(look)
            of.call_later(0, look)
            of.add_reader(ours.fileno(), look)
            of.add_writer(ours.fileno(), look)

        loop_of(reactor)
        copy_context().run(users_code)
        turn(loop)
        loop.remove_reader(ours.fileno())
        loop.remove_writer(ours.fileno())
        ours.close()
        theirs.close()
        assert len(seen) >= 4
        assert set(seen) == {"nobody"}

    def test_the_reactors_stop_disconnects_all(self, reactor: FakeReactor) -> None:
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

    def test_errors_are_logged_to_twisteds_log(self, reactor: FakeReactor) -> None:
        with capturedLogs() as events:
            loop_of(reactor).call_exception_handler({"message": "odd {things}", "exception": ZeroDivisionError("x")})
        assert [str(formatEvent(event)).partition("\n")[0] for event in events] == ["odd {things}"]
        assert events[0]["log_failure"].type is ZeroDivisionError


def test_a_transport_belongs_to_its_ports_connections_until_its_end(
    reactor: FakeReactor, loop: asyncio.AbstractEventLoop
) -> None:
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


class TestAnotherProcess:
    """A listening socket that two ports share, as two processes do."""

    @pytest.fixture
    def asyncio_reactor(self, loop: asyncio.AbstractEventLoop) -> Iterator[AsyncioSelectorReactor]:
        reactor = AsyncioSelectorReactor(loop)
        yield reactor
        for reader in reactor.removeAll():
            reader.connectionLost(None)

    def port(self, reactor: AsyncioSelectorReactor, kind: Any = Port, inherited: Any = None, **how: Any) -> Any:
        port: Any = kind(*how.get("args", (0, Factory(), 7, "127.0.0.1", reactor)))
        port.factory.doStart = port.factory.doStop = lambda: None
        port._preexistingSocket = inherited
        port.startListening()
        return port

    def stop(self, port: Any, reactor: AsyncioSelectorReactor) -> None:
        port.stopListening()
        reactor.runUntilCurrent()

    def test_a_socket_that_was_released_goes_on_to_listen(self, asyncio_reactor: AsyncioSelectorReactor) -> None:
        first = self.port(asyncio_reactor)
        where = first.socket.getsockname()
        second = self.port(asyncio_reactor, inherited=first.socket.dup())
        first.stopReading()
        first.release()
        self.stop(first, asyncio_reactor)
        with socket.create_connection(where) as client:
            second.doRead()
            assert [address.port for address in second.factory.addresses] == [client.getsockname()[1]]
        self.stop(second, asyncio_reactor)

    def test_connections_that_were_accepted_are_made_before(self, asyncio_reactor: AsyncioSelectorReactor) -> None:
        port = self.port(asyncio_reactor, args=(0, Factory(), 2 * MADE, "127.0.0.1", asyncio_reactor))
        clients = [socket.create_connection(port.socket.getsockname()) for _ in range(MADE + 2)]
        port.doRead()
        assert (len(port.factory.addresses), port.accepted) == (MADE, 2)
        port.stopReading()
        port.release()
        assert (len(port.factory.addresses), port.accepted) == (MADE + 2, 0)
        for client in clients:
            client.close()
        self.stop(port, asyncio_reactor)

    def test_the_file_of_a_unix_socket_stays_and_its_lock_goes(self, asyncio_reactor: AsyncioSelectorReactor) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            path = Path(name) / "x"
            arguments = (str(path), Factory(), 7, 0o600, asyncio_reactor, 1)
            first = self.port(asyncio_reactor, UNIXPort, args=arguments)
            second = self.port(asyncio_reactor, UNIXPort, first.socket.dup(), args=arguments)
            first.stopReading()
            first.release()
            self.stop(first, asyncio_reactor)
            assert [one.name for one in Path(name).iterdir()] == ["x"]
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                second.doRead()
            assert len(second.factory.addresses) == 1
            self.stop(second, asyncio_reactor)
            assert list(Path(name).iterdir()) == []

    def test_a_unix_socket_without_a_lock_is_released_too(self, asyncio_reactor: AsyncioSelectorReactor) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            path = Path(name) / "x"
            port = self.port(asyncio_reactor, UNIXPort, args=(str(path), Factory(), 7, 0o600, asyncio_reactor))
            port.release()
            self.stop(port, asyncio_reactor)
            assert path.is_socket()

    def test_a_socket_that_another_process_has_accepted_becomes_a_connection(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        factory = Factory()
        port: Any = Port(0, factory, 7, "127.0.0.1", reactor)
        port.connected = True
        ours, client = socket.socketpair()
        port.take(ours, ("192.0.2.1", 50_000))
        assert [addr.host for addr in factory.addresses] == ["192.0.2.1"]
        assert ours.gettimeout() == 0
        client.close()
        turn(loop)
        assert factory.built[0].events == ["lost"]

    @pytest.mark.parametrize(("connected", "disconnecting"), [(False, False), (True, True)])
    def test_a_port_that_does_not_listen_takes_no_socket(
        self, reactor: FakeReactor, connected: bool, disconnecting: bool
    ) -> None:
        port: Any = Port(0, Factory(), 7, "127.0.0.1", reactor)
        port.connected, port.disconnecting = connected, disconnecting
        ours, client = socket.socketpair()
        port.take(ours, ("192.0.2.1", 50_000))
        assert client.recv(1) == b""
        client.close()

    def test_a_connection_is_adopted(self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop) -> None:
        port = Port(0, Recorder, 7, "127.0.0.1", reactor)
        ours, client = socket.socketpair()
        protocol = Recorder()
        port.adopt(ours, protocol, ("192.0.2.1", 50_000))
        client.send(b"hello")
        turn(loop)
        transport: Any = protocol.transport
        assert protocol.received == b"hello"
        assert transport.getPeer().host == "192.0.2.1"
        assert port.sessionno == 1
        transport.abortConnection()
        turn(loop)
        client.close()

    def test_a_connection_that_can_not_be_made_is_closed_and_the_port_goes_on(
        self, reactor: FakeReactor, loop: asyncio.AbstractEventLoop
    ) -> None:
        class Failing(Recorder):
            def makeConnection(self, transport: Any) -> None:
                raise KeyboardInterrupt

        port = Port(0, Recorder, 7, "127.0.0.1", reactor)
        ours, client = socket.socketpair()
        with capturedLogs() as events:
            port.adopt(ours, Failing(), "")
            turn(loop)
        assert any("failed to adopt a connection" in formatEvent(event) for event in events)
        assert client.recv(1) == b""
        client.close()
