import random
import tracemalloc

import pytest

from tests.regressions.wire import mask
from wshost.protocols.websocket.partial_frame import PartialFrame

KEY = mask(bytes(4))
#: Whether a frame's payload is text.
TEXT, BINARY = True, False


def add(frame: PartialFrame, *pieces: bytes) -> None:
    """Let a payload come in these pieces, each of them all that is there."""
    whole = mask(b"".join(pieces))
    at = 0
    for piece in pieces:
        data = whole[at : at + len(piece)]
        assert frame.add(data, 0) == len(data)
        at += len(data)


def room_of(frame: PartialFrame) -> memoryview:
    """Return a frame's room, which is there."""
    room = frame.room()
    assert room is not None
    return room


class TestPieces:
    @pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7, 100, 1_000])
    @pytest.mark.parametrize("size", [1, 2, 126, 1_000])
    def test_pieces_of_any_size_make_a_message(self, size: int, piece: int) -> None:
        payload = random.Random(size).randbytes(size)
        frame = PartialFrame(BINARY, size, KEY)
        add(frame, *(payload[at : at + piece] for at in range(0, size, piece)))
        assert frame.left == 0
        assert frame.size == size
        assert frame.message() == ("binary", payload)
        assert type(frame.message()[1]) is bytes

    @pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7])
    def test_characters_may_be_cut_between_pieces(self, piece: int) -> None:
        text = "aé€😀 plain for a while é" * 3
        payload = text.encode()
        frame = PartialFrame(TEXT, len(payload), KEY)
        add(frame, *(payload[at : at + piece] for at in range(0, len(payload), piece)))
        assert frame.message() == ("text", text)

    def test_only_bytes_of_its_own_payload_are_taken(self) -> None:
        data = b"before" + mask(b"hello") + b"behind"
        frame = PartialFrame(TEXT, 5, KEY)
        assert frame.add(data[:8], 6) == 8
        assert (frame.left, frame.size) == (3, 5)
        assert frame.add(data, 8) == 11
        assert frame.left == 0
        assert frame.message() == ("text", "hello")

    def test_pieces_may_be_empty(self) -> None:
        frame = PartialFrame(TEXT, 3, KEY)
        add(frame, b"", b"a", b"", b"bc")
        assert frame.message() == ("text", "abc")

    def test_no_bytes_change_nothing(self) -> None:
        frame = PartialFrame(BINARY, 5, KEY)
        assert frame.add(b"ab", 2) == 2
        assert frame.left == 5

    def test_single_bytes_take_no_more_memory_than_their_sum(self) -> None:
        size = 20_000
        frame = PartialFrame(BINARY, size, KEY)
        tracemalloc.start()
        try:
            for at in range(size):
                frame.add(b"x", 0)
                assert frame.left == size - at - 1
            assert tracemalloc.get_traced_memory()[0] < 2 * size
        finally:
            tracemalloc.stop()


