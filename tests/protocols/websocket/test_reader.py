import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.regressions.wire import BINARY, CONTINUATION, PING, PONG, RSV1, TAIL, TEXT, close, close_code, frame, head
from wshost.protocols.websocket.autobahn_engine import Engine, engine_class
from wshost.protocols.websocket.deflate import STREAM, Inflater
from wshost.protocols.websocket.reader import ENGINE_WORK, SLICE, FrameReader

LIMIT = 1 << 20
#: Sizes about those where a frame changes its form, or becomes more than a slice or the limit.
SIZES = [0, 1, 125, 126, SLICE - 8, SLICE + 1, 65_535, 65_536, LIMIT, LIMIT + 1]

ENGINE = engine_class(max_message_size=LIMIT, max_frame_size=LIMIT, max_fragments=1_024)


class Sink:
    """Notes what it is told, and whether by the reader or by the engine."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.from_engines = 0
        self.sizes: list[int] = []
        self.written = b""
        self.dropped = False
        self.rooms: list[memoryview | None] = []
        self.work = 0
        self.failures: list[tuple[int, str]] = []

    def on_work(self, size: int) -> None:
        self.work += size

    def receive_into(self, room: memoryview | None) -> None:
        self.rooms.append(room)

    def on_message(self, message: tuple[str, Any], size: int) -> None:
        self.messages.append(message)
        self.sizes.append(size)

    @property
    def read_here(self) -> int:
        """How many messages the reader has read without an engine."""
        return len(self.sizes) - self.from_engines

    def on_write(self, data: bytes) -> None:
        self.written += data

    def on_ping(self, payload: bytes) -> None:
        self.messages.append(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        self.messages.append(("pong", payload))

    def on_close(self, code: int | None, reason: str) -> None:
        self.messages.append(("close", (code, reason)))

    def on_fail(self, code: int, reason: str) -> None:
        self.failures.append((code, reason))

    def on_drop(self) -> None:
        self.dropped = True


class EngineSink:
    """The sink of an engine: counts its messages, and hands all on to the reader's sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def on_message(self, message: tuple[str, Any], size: int) -> None:
        self._sink.from_engines += 1
        self._sink.on_message(message, size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


class Reader:
    """A reader of frames with its sink and its engines."""

    def __init__(self, limit: int = LIMIT, inflater: Inflater | None = None) -> None:
        self.sink = Sink()
        self.engines: list[Engine] = []
        self.frames = FrameReader(self.sink, self._make, limit, inflater)

    def _make(self, sink: Any, inflater: Inflater | None) -> Engine:
        self.engines.append(ENGINE(EngineSink(sink), inflater))
        return self.engines[-1]

    def feed(self, *pieces: bytes) -> None:
        """Feed each piece, and take all steps that are possible after it."""
        for piece in pieces:
            self.frames.feed(piece)
            while self.frames.step():
                assert not self.sink.dropped or self.frames.waits

    @property
    def told(self) -> list[tuple[str, Any]]:
        return self.sink.messages


@pytest.fixture
def reader() -> Reader:
    return Reader()


def deflated(payload: bytes) -> bytes:
    """Deflate a message (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def cuts(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Cut the data in two near its ends, into single bytes, and into pieces of 10007 bytes."""
    for at in {*range(1, min(len(data), 24)), *range(max(1, len(data) - 5), len(data))}:
        yield data[:at], data[at:]
    if len(data) < 1_000:
        yield tuple(bytes((byte,)) for byte in data)
    yield tuple(data[at : at + 10_007] for at in range(0, len(data), 10_007))


class TestPlainMessages:
    @pytest.mark.parametrize("size", SIZES[:-1])
    def test_plain_messages_need_no_engine(self, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        data = frame(BINARY, payload)
        for pieces in cuts(data):
            reader = Reader()
            reader.feed(*pieces)
            assert reader.told == [("binary", payload)]
            assert reader.frames.arrived == 1
            assert not reader.frames.inside
            assert not reader.frames.waits
            if len(pieces[0]) >= len(data) - size:
                assert (reader.sink.read_here, reader.engines) == (1, [])

    def test_each_message_takes_one_step(self, reader: Reader) -> None:
        reader.frames.feed(frame(TEXT, b"one") + frame(TEXT, "zwö".encode()) + frame(TEXT, b"three")[:-1])
        assert (reader.frames.inside, reader.frames.waits) == (True, True)
        assert reader.frames.step()
        assert reader.told == [("text", "one")]
        assert reader.frames.step()
        assert reader.told == [("text", "one"), ("text", "zwö")]
        assert reader.sink.sizes == [9, 10]
        while reader.frames.step():
            pass
        assert (reader.frames.inside, reader.frames.waits, reader.frames.arrived) == (True, False, 2)
        # More may be fed than was asked for.
        reader.frames.feed(b"")
        reader.frames.feed(frame(TEXT, b"three")[-1:])
        reader.frames.feed(frame(TEXT, b"four"))
        reader.feed(b"")
        assert reader.told[2:] == [("text", "three"), ("text", "four")]
        assert reader.engines == []

    def test_the_payload_may_come_after_the_head(self, reader: Reader) -> None:
        reader.feed(head(BINARY, 5))
        assert reader.frames.inside
        assert reader.told == []
        reader.feed(frame(BINARY, b"hello")[6:] + frame(TEXT, b"next"))
        assert reader.told == [("binary", b"hello"), ("text", "next")]
        assert reader.sink.sizes == [5, 10]

    @pytest.mark.parametrize("size", SIZES)
    def test_without_a_limit_the_engine_reads_every_frame(self, size: int) -> None:
        data = frame(TEXT, b"a" * size) + frame(TEXT, b"next")
        reader = Reader(-1)
        reader.feed(data)
        assert reader.sink.read_here == 0
        if size <= LIMIT:
            assert reader.told == [("text", "a" * size), ("text", "next")]
        else:
            assert close_code(reader.sink.written) == 1009

    def test_later_frames_can_be_left_to_the_engine(self, reader: Reader) -> None:
        reader.feed(frame(TEXT, b"one"), head(TEXT, 3))
        reader.frames.leave_to_engine()
        reader.feed(frame(TEXT, b"two")[6:] + frame(TEXT, b"three"))
        assert reader.told == [("text", "one"), ("text", "two"), ("text", "three")]
        assert reader.sink.read_here == 2
        [engine] = reader.engines
        assert reader.frames.engine is engine


class TestOtherFrames:
    """The engine reads all frames that are no plain messages."""

    @pytest.mark.parametrize("limit", [LIMIT, -1])
    def test_messages_and_control_frames_are_told_in_order(self, limit: int) -> None:
        data = (
            frame(TEXT, b"one")
            + frame(PING, b"two")
            + frame(BINARY, b"thr", fin=False)
            + frame(PONG, b"four")
            + frame(CONTINUATION, b"ee")
            + frame(TEXT, b"five")
            + close(1000, "six")
        )
        for pieces in [(data,), *cuts(data)]:
            reader = Reader(limit)
            reader.feed(*pieces)
            assert reader.told == [
                ("text", "one"),
                ("ping", b"two"),
                ("pong", b"four"),
                ("binary", b"three"),
                ("text", "five"),
                ("close", (1000, "six")),
            ]
            assert reader.frames.arrived == 4

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(TEXT, b"\xff"), 1007),
            (frame(TEXT, b"a" * 70_000 + b"\xff"), 1007),
            (frame(BINARY, b"a" * (LIMIT + 1)), 1009),
            (frame(TEXT, b"hello", rsv=RSV1), 1002),
            (frame(3, b"hello"), 1002),
            (b"\x81\x05hello", 1002),
            (b"\x81\xfe\x00\x05keyshello", 1002),
            (b"\x82\xff" + bytes(7) + b"\x05keyshello", 1002),
            (b"\x82\xff\xff" + bytes(7) + b"keys" + b"what there is of so much", 1002),
            (frame(CONTINUATION, b"hello"), 1002),
            (frame(PING, bytes(126)), 1002),
        ],
        ids=["UTF-8", "UTF-8 far off", "size", "RSV", "opcode", "mask", "16", "64", "63 bits", "continuation", "ping"],
    )
    @pytest.mark.parametrize("limit", [LIMIT, -1])
    def test_invalid_frames_are_closed_with_the_right_code(self, limit: int, data: bytes, code: int) -> None:
        for pieces in cuts(frame(TEXT, b"hello") + data):
            reader = Reader(limit)
            reader.feed(*pieces)
            assert reader.told == [("text", "hello")]
            assert close_code(reader.sink.written) == code
            assert reader.sink.dropped

    def test_invalid_text_is_closed_with_1007_before_it_is_all_there(self, reader: Reader) -> None:
        reader.feed(frame(TEXT, b"a\xff" + b"a" * 1_000)[:20])
        assert close_code(reader.sink.written) == 1007
        assert reader.sink.read_here == 0


