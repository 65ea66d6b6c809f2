import json
import random
import zlib

import pytest

from wshost.protocols import _deflate
from wshost.protocols._deflate import compressor, decompressor, errors, flushed

TEXT = json.dumps([{"id": number, "name": f"user{number * 7919 % 1000}"} for number in range(300)]).encode()
TAIL = b"\0\0\xff\xff"


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library that may be there."""
    if request.param == "zlib":
        monkeypatch.setattr(_deflate, "codec", zlib)
    else:
        assert _deflate.codec.__name__ == "isal.isal_zlib"


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_a_peer_with_that_window_inflates_it(window_bits: int) -> None:
    stream, peer = compressor(window_bits, 5), zlib.decompressobj(-window_bits)
    noise = random.Random(window_bits)
    for size in (0, 1, 100, 3_000, 30_000):
        # What comes again is farther away than any window, and nearer.
        data = noise.randbytes(size) + TEXT + noise.randbytes(size) + TEXT
        deflated = flushed(stream, data)
        assert deflated.endswith(TAIL)
        assert peer.decompress(deflated) == data


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_inflates_what_a_peer_deflates(window_bits: int) -> None:
    stream, peer = decompressor(window_bits), zlib.compressobj(wbits=-window_bits)
    for _ in range(3):
        assert stream.decompress(flushed_by(peer, TEXT), 1 << 20) == TEXT
        assert not stream.unconsumed_tail


def flushed_by(peer: "zlib._Compress", data: bytes) -> bytes:
    return peer.compress(data) + peer.flush(zlib.Z_SYNC_FLUSH)


def test_text_becomes_shorter() -> None:
    stream = compressor(12, 5)
    assert len(flushed(stream, TEXT)) < len(TEXT) / 3
    # What was said before is said more shortly.
    assert len(flushed(stream, TEXT[:500])) < 200


def test_no_more_than_is_asked_for() -> None:
    stream = decompressor(12)
    deflated = flushed_by(zlib.compressobj(wbits=-12), bytes(1_000_000))
    assert len(stream.decompress(deflated, 1_001)) == 1_001


def test_what_is_no_deflated_data() -> None:
    with pytest.raises(errors):
        decompressor(12).decompress(b"\xff\xff\xff\xff", 100)


def test_behind_the_last_block() -> None:
    stream = decompressor(15)
    assert stream.decompress(zlib.compress(b"hello", wbits=-15) + b"\0", 100) == b"hello"
    assert stream.eof
    assert stream.unused_data == b"\0"
