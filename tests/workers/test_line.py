from __future__ import annotations

from collections.abc import Iterator
from socket import socket
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.workers.surroundings import Peer, Reactor, pair
from wshost.workers import line as module
from wshost.workers.line import RETRY, Line


class Ends:
    """A line, its other end, and what it has called."""

    def __init__(self, reactor: Reactor) -> None:
        ours, theirs = pair()
        self.peer = Peer(theirs)
        self.events: list[Any] = []
        self.line = Line(reactor, ours, self.received, lambda: self.events.append("lost"))

    def received(self, head: Any, data: bytes, sockets: list[socket]) -> None:
        for one in sockets:
            one.close()
        self.events.append((dict(head), data, len(sockets)))


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def ends(reactor: Reactor) -> Iterator[Ends]:
    ends = Ends(reactor)
    yield ends
    ends.line.close()
    ends.peer.close()


def fill(ends: Ends) -> int:
    """Send until there is no room; return how many packets were sent."""
    sent = 0
    while ends.line.send({"n": sent}, data=bytes(60_000)):
        sent += 1
    return sent


def test_packets_go_both_ways(ends: Ends, reactor: Reactor) -> None:
    assert ends.line.send({"a": 1})
    ends.line.tell({"b": 2}, b"data")
    assert ends.peer.read() == [{"a": 1}, {"b": 2}]
    ends.peer.say(c=3)
    reactor.read()
    assert ends.events == [({"c": 3}, b"", 0)]


def test_descriptors_go_with_a_packet(ends: Ends) -> None:
    with socket() as one:
        assert ends.line.send({"take": 1}, [one.fileno()])
    assert ends.peer.read() == [{"take": 1}]
    assert len(ends.peer.sockets) == 1


def test_what_can_not_be_sent_now_is_refused_or_kept_in_order(ends: Ends, reactor: Reactor) -> None:
    sent = fill(ends)
    ends.line.tell({"kept": 1})
    ends.line.tell({"kept": 2})
    reactor.advance(RETRY)
    assert not ends.line.send({"n": -1})
    assert len(ends.peer.read()) == sent
    assert not ends.line.send({"n": -1})
    reactor.advance(RETRY)
    assert ends.peer.read() == [{"kept": 1}, {"kept": 2}]
    assert ends.line.send({"n": -1})


def test_a_process_that_takes_nothing_counts_as_dead(
    ends: Ends, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    fill(ends)
    with capturedLogs() as logged:
        for number in range(4):
            ends.line.tell({"kept": number})
    assert [formatEvent(event) for event in logged] == [
        "another process of this server takes nothing: it counts as dead"
    ]
    assert ends.events == ["lost"]
    assert ends.line.closed
    assert not reactor.getDelayedCalls()


def test_the_end_of_the_other_process_is_noticed_once(ends: Ends, reactor: Reactor) -> None:
    ends.peer.say(last=1)
    ends.peer.close()
    reactor.read()
    assert ends.events == [({"last": 1}, b"", 0), "lost"]
    assert not ends.line.send({})
    ends.line.tell({})
    ends.line.close()
    assert not reactor._asyncioEventloop.readers


def test_what_a_process_has_sent_before_its_end_is_received_even_if_it_has_not_read_all(
    ends: Ends, reactor: Reactor
) -> None:
    ends.line.tell({"unread": 1})
    ends.peer.say(last=1)
    ends.peer.close()
    reactor.read()
    assert ends.events == [({"last": 1}, b"", 0), "lost"]


def test_a_process_that_can_not_be_understood_counts_as_dead(ends: Ends, reactor: Reactor) -> None:
    ends.peer.channel.socket.send(b"no packet")
    with capturedLogs() as logged:
        reactor.read()
    assert formatEvent(logged[0]).startswith("another process of this server can't be understood: ")
    assert ends.events == ["lost"]


def test_after_a_packet_others_have_their_turn(ends: Ends, reactor: Reactor) -> None:
    with socket() as one:
        for _ in range(2):
            ends.peer.channel.send({"take": 1}, b"", [one.fileno()])
    reactor._asyncioEventloop.turn()
    assert ends.events == [({"take": 1}, b"", 1)]
    reactor.read()
    assert len(ends.events) == 2


def test_a_packet_that_has_gone_meanwhile_changes_nothing(ends: Ends, reactor: Reactor) -> None:
    (read,) = reactor._asyncioEventloop.readers.values()
    read()
    assert ends.events == []
    assert not ends.line.closed


def test_a_line_that_is_closed_by_a_packet_reads_no_further(ends: Ends, reactor: Reactor) -> None:
    def received(*packet: Any) -> None:
        ends.events.append("received")
        ends.line.close()

    ours, theirs = pair()
    peer = Peer(theirs)
    ends.line.close()
    ends.line = Line(reactor, ours, received, lambda: None)
    peer.say(n=1)
    peer.say(n=2)
    reactor.read()
    assert ends.events == ["received"]
    peer.close()


def test_what_is_there_is_received_before_a_line_is_finished(ends: Ends, reactor: Reactor) -> None:
    ends.peer.say(n=1)
    ends.peer.say(n=2)
    ends.peer.close()
    ends.line.finish()
    assert ends.events == [({"n": 1}, b"", 0), ({"n": 2}, b"", 0)]
    assert ends.line.closed
    ends.line.finish()
