import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.regressions.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TAIL, TEXT, close, frame, frames, head
from wshost.protocols.websocket.autobahn_engine import Engine, engine_class, xor
from wshost.protocols.websocket.deflate import WINDOW_BITS, Inflater
from wshost.protocols.websocket.extensions import DEFLATE, negotiate

ROOT = Path(__file__).parents[3]
LIMIT = 1 << 20


class Sink:
    """Writes down what the engine tells."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.written = b""
        self.then: Callable[[], None] = lambda: None
        self.failures: list[tuple[int, str]] = []

    def _told(self, *event: Any) -> None:
        self.events.append(event)
        self.then()

    def on_write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def on_message(self, message: tuple[str, str | bytes], size: int) -> None:
        kind, data = message
        payload = data.encode() if isinstance(data, str) else data
        assert size == len(payload)
        self._told(kind, payload)

    def on_ping(self, payload: bytes) -> None:
        self._told("ping", payload)

    def on_pong(self, payload: bytes) -> None:
        self._told("pong", payload)

    def on_close(self, code: int | None, reason: str) -> None:
        self._told("close", code, reason)

    def on_fail(self, code: int, reason: str) -> None:
        self.failures.append((code, reason))

    def on_drop(self) -> None:
        self._told("drop")


class Client:
    """An engine and whoever drives it."""

    def __init__(self, extensions: str = "", **options: Any) -> None:
        limits: dict[str, Any] = {"max_message_size": LIMIT, "max_frame_size": LIMIT, "max_fragments": 1_024}
        limits.update(options)
        self.sink = Sink()
        agreed = negotiate(extensions)
        self.inflater = agreed and Inflater(agreed.client_window_bits, limits["max_message_size"])
        self.engine: Engine = engine_class(**limits)(self.sink, self.inflater)

    def send(self, data: bytes, size: int = 8_192) -> list[tuple[Any, ...]]:
        """Send bytes in pieces of a size, and return what the engine tells of them."""
        self.sink.events.clear()
        for start in range(0, len(data), size):
            self.engine.feed(data[start : start + size])
            while self.engine.step():
                pass
        return self.sink.events

    def take(self) -> bytes:
        """Return what the engine has written."""
        written, self.sink.written = self.sink.written, b""
        return written

    def fails(self, data: bytes, size: int = 8_192) -> int:
        """Send what fails the connection: a Close and a drop and nothing else; return the code."""
        *_, last = self.send(data, size)
        assert last == ("drop",)
        [(opcode, payload, *_)] = frames(self.take())
        assert opcode == CLOSE
        assert 2 < len(payload) <= 125
        assert payload[2:].isascii()
        # Nothing more is looked at, or kept.
        assert self.send(frame(TEXT, b"hello") + frame(PING) + close()) == []
        assert self.take() == b""
        code: int = struct.unpack("!H", payload[:2])[0]
        return code


class Deflater:
    """A client's side of permessage-deflate, RFC 7692 §7.2.1."""

    def __init__(self, window_bits: int = 15) -> None:
        self._compressor = zlib.compressobj(wbits=-window_bits)

    def __call__(self, data: bytes) -> bytes:
        deflated = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        assert deflated.endswith(TAIL)
        return deflated[: -len(TAIL)]


def inflate(data: bytes, decompressor: Any = None) -> bytes:
    """RFC 7692 §7.2.2."""
    inflated: bytes = (decompressor or zlib.decompressobj(-15)).decompress(data + TAIL)
    return inflated


def raw(opcode: int, size: int, *, fin: bool = True, rsv: int = 0, length: int | None = None) -> bytes:
    """A head with a length in the 7-bit field, or in the form of `length` bytes, whatever is right."""
    first = (0x80 if fin else 0) | rsv | opcode
    if length is None:
        return bytes((first, 0x80 | size)) + b"\0\0\0\0"
    field = {2: 126, 8: 127}[length]
    return bytes((first, 0x80 | field)) + size.to_bytes(length, "big") + b"\0\0\0\0"


