import random
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode

from tests.regressions.wire import CLOSE, CONTINUATION, PING, PONG, RSV1, frame, head
from wshost.protocols.websocket import plain_frames
from wshost.protocols.websocket.plain_frames import (
    deflated_frame,
    frame_size,
    take,
    take_close,
    take_deflated,
)

LIMIT = 1 << 20
TEXT, BINARY = 1, 2
#: Sizes about those where something changes: the forms of the length (RFC 6455 §5.2), words, and how it is done.
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 124, 125, 126, 127, 2_047, 2_048, 65_535, 65_536, 65_537, 300_000]
KEYS = [b"\x37\xfa\x21\x3d", b"\0\0\0\0", b"\0\0\0\x01", b"\xff\0\0\0", b"\x80\x80\x80\x80"]


def text(size: int) -> str:
    """Return a text of so many bytes, its characters of one to four each."""
    all_kinds = "aé€😀" * (size // 10)
    return all_kinds + "z" * (size - len(all_kinds.encode()))


def masked(payload: bytes, key: bytes) -> bytes:
    whole = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")


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


class TestTake:
    """RFC 6455 §5.2: one message in one frame."""

    @pytest.mark.parametrize("size", SIZES)
    def test_text_is_unmasked_and_decoded(self, size: int) -> None:
        for key in KEYS:
            data = head(TEXT, size)[:-4] + key + masked(text(size).encode(), key)
            assert take(data, 0, LIMIT) == (("text", text(size)), len(data)), key

    @pytest.mark.parametrize("size", SIZES)
    def test_binary_is_unmasked(self, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        for key in KEYS:
            data = head(BINARY, size)[:-4] + key + masked(payload, key)
            assert take(data, 0, LIMIT) == (("binary", payload), len(data)), key

    @settings(deadline=None)
    @given(payload=st.binary(max_size=200) | st.text(max_size=200))
    def test_what_wsproto_sends_is_read(self, payload: bytes | str) -> None:
        data = bytes(FrameProtocol(client=True, extensions=[]).send_data(payload))
        kind = "text" if isinstance(payload, str) else "binary"
        assert take(data, 0, LIMIT) == ((kind, payload), len(data))

    def test_messages_are_read_one_after_the_other(self) -> None:
        data = b"behind" + frame(TEXT, b"one") + frame(BINARY, bytes(200)) + frame(TEXT) + frame(PING)
        found, at = [], 6
        while taken := take(data, at, LIMIT):
            message, at = taken
            found.append(message)
        assert found == [("text", "one"), ("binary", bytes(200)), ("text", "")]
        assert data[at:] == frame(PING)

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 200, 65_536])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_message_is_not_read_before_it_is_whole(self, opcode: int, size: int) -> None:
        data = frame(opcode, b"a" * size)
        for stop in [*range(min(len(data), 40)), *range(max(0, len(data) - 9), len(data))]:
            assert take(data[:stop], 0, LIMIT) is None, stop
            assert take(b"0123" + data[:stop], 4, LIMIT) is None, stop
        assert take(data, 0, LIMIT) is not None
        assert take(data, len(data), LIMIT) is None

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
    def test_messages_above_the_limit_are_left_to_the_engine(self, size: int) -> None:
        data = frame(TEXT, b"a" * size)
        assert take(data, 0, size) == (("text", "a" * size), len(data))
        assert take(data, 0, size - 1) is None
        assert take(data, 0, -1) is None

    @pytest.mark.parametrize(
        "bad",
        [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80"],
        ids=bytes.hex,
    )
    @pytest.mark.parametrize("before", [0, 1, 124, 3_000, 70_000, 300_000])
    def test_invalid_utf_8_is_left_to_the_engine(self, bad: bytes, before: int) -> None:
        """RFC 6455 §8.1."""
        assert take(frame(TEXT, b"a" * before + bad), 0, LIMIT) is None
        assert take(frame(TEXT, bad + b"a" * before), 0, LIMIT) is None
        whole = frame(BINARY, b"a" * before + bad)
        assert take(whole, 0, LIMIT) == (("binary", b"a" * before + bad), len(whole))


class TestNotPlain:
    """What is not plain is left to the engine: RFC 6455 §5.2, and §5.4 for fragments."""

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_reserved_bits_are_not_plain(self, read: str, opcode: int) -> None:
        for rsv in range(0x10, 0x80, 0x10):
            assert getattr(plain_frames, read)(frame(opcode, b"hello", rsv=rsv), 0, LIMIT) is None, rsv

    @pytest.mark.parametrize("read", ["take", "head"])
    def test_other_opcodes_are_not_plain(self, read: str) -> None:
        for opcode in [CONTINUATION, *range(3, 8), CLOSE, PING, PONG, *range(11, 16)]:
            assert getattr(plain_frames, read)(frame(opcode, b"hello"), 0, LIMIT) is None, opcode

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION])
    def test_fragments_are_not_plain(self, read: str, opcode: int) -> None:
        assert getattr(plain_frames, read)(frame(opcode, b"hello", fin=False), 0, LIMIT) is None

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_unmasked_frames_are_not_plain(self, read: str, opcode: int) -> None:
        """RFC 6455 §5.1."""
        for size in [0, 5, 125, 126, 65_536]:
            data = bytearray(frame(opcode, b"a" * size))
            data[1] &= 0x7F
            assert getattr(plain_frames, read)(bytes(data), 0, LIMIT) is None, size

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
    def test_lengths_written_longer_than_necessary_are_not_plain(self, read: str, length: bytes, size: int) -> None:
        assert getattr(plain_frames, read)(with_length(0x81, length, b"a" * size), 0, LIMIT) is None

    @pytest.mark.parametrize("read", ["take", "head"])
    @pytest.mark.parametrize("opcode", [0x81, 0x82])
    @pytest.mark.parametrize("size", [LIMIT + 1, 1 << 32, 1 << 62, 1 << 63, (1 << 63) + 70_000, (1 << 64) - 1])
    def test_lengths_above_the_limit_are_not_plain(self, read: str, opcode: int, size: int) -> None:
        data = with_length(opcode, b"\xff" + size.to_bytes(8, "big"), b"hello")
        assert getattr(plain_frames, read)(data, 0, LIMIT) is None

    @pytest.mark.parametrize("opcode", [0x81, 0x82])
    @pytest.mark.parametrize("size", [(1 << 62) - 14, (1 << 62) - 1])
    def test_the_largest_lengths_are_counted_without_overflow(self, opcode: int, size: int) -> None:
        data = with_length(opcode, b"\xff" + size.to_bytes(8, "big"), b"hello")
        assert take(data, 0, sys.maxsize) is None
        assert plain_frames.head(data, 0, sys.maxsize) == (opcode == 0x81, size, 14)


