from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ILoggingContext, IProtocolFactory, IProtocolNegotiationFactory
from twisted.logger import capturedLogs
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost, MemoryReactor, MemoryTransport, Peer
from wshost.connections.connection import Connection, Link, Proxied
from wshost.connections.hub import OVERFLOW, Host
from wshost.interfaces import IContext, IPromptDriver
from wshost.results import REFUSED, Close, Stop

ADDRESS = IPv4Address("TCP", "192.0.2.1", 50_000)


@implementer(IPromptDriver)
class Echo:
    """A protocol module, and its driver: says back what it hears, and who is not admitted hears so."""

    def __init__(self, shutdown: Any = REFUSED, context: Any = None) -> None:
        self.shutdown = shutdown
        self.context = context

    def init(self, options: Any, context: IContext) -> Echo:
        if not context.admitted:
            context.perform(Close(b"full"))
        return Echo(self.shutdown, context)

    def handle_connection_in(self, data: bytes) -> Any:
        return data

    def handle_action(self, action: str, *args: Any) -> Any:
        if action == "shutdown":
            return self.shutdown
        return args[0] if action == "send" else REFUSED

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


def serve(module: Any = Echo(), **limits: Any) -> MemoryHost:  # noqa: B008 - it has no state
    return MemoryHost(chain=[Link("echo", module, None)], **limits)


def fired(deferred: Deferred[None]) -> bool:
    return bool(deferred.called)


class TestFactory:
    def test_is_what_endpoints_take(self) -> None:
        factory = serve().host.factory()
        verifyObject(IProtocolFactory, factory)
        verifyObject(ILoggingContext, factory)
        assert ILoggingContext(factory).logPrefix() == "wshost"
        factory.doStart()
        factory.doStop()

    def test_names_for_tls_what_the_chain_begins_with(self) -> None:
        """RFC 7301."""

        class Speaking(Echo):
            alpn_protocols = (b"http/1.1",)

        modules: list[Any] = [Speaking(), Echo()]
        chain = [Link(type(module).__name__, module, None) for module in modules]
        factory = MemoryHost(chain=chain).host.factory()
        verifyObject(IProtocolNegotiationFactory, factory)
        assert IProtocolNegotiationFactory(factory).acceptableProtocols() == [b"http/1.1"]
        factory = MemoryHost(chain=chain[::-1]).host.factory()
        assert IProtocolNegotiationFactory(factory).acceptableProtocols() == []

    def test_builds_connections(self) -> None:
        host = serve().host
        assert type(host.factory().buildProtocol(ADDRESS)) is Connection
        assert type(host.factory(proxied=True).buildProtocol(ADDRESS)) is Proxied

    def test_each_has_its_id(self) -> None:
        host = serve()
        assert [host.connect().connection.id for _ in range(3)] == ["c1", "c2", "c3"]
        assert list(host.host.connections) == ["c1", "c2", "c3"]


class TestLimits:
    def test_have_the_designs_defaults(self) -> None:
        host = serve().host
        assert (host.max_output, host.stall_timeout, host.close_timeout) == (1 << 20, 10, 5)

    def test_are_options(self) -> None:
        host = serve(max_output=1, stall_timeout=2, close_timeout=3).host
        assert (host.max_output, host.stall_timeout, host.close_timeout) == (1, 2, 3)


class TestConnections:
    def test_only_so_many_are_admitted(self) -> None:
        host = serve(max_connections=2)
        assert [host.connect().take() for _ in range(3)] == [b"", b"", b"full"]

    def test_when_one_goes_there_is_room(self) -> None:
        host = serve(max_connections=1)
        one, other = host.connect(), host.connect()
        assert other.take() == b"full"
        one.leave()
        assert not other.gone
        assert host.connect().take() == b""
        assert host.connect().take() == b"full"

    def test_only_so_many_more_are_told(self) -> None:
        host = serve(max_connections=1)
        peers = [host.connect() for _ in range(1 + OVERFLOW)]
        assert not any(peer.gone for peer in peers)
        peer = host.connect()
        assert not peer.accepted
        assert peer.transport.writes == []
        assert len(host.host.connections) == 1 + OVERFLOW
        peers[-1].leave()
        assert host.connect().take() == b"full"

    def test_those_are_counted_to_nothing(self) -> None:
        host = serve(max_connections=1)
        for peer in [host.connect() for _ in range(1 + OVERFLOW + 10)]:
            peer.leave()
        assert host.idle()
        assert not host.host._refused


