from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.admin.conftest import Look
from tests.memory import MemoryHost, Peer
from wshost.admin import totals
from wshost.admin.seen import READY, Seen
from wshost.admin.totals import Totals
from wshost.cluster.exchange import Exchange
from wshost.connections.account import Traffic
from wshost.handlers import echo


def added(look: Look, host: MemoryHost) -> Totals:
    """All connections, added up."""
    sums = Totals(look())
    done = sums.add_all()
    host.reactor.advance(0)
    assert done.called
    return sums


Talking = Callable[[int], list[Peer]]


@pytest.fixture
def talking(host: MemoryHost) -> Talking:
    """Makes clients that have said hello, and got the answer."""
    return lambda count: [talk(host) for _ in range(count)]


def talk(host: MemoryHost, times: int = 1) -> Peer:
    """A client that has sent some messages, and got the answers."""
    peer = host.open()
    for _ in range(times):
        peer.text("hello")
    return peer


def test_a_server_without_connections_has_zeros(look: Look, host: MemoryHost) -> None:
    sums = added(look, host)
    assert (sums.traffic, sums.waiting, sums.modules) == (Traffic(), 0, {"http": 0, "websocket": 0})


def test_open_connections_and_ended_ones_are_added(look: Look, host: MemoryHost) -> None:
    talk(host, 3).leave()
    peer = talk(host, 2)
    host.connect()
    sums = added(look, host)
    assert (sums.traffic.messages_in, sums.traffic.messages_out) == (5, 5)
    assert sums.traffic.bytes_in == host.hub.shared.account.ended.bytes_in + peer.connection.bytes_in
    assert sums.traffic.bytes_out == host.hub.shared.account.ended.bytes_out + peer.connection.stream.bytes_out
    assert sums.modules == {"http": 1, "websocket": 1}


def test_what_has_gone_through_a_health_check_stays_in_the_sum(look: Look) -> None:
    host = MemoryHost(echo, counts_ends=True, http_options={"health_path": "/healthz"})
    seen = look()._replace(shared=host.hub.shared, topics=host.hub.topics)
    peer = host.connect()
    peer.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    before = added(lambda: seen, host).traffic
    assert before.bytes_in
    peer.leave()
    assert added(lambda: seen, host).traffic == before


def test_output_that_waits_is_added_unless_its_connection_is_closing(look: Look, host: MemoryHost) -> None:
    peer, closing = host.open(), host.open()
    for one in (peer, closing):
        one.transport.reading = False
        assert one.connection.ref.send("x" * 100_000)
        one.turn()
    closing.connection.abort("on purpose")
    assert added(look, host).waiting == peer.connection.waiting > 100_000


class TestManyConnections:
    @pytest.fixture(autouse=True)
    def two_a_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(totals, "A_TURN", 2)

    def begin(self, look: Look, monkeypatch: pytest.MonkeyPatch) -> tuple[Totals, Any, list[Any]]:
        """Begin to add; the list gets the calls for the next turn."""
        turns: list[Any] = []
        seen = look()
        monkeypatch.setattr(seen.shared.reactor, "callLater", lambda seconds, call: turns.append((seconds, call)))
        sums = Totals(seen)
        return sums, sums.add_all(), turns

    def turn(self, turns: list[Any]) -> None:
        ((seconds, call),) = turns
        turns.clear()
        assert seconds == 0
        call()

    @pytest.mark.parametrize(("peers", "added"), [(5, [2, 4, 5]), (4, [2, 4, 4])])
    def test_only_a_few_are_added_in_one_turn(
        self, look: Look, peers: int, added: list[int], talking: Talking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        talking(peers)
        sums, done, turns = self.begin(look, monkeypatch)
        for count in added[:-1]:
            assert (sums.traffic.messages_in, done.called) == (count, False)
            self.turn(turns)
        assert (sums.traffic.messages_in, done.called) == (added[-1], True)
        assert turns == []

    def test_a_connection_that_ends_meanwhile_counts_once(
        self, look: Look, host: MemoryHost, talking: Talking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before it was added or after: a total that fell would look like a server that was started again."""
        peers = talking(5)
        sums, _, turns = self.begin(look, monkeypatch)
        for peer in (peers[0], peers[4]):
            peer.transport.lose(ConnectionError())
        for _ in range(2):
            self.turn(turns)
        assert sums.traffic.messages_in == sums.traffic.messages_out == 5
        assert host.hub.shared.account.ended.messages_in == 2

    def test_published_messages_count_once_if_there_is_an_access_log_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backplane = Exchange()
        host = MemoryHost(echo, counts_ends=True, access=True, exchange=backplane)
        peers = [host.open() for _ in range(3)]
        peers[2].connection.ref.subscribe("news")
        peers[2].turn()
        backplane.publish("news", "hello")
        peers[2].turn()
        seen = Seen(READY, host.hub.shared, host.hub.topics, {}, None, {})
        sums, _, turns = self.begin(lambda: seen, monkeypatch)
        peers[2].transport.lose(ConnectionError())
        self.turn(turns)
        assert sums.traffic.messages_out == host.hub.shared.account.ended.messages_out == 1
