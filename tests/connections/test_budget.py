from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import capturedLogs

from tests.connections.modules import Module, serve
from tests.connections.test_waiters import act
from tests.memory import MemoryHost, Peer
from wshost.connections.budget import PERIOD, STEP, OutputBudget

MOST = 400_000


def host(stall_timeout: float = 10.0) -> MemoryHost:
    return serve(Module(action=act), max_output=1 << 20, max_output_total=MOST, stall_timeout=stall_timeout)


def budget(host: MemoryHost) -> OutputBudget:
    found = host.hub.shared.budget
    assert found is not None
    return found


def slow(host: MemoryHost, size: int = 100_000) -> Peer:
    """A client that reads nothing, and for which so much waits."""
    peer = host.connect()
    peer.transport.reading = False
    assert peer.connection.ref.send(bytes(size))
    peer.turn()
    return peer


def test_without_an_option_there_is_no_budget() -> None:
    assert serve(Module()).hub.shared.budget is None


def test_the_peer_for_which_most_has_waited_for_longest_goes_first() -> None:
    served = host()
    with capturedLogs() as logged:
        first, large = slow(served), slow(served, 250_000)
        assert not any(peer.gone for peer in (first, large))
        last = slow(served)
        last.turn()
    assert [peer.gone for peer in (first, large, last)] == [False, True, False]
    assert large.connection.stream.reason == "too much output waited in all, and its peer took little"
    assert budget(served).dropped == 1
    [event] = logged
    assert event["most"] == MOST


def test_time_counts_as_much_as_size() -> None:
    served = host()
    with capturedLogs():
        old = slow(served, 150_000)
        old.turn(3)
        new = slow(served, 300_000)
        new.turn()
    assert [peer.gone for peer in (old, new)] == [True, False]


def test_a_peer_that_takes_something_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    served = host()
    with capturedLogs():
        old = slow(served, 150_000)
        monkeypatch.setattr("wshost.connections.stream.taken", lambda transport: int(old.reactor.seconds() * 100_000))
        old.turn(3)
        new = slow(served, 300_000)
        new.turn()
    assert [peer.gone for peer in (old, new)] == [False, True]


def test_output_that_grows_behind_a_blocked_transport_counts() -> None:
    served = host()
    peer = slow(served)
    with capturedLogs():
        for _ in range((MOST - 100_000) // STEP):
            peer.connection.ref.send(bytes(STEP))
            peer.turn()
            assert not peer.gone
        peer.connection.ref.send(bytes(2 * STEP))
        peer.turn()
    assert peer.gone


def test_output_beyond_the_limit_of_one_connection_counts() -> None:
    served = host()
    peer = slow(served)
    with capturedLogs():
        for _ in range(2):
            peer.connection.context.write(bytes(1 << 20))
        assert budget(served)._sum == 100_000 + (2 << 20)
        peer.turn()
    assert peer.gone


def test_messages_in_an_outbox_count() -> None:
    served = host()
    peer = slow(served)
    peer.connection.context.use_policy("drop_old")
    with capturedLogs():
        peer.connection.ref.send(bytes(MOST))
        peer.turn()
    assert peer.gone


def test_output_that_peers_have_taken_does_not_count() -> None:
    served = host()
    peers = [slow(served) for _ in range(3)]
    for peer in peers:
        transport: Any = peer.transport
        transport._buffer = b""
    more = slow(served, 350_000)
    assert not any(peer.gone for peer in [*peers, more])
    for peer in peers:
        peer.transport.drain()
    more.leave()
    assert budget(served)._sum == 0


def test_one_line_is_logged_in_a_while() -> None:
    served = host(stall_timeout=100)
    with capturedLogs() as logged:
        for _ in range(3):
            slow(served, MOST + 1).turn()
        assert len(logged) == 1
        # The schedule's clock goes on while somebody waits.
        slow(served).turn(PERIOD)
        slow(served, MOST + 1).turn()
        assert len(logged) == 2
    assert budget(served).dropped == 5


def test_a_transport_that_can_not_be_aborted_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    served = host()
    broken = slow(served, 300_000)
    with capturedLogs() as logged:
        monkeypatch.setattr(broken.transport, "abortConnection", lambda: 1 / 0)
        other = slow(served, MOST + 100_000)
        other.turn()
        assert other.gone
        slow(served, 200_000).turn()
    assert [event.get("what") for event in logged] == [None, "its abort failed, and so did the abort"]
    assert budget(served).dropped == 2