class TestHead:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_head_is_read_before_its_payload_comes(self, opcode: int, size: int) -> None:
        data = head(opcode, size)
        assert plain_frames.head(data, 0, size) == (opcode == TEXT, size, len(data))
        assert plain_frames.head(b"0123" + data, 4, size) == (opcode == TEXT, size, 4 + len(data))
        assert plain_frames.head(data, 0, size - 1) is None
        assert plain_frames.head(data, 0, -1) is None
        for stop in range(len(data)):
            assert plain_frames.head(data[:stop], 0, LIMIT) is None, stop


class TestFrameSize:
    """RFC 6455 §5.2: of whatever frame."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [TEXT, CONTINUATION, PING, 15])
    @pytest.mark.parametrize("masked", [True, False])
    def test_the_length_alone_tells_how_long_a_frame_is(self, opcode: int, size: int, masked: bool) -> None:
        start = bytearray(head(opcode, size)[:-4])
        start[1] &= 0xFF if masked else 0x7F
        data = b"0123" + start
        whole = len(start) + 4 * masked + size
        assert frame_size(data, 4) == frame_size(data + b"more", 4) == whole
        for stop in range(4, len(data)):
            assert frame_size(data[:stop], 4) == -1, stop

    @pytest.mark.parametrize("size", [1 << 62, 1 << 63, (1 << 64) - 1])
    def test_lengths_that_no_memory_can_hold_are_unknown(self, size: int) -> None:
        assert frame_size(with_length(0x82, b"\xff" + size.to_bytes(8, "big")), 0) == -1
        most = (1 << 62) - 1
        assert frame_size(with_length(0x82, b"\xff" + most.to_bytes(8, "big")), 0) == most + 14


class TestDeflated:
    """RFC 7692 §6: the payload is another's to inflate."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_the_payload_is_unmasked_and_not_inflated(self, opcode: int, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        data = b"0123" + frame(opcode, payload, rsv=RSV1)
        assert take_deflated(data + b"more", 4, size) == (payload, opcode == BINARY, len(data))
        assert take_deflated(data, 4, size - 1) is None
        for stop in [*range(4, 20), *range(max(20, len(data) - 5), len(data))]:
            assert stop >= len(data) or take_deflated(data[:stop], 4, LIMIT) is None, stop

    @pytest.mark.parametrize("data", [frame(TEXT, b"hello"), frame(BINARY, b"hello"), frame(PING, rsv=RSV1)])
    @pytest.mark.parametrize("rsv", [0, 0x10, 0x20])
    def test_only_messages_with_rsv1_are_deflated(self, data: bytes, rsv: int) -> None:
        marked = bytes((data[0] | rsv,)) + data[1:]
        assert take_deflated(marked, 0, LIMIT) is None

    @pytest.mark.parametrize("first", [0xC1, 0xC2])
    def test_the_largest_length_is_counted_without_overflow(self, first: int) -> None:
        data = with_length(first, b"\xff" + ((1 << 62) - 1).to_bytes(8, "big"), b"hello")
        assert take_deflated(data, 0, sys.maxsize) is None

    @pytest.mark.parametrize("size", SIZES)
    def test_the_payload_is_framed_as_it_is_with_rsv1(self, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        for is_binary in (False, True):
            framed = deflated_frame(payload, is_binary)
            plain = FrameProtocol(client=False, extensions=[]).send_data(payload)
            assert framed[0] == (0xC2 if is_binary else 0xC1)
            assert framed[1:] == plain[1:]


class TestClose:
    """RFC 6455 §5.5.1."""

    @pytest.mark.parametrize("code", [1000, 1001])
    @pytest.mark.parametrize("size", [0, 1, 122, 123])
    def test_a_close_with_1000_or_1001_is_read(self, code: int, size: int) -> None:
        reason = text(size)
        data = frame(CLOSE, code.to_bytes(2, "big") + reason.encode())
        assert take_close(b"xx" + data + b"more", 2) == (code, reason, 2 + len(data))

    def test_an_empty_close_is_read(self) -> None:
        assert take_close(frame(CLOSE), 0) == (None, "", 6)

    @pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8bye"])
    def test_a_close_is_not_read_before_it_is_whole(self, payload: bytes) -> None:
        data = frame(CLOSE, payload)
        for stop in range(len(data)):
            assert take_close(data[:stop], 0) is None, stop

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
    def test_other_frames_and_codes_are_left_to_the_engine(self, data: bytes) -> None:
        assert take_close(data, 0) is None


class TestFrame:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
    def test_wsproto_reads_what_is_sent(self, opcode: Opcode, size: int) -> None:
        message: str | bytes = text(size) if opcode is Opcode.TEXT else random.Random(size).randbytes(size)
        payload = message.encode() if isinstance(message, str) else message
        framed = plain_frames.frame(message)
        assert type(framed) is bytes
        assert by_wsproto(framed) == (opcode, payload)
        # The only form there is, for what is sent: unmasked, and as short as can be.
        assert framed == FrameProtocol(client=False, extensions=[]).send_data(message)

    @pytest.mark.parametrize("message", ["\ud800", "a" * 200 + "\udfff"])
    def test_lone_surrogates_raise(self, message: str) -> None:
        with pytest.raises(UnicodeEncodeError):
            plain_frames.frame(message)

    @pytest.mark.parametrize("message", [None, 7, bytearray(b"data"), ["text"]])
    def test_only_a_str_or_bytes_is_a_message(self, message: Any) -> None:
        with pytest.raises(TypeError, match=r"^a message is a str or bytes$"):
            plain_frames.frame(message)

    def test_subclasses_of_str_and_bytes_are_sent(self) -> None:
        class Word(str):
            __slots__ = ()

        class Data(bytes):
            __slots__ = ()

        assert plain_frames.frame(Word("é")) == b"\x81\x02\xc3\xa9"
        assert plain_frames.frame(Data(b"\xe9")) == b"\x82\x01\xe9"
