from __future__ import annotations

import asyncio
import socket
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, ILoggingContext, IPushProducer, ISystemHandle, ITCPTransport
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import HalfCloseable, Port, Producer, Recorder, everything, turn
from wshost.fastnet.transport import Transport

#: More than the kernel takes at once.
MUCH = b"m" * (1 << 22)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    yield loop
    loop.close()


class Pair:
    """A transport, and the peer's socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Recorder) -> None:
        self.loop = loop
        self.port = Port(loop)
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.protocol = protocol
        self.transport = Transport(ours, protocol, "", self.port, 7, self.port.reactor)
        protocol.transport = self.transport

    def turn(self) -> Pair:
        turn(self.loop)
        return self

    def drain(self) -> bytes:
        """The peer reads until nothing comes any more."""
        data = b""
        while more := everything(self.peer):
            data += more
            self.turn()
            if more.endswith(b"<end>"):
                break
        return data

    def finish(self) -> None:
        self.transport.disconnect()
        self.turn()
        self.peer.close()


Connect = Callable[..., Pair]


@pytest.fixture
def connect(loop: asyncio.AbstractEventLoop) -> Iterator[Connect]:
    """Connect a protocol, a `Recorder` by default; it has not begun yet."""
    pairs: list[Pair] = []

    def connect(protocol: Recorder | None = None) -> Pair:
        pairs.append(Pair(loop, protocol or Recorder()))
        return pairs[-1]

    yield connect
    for pair in pairs:
        pair.finish()


@pytest.fixture
def pair(connect: Connect) -> Pair:
    return connect().turn()


def failing() -> None:
    raise ZeroDivisionError


class TestInterfaces:
    @pytest.mark.parametrize("interface", [ITCPTransport, IConsumer, IPushProducer, ISystemHandle, ILoggingContext])
    def test_transports_provide_twisteds_interfaces(self, pair: Pair, interface: Any) -> None:
        assert verifyObject(interface, pair.transport)


class TestData:
    def test_received_data_reaches_the_protocol(self, pair: Pair) -> None:
        pair.peer.send(b"hello")
        pair.turn()
        assert pair.protocol.received == b"hello"

    def test_written_data_reaches_the_peer(self, pair: Pair) -> None:
        pair.transport.write(b"one ")
        pair.transport.writeSequence([b"two ", b"three"])
        assert everything(pair.peer) == b"one two three"

    def test_data_written_before_the_loop_turns_is_sent_at_once(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.write(b"one ")
        pair.transport.write(b"two")
        assert everything(pair.peer) == b"one two"

    def test_large_writes_arrive_in_order(self, pair: Pair) -> None:
        pair.transport.write(MUCH)
        pair.transport.write(b"the end")
        assert pair.drain() == MUCH + b"the end"

    @pytest.mark.parametrize("data", ["text", bytearray(b"x"), memoryview(b"x"), None])
    def test_writing_anything_but_bytes_raises_type_error(self, pair: Pair, data: Any) -> None:
        with pytest.raises(TypeError, match=r"^Data must be bytes$"):
            pair.transport.write(data)

    def test_a_subclass_of_bytes_is_sent_whole_whatever_its_length_says(self, pair: Pair) -> None:
        class Kind(bytes):
            def __len__(self) -> int:
                return 0

        pair.transport.write(Kind(b"data"))
        pair.turn()
        assert everything(pair.peer) == b"data"

    def test_a_sequence_with_anything_but_bytes_raises_type_error(self, pair: Pair) -> None:
        with pytest.raises(TypeError, match=r"^Data must be bytes$"):
            pair.transport.writeSequence(["text"])  # type: ignore[list-item]

    def test_a_protocol_that_fails_on_data_loses_its_connection(self, pair: Pair) -> None:
        pair.protocol.on_data = lambda data: failing()
        pair.peer.send(b"x")
        with capturedLogs() as events:
            pair.turn()
        assert pair.protocol.lost is ZeroDivisionError
        assert [event["log_failure"].type for event in events] == [ZeroDivisionError]


class TestReset:
    def reset(self, pair: Pair) -> None:
        """A Unix socket that is closed with unread input resets its peer, as TCP does."""
        pair.transport.write(b"never read")
        pair.peer.send(b"data")
        pair.peer.close()
        pair.turn()

    def test_a_reset_right_behind_data_is_noticed_at_once(self, pair: Pair) -> None:
        self.reset(pair)
        assert pair.protocol.received == b"data"
        assert pair.protocol.lost is ConnectionLost
        assert str(pair.protocol.reason and pair.protocol.reason.value).endswith(": Connection reset by peer.")

    def test_a_write_notices_a_reset(self, pair: Pair) -> None:
        pair.protocol.on_data = pair.transport.write
        self.reset(pair)
        assert pair.protocol.lost is ConnectionLost

    def test_resuming_to_read_notices_a_reset(self, pair: Pair) -> None:
        pair.protocol.on_data = lambda data: pair.transport.pauseProducing()
        self.reset(pair)
        assert pair.protocol.lost is None
        pair.transport.resumeProducing()
        pair.turn()
        assert pair.protocol.lost is ConnectionLost

    def test_writes_after_a_reset_do_nothing(self, pair: Pair) -> None:
        self.reset(pair)
        pair.transport.write(b"x")
        pair.transport.writeSequence([b"x"])
        assert pair.turn().protocol.events == ["lost"]


class TestThePeersEnd:
    def test_the_peers_end_ends_the_connection(self, pair: Pair) -> None:
        pair.transport.write(MUCH)
        pair.peer.shutdown(socket.SHUT_WR)
        pair.turn()
        assert pair.protocol.lost is ConnectionDone

    def test_the_peers_end_ends_one_half_for_a_half_closeable_protocol(self, connect: Connect) -> None:
        pair = connect(HalfCloseable()).turn()
        pair.peer.shutdown(socket.SHUT_WR)
        pair.turn()
        assert pair.protocol.events == ["read"]
        # There is nothing to read, and the end is not told twice.
        pair.transport.pauseProducing()
        pair.transport.resumeProducing()
        pair.turn()
        pair.transport.write(b"still here")
        assert everything(pair.peer) == b"still here"
        pair.transport.loseConnection()
        pair.turn()
        assert pair.protocol.events == ["read", "lost"]
        assert pair.protocol.lost is ConnectionDone

    def test_a_protocol_that_fails_on_the_peers_end_loses_its_connection(self, connect: Connect) -> None:
        protocol = HalfCloseable()
        protocol.on_end = failing
        pair = connect(protocol).turn()
        pair.peer.shutdown(socket.SHUT_WR)
        with capturedLogs() as events:
            pair.turn()
        assert protocol.lost is ZeroDivisionError
        assert len(events) == 1


class TestLoseConnection:
    def test_lose_connection_sends_what_is_unsent_first(self, pair: Pair) -> None:
        pair.transport.write(MUCH)
        pair.transport.loseConnection()
        assert pair.transport.disconnecting
        pair.transport.loseConnection()
        pair.transport.write(b"too late")
        assert pair.drain() == MUCH + b"<end>"
        assert pair.protocol.events == ["lost"]
        assert pair.protocol.lost is ConnectionDone

    def test_lose_connection_works_before_the_loop_turns(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.write(b"bye")
        pair.transport.loseConnection()
        assert pair.turn().drain() == b"bye<end>"
        assert pair.protocol.lost is ConnectionDone

    def test_nothing_is_received_after_lose_connection(self, pair: Pair) -> None:
        pair.transport.write(MUCH)
        pair.transport.loseConnection()
        pair.peer.send(b"x")
        pair.transport.resumeProducing()
        pair.transport.pauseProducing()
        pair.turn()
        assert pair.protocol.received == b""

    def test_stop_producing_and_stop_consuming_lose_the_connection(self, connect: Connect) -> None:
        for stop in ("stopProducing", "stopConsuming"):
            pair = connect().turn()
            getattr(pair.transport, stop)()
            assert pair.turn().protocol.lost is ConnectionDone

    def test_a_lost_transport_forgets_its_protocol_and_its_port(self, pair: Pair) -> None:
        pair.transport.loseConnection()
        assert pair.port.loop.connections == {pair.transport}
        pair.turn()
        assert pair.port.loop.connections == set()
        assert (pair.transport.protocol, pair.transport.connected, pair.transport.disconnected) == (None, 0, 1)

    def test_a_protocol_that_fails_in_connection_lost_is_logged(self, pair: Pair) -> None:
        pair.protocol.on_loss = failing
        pair.transport.loseConnection()
        with capturedLogs() as events:
            pair.turn()
        assert [event["log_failure"].type for event in events] == [ZeroDivisionError]
        assert "failed in connectionLost" in str(formatEvent(events[0]))


class TestAbortConnection:
    def test_abort_connection_loses_what_is_unsent(self, pair: Pair) -> None:
        pair.transport.write(MUCH)
        pair.transport.abortConnection()
        pair.transport.abortConnection()
        pair.transport.loseConnection()
        pair.transport.write(b"x")
        assert pair.drain() != MUCH
        assert pair.protocol.events == ["lost"]
        assert pair.protocol.lost is ConnectionAborted
        pair.transport.abortConnection()
        assert pair.turn().protocol.events == ["lost"]

    def test_abort_connection_works_before_the_loop_turns(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.abortConnection()
        assert pair.protocol.events == []
        pair.peer.send(b"x")
        pair.turn()
        assert pair.protocol.lost is ConnectionAborted
        assert pair.protocol.received == b""

    def test_abort_connection_sends_a_reset(self, pair: Pair) -> None:
        pair.transport.abortConnection()
        assert pair.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER) != 0

    def test_abort_connection_ends_a_closing_connection(self, pair: Pair) -> None:
        pair.transport.write(MUCH)
        pair.transport.loseConnection()
        pair.turn()
        pair.transport.abortConnection()
        assert pair.turn().protocol.lost is ConnectionAborted

    def test_abort_connection_ends_a_connection_that_was_shut_down_elsewhere(self, pair: Pair) -> None:
        pair.transport.socket.shutdown(socket.SHUT_RDWR)
        pair.transport.abortConnection()
        assert pair.turn().protocol.lost is ConnectionAborted

    def test_nothing_is_received_after_abort_connection(self, pair: Pair) -> None:
        pair.transport.abortConnection()
        pair.transport.data_received(b"x")
        assert not pair.transport.eof_received()
        assert pair.protocol.received == b""
        assert pair.turn().protocol.lost is ConnectionAborted

    def test_abort_connection_works_while_data_is_received(self, pair: Pair) -> None:
        pair.protocol.on_data = lambda data: pair.transport.abortConnection()
        pair.peer.send(b"x")
        assert pair.turn().protocol.lost is ConnectionAborted

    @pytest.mark.parametrize("begun", [True, False])
    def test_the_reactors_stop_ends_connections(self, connect: Connect, begun: bool) -> None:
        pair = connect()
        if begun:
            pair.turn()
        (trigger,) = pair.port.reactor.triggers
        trigger()
        assert pair.protocol.lost is ConnectionLost
        assert pair.turn().protocol.events == ["lost"]


class TestLoseWriteConnection:
    @pytest.fixture
    def half(self, connect: Connect) -> Pair:
        return connect(HalfCloseable()).turn()

    def test_a_closed_half_still_receives(self, half: Pair) -> None:
        half.transport.write(b"bye")
        half.transport.loseWriteConnection()
        half.transport.loseWriteConnection()
        assert half.turn().drain() == b"bye<end>"
        half.transport.write(b"too late")
        half.peer.send(b"still here")
        half.turn()
        assert half.protocol.events == ["write"]
        assert half.protocol.received == b"still here"
        half.transport.loseConnection()
        assert half.turn().protocol.lost is ConnectionDone

    def test_the_last_bytes_and_the_end_of_our_half_reach_the_peer(self, half: Pair) -> None:
        half.transport.write(b"first ")
        half.transport.write_last(b"last")
        half.transport.loseWriteConnection()
        half.turn()
        assert everything(half.peer) == b"first last<end>"

    def test_last_bytes_after_the_end_are_dropped(self, half: Pair) -> None:
        half.transport.loseConnection()
        half.transport.write_last(b"late")
        half.turn()
        assert everything(half.peer) == b"<end>"

    def test_the_half_is_closed_after_all_is_sent(self, half: Pair) -> None:
        half.transport.write(MUCH)
        half.transport.loseWriteConnection()
        half.turn()
        half.transport.write(b"in time")
        assert half.protocol.events == []
        assert half.drain() == MUCH + b"in time<end>"
        assert half.protocol.events == ["write"]

    def test_the_half_can_be_closed_before_the_loop_turns(self, connect: Connect) -> None:
        half = connect(HalfCloseable())
        half.transport.loseWriteConnection()
        assert half.turn().protocol.events == ["write"]

    def test_lose_connection_overtakes_lose_write_connection(self, half: Pair) -> None:
        half.transport.loseWriteConnection()
        half.transport.loseConnection()
        half.transport.loseWriteConnection()
        assert half.turn().protocol.events == ["lost"]

    def test_closing_the_half_of_a_broken_connection_is_told_as_well(self, half: Pair) -> None:
        half.transport.socket.shutdown(socket.SHUT_RDWR)
        half.transport.loseWriteConnection()
        half.turn()
        assert "write" in half.protocol.events

    def test_a_protocol_that_is_not_half_closeable_is_not_told_of_its_closed_half(self, pair: Pair) -> None:
        pair.transport.loseWriteConnection()
        assert pair.turn().drain() == b"<end>"
        assert pair.protocol.events == []

    def test_a_protocol_that_fails_on_its_closed_half_loses_its_connection(self, half: Pair) -> None:
        assert isinstance(half.protocol, HalfCloseable)
        half.protocol.on_end = failing
        half.transport.loseWriteConnection()
        with capturedLogs() as events:
            half.turn()
        assert half.protocol.lost is ZeroDivisionError
        assert len(events) == 1

    def test_a_producer_that_unregisters_after_the_half_is_closed_changes_nothing(self, half: Pair) -> None:
        half.transport.loseWriteConnection()
        half.turn()
        half.transport.registerProducer(Producer(), True)
        half.transport.unregisterProducer()
        assert half.turn().protocol.events == ["write"]


class TestStreamingProducers:
    @pytest.fixture
    def producer(self) -> Producer:
        return Producer()

    def test_streaming_producers_are_paused_while_much_is_unsent(self, pair: Pair, producer: Producer) -> None:
        pair.transport.registerProducer(producer, True)
        pair.transport.write(b"little")
        assert producer.asked == []
        pair.transport.write(MUCH)
        assert producer.asked == ["pause"]
        pair.drain()
        assert producer.asked == ["pause", "resume"]

    def test_a_closing_connection_waits_for_a_paused_streaming_producer(self, pair: Pair, producer: Producer) -> None:
        pair.transport.registerProducer(producer, True)
        pair.transport.write(MUCH)
        pair.transport.loseConnection()
        pair.transport.write(b"more")
        assert pair.drain() == MUCH + b"more"
        assert pair.protocol.lost is None
        pair.transport.write(b", and the last")
        pair.transport.unregisterProducer()
        assert pair.turn().drain() == b", and the last<end>"
        assert pair.protocol.lost is ConnectionDone
        assert producer.asked == ["pause", "resume"]

    def test_streaming_producers_are_stopped_at_the_end(self, pair: Pair, producer: Producer) -> None:
        pair.transport.registerProducer(producer, True)
        pair.transport.loseConnection()
        pair.turn()
        assert producer.asked == ["stop"]
        assert pair.protocol.lost is ConnectionDone

    def test_a_second_producer_is_refused(self, pair: Pair, producer: Producer) -> None:
        pair.transport.registerProducer(producer, True)
        with pytest.raises(RuntimeError, match="was never unregistered"):
            pair.transport.registerProducer(Producer(), True)

    def test_a_producer_that_registers_after_the_end_is_stopped(self, pair: Pair, producer: Producer) -> None:
        pair.transport.loseConnection()
        pair.turn()
        pair.transport.registerProducer(producer, True)
        assert producer.asked == ["stop"]
        pair.transport.unregisterProducer()

    @pytest.mark.parametrize("what", ["on_pause", "on_resume"])
    def test_a_streaming_producer_that_fails_ends_the_connection(
        self, pair: Pair, producer: Producer, what: str
    ) -> None:
        setattr(producer, what, failing)
        pair.transport.registerProducer(producer, True)
        with capturedLogs() as events:
            pair.transport.write(MUCH)
            pair.drain()
            pair.turn()
        assert pair.protocol.lost is ZeroDivisionError
        assert len(events) == 1

    def test_a_producer_that_fails_to_stop_is_logged(self, pair: Pair, producer: Producer) -> None:
        producer.on_stop = failing
        pair.transport.registerProducer(producer, True)
        pair.transport.abortConnection()
        with capturedLogs() as events:
            pair.turn()
        assert pair.protocol.lost is ConnectionAborted
        assert "failed to stop" in str(formatEvent(events[0]))


class TestPullProducers:
    @pytest.fixture
    def producer(self) -> Producer:
        """Writes three times, then unregisters."""
        return Producer()

    def feed(self, pair: Pair, producer: Producer, chunk: bytes, times: int = 3) -> None:
        def produce() -> None:
            if len(producer.asked) <= times:
                pair.transport.write(chunk)
            else:
                pair.transport.unregisterProducer()

        producer.on_resume = produce
        pair.transport.registerProducer(producer, False)

    @pytest.mark.parametrize("chunk", [b"little", MUCH], ids=["little", "much"])
    @pytest.mark.parametrize("begun", [True, False])
    def test_pull_producers_are_asked_whenever_nothing_is_unsent(
        self, connect: Connect, producer: Producer, chunk: bytes, begun: bool
    ) -> None:
        pair = connect()
        if begun:
            pair.turn()
        self.feed(pair, producer, chunk)
        assert producer.asked == ["resume"]
        assert pair.turn().drain() == chunk * 3
        assert producer.asked == ["resume"] * 4
        pair.transport.write(b"the rest")
        assert everything(pair.peer) == b"the rest"

    def test_a_closing_connection_waits_for_a_pull_producer(self, pair: Pair, producer: Producer) -> None:
        self.feed(pair, producer, b"x")
        pair.transport.loseConnection()
        assert pair.protocol.lost is None
        assert pair.turn().drain() == b"xxx<end>"
        assert pair.protocol.lost is ConnectionDone

    def test_an_unregistered_pull_producer_is_not_asked_again(self, pair: Pair, producer: Producer) -> None:
        pair.transport.registerProducer(producer, False)
        pair.transport.unregisterProducer()
        pair.turn()
        assert producer.asked == ["resume"]

    def test_a_pull_producer_that_fails_ends_the_connection(self, pair: Pair, producer: Producer) -> None:
        pair.transport.registerProducer(producer, False)
        producer.on_resume = failing
        with capturedLogs() as events:
            pair.turn()
        assert pair.protocol.lost is ZeroDivisionError
        assert len(events) == 1


class TestReading:
    def test_reading_pauses_and_resumes(self, pair: Pair) -> None:
        pair.transport.pauseProducing()
        pair.peer.send(b"x")
        assert pair.turn().protocol.received == b""
        pair.transport.resumeProducing()
        assert pair.turn().protocol.received == b"x"

    def test_reading_can_be_paused_before_the_loop_turns(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.pauseProducing()
        pair.peer.send(b"x")
        assert pair.turn().protocol.received == b""
        pair.transport.resumeProducing()
        assert pair.turn().protocol.received == b"x"

    def test_reading_goes_on_when_it_is_paused_and_resumed_at_once(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.pauseProducing()
        pair.transport.resumeProducing()
        pair.peer.send(b"x")
        assert pair.turn().protocol.received == b"x"

    def test_stop_reading_and_start_reading_are_other_names_of_the_same(self, pair: Pair) -> None:
        pair.transport.stopReading()
        pair.peer.send(b"x")
        assert pair.turn().protocol.received == b""
        pair.transport.startReading()
        assert pair.turn().protocol.received == b"x"


class Buffered(Recorder):
    """Notes what was read into its buffer."""

    def buffer_updated(self, nbytes: int) -> None:
        self.events.append(nbytes)
        self.on_data(b"")


class Wrapper(Recorder):
    """Has what its transport has, as Twisted's own wrappers do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class TestReadingIntoABuffer:
    """By asyncio's `buffer_updated`, which Twisted has not."""

    def receive(self, pair: Pair, data: bytes) -> None:
        pair.peer.send(data)
        pair.turn()

    def test_data_is_read_into_the_buffer_until_that_is_full(self, connect: Connect) -> None:
        pair, room = connect(Buffered()).turn(), bytearray(5)
        assert pair.transport.receive_into(room)
        self.receive(pair, b"one")
        self.receive(pair, b"two")
        assert (bytes(room), pair.protocol.events, pair.protocol.received) == (b"onetw", [3, 2], b"o")

    def test_none_ends_reading_into_the_buffer(self, connect: Connect) -> None:
        pair, room = connect(Buffered()).turn(), bytearray(5)
        pair.transport.receive_into(room)
        assert pair.transport.receive_into(None)
        self.receive(pair, b"one")
        assert (bytes(room), pair.protocol.received) == (bytes(5), b"one")

    def test_a_buffer_of_larger_items_is_filled_by_bytes(self, connect: Connect) -> None:
        pair, room = connect(Buffered()).turn(), array("I", [0, 0])
        assert pair.transport.receive_into(room)
        self.receive(pair, b"12345")
        assert room.tobytes() == b"12345\0\0\0"

    def test_a_buffer_can_not_be_resized_or_released_while_it_is_read_into(self, connect: Connect) -> None:
        """Or the kernel would write where something else is by now."""
        pair, room = connect(Buffered()).turn(), bytearray(5)
        view = memoryview(room)
        pair.transport.receive_into(view)
        view.release()
        with pytest.raises(BufferError):
            del room[3:]
        self.receive(pair, b"one")
        assert bytes(room) == b"one\0\0"

    def test_a_protocol_that_fails_on_a_filled_buffer_loses_its_connection(self, connect: Connect) -> None:
        pair = connect(Buffered()).turn()
        pair.transport.receive_into(bytearray(5))
        pair.protocol.on_data = lambda data: failing()
        with capturedLogs() as events:
            self.receive(pair, b"one")
        assert [event["log_failure"].type for event in events] == [ZeroDivisionError]
        assert pair.protocol.lost is ZeroDivisionError

    @pytest.mark.parametrize("buffer", [b"data", bytearray(), memoryview(bytearray(4))[::2], memoryview(b"data")])
    def test_a_buffer_that_can_not_be_read_into_is_refused(self, pair: Pair, buffer: Any) -> None:
        """Also where none can be: the same is said everywhere."""
        with pytest.raises(ValueError, match=r"^that is no buffer to read into: writable, contiguous, and with room"):
            pair.transport.receive_into(buffer)
        with pytest.raises(TypeError):
            pair.transport.receive_into("data")

    @pytest.mark.parametrize("kind", [Recorder, Wrapper])
    def test_reading_into_a_buffer_is_refused_for_protocols_without_buffer_updated(
        self, connect: Connect, kind: type[Recorder]
    ) -> None:
        pair, room = connect(kind()).turn(), bytearray(5)
        assert not pair.transport.receive_into(room)
        self.receive(pair, b"one")
        assert (bytes(room), pair.protocol.received) == (bytes(5), b"one")

    def test_reading_into_a_buffer_is_refused_after_the_end(self, connect: Connect) -> None:
        pair = connect(Buffered()).turn()
        pair.transport.abortConnection()
        pair.turn()
        assert not pair.transport.receive_into(bytearray(5))
        pair.transport.buffer_updated(3)
        assert pair.protocol.events == ["lost"]