class TestDeflatedMessages:
    """RFC 7692: the reader inflates whole messages, and the engine fragmented ones, in the same context."""

    @staticmethod
    def reader(limit: int = LIMIT) -> Reader:
        return Reader(limit, Inflater(15, LIMIT))

    @pytest.mark.parametrize("limit", [LIMIT, -1])
    def test_deflated_messages_are_inflated_in_order(self, limit: int) -> None:
        compressor = zlib.compressobj(wbits=-15)

        whole, second, third = (
            (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]
            for payload in (b"hello hello", b"hello again", b"hello at last")
        )
        data = (
            frame(TEXT, whole, rsv=RSV1)
            + frame(TEXT, b"plain")
            + frame(BINARY, second[:3], fin=False, rsv=RSV1)
            + frame(CONTINUATION, second[3:])
            + frame(BINARY, third, rsv=RSV1)
        )
        for pieces in [(data,), *cuts(data)]:
            reader = self.reader(limit)
            reader.feed(*pieces)
            assert reader.told == [
                ("text", "hello hello"),
                ("text", "plain"),
                ("binary", b"hello again"),
                ("binary", b"hello at last"),
            ]
            assert reader.frames.arrived == 4
            if len(pieces) == 1:
                assert reader.sink.read_here == (3 if limit == LIMIT else 0)

    @pytest.mark.parametrize("limit", [LIMIT, -1])
    @pytest.mark.parametrize(
        ("opcode", "payload", "code"),
        [
            (TEXT, b"\xff\xff\xff", 1007),
            (TEXT, b"", 1007),
            (TEXT, deflated(b"\xff"), 1007),
            (BINARY, deflated(bytes(LIMIT + 1)), 1009),
            (TEXT, deflated(bytes(LIMIT + 1)), 1009),
            (TEXT, deflated(b"\xff" + bytes(LIMIT)), 1007),
            (TEXT, deflated(bytes(LIMIT) + b"\xff\xff"), 1007),
            (TEXT, deflated(bytes(LIMIT + 1) + b"\xff"), 1009),
        ],
        ids=[
            "not deflated",
            "empty",
            "not UTF-8",
            "too large",
            "a text too large",
            "not UTF-8 first",
            "not UTF-8 at the limit",
            "not UTF-8 behind it",
        ],
    )
    def test_invalid_deflated_messages_are_closed_with_the_right_code(
        self, opcode: int, payload: bytes, code: int, limit: int
    ) -> None:
        reader = self.reader(limit)
        reader.feed(frame(opcode, payload, rsv=RSV1))
        assert reader.told == []
        assert close_code(reader.sink.written) == code
        assert reader.sink.dropped

    def test_each_deflate_stream_of_a_message_adds_to_its_size(self) -> None:
        """By this a peer that sends only empty streams uses up its turn sooner."""
        reader = self.reader()
        reader.feed(frame(BINARY, b"\3\0" * 100 + b"\0", rsv=RSV1))
        assert reader.told == [("binary", b"")]
        assert reader.sink.sizes == [201 + 100 * STREAM]