class TestOpening:
    """RFC 6455 §4.2.2."""

    def test_a_new_engine_writes_nothing(self) -> None:
        assert Client(DEFLATE).take() == b""

    def test_engines_share_no_state(self) -> None:
        one, other = Client(DEFLATE), Client(DEFLATE, max_message_size=1)
        one.send(frame(TEXT, b"xx", fin=False))
        assert other.send(frame(TEXT, b"x")) == [("text", b"x")]
        assert one.send(frame(CONTINUATION, b"y")) == [("text", b"xxy")]


CONVERSATION = (
    frame(TEXT, b"hello")
    + frame(BINARY, bytes(range(256)))
    + frame(TEXT)
    + frame(PING, b"1")
    + frame(TEXT, "Kö".encode()[:2], fin=False)
    + frame(PING)
    + frame(CONTINUATION, "ö".encode()[1:], fin=False)
    + frame(PONG, b"x" * 125)
    + frame(CONTINUATION, fin=False)
    + frame(CONTINUATION, b"ln")
    + frame(BINARY, fin=False)
    + frame(CONTINUATION)
    + close(4_000, "näh")
)
TOLD = [
    ("text", b"hello"),
    ("binary", bytes(range(256))),
    ("text", b""),
    ("ping", b"1"),
    ("ping", b""),
    ("pong", b"x" * 125),
    ("text", "Köln".encode()),
    ("binary", b""),
    ("close", 4_000, "näh"),
]


