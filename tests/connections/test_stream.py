from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.logger import capturedLogs
from zope.interface import implementer_only
from zope.interface.verify import verifyObject

from tests.memory import MemoryReactor, MemoryTransport, limits_of
from wshost.connections import stream as module
from wshost.connections.hub import Hub
from wshost.connections.stream import MAX_SAVED_STALLS, MIN_RATE, Stream

ADDRESS = IPv4Address("TCP", "127.0.0.1", 50_000)
#: More than the transport takes without a word.
MUCH = b"m" * 70_000
LIMIT = 100_000


class Protocol:
    """Tells a stream what its connection would: of its transport, and of the peer's end."""

    def __init__(self, stream: Stream) -> None:
        self._stream: Any = stream

    def makeConnection(self, transport: Any) -> None:
        self._stream.connect(transport)

    def connectionLost(self, reason: object) -> None:
        stream, self._stream = self._stream, None
        stream.lost()


@implementer_only(ITransport, IConsumer, IPushProducer)
class Pipe(MemoryTransport):
    """A transport that is not TCP's."""


class Wire:
    """A stream, its transport, and the reactor of both."""

    def __init__(self, transport: type[MemoryTransport] = MemoryTransport, **how: Any) -> None:
        self.reactor = MemoryReactor()
        secure = how.pop("secure", False)
        self.shared = Hub(self.reactor, [], limits_of(**{"max_output": LIMIT, **how})).shared
        #: How often the stream has told that its output has left.
        self.drained = 0
        self.stream = Stream(self.shared, "c1", self._drain)
        protocol = Protocol(self.stream)
        self.transport = transport(self.reactor, protocol, ADDRESS, secure=secure)
        protocol.makeConnection(self.transport)

    def _drain(self) -> None:
        self.drained += 1

    def say(self, data: bytes) -> None:
        """Write, from outside of the transport's calls."""
        self.stream.write(data)
        self.stream.flush_later()

    def bye(self, data: bytes = b"") -> None:
        """Close, from outside of the transport's calls."""
        self.stream.close(data)
        self.stream.flush_later()

    def turn(self, seconds: float = 0) -> None:
        self.reactor.advance(seconds)
        self.reactor.advance(0)

    def delayed(self) -> Sequence[Any]:
        """What the reactor is still to call."""
        self.shared.schedule.release_if_idle()
        return self.reactor.getDelayedCalls()

    def block(self) -> None:
        """Give the transport more than its peer, which reads nothing, lets it send."""
        self.transport.reading = False
        self.say(MUCH)
        self.turn()
        assert not self.stream.output_full

    @property
    def ended(self) -> tuple[bool, bool, bool]:
        """Whether our half was closed, the whole, and that at once."""
        transport = self.transport
        return transport.half_closed, transport.disconnecting, transport.aborted


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What the peer has taken, look by look; the last for ever."""
    answers: list[int | None] = [None]

    def taken(transport: object) -> int | None:
        assert isinstance(transport, MemoryTransport)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(module, "taken", taken)
    return answers


class TestDelivering:
    """What was published, at the end of the turn."""

    def test_leaves_at_once_as_it_is(self, wire: Wire) -> None:
        data = b"published"
        assert wire.stream.send_published(data) is True
        assert wire.transport.writes[0] is data

    def test_leaves_behind_what_waits(self, wire: Wire) -> None:
        wire.say(b"first, ")
        assert wire.stream.send_published(b"second") is True
        assert wire.transport.writes == []
        wire.turn()
        assert wire.transport.writes == [b"first, second"]

    def test_waits_for_a_transport_that_has_enough(self, wire: Wire) -> None:
        wire.block()
        assert wire.stream.send_published(b"published") is True
        wire.turn()
        assert len(wire.transport.writes) == 1
        wire.transport.drain()
        wire.turn()
        assert wire.transport.writes[1] == b"published"

    def test_counts_as_output(self, wire: Wire) -> None:
        wire.transport.reading = False
        assert wire.stream.send_published(MUCH) is True
        assert not wire.stream.output_full
        assert wire.stream.send_published(b"x" * (LIMIT - len(MUCH))) is True
        assert wire.stream.output_full
        assert not wire.stream.takes_output
        assert wire.stream.send_published(b"one too many") is False

    def test_as_much_as_may_wait_leaves_at_once(self, wire: Wire) -> None:
        assert wire.stream.send_published(b"x" * LIMIT) is True
        wire.turn()
        assert not wire.stream.output_full
        assert len(wire.transport.sent) == LIMIT

    def test_is_no_more_at_the_end(self, wire: Wire) -> None:
        assert wire.stream.takes_output
        wire.bye()
        assert not wire.stream.takes_output
        assert wire.stream.send_published(b"too late") is False
        wire.turn()
        assert wire.transport.writes == []


def test_provides_what_transports_ask_for(wire: Wire) -> None:
    verifyObject(IPushProducer, wire.stream)
    verifyObject(IPushProducer, wire.stream)


class TestConnectionMade:
    def test_small_messages_are_not_delayed(self, wire: Wire) -> None:
        assert wire.transport.no_delay

    def test_a_transport_may_be_blocked_from_the_start(self, wire: Wire) -> None:
        """TLS has a handshake before it."""
        wire.stream.pauseProducing()
        wire.say(b"later")
        wire.turn()
        assert wire.transport.writes == []
        wire.stream.resumeProducing()
        assert wire.transport.writes == [b"later"]

    def test_a_transport_without_tcp_is_left_alone(self) -> None:
        assert not Wire(transport=Pipe).transport.no_delay


class Kind(bytes):
    """Says of itself that there is nothing of it."""

    def __len__(self) -> int:
        return 0


class TestCork:
    def test_takes_bytes_of_a_subclass_for_what_they_are(self, wire: Wire) -> None:
        wire.say(Kind(b"data"))
        wire.turn()
        assert [(type(data), data) for data in wire.transport.writes] == [(bytes, b"data")]

    def test_what_is_written_in_one_turn_leaves_in_one_write_at_its_end(self, wire: Wire) -> None:
        for line in (b"one ", b"two ", b"three"):
            wire.say(line)
        assert wire.transport.writes == []
        wire.turn()
        assert wire.transport.writes == [b"one two three"]

    def test_each_turn_is_a_new_one(self, wire: Wire) -> None:
        for line in (b"one", b"two"):
            wire.say(line)
            wire.turn()
        assert wire.transport.writes == [b"one", b"two"]

    def test_what_is_alone_is_not_copied(self, wire: Wire) -> None:
        wire.say(MUCH)
        wire.turn()
        assert wire.transport.writes[0] is MUCH

    def test_nothing_is_not_written(self, wire: Wire) -> None:
        wire.say(b"")
        wire.turn()
        assert wire.transport.writes == []


class TestOutputLimit:
    def test_one_byte_less_waits_for_the_end_of_the_turn(self, wire: Wire) -> None:
        wire.say(bytes(LIMIT - 1))
        assert not wire.stream.output_full
        assert wire.transport.writes == []

    def test_reading_pauses_while_that_much_waits_for_the_peer(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.say(bytes(LIMIT - 1))
        wire.say(b"!")
        assert wire.stream.output_full
        assert not wire.transport.producing
        assert not wire.stream.reading

    def test_as_much_as_may_wait_leaves_at_once(self, wire: Wire) -> None:
        wire.transport.unregisterProducer()  # it takes all
        wire.stream.write(bytes(LIMIT))
        assert wire.transport.writes == [bytes(LIMIT)]
        assert not wire.stream.output_full
        assert wire.drained == 0

    def test_an_answer_as_large_as_the_limit_leaves_without_a_pause(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        monkeypatch.setattr(wire.transport, "pauseProducing", lambda: asked.append("pause"))
        monkeypatch.setattr(wire.transport, "resumeProducing", lambda: asked.append("resume"))
        wire.transport.unregisterProducer()  # it takes all
        wire.stream.write(bytes(LIMIT))
        wire.stream.flush()
        assert asked == []

    def test_what_the_transport_could_not_send_counts(self, wire: Wire) -> None:
        wire.block()
        wire.say(bytes(LIMIT - len(MUCH) - 1))
        assert not wire.stream.output_full
        wire.say(b"!")
        assert wire.stream.output_full

    def test_a_transport_may_say_so_later(self, wire: Wire) -> None:
        """As TLS does, which collects for a turn before it encrypts."""
        wire.transport.reading = False
        wire.transport.unregisterProducer()
        wire.say(bytes(LIMIT))
        wire.turn()
        assert not wire.stream.output_full
        wire.stream.pauseProducing()
        assert wire.stream.output_full
        assert not wire.transport.producing

    def test_a_transport_may_say_so_twice(self, wire: Wire) -> None:
        wire.block()
        wire.stream.pauseProducing()
        wire.say(bytes(LIMIT - len(MUCH) - 1))
        assert not wire.stream.output_full

    def test_a_transport_may_go_on_twice(self, wire: Wire) -> None:
        wire.block()
        wire.transport.drain()
        wire.stream.resumeProducing()
        wire.say(b"more")
        wire.turn()
        assert wire.transport.writes == [MUCH, b"more"]

    def test_nothing_is_written_while_the_transport_is_blocked(self, wire: Wire) -> None:
        wire.block()
        wire.say(b"later")
        wire.turn()
        assert wire.transport.writes == [MUCH]
        wire.transport.drain()
        assert wire.transport.writes == [MUCH, b"later"]
        assert wire.drained == 0

    def test_it_drains_when_all_has_left(self, wire: Wire) -> None:
        wire.block()
        wire.say(MUCH)
        wire.say(MUCH)
        assert wire.stream.output_full
        wire.transport.drain()
        assert (wire.transport.writes, wire.stream.output_full, wire.drained) == ([MUCH, MUCH * 2], True, 0)
        wire.transport.drain()
        assert (wire.stream.output_full, wire.drained) == (False, 1)
        assert wire.transport.producing

    def test_it_counts_anew_when_it_has_drained(self, wire: Wire) -> None:
        self.test_it_drains_when_all_has_left(wire)
        wire.say(bytes(LIMIT - 1))
        assert not wire.stream.output_full
        wire.say(b"!")
        assert wire.stream.output_full


class TestReading:
    def test_pauses_and_resumes(self, wire: Wire) -> None:
        wire.stream.pause_reading()
        assert not wire.transport.producing
        wire.stream.resume_reading()
        assert wire.transport.producing

    def test_the_transport_is_told_once(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[str] = []
        monkeypatch.setattr(wire.transport, "pauseProducing", lambda: told.append("pause"))
        monkeypatch.setattr(wire.transport, "resumeProducing", lambda: told.append("resume"))
        wire.stream.resume_reading()
        wire.stream.pause_reading()
        wire.stream.pause_reading()
        wire.stream.resume_reading()
        wire.stream.resume_reading()
        assert told == ["pause", "resume"]

    def test_goes_on_when_the_output_has_left_and_then_the_module_is_ready(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.stream.pause_reading()
        wire.say(bytes(LIMIT))
        assert wire.stream.output_full
        wire.transport.drain()
        assert not wire.stream.output_full
        assert not wire.transport.producing
        wire.stream.resume_reading()
        assert wire.transport.producing

    def test_goes_on_when_the_module_is_ready_and_then_the_output_has_left(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.stream.pause_reading()
        wire.say(bytes(LIMIT))
        wire.stream.resume_reading()
        assert not wire.transport.producing
        wire.transport.drain()
        assert wire.transport.producing


class TestStall:
    """A peer that does not read is dropped, by a clock that only goes forward."""

    @pytest.mark.parametrize("took", [0, -70_000, None])
    def test_a_peer_that_takes_nothing_is_dropped(self, wire: Wire, kernel: list[int | None], took: int | None) -> None:
        kernel[:] = [took]
        wire.block()
        wire.turn(9.9)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted
        assert wire.stream.reason == "the peer did not read what it was sent"

    def test_what_it_took_before_buys_it_time(self, wire: Wire, kernel: list[int | None]) -> None:
        """Its kernel has that, and tells by leaps how much of it was read."""
        kernel[:] = [4 * MIN_RATE]
        wire.block()
        wire.turn(13.9)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted

    @pytest.mark.parametrize("took", [1 << 20, 1 << 40])
    def test_but_there_is_a_bound(self, wire: Wire, kernel: list[int | None], took: int) -> None:
        kernel[:] = [took]
        wire.block()
        wire.turn(10 * MAX_SAVED_STALLS - 0.1)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted

    @pytest.mark.parametrize(
        ("rate", "leap", "before"),
        [
            # As measured: those that read 20 KB/s with a buffer of 200 KB, 4 with 64, 50 with 4 MB, 10 with 1 MB.
            (20_000, 332_000, 260_000),
            (4_000, 128_000, 67_000),
            (50_000, 719_000, 4_000_000),
            (10_000, 131_000, 1_000_000),
            # Over a Unix socket it is not known what was taken before.
            (2_100, 1_000, -300_000),
        ],
    )
    def test_a_slow_but_steady_reader_is_not_dropped(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, rate: int, leap: int, before: int
    ) -> None:
        def taken(transport: object) -> int:
            """What it had taken at its last leap; after ten minutes it reads no more."""
            return before + int(min(600, wire.reactor.seconds()) // (leap / rate) * leap)

        monkeypatch.setattr(module, "taken", taken)
        wire.block()
        wire.turn(600)
        assert not wire.transport.aborted
        wire.turn(10 * MAX_SAVED_STALLS + 1)
        assert wire.transport.aborted

    @pytest.mark.parametrize(
        ("rate", "begin", "end"), [(0.1, 9.9, 10.2), (MIN_RATE / 2, 19.5, 20.5), (MIN_RATE * 0.9, 95, 105)]
    )
    def test_a_trickle_is_not_enough_for_ever(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, rate: float, begin: float, end: float
    ) -> None:
        monkeypatch.setattr(module, "taken", lambda transport: int(wire.reactor.seconds() * rate))
        wire.block()
        wire.turn(begin)
        assert not wire.transport.aborted
        wire.turn(end - begin)
        assert wire.transport.aborted

    def test_less_taken_than_before_is_nothing_taken(self, wire: Wire, kernel: list[int | None]) -> None:
        """TLS may have had something to say of its own."""
        kernel[:] = [-100_000, -200_000]
        wire.block()
        wire.turn(9.9)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted

    def test_what_can_not_be_asked_any_more_is_nothing_taken(self, wire: Wire, kernel: list[int | None]) -> None:
        kernel[:] = [0, None]
        wire.block()
        wire.turn(10.1)
        assert wire.transport.aborted

    def test_our_own_stall_is_not_its(self, wire: Wire, kernel: list[int | None]) -> None:
        kernel[:] = [0, 0, 0, 2 * MIN_RATE]
        wire.block()
        wire.turn(2)
        wire.reactor.stall(100)
        wire.turn(9)
        assert not wire.transport.aborted
        wire.turn(1.1)
        assert wire.transport.aborted

    def test_a_peer_that_has_read_all_is_not_watched(self, wire: Wire) -> None:
        wire.block()
        wire.turn(1)
        wire.transport.drain()
        assert wire.delayed() == []

    def test_the_timeout_is_an_option(self, kernel: list[int | None]) -> None:
        wire = Wire(stall_timeout=0.5)
        wire.block()
        wire.turn(0.49)
        assert not wire.transport.aborted
        wire.turn(0.02)
        assert wire.transport.aborted

    def test_a_closing_connection_has_its_own_deadline(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.bye(MUCH)
        wire.turn()
        assert len(wire.delayed()) == 1


class TestClose:
    def test_what_waits_leaves_first(self, wire: Wire) -> None:
        wire.say(b"last ")
        wire.bye(b"words")
        assert wire.ended == (False, False, False)
        wire.turn()
        assert wire.transport.sent == b"last words"

    def test_on_tcp_we_close_our_half_and_await_the_peers(self, wire: Wire) -> None:
        """RFC 9112 §9.6: closed at once, what the peer has sent would reset what it has not read."""
        wire.bye()
        wire.turn()
        assert wire.ended == (True, False, False)
        wire.stream.peer_ended()
        assert wire.ended == (True, True, False)

    def test_on_tls_the_protocol_does_it(self) -> None:
        wire = Wire(secure=True)
        wire.bye()
        wire.turn()
        assert wire.ended == (False, True, False)

    def test_on_others_the_transport_does_it(self) -> None:
        wire = Wire(transport=Pipe)
        wire.bye()
        wire.turn()
        assert wire.ended == (False, True, False)

    def test_no_producer_keeps_it_open(self, wire: Wire) -> None:
        """Twisted's transports end when theirs has said that it is done."""
        wire.bye()
        assert wire.transport._producer is wire.stream
        wire.turn()
        assert wire.transport._producer is None

    def test_it_waits_for_a_blocked_transport(self, wire: Wire) -> None:
        wire.block()
        wire.bye(b"bye")
        wire.turn()
        assert wire.ended == (False, False, False)
        wire.transport.drain()
        assert wire.ended == (True, False, False)
        assert wire.transport.writes == [MUCH, b"bye"]

    def test_reading_goes_on_though_it_was_paused(self, wire: Wire) -> None:
        """Or the peer's end would not be seen."""
        wire.block()
        wire.stream.pause_reading()
        wire.say(MUCH)
        wire.bye()
        assert wire.transport.producing
        wire.stream.pause_reading()
        assert wire.transport.producing

    @pytest.mark.parametrize("reading", [True, False])
    def test_a_peer_that_does_not_end_is_aborted(self, wire: Wire, reading: bool) -> None:
        wire.transport.reading = reading
        wire.bye(MUCH)
        wire.turn(4.9)
        assert not wire.transport.aborted
        wire.turn(0.1)
        assert wire.transport.aborted
        assert wire.stream.reason == "the peer did not let go in time"
        assert wire.transport.gone
        assert wire.delayed() == []

    def test_a_peer_that_ends_leaves_no_timer(self, wire: Wire) -> None:
        wire.bye()
        wire.turn()
        wire.transport.lose(ConnectionDone())
        assert wire.delayed() == []