class TestTheEngine:
    def test_each_slice_for_the_engine_counts_as_work_and_plain_messages_do_not(self) -> None:
        reader = Reader()
        reader.feed(frame(TEXT, b"plain"))
        assert reader.sink.work == 0
        reader.feed(frame(PING, b""), frame(BINARY, b"x" * 2 * SLICE, fin=False))
        assert reader.sink.work == (1 + 3) * ENGINE_WORK

    def test_an_engine_is_released_after_each_message_or_control_frame(self, reader: Reader) -> None:
        for times in range(1, 4):
            reader.feed(frame(PING), frame(TEXT, b"hel", fin=False), frame(CONTINUATION, b"lo"))
            assert len(reader.engines) == 2 * times
            assert reader.frames.arrived == 2 * times
        reader.feed(frame(TEXT, b"x"))
        assert len(reader.engines) == 6
        assert reader.frames.arrived == 7

    @pytest.mark.parametrize("size", [1, 200, 70_000])
    def test_messages_behind_one_whose_head_comes_in_pieces_are_read_without_it(self, size: int) -> None:
        payload = bytes(size)
        cut_frame = frame(BINARY, payload)
        for cut in range(1, len(cut_frame) - size):
            for second in range(cut, len(cut_frame) - size):
                reader = Reader()
                reader.feed(cut_frame[:cut], cut_frame[cut:second], cut_frame[second:] + frame(BINARY, b"x") * 5)
                assert reader.told == [("binary", payload), *[("binary", b"x")] * 5]
                assert (reader.sink.from_engines <= 1, reader.sink.read_here >= 5) == (True, True)
                assert not reader.frames.inside

    def test_frames_of_a_message_whose_heads_come_in_pieces_are_work_each(self, reader: Reader) -> None:
        frames = [frame(TEXT, b"x", fin=False), *[frame(CONTINUATION, b"x", fin=False)] * 4, frame(CONTINUATION, b"x")]
        reader.feed(frames[0] + frames[1][:1], frames[1][1:] + b"".join(frames[2:]))
        assert reader.told == [("text", "x" * 6)]
        assert reader.sink.work == 7 * ENGINE_WORK

    def test_without_a_limit_one_engine_stays(self) -> None:
        reader = Reader(-1)
        engine = reader.frames.engine
        reader.feed(frame(PING), frame(TEXT, b"plain"), frame(PING))
        assert reader.engines == [engine]
        assert reader.frames.engine is engine
        assert reader.sink.read_here == 0
        assert reader.frames.arrived == 3

    def test_the_engine_is_fed_slices_that_end_with_the_frame(self) -> None:
        reader = Reader(LIMIT)
        reader.frames.feed(frame(BINARY, bytes(3 * SLICE), fin=False) + frame(CONTINUATION) + frame(TEXT, b"next"))
        fed: list[int] = []
        while reader.frames.step():
            fed.append(len(reader.frames.engine.data) if reader.frames.inside else 0)
        assert 0 < max(fed) <= SLICE
        assert reader.told == [("binary", bytes(3 * SLICE)), ("text", "next")]
        assert reader.sink.read_here == 1

    @pytest.mark.parametrize("kind", [PING, PONG])
    def test_a_control_frame_and_the_next_message_take_separate_steps(self, reader: Reader, kind: int) -> None:
        """A control frame may keep the handler busy, so that no message may come in the same step."""
        reader.frames.feed(frame(kind, b"one") + frame(TEXT, b"two"))
        while not reader.told:
            assert reader.frames.step()
        assert [payload for _, payload in reader.told] == [b"one"]
        while reader.frames.step():
            pass
        assert [payload for _, payload in reader.told] == [b"one", "two"]


