import json
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from tests.deflate import TAIL, Wrong, inflate
from wshost.protocols.websocket import deflate
from wshost.protocols.websocket.deflate import (
    MAX_STREAMS,
    MEMORY_LEVEL,
    WINDOW_BITS,
    Corrupt,
    Deflater,
    Inflater,
    TooLong,
)

TEXT = json.dumps([{"id": number, "name": f"user{number * 7919 % 1000}"} for number in range(300)]).encode()
TEXTS = [b"hello hello hello", b"", b"hello", b"", b"", b"hello hello hello" * 100, b"x"]
#: The example of RFC 7692 §7.2.3.4, whose block is the last.
LAST = bytes.fromhex("f3 48 cd c9 c9 07 00 00")


@pytest.fixture(params=["isal", "zlib"])
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each library deflate that may be installed."""
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "codec", zlib)
    else:
        assert deflate.codec.__name__ == "isal.isal_zlib"


def peer(window_bits: int = 15) -> Callable[[bytes], bytes]:
    """A peer that deflates."""
    stream = zlib.compressobj(wbits=-window_bits)
    return lambda data: (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


@pytest.mark.usefixtures("codec")
class TestDeflating:
    """RFC 7692 §7.2.1."""

    @pytest.mark.parametrize("takeover", [True, False])
    @pytest.mark.parametrize("window_bits", range(9, 16))
    def test_a_peer_with_the_agreed_window_inflates_messages(self, window_bits: int, takeover: bool) -> None:
        deflater, stream = Deflater(window_bits, takeover), zlib.decompressobj(-window_bits)
        noise = random.Random(window_bits)
        for size in (0, 1, 100, 3_000, 30_000):
            # What comes again is farther away than any window, and nearer.
            data = noise.randbytes(size) + TEXT + noise.randbytes(size) + TEXT
            assert stream.decompress(deflater.deflate(data) + TAIL) == data
        assert stream.decompress(deflater.deflate(b"") + TAIL) == b""

    def test_deflated_text_is_shorter(self) -> None:
        deflater = Deflater(WINDOW_BITS, takeover=True)
        assert len(deflater.deflate(TEXT)) < len(TEXT) / 3
        # What was said before is said more shortly.
        assert len(deflater.deflate(TEXT[:500])) < 200

    def test_without_takeover_each_message_inflates_alone(self) -> None:
        """RFC 7692 §7.1.1.1."""
        deflater = Deflater(WINDOW_BITS, takeover=False)
        first = deflater.deflate(TEXT[:500])
        assert deflater.deflate(TEXT) != first
        assert deflater.deflate(TEXT[:500]) == first
        assert zlib.decompressobj(-WINDOW_BITS).decompress(first + TAIL) == TEXT[:500]

    def test_zlibs_deflater_takes_at_most_32_kib(self) -> None:
        """We ask zlib for a smaller state than its default, which would take 256 KiB."""
        assert (1 << (WINDOW_BITS + 2)) + (1 << (MEMORY_LEVEL + 9)) <= 32_768


class TestInflating:
    """RFC 7692 §7.2.2."""

    @pytest.mark.parametrize("window_bits", range(9, 16))
    def test_deflated_messages_are_inflated(self, window_bits: int) -> None:
        inflater, deflate = Inflater(window_bits, 1 << 20), peer(window_bits)
        for text in [TEXT, *TEXTS, TEXT]:
            assert inflater.inflate(deflate(text)) == text

    def test_a_message_in_pieces_is_inflated(self) -> None:
        inflater, deflate = Inflater(15, 1 << 20), peer()
        for text in TEXTS:
            payload = deflate(text)
            inflater.begin()
            pieces = [inflater.add(payload[at : at + 1]) for at in range(len(payload))]
            inflater.end()
            assert b"".join(pieces) == text
            assert inflater.inflate(deflate(text)) == text

    def test_a_message_is_inflated_up_to_the_limit_only(self) -> None:
        """zlib's longest match has 258 bytes: a match that goes beyond the limit must not be cut at the limit."""
        assert Inflater(15, 10_000).inflate(peer()(bytes(10_000))) == bytes(10_000)
        for more in range(1, 301):
            with pytest.raises(TooLong):
                Inflater(15, 10_000).inflate(peer()(bytes(10_000 + more)))

    @pytest.mark.parametrize("limit", [2**63 - 2, 2**63 - 1, 10**19])
    def test_a_huge_limit_is_accepted(self, limit: int) -> None:
        assert Inflater(15, limit).inflate(peer()(bytes(10_000))) == bytes(10_000)

    def test_each_message_has_the_whole_limit(self) -> None:
        inflater, deflate = Inflater(15, 1_000), peer()
        for _ in range(10):
            assert inflater.inflate(deflate(bytes(1_000))) == bytes(1_000)

    @pytest.mark.parametrize("pieces", [2, 5])
    def test_the_limit_counts_all_pieces_of_a_message(self, pieces: int) -> None:
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
    def test_malformed_messages_are_corrupt(self, payload: bytes) -> None:
        with pytest.raises(Corrupt):
            Inflater(15, 100).inflate(payload)

    def test_a_reference_beyond_the_agreed_window_is_corrupt(self) -> None:
        data = random.Random(1).randbytes(20_000) * 2
        with pytest.raises(Corrupt):
            Inflater(WINDOW_BITS, 1 << 20).inflate(peer(15)(data))

    def test_without_takeover_nothing_is_kept_between_messages(self) -> None:
        """RFC 7692 §7.1.1.2: a message that refers back to the one before breaks what was agreed on."""
        inflater, deflate = Inflater(15, 1 << 20, takeover=False), peer()
        assert inflater.inflate(deflate(TEXT)) == TEXT
        with pytest.raises(Corrupt):
            inflater.inflate(deflate(TEXT))
        assert Inflater(15, 1 << 20, takeover=False).inflate(peer()(TEXT)) == TEXT

    def test_without_takeover_an_idle_inflater_has_no_window(self) -> None:
        """zlib's window alone takes 32 KiB."""
        payload = peer()(random.Random(1).randbytes(1 << 15))
        inflaters = [Inflater(15, 1 << 20, takeover=False) for _ in range(10)]
        tracemalloc.start()
        for inflater in inflaters:
            inflater.inflate(payload)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 10 * 1_024


