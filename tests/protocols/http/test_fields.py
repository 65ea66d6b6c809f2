from __future__ import annotations

import random

import pytest

from wshost.protocols.http.fields import split

LINE = b"GET /chat?a=1 HTTP/1.1\r\n"


def test_a_head_is_split_into_its_parts() -> None:
    head = LINE + b"Host: example.com\r\nX-A:\t a, b \t\r\nCookie: a=1\r\nx-a:c\r\ncookie: b=2\r\nX-Empty:\r\n\r\n"
    assert split(head, 100) == (
        "GET",
        "/chat?a=1",
        True,
        {"host": "example.com", "x-a": "a, b, c", "cookie": "a=1; b=2", "x-empty": ""},
        6,
        ("x-a", "cookie"),
        1,
        True,
    )


def test_names_are_lower_case_however_long_they_are() -> None:
    names = [b"X-" + b"A" * length for length in (1, 61, 62, 63, 64, 200)]
    parts = split(LINE + b"".join(name + b": 1\r\n" for name in names) + b"\r\n", 100)
    assert parts is not None
    assert list(parts[3]) == [name.decode().lower() for name in names]


def test_a_head_may_have_no_fields() -> None:
    assert split(b"OPTIONS * HTTP/1.0\r\n\r\n", 100) == ("OPTIONS", "*", False, {}, 0, (), 0, True)


def test_bytes_beyond_ascii_are_decoded_as_latin_1() -> None:
    parts = split(LINE + b"X-A: \xe9\xff\r\n\r\n", 100)
    assert parts is not None
    assert (parts[3], parts[7]) == ({"x-a": "\xe9\xff"}, False)


@pytest.mark.parametrize(("most", "names"), [(0, []), (1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"])])
def test_more_lines_than_asked_for_are_only_counted(most: int, names: list[str]) -> None:
    parts = split(LINE + b"A: 1\r\nB: 2,\r\nA: 3\r\n\r\n", most)
    assert parts is not None
    assert (list(parts[3]), parts[4], parts[6]) == (names, 3, 1)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n",
        b"GET",
        b"GET /",
        b"GET  HTTP/1.1\r\n\r\n",
        b" / HTTP/1.1\r\n\r\n",
        b"GET /#a HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET / HTTP/2.1\r\n\r\n",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\n\r",
        b"GET / HTTP/1.1\n\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nmore",
        LINE + b"A\r\n\r\n",
        LINE + b"A : 1\r\n\r\n",
        LINE + b": 1\r\n\r\n",
        LINE + b" A: 1\r\n\r\n",
        LINE + b"\xe9: 1\r\n\r\n",
        LINE + b"A: 1\n\r\n",
        LINE + b"A: 1\rB: 2\r\n\r\n",
        LINE + b"A: 1\x00\r\n\r\n",
        LINE + b"A: \x7f\r\n\r\n",
        LINE + b"A: 1",
        LINE + b"A: 1\r",
        LINE + b"A: 1\r\n",
        LINE + b"A: 1\r\n\rx",
    ],
)
def test_a_malformed_head_has_no_parts(head: bytes) -> None:
    assert split(head, 100) is None


def plain(head: bytes) -> tuple[str, str, list[tuple[str, str]]] | None:
    """RFC 9112, to the letter, octet by octet."""
    token = b"!#$%&'*+.^_`|~-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if not head.endswith(b"\r\n\r\n"):
        return None
    first, *lines = head[:-4].split(b"\r\n")
    match first.split(b" "):
        case [method, target, (b"HTTP/1.0" | b"HTTP/1.1")] if method and target:
            if any(octet not in token for octet in method) or any(
                not 0x21 <= octet <= 0x7E or octet == 0x23 for octet in target
            ):
                return None
        case _:
            return None
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not name or not colon or any(octet not in token for octet in name):
            return None
        if any((octet < 0x20 and octet != 0x09) or octet == 0x7F for octet in value):
            return None
        found.append((name.decode().lower(), value.strip(b" \t").decode("latin-1")))
    return method.decode(), target.decode(), found


def test_random_changes_of_a_head_are_judged_to_the_letter() -> None:
    rng = random.Random(1)
    pieces = [b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\x80", b",", b"A: b\r\n", b"#", b"HTTP/1.0"]
    good = LINE + b"Host: a\r\nX-B: c , d\r\nUpgrade: websocket\r\n\r\n"
    kinds = set()
    for _ in range(20_000):
        head = bytearray(good)
        for _ in range(rng.choice((0, 1, 1, 2))):
            at = rng.randrange(len(head) + 1)
            head[at : at + rng.choice((0, 0, 1, 3))] = rng.choice(pieces)
        parts, expected = split(bytes(head), 100), plain(bytes(head))
        kinds.add(parts is None)
        if parts is None:
            assert expected is None, head
            continue
        assert expected is not None, head
        method, target, found = expected
        assert (parts[0], parts[1], parts[4]) == (method, target, len(found)), head
        for name, value in found:
            assert value in parts[3][name], head
    assert kinds == {True, False}
