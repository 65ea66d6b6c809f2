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

from tests.memory import MemoryHost, MemoryReactor, MemoryTransport, Peer, limits_of
from wshost.connections.admission import MAX_REFUSED, Admission
from wshost.connections.connection import Connection, ProxiedConnection
from wshost.connections.hub import RENEWED, Hub
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IPromptDriver, IRenewableDriver
from wshost.networks import Networks
from wshost.results import REFUSED, Close, Stop

ADDRESS = IPv4Address("TCP", "192.0.2.1", 50_000)


@implementer(IPromptDriver)
class Echo:
    """A protocol module and its driver. It sends back what it receives, and tells refused peers that it is full."""

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


class TestRenew:
    """Drivers are told by the action "reload" that handlers were imported again."""

    @implementer(IRenewableDriver)
    class Renewing(Echo):
        def __init__(self, context: Any = None) -> None:
            super().__init__(context=context)
            self.told = 0

        def init(self, options: Any, context: IContext) -> Any:
            self.drivers = [*getattr(self, "drivers", []), TestRenew.Renewing(context)]
            return self.drivers[-1]

        def handle_action(self, action: str, *args: Any) -> Any:
            self.told += action == "reload"
            return None if action == "reload" else super().handle_action(action, *args)

    def test_connections_go_over_some_in_each_turn(self) -> None:
        module = self.Renewing()
        host = serve(module, max_connections=2 * RENEWED + 1)
        for _ in range(2 * RENEWED + 1):
            host.connect()
        counts: list[int] = []
        host.hub.renew().addCallback(counts.append)
        told = [sum(driver.told for driver in module.drivers)]
        host.reactor.advance(0)
        told.append(sum(driver.told for driver in module.drivers))
        assert told == [RENEWED, 2 * RENEWED + 1]
        assert counts == [2 * RENEWED + 1]

    def test_connections_without_newer_code_are_not_counted(self) -> None:
        host = serve()
        host.connect()
        counts: list[int] = []
        host.hub.renew().addCallback(counts.append)
        assert counts == [0]

    def test_connections_of_modules_that_can_not_go_over_are_not_counted(self) -> None:
        """Whatever their drivers return for actions that they do not know; nor those whose module has not begun."""

        class Careless(Echo):
            def init(self, options: Any, context: IContext) -> Any:
                starting.append(host.hub.renew())
                return Careless()

            def handle_action(self, action: str, *args: Any) -> Any:
                return None

        starting: list[Deferred[int]] = []
        host = serve(Careless())
        host.connect()
        counts: list[int] = []
        for renewed in (*starting, host.hub.renew()):
            renewed.addCallback(counts.append)
        assert counts == [0, 0]

    def test_a_later_renewal_takes_an_earlier_one_over(self) -> None:
        module = self.Renewing()
        host = serve(module, max_connections=RENEWED + 1)
        for _ in range(RENEWED + 1):
            host.connect()
        counts: list[int] = []
        host.hub.renew().addCallback(counts.append)
        host.hub.renew().addCallback(counts.append)
        host.reactor.advance(0)
        assert counts == [RENEWED + 1, RENEWED + 1]
        host.reactor.advance(0)
        assert len(counts) == 2


def fired(deferred: Deferred[None]) -> bool:
    return bool(deferred.called)


class TestFactory:
    def test_the_hubs_factory_provides_what_endpoints_need(self) -> None:
        factory = serve().hub.factory()
        verifyObject(IProtocolFactory, factory)
        verifyObject(ILoggingContext, factory)
        assert ILoggingContext(factory).logPrefix() == "wshost"
        factory.doStart()
        factory.doStop()

    def test_the_factory_offers_the_alpn_protocols_of_the_first_module(self) -> None:
        """RFC 7301: a client and a server agree on the protocol by ALPN."""

        class Speaking(Echo):
            alpn_protocols = (b"http/1.1",)

        modules: list[Any] = [Speaking(), Echo()]
        chain = [Link(type(module).__name__, module, None) for module in modules]
        factory = MemoryHost(chain=chain).hub.factory()
        verifyObject(IProtocolNegotiationFactory, factory)
        assert IProtocolNegotiationFactory(factory).acceptableProtocols() == [b"http/1.1"]
        factory = MemoryHost(chain=chain[::-1]).hub.factory()
        assert IProtocolNegotiationFactory(factory).acceptableProtocols() == []

    def test_the_factory_builds_connections_and_proxied_connections(self) -> None:
        host = serve().hub
        assert type(host.factory().buildProtocol(ADDRESS)) is Connection
        assert type(host.factory(proxied=True).buildProtocol(ADDRESS)) is ProxiedConnection

    @pytest.mark.parametrize("access", [False, True])
    def test_a_proxy_that_is_not_trusted_is_refused_and_this_is_counted(self, access: bool) -> None:
        module: Any = Echo()
        host = MemoryHost(chain=[Link("echo", module, None)], trusted=Networks(["192.0.2.1"]), access=access)
        with capturedLogs() as events:
            peers = [host.connect(address, proxied=True) for address in ("192.0.2.1", "192.0.2.2")]
            peers.append(host.connect("192.0.2.2"))
        assert [peer.transport.aborted for peer in peers] == [False, True, False]
        assert host.hub.shared.account.refused == {(0, "The proxy is not trusted."): 1}
        lines = [(event["connection"], event["peer"], event["access"]) for event in events]
        assert lines == [("c2", "192.0.2.2:50000", {"reason": "The proxy is not trusted."})] * access

    def test_each_connection_has_an_id_of_its_own(self) -> None:
        host = serve()
        assert [host.connect().connection.id for _ in range(3)] == ["c1", "c2", "c3"]
        assert [one.id for one in host.hub.shared.registry.all()] == ["c1", "c2", "c3"]

    def test_ids_may_have_a_first_part_and_another_may_decide_who_is_admitted(self) -> None:
        asked: list[Any] = []

        class Nobody(Admission):
            def has_room(self, connections: int, id: str) -> bool:
                asked.append((connections, id))
                return False

        hub = Hub(MemoryReactor(), [], limits_of(), admission=Nobody(9, 0), prefix="w2")
        connection: Any = hub.build(ADDRESS, proxied=False)
        assert connection.id == "w2c1"
        assert asked == [(0, "w2c1")]
        assert not connection.context.admitted