class TestHalfClose:
    """The peer has said all, and may still listen."""

    def test_what_waits_leaves_and_then_both_go(self, wire: Wire) -> None:
        wire.say(b"the rest")
        wire.stream.peer_ended()
        wire.turn()
        assert wire.transport.sent == b"the rest"
        assert wire.ended == (False, True, False)
        assert wire.transport.gone
        assert wire.delayed() == []

    def test_with_nothing_to_say_we_go_as_well(self, wire: Wire) -> None:
        wire.stream.peer_ended()
        wire.turn()
        assert wire.transport.gone

    def test_so_it_is_with_a_blocked_transport(self, wire: Wire) -> None:
        wire.block()
        wire.say(b"the rest")
        wire.stream.peer_ended()
        wire.turn()
        assert wire.ended == (False, False, False)
        wire.transport.drain()
        assert wire.ended == (False, True, False)
        wire.transport.drain()
        assert wire.transport.sent == MUCH + b"the rest"
        assert wire.transport.gone

    def test_while_we_are_closing_what_waits_still_leaves_first(self, wire: Wire) -> None:
        wire.block()
        wire.bye(b"bye")
        wire.stream.peer_ended()
        assert wire.ended == (False, False, False)
        wire.transport.drain()
        assert wire.ended == (False, True, False)

    def test_a_peer_that_does_not_read_has_no_longer_than_others(self, wire: Wire) -> None:
        wire.block()
        wire.stream.peer_ended()
        wire.turn(5)
        assert wire.transport.aborted