class TestRoom:
    """The transport may read the payload of a large frame into the buffer of its message."""

    PAYLOAD = b"plain text " * 9_000

    def begun(self, reader: Reader, size: int) -> tuple[memoryview, bytes]:
        """Feed the head and this much of the payload; return the room, and the rest of the data."""
        data = frame(TEXT, self.PAYLOAD)
        start = len(data) - len(self.PAYLOAD) + size
        reader.feed(data[:start])
        [room] = reader.sink.rooms
        assert room is not None
        return room, data[start:]

    def fill(self, reader: Reader, room: memoryview, data: bytes) -> None:
        room[: len(data)] = data
        reader.frames.filled(len(data))
        assert (reader.frames.inside, reader.frames.waits) == (True, True)
        while reader.frames.step():
            pass
        assert not reader.frames.waits

    def test_the_room_is_as_large_as_the_rest_of_the_payload(self, reader: Reader) -> None:
        room, rest = self.begun(reader, 20_000)
        assert len(room) == len(rest)
        self.fill(reader, room, rest[:30_000])
        assert reader.told == []
        assert reader.frames.inside
        self.fill(reader, room[30_000:], rest[30_000:])
        assert reader.told == [("text", self.PAYLOAD.decode())]
        assert not reader.frames.inside
        assert reader.frames.arrived == 1
        reader.feed(frame(TEXT, b"more"))
        assert reader.told[1:] == [("text", "more")]
        assert len(reader.sink.rooms) == 1

    def test_the_sink_gets_room_when_an_eighth_of_the_payload_is_there(self, reader: Reader) -> None:
        data = frame(TEXT, self.PAYLOAD)
        reader.feed(data[:1_000])
        assert reader.sink.rooms == []
        reader.feed(data[1_000:30_000])
        assert len(reader.sink.rooms) == 1

    def test_the_sink_gets_room_again_after_bytes_were_fed(self, reader: Reader) -> None:
        _, rest = self.begun(reader, 20_000)
        reader.feed(rest[:10_000])
        [_, room] = reader.sink.rooms
        assert room is not None
        self.fill(reader, room, rest[10_000:])
        assert reader.told == [("text", self.PAYLOAD.decode())]

    def test_bytes_in_the_room_are_read_by_the_next_step(self, reader: Reader) -> None:
        room, rest = self.begun(reader, 20_000)
        room[:] = rest
        reader.frames.filled(1_000)
        reader.frames.filled(len(rest) - 1_000)
        assert reader.told == []
        assert reader.frames.step()
        assert reader.told == [("text", self.PAYLOAD.decode())]

    def test_invalid_text_takes_the_room_back(self, reader: Reader) -> None:
        """RFC 6455 §8.1: the connection fails at once."""
        room, rest = self.begun(reader, 20_000)
        self.fill(reader, room, rest[:1_000].replace(rest[:1], bytes((rest[0] ^ 0x80,)), 1))
        assert reader.sink.rooms == [room, None]
        assert close_code(reader.sink.written) == 1007


