import random
import tracemalloc

import pytest

from tests.regressions.wire import mask
from wshost.protocols._lane import BINARY, TEXT
from wshost.protocols._long import LongFrame

KEY = mask(bytes(4))


def add(frame: LongFrame, *pieces: bytes) -> None:
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
    def test_make_a_message(self, size: int, piece: int) -> None:
        payload = random.Random(size).randbytes(size)
        frame = LongFrame(BINARY, size, KEY)
        add(frame, *(payload[at : at + piece] for at in range(0, size, piece)))
        assert frame.left == 0
        assert frame.size == size
        assert frame.message() == ("binary", payload)
        assert type(frame.message()[1]) is bytes

    @pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7])
    def test_make_a_text(self, piece: int) -> None:
        text = "aé€😀 plain for a while é" * 3
        payload = text.encode()
        frame = LongFrame(TEXT, len(payload), KEY)
        add(frame, *(payload[at : at + piece] for at in range(0, len(payload), piece)))
        assert frame.message() == ("text", text)

    def test_only_what_is_its_own_is_taken(self) -> None:
        data = b"before" + mask(b"hello") + b"behind"
        frame = LongFrame(TEXT, 5, KEY)
        assert frame.add(data[:8], 6) == 8
        assert (frame.left, frame.size) == (3, 5)
        assert frame.add(data, 8) == 11
        assert frame.left == 0
        assert frame.message() == ("text", "hello")

    def test_none_is_one_too(self) -> None:
        frame = LongFrame(TEXT, 3, KEY)
        add(frame, b"", b"a", b"", b"bc")
        assert frame.message() == ("text", "abc")

    def test_weigh_what_they_are(self) -> None:
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
    @pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xf0\x9f("], ids=bytes.hex)
    @pytest.mark.parametrize("after", [b"", b"plain"])
    def test_at_once(self, good: bytes, bad: bytes, after: bytes) -> None:
        frame = LongFrame(TEXT, 1_000, KEY)
        data = mask(good + bad + after)
        if good:
            assert frame.add(data[: len(good)], 0) == len(good)
        with pytest.raises(UnicodeDecodeError):
            frame.add(data[len(good) :], 0)

    @pytest.mark.parametrize("bad", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"], ids=bytes.hex)
    def test_at_the_end(self, bad: bytes) -> None:
        """A character that is not all there is one when nothing more comes."""
        for cut in range(len(bad) + 1):
            frame = LongFrame(TEXT, 5 + len(bad), KEY)
            data = mask(b"hello" + bad)
            with pytest.raises(UnicodeDecodeError):
                frame.add(data, frame.add(data[: 5 + cut], 0)) if cut < len(bad) else frame.add(data, 0)

    def test_ascii_within_a_character(self) -> None:
        """What is ASCII by itself is not always valid where it stands."""
        frame = LongFrame(TEXT, 10, KEY)
        data = mask(b"\xe2abc")
        frame.add(data[:1], 0)
        with pytest.raises(UnicodeDecodeError):
            frame.add(data, 1)

    def test_is_no_matter_for_bytes(self) -> None:
        frame = LongFrame(BINARY, 4, KEY)
        add(frame, b"\xff\xfe", b"\xed\xa0")
        assert frame.message() == ("binary", b"\xff\xfe\xed\xa0")