def final(data: bytes, before: bytes = b"") -> bytes:
    """Deflate into blocks the last of which is marked as final, and may refer back."""
    stream = zlib.compressobj(wbits=-15, zdict=before)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH)


def ways(inflater: Inflater, payload: bytes, size: int) -> bytes:
    """Inflate a message as a whole, or in pieces of a size."""
    if not size:
        return inflater.inflate(payload)
    inflater.begin()
    message = b"".join(inflater.add(payload[at : at + size]) for at in range(0, len(payload), size))
    inflater.end()
    return message


@pytest.mark.parametrize("size", [0, 1, 3])
class TestFinalBlocks:
    """RFC 7692 §7.2.1: any block of a message may be marked as final, with more blocks behind it."""

    @pytest.mark.parametrize("payload", [LAST, LAST[:-1]])
    def test_streams_after_final_blocks_are_inflated(self, payload: bytes, size: int) -> None:
        """§7.2.3.4: a sender may end each message with a final block."""
        inflater = Inflater(15, 100)
        for _ in range(3):
            assert ways(inflater, payload, size) == b"Hello"
        assert ways(inflater, peer()(b"Hello"), size) == b"Hello"

    def test_blocks_after_a_final_block_are_inflated(self, size: int) -> None:
        inflater = Inflater(15, 100)
        assert ways(inflater, LAST[:-1] * 3 + peer()(b" there"), size) == b"HelloHelloHello there"
        assert ways(inflater, LAST[:-1] * 2 + b"\0", size) == b"HelloHello"

    @pytest.mark.parametrize("payload", [b"\1", LAST[:-1] + b"\1"])
    def test_the_empty_block_at_the_end_may_be_final(self, payload: bytes, size: int) -> None:
        inflater = Inflater(15, 100)
        for _ in range(3):
            assert ways(inflater, payload, size) in {b"", b"Hello"}

    @pytest.mark.parametrize("window_bits", [9, 12, 15])
    @pytest.mark.parametrize("first", [False, True])
    def test_a_stream_may_refer_back_across_a_final_block(self, window_bits: int, first: bool, size: int) -> None:
        """§7.2.2: it may refer back to earlier bytes of the same message, and of earlier messages."""
        inflater, noise = Inflater(window_bits, 1 << 20), random.Random(window_bits)
        window = 1 << window_bits
        said = b""
        for length in (50, window - 200, 50, 3 * window, 10, 20):
            data = bytes(noise.choices(b"0123456789abcdef", k=length)) + said[-window // 2 :]
            before = said[-window:]
            deflater = zlib.compressobj(wbits=-window_bits, zdict=before)
            payload = deflater.compress(data) + deflater.flush(zlib.Z_FINISH)
            if said:
                with pytest.raises(Corrupt):
                    Inflater(window_bits, 1 << 20).inflate(payload)
            if first:
                payload = b"\3\0" + payload
            assert ways(inflater, payload + b"\0", size) == data
            said += data

    def test_without_takeover_a_stream_may_refer_back_within_its_message(self, size: int) -> None:
        inflater = Inflater(15, 1 << 20, takeover=False)
        for _ in range(2):
            assert ways(inflater, final(TEXT) + final(TEXT, TEXT) + b"\0", size or 5_000) == TEXT + TEXT
        with pytest.raises(Corrupt):
            ways(inflater, final(TEXT, TEXT) + b"\0", size)

    def test_the_limit_counts_all_streams(self, size: int) -> None:
        assert ways(Inflater(15, 200), final(bytes(100)) * 2 + b"\0", size) == bytes(200)
        with pytest.raises(TooLong) as caught:
            ways(Inflater(15, 199), final(b"a" * 100) + final(b"b" * 100) + b"\0", size)
        # What there is of it, to be judged: all, as it came at once; or the last piece.
        if not size:
            assert caught.value.inflated == b"a" * 100 + b"b" * 100

    def test_too_many_streams_are_too_long(self, size: int) -> None:
        """Each stream costs time and brings nothing."""
        inflater = Inflater(15, 100)
        assert ways(inflater, b"\3\0" * (MAX_STREAMS - 1) + b"\0", size) == b""
        assert inflater.streams == MAX_STREAMS - 1
        with pytest.raises(TooLong):
            ways(inflater, b"\3\0" * MAX_STREAMS + b"\0", size)

    def test_many_streams_take_linear_time(self, size: int) -> None:
        """At the end of each stream, zlib hands back all the bytes behind it."""
        inflater = Inflater(15, 1 << 26)
        noise = random.Random(1).randbytes(1 << 20)
        payload = final(b"") * (MAX_STREAMS - 1) + peer()(noise)
        start = time.process_time()
        assert ways(inflater, payload, size and 8_192) == noise
        assert time.process_time() - start < 1

    def test_bytes_after_a_final_block_that_are_no_block_are_corrupt(self, size: int) -> None:
        for more in (b"x", LAST, b"\0\0", b"\7"):
            with pytest.raises(Corrupt):
                ways(Inflater(15, 100), LAST + more, size)


@pytest.mark.parametrize("size", [0, 1])
class TestACutMessage:
    """RFC 7692 §7.2.1: a message ends with an empty block. One that ends elsewhere is corrupt."""

    def test_an_empty_payload_is_corrupt(self, size: int) -> None:
        with pytest.raises(Corrupt):
            ways(Inflater(15, 100), b"", size)
        inflater = Inflater(15, 100)
        assert ways(inflater, peer()(b"Hello"), size) == b"Hello"
        with pytest.raises(Corrupt):
            ways(inflater, b"", size)

    @pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
    @pytest.mark.parametrize("strategy", [zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY])
    def test_a_message_truncated_at_any_bit_is_corrupt(self, strategy: int, flush: int, size: int) -> None:
        """A cut in a block of fixed codes, and one in the head of a block, once passed as whole messages."""
        stream = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
        payload = (stream.compress(TEXT[:70]) + stream.flush(flush)).removesuffix(TAIL)
        ended = 0
        for bits in range(len(payload) * 8):
            cut = payload[: bits // 8]
            if bits % 8:
                cut += bytes((payload[bits // 8] & (1 << bits % 8) - 1,))
            try:
                # Seven zeros, with which a byte is filled up, are the end of a block of fixed codes.
                message = inflate(cut)
                ended += 1
            except Wrong:
                with pytest.raises(Corrupt):
                    ways(Inflater(15, 1 << 20), cut, size)
            else:
                assert ways(Inflater(15, 1 << 20), cut, size) == message
        assert ended <= len(payload) + 16
        assert ways(Inflater(15, 1 << 20), payload, size) == TEXT[:70]