class TestReceiving:
    """RFC 6455 §5."""

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 8_192])
    def test_each_kind_of_frame_is_reported(self, size: int) -> None:
        client = Client()
        assert client.send(CONVERSATION, size) == TOLD
        assert client.take() == b""

    def test_a_conversation_cut_anywhere_is_reported_alike(self) -> None:
        for cut in range(1, len(CONVERSATION)):
            client = Client()
            told = [*client.send(CONVERSATION[:cut]), *client.send(CONVERSATION[cut:])]
            assert told == TOLD, cut

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_messages_of_each_length_form_are_reported(self, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        assert Client().send(frame(BINARY, payload)) == [("binary", payload)]

    def test_a_step_parses_at_most_one_frame(self) -> None:
        """So that whoever drives it can do something else in between."""
        client = Client()
        client.engine.feed(frame(TEXT) * 3)
        told = []
        more = True
        while more:
            more = client.engine.step()
            told.append(len(client.sink.events))
        assert told == [0, 1, 1, 2, 2, 3]

    def test_a_step_without_bytes_returns_false(self) -> None:
        client = Client()
        assert not client.engine.step()
        assert client.send(frame(TEXT)[:1]) == []

    def test_inside_says_whether_a_message_or_frame_is_incomplete(self) -> None:
        client = Client()
        stands = []
        for part in (
            b"",
            frame(TEXT, b"hello")[:1],
            frame(TEXT, b"hello")[1:8],
            frame(TEXT, b"hello")[8:],
            frame(PING, b"x")[:3],
            frame(PING, b"x")[3:],
            frame(BINARY, fin=False),
            frame(PING) + frame(PONG),
            frame(CONTINUATION, fin=False),
            frame(CONTINUATION),
            frame(PONG),
        ):
            client.send(part)
            stands.append((client.engine.inside, client.engine.arrived))
        assert stands == [
            (False, 0),
            (True, 0),
            (True, 0),
            (False, 1),
            (True, 1),
            (False, 2),
            (True, 2),
            (True, 2),
            (True, 2),
            (False, 3),
            (False, 4),
        ]


BROKEN = {
    "reserved opcode 3": (raw(3, 0), 1002),
    "reserved opcode 7": (raw(7, 0), 1002),
    "reserved opcode 11": (raw(11, 0), 1002),
    "reserved opcode 15": (raw(15, 0), 1002),
    "RSV1 without an extension": (frame(TEXT, b"x", rsv=0x40), 1002),
    "RSV2": (frame(TEXT, b"x", rsv=0x20), 1002),
    "RSV3": (frame(PING, rsv=0x10), 1002),
    "unmasked": (b"\x81\x05hello", 1002),
    "a fragmented ping": (frame(PING, fin=False), 1002),
    "a fragmented Close": (raw(CLOSE, 2, fin=False), 1002),
    "a long pong": (raw(PONG, 126, length=2), 1002),
    "an endless ping": (head(PING, 1 << 62), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a message in a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
    "125 bytes in 16 bits": (raw(BINARY, 125, length=2), 1002),
    "65,535 bytes in 64 bits": (raw(BINARY, 65_535, length=8), 1002),
    "2^63 bytes": (raw(BINARY, 1 << 63, length=8), 1002),
    "2^64 - 1 bytes": (raw(BINARY, (1 << 64) - 1, length=8), 1002),
    "2^63 - 1 bytes": (raw(BINARY, (1 << 63) - 1, length=8), 1009),
    "2^62 bytes": (raw(TEXT, 1 << 62, length=8), 1009),
    "one byte too many": (head(BINARY, LIMIT + 1), 1009),
    "text that is no UTF-8": (frame(TEXT, b"hell\xf6"), 1007),
    "text that ends in a character": (frame(TEXT, "ö".encode()[:1]), 1007),
    "text that goes wrong in the next fragment": (
        frame(TEXT, "ö".encode()[:1], fin=False) + frame(CONTINUATION, b"o"),
        1007,
    ),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "a character beyond the last, from its second byte": (frame(TEXT, b"\xf4\x90", fin=False), 1007),
    "a Close of one byte": (frame(CLOSE, b"\x03"), 1002),
    **{f"Close {code}": (close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)},
    "a Close with no UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
}


class TestFailing:
    """RFC 6455 §7.1.7: say why, and look at nothing more."""

    @pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
    def test_each_violation_is_closed_with_its_code(self, data: bytes, code: int) -> None:
        assert Client().fails(data) == code

    @pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
    def test_each_violation_in_pieces_is_closed_with_its_code(self, data: bytes, code: int) -> None:
        assert Client().fails(data, 1) == code

    @pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
    def test_messages_before_a_violation_are_reported(self, data: bytes, code: int) -> None:
        client = Client()
        assert client.send(frame(TEXT, b"hello") + data + frame(TEXT, b"more")) == [("text", b"hello"), ("drop",)]
        assert len(list(frames(client.take()))) == 1

    @pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
    def test_a_violation_after_our_close_drops_the_connection(self, data: bytes, code: int) -> None:
        """There is no second Close."""
        client = Client()
        client.engine.start_close(1000, b"")
        client.take()
        assert client.send(data) == [("drop",)]
        assert client.take() == b""

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
    def test_valid_close_codes_are_reported(self, code: int) -> None:
        """RFC 6455 §7.4, and IANA's registry for 1012 to 1014, the last of which Autobahn lacks."""
        assert Client().send(close(code)) == [("close", code, "")]

    def test_the_close_reason_does_not_depend_on_where_the_bytes_are_cut(self) -> None:
        """Text that is not UTF-8, in data that can't be inflated further on."""
        data = frame(TEXT, Deflater()(b"\xff" * 100) + b"\xff" * 10, rsv=RSV1)
        written = set()
        for size in (1, 8_192):
            client = Client(DEFLATE)
            assert client.send(data, size) == [("drop",)]
            written.add(client.take())
        assert written == {b"\x88\x1f\x03\xefinvalid UTF-8 or deflate data"}

    def test_the_driver_may_fail_the_connection(self) -> None:
        client = Client()
        client.engine.fail(1008, "that w\xe4s enough" * 20)
        assert client.sink.events == [("drop",)]
        [(opcode, payload, *_)] = frames(client.take())
        assert (opcode, payload[:17], len(payload)) == (CLOSE, b"\x03\xf0that w?s enough", 125)
        client.engine.fail(1008, "again")
        assert client.sink.events == [("drop",)]
        assert client.take() == b""

    def test_failing_with_an_unanswered_close_sends_one_close(self) -> None:
        client = Client()
        client.send(close())
        client.engine.fail(1008, "late")
        assert client.sink.events == [("close", 1000, ""), ("drop",)]
        assert client.take() == b"\x88\x06\x03\xf0late"

    def test_the_driver_may_fail_the_connection_within_a_step(self) -> None:
        client = Client()
        client.sink.then = lambda: client.engine.fail(1008, "no pings")
        assert client.send(frame(PING) + frame(TEXT)) == [("ping", b""), ("drop",)]


class TestLimits:
    def test_a_message_as_long_as_the_limit_is_reported(self) -> None:
        client = Client(max_message_size=10, max_frame_size=10)
        assert client.send(frame(TEXT, b"x" * 10)) == [("text", b"x" * 10)]
        data = frame(TEXT, b"x" * 4, fin=False) + frame(CONTINUATION, b"y" * 6)
        assert client.send(data) == [("text", b"xxxxyyyyyy")]

    def test_a_longer_message_is_closed_with_1009(self) -> None:
        assert Client(max_message_size=10).fails(head(TEXT, 11)) == 1009
        assert Client(max_message_size=10).fails(frame(TEXT, b"x" * 4, fin=False) + head(CONTINUATION, 7)) == 1009

    def test_a_longer_frame_is_closed_with_1009(self) -> None:
        data = frame(TEXT, b"x" * 5, fin=False) + frame(CONTINUATION, b"x" * 5)
        assert Client(max_frame_size=5).send(data) == [("text", b"x" * 10)]
        assert Client(max_frame_size=5).fails(head(TEXT, 6)) == 1009

    @pytest.mark.parametrize("payload", [b"", b"x"])
    def test_too_many_fragments_are_closed_with_1009(self, payload: bytes) -> None:
        """CVE-2026-48779 and others: each of them costs, empty or not."""
        client = Client(max_fragments=4)
        data = frame(TEXT, payload, fin=False) + frame(CONTINUATION, payload, fin=False) * 2
        # They are counted for each message anew.
        for _ in range(2):
            assert client.send(data + frame(PING) + frame(CONTINUATION)) == [("ping", b""), ("text", payload * 3)]
        assert client.fails(data + frame(CONTINUATION, fin=False) + frame(CONTINUATION)) == 1009

    def test_pieces_take_no_more_memory_than_the_message(self) -> None:
        """A message that comes byte by byte is kept as one."""
        client = Client()
        client.send(head(BINARY, 20_000))
        tracemalloc.start()
        client.send(b"x" * 19_999, 1)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept < 60_000

    def test_nothing_is_kept_of_reported_messages(self) -> None:
        client = Client()
        tracemalloc.start()
        client.send(frame(BINARY, b"x" * LIMIT))
        client.sink.events.clear()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert kept < 100_000


class TestClosing:
    """RFC 6455 §7."""

    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            (close(None), (None, "")),
            (close(1000), (1000, "")),
            (close(4_999, "näh" * 30), (4_999, "näh" * 30)),
        ],
    )
    def test_a_peers_close_is_reported_and_answered(self, sent: bytes, told: tuple[int | None, str]) -> None:
        client = Client()
        assert client.send(sent) == [("close", *told)]
        assert client.take() == b""
        client.engine.answer_close(4_001, b"bye")
        assert client.take() == b"\x88\x05\x0f\xa1bye"
        assert client.sink.events == [("close", *told), ("drop",)]
        client.engine.answer_close(4_001, b"bye")
        assert client.take() == b""
        assert client.send(frame(TEXT)) == []

    def test_a_peers_close_may_be_answered_at_once(self) -> None:
        client = Client()
        client.sink.then = lambda: client.engine.answer_close(1000, b"")
        assert client.send(frame(CLOSE)) == [("close", None, ""), ("drop",)]
        assert client.take() == b"\x88\x02\x03\xe8"

    def test_our_close_ends_with_the_peers_answer(self) -> None:
        client = Client()
        client.engine.start_close(1001, b"going away")
        assert client.take() == b"\x88\x0c\x03\xe9going away"
        assert client.send(frame(TEXT, b"hello") + frame(PING)) == [("text", b"hello"), ("ping", b"")]
        assert client.send(close(1001)) == [("drop",)]
        assert client.take() == b""

    def test_a_second_close_is_not_sent(self) -> None:
        client = Client()
        client.engine.start_close(1001, b"")
        client.engine.start_close(1002, b"")
        assert client.take() == b"\x88\x02\x03\xe9"


