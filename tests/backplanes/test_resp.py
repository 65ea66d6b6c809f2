from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from wshost.backplanes.resp import (
    MAX_DEPTH,
    MAX_LINE,
    MAX_VALUES,
    BadReply,
    ErrorReply,
    Parser,
    Push,
    command,
    message_head,
)

LARGEST = 100_000


class Read:
    """A parser, and what it has passed on."""

    def __init__(self, subjects: Mapping[bytes, str] | None = None, missing: str | None = "") -> None:
        self.passed: list[Any] = []
        self.asked: list[bytes] = []
        self._missing = missing
        self.parser = Parser(subjects or {}, self._resolve, self._message, self.passed.append, LARGEST)
        self.after: Callable[[], object] = lambda: None

    def _resolve(self, head: bytes) -> str | None:
        self.asked.append(head)
        return self._missing

    def _message(self, subject: str, payload: bytes) -> None:
        self.passed.append((subject, payload))
        self.after()

    def feed(self, data: bytes, size: int = 0) -> list[Any]:
        """Feed these bytes, cut in pieces of this size."""
        for at in range(0, len(data), size or len(data)):
            self.parser.feed(data[at : at + (size or len(data))])
        return self.passed


def read(data: bytes) -> list[Any]:
    return Read().feed(data)


def message(channel: str, payload: bytes, kind: str = "message", pattern: str | None = None) -> bytes:
    words = [kind, channel] if pattern is None else [kind, pattern, channel]
    return b">" + command(*words, payload)[1:]


SUBJECTS = {
    message_head("message", "a.b"): "a.b",
    message_head("smessage", "a.s"): "a.s",
    message_head("pmessage", "a.*", "a.x"): "a.x",
}
#: All that comes in the life of a connection, and what is passed on of it.
STREAM = (
    b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
    b">3\r\n$9\r\nsubscribe\r\n$3\r\na.b\r\n:1\r\n"
    b":1\r\n:0\r\n"
    + message("a.b", b"one")
    + message("a.b", b"")
    + b":12\r\n"
    + message("a.b", b"\r\n>3\r\n$7\r\nmessage\r\n")
    + b"-NOPERM not you\r\n"
    + message("a.s", b"two", "smessage")
    + message("a.x", b"three" * 30, "pmessage", "a.*")
    + message("other", b"four")
    + b"+PONG\r\n"
)
PASSED = [
    [b"server", b"redis", b"proto", 3],
    [b"subscribe", b"a.b", 1],
    ("a.b", b"one"),
    ("a.b", b""),
    ("a.b", b"\r\n>3\r\n$7\r\nmessage\r\n"),
    "NOPERM not you",
    ("a.s", b"two"),
    ("a.x", b"three" * 30),
    b"PONG",
]


class TestCommands:
    def test_a_command_is_an_array_of_binary_strings(self) -> None:
        assert command("PUBLISH", "ä", b"\r\n") == b"*3\r\n$7\r\nPUBLISH\r\n$2\r\n\xc3\xa4\r\n$2\r\n\r\n\r\n"

    def test_the_head_of_a_message_goes_from_its_kind_to_its_channel(self) -> None:
        assert message_head("message", "a.b") == b"3\r\n$7\r\nmessage\r\n$3\r\na.b"
        assert message_head("pmessage", "a.*", "a.b") == b"4\r\n$8\r\npmessage\r\n$3\r\na.*\r\n$3\r\na.b"


class TestCuts:
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 7, 11, 64, 100])
    def test_bytes_may_be_cut_anywhere(self, size: int) -> None:
        assert Read(SUBJECTS).feed(STREAM, size) == PASSED

    @pytest.mark.parametrize("at", range(1, len(STREAM)))
    def test_every_cut_in_two_gives_the_same(self, at: int) -> None:
        one = Read(SUBJECTS)
        one.parser.feed(STREAM[:at])
        one.parser.feed(STREAM[at:])
        assert one.passed == PASSED

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
    def test_values_within_values_may_be_cut_anywhere(self, size: int) -> None:
        data = b"*4\r\n*-1\r\n|1\r\n+a\r\n+b\r\n%1\r\n$-1\r\n~0\r\n=6\r\ntxt:\r\n\r\n*1\r\n!2\r\nno\r\n"
        assert Read().feed(data * 2, size) == [[None, [None, []], b"\r\n", ["no"]]] * 2

    def test_a_reply_of_very_many_values_may_come_in_many_reads(self) -> None:
        """The time for it grows with its length, not with the square of it."""
        data = b"*50000\r\n" + b"*2\r\n:1\r\n$2\r\nab\r\n" * 50_000
        assert Read().feed(data, 20_000) == [[[1, b"ab"]] * 50_000]

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"*2\r\n:one\r\n:1\r\n", "is not RESP3"),
            (b"*2\r\n$one\r\n:1\r\n", "is not a length"),
            (b"*2\r\n$100001\r\n", "a string has 100001 bytes"),
            (b"*2\r\n+" + b"a" * MAX_LINE, "a line is too long"),
            (b"*1\r\n" * (MAX_DEPTH + 1) + b":1\r\n", "nested too deeply"),
        ],
    )
    def test_what_is_wrong_is_refused_when_it_is_cut_too(self, data: bytes, why: str) -> None:
        with pytest.raises(BadReply, match=why):
            Read().feed(data, 3)

    def test_a_large_payload_comes_in_many_reads(self) -> None:
        one = Read(SUBJECTS)
        data = message("a.b", b"x" * LARGEST)
        assert one.feed(data + data, 4_096) == [("a.b", b"x" * LARGEST)] * 2