class TestAddresses:
    def test_each_has_its_limit(self) -> None:
        host = serve(max_connections_per_address=2)
        assert [host.connect("192.0.2.1").take() for _ in range(3)] == [b"", b"", b"full"]
        assert host.connect("192.0.2.2").take() == b""

    def test_who_leaves_makes_room_for_one(self) -> None:
        host = serve(max_connections_per_address=2)
        peers = [host.connect("192.0.2.1") for _ in range(2)]
        peers[0].leave()
        assert [host.connect("192.0.2.1").take() for _ in range(2)] == [b"", b"full"]

    def test_by_default_there_is_none(self) -> None:
        host = serve()
        assert all(host.connect("192.0.2.1").take() == b"" for _ in range(20))

    def test_one_address_can_not_fill_the_server(self) -> None:
        host = serve(max_connections=10, max_connections_per_address=1)
        for _ in range(20):
            host.connect("192.0.2.1")
        assert host.connect("192.0.2.2").take() == b""

    def test_who_is_refused_does_not_count(self) -> None:
        host = serve(max_connections_per_address=1)
        first = host.connect("192.0.2.1")
        for _ in range(3):
            assert host.connect("192.0.2.1").take() == b"full"
        first.leave()
        assert host.connect("192.0.2.1").take() == b""

    @pytest.mark.parametrize(
        "end",
        [
            lambda peer: peer.leave(),
            lambda peer: peer.leave(ConnectionLost()),
            lambda peer: peer.half_close(),
            lambda peer: peer.connection.perform(Stop("enough")),
            lambda peer: [peer.connection.perform(Close()), peer.turn(5)],
            lambda peer: peer.connection.abort("enough"),
        ],
    )
    def test_the_count_returns_to_nothing(self, end: Callable[[Peer], Any]) -> None:
        host = serve(max_connections_per_address=2)
        peers = [host.connect() for _ in range(3)]
        for peer in peers:
            end(peer)
            peer.turn(5)
        assert host.idle()
        assert not host.host._per_address


class TestCork:
    def test_all_that_wait_are_written_at_the_end_of_the_turn(self) -> None:
        host = serve()
        peers = [host.connect() for _ in range(5)]
        for peer in peers:
            peer.connection.ref.send(b"x")
        assert len(host.reactor.getDelayedCalls()) == 1
        host.reactor.advance(0)
        assert [peer.transport.writes for peer in peers] == [[b"x"]] * 5
        assert host.host._corked == []

    def test_what_is_asked_meanwhile_is_for_the_next(self) -> None:
        host = serve()
        one, other = host.connect(), host.connect()
        write = one.transport.write

        def write_and_send(data: bytes) -> None:
            write(data)
            other.connection.ref.send(b"y")

        one.transport.write = write_and_send  # type: ignore[method-assign]
        one.connection.ref.send(b"x")
        host.reactor.advance(0)
        assert (one.transport.writes, other.transport.writes) == ([b"x"], [b"y"])

    def test_topics_that_fail_take_nobody_with_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        host = serve()
        peer = host.connect()

        def fail() -> None:
            raise MemoryError

        with monkeypatch.context() as patch, capturedLogs() as events:
            patch.setattr(host.host.topics, "flush", fail)
            peer.connection.ref.send(b"x")
            host.reactor.advance(0)
        assert [event["what"] for event in events] == ["what was published could not be delivered to all"]
        peer.connection.ref.send(b"y")
        host.reactor.advance(0)
        assert peer.take() == b"xy"

    def test_a_transport_that_fails_takes_nobody_with_it(self) -> None:
        host = serve()
        peers = [host.connect() for _ in range(3)]

        def fail(data: bytes) -> None:
            raise RuntimeError("the handler is closed")

        peers[0].transport.write = fail  # type: ignore[method-assign]
        for peer in peers:
            peer.connection.ref.send(b"x")
        with capturedLogs() as events:
            host.reactor.advance(0)
        assert [(event["id"], event["what"]) for event in events] == [("c1", "its output failed")]
        assert [peer.gone for peer in peers] == [True, False, False]
        assert [peer.transport.writes for peer in peers] == [[], [b"x"], [b"x"]]
        peers[1].connection.ref.send(b"y")
        assert peers[1].take() == b"xy"


