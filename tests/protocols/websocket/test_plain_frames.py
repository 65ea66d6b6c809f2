import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode

from hatch_build import compile_into
from tests.compiler import loaded, need_compiler
from tests.regressions.wire import CLOSE, CONTINUATION, PING, PONG, RSV1, frame, head
from wshost.protocols.websocket import plain_frames

NAME = "wshost.protocols.websocket.plain_frames"
SOURCE = Path(__file__).parents[3] / "wshost" / "protocols" / "websocket" / "plain_frames.py"
LIMIT = 1 << 20
TEXT, BINARY = 1, 2
#: Sizes about those where something changes: the forms of the length (RFC 6455 §5.2), words, and how it is done.
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 2_047, 2_048, 65_535, 65_536, 65_537, 300_000]
KEYS = [b"\x37\xfa\x21\x3d", b"\0\0\0\0", b"\0\0\0\x01", b"\xff\0\0\0", b"\x80\x80\x80\x80"]


@pytest.fixture(scope="module")
def pure() -> ModuleType:
    """The lane in Python, which one that is built in place would hide."""
    return plain_frames if plain_frames.__file__ == str(SOURCE) else loaded(NAME, SOURCE)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The lane in C, as it is in the source now."""
    need_compiler()
    [built] = compile_into(tmp_path_factory.mktemp("lane"), ["wshost/protocols/websocket/plain_frames"])
    module = loaded(NAME, built)
    assert module.__file__ == str(built) != str(SOURCE)
    return module


@pytest.fixture(params=["pure", "compiled"])
def lane(request: pytest.FixtureRequest) -> Any:
    """Either."""
    return request.getfixturevalue(request.param)


def text(size: int) -> str:
    """Return a text of so many bytes, its characters of one to four each."""
    all_kinds = "aé€😀" * (size // 10)
    return all_kinds + "z" * (size - len(all_kinds.encode()))


def masked(payload: bytes, key: bytes) -> bytes:
    whole = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")


@pytest.mark.parametrize("data", [None, 7, bytearray(b"data"), ["text"]])
def test_a_message_is_a_str_or_bytes(lane: Any, data: Any) -> None:
    with pytest.raises(TypeError, match=r"^a message is a str or bytes$"):
        lane.frame(data)


@st.composite
def anything(draw: st.DrawFn) -> bytes:
    """Draw a frame, or what may look like one."""
    first = draw(st.sampled_from([0x81, 0x82, 0x81, 0x82, 0xC1, 0xC2, 0x01, 0x88, 0x89]))
    second = draw(st.integers(128, 255) | st.integers(0, 255))
    return bytes((first, second)) + draw(st.binary(max_size=160))


def with_length(first: int, length: bytes, payload: bytes = b"", key: bytes = KEYS[0]) -> bytes:
    """Return a frame whose length is written as the test says."""
    return bytes((first,)) + length + key + masked(payload, key)


def by_wsproto(data: bytes) -> tuple[Opcode, bytes]:
    """Return a server's only frame, as an independent parser reads it."""
    decoder = FrameDecoder(client=True)
    decoder.receive_bytes(data)
    read: Any = decoder.process_buffer()
    assert read.frame_finished
    assert read.message_finished
    payload = b"".join(bytes(piece.payload) for piece in [read, *iter(decoder.process_buffer, None)])
    assert len(decoder.buffer) == 0
    return read.opcode, payload


class TestTwoImplementations:
    def test_are_two(self, pure: ModuleType, compiled: ModuleType) -> None:
        assert pure.take is not compiled.take
        assert type(pure.take) is not type(compiled.take)

    def test_agree_on_what_a_message_is(self, lane: Any) -> None:
        assert (lane.TEXT, lane.BINARY) == (0x81, 0x82)

    @settings(deadline=None, max_examples=300)
    @given(
        frame=anything(), before=st.binary(max_size=9), limit=st.sampled_from([-1, 0, 5, 125, 126, LIMIT, sys.maxsize])
    )
    def test_agree_on_anything(
        self, pure: ModuleType, compiled: ModuleType, *, frame: bytes, before: bytes, limit: int
    ) -> None:
        data, at = before + frame, len(before)
        assert pure.take(data, at, limit) == compiled.take(data, at, limit)
        assert pure.head(data, at, limit) == compiled.head(data, at, limit)
        assert pure.take_deflated(data, at, limit) == compiled.take_deflated(data, at, limit)
        assert pure.take_close(data, at) == compiled.take_close(data, at)


