from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    ITCPTransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import HalfCloseable, Recorder
from tests.listening.test_proxy_header import INVALID, VALID
from tests.memory import MemoryTransport
from wshost.listening.proxy_protocol import ProxiedFactory

PROXY = IPv4Address("TCP", "10.0.0.1", 5)
LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"
UNKNOWN = b"PROXY UNKNOWN\r\n"


class Reading(HalfCloseable):
    """One that has a buffer read into."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = 0

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes


class Behind:
    """A protocol behind a proxy's header, and the socket before it."""

    def __init__(self, kind: type[Recorder] = HalfCloseable) -> None:
        self.clock = Clock()
        self.protocol: Any = kind()
        self.known = 0
        factory = Factory.forProtocol(lambda: self.protocol)
        proxied: Any = ProxiedFactory(factory)
        self.wrapper: Any = proxied.buildProtocol(PROXY)
        self.transport = MemoryTransport(self.clock, self.wrapper, PROXY)
        self.wrapper.makeConnection(self.transport)

    def note(self) -> None:
        self.known += 1

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.transport.receive(piece)
        self.clock.advance(0)


@pytest.fixture
def behind() -> Behind:
    return Behind()


class TestAHeader:
    @pytest.mark.parametrize(("data", "source", "destination"), VALID)
    def test_a_header_tells_the_addresses(self, behind: Behind, data: bytes, source: Any, destination: Any) -> None:
        peer = behind.protocol.transport
        assert (peer.getPeer(), peer.getHost()) == (PROXY, behind.transport.getHost())
        assert peer.anonymous
        behind.send(data)
        assert peer.anonymous is (source is None)
        assert (peer.getPeer(), peer.getHost()) == (source or PROXY, destination or behind.transport.getHost())
        assert behind.protocol.received == b""
        behind.send(b"hello")
        assert behind.protocol.received == b"hello"

    @pytest.mark.parametrize("data", [data for data, _, _ in VALID if len(data) < 1000])
    def test_a_header_may_come_byte_by_byte(self, behind: Behind, data: bytes) -> None:
        behind.send(*(bytes([byte]) for byte in data + b"hello"))
        assert behind.protocol.received == b"hello"

    @pytest.mark.parametrize("data", [data for data, _, _ in VALID])
    def test_a_header_may_come_with_the_clients_first_bytes(self, behind: Behind, data: bytes) -> None:
        behind.send(data + b"hello", b", world")
        assert behind.protocol.received == b"hello, world"

    def test_a_second_header_is_the_clients_data(self, behind: Behind) -> None:
        behind.send(LINE + LINE)
        assert behind.protocol.received == LINE

    def test_call_when_known_calls_when_the_header_has_come(self, behind: Behind) -> None:
        peer = behind.protocol.transport
        peers: list[Any] = []
        peer.call_when_known(lambda: peers.append(peer.getPeer().host))
        behind.send(LINE[:-1])
        assert peers == []
        behind.send(LINE[-1:])
        assert peers == ["192.0.2.1"]
        peer.call_when_known(behind.note)
        assert behind.known == 1

    def test_a_protocol_may_end_when_the_addresses_are_known(self, behind: Behind) -> None:
        """As where its address has one connection too many."""
        behind.protocol.transport.call_when_known(lambda: behind.transport.lose(ConnectionDone()))
        behind.send(LINE + b"hello")
        assert (behind.protocol.received, behind.protocol.events) == (b"", ["lost"])


class TestHolding:
    """While it is not known who is to have the client's bytes."""

    @pytest.fixture
    def held(self, behind: Behind) -> Behind:
        transport = behind.protocol.transport
        transport.call_when_known(transport.hold)
        return behind

    def test_what_comes_behind_the_header_is_kept_until_the_release(self, held: Behind) -> None:
        held.send(LINE + b"hel", b"lo")
        assert held.protocol.received == b""
        held.protocol.transport.call_when_known(held.note)
        assert held.known == 1
        held.protocol.transport.release()
        assert held.protocol.received == b"hello"
        held.send(b" you")
        assert held.protocol.received == b"hello you"

    def test_a_closed_half_comes_behind_the_bytes(self, held: Behind) -> None:
        held.send(LINE + b"hello")
        held.wrapper.readConnectionLost()
        assert held.protocol.events == []
        held.protocol.transport.release()
        assert (held.protocol.received, held.protocol.events) == (b"hello", ["read"])

    def test_a_release_of_nothing_gives_nothing(self, held: Behind) -> None:
        held.send(LINE)
        held.protocol.transport.release()
        held.protocol.transport.release()
        assert (held.protocol.received, held.protocol.events) == (b"", [])

    def test_after_the_end_nothing_is_given(self, held: Behind) -> None:
        transport = held.protocol.transport
        held.send(LINE + b"hello")
        held.wrapper.readConnectionLost()
        held.transport.lose(ConnectionDone())
        transport.release()
        assert (held.protocol.received, held.protocol.events) == (b"", ["lost"])