class TestTurn:
    def test_is_ended_once_for_topics_and_streams_alike(self) -> None:
        host = serve()
        peer = host.connect()
        ended: list[str] = []
        flush, write = host.host.topics.flush, peer.transport.write
        host.host.topics.flush = lambda: ended.append("topics") or flush()  # type: ignore[func-returns-value, method-assign]
        peer.transport.write = lambda data: ended.append("streams") or write(data)  # type: ignore[func-returns-value, method-assign]
        host.host.turn_ends()
        peer.connection.ref.send(b"text")
        host.host.turn_ends()
        assert ended == []
        assert peer.take() == b"text"
        assert ended == ["topics", "streams"]

    def test_of_a_connection_that_goes_its_subscriptions_go(self) -> None:
        host = serve()
        peer = host.connect()
        assert peer.connection.ref.subscribe("a")
        peer.leave()
        assert not host.host.topics._topics


class TestCalls:
    """Into users' code, where that was called by users' code."""

    def test_come_at_the_end_of_the_turn_before_topics_and_streams(self) -> None:
        host = serve()
        peer = host.connect()
        done: list[str] = []
        flush = host.host.topics.flush
        host.host.topics.flush = lambda: done.append("topics") or flush()  # type: ignore[func-returns-value, method-assign]
        host.host.call_soon(peer.connection, lambda: done.append("call") or peer.connection.perform(b"x"))  # type: ignore[func-returns-value]
        assert done == []
        host.reactor.advance(0)
        assert done == ["call", "topics"]
        assert peer.transport.writes == [b"x"]

    def test_that_they_ask_for_are_the_next_turns(self) -> None:
        host = serve()
        peer = host.connect()
        done: list[int] = []

        def call() -> None:
            done.append(len(done))
            if len(done) < 3:
                host.host.call_soon(peer.connection, call)

        host.host.call_soon(peer.connection, call)
        turn = host.reactor.calls.pop()
        turn.func()
        assert len(done) == 1
        host.reactor.advance(0)
        assert len(done) == 3

    @pytest.mark.parametrize("error", [ValueError, GeneratorExit, SystemExit])
    def test_that_fail_are_an_end_of_their_connection_alone(self, error: type[BaseException]) -> None:
        def fail() -> None:
            raise error

        host = serve()
        one, other = host.connect(), host.connect()
        done: list[str] = []
        host.host.call_soon(one.connection, fail)
        host.host.call_soon(other.connection, lambda: done.append("done"))
        with capturedLogs() as events:
            host.reactor.advance(0)
        assert (done, [event["id"] for event in events]) == (["done"], ["c1"])
        one.turn()
        assert (one.gone, other.gone) == (True, False)