class TestTake:
    """RFC 6455 §5.2: one message in one frame."""

    @pytest.mark.parametrize("size", SIZES)
    def test_a_text(self, lane: Any, size: int) -> None:
        for key in KEYS:
            data = head(TEXT, size)[:-4] + key + masked(text(size).encode(), key)
            assert lane.take(data, 0, LIMIT) == (("text", text(size)), len(data)), key

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes(self, lane: Any, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        for key in KEYS:
            data = head(BINARY, size)[:-4] + key + masked(payload, key)
            message, stop = lane.take(data, 0, LIMIT)
            assert message == ("binary", payload), key
            assert type(message[1]) is bytes
            assert stop == len(data)

    @settings(deadline=None)
    @given(payload=st.binary(max_size=200) | st.text(max_size=200))
    def test_what_wsproto_sends(self, pure: ModuleType, compiled: ModuleType, payload: bytes | str) -> None:
        data = bytes(FrameProtocol(client=True, extensions=[]).send_data(payload))
        kind = "text" if isinstance(payload, str) else "binary"
        assert pure.take(data, 0, LIMIT) == compiled.take(data, 0, LIMIT) == ((kind, payload), len(data))

    def test_one_after_the_other(self, lane: Any) -> None:
        data = b"behind" + frame(TEXT, b"one") + frame(BINARY, bytes(200)) + frame(TEXT) + frame(PING)
        found, at = [], 6
        while taken := lane.take(data, at, LIMIT):
            message, at = taken
            found.append(message)
        assert found == [("text", "one"), ("binary", bytes(200)), ("text", "")]
        assert data[at:] == frame(PING)

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 200, 65_536])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_not_before_it_is_whole(self, lane: Any, opcode: int, size: int) -> None:
        data = frame(opcode, b"a" * size)
        for stop in [*range(min(len(data), 40)), *range(max(0, len(data) - 9), len(data))]:
            assert lane.take(data[:stop], 0, LIMIT) is None, stop
            assert lane.take(b"0123" + data[:stop], 4, LIMIT) is None, stop
        assert lane.take(data, 0, LIMIT) is not None
        assert lane.take(data, len(data), LIMIT) is None

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_a_limit(self, lane: Any, size: int) -> None:
        data = frame(TEXT, b"a" * size)
        assert lane.take(data, 0, size) == (("text", "a" * size), len(data))
        assert lane.take(data, 0, size - 1) is None
        assert lane.take(data, 0, -1) is None

    @pytest.mark.parametrize(
        "bad",
        [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80"],
        ids=bytes.hex,
    )
    @pytest.mark.parametrize("before", [0, 1, 124, 3_000, 70_000, 300_000])
    def test_no_invalid_utf8(self, lane: Any, bad: bytes, before: int) -> None:
        """RFC 6455 §8.1."""
        assert lane.take(frame(TEXT, b"a" * before + bad), 0, LIMIT) is None
        assert lane.take(frame(TEXT, bad + b"a" * before), 0, LIMIT) is None
        whole = frame(BINARY, b"a" * before + bad)
        assert lane.take(whole, 0, LIMIT) == (("binary", b"a" * before + bad), len(whole))


class TestWhatIsNotPlain:
    """It is left to the engine: RFC 6455 §5.2, and §5.4 for fragments."""

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_reserved_bits(self, lane: Any, read: str, opcode: int) -> None:
        for rsv in range(0x10, 0x80, 0x10):
            assert getattr(lane, read)(frame(opcode, b"hello", rsv=rsv), 0, LIMIT) is None, rsv

    @pytest.mark.parametrize("read", ["take", "head"])
    def test_other_opcodes(self, lane: Any, read: str) -> None:
        for opcode in [CONTINUATION, *range(3, 8), CLOSE, PING, PONG, *range(11, 16)]:
            assert getattr(lane, read)(frame(opcode, b"hello"), 0, LIMIT) is None, opcode

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION])
    def test_fragments(self, lane: Any, read: str, opcode: int) -> None:
        assert getattr(lane, read)(frame(opcode, b"hello", fin=False), 0, LIMIT) is None

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_unmasked(self, lane: Any, read: str, opcode: int) -> None:
        """RFC 6455 §5.1."""
        for size in [0, 5, 125, 126, 65_536]:
            data = bytearray(frame(opcode, b"a" * size))
            data[1] &= 0x7F
            assert getattr(lane, read)(bytes(data), 0, LIMIT) is None, size

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize(
        ("length", "size"),
        [
            (b"\xfe\x00\x00", 0),
            (b"\xfe\x00\x05", 5),
            (b"\xfe\x00\x7d", 125),
            (b"\xff" + bytes(8), 0),
            (b"\xff" + (125).to_bytes(8, "big"), 125),
            (b"\xff" + (126).to_bytes(8, "big"), 126),
            (b"\xff" + (65_535).to_bytes(8, "big"), 65_535),
        ],
        ids=["0 in 16", "5 in 16", "125 in 16", "0 in 64", "125 in 64", "126 in 64", "65535 in 64"],
    )
    def test_lengths_longer_than_need_be(self, lane: Any, read: str, length: bytes, size: int) -> None:
        assert getattr(lane, read)(with_length(0x81, length, b"a" * size), 0, LIMIT) is None

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [0x81, 0x82])
    @pytest.mark.parametrize("size", [LIMIT + 1, 1 << 32, 1 << 63, (1 << 63) + 70_000, (1 << 64) - 1])
    def test_lengths_that_are_too_large(self, lane: Any, read: str, opcode: int, size: int) -> None:
        data = with_length(opcode, b"\xff" + size.to_bytes(8, "big"), b"hello")
        assert getattr(lane, read)(data, 0, LIMIT) is None

    @pytest.mark.parametrize("opcode", [0x81, 0x82])
    @pytest.mark.parametrize("size", [sys.maxsize - 13, sys.maxsize])
    def test_a_length_that_C_can_just_count(self, lane: Any, opcode: int, size: int) -> None:
        """With the head's own size it can't."""
        data = with_length(opcode, b"\xff" + size.to_bytes(8, "big"), b"hello")
        assert lane.take(data, 0, sys.maxsize) is None
        assert lane.head(data, 0, sys.maxsize) == (opcode, size, 14)