class TestMessages:
    def test_the_subject_of_an_unknown_head_is_asked_for(self) -> None:
        one = Read(missing="a.y")
        assert one.feed(message("a.y", b"1", "pmessage", "a.*")) == [("a.y", b"1")]
        assert one.asked == [message_head("pmessage", "a.*", "a.y")]

    def test_a_message_that_is_not_wanted_is_left_out(self) -> None:
        assert Read(missing="").feed(message("a", b"1") + b"+OK\r\n") == [b"OK"]

    def test_a_message_whose_head_is_cut_wrongly_is_read_as_any_other(self) -> None:
        """A channel may have newlines, which no subject has."""
        data = message("a\r\n$1\r\nb", b"1", "pmessage", "a*")
        assert Read(missing=None).feed(data) == [[b"pmessage", b"a*", b"a\r\n$1\r\nb", b"1"]]

    def test_a_parser_that_is_stopped_passes_nothing_on(self) -> None:
        one = Read(SUBJECTS)
        one.after = one.parser.stop
        one.feed(message("a.b", b"1") + message("a.b", b"2"))
        assert one.feed(message("a.b", b"3")) == [("a.b", b"1")]

    def test_a_message_that_is_too_large_is_refused_before_it_has_come(self) -> None:
        with pytest.raises(BadReply, match="a message has 100001 bytes: at most 100000 are read"):
            Read(SUBJECTS).feed(b">3\r\n$7\r\nmessage\r\n$3\r\na.b\r\n$100001\r\n")


class TestReplies:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            (b"$-1\r\n", None),
            (b"*-1\r\n", None),
            (b"_\r\n", None),
            (b"$0\r\n\r\n", b""),
            (b"$2\r\n\r\n\r\n", b"\r\n"),
            (b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n", [1, [b"a"]]),
            (b"~1\r\n#t\r\n", [True]),
            (b"*1\r\n#f\r\n", [False]),
            (b",1.5\r\n", 1.5),
            (b",inf\r\n", float("inf")),
            (b"(12345678901234567890\r\n", 12345678901234567890),
            (b"!5\r\nERR a\r\n", "ERR a"),
            (b"=5\r\ntxt:a\r\n", b"a"),
            (b"|1\r\n+ttl\r\n:3\r\n+OK\r\n", b"OK"),
            (b"%0\r\n", []),
        ],
    )
    def test_a_reply_of_each_type_is_read(self, data: bytes, value: object) -> None:
        assert read(data) == [value]

    def test_an_error_has_a_code(self) -> None:
        (error,) = read(b"-NOPERM not you\r\n")
        assert isinstance(error, ErrorReply)
        assert error.code == "NOPERM"

    def test_what_comes_unasked_is_told_from_replies(self) -> None:
        push, reply = read(b">1\r\n+a\r\n*1\r\n+a\r\n")
        assert isinstance(push, Push)
        assert not isinstance(reply, Push)

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\x15\x03\x01\x00\x02\x02\r\n",
            b"\r\n",
            b":one\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"*1000000000000000\r\n",
            b"*1\r\n:one\r\n",
        ],
    )
    def test_bytes_that_are_not_resp_are_refused(self, data: bytes) -> None:
        with pytest.raises(BadReply, match="is not"):
            read(data)

    def test_a_string_that_is_too_large_is_refused(self) -> None:
        with pytest.raises(BadReply, match="a string has 100001 bytes: at most 100000 are read"):
            read(b"$100001\r\n")

    def test_a_line_has_a_largest_length(self) -> None:
        assert read(b"+" + b"a" * (MAX_LINE - 3) + b"\r\n") == [b"a" * (MAX_LINE - 3)]
        with pytest.raises(BadReply, match="a line is too long"):
            read(b"+" + b"a" * MAX_LINE)

    def test_values_may_not_lie_too_deep_in_each_other(self) -> None:
        assert len(read(b"*1\r\n" * MAX_DEPTH + b":1\r\n")) == 1
        with pytest.raises(BadReply, match="nested too deeply"):
            read(b"*1\r\n" * (MAX_DEPTH + 1) + b":1\r\n")

    def test_a_reply_may_not_have_too_many_values(self) -> None:
        with pytest.raises(BadReply, match="too many values"):
            read(b"*%d\r\n" % MAX_VALUES + b"_\r\n" * MAX_VALUES)