def test_a_missing_attribute_raises_attribute_error() -> None:
    """Where it is compiled, it is no crash."""
    with pytest.raises(AttributeError):
        Transport.__new__(Transport).get_write_buffer_size()


class TestReasons:
    @pytest.mark.parametrize(
        ("error", "value"),
        [
            (None, ConnectionDone()),
            (ConnectionResetError(104, "Connection reset by peer"), ConnectionLost("Connection reset by peer")),
            (OSError("odd"), ConnectionLost("odd")),
            (TimeoutError(), ConnectionLost()),
        ],
    )
    def test_the_reason_of_an_end_is_one_of_twisteds(
        self, pair: Pair, error: BaseException | None, value: Exception
    ) -> None:
        pair.transport.connection_lost(error)
        reason = pair.protocol.reason
        assert reason is not None
        assert (type(reason.value), str(reason.value)) == (type(value), str(value))

    def test_an_exception_that_twisted_has_no_reason_for_is_the_reason(self, pair: Pair) -> None:
        error = RuntimeError("odd")
        pair.transport.connection_lost(error)
        assert pair.protocol.reason is not None
        assert pair.protocol.reason.value is error


class TestTheSocket:
    def test_the_handle_is_the_socket(self, pair: Pair) -> None:
        assert pair.transport.getHandle() is pair.transport.socket

    def test_unsent_bytes_are_counted(self, pair: Pair) -> None:
        assert pair.transport.get_write_buffer_size() == 0
        pair.transport.write(bytes(1 << 22))
        waiting = pair.transport.get_write_buffer_size()
        assert 0 < waiting < 1 << 22
        pair.transport.write(bytes(1_000))
        assert pair.transport.get_write_buffer_size() == waiting + 1_000
        pair.transport.abortConnection()
        pair.turn()
        assert pair.transport.get_write_buffer_size() == 0

    def test_a_unix_socket_has_unix_addresses(self, pair: Pair) -> None:
        assert pair.transport.getHost() == UNIXAddress(None)
        assert pair.transport.getPeer() == UNIXAddress(None)

    def test_a_unix_socket_has_no_tcp_no_delay(self, pair: Pair) -> None:
        pair.transport.setTcpNoDelay(True)
        assert pair.transport.getTcpNoDelay() is False

    def test_keep_alive_can_be_set(self, pair: Pair) -> None:
        for enabled in (True, False):
            pair.transport.setTcpKeepAlive(enabled)
            assert pair.transport.getTcpKeepAlive() is enabled

    def test_tcp_no_delay_can_be_set(self, loop: asyncio.AbstractEventLoop) -> None:
        port = Port(loop)
        transport = Transport(socket.socket(), Recorder(), ("127.0.0.1", 1), port, 0, port.reactor)
        for enabled in (True, False):
            transport.setTcpNoDelay(enabled)
            assert transport.getTcpNoDelay() is enabled
        transport.abortConnection()
        turn(loop)