class TestMaxConnections:
    def test_connections_are_admitted_up_to_max_connections(self) -> None:
        host = serve(max_connections=2)
        assert [host.connect().take() for _ in range(3)] == [b"", b"", b"full"]

    def test_a_connection_that_ends_makes_room_for_another(self) -> None:
        host = serve(max_connections=1)
        one, other = host.connect(), host.connect()
        assert other.take() == b"full"
        one.leave()
        assert not other.gone
        assert host.connect().take() == b""
        assert host.connect().take() == b"full"

    def test_only_a_limited_number_of_refused_connections_is_told_so(self) -> None:
        host = serve(max_connections=1)
        peers = [host.connect() for _ in range(1 + MAX_REFUSED)]
        assert not any(peer.gone for peer in peers)
        peer = host.connect()
        assert not peer.accepted
        assert peer.transport.writes == []
        assert len(host.hub.shared.registry) == 1 + MAX_REFUSED
        peers[-1].leave()
        assert host.connect().take() == b"full"

    def test_the_count_of_refused_connections_returns_to_0(self) -> None:
        host = serve(max_connections=1)
        for peer in [host.connect() for _ in range(1 + MAX_REFUSED + 10)]:
            peer.leave()
        assert host.idle()
        assert host.hub.shared.admission.empty


class TestMaxConnectionsPerAddress:
    def test_each_address_has_a_limit_of_its_own(self) -> None:
        host = serve(max_connections_per_address=2)
        assert [host.connect("192.0.2.1").take() for _ in range(3)] == [b"", b"", b"full"]
        assert host.connect("192.0.2.2").take() == b""

    def test_a_connection_that_ends_makes_room_for_one_of_its_address(self) -> None:
        host = serve(max_connections_per_address=2)
        peers = [host.connect("192.0.2.1") for _ in range(2)]
        peers[0].leave()
        assert [host.connect("192.0.2.1").take() for _ in range(2)] == [b"", b"full"]

    def test_an_address_has_no_limit_by_default(self) -> None:
        host = serve()
        assert all(host.connect("192.0.2.1").take() == b"" for _ in range(20))

    def test_one_address_can_not_fill_the_server(self) -> None:
        host = serve(max_connections=10, max_connections_per_address=1)
        for _ in range(20):
            host.connect("192.0.2.1")
        assert host.connect("192.0.2.2").take() == b""

    def test_refused_connections_do_not_count_for_their_address(self) -> None:
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
            lambda peer: peer.connection.context.perform(Stop("enough")),
            lambda peer: [peer.connection.context.perform(Close()), peer.turn(5)],
            lambda peer: peer.connection.abort("enough"),
        ],
    )
    def test_the_count_of_an_address_returns_to_0_however_its_connections_end(self, end: Callable[[Peer], Any]) -> None:
        host = serve(max_connections_per_address=2)
        peers = [host.connect() for _ in range(3)]
        for peer in peers:
            end(peer)
            peer.turn(5)
        assert host.idle()
        assert host.hub.shared.admission.empty


