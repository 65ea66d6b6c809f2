from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any, NamedTuple

import pytest

from wshost.handlers.answers import FORMS, WrongAnswer, read

STATE = object()


class Command(StrEnum):
    STOP = "stop"


class Form(str, Enum):  # noqa: UP042 - what is formatted otherwise
    REPLY = "reply"


class Always:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Ping(NamedTuple):
    kind: str
    state: Any


class TestEveryForm:
    """docs/handlers.md, "returned"."""

    @pytest.mark.parametrize(
        ("answer", "actions"),
        [
            (("noreply", STATE), []),
            (("reply", "text", STATE), [("send", "text")]),
            (("reply", "", STATE), [("send", "")]),
            (("reply", Command.STOP, STATE), [("send", "stop")]),
            (("reply", b"binary", STATE), [("send", b"binary")]),
            (("reply", bytearray(b"binary"), STATE), [("send", b"binary")]),
            (("reply", memoryview(b"binary")[1:3], STATE), [("send", b"in")]),
            (("reply", ["a", b"b", bytearray(b"c")], STATE), [("send", "a"), ("send", b"b"), ("send", b"c")]),
            (("reply", ("a", "b"), STATE), [("send", "a"), ("send", "b")]),
            (("reply", [], STATE), []),
            (("ping", STATE), [("ping", b"")]),
            (("ping", "é", STATE), [("ping", b"\xc3\xa9")]),
            (("ping", b"x" * 125, STATE), [("ping", b"x" * 125)]),
            (("pong", STATE), [("pong", b"")]),
            (("pong", "data", STATE), [("pong", b"data")]),
            (("pong", bytearray(b"data"), STATE), [("pong", b"data")]),
            (("close", STATE), [("close", 1000, "Normal close")]),
            (("close", 4000, "bye", STATE), [("close", 4000, "bye")]),
            (("close", None, "", STATE), [("close", None, "")]),
            (Ping("ping", STATE), [("ping", b"")]),
        ],
    )
    def test_asks_for_its_frames(self, answer: Any, actions: list[tuple[Any, ...]]) -> None:
        read_actions, state = read(answer)
        assert read_actions == actions
        assert state is STATE

    @pytest.mark.parametrize("form", ["reply", Form.REPLY])
    def test_of_a_subclass_is_what_it_holds(self, form: str) -> None:
        class Lying(tuple[Any, ...]):
            def __len__(self) -> int:
                return 2

        actions, state = read(Lying((form, Form.REPLY, STATE)))
        assert (actions, type(actions[0][1]), state) == ([("send", "reply")], str, STATE)

    @pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
    def test_data_that_can_change_is_copied(self, data: Any) -> None:
        for answer in (("reply", data, None), ("reply", [data], None), ("ping", data, None)):
            ((_, copy),), _ = read(answer)
            assert type(copy) is bytes

    @pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
    def test_a_code_that_may_be_sent_is(self, code: int) -> None:
        """RFC 6455 §7.4."""
        assert read(("close", code, "", None)) == ([("close", code, "")], None)

    @pytest.mark.parametrize(
        ("reason", "cut"), [("x" * 200, "x" * 123), ("é" * 62, "é" * 61), ("x" * 121 + "€", "x" * 121)]
    )
    def test_a_long_reason_is_cut_between_characters(self, reason: str, cut: str) -> None:
        """RFC 6455 §5.5: a control frame has at most 125 bytes."""
        assert read(("close", 1000, reason, None)) == ([("close", 1000, cut)], None)


class TestAnythingElse:
    @pytest.mark.parametrize(
        "answer",
        [
            None,
            "reply",
            {"reply": 1},
            [],
            (),
            ("reply",),
            ["reply", "a list is no tuple", None],
            ("reply", "no state"),
            ("reply", "a", "b", None),
            ("noreply",),
            ("noreply", 1, 2),
            ("close", 1000, None),
            ("close", None, None),
            ("repyl", "data", None),
            ("ok", None),
            (1, None),
        ],
    )
    def test_is_wrong_and_told_what_is_right(self, answer: Any) -> None:
        with pytest.raises(WrongAnswer) as caught:
            read(answer)
        assert str(caught.value) == f"handle returned {answer!r}: that is none of {FORMS}"

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            (("reply", 5, None), "5 is no message: a str, bytes, or a list of these"),
            (("reply", None, None), "None is no message: a str, bytes, or a list of these"),
            (("reply", ["a", 5], None), "5 is no message: a str, bytes, or a list of these"),
            (("reply", [["a"]], None), "['a'] is no message: a str, bytes, or a list of these"),
            (("reply", "\ud800", None), "surrogates not allowed"),
            (("reply", ["a", "\ud800"], None), "surrogates not allowed"),
            (("ping", 5, None), "the payload of a ping or pong is a str or bytes, not int"),
            (("pong", "é" * 63, None), "the payload of a ping or pong has at most 125 bytes, not 126"),
            (("ping", "\ud800", None), "surrogates not allowed"),
            (("close", "1000", "", None), "'1000' is not a close code"),
            (("close", True, "", None), "True is not a close code"),
            (("close", None, "bye", None), "'bye' can't be the reason of a Close without a code"),
            (("close", 1000, b"bytes", None), "b'bytes' is not a close reason"),
            (("close", 1000, "\ud800", None), "surrogates not allowed"),
        ],
    )
    def test_wrong_data_is_told_what_is_right(self, answer: Any, problem: str) -> None:
        with pytest.raises(WrongAnswer) as caught:
            read(answer)
        assert str(caught.value).startswith("handle returned (")
        assert problem in str(caught.value)

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
    def test_a_code_that_may_not_be_sent_is_refused(self, code: int) -> None:
        """RFC 6455 §7.4: some are for what was never sent, some for nobody."""
        with pytest.raises(WrongAnswer, match=f"{code} is not a close code to send: 1000-1003, 1007-1014, 3000-4999"):
            read(("close", code, "", None))

    def test_is_what_equals_a_form_and_is_no_str(self) -> None:
        with pytest.raises(WrongAnswer, match="that is none of"):
            read((Always(), None))

    def test_is_shown_shortened(self) -> None:
        with pytest.raises(WrongAnswer) as caught:
            read(("reply", 5, {"state": ["x" * 10_000] * 1_000}))
        assert len(str(caught.value)) < 200

    def test_is_shown_even_when_it_has_no_repr(self) -> None:
        class Mute:
            def __repr__(self) -> str:
                raise LookupError

        with pytest.raises(WrongAnswer, match="handle returned <Mute instance at"):
            read(Mute())