class TestClose:
    @pytest.mark.parametrize("limit", [-1, LIMIT])
    def test_a_close_can_be_answered_without_a_code(self, limit: int) -> None:
        reader = Reader(limit)
        reader.feed(close(1000))
        reader.frames.answer_close(None, b"")
        assert reader.sink.written == b"\x88\x00"
        assert reader.sink.dropped

    @pytest.mark.parametrize(("code", "reason"), [(None, ""), (1000, ""), (1001, "tschüß")])
    @pytest.mark.parametrize("limit", [-1, LIMIT])
    def test_a_close_is_answered_the_same_by_the_engine(self, limit: int, code: int | None, reason: str) -> None:
        reader = Reader(limit)
        reader.frames.feed(frame(TEXT, b"last") + close(code, reason))
        while len(reader.told) < 2:
            assert reader.frames.step()
        assert reader.told == [("text", "last"), ("close", (code, reason))]
        reader.frames.answer_close(1000, b"so long")
        assert reader.sink.written == b"\x88\x09\x03\xe8so long"
        assert reader.sink.dropped
        assert len(reader.engines) == (1 if limit < 0 else 0)

    def test_a_close_with_an_error_code_is_read_by_the_engine(self, reader: Reader) -> None:
        reader.feed(close(1002, "unheard of"))
        assert reader.told == [("close", (1002, "unheard of"))]
        assert len(reader.engines) == 1