class TestHead:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_is_read_before_its_payload(self, lane: Any, opcode: int, size: int) -> None:
        data = head(opcode, size)
        assert lane.head(data, 0, size) == (0x80 | opcode, size, len(data))
        assert lane.head(b"0123" + data, 4, size) == (0x80 | opcode, size, 4 + len(data))
        assert lane.head(data, 0, size - 1) is None
        assert lane.head(data, 0, -1) is None
        for stop in range(len(data)):
            assert lane.head(data[:stop], 0, LIMIT) is None, stop


class TestDeflated:
    """RFC 7692 §6: the payload is another's to inflate."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_taken_as_it_is(self, lane: Any, opcode: int, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        data = b"0123" + frame(opcode, payload, rsv=RSV1)
        assert lane.take_deflated(data + b"more", 4, size) == (payload, opcode == BINARY, len(data))
        assert lane.take_deflated(data, 4, size - 1) is None
        for stop in [*range(4, 20), *range(max(20, len(data) - 5), len(data))]:
            assert stop >= len(data) or lane.take_deflated(data[:stop], 4, LIMIT) is None, stop

    @pytest.mark.parametrize("data", [frame(TEXT, b"hello"), frame(BINARY, b"hello"), frame(PING, rsv=RSV1)])
    @pytest.mark.parametrize("rsv", [0, 0x10, 0x20])
    def test_only_what_is_marked_so(self, lane: Any, data: bytes, rsv: int) -> None:
        marked = bytes((data[0] | rsv,)) + data[1:]
        assert lane.take_deflated(marked, 0, LIMIT) is None

    @pytest.mark.parametrize("first", [0xC1, 0xC2])
    def test_a_length_that_C_can_just_count(self, lane: Any, first: int) -> None:
        data = with_length(first, b"\xff" + sys.maxsize.to_bytes(8, "big"), b"hello")
        assert lane.take_deflated(data, 0, sys.maxsize) is None

    @pytest.mark.parametrize("size", SIZES)
    def test_sent_as_it_is(self, lane: Any, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        for is_binary in (False, True):
            framed = lane.deflated_frame(payload, is_binary)
            plain = FrameProtocol(client=False, extensions=[]).send_data(payload)
            assert framed[0] == (0xC2 if is_binary else 0xC1)
            assert framed[1:] == plain[1:]


class TestClose:
    """RFC 6455 §5.5.1: a peer that goes."""

    @pytest.mark.parametrize("code", [1000, 1001])
    @pytest.mark.parametrize("size", [0, 1, 122, 123])
    def test_with_a_code(self, lane: Any, code: int, size: int) -> None:
        reason = text(size)
        data = frame(CLOSE, code.to_bytes(2, "big") + reason.encode())
        assert lane.take_close(b"xx" + data + b"more", 2) == (code, reason, 2 + len(data))

    def test_without_a_word(self, lane: Any) -> None:
        assert lane.take_close(frame(CLOSE), 0) == (None, "", 6)

    @pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8bye"])
    def test_not_before_it_is_whole(self, lane: Any, payload: bytes) -> None:
        data = frame(CLOSE, payload)
        for stop in range(len(data)):
            assert lane.take_close(data[:stop], 0) is None, stop

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(frame(PING, b"\x03\xe8"), id="another opcode"),
            pytest.param(frame(CLOSE, b"\x03\xe8", fin=False), id="a fragment"),
            pytest.param(frame(CLOSE, b"\x03\xe8", rsv=RSV1), id="a reserved bit"),
            pytest.param(b"\x88\x02\x03\xe8" + bytes(9), id="unmasked"),
            pytest.param(b"\x88\xfe\0\x7e" + bytes(4) + b"\x03\xe8" + b"x" * 124, id="too long"),
            pytest.param(frame(CLOSE, b"\x03"), id="half a code"),
            pytest.param(frame(CLOSE, b"\x03\xe8\xff"), id="no UTF-8"),
            pytest.param(frame(CLOSE, b"\x03\xea"), id="with a complaint"),
            pytest.param(frame(CLOSE, b"\x03\xed"), id="with a code that is never sent"),
            pytest.param(frame(CLOSE, b"\xff\xff"), id="with no code at all"),
        ],
    )
    def test_nothing_else(self, lane: Any, data: bytes) -> None:
        assert lane.take_close(data, 0) is None


class TestUnmasked:
    """RFC 6455 §5.3."""

    @pytest.mark.parametrize("key", KEYS, ids=bytes.hex)
    @pytest.mark.parametrize("size", SIZES)
    def test_is_what_was_masked(self, lane: Any, size: int, key: bytes) -> None:
        payload = random.Random(size).randbytes(size)
        plain = lane.unmasked(masked(payload, key), key)
        assert plain == payload
        assert type(plain) is bytes

    @pytest.mark.parametrize("key", [b"", b"123", b"12345"])
    def test_a_key_has_four_bytes(self, lane: Any, key: bytes) -> None:
        with pytest.raises(ValueError, match="four bytes"):
            lane.unmasked(b"01234", key)


class TestFrame:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
    def test_is_read_by_wsproto(self, lane: Any, opcode: Opcode, size: int) -> None:
        message: str | bytes = text(size) if opcode is Opcode.TEXT else random.Random(size).randbytes(size)
        payload = message.encode() if isinstance(message, str) else message
        framed = lane.frame(message)
        assert type(framed) is bytes
        assert by_wsproto(framed) == (opcode, payload)
        # The only form there is, for what is sent: unmasked, and as short as can be.
        assert framed == FrameProtocol(client=False, extensions=[]).send_data(message)

    @pytest.mark.parametrize("message", ["\ud800", "a" * 200 + "\udfff"])
    def test_not_of_lone_surrogates(self, lane: Any, message: str) -> None:
        with pytest.raises(UnicodeEncodeError):
            lane.frame(message)

    @pytest.mark.parametrize("message", [None, 5])
    def test_not_of_what_is_no_message(self, lane: Any, message: Any) -> None:
        with pytest.raises(TypeError):
            lane.frame(message)

    def test_in_c_only_of_what_has_its_form(self, compiled: Any) -> None:
        with pytest.raises(TypeError, match="str or bytes"):
            compiled.frame(bytearray(b"hello"))

    def test_of_a_class_of_the_user_s(self, lane: Any) -> None:
        class Word(str):
            __slots__ = ()

        class Data(bytes):
            __slots__ = ()

        assert lane.frame(Word("é")) == b"\x81\x02\xc3\xa9"
        assert lane.frame(Data(b"\xe9")) == b"\x82\x01\xe9"
