"""Peers that may send only so many messages and bytes a second."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.memory import Peer
from tests.protocols.websocket.test_driver import Server, driver, elapse, fed, work
from tests.regressions.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from wshost.interfaces import IBufferedDriver, IChannel, ICountingDriver
from wshost.protocols.websocket.driver import STEPS, WebSocket
from wshost.protocols.websocket.limited import PAUSE, QUIET, Bucket, LimitedWebSocket
from wshost.protocols.websocket.options import BURST, MAX_PAUSED, prepare
from wshost.results import ConfigurationError

RATE = 10
ONE = frame(TEXT, b"x")
TOO_MANY = ("close", 1008, "too many messages")


def opened(**options: Any) -> tuple[Server, Peer]:
    """A driver with limits. The engine would take several turns for what the fast lane does in one."""
    server = Server(fast_lane=True, **options)
    return server, server.open()


def codes(peer: Peer) -> list[Any]:
    """The Close that has come, if there is one."""
    return [message for message in peer.messages() if message[0] == "close"]


class TestTheDriver:
    def test_only_a_limit_has_its_own_class_of_drivers(self) -> None:
        for options, kind in (
            ({}, WebSocket),
            ({"message_rate": 1}, LimitedWebSocket),
            ({"byte_rate": 1 << 20}, LimitedWebSocket),
        ):
            server, _ = opened(**options)
            assert type(driver(server)) is kind
            for interface in (IBufferedDriver, IChannel, ICountingDriver):
                verifyObject(interface, driver(server))

    def test_a_byte_rate_that_is_too_low_for_the_largest_message_is_refused(self) -> None:
        handler = Server().sessions
        with pytest.raises(ConfigurationError) as caught:
            prepare({"handler": handler, "byte_rate": 87_381})
        assert str(caught.value) == (
            "websocket: byte_rate: a message of max_message_size would take more than 12 seconds; "
            "at least 87382 is needed"
        )
        assert prepare({"handler": handler, "byte_rate": 87_382}).byte_rate == 87_382


class TestMessages:
    def test_two_seconds_of_messages_may_come_at_once_and_the_others_wait(self) -> None:
        server, peer = opened(message_rate=RATE)
        fed(peer, ONE * 35)
        assert len(server.told) == BURST * RATE
        peer.turn()
        assert not peer.transport.producing
        elapse(peer, 0.95)
        assert len(server.told) == 29
        elapse(peer, 1)
        assert len(server.told) == 35
        assert peer.transport.producing

    @pytest.mark.parametrize("one", [ONE, frame(PING), frame(PONG), frame(BINARY, fin=False) + frame(CONTINUATION)])
    def test_pings_pongs_and_whole_fragmented_messages_count_as_one_each(self, one: bytes) -> None:
        server, peer = opened(message_rate=RATE)
        peer.send(one * 25)
        peer.turn()
        assert len(server.told) == BURST * RATE
        elapse(peer, 1)
        assert len(server.told) == 25

    def test_a_peer_that_keeps_to_the_rate_is_never_held_up(self) -> None:
        server, peer = opened(message_rate=RATE)
        for number in range(100 * RATE):
            elapse(peer, 1 / RATE)
            peer.send(ONE)
            assert (len(server.told), peer.transport.producing) == (number + 1, True)

    def test_a_peer_that_stays_over_the_rate_is_closed_after_ten_seconds_of_pauses(self) -> None:
        server, peer = opened(message_rate=RATE)
        for _ in range(int(MAX_PAUSED * RATE)):
            peer.send(ONE * 2)
            elapse(peer, 1 / RATE)
            assert codes(peer) == []
        for _ in range(2 * RATE):
            peer.send(ONE * 2)
            elapse(peer, 1 / RATE)
        assert codes(peer) == [TOO_MANY]
        assert len(server.told) <= (BURST + MAX_PAUSED + 2) * RATE

    def test_a_peer_that_gives_way_now_and_then_is_served(self) -> None:
        server, peer = opened(message_rate=RATE)
        for _ in range(20):
            peer.send(ONE * 5 * RATE)
            elapse(peer, 5 + 2 * QUIET)
        assert (len(server.told), codes(peer)) == (100 * RATE, [])

    def test_a_time_in_which_our_process_stands_still_is_no_fault_of_the_peers(self) -> None:
        _, peer = opened(message_rate=RATE)
        peer.send(ONE * 5 * RATE)
        for _ in range(3):
            peer.reactor.stall(100)
            peer.send(ONE * 5 * RATE)
        assert codes(peer) == []

    def test_a_high_rate_is_handled_in_parts_and_no_faster(self) -> None:
        server, peer = opened(message_rate=10_000)
        fed(peer, ONE * 25_000)
        assert len(server.told) == STEPS
        peer.turn()
        for _ in range(100):
            peer.turn()
        assert len(server.told) == 20_000
        elapse(peer, PAUSE)
        for _ in range(10):
            peer.turn()
        assert len(server.told) == 20_000 + 10_000 * PAUSE

    def test_an_answer_that_takes_its_time_begins_no_pause(self) -> None:
        server, peer = opened(handle=work, message_rate=1)
        for _ in range(2):
            peer.send(ONE)
            server.session.release()
        peer.turn()
        assert peer.transport.producing
        peer.send(ONE)
        assert not peer.transport.producing
        elapse(peer, 1)
        assert len(server.told) == 3

    def test_what_happens_meanwhile_does_not_end_a_pause(self) -> None:
        server, peer = opened(message_rate=RATE)
        peer.send(ONE * 25)
        driver(server).proceed()
        peer.connection.dataReceived(ONE)
        assert len(server.told) == 20
        elapse(peer, 1)
        assert len(server.told) == 26

    def test_a_close_of_ours_does_not_wait_for_the_end_of_a_pause(self) -> None:
        server, peer = opened(message_rate=RATE)
        peer.send(ONE * 25)
        server.session.ref.close(1000, "bye")
        peer.turn()
        assert peer.transport.producing
        assert codes(peer) == [("close", 1000, "bye")]
        elapse(peer, 1)
        assert len(server.told) == 20

    @pytest.mark.parametrize("stops", [False, True])
    def test_the_peers_answer_to_our_close_is_read_however_many_messages_it_has_sent(self, stops: bool) -> None:
        server, peer = opened(message_rate=RATE)
        peer.send(ONE * BURST * RATE)
        # Nothing waits to be read, and no message is left.
        server.session.ref.info("hello")
        peer.reactor.advance(0.01)
        if stops:
            server.hub.stop()
        else:
            server.session.ref.close(1000, "bye")
        peer.reactor.advance(0.01)
        assert len(codes(peer)) == 1
        fed(peer, frame(CLOSE, b"\x03\xe8"))
        assert peer.connection.stream.closing

    def test_nothing_is_left_of_a_connection_that_is_lost_in_a_pause(self) -> None:
        server, peer = opened(message_rate=RATE)
        peer.send(ONE * 25)
        peer.leave()
        assert server.idle()


class TestBytes:
    def test_reading_pauses_until_what_was_read_is_paid_for(self) -> None:
        server, peer = opened(byte_rate=1_000, max_message_size=1_000)
        data = frame(BINARY, bytes(992))
        assert len(data) == 1_000
        peer.send(data * 3)
        peer.send(data)
        assert len(server.told) == 0
        elapse(peer, 0.9)
        assert len(server.told) == 0
        elapse(peer, 0.2)
        assert len(server.told) == 3
        elapse(peer, 1)
        assert len(server.told) == 4
        assert peer.transport.producing

    def test_bytes_that_are_read_into_a_frames_own_memory_count_too(self) -> None:
        server = Server(byte_rate=10_000, max_message_size=100_000)
        peer = server.open(buffered=True)
        data = frame(BINARY, bytes(50_000))
        peer.send(data[:15_000])
        peer.send(data[15_000:])
        assert server.told == []
        elapse(peer, 4)
        assert len(server.told) == 1

    def test_a_peer_that_stays_over_the_rate_is_closed_after_ten_seconds_of_pauses(self) -> None:
        _, peer = opened(byte_rate=1_000, max_message_size=1_000)
        for second in range(2 * MAX_PAUSED):
            peer.send(frame(BINARY, bytes(992)) * 2)
            elapse(peer, 1)
            if second < MAX_PAUSED - 1:
                assert codes(peer) == []
        assert codes(peer) == [TOO_MANY]


class TestTheBucket:
    def test_a_clock_that_is_set_back_takes_no_tokens(self) -> None:
        now = [100.0]
        bucket = Bucket(10, lambda: now[0])
        bucket.charge(20)
        now[0] = 50.0
        assert bucket.left() == 0
        now[0] = 50.5
        assert bucket.left() == 5

    def test_no_more_than_the_burst_is_saved_up_and_an_idle_time_pays_for_nothing_later(self) -> None:
        now = [0.0]
        bucket = Bucket(10, lambda: now[0])
        now[0] = 100.0
        bucket.charge(25)
        assert bucket.left() == -5
        assert bucket.wait(1) == pytest.approx(0.6)
