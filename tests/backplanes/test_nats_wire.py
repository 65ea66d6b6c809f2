from __future__ import annotations

import json
from typing import Any

import pytest

from wshost.backplanes.nats_wire import (
    CONTROL_LINE,
    HEADS,
    INFO_LINE,
    MAX_PAYLOAD,
    PING,
    PONG,
    ROOM,
    Parser,
    WireError,
    connect,
    pub,
    sub,
    unsub,
)

#: All that a server sends.
STREAM = (
    b'INFO {"max_payload": 1048576}\r\n'
    b"+OK\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"MSG a.b 1 5\r\nagain\r\n"
    b"PING\r\n"
    b"MSG a.c 2 reply.to 4\r\n\r\n\r\n\r\n"
    b"MSG a 3 0\r\n\r\n"
    b"HMSG a.h 4 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
    b"HMSG a.h 4 reply 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    b"PONG\r\n"
    b"msg\ta 3 1\r\nx\r\n"
    b"-ERR 'Slow Consumer'\r\n"
)
READ = [
    ("INFO", {"max_payload": 1048576}),
    ("+OK", None),
    ("a.b", b"hello"),
    ("a.b", b"again"),
    ("PING", None),
    ("a.c", b"\r\n\r\n"),
    ("a", b""),
    ("a.h", b"hello"),
    ("a.h", b""),
    ("PONG", None),
    ("a", b"x"),
    ("-ERR", "Slow Consumer"),
]


def parser() -> tuple[Parser, list[tuple[str, Any]]]:
    """A parser, and the list of what it will read."""
    read: list[tuple[str, Any]] = []
    return Parser(lambda *what: read.append(what), lambda *what: read.append(what)), read


class TestReading:
    def test_all_that_a_server_sends_is_read(self) -> None:
        reader, read = parser()
        reader.feed(STREAM)
        assert read == READ

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
    def test_bytes_may_be_cut_anywhere(self, size: int) -> None:
        reader, read = parser()
        for start in range(0, len(STREAM), size):
            reader.feed(STREAM[start : start + size])
        assert read == READ

    def test_bytes_may_be_cut_once_anywhere(self) -> None:
        for cut in range(1, len(STREAM)):
            reader, read = parser()
            reader.feed(STREAM[:cut])
            reader.feed(STREAM[cut:])
            assert read == READ

    def test_a_large_payload_comes_in_many_pieces(self) -> None:
        reader, read = parser()
        payload = bytes(range(256)) * 4096
        data = b"MSG a 1 %d\r\n%b\r\nPING\r\n" % (len(payload), payload)
        for start in range(0, len(data), 10_000):
            reader.feed(data[start : start + 10_000])
        assert read == [("a", payload), ("PING", None)]

    def test_heads_that_are_never_the_same_are_forgotten(self) -> None:
        reader, read = parser()
        for number in range(2 * HEADS + 1):
            reader.feed(b"MSG a.%d 1 1\r\nx\r\n" % number)
        assert len(read) == 2 * HEADS + 1
        assert len(reader._heads) <= HEADS


class TestBadBytes:
    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n", "b'HTTP/1.1 400 Bad Request' is nothing that NATS sends"),
            (b"\r\n", "b'' is nothing that NATS sends"),
            (b"PINGPONG\r\n", "b'PINGPONG' is nothing that NATS sends"),
            (b"MSG a 1\r\n", "b'MSG a 1' is no head of a message"),
            (b"MSG a 1 -1\r\n", "b'MSG a 1 -1' is no head of a message"),
            (b"MSG a 1 1\r\nxyz", "a payload does not end where its head says"),
            (b"HMSG a 1 1\r\n", "b'HMSG a 1 1' is no head of a message"),
            (b"HMSG a 1 2 1\r\n", "a message of 1 bytes is too large, or its 2 bytes of headers are"),
            (
                b"MSG a 1 %d\r\n" % (MAX_PAYLOAD + ROOM + 1),
                "a message of 9437185 bytes is too large, or its 0 bytes of headers are",
            ),
            (b"MSG a 1 9999999999\r\n", "b'MSG a 1 9999999999' is no head of a message"),
            (b"INFO {\r\n", "INFO is no JSON"),
            (b"INFO " + b"[" * 50_000 + b"\r\n", "INFO is no JSON"),
            (b"INFO []\r\n", "INFO is no object of JSON"),
            (b"x" * (CONTROL_LINE + 1), "a line of 4097 bytes is too long"),
            (b"x" * (CONTROL_LINE + 1) + b"\r\n", "a line of 4097 bytes is too long"),
            (b"INFO" + b" " * INFO_LINE, "a line of 65540 bytes is too long"),
        ],
    )
    def test_what_no_server_sends_is_an_error_of_one_line(self, data: bytes, error: str) -> None:
        reader, read = parser()
        with pytest.raises(WireError) as raised:
            reader.feed(data)
        assert (str(raised.value), read) == (error, [])

    def test_a_long_info_is_read(self) -> None:
        reader, read = parser()
        reader.feed(b'INFO {"a": "%b"}\r\n' % (b"x" * 3 * CONTROL_LINE))
        assert [name for name, _ in read] == ["INFO"]

    def test_a_text_that_is_not_utf_8_is_read_all_the_same(self) -> None:
        reader, read = parser()
        reader.feed(b"MSG \xff 1 0\r\n\r\n-ERR '\xff'\r\n")
        assert read == [("\ufffd", b""), ("-ERR", "\ufffd")]


class TestWriting:
    def test_commands_are_lines(self) -> None:
        assert pub("a.b", b"\r\n") == b"PUB a.b 2\r\n\r\n\r\n"
        assert sub("a.*", 7) == b"SUB a.* 7\r\n"
        assert unsub(7) == b"UNSUB 7\r\n"
        assert (PING, PONG) == (b"PING\r\n", b"PONG\r\n")

    def test_connect_is_one_line_of_json(self) -> None:
        line = connect({"name": "a\r\nb", "echo": False})
        assert line.startswith(b"CONNECT {")
        assert line.count(b"\r\n") == 1
        assert json.loads(line[8:]) == {"name": "a\r\nb", "echo": False}
