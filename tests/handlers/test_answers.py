from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any, NamedTuple

import pytest

from wshost.handlers.answers import FORMS, Action, Close, Ping, Pong, Reply, WrongAnswer, parse

STATE = object()


class Command(StrEnum):
    STOP = "stop"


class Form(str, Enum):  # noqa: UP042 - what is formatted otherwise
    REPLY = "reply"


class Always:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Named(NamedTuple):
    kind: str
    state: Any


class TestAnAnswer:
    """docs/handlers.md, "returned"."""

    @pytest.mark.parametrize(
        ("answer", "action"),
        [
            (("noreply", STATE), Reply(())),
            (("reply", "text", STATE), Reply(("text",))),
            (("reply", "", STATE), Reply(("",))),
            (("reply", Command.STOP, STATE), Reply(("stop",))),
            (("reply", b"binary", STATE), Reply((b"binary",))),
            (("reply", bytearray(b"binary"), STATE), Reply((b"binary",))),
            (("reply", memoryview(b"binary")[1:3], STATE), Reply((b"in",))),
            (("reply", ["a", b"b", bytearray(b"c")], STATE), Reply(("a", b"b", b"c"))),
            (("reply", ("a", "b"), STATE), Reply(("a", "b"))),
            (("reply", [], STATE), Reply(())),
            (("ping", STATE), Ping(b"")),
            (("ping", "é", STATE), Ping(b"\xc3\xa9")),
            (("ping", b"x" * 125, STATE), Ping(b"x" * 125)),
            (("pong", STATE), Pong(b"")),
            (("pong", "data", STATE), Pong(b"data")),
            (("pong", bytearray(b"data"), STATE), Pong(b"data")),
            (("close", STATE), Close(1000, "Normal close")),
            (("close", 4000, "bye", STATE), Close(4000, "bye")),
            (("close", None, "", STATE), Close(None, "")),
            (Named("ping", STATE), Ping(b"")),
        ],
    )
    def test_an_answer_is_parsed_to_one_action_and_the_state(self, answer: Any, action: Action) -> None:
        parsed, state = parse(answer)
        assert parsed == action
        assert state is STATE

    @pytest.mark.parametrize("form", ["reply", Form.REPLY])
    def test_an_answer_of_a_subclass_counts_by_what_it_holds(self, form: str) -> None:
        class Lying(tuple[Any, ...]):
            def __len__(self) -> int:
                return 2

        action, state = parse(Lying((form, Form.REPLY, STATE)))
        assert isinstance(action, Reply)
        assert (action.messages, type(action.messages[0]), state) == (("reply",), str, STATE)

    @pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
    def test_data_that_can_change_is_copied(self, data: Any) -> None:
        for answer in (("reply", data, None), ("reply", [data], None)):
            action, _ = parse(answer)
            assert isinstance(action, Reply)
            assert type(action.messages[0]) is bytes
        action, _ = parse(("ping", data, None))
        assert isinstance(action, Ping)
        assert type(action.payload) is bytes

    @pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
    def test_close_takes_every_code_that_may_be_sent(self, code: int) -> None:
        """RFC 6455 §7.4."""
        assert parse(("close", code, "", None)) == (Close(code, ""), None)

    @pytest.mark.parametrize(
        ("reason", "cut"), [("x" * 200, "x" * 123), ("é" * 62, "é" * 61), ("x" * 121 + "€", "x" * 121)]
    )
    def test_a_long_reason_is_cut_between_characters(self, reason: str, cut: str) -> None:
        """RFC 6455 §5.5: a control frame has at most 125 bytes."""
        assert parse(("close", 1000, reason, None)) == (Close(1000, cut), None)


class TestAWrongAnswer:
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
    def test_an_answer_of_no_known_form_is_told_all_forms(self, answer: Any) -> None:
        with pytest.raises(WrongAnswer) as caught:
            parse(answer)
        assert str(caught.value) == f"handle returned {answer!r}: that is none of {FORMS}"

    @pytest.mark.parametrize(
        ("answer", "problem"),
        [
            (("reply", 5, None), "a message is a str or bytes, not int"),
            (("reply", None, None), "a message is a str or bytes, not NoneType"),
            (("reply", ["a", 5], None), "a message is a str or bytes, not int"),
            (("reply", [["a"]], None), "a message is a str or bytes, not list"),
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
    def test_an_answer_with_wrong_data_is_told_what_is_right(self, answer: Any, problem: str) -> None:
        with pytest.raises(WrongAnswer) as caught:
            parse(answer)
        assert str(caught.value).startswith("handle returned (")
        assert problem in str(caught.value)

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
    def test_a_code_that_may_not_be_sent_is_wrong(self, code: int) -> None:
        """RFC 6455 §7.4: some are for what was never sent, some for nobody."""
        with pytest.raises(WrongAnswer, match=f"{code} is not a close code to send: 1000-1003, 1007-1014, 3000-4999"):
            parse(("close", code, "", None))

    def test_a_form_that_equals_every_str_but_is_none_is_wrong(self) -> None:
        with pytest.raises(WrongAnswer, match="that is none of"):
            parse((Always(), None))

    def test_a_long_answer_is_shown_shortened(self) -> None:
        with pytest.raises(WrongAnswer) as caught:
            parse(("reply", 5, {"state": ["x" * 10_000] * 1_000}))
        assert len(str(caught.value)) < 200

    def test_an_answer_without_a_repr_is_shown(self) -> None:
        class Mute:
            def __repr__(self) -> str:
                raise LookupError

        with pytest.raises(WrongAnswer, match="handle returned <Mute instance at"):
            parse(Mute())
