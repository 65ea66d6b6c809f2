import json
import random
import zlib
from collections.abc import Callable

import pytest

from wshost.protocols import _deflate
from wshost.protocols._deflate import MEMORY_LEVEL, WINDOW_BITS, Corrupt, Deflater, Inflater, TooLong

TEXT = json.dumps([{"id": number, "name": f"user{number * 7919 % 1000}"} for number in range(300)]).encode()
TAIL = b"\0\0\xff\xff"
TEXTS = [b"hello hello hello", b"", b"hello", b"", b"", b"hello hello hello" * 100, b"x"]
#: The example of RFC 7692 §7.2.3.4, whose block is the last.
LAST = bytes.fromhex("f3 48 cd c9 c9 07 00 00")


@pytest.fixture(params=["isal", "zlib"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library that may be there to deflate."""
    if request.param == "zlib":
        monkeypatch.setattr(_deflate, "codec", zlib)
    else:
        assert _deflate.codec.__name__ == "isal.isal_zlib"


def peer(window_bits: int = 15) -> Callable[[bytes], bytes]:
    """A peer that deflates."""
    stream = zlib.compressobj(wbits=-window_bits)
    return lambda data: (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


@pytest.mark.usefixtures("codec")
class TestDeflating:
    """RFC 7692 §7.2.1."""

    @pytest.mark.parametrize("takeover", [True, False])
    @pytest.mark.parametrize("window_bits", range(9, 16))
    def test_a_peer_with_that_window_inflates_it(self, window_bits: int, takeover: bool) -> None:
        deflater, stream = Deflater(window_bits, takeover), zlib.decompressobj(-window_bits)
        noise = random.Random(window_bits)
        for size in (0, 1, 100, 3_000, 30_000):
            # What comes again is farther away than any window, and nearer.
            data = noise.randbytes(size) + TEXT + noise.randbytes(size) + TEXT
            assert stream.decompress(deflater.deflate(data) + TAIL) == data
        assert stream.decompress(deflater.deflate(b"") + TAIL) == b""

    def test_text_becomes_shorter(self) -> None:
        deflater = Deflater(WINDOW_BITS, takeover=True)
        assert len(deflater.deflate(TEXT)) < len(TEXT) / 3
        # What was said before is said more shortly.
        assert len(deflater.deflate(TEXT[:500])) < 200

    def test_without_takeover_each_message_stands_for_itself(self) -> None:
        """RFC 7692 §7.1.1.1."""
        deflater = Deflater(WINDOW_BITS, takeover=False)
        first = deflater.deflate(TEXT[:500])
        assert deflater.deflate(TEXT) != first
        assert deflater.deflate(TEXT[:500]) == first
        assert zlib.decompressobj(-WINDOW_BITS).decompress(first + TAIL) == TEXT[:500]

    def test_it_costs_little(self) -> None:
        """zlib's part is bounded by what we ask it for; only its default would be 256 KiB."""
        assert (1 << (WINDOW_BITS + 2)) + (1 << (MEMORY_LEVEL + 9)) <= 32_768


class TestInflating:
    """RFC 7692 §7.2.2."""

    @pytest.mark.parametrize("window_bits", range(9, 16))
    def test_what_a_peer_deflates(self, window_bits: int) -> None:
        inflater, deflate = Inflater(window_bits, 1 << 20), peer(window_bits)
        for text in [TEXT, *TEXTS, TEXT]:
            assert inflater.inflate(deflate(text)) == text

    def test_what_comes_in_pieces(self) -> None:
        inflater, deflate = Inflater(15, 1 << 20), peer()
        for text in TEXTS:
            payload = deflate(text)
            inflater.begin()
            pieces = [inflater.add(payload[at : at + 1]) for at in range(len(payload))]
            inflater.end()
            assert b"".join(pieces) == text
            assert inflater.inflate(deflate(text)) == text

    def test_up_to_the_limit_and_no_further(self) -> None:
        """zlib's longest match is 258 bytes: one that goes beyond the limit must not be cut there."""
        assert Inflater(15, 10_000).inflate(peer()(bytes(10_000))) == bytes(10_000)
        for more in range(1, 301):
            with pytest.raises(TooLong):
                Inflater(15, 10_000).inflate(peer()(bytes(10_000 + more)))

    @pytest.mark.parametrize("limit", [2**63 - 2, 2**63 - 1, 10**19])
    def test_hardly_any_limit(self, limit: int) -> None:
        assert Inflater(15, limit).inflate(peer()(bytes(10_000))) == bytes(10_000)

    def test_the_limit_is_each_message_s(self) -> None:
        inflater, deflate = Inflater(15, 1_000), peer()
        for _ in range(10):
            assert inflater.inflate(deflate(bytes(1_000))) == bytes(1_000)

    @pytest.mark.parametrize("pieces", [2, 5])
    def test_the_limit_counts_all_pieces(self, pieces: int) -> None:
        inflater, deflate = Inflater(15, 1_000), peer()
        inflater.begin()
        for _ in range(pieces):
            inflater.add(deflate(bytes(1_000 // pieces)) + TAIL)
        assert inflater.add(deflate(b"") + TAIL) == b""
        with pytest.raises(TooLong):
            inflater.add(deflate(b"x") + TAIL)

    @pytest.mark.parametrize(
        "payload",
        [
            b"\xff" * 10,
            b"\x07",
            # Nine bytes are announced and five are there; the four that end a message are none of it.
            b"\x00\x09\x00\xf6\xffhello",
            # These do not complete a block.
            b"\x01\x05",
            LAST + b"x",
            LAST + LAST,
            LAST + b"\0",
        ],
    )
    def test_what_is_no_message(self, payload: bytes) -> None:
        with pytest.raises(Corrupt):
            Inflater(15, 100).inflate(payload)

    def test_a_window_larger_than_agreed(self) -> None:
        data = random.Random(1).randbytes(20_000) * 2
        with pytest.raises(Corrupt):
            Inflater(WINDOW_BITS, 1 << 20).inflate(peer(15)(data))

    @pytest.mark.parametrize("payload", [LAST, LAST[:-1]])
    def test_streams_on_end(self, payload: bytes) -> None:
        """RFC 7692 §7.2.3.4: a sender may end each message with a block that says it is the last of its stream."""
        inflater = Inflater(15, 100)
        for _ in range(3):
            assert inflater.inflate(payload) == b"Hello"
        assert inflater.inflate(peer()(b"Hello")) == b"Hello"