class TestStop:
    def test_with_nobody_there_it_is_done_at_once(self) -> None:
        host = serve()
        assert fired(host.host.stop())
        assert host.idle()

    def test_a_module_may_say_good_bye(self) -> None:
        host = serve(Echo([b"good", Close(b"bye")]))
        peers = [host.connect() for _ in range(3)]
        stopped = host.host.stop()
        assert [peer.take() for peer in peers] == [b"goodbye"] * 3
        for peer in peers:
            assert not fired(stopped)
            peer.half_close()
        assert fired(stopped)
        assert host.idle()

    def test_one_that_does_not_know_how_just_closes(self) -> None:
        host = serve()
        peer = host.connect()
        stopped = host.host.stop()
        peer.turn()
        assert peer.transport.half_closed
        peer.half_close()
        assert fired(stopped)

    def test_who_is_left_can_be_aborted_before(self) -> None:
        host = serve(Echo(None), drain_timeout=3)
        peer = host.connect()
        stopped = host.host.stop()
        peer.turn(0.1)
        assert not peer.transport.aborted
        host.host.abort_all()
        peer.turn(0)
        assert peer.transport.aborted
        assert fired(stopped)
        assert host.idle()

    def test_who_is_left_at_the_timeout_is_aborted(self) -> None:
        host = serve(Echo(None), drain_timeout=3)
        peers = [host.connect() for _ in range(3)]
        stopped = host.host.stop()
        peers[0].leave()
        peers[1].turn(2.9)
        assert not any(peer.transport.aborted for peer in peers)
        peers[1].turn(0.1)
        assert [peer.transport.aborted for peer in peers] == [False, True, True]
        assert fired(stopped)
        assert host.idle()

    def test_a_closing_connection_has_its_time(self) -> None:
        host = serve()
        peer = host.connect()
        peer.connection.perform(Close(b"bye"))
        stopped = host.host.stop()
        assert peer.take() == b"bye"
        peer.turn(5)
        assert fired(stopped)

    def test_it_may_be_asked_twice(self) -> None:
        said: list[str] = []

        class Counting(Echo):
            def handle_action(self, action: str, *args: Any) -> Any:
                said.append(action)

        module = Echo()
        counting = Counting()
        module.init = lambda options, context: counting  # type: ignore[method-assign]
        host = serve(module)
        peer = host.connect()
        stopped = host.host.stop(), host.host.stop()
        assert said == ["shutdown"]
        peer.leave()
        assert all(map(fired, stopped))
        assert fired(host.host.stop())

    def test_who_comes_now_is_closed_at_once(self) -> None:
        host = serve(Echo(None))
        host.connect()
        host.host.stop()
        assert not host.connect().accepted
        assert len(host.host.connections) == 1

    @pytest.mark.parametrize("wrapper", [WrappingFactory, HAProxyWrappingFactory])
    def test_so_is_who_comes_through_a_wrapper(self, wrapper: type[WrappingFactory[Any]]) -> None:
        """Wrappers, TLS for one, take a factory's None for a protocol, and leave the socket open."""
        host = serve()
        host.host.stop()
        protocol: Any = wrapper(host.host.factory()).buildProtocol(ADDRESS)
        transport = MemoryTransport(host.reactor, protocol, ADDRESS)
        protocol.makeConnection(transport)
        assert transport.aborted

    def test_refs_are_harmless_then(self) -> None:
        host = serve()
        peer = host.connect()
        ref = peer.connection.ref
        host.host.stop()
        assert not ref.send(b"x")
        peer.leave()
        assert not ref.send(b"x")
        assert not ref.close()


class TestThread:
    def test_is_the_one_that_builds_connections(self) -> None:
        """A server may be put together in another than the reactor's."""
        hosts: list[Host] = []
        thread = threading.Thread(target=lambda: hosts.append(Host(MemoryReactor(), [])))
        thread.start()
        thread.join()
        assert hosts[0].thread != threading.get_ident()
        hosts[0].factory().buildProtocol(ADDRESS)
        assert hosts[0].thread == threading.get_ident()


class TestMemory:
    def test_of_a_thousand_connections_nothing_is_left(self) -> None:
        host = serve(max_connections_per_address=1_000)
        ends: list[Callable[[Peer], Any]] = [
            lambda peer: peer.leave(),
            lambda peer: peer.leave(ConnectionLost()),
            lambda peer: peer.half_close(),
            lambda peer: peer.connection.perform(Stop("enough")),
            lambda peer: peer.connection.perform(Close(b"bye")),
        ]
        for _ in range(20):
            peers = [host.connect() for _ in range(50)]
            for number, peer in enumerate(peers):
                peer.send(b"hello")
                peer.connection.ref.send(b"you")
                peer.connection.call_later(3_600, peer.leave)
                ends[number % len(ends)](peer)
            host.reactor.advance(10)
            assert host.idle()
        del peer
        peers.clear()
        gc.collect()
        assert not host.host._per_address
        assert [one for one in gc.get_objects() if type(one) is Connection and one._host is host.host] == []
