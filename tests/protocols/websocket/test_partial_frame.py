import random
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hatch_build import compile_into
from tests.compiler import loaded, need_compiler
from tests.regressions.wire import mask
from wshost.protocols.websocket import partial_frame
from wshost.protocols.websocket.plain_frames import BINARY, TEXT

NAME = "wshost.protocols.websocket.partial_frame"
SOURCE = Path(__file__).parents[3] / "wshost" / "protocols" / "websocket" / "partial_frame.py"
KEY = mask(bytes(4))


@pytest.fixture(scope="module")
def pure() -> ModuleType:
    """The module in Python, which one that is built in place would hide."""
    return partial_frame if partial_frame.__file__ == str(SOURCE) else loaded(NAME, SOURCE)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module in C, as it is in the source now, on the lane in C."""
    need_compiler()
    names = ["plain_frames", "partial_frame"]
    built = compile_into(tmp_path_factory.mktemp("long"), [f"wshost/protocols/websocket/{name}" for name in names])
    paths = {path.name.partition(".")[0]: path for path in built}
    lane = loaded("wshost.protocols.websocket.plain_frames", paths["plain_frames"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wshost.protocols.websocket.plain_frames", lane)
        module = loaded(NAME, paths["partial_frame"])
    assert module.__file__ == str(paths["partial_frame"]) != str(SOURCE)
    return module


@pytest.fixture(params=["pure", "compiled"])
def LongFrame(request: pytest.FixtureRequest) -> Any:
    """Either's."""
    return request.getfixturevalue(request.param).LongFrame


def add(frame: Any, *pieces: bytes) -> None:
    """Let a payload come in these pieces, each of them all that is there."""
    whole = mask(b"".join(pieces))
    at = 0
    for piece in pieces:
        data = whole[at : at + len(piece)]
        assert frame.add(data, 0) == len(data)
        at += len(data)


class TestPieces:
    @pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7, 100, 1_000])
    @pytest.mark.parametrize("size", [1, 2, 126, 1_000])
    def test_make_a_message(self, LongFrame: Any, size: int, piece: int) -> None:
        payload = random.Random(size).randbytes(size)
        frame = LongFrame(BINARY, size, KEY)
        add(frame, *(payload[at : at + piece] for at in range(0, size, piece)))
        assert frame.left == 0
        assert frame.size == size
        assert frame.message() == ("binary", payload)
        assert type(frame.message()[1]) is bytes

    @pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7])
    def test_make_a_text(self, LongFrame: Any, piece: int) -> None:
        text = "aé€😀 plain for a while é" * 3
        payload = text.encode()
        frame = LongFrame(TEXT, len(payload), KEY)
        add(frame, *(payload[at : at + piece] for at in range(0, len(payload), piece)))
        assert frame.message() == ("text", text)

    def test_only_what_is_its_own_is_taken(self, LongFrame: Any) -> None:
        data = b"before" + mask(b"hello") + b"behind"
        frame = LongFrame(TEXT, 5, KEY)
        assert frame.add(data[:8], 6) == 8
        assert (frame.left, frame.size) == (3, 5)
        assert frame.add(data, 8) == 11
        assert frame.left == 0
        assert frame.message() == ("text", "hello")

    def test_none_is_one_too(self, LongFrame: Any) -> None:
        frame = LongFrame(TEXT, 3, KEY)
        add(frame, b"", b"a", b"", b"bc")
        assert frame.message() == ("text", "abc")

    def test_that_are_not_there(self, LongFrame: Any) -> None:
        frame = LongFrame(BINARY, 5, KEY)
        assert frame.add(b"ab", 2) == 2
        assert frame.left == 5

    def test_weigh_what_they_are(self, LongFrame: Any) -> None:
        size = 20_000
        frame = LongFrame(BINARY, size, KEY)
        tracemalloc.start()
        try:
            for at in range(size):
                frame.add(b"x", 0)
                assert frame.left == size - at - 1
            assert tracemalloc.get_traced_memory()[0] < 2 * size
        finally:
            tracemalloc.stop()