class TestStop:
    def test_a_hub_without_connections_stops_at_once(self) -> None:
        host = serve()
        assert fired(host.hub.stop())
        assert host.idle()

    def test_a_module_may_say_goodbye_when_the_hub_stops(self) -> None:
        host = serve(Echo([b"good", Close(b"bye")]))
        peers = [host.connect() for _ in range(3)]
        stopped = host.hub.stop()
        assert [peer.take() for peer in peers] == [b"goodbye"] * 3
        for peer in peers:
            assert not fired(stopped)
            peer.half_close()
        assert fired(stopped)
        assert host.idle()

    def test_a_connection_whose_module_refuses_to_shut_down_is_closed(self) -> None:
        host = serve()
        peer = host.connect()
        stopped = host.hub.stop()
        peer.turn()
        assert peer.transport.half_closed
        peer.half_close()
        assert fired(stopped)

    def test_abort_all_aborts_connections_before_the_drain_timeout(self) -> None:
        host = serve(Echo(None), drain_timeout=3)
        peer = host.connect()
        stopped = host.hub.stop()
        peer.turn(0.1)
        assert not peer.transport.aborted
        host.hub.abort_all()
        peer.turn(0)
        assert peer.transport.aborted
        assert fired(stopped)
        assert host.idle()

    def test_connections_that_are_left_at_the_drain_timeout_are_aborted(self) -> None:
        host = serve(Echo(None), drain_timeout=3)
        peers = [host.connect() for _ in range(3)]
        stopped = host.hub.stop()
        peers[0].leave()
        peers[1].turn(2.9)
        assert not any(peer.transport.aborted for peer in peers)
        peers[1].turn(0.1)
        assert [peer.transport.aborted for peer in peers] == [False, True, True]
        assert fired(stopped)
        assert host.idle()

    def test_a_closing_connection_may_finish_while_the_hub_stops(self) -> None:
        host = serve()
        peer = host.connect()
        peer.connection.context.perform(Close(b"bye"))
        stopped = host.hub.stop()
        assert peer.take() == b"bye"
        peer.turn(5)
        assert fired(stopped)

    def test_a_hub_may_be_stopped_twice(self) -> None:
        said: list[str] = []

        class Counting(Echo):
            def handle_action(self, action: str, *args: Any) -> Any:
                said.append(action)

        module = Echo()
        counting = Counting()
        module.init = lambda options, context: counting  # type: ignore[method-assign]
        host = serve(module)
        peer = host.connect()
        stopped = host.hub.stop(), host.hub.stop()
        assert said == ["drain", "shutdown"]
        peer.leave()
        assert all(map(fired, stopped))
        assert fired(host.hub.stop())

    def test_a_connection_that_comes_after_the_stop_is_aborted_at_once(self) -> None:
        host = serve(Echo(None))
        host.connect()
        host.hub.stop()
        assert not host.connect().accepted
        assert len(host.hub.shared.registry) == 1

    @pytest.mark.parametrize("wrapper", [WrappingFactory, HAProxyWrappingFactory])
    def test_a_wrapped_connection_that_comes_after_the_stop_is_aborted_at_once(
        self, wrapper: type[WrappingFactory[Any]]
    ) -> None:
        """A wrapper, such as TLS, would take a factory's None for a protocol, and leave the socket open."""
        host = serve()
        host.hub.stop()
        protocol: Any = wrapper(host.hub.factory()).buildProtocol(ADDRESS)
        transport = MemoryTransport(host.reactor, protocol, ADDRESS)
        protocol.makeConnection(transport)
        assert transport.aborted

    def test_refs_refuse_everything_when_the_hub_has_stopped(self) -> None:
        host = serve()
        peer = host.connect()
        ref = peer.connection.ref
        host.hub.stop()
        assert not ref.send(b"x")
        peer.leave()
        assert not ref.send(b"x")
        assert not ref.close()


class TestThread:
    def test_the_thread_that_builds_connections_is_the_reactors(self) -> None:
        """A server may be put together in a thread that is not the reactor's."""
        hubs: list[Hub] = []
        thread = threading.Thread(target=lambda: hubs.append(Hub(MemoryReactor(), [], limits_of())))
        thread.start()
        thread.join()
        assert not hubs[0].shared.registry.thread.is_current()
        hubs[0].factory().buildProtocol(ADDRESS)
        assert hubs[0].shared.registry.thread.is_current()


class TestMemory:
    def test_nothing_is_left_of_a_thousand_connections(self) -> None:
        host = serve(max_connections_per_address=1_000)
        ends: list[Callable[[Peer], Any]] = [
            lambda peer: peer.leave(),
            lambda peer: peer.leave(ConnectionLost()),
            lambda peer: peer.half_close(),
            lambda peer: peer.connection.context.perform(Stop("enough")),
            lambda peer: peer.connection.context.perform(Close(b"bye")),
        ]
        for _ in range(20):
            peers = [host.connect() for _ in range(50)]
            for number, peer in enumerate(peers):
                peer.send(b"hello")
                peer.connection.ref.send(b"you")
                peer.connection.context.call_later(3_600, peer.leave)
                ends[number % len(ends)](peer)
            host.reactor.advance(10)
            assert host.idle()
        del peer
        peers.clear()
        gc.collect()
        assert host.hub.shared.admission.empty
        assert [one for one in gc.get_referrers(host.hub.shared) if type(one) is Connection] == []
