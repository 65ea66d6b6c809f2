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
    """Tells a stream what its connection would tell it: its transport, and that the connection is lost."""

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
        """Whether our half was closed, whether the whole was closed, and whether it was aborted."""
        transport = self.transport
        return transport.half_closed, transport.disconnecting, transport.aborted


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How much the peer has taken, each time that is asked; the last answer is repeated."""
    answers: list[int | None] = [None]

    def taken(transport: object) -> int | None:
        assert isinstance(transport, MemoryTransport)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(module, "taken", taken)
    return answers


class TestPublished:
    """Published messages reach the stream at the end of the turn."""

    def test_published_bytes_are_written_at_once_without_a_copy(self, wire: Wire) -> None:
        data = b"published"
        assert wire.stream.send_published(data, 1) is True
        assert wire.transport.writes[0] is data

    def test_published_bytes_are_written_after_output_that_waits(self, wire: Wire) -> None:
        wire.say(b"first, ")
        assert wire.stream.send_published(b"second", 1) is True
        assert wire.transport.writes == []
        wire.turn()
        assert wire.transport.writes == [b"first, second"]

    def test_published_bytes_wait_while_the_transport_is_blocked(self, wire: Wire) -> None:
        wire.block()
        assert wire.stream.send_published(b"published", 1) is True
        wire.turn()
        assert len(wire.transport.writes) == 1
        wire.transport.drain()
        wire.turn()
        assert wire.transport.writes[1] == b"published"

    def test_published_bytes_count_as_output(self, wire: Wire) -> None:
        wire.transport.reading = False
        assert wire.stream.send_published(MUCH, 1) is True
        assert not wire.stream.output_full
        assert wire.stream.send_published(b"x" * (LIMIT - len(MUCH)), 1) is True
        assert wire.stream.output_full
        assert not wire.stream.takes_output
        assert wire.stream.send_published(b"one too many", 1) is False

    def test_published_bytes_as_large_as_the_limit_are_written_at_once(self, wire: Wire) -> None:
        assert wire.stream.send_published(b"x" * LIMIT, 1) is True
        wire.turn()
        assert not wire.stream.output_full
        assert len(wire.transport.sent) == LIMIT

    def test_published_bytes_are_refused_by_a_closing_stream(self, wire: Wire) -> None:
        assert wire.stream.takes_output
        wire.bye()
        assert not wire.stream.takes_output
        assert wire.stream.send_published(b"too late", 1) is False
        wire.turn()
        assert wire.transport.writes == []


def test_a_stream_provides_ipushproducer(wire: Wire) -> None:
    verifyObject(IPushProducer, wire.stream)


class TestConnect:
    def test_a_stream_turns_tcp_no_delay_on(self, wire: Wire) -> None:
        assert wire.transport.no_delay

    def test_output_waits_for_a_transport_that_is_blocked_from_the_start(self, wire: Wire) -> None:
        """TLS has its handshake first."""
        wire.stream.pauseProducing()
        wire.say(b"later")
        wire.turn()
        assert wire.transport.writes == []
        wire.stream.resumeProducing()
        assert wire.transport.writes == [b"later"]

    def test_a_transport_without_tcp_is_not_asked_for_no_delay(self) -> None:
        assert not Wire(transport=Pipe).transport.no_delay


class Kind(bytes):
    """Bytes that say that their length is 0."""

    def __len__(self) -> int:
        return 0


class TestOneWritePerTurn:
    def test_bytes_of_a_subclass_are_written_as_exact_bytes(self, wire: Wire) -> None:
        wire.say(Kind(b"data"))
        wire.turn()
        assert [(type(data), data) for data in wire.transport.writes] == [(bytes, b"data")]

    def test_the_output_of_a_turn_is_one_write_at_its_end(self, wire: Wire) -> None:
        for line in (b"one ", b"two ", b"three"):
            wire.say(line)
        assert wire.transport.writes == []
        wire.turn()
        assert wire.transport.writes == [b"one two three"]

    def test_each_turn_has_a_write_of_its_own(self, wire: Wire) -> None:
        for line in (b"one", b"two"):
            wire.say(line)
            wire.turn()
        assert wire.transport.writes == [b"one", b"two"]

    def test_a_single_piece_of_output_is_not_copied(self, wire: Wire) -> None:
        wire.say(MUCH)
        wire.turn()
        assert wire.transport.writes[0] is MUCH

    def test_empty_output_is_not_written(self, wire: Wire) -> None:
        wire.say(b"")
        wire.turn()
        assert wire.transport.writes == []


class Ending(MemoryTransport):
    """A transport that is told which bytes are the last."""

    def write_last(self, data: bytes) -> None:
        self.write(data)
        self.last = data


class TestTheLastBytes:
    def test_a_transport_that_can_is_told_which_bytes_are_the_last(self) -> None:
        wire = Wire(Ending)
        wire.say(b"first")
        wire.turn()
        wire.bye(b"last")
        wire.turn()
        transport: Any = wire.transport
        assert (transport.writes, transport.last) == ([b"first", b"last"], b"last")

    def test_a_method_that_a_wrapper_has_of_the_transport_below_is_not_called(self, wire: Wire) -> None:
        transport: Any = wire.transport
        transport.write_last = None
        wire.bye(b"last")
        wire.turn()
        assert transport.writes == [b"last"]


class TestOutputLimit:
    def test_output_one_byte_below_the_limit_waits_for_the_end_of_the_turn(self, wire: Wire) -> None:
        wire.say(bytes(LIMIT - 1))
        assert not wire.stream.output_full
        assert wire.transport.writes == []

    def test_reading_pauses_while_as_much_output_as_the_limit_waits(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.say(bytes(LIMIT - 1))
        wire.say(b"!")
        assert wire.stream.output_full
        assert not wire.transport.producing
        assert not wire.stream.reading

    def test_output_as_large_as_the_limit_is_written_at_once(self, wire: Wire) -> None:
        wire.transport.unregisterProducer()  # it takes all
        wire.stream.write(bytes(LIMIT))
        assert wire.transport.writes == [bytes(LIMIT)]
        assert not wire.stream.output_full
        assert wire.drained == 0

    def test_an_answer_as_large_as_the_limit_does_not_pause_reading(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        monkeypatch.setattr(wire.transport, "pauseProducing", lambda: asked.append("pause"))
        monkeypatch.setattr(wire.transport, "resumeProducing", lambda: asked.append("resume"))
        wire.transport.unregisterProducer()  # it takes all
        wire.stream.write(bytes(LIMIT))
        wire.stream.flush()
        assert asked == []

    def test_output_that_the_transport_could_not_send_counts(self, wire: Wire) -> None:
        wire.block()
        wire.say(bytes(LIMIT - len(MUCH) - 1))
        assert not wire.stream.output_full
        wire.say(b"!")
        assert wire.stream.output_full

    def test_output_counts_when_the_transport_pauses_the_stream_later(self, wire: Wire) -> None:
        """TLS does so: it collects the output of a turn before it encrypts it."""
        wire.transport.reading = False
        wire.transport.unregisterProducer()
        wire.say(bytes(LIMIT))
        wire.turn()
        assert not wire.stream.output_full
        wire.stream.pauseProducing()
        assert wire.stream.output_full
        assert not wire.transport.producing

    def test_a_transport_may_pause_the_stream_twice(self, wire: Wire) -> None:
        wire.block()
        wire.stream.pauseProducing()
        wire.say(bytes(LIMIT - len(MUCH) - 1))
        assert not wire.stream.output_full

    def test_a_transport_may_resume_the_stream_twice(self, wire: Wire) -> None:
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

    def test_a_stream_is_drained_when_all_its_output_has_left(self, wire: Wire) -> None:
        wire.block()
        wire.say(MUCH)
        wire.say(MUCH)
        assert wire.stream.output_full
        wire.transport.drain()
        assert (wire.transport.writes, wire.stream.output_full, wire.drained) == ([MUCH, MUCH * 2], True, 0)
        wire.transport.drain()
        assert (wire.stream.output_full, wire.drained) == (False, 1)
        assert wire.transport.producing

    def test_a_drained_stream_counts_its_output_anew(self, wire: Wire) -> None:
        self.test_a_stream_is_drained_when_all_its_output_has_left(wire)
        wire.say(bytes(LIMIT - 1))
        assert not wire.stream.output_full
        wire.say(b"!")
        assert wire.stream.output_full


class TestReading:
    def test_reading_pauses_and_resumes(self, wire: Wire) -> None:
        wire.stream.paused_by_module = True
        wire.stream.regulate()
        assert not wire.transport.producing
        wire.stream.paused_by_module = False
        wire.stream.regulate()
        assert wire.transport.producing

    def test_the_transport_is_told_once_to_pause_and_once_to_resume(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        monkeypatch.setattr(wire.transport, "pauseProducing", lambda: told.append("pause"))
        monkeypatch.setattr(wire.transport, "resumeProducing", lambda: told.append("resume"))
        for paused in (False, True, True, False, False):
            wire.stream.paused_by_module = paused
            wire.stream.regulate()
        assert told == ["pause", "resume"]

    def test_reading_goes_on_when_output_has_left_and_then_the_module_is_ready(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.stream.paused_by_module = True
        wire.stream.regulate()
        wire.say(bytes(LIMIT))
        assert wire.stream.output_full
        wire.transport.drain()
        assert not wire.stream.output_full
        assert not wire.transport.producing
        wire.stream.paused_by_module = False
        wire.stream.regulate()
        assert wire.transport.producing

    def test_reading_goes_on_when_the_module_is_ready_and_then_output_has_left(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.stream.paused_by_module = True
        wire.stream.regulate()
        wire.say(bytes(LIMIT))
        wire.stream.paused_by_module = False
        wire.stream.regulate()
        assert not wire.transport.producing
        wire.transport.drain()
        assert wire.transport.producing


class TestStall:
    """A peer that does not read is dropped. The clock that measures it only goes forward."""

    @pytest.mark.parametrize("took", [0, -70_000, None])
    def test_a_peer_that_takes_nothing_is_dropped(self, wire: Wire, kernel: list[int | None], took: int | None) -> None:
        kernel[:] = [took]
        wire.block()
        wire.turn(9.9)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted
        assert wire.stream.reason == "the peer did not read what it was sent"

    def test_bytes_that_a_peer_has_taken_early_give_it_more_time(self, wire: Wire, kernel: list[int | None]) -> None:
        """The peer's kernel holds these bytes, and acknowledges in leaps what the peer has read."""
        kernel[:] = [4 * MIN_RATE]
        wire.block()
        wire.turn(13.9)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted

    @pytest.mark.parametrize("took", [1 << 20, 1 << 40])
    def test_the_time_that_a_peer_has_saved_is_bounded(self, wire: Wire, kernel: list[int | None], took: int) -> None:
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
            """How much the peer had taken at its last leap. After ten minutes it reads no more."""
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
    def test_a_peer_that_takes_only_a_trickle_is_dropped(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, rate: float, begin: float, end: float
    ) -> None:
        monkeypatch.setattr(module, "taken", lambda transport: int(wire.reactor.seconds() * rate))
        wire.block()
        wire.turn(begin)
        assert not wire.transport.aborted
        wire.turn(end - begin)
        assert wire.transport.aborted

    def test_a_patient_stream_keeps_a_peer_that_takes_anything_at_all(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A byte every nine seconds, for ten minutes.
        monkeypatch.setattr(module, "taken", lambda transport: int(min(600, wire.reactor.seconds()) // 9))
        wire.stream.patient = True
        wire.block()
        wire.turn(600)
        assert not wire.transport.aborted
        wire.turn(11)
        assert wire.transport.aborted

    def test_a_count_of_taken_bytes_that_falls_means_that_nothing_was_taken(
        self, wire: Wire, kernel: list[int | None]
    ) -> None:
        """TLS may have sent bytes of its own."""
        kernel[:] = [-100_000, -200_000]
        wire.block()
        wire.turn(9.9)
        assert not wire.transport.aborted
        wire.turn(0.2)
        assert wire.transport.aborted

    def test_a_count_of_taken_bytes_that_becomes_unknown_means_that_nothing_was_taken(
        self, wire: Wire, kernel: list[int | None]
    ) -> None:
        kernel[:] = [0, None]
        wire.block()
        wire.turn(10.1)
        assert wire.transport.aborted

    def test_a_stall_of_our_process_does_not_count_against_the_peer(self, wire: Wire, kernel: list[int | None]) -> None:
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

    def test_stall_timeout_sets_after_how_long_a_peer_is_dropped(self, kernel: list[int | None]) -> None:
        wire = Wire(stall_timeout=0.5)
        wire.block()
        wire.turn(0.49)
        assert not wire.transport.aborted
        wire.turn(0.02)
        assert wire.transport.aborted

    def test_a_closing_stream_has_one_deadline(self, wire: Wire) -> None:
        wire.transport.reading = False
        wire.bye(MUCH)
        wire.turn()
        assert len(wire.delayed()) == 1


class TestClose:
    def test_output_that_waits_leaves_before_the_close(self, wire: Wire) -> None:
        wire.say(b"last ")
        wire.bye(b"words")
        assert wire.ended == (False, False, False)
        wire.turn()
        assert wire.transport.sent == b"last words"

    def test_a_closing_tcp_connection_closes_its_half_and_waits_for_the_peers(self, wire: Wire) -> None:
        """RFC 9112 §9.6: a full close could reset the connection before the peer has read our last output."""
        wire.bye()
        wire.turn()
        assert wire.ended == (True, False, False)
        wire.stream.peer_ended()
        assert wire.ended == (True, True, False)

    def test_a_closing_tls_connection_leaves_the_close_to_its_transport(self) -> None:
        wire = Wire(secure=True)
        wire.bye()
        wire.turn()
        assert wire.ended == (False, True, False)

    def test_a_closing_connection_without_tcp_leaves_the_close_to_its_transport(self) -> None:
        wire = Wire(transport=Pipe)
        wire.bye()
        wire.turn()
        assert wire.ended == (False, True, False)

    def test_a_closing_stream_unregisters_as_producer(self, wire: Wire) -> None:
        """A transport of Twisted's ends only when its producer has unregistered."""
        wire.bye()
        assert wire.transport.producer is wire.stream
        wire.turn()
        assert wire.transport.producer is None

    def test_a_close_waits_for_a_blocked_transport(self, wire: Wire) -> None:
        wire.block()
        wire.bye(b"bye")
        wire.turn()
        assert wire.ended == (False, False, False)
        wire.transport.drain()
        assert wire.ended == (True, False, False)
        assert wire.transport.writes == [MUCH, b"bye"]

    def test_a_closing_stream_reads_though_reading_was_paused(self, wire: Wire) -> None:
        """Otherwise the stream would not see the peer's end."""
        wire.block()
        wire.stream.paused_by_module = True
        wire.stream.regulate()
        wire.say(MUCH)
        wire.bye()
        assert wire.transport.producing
        wire.stream.paused_by_module = True
        wire.stream.regulate()
        assert wire.transport.producing

    @pytest.mark.parametrize("reading", [True, False])
    def test_a_peer_that_does_not_end_in_time_is_aborted(self, wire: Wire, reading: bool) -> None:
        wire.transport.reading = reading
        wire.bye(MUCH)
        wire.turn(4.9)
        assert not wire.transport.aborted
        wire.turn(0.1)
        assert wire.transport.aborted
        assert wire.stream.reason == "the peer did not end the connection in time"
        assert wire.transport.gone
        assert wire.delayed() == []

    def test_a_peer_that_ends_leaves_no_timer(self, wire: Wire) -> None:
        wire.bye()
        wire.turn()
        wire.transport.lose(ConnectionDone())
        assert wire.delayed() == []


class TestHalfClose:
    """The peer has sent all that it wants to send, and may still read."""

    def test_a_half_closed_peer_gets_the_output_that_waits_before_the_end(self, wire: Wire) -> None:
        wire.say(b"the rest")
        wire.stream.peer_ended()
        wire.turn()
        assert wire.transport.sent == b"the rest"
        assert wire.ended == (False, True, False)
        assert wire.transport.gone
        assert wire.delayed() == []

    def test_a_half_closed_peer_is_closed_at_once_when_no_output_waits(self, wire: Wire) -> None:
        wire.stream.peer_ended()
        wire.turn()
        assert wire.transport.gone

    def test_a_half_closed_peer_gets_the_output_that_a_blocked_transport_holds_back(self, wire: Wire) -> None:
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

    def test_a_peer_that_half_closes_while_we_close_gets_the_output_that_waits(self, wire: Wire) -> None:
        wire.block()
        wire.bye(b"bye")
        wire.stream.peer_ended()
        assert wire.ended == (False, False, False)
        wire.transport.drain()
        assert wire.ended == (False, True, False)

    def test_a_half_closed_peer_that_does_not_read_is_aborted(self, wire: Wire) -> None:
        wire.block()
        wire.stream.peer_ended()
        wire.turn(5)
        assert wire.transport.aborted


class TestAbort:
    def test_an_abort_discards_the_output_that_waits(self, wire: Wire) -> None:
        wire.say(b"never")
        wire.stream.abort("no time")
        wire.turn()
        assert wire.transport.writes == []
        assert wire.transport.aborted

    def test_the_first_reason_of_an_abort_is_kept(self, wire: Wire) -> None:
        wire.stream.abort("one")
        wire.stream.abort("two")
        assert wire.stream.reason == "one"

    def test_an_aborted_stream_leaves_no_timer(self, wire: Wire) -> None:
        wire.block()
        wire.bye()
        assert wire.delayed() != []
        wire.stream.abort("enough")
        wire.turn()
        assert wire.transport.gone
        assert wire.delayed() == []

    def test_a_stream_that_waits_for_the_peers_end_can_be_aborted(self, wire: Wire) -> None:
        wire.bye()
        wire.turn()
        wire.stream.abort("enough")
        assert wire.ended == (True, False, True)

    def test_an_aborted_stream_unregisters_as_producer(self, wire: Wire) -> None:
        wire.stream.abort("enough")
        assert wire.transport.producer is None


class Gone:
    """The transport of an ended connection. It raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} after the end")


class TestAfterTheEnd:
    def test_an_ended_stream_does_not_touch_its_transport(self, wire: Wire) -> None:
        wire.block()
        wire.say(b"more")
        wire.transport.lose(ConnectionLost())
        wire.stream.transport = Gone()
        wire.stream.stopProducing()
        wire.stream.paused_by_module = True
        wire.stream.regulate()
        wire.stream.paused_by_module = False
        wire.stream.regulate()
        wire.stream.end_turn()
        wire.turn(100)
        assert wire.delayed() == []

    @pytest.mark.parametrize("end", ["stall", "deadline", "loss"])
    def test_an_ended_stream_needs_no_garbage_collector(self, wire: Wire, end: str) -> None:
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
    """A stream that fails ends first, and then logs the failure."""

    def test_a_failure_aborts_the_stream_and_is_logged(self, wire: Wire) -> None:
        with capturedLogs() as events:
            try:
                raise GeneratorExit
            except GeneratorExit:
                wire.stream.fail("it failed")
        assert wire.transport.aborted
        assert [(event["connection"], event["what"]) for event in events] == [("c1", "it failed")]

    def test_a_failure_is_logged_with_that_of_a_transport_that_can_not_abort(self, wire: Wire) -> None:
        def broken() -> None:
            raise SystemExit

        wire.transport.abortConnection = broken  # type: ignore[method-assign]
        with capturedLogs() as events:
            try:
                raise ValueError("on purpose")
            except ValueError:
                wire.stream.fail("it failed")
        [event] = events
        assert event["what"] == "it failed, and so did the abort"
        assert "ValueError: on purpose" in event["traceback"]