class TestAbort:
    def test_what_waits_is_lost(self, wire: Wire) -> None:
        wire.say(b"never")
        wire.stream.abort("no time")
        wire.turn()
        assert wire.transport.writes == []
        assert wire.transport.aborted

    def test_the_first_reason_counts(self, wire: Wire) -> None:
        wire.stream.abort("one")
        wire.stream.abort("two")
        assert wire.stream.reason == "one"

    def test_no_timer_is_left(self, wire: Wire) -> None:
        wire.block()
        wire.bye()
        assert wire.delayed() != []
        wire.stream.abort("enough")
        wire.turn()
        assert wire.transport.gone
        assert wire.delayed() == []

    def test_while_the_peers_end_is_awaited(self, wire: Wire) -> None:
        wire.bye()
        wire.turn()
        wire.stream.abort("enough")
        assert wire.ended == (True, False, True)

    def test_no_producer_keeps_it_open(self, wire: Wire) -> None:
        wire.stream.abort("enough")
        assert wire.transport._producer is None


class Gone:
    """The transport of a connection that has ended: nothing may be asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} after the end")


class TestAfterTheEnd:
    def test_nothing_touches_the_transport(self, wire: Wire) -> None:
        wire.block()
        wire.say(b"more")
        wire.transport.lose(ConnectionLost())
        wire.stream.transport = Gone()
        wire.stream.stopProducing()
        wire.stream.pause_reading()
        wire.stream.resume_reading()
        wire.stream.end_turn()
        wire.turn(100)
        assert wire.delayed() == []

    @pytest.mark.parametrize("end", ["stall", "deadline", "loss"])
    def test_nothing_waits_for_the_collector(self, wire: Wire, end: str) -> None:
        if end == "deadline":
            wire.bye()
        else:
            wire.block()
        for _ in range(11):
            if end != "loss":
                wire.turn(1)
        wire.transport.lose(ConnectionDone())
        wire.turn()
        stream = weakref.ref(wire.stream)
        gc.disable()
        try:
            del wire.stream, wire.transport
            assert stream() is None
        finally:
            gc.enable()


class TestAFailure:
    """First the end, then the log."""

    def test_ends_the_stream_and_is_logged(self, wire: Wire) -> None:
        with capturedLogs() as events:
            try:
                raise GeneratorExit
            except GeneratorExit:
                wire.stream.fail("it failed")
        assert wire.transport.aborted
        assert [(event["id"], event["what"]) for event in events] == [("c1", "it failed")]

    def test_is_logged_with_that_of_a_transport_which_can_not_end(self, wire: Wire) -> None:
        def broken() -> None:
            raise SystemExit

        wire.transport.abortConnection = broken  # type: ignore[method-assign]
        with capturedLogs() as events:
            try:
                raise ValueError("on purpose")
            except ValueError:
                wire.stream.fail("it failed")
        [event] = events
        assert event["what"] == "it failed, and so did its end"
        assert "ValueError: on purpose" in event["text"]