class TestInvalidText:
    """RFC 6455 §8.1: it fails as soon as it can't become UTF-8 any more."""

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
    def test_at_once(self, LongFrame: Any, good: bytes, bad: bytes, after: bytes) -> None:
        frame = LongFrame(TEXT, 1_000, KEY)
        data = mask(good + bad + after)
        if good:
            assert frame.add(data[: len(good)], 0) == len(good)
        with pytest.raises(UnicodeDecodeError):
            frame.add(data[len(good) :], 0)

    @pytest.mark.parametrize("bad", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"], ids=bytes.hex)
    def test_at_the_end(self, LongFrame: Any, bad: bytes) -> None:
        """A character that is not all there is one when nothing more comes."""
        for cut in range(len(bad) + 1):
            frame = LongFrame(TEXT, 5 + len(bad), KEY)
            data = mask(b"hello" + bad)
            with pytest.raises(UnicodeDecodeError):
                frame.add(data, frame.add(data[: 5 + cut], 0)) if cut < len(bad) else frame.add(data, 0)

    def test_in_the_middle_of_a_character(self, LongFrame: Any) -> None:
        """Each by the byte from which on it can't be one: the decoder itself waits with surrogates."""
        for lead, wrong, right in [(0xED, 0xA0, 0x9F), (0xE0, 0x9F, 0xA0), (0xF0, 0x8F, 0x90), (0xF4, 0x90, 0x8F)]:
            for second in (wrong, right):
                frame = LongFrame(TEXT, 10, KEY)
                data = mask(bytes((lead, second)))
                frame.add(data[:1], 0)
                if second == wrong:
                    with pytest.raises(UnicodeDecodeError):
                        frame.add(data, 1)
                else:
                    assert frame.add(data, 1) == 2

    def test_ascii_within_a_character(self, LongFrame: Any) -> None:
        """What is ASCII by itself is not always valid where it stands."""
        frame = LongFrame(TEXT, 10, KEY)
        data = mask(b"\xe2abc")
        frame.add(data[:1], 0)
        with pytest.raises(UnicodeDecodeError):
            frame.add(data, 1)

    def test_is_no_matter_for_bytes(self, LongFrame: Any) -> None:
        frame = LongFrame(BINARY, 4, KEY)
        add(frame, b"\xff\xfe", b"\xed\xa0")
        assert frame.message() == ("binary", b"\xff\xfe\xed\xa0")


class TestRoom:
    """What comes next may be put where it belongs by whoever reads it."""

    @pytest.mark.parametrize("first", [TEXT, BINARY])
    @pytest.mark.parametrize("before", [5_000, 5_001, 5_002, 5_003, 39_999])
    def test_is_for_the_rest(self, LongFrame: Any, first: int, before: int) -> None:
        payload = bytes(random.Random(before).choices(b"abcdefgh", k=40_000))
        data = mask(payload)
        frame = LongFrame(first, 40_000, KEY)
        frame.add(data[:before], 0)
        with frame.room() as room:
            assert len(room) == frame.left == 40_000 - before
            middle = (before + 40_000) // 2
            room[: middle - before] = data[before:middle]
            frame.fill(middle - before)
            assert frame.left == 40_000 - middle
            room[middle - before :] = data[middle:]
            frame.fill(40_000 - middle)
        assert frame.left == 0
        assert frame.message() == (("text", payload.decode()) if first == TEXT else ("binary", payload))
        assert type(frame.message()[1]) is (str if first == TEXT else bytes)

    @pytest.mark.parametrize("first", [TEXT, BINARY])
    def test_is_not_made_for_what_may_never_come(self, LongFrame: Any, first: int) -> None:
        """Who sends little takes little, whatever the head says."""
        data = mask(bytes(125_000))
        frame = LongFrame(first, 1_000_000, KEY)
        assert frame.room() is None
        frame.add(data[:-1], 0)
        assert frame.room() is None
        frame.add(data, 124_999)
        assert len(frame.room()) == 875_000

    @pytest.mark.parametrize("first", [TEXT, BINARY])
    def test_less_than_was_promised_takes_little(self, LongFrame: Any, first: int) -> None:
        tracemalloc.start()
        try:
            frame = LongFrame(first, 1_000_000, KEY)
            frame.add(mask(bytes(1_000)), 0)
            assert tracemalloc.get_traced_memory()[0] < 20_000
        finally:
            tracemalloc.stop()

    def test_pieces_may_come_otherwise(self, LongFrame: Any) -> None:
        data = mask(b"hello world")
        frame = LongFrame(TEXT, 11, KEY)
        frame.add(data[:3], 0)
        assert len(frame.room()) == 8
        frame.add(data[:5], 3)
        with frame.room() as room:
            room[:] = data[5:]
            frame.fill(6)
        assert frame.message() == ("text", "hello world")

    @pytest.mark.parametrize("at", range(3, 12))
    def test_text_is_judged_as_it_comes(self, LongFrame: Any, at: int) -> None:
        text = "aé€😀z"
        data = mask(text.encode())
        frame = LongFrame(TEXT, len(data), KEY)
        frame.add(data[:2], 0)
        with frame.room() as room:
            room[:] = data[2:]
            frame.fill(at - 2)
            frame.fill(len(data) - at)
        assert frame.message() == ("text", text)

    def test_fails_at_once(self, LongFrame: Any) -> None:
        data = mask(b"abcdef\xffgh")
        frame = LongFrame(TEXT, 20, KEY)
        frame.add(data[:2], 0)
        with frame.room() as room:
            room[: len(data) - 2] = data[2:]
            with pytest.raises(UnicodeDecodeError):
                frame.fill(len(data) - 2)

    @pytest.mark.parametrize("count", [-1, 4, 1_000])
    def test_no_more_than_is_left(self, LongFrame: Any, count: int) -> None:
        frame = LongFrame(BINARY, 5, KEY)
        frame.add(b"ab", 0)
        with pytest.raises(ValueError, match="more than there is room for"):
            frame.fill(count)
        assert frame.left == 3

    def test_nothing_before_there_is_any(self, LongFrame: Any) -> None:
        frame = LongFrame(BINARY, 100_000, KEY)
        frame.add(b"ab", 0)
        with pytest.raises(ValueError, match="more than there is room for"):
            frame.fill(1)

    @pytest.mark.parametrize("first", [TEXT, BINARY])
    def test_that_somebody_keeps_does_not_change_the_message(self, LongFrame: Any, first: int) -> None:
        frame = LongFrame(first, 10, KEY)
        frame.add(mask(b"abcde"), 0)
        room = frame.room()
        frame.add(mask(b"abcdefghij"), 5)
        message = frame.message()
        room[:] = b"?????"
        assert message == (("text", "abcdefghij") if first == TEXT else ("binary", b"abcdefghij"))

    def test_outlives_whoever_let_go_of_the_frame(self, LongFrame: Any) -> None:
        frame = LongFrame(TEXT, 10, KEY)
        frame.add(b"a", 0)
        room = frame.room()
        del frame
        room[:] = bytes(9)
        assert bytes(room) == bytes(9)


class TestInC:
    """What would be read or written beyond what is there."""

    def test_a_key_has_four_bytes(self, compiled: Any) -> None:
        with pytest.raises(ValueError, match="four bytes"):
            compiled.LongFrame(TEXT, 5, b"123")

    @pytest.mark.parametrize("at", [-1, 4])
    def test_what_is_not_there(self, compiled: Any, at: int) -> None:
        with pytest.raises(ValueError, match="not all there"):
            compiled.LongFrame(TEXT, 5, KEY).add(b"abc", at)

    def test_no_room_no_buffer(self, compiled: Any) -> None:
        with pytest.raises(BufferError):
            memoryview(compiled.LongFrame(TEXT, 5, KEY))

    @pytest.mark.parametrize("first", [TEXT, BINARY])
    def test_the_message_is_where_it_was_read_to(self, compiled: Any, first: int) -> None:
        frame = compiled.LongFrame(first, 5, KEY)
        frame.add(mask(b"he"), 0)
        with frame.room() as room:
            room[:] = mask(b"hello")[2:]
            frame.fill(3)
            assert frame.message()[1] is not frame.message()[1]
        assert frame.message()[1] is frame.message()[1]