class TestNames:
    def test_the_name_for_logs_is_the_protocols_class(self, pair: Pair) -> None:
        assert pair.transport.logPrefix() == "Recorder"
        assert repr(pair.transport).startswith("<Recorder #7 of ")

    def test_the_name_for_logs_is_the_class_of_any_protocol(self, pair: Pair) -> None:
        recorder, pair.transport.protocol = pair.transport.protocol, 5
        assert pair.transport.logPrefix() == "int"
        pair.transport.protocol = recorder

    def test_the_name_for_logs_is_what_the_protocol_says(self, connect: Connect) -> None:
        @implementer(ILoggingContext)
        class Named(Recorder):
            def logPrefix(self) -> str:
                return "chat"

        assert connect(Named()).transport.logPrefix() == "chat"


class TestDetach:
    def test_the_socket_goes_on_without_the_transport(self, pair: Pair) -> None:
        detached = pair.transport.detach()
        assert detached is not None
        given, name = detached
        assert (given, name) == (pair.transport.socket, "")
        pair.peer.send(b"for another process")
        pair.turn()
        assert pair.protocol.received == b""
        assert pair.protocol.events == []
        assert pair.port.loop.connections == set()
        assert given.recv(100) == b"for another process"
        given.send(b"answer")
        assert everything(pair.peer) == b"answer"
        given.close()

    def test_nothing_is_sent_by_a_transport_that_was_detached(self, pair: Pair) -> None:
        detached = pair.transport.detach()
        pair.transport.write(b"lost")
        pair.transport.loseConnection()
        pair.transport.abortConnection()
        assert everything(pair.turn().peer) == b""
        assert detached is not None
        assert detached[0].fileno() >= 0
        detached[0].close()

    def test_a_transport_that_is_not_read_goes_too(self, pair: Pair) -> None:
        pair.transport.pauseProducing()
        pair.peer.send(b"unread")
        pair.turn()
        detached = pair.transport.detach()
        assert detached is not None
        assert detached[0].recv(100) == b"unread"
        detached[0].close()

    def test_a_transport_stays_while_bytes_wait(self, pair: Pair) -> None:
        pair.transport.write(MUCH + b"<end>")
        assert pair.transport.detach() is None
        assert pair.drain() == MUCH + b"<end>"
        pair.finish()

    def test_a_transport_stays_that_reads_into_a_buffer(self, pair: Pair) -> None:
        class Buffered(Recorder):
            def buffer_updated(self, nbytes: int) -> None:
                """Nothing."""

        pair.transport.protocol = Buffered()
        assert pair.transport.receive_into(bytearray(10))
        assert pair.transport.detach() is None
        pair.finish()

    @pytest.mark.parametrize("end", ["loseConnection", "abortConnection", "loseWriteConnection"])
    def test_a_transport_stays_that_ends(self, pair: Pair, end: str) -> None:
        getattr(pair.transport, end)()
        assert pair.transport.detach() is None
        pair.finish()

    def test_a_transport_stays_whose_peer_has_ended(self, connect: Connect) -> None:
        pair = connect(HalfCloseable()).turn()
        pair.peer.shutdown(socket.SHUT_WR)
        pair.turn()
        assert pair.transport.detach() is None
        pair.finish()