class TestInvalidText:
    """RFC 6455 §8.1: it raises as soon as it can't become UTF-8 any more."""

    @pytest.mark.parametrize(
        "good",
        [b"", b"plain", "é€😀".encode(), b"\xf0\x9f", b"\xe2"],
        ids=["at the start", "behind ASCII", "behind others", "within four", "within three"],
    )
    @pytest.mark.parametrize(
        "bad",
        [
            b"\xff",
            b"\xc0",
            b"\xf5",
            b"\xc3(",
            b"\xf0\x9f(",
            b"\xe0\x80",
            b"\xf0\x80",
            b"\xf4\x90",
            b"\xed\xa0",
            b"\xed\xbf",
        ],
        ids=bytes.hex,
    )
    @pytest.mark.parametrize("after", [b"", b"plain"])
    def test_invalid_utf_8_raises_at_once(self, good: bytes, bad: bytes, after: bytes) -> None:
        frame = PartialFrame(TEXT, 1_000, KEY)
        data = mask(good + bad + after)
        if good:
            assert frame.add(data[: len(good)], 0) == len(good)
        with pytest.raises(UnicodeDecodeError):
            frame.add(data[len(good) :], 0)

    @pytest.mark.parametrize("bad", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"], ids=bytes.hex)
    def test_a_cut_character_at_the_end_raises(self, bad: bytes) -> None:
        """A character that is not all there is one when nothing more comes."""
        for cut in range(len(bad) + 1):
            frame = PartialFrame(TEXT, 5 + len(bad), KEY)
            data = mask(b"hello" + bad)
            with pytest.raises(UnicodeDecodeError):
                frame.add(data, frame.add(data[: 5 + cut], 0)) if cut < len(bad) else frame.add(data, 0)

    def test_a_wrong_second_byte_raises_before_the_third(self) -> None:
        """Each by the byte from which on it can't be one: the decoder itself waits with surrogates."""
        for lead, wrong, right in [(0xED, 0xA0, 0x9F), (0xE0, 0x9F, 0xA0), (0xF0, 0x8F, 0x90), (0xF4, 0x90, 0x8F)]:
            for second in (wrong, right):
                frame = PartialFrame(TEXT, 10, KEY)
                data = mask(bytes((lead, second)))
                frame.add(data[:1], 0)
                if second == wrong:
                    with pytest.raises(UnicodeDecodeError):
                        frame.add(data, 1)
                else:
                    assert frame.add(data, 1) == 2

    def test_ascii_within_a_character_raises(self) -> None:
        """What is ASCII by itself is not always valid where it stands."""
        frame = PartialFrame(TEXT, 10, KEY)
        data = mask(b"\xe2abc")
        frame.add(data[:1], 0)
        with pytest.raises(UnicodeDecodeError):
            frame.add(data, 1)

    def test_binary_may_be_any_bytes(self) -> None:
        frame = PartialFrame(BINARY, 4, KEY)
        add(frame, b"\xff\xfe", b"\xed\xa0")
        assert frame.message() == ("binary", b"\xff\xfe\xed\xa0")


class TestRoom:
    """The rest of the payload can be read into its place."""

    @pytest.mark.parametrize("is_text", [True, False])
    @pytest.mark.parametrize("before", [5_000, 5_001, 5_002, 5_003, 39_999])
    def test_the_room_is_as_large_as_the_rest(self, is_text: bool, before: int) -> None:
        payload = bytes(random.Random(before).choices(b"abcdefgh", k=40_000))
        data = mask(payload)
        frame = PartialFrame(is_text, 40_000, KEY)
        frame.add(data[:before], 0)
        with room_of(frame) as room:
            assert len(room) == frame.left == 40_000 - before
            middle = (before + 40_000) // 2
            room[: middle - before] = data[before:middle]
            frame.fill(middle - before)
            assert frame.left == 40_000 - middle
            room[middle - before :] = data[middle:]
            frame.fill(40_000 - middle)
        assert frame.left == 0
        assert frame.message() == (("text", payload.decode()) if is_text else ("binary", payload))
        assert type(frame.message()[1]) is (str if is_text else bytes)

    @pytest.mark.parametrize("is_text", [True, False])
    def test_there_is_room_when_an_eighth_has_come(self, is_text: bool) -> None:
        """Who sends little takes little, whatever the head says."""
        data = mask(bytes(125_000))
        frame = PartialFrame(is_text, 1_000_000, KEY)
        assert frame.room() is None
        frame.add(data[:-1], 0)
        assert frame.room() is None
        frame.add(data, 124_999)
        assert len(room_of(frame)) == 875_000

    @pytest.mark.parametrize("is_text", [True, False])
    def test_memory_grows_with_what_has_come_and_not_with_what_was_announced(self, is_text: bool) -> None:
        tracemalloc.start()
        try:
            frame = PartialFrame(is_text, 1_000_000, KEY)
            frame.add(mask(bytes(1_000)), 0)
            assert tracemalloc.get_traced_memory()[0] < 20_000
        finally:
            tracemalloc.stop()

    def test_pieces_may_be_added_while_somebody_has_room(self) -> None:
        data = mask(b"hello world")
        frame = PartialFrame(TEXT, 11, KEY)
        frame.add(data[:3], 0)
        assert len(room_of(frame)) == 8
        frame.add(data[:5], 3)
        with room_of(frame) as room:
            room[:] = data[5:]
            frame.fill(6)
        assert frame.message() == ("text", "hello world")

    @pytest.mark.parametrize("at", range(3, 12))
    def test_characters_may_be_cut_between_fills(self, at: int) -> None:
        text = "aé€😀z"
        data = mask(text.encode())
        frame = PartialFrame(TEXT, len(data), KEY)
        frame.add(data[:2], 0)
        with room_of(frame) as room:
            room[:] = data[2:]
            frame.fill(at - 2)
            frame.fill(len(data) - at)
        assert frame.message() == ("text", text)

    def test_invalid_utf_8_in_the_room_raises_at_once(self) -> None:
        data = mask(b"abcdef\xffgh")
        frame = PartialFrame(TEXT, 20, KEY)
        frame.add(data[:2], 0)
        with room_of(frame) as room:
            room[: len(data) - 2] = data[2:]
            with pytest.raises(UnicodeDecodeError):
                frame.fill(len(data) - 2)

    @pytest.mark.parametrize("count", [-1, 4, 1_000])
    def test_filling_the_room_beyond_the_payload_raises(self, count: int) -> None:
        frame = PartialFrame(BINARY, 5, KEY)
        frame.add(b"ab", 0)
        with pytest.raises(ValueError, match="more than there is room for"):
            frame.fill(count)
        assert frame.left == 3

    def test_filling_before_there_is_room_raises(self) -> None:
        frame = PartialFrame(BINARY, 100_000, KEY)
        frame.add(b"ab", 0)
        with pytest.raises(ValueError, match="more than there is room for"):
            frame.fill(1)

    @pytest.mark.parametrize("is_text", [True, False])
    def test_writing_into_the_room_does_not_change_the_message(self, is_text: bool) -> None:
        frame = PartialFrame(is_text, 10, KEY)
        frame.add(mask(b"abcde"), 0)
        room = room_of(frame)
        frame.add(mask(b"abcdefghij"), 5)
        message = frame.message()
        room[:] = b"?????"
        assert message == (("text", "abcdefghij") if is_text else ("binary", b"abcdefghij"))

    def test_the_room_outlives_the_frame(self) -> None:
        frame = PartialFrame(TEXT, 10, KEY)
        frame.add(b"a", 0)
        room = room_of(frame)
        del frame
        room[:] = bytes(9)
        assert bytes(room) == bytes(9)