class TestDeflateOff:
    def test_without_deflate_a_compressed_frame_is_closed_with_1002(self) -> None:
        client = Client()
        assert client.fails(frame(TEXT, Deflater()(b"hello"), rsv=RSV1)) == 1002


TEXTS = [b"hello hello hello", b"", b"hello", b"", b"", b"hello hello hello" * 100, b"x"]


class TestDeflate:
    """RFC 7692 §7.2."""

    @pytest.mark.parametrize("takeover", [True, False])
    @pytest.mark.parametrize("size", [1, 8_192])
    def test_a_deflated_message_is_inflated(self, takeover: bool, size: int) -> None:
        """Our peers may keep their context or not: that is theirs to choose."""
        client, deflater = Client(DEFLATE), Deflater()
        for text in TEXTS:
            if not takeover:
                deflater = Deflater()
            assert client.send(frame(TEXT, deflater(text), rsv=RSV1), size) == [("text", text)]

    def test_a_deflated_message_in_fragments_is_inflated(self) -> None:
        client, deflater = Client(DEFLATE), Deflater()
        for text in TEXTS:
            data = deflater(text)
            cut = len(data) // 2
            sent = frame(TEXT, data[:cut], fin=False, rsv=RSV1) + frame(PING) + frame(CONTINUATION, data[cut:])
            assert client.send(sent) == [("ping", b""), ("text", text)]

    def test_a_plain_message_is_reported_with_deflate_agreed_on(self) -> None:
        client, deflater = Client(DEFLATE), Deflater()
        assert client.send(frame(TEXT, deflater(b"hello"), rsv=RSV1)) == [("text", b"hello")]
        assert client.send(frame(TEXT, b"plain")) == [("text", b"plain")]
        assert client.send(frame(TEXT, deflater(b"hello"), rsv=RSV1)) == [("text", b"hello")]

    @pytest.mark.parametrize("window_bits", [9, WINDOW_BITS])
    def test_a_message_with_the_agreed_window_is_inflated(self, window_bits: int) -> None:
        client, deflater = Client(f"{DEFLATE}; client_max_window_bits"), Deflater(window_bits)
        data = random.Random(1).randbytes(3_000) * 3
        assert client.send(frame(BINARY, deflater(data), rsv=RSV1)) == [("binary", data)]

    def test_a_message_with_a_larger_window_is_closed_with_1007(self) -> None:
        client, deflater = Client(f"{DEFLATE}; client_max_window_bits"), Deflater(15)
        data = random.Random(1).randbytes(20_000) * 2
        assert client.fails(frame(BINARY, deflater(data), rsv=RSV1)) == 1007

    def test_the_inflater_is_shared_with_the_fast_lane(self) -> None:
        client, deflater = Client(DEFLATE), Deflater()
        assert client.inflater is not None
        for text in TEXTS:
            assert client.inflater.inflate(deflater(text)) == text
            assert client.send(frame(BINARY, deflater(text), rsv=RSV1)) == [("binary", text)]
        assert client.engine.arrived == len(TEXTS)

    def test_compressed_control_frames_are_closed_with_1002(self) -> None:
        """RFC 7692 §6: RSV1 there is a violation."""
        client = Client(DEFLATE)
        client.engine.start_close(1000, b"")
        assert client.take() == b"\x88\x02\x03\xe8"
        for opcode in (PING, PONG, CLOSE):
            assert Client(DEFLATE).fails(frame(opcode, b"", rsv=RSV1)) == 1002

    @pytest.mark.parametrize("rsv", [0x20, 0x10, 0x60])
    def test_other_reserved_bits_are_closed_with_1002(self, rsv: int) -> None:
        assert Client(DEFLATE).fails(frame(TEXT, b"x", rsv=rsv)) == 1002

    def test_a_compressed_continuation_is_closed_with_1002(self) -> None:
        data = Deflater()(b"hello")
        sent = frame(TEXT, data[:1], fin=False, rsv=RSV1) + frame(CONTINUATION, data[1:], rsv=RSV1)
        assert Client(DEFLATE).fails(sent) == 1002

    def test_deflated_text_that_is_not_utf_8_is_closed_with_1007(self) -> None:
        assert Client(DEFLATE).fails(frame(TEXT, Deflater()(b"\xff"), rsv=RSV1)) == 1007


