"""The oracles accept what is right, and find what is not."""

from __future__ import annotations

import zlib

import pytest

from torture import oracles
from torture.fuzzing import PARTS
from torture.oracles import ORACLES
from torture.peers import TEXT, frame, head

COMPRESSED = zlib.compress(b"hello", wbits=-15)
V1, V2 = b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
RECORD = b"\x17\x03\x03\x00\x01x"

INPUTS = [
    ("head", b""),
    ("head", b"GET / HTTP/1.1\r\n\r\n"),
    ("head", b"\xffX-A: b\r\n"),
    ("head", b"\x85\x00\n"),
    ("frames", frame(TEXT, b"hello") * 2),
    ("frames", frame(TEXT, b"hel", fin=False) + frame(0, b"lo")),
    ("frames", head(TEXT, 4_097)),
    ("frames", b"\xff" * 20),
    ("deflate", COMPRESSED),
    ("deflate", b"\xff" * 20),
    ("PROXY", V1),
    ("PROXY", b"\x81" + V2[12:]),
    ("PROXY", b"\x41" + V1[6:]),
    ("TLS records", RECORD * 3),
    ("TLS records", RECORD + b"\x17\x03"),
    ("TLS records", b"garbage"),
]


def test_each_part_has_an_oracle() -> None:
    assert list(PARTS) == list(ORACLES)


@pytest.mark.parametrize(("part", "data"), INPUTS)
def test_an_oracle_accepts_what_is_handled_alike(part: str, data: bytes) -> None:
    for cut in range(len(data) + 1):
        ORACLES[part](data, cut)


def test_a_difference_is_found() -> None:
    oracles.same((b"a", True), (b"a", True))
    with pytest.raises(AssertionError, match=r"\(b'a', True\) is not \(b'a', False\)"):
        oracles.same((b"a", True), (b"a", False))


def test_a_handler_that_sees_how_bytes_arrive_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second answer differs from the first."""

    class Counting:
        count = 0

        def init(self, options: object) -> None:
            type(self).count += 1

        def handle(self, message: tuple[str, str], state: None) -> tuple[str, str, None]:
            return ("reply", str(self.count), state)

    monkeypatch.setattr(oracles, "echo", Counting())
    with pytest.raises(AssertionError, match="is not"):
        ORACLES["frames"](frame(TEXT, b"hello"), 3)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("end_of_records", lambda data, start: len(data) + 1),
        ("end_of_records", lambda data, start: 6 - len(data)),
        ("count_records", lambda data: -1),
    ],
)
def test_wrong_bounds_of_records_are_found(monkeypatch: pytest.MonkeyPatch, name: str, wrong: object) -> None:
    monkeypatch.setattr(oracles, name, wrong)
    with pytest.raises(AssertionError):
        ORACLES["TLS records"](RECORD, 2)


def test_a_proxy_header_that_changes_with_more_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracles, "parse", len)
    with pytest.raises(AssertionError, match="5 became"):
        ORACLES["PROXY"](V1, 5)