class TestWhatIsNoHeader:
    @pytest.mark.parametrize("data", INVALID)
    def test_an_invalid_header_ends_the_connection_without_a_word(self, behind: Behind, data: bytes) -> None:
        with capturedLogs() as events:
            behind.send(data, LINE + b"hello")
        assert behind.transport.gone
        assert (behind.protocol.lost, behind.protocol.received) == (ConnectionDone, b"")
        assert (behind.transport.writes, events) == ([], [])

    def test_nothing_of_an_invalid_header_is_kept(self, behind: Behind) -> None:
        behind.transport.reading = False
        tracemalloc.start()
        behind.send(b"x" * 1_000_000, LINE)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept < 100_000

    @pytest.mark.parametrize("data", [b"", b"PROXY TCP4", LINE[:-1]])
    def test_an_end_before_the_header_is_whole_ends_the_connection(self, behind: Behind, data: bytes) -> None:
        if data:
            behind.send(data)
        behind.wrapper.readConnectionLost()
        behind.clock.advance(0)
        assert behind.transport.gone
        assert behind.protocol.events == ["lost"]

    def test_an_invalid_header_tells_no_address(self, behind: Behind) -> None:
        behind.protocol.transport.call_when_known(behind.note)
        behind.send(b"x")
        assert behind.known == 0


class TestTheTransport:
    def test_all_else_is_done_by_the_sockets_transport(self, behind: Behind) -> None:
        transport = behind.protocol.transport
        verifyObject(ITCPTransport, transport)
        transport.write(b"hello")
        assert behind.transport.writes == [b"hello"]
        transport.setTcpNoDelay(True)
        assert behind.transport.no_delay
        assert transport.transport is behind.transport

    def test_unknown_attributes_raise_attribute_error(self, behind: Behind) -> None:
        with pytest.raises(AttributeError):
            behind.protocol.transport.nothing  # noqa: B018

    @pytest.mark.parametrize(("kind", "into"), [(Reading, True), (HalfCloseable, False)])
    def test_buffers_are_read_into_where_transport_and_protocol_can(self, kind: type[Recorder], into: bool) -> None:
        behind = Behind(kind)
        behind.transport.buffered = True
        behind.send(LINE)
        room = bytearray(5)
        assert behind.protocol.transport.receive_into(memoryview(room)) is into
        behind.send(b"hello")
        assert (bytes(room), behind.protocol.received) == ((b"hello", b"") if into else (bytes(5), b"hello"))

    def test_buffers_are_not_read_into_where_the_transport_can_not(self) -> None:
        behind = Behind(Reading)
        behind.send(LINE)
        assert behind.protocol.transport.receive_into(memoryview(bytearray(5))) is False
        behind.wrapper.transport = object()
        assert behind.protocol.transport.receive_into(None) is False


class TestAHalf:
    """What the peer or we close first."""

    def test_half_closeable_protocols_are_told_of_closed_halves(self, behind: Behind) -> None:
        verifyObject(IHalfCloseableProtocol, behind.wrapper)
        behind.send(LINE)
        behind.wrapper.readConnectionLost()
        behind.wrapper.writeConnectionLost()
        assert behind.protocol.events == ["read", "write"]
        assert not behind.transport.disconnecting

    def test_other_protocols_are_not_half_closeable(self) -> None:
        """The transport asks, and ends the connection."""
        assert not IHalfCloseableProtocol.providedBy(Behind(Recorder).wrapper)


class TestTheEnd:
    def test_the_protocol_is_told_of_the_end(self, behind: Behind) -> None:
        verifyObject(IProtocol, behind.wrapper)
        behind.transport.lose(ConnectionDone())
        assert behind.protocol.events == ["lost"]

    def test_an_ended_connection_leaves_nothing_for_the_collector(self, behind: Behind) -> None:
        behind.send(LINE)
        behind.transport.lose(ConnectionDone())
        references = [weakref.ref(behind.wrapper), weakref.ref(behind.protocol)]
        gc.disable()
        try:
            del behind.wrapper, behind.protocol
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()


@implementer(ILoggingContext, IProtocolNegotiationFactory)
class Negotiating(Factory):
    protocol = Recorder

    def __init__(self) -> None:
        self.told: list[str] = []

    def logPrefix(self) -> str:
        return "chat"

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def doStart(self) -> None:
        self.told.append("start")

    def doStop(self) -> None:
        self.told.append("stop")


class TestTheFactory:
    def test_the_factory_stands_for_the_wrapped_one(self) -> None:
        factory = Negotiating()
        proxied = ProxiedFactory(factory)
        for interface in (IProtocolFactory, ILoggingContext, IProtocolNegotiationFactory):
            verifyObject(interface, proxied)
        proxied.doStart()
        proxied.doStop()
        assert factory.told == ["start", "stop"]
        assert proxied.logPrefix() == "chat (PROXY)"
        assert proxied.acceptableProtocols() == [b"http/1.1"]

    def test_the_factory_stands_for_one_that_negotiates_nothing(self) -> None:
        class Plain:
            def buildProtocol(self, addr: Any) -> None:
                """Refuse."""

        proxied = ProxiedFactory(Plain())
        assert not IProtocolNegotiationFactory.providedBy(proxied)
        assert proxied.logPrefix() == "Plain (PROXY)"
        assert proxied.buildProtocol(PROXY) is None