class TestFramesOfDeflatedMessages:
    """The limit is the message's: what can't be compressed becomes longer by deflating it."""

    def test_a_deflated_frame_may_be_longer_than_its_message(self) -> None:
        message = random.Random(1).randbytes(100_000)
        data = Deflater()(message)
        assert len(data) > len(message)
        client = Client(DEFLATE, max_message_size=100_000, max_frame_size=100_000, max_deflated_size=200_000)
        assert client.send(frame(BINARY, data, rsv=RSV1)) == [("binary", message)]
        fragments = frame(BINARY, data[:1], fin=False, rsv=RSV1) + frame(CONTINUATION, data[1:])
        assert client.send(fragments) == [("binary", message)]
        # Plain ones may not.
        assert client.fails(head(BINARY, 100_001)) == 1009

    def test_deflated_frames_have_a_limit_of_their_own(self) -> None:
        client = Client(DEFLATE, max_deflated_size=1_000)
        assert client.send(head(BINARY, 1_000, rsv=RSV1)) == []
        assert Client(DEFLATE, max_deflated_size=1_000).fails(head(BINARY, 1_001, rsv=RSV1)) == 1009
        # Which is that of others, unless it is said.
        assert Client(DEFLATE, max_frame_size=1_000).fails(head(BINARY, 1_001, rsv=RSV1)) == 1009

    @pytest.mark.parametrize("size", [1, 8_192])
    def test_a_compressed_frame_without_deflate_data_is_closed_with_1007(self, size: int) -> None:
        """RFC 7692 §7.2.3.6: an empty message has at least an empty block. One that has none is none, at once."""
        assert Client(DEFLATE).fails(frame(TEXT, b"", rsv=RSV1), size) == 1007
        assert Client(DEFLATE).fails(frame(TEXT, fin=False, rsv=RSV1) + frame(CONTINUATION), size) == 1007
        sent = frame(TEXT, fin=False, rsv=RSV1) + frame(CONTINUATION, b"\0", fin=False) + frame(CONTINUATION)
        assert Client(DEFLATE).send(sent, size) == [("text", b"")]

    @pytest.mark.parametrize("size", [1, 8_192])
    @pytest.mark.parametrize(("text", "code"), [(b"\xff" + b"a" * 2_000, 1007), (b"a" * 2_000 + b"\xff", 1009)])
    def test_of_bad_utf_8_and_an_exceeded_limit_the_first_counts(self, text: bytes, code: int, size: int) -> None:
        client = Client(DEFLATE, max_message_size=1_000)
        assert client.fails(frame(TEXT, Deflater()(text), rsv=RSV1), size) == code
        binary = Client(DEFLATE, max_message_size=1_000)
        assert binary.fails(frame(BINARY, Deflater()(text), rsv=RSV1), size) == 1009


