from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.connections.modules import Module, serve
from tests.handlers.surroundings import Handler
from tests.memory import MemoryHost, Peer
from wshost.connections.rate import BURST, MAX_ADDRESSES, ConnectionRate


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> ConnectionRate:
    return ConnectionRate(5, clock.seconds)


class TestBuckets:
    def test_an_address_may_connect_for_some_seconds_at_once(self, rate: ConnectionRate) -> None:
        assert [rate.take("192.0.2.1") for _ in range(5 * BURST + 2)] == [0] * 5 * BURST + [1, 1]

    def test_an_address_has_room_again_when_time_has_passed(self, rate: ConnectionRate, clock: Clock) -> None:
        for _ in range(5 * BURST):
            rate.take("192.0.2.1")
        clock.advance(0.1)
        assert rate.take("192.0.2.1") == 1
        clock.advance(0.1)
        assert [rate.take("192.0.2.1") for _ in range(2)] == [0, 1]
        clock.advance(3_600)
        assert [rate.take("192.0.2.1") for _ in range(5 * BURST + 1)] == [0] * 5 * BURST + [1]

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("192.0.2.1", "192.0.2.2", False),
            ("192.0.2.1", "::ffff:192.0.2.1", True),
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%eth0", "fe80::2%eth0", True),
            ("a proxy's words", "a proxy's words", True),
            ("a proxy's words", "other words", False),
        ],
    )
    def test_an_ipv6_peer_is_counted_by_its_network(
        self, rate: ConnectionRate, one: str, other: str, same: bool
    ) -> None:
        for _ in range(5 * BURST):
            rate.take(one)
        assert bool(rate.take(other)) is same

    def test_the_addresses_that_are_remembered_are_bounded(self, rate: ConnectionRate) -> None:
        for _ in range(5 * BURST):
            rate.take("192.0.2.1")
        for number in range(MAX_ADDRESSES - 1):
            rate.take(f"host {number}")
        assert rate.take("192.0.2.1") == 1
        for number in range(MAX_ADDRESSES):
            rate.take(f"further host {number}")
        assert len(rate) == MAX_ADDRESSES
        assert rate.take("192.0.2.1") == 0

    def test_a_clock_that_is_set_back_locks_no_address_out(self) -> None:
        now = [100_000.0]
        rate = ConnectionRate(1, lambda: now[0])
        assert rate.take("192.0.2.1") == 0
        now[0] = 10_000.0
        assert rate.take("192.0.2.1") == 0
        assert rate.take("192.0.2.1") == 1
        now[0] += 1
        assert rate.take("192.0.2.1") == 0


class TestConnections:
    def refused(self, peer: Peer) -> bytes:
        peer.turn()
        return peer.take()

    def test_an_address_that_connects_too_often_gets_429_before_its_handler_is_asked(self) -> None:
        asked: list[object] = []
        host = MemoryHost(Handler(init=asked.append), connection_rate=1)
        for _ in range(BURST):
            host.open()
        response = self.refused(host.connect())
        assert response.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 1\r\n" in response
        assert len(asked) == BURST
        host.connect("192.0.2.2").upgrade()
        assert len(asked) == BURST + 1
        assert host.hub.shared.account.refused == {(429, "This address connects too often."): 1}
        host.reactor.advance(1)
        host.open()

    def test_a_module_that_can_not_tell_has_its_connection_aborted(self) -> None:
        host = serve(Module(), connection_rate=1)
        peers = [host.connect() for _ in range(BURST + 1)]
        peers[-1].turn()
        assert [peer.transport.aborted for peer in peers] == [False] * BURST + [True]
        assert host.hub.shared.account.refused == {(0, "This address connects too often."): 1}

    def test_without_a_rate_an_address_may_connect_at_any_rate(self) -> None:
        host = MemoryHost(Handler())
        for _ in range(50):
            host.open()
        assert host.hub.shared.admission.rate is None
