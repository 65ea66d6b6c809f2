from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.logger import capturedLogs, formatEvent

from tests.connections.modules import Module
from tests.memory import MemoryHost, MemoryTransport, Peer
from wshost.connections.shared import Link
from wshost.results import REFUSED, Close

ADDRESS = IPv4Address("TCP", "192.0.2.1", 50_000)


def stay(driver: Any, action: str, *args: Any) -> Any:
    """Whatever the hub asks for, the connection stays."""


def go(driver: Any, action: str, *args: Any) -> Any:
    return Close(b"bye") if action == "shutdown" else REFUSED


def host_of(module: Module, peers: int, **limits: Any) -> tuple[MemoryHost, list[Peer]]:
    host = MemoryHost(chain=[Link("a", module, None)], **limits)
    return host, [host.connect() for _ in range(peers)]


class TestSpread:
    def told(self, module: Module) -> list[int]:
        """The numbers of the connections that were told to go, in order of their connecting."""
        return [number for number, driver in enumerate(module.drivers) if ("shutdown",) in driver.actions]

    def test_all_connections_close_at_once_without_a_spread(self) -> None:
        module = Module(action=go)
        host, peers = host_of(module, 5)
        host.hub.stop()
        assert [peer.take() for peer in peers] == [b"bye"] * 5

    def test_connections_close_one_after_the_other_in_equal_parts_of_the_time(self) -> None:
        module = Module(action=go)
        host, _ = host_of(module, 4, drain_spread=4.0)
        host.hub.stop()
        closed = []
        for _ in range(5):
            host.reactor.advance(0)
            closed.append(len(self.told(module)))
            host.reactor.advance(1.0)
        assert closed == [1, 2, 3, 4, 4]

    def test_all_connections_are_told_of_the_drain_at_once(self) -> None:
        module = Module(action=stay)
        host, _ = host_of(module, 3, drain_spread=4.0)
        host.hub.stop()
        assert all(driver.actions[0] == ("drain",) for driver in module.drivers)

    def test_a_connection_is_served_until_its_turn_comes(self) -> None:
        module = Module(action=go)
        host, peers = host_of(module, 2, drain_spread=4.0)
        host.hub.stop()
        [first] = self.told(module)
        peers[1 - first].send(b"still there?")
        assert peers[1 - first].take() == b"still there?"
        host.reactor.advance(2.1)
        assert peers[1 - first].take() == b"bye"

    def test_the_order_is_not_that_of_connecting(self) -> None:
        """Of 50 connections, the first half stays the first in one of 10**14 cases."""
        module = Module(action=stay)
        host, _ = host_of(module, 50, drain_spread=5.0)
        host.hub.stop()
        host.reactor.advance(2.45)
        told = self.told(module)
        assert 24 <= len(told) <= 26
        assert told != list(range(len(told)))
        assert told != list(range(50 - len(told), 50))

    def test_the_spread_needs_few_looks(self) -> None:
        """A timer for each of 500 connections would be due every 2 ms."""
        module = Module(action=stay)
        host, _ = host_of(module, 500, drain_spread=1.0)
        host.hub.stop()
        counts = set()
        for _ in range(1_100):
            host.reactor.advance(0.001)
            counts.add(len(self.told(module)))
        assert 10 <= len(counts) <= 1.0 / 0.05 + 2
        assert max(counts) == 500

    def test_connections_that_have_gone_before_their_turn_leave_nothing_behind(self) -> None:
        module = Module(action=go)
        host, peers = host_of(module, 3, drain_spread=4.0)
        stopped = host.hub.stop()
        for peer in peers:
            peer.leave()
        assert stopped.called
        assert host.idle()

    def test_the_last_one_may_go_at_once_when_its_turn_comes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The one that was to be closed after it has gone already."""

        def leave(driver: Any, action: str, *args: Any) -> Any:
            if action == "shutdown":
                peers[module.drivers.index(driver)].transport.lose(ConnectionError())
            return REFUSED

        # The last one first.
        monkeypatch.setattr("wshost.connections.drain.shuffle", lambda _: None)
        module = Module(action=leave)
        host, peers = host_of(module, 3, drain_spread=6.0)
        stopped = host.hub.stop()
        peers[0].leave()
        host.reactor.advance(2.1)
        assert stopped.called
        assert host.idle()


class TestReport:
    def test_the_number_of_connections_that_are_left_is_logged_once_a_second(self) -> None:
        host, peers = host_of(Module(action=stay), 3)
        with capturedLogs() as events:
            host.hub.stop()
            host.reactor.advance(0.9)
            assert not events
            host.reactor.advance(0.2)
            peers[0].leave()
            host.reactor.advance(1.0)
            peers[1].leave()
            host.reactor.advance(1.0)
            peers[2].leave()
            host.reactor.advance(3.0)
        assert [(event["log_level"].name, formatEvent(event)) for event in events] == [
            ("info", "waiting for 3 connections"),
            ("info", "waiting for 2 connections"),
            ("info", "waiting for 1 connection"),
        ]
        assert host.idle()

    def test_nothing_is_logged_if_another_process_says_it_for_all(self) -> None:
        host, _ = host_of(Module(action=stay), 2)
        host.hub._waits = lambda connections: told.append(connections) or True  # type: ignore[func-returns-value]
        told: list[int] = []
        with capturedLogs() as events:
            host.hub.stop()
            host.reactor.advance(1.1)
        assert told == [2, 2]
        assert not events
        host.reactor.advance(20.0)

    @pytest.mark.parametrize(("peers", "left"), [(3, "3 connections that are"), (1, "1 connection that is")])
    def test_what_is_aborted_at_the_end_is_logged(self, peers: int, left: str) -> None:
        host, _ = host_of(Module(action=stay), peers, drain_timeout=0.5)
        with capturedLogs() as events:
            stopped = host.hub.stop()
            host.reactor.advance(0.6)
        assert [(event["log_level"].name, formatEvent(event)) for event in events] == [
            ("warn", f"aborting {left} still open after 0.5 s")
        ]
        assert stopped.called
        assert host.idle()

    def test_the_server_is_told_what_the_drain_waits_for(self) -> None:
        numbers: list[int] = []
        host, peers = host_of(Module(action=stay), 2)
        host.hub._waits = numbers.append
        host.hub.stop()
        assert numbers == [2]
        peers[0].leave()
        host.reactor.advance(1.1)
        assert numbers == [2, 1]


class TestLateConnections:
    """Of a slow client, TLS or a proxy's header is complete after the stop only."""

    def late(self, host: MemoryHost) -> tuple[Any, MemoryTransport]:
        """A connection that was built, but not made."""
        connection: Any = host.hub.factory().buildProtocol(ADDRESS)
        return connection, MemoryTransport(host.reactor, connection, ADDRESS)

    def test_it_is_told_to_go_and_waited_for(self) -> None:
        module = Module(action=go)
        host, [peer] = host_of(module, 1)
        connection, transport = self.late(host)
        stopped = host.hub.stop()
        connection.makeConnection(transport)
        host.reactor.advance(0)
        peer.turn()
        assert transport.take() == b"bye"
        peer.leave()
        assert not stopped.called
        transport.lose(ConnectionError())
        host.reactor.advance(0)
        assert stopped.called
        assert host.idle()

    def test_it_is_aborted_with_the_others(self) -> None:
        host, [peer] = host_of(Module(action=stay), 1, drain_timeout=2.0)
        connection, transport = self.late(host)
        stopped = host.hub.stop()
        connection.makeConnection(transport)
        peer.turn(2.1)
        assert transport.aborted
        assert stopped.called

    @pytest.mark.parametrize("peers", [0, 1])
    def test_it_is_aborted_at_once_when_nobody_waits_any_more(self, peers: int) -> None:
        host, before = host_of(Module(action=stay), peers)
        connection, transport = self.late(host)
        stopped = host.hub.stop()
        for peer in before:
            peer.leave()
        assert stopped.called
        connection.makeConnection(transport)
        host.reactor.advance(0)
        host.reactor.advance(0)
        assert transport.aborted
        assert host.idle()

    def test_one_that_comes_when_the_last_has_just_gone_is_aborted(self) -> None:
        host, [peer] = host_of(Module(action=stay), 1)
        connection, transport = self.late(host)
        stopped = host.hub.stop()
        peer.transport.lose(ConnectionError())
        assert not stopped.called
        connection.makeConnection(transport)
        host.reactor.advance(0)
        host.reactor.advance(0)
        assert transport.aborted
        assert stopped.called
        assert host.idle()

    def test_one_that_has_gone_at_once_is_left_alone(self) -> None:
        host, [peer] = host_of(Module(action=stay), 1)
        connection, transport = self.late(host)
        host.hub.stop()
        connection.makeConnection(transport)
        transport.lose(ConnectionError())
        peer.leave()
        assert host.idle()