class TestBombs:
    """CVE-2018-1000518, CVE-2026-77528: what inflates is bounded while it does."""

    @pytest.mark.parametrize("size", [100, 8_192])
    def test_a_bomb_up_to_the_limit_is_inflated(self, size: int) -> None:
        client = Client(DEFLATE, max_message_size=100_000)
        assert client.send(frame(BINARY, Deflater()(b"\0" * 100_000), rsv=RSV1), size) == [("binary", b"\0" * 100_000)]

    @pytest.mark.parametrize("pieces", [1, 3])
    def test_a_bomb_beyond_the_limit_is_closed_with_1009(self, pieces: int) -> None:
        """zlib's longest match is 258 bytes: one that goes beyond the limit must not be cut there (Autobahn does)."""
        for more in range(1, 301):
            deflater = Deflater()
            data = [deflater(b"\0" * (100_000 // pieces)) + TAIL for _ in range(pieces - 1)]
            data.append(deflater(b"\0" * (100_000 - 100_000 // pieces * (pieces - 1) + more)))
            assert Client(DEFLATE, max_message_size=100_000).fails(frame(BINARY, b"".join(data), rsv=RSV1)) == 1009

    def test_a_bomb_in_fragments_is_closed_with_1009(self) -> None:
        deflater = Deflater()
        sent = frame(BINARY, deflater(b"\0" * 99_999) + TAIL, fin=False, rsv=RSV1)
        full = frame(CONTINUATION, deflater(b"\0") + TAIL, fin=False)
        client = Client(DEFLATE, max_message_size=100_000)
        assert client.send(sent + full) == []
        assert client.fails(frame(CONTINUATION, deflater(b"\0"), fin=False)) == 1009
        client = Client(DEFLATE, max_message_size=100_000)
        assert client.send(sent + full + frame(CONTINUATION, deflater(b""))) == [("binary", b"\0" * 100_000)]

    @pytest.mark.parametrize("fragments", [1, 100])
    def test_a_gibibyte_of_zeros_takes_bounded_memory(self, fragments: int) -> None:
        compressor = zlib.compressobj(9, wbits=-15)
        mebibyte = compressor.compress(b"\0" * (1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
        gibibyte = mebibyte * 1_024
        assert len(gibibyte) < 2 << 20
        client = Client(DEFLATE, max_frame_size=len(gibibyte))
        part = -(-len(gibibyte) // fragments)
        sent = b"".join(
            frame(
                CONTINUATION if start else BINARY, gibibyte[start : start + part], fin=False, rsv=0 if start else RSV1
            )
            for start in range(0, len(gibibyte), part)
        )
        tracemalloc.start()
        assert client.fails(sent) == 1009
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * LIMIT

    def test_earlier_messages_do_not_count_to_the_limit(self) -> None:
        client, deflater = Client(DEFLATE, max_message_size=1_000), Deflater()
        for _ in range(10):
            assert client.send(frame(BINARY, deflater(b"\0" * 1_000), rsv=RSV1)) == [("binary", b"\0" * 1_000)]


class TestCorruptDeflate:
    @pytest.mark.parametrize("size", [1, 8_192])
    @pytest.mark.parametrize(
        "data",
        [
            b"\xff" * 10,
            b"\x07",
            b"\x06\x01",
            # A block's length and its complement that don't match.
            b"\x00\x05\x00\x00\x00hello",
            # A distance that goes back beyond the beginning.
            zlib.compressobj(wbits=-15, zdict=b"hello hello").compress(b"") + b"\x4a\x02\x11\x00",
        ],
    )
    def test_corrupt_deflate_data_is_closed_with_1007(self, data: bytes, size: int) -> None:
        assert Client(DEFLATE).fails(frame(BINARY, data, rsv=RSV1), size) == 1007

    def test_deflate_data_corrupt_at_its_end_is_closed_with_1007(self) -> None:
        """The four bytes that end a message, RFC 7692 §7.2.2, are not the end of this one."""
        assert Client(DEFLATE).fails(frame(BINARY, b"\x01\x05", rsv=RSV1)) == 1007

    def test_a_truncated_block_is_closed_with_1007(self) -> None:
        """Nine bytes are announced and five are there: Autobahn hands these over."""
        data = b"\x00\x09\x00\xf6\xffhello"
        assert Client(DEFLATE).fails(frame(BINARY, data, rsv=RSV1)) == 1007

    def test_random_deflate_data_is_inflated_or_drops_the_connection(self) -> None:
        rng = random.Random(6455)
        for _ in range(500):
            client = Client(DEFLATE)
            told = client.send(frame(BINARY, rng.randbytes(rng.randrange(1, 40)), rsv=RSV1))
            assert [event[0] for event in told] in (["binary"], ["drop"])


class TestLastBlocks:
    """RFC 7692 §7.2.3.4: a sender may end each message with a block that says it is the last of its stream."""

    #: The example of the RFC.
    HELLO = bytes.fromhex("f3 48 cd c9 c9 07 00 00")

    @pytest.mark.parametrize("data", [HELLO, HELLO[:-1]])
    @pytest.mark.parametrize("size", [1, 8_192])
    def test_streams_after_final_blocks_are_inflated(self, data: bytes, size: int) -> None:
        """Autobahn hears nothing behind the first."""
        client = Client(DEFLATE)
        for _ in range(3):
            assert client.send(frame(TEXT, data, rsv=RSV1), size) == [("text", b"Hello")]
        assert client.send(frame(TEXT, Deflater()(b"Hello"), rsv=RSV1), size) == [("text", b"Hello")]

    @pytest.mark.parametrize("more", [HELLO, b"\0\0", b"x"])
    @pytest.mark.parametrize("fragments", [False, True])
    def test_data_after_a_final_block_is_closed_with_1007(self, more: bytes, fragments: bool) -> None:
        """It is no part of the message, and nothing else either."""
        sent = frame(TEXT, self.HELLO + more, rsv=RSV1)
        if fragments:
            sent = frame(TEXT, self.HELLO, fin=False, rsv=RSV1) + frame(CONTINUATION, more)
        assert Client(DEFLATE).fails(sent) == 1007


#: In a process of its own, as Autobahn logs where it likes, and starts timers on whatever reactor there is.
QUIETLY = """
import sys, txaio
from tests.protocols.websocket.test_autobahn_engine import BROKEN, CONVERSATION, DEFLATE, TEXT, RSV1
from tests.protocols.websocket.test_autobahn_engine import Client, close, frame
txaio.start_logging(level="trace")
for offer in ("", DEFLATE):
    for data, _ in BROKEN.values():
        Client(offer).send(CONVERSATION[:-10] + data)
        Client(offer).send(frame(TEXT, data, rsv=RSV1))
    client = Client(offer)
    client.send(CONVERSATION)
    client.engine.answer_close(1000, b"")
    client = Client(offer)
    client.engine.start_close(1000, b"")
    client.engine.start_close(1000, b"")
    client.send(close())
    client.send(close())
sys.exit("twisted.internet.reactor" in sys.modules)
"""


class TestQuiet:
    def test_the_engine_logs_nothing_and_uses_no_reactor(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", QUIETLY], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("size", [0, 1, 5, 70_000])
def test_xor_masks_as_rfc_6455_says(size: int) -> None:
    """RFC 6455 §5.3."""
    data = random.Random(size).randbytes(size)
    assert xor(data, b"\x01\x00\xff\x80") == bytes(one ^ b"\x01\x00\xff\x80"[at % 4] for at, one in enumerate(data))
