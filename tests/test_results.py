"""The values that modules and handlers return or raise, and what may not be sent in a header."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from enum import Enum
from http import HTTPStatus
from typing import Any

import pytest

from wshost.request import Headers, Request
from wshost.results import Accept, Close, Outcome, Reject, Stop, Switch, check_headers

VALUES = [Switch("websocket", b"unread"), Close(b"bye"), Stop("reset"), Accept({"room": 1}, "chat", {"X-Room": "1"})]


class TestValues:
    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_values_can_not_be_changed(self, value: Any) -> None:
        attribute = fields(value)[0].name
        with pytest.raises(FrozenInstanceError):
            setattr(value, attribute, None)

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_values_are_equal_by_content(self, value: Any) -> None:
        assert value == type(value)(*(getattr(value, field.name) for field in fields(value)))

    def test_a_switch_hands_on_nothing_by_default(self) -> None:
        assert Switch("websocket") == Switch("websocket", b"", None)

    def test_a_switch_hands_on_the_request(self) -> None:
        request = Request("GET", "/", "/", "", "a", Headers())
        assert Switch("websocket", request=request).request is request

    def test_a_close_has_no_last_bytes_by_default(self) -> None:
        assert Close().data == b""

    def test_an_accept_names_no_subprotocol_by_default(self) -> None:
        accept = Accept("state")
        assert (accept.state, accept.subprotocol, accept.headers) == ("state", None, {})


class Name(str, Enum):  # noqa: UP042 - what is formatted otherwise
    """Formatted, it is `Name.ROOM`."""

    ROOM = "X-Room"


class TestExactValues:
    """What is made is of exact types, whatever it is made of."""

    @pytest.mark.parametrize("kind", [bytearray, memoryview, type("Bytes", (bytes,), {"__len__": lambda _: 0})])
    @pytest.mark.parametrize("make", [Close, lambda data: Switch("next", data)])
    def test_bytes_become_exact(self, make: Any, kind: Any) -> None:
        value = make(kind(b"data"))
        data = value.unread if isinstance(value, Switch) else value.data
        assert (type(data), data) == (bytes, b"data")

    @pytest.mark.parametrize("data", ["text", None, 7])
    @pytest.mark.parametrize("make", [Close, lambda data: Switch("next", data)])
    def test_what_is_no_bytes_is_a_type_error(self, make: Any, data: Any) -> None:
        with pytest.raises(TypeError, match=f"^bytes are wanted, not {type(data).__name__}$"):
            make(data)

    def test_the_reason_of_a_stop_becomes_an_exact_str(self) -> None:
        assert type(Stop(Name.ROOM).reason) is str
        with pytest.raises(TypeError):
            Stop(None)  # type: ignore[arg-type]

    def test_headers_and_subprotocols_become_exact_strs(self) -> None:
        accept = Accept(None, Name.ROOM, {Name.ROOM: Name.ROOM})
        assert [*map(type, (accept.subprotocol, *accept.headers, *accept.headers.values()))] == [str, str, str]
        assert f"{accept.headers}" == "{'X-Room': 'X-Room'}"

    def test_headers_that_are_changed_later_stay_as_they_were_checked(self) -> None:
        """Changed later, they would not be."""
        headers = {"X": "1"}
        accept = Accept(None, headers=headers)
        headers["X"] = "1\r\nY: 2"
        assert accept.headers == {"X": "1"}

    @pytest.mark.parametrize("headers", [[("X", "1")], 5, "X: 1"])
    @pytest.mark.parametrize(
        "make", [lambda headers: Accept(None, headers=headers), lambda headers: Reject(401, "", headers)]
    )
    def test_headers_that_are_no_mapping_are_a_type_error(self, make: Any, headers: Any) -> None:
        with pytest.raises(
            TypeError, match=f"^headers are a mapping of names to values, not {type(headers).__name__}$"
        ):
            make(headers)


class TestResponseHeaders:
    """RFC 9110 §5.1 and §5.5."""

    @pytest.mark.parametrize("name", ["Server", "x", "!#$%&'*+-.^_`|~09AZaz"])
    def test_a_token_is_a_header_name(self, name: str) -> None:
        assert check_headers({name: "1"}) == {name: "1"}

    @pytest.mark.parametrize("name", ["", " ", "a b", "a:", "é", "a\r\nb", "a\n", "(", "a\0", b"a", None])
    def test_anything_but_a_token_is_no_header_name(self, name: Any) -> None:
        with pytest.raises(ValueError, match="is not a header name"):
            check_headers({name: "1"})

    @pytest.mark.parametrize("value", ["", "a", "a b", "a\tb", "!~", 'W/"1"; q=0.5'])
    def test_visible_characters_with_blanks_between_are_a_header_value(self, value: str) -> None:
        assert check_headers({"x": value}) == {"x": value}

    @pytest.mark.parametrize("value", ["a\r\nb", "a\n", "\r", "\0", "\x7f", "é", " a", "a ", "\ta", " ", b"a", 1, None])
    def test_anything_that_could_break_out_of_its_line_is_no_header_value(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"is not a value for the header x$"):
            check_headers({"x": value})


class TestReject:
    def test_reject_is_403_without_a_body_by_default(self) -> None:
        reject = Reject()
        assert (reject.status, reject.body, reject.headers) == (403, b"", {})

    @pytest.mark.parametrize("status", [300, 599, HTTPStatus.TOO_MANY_REQUESTS])
    def test_reject_takes_statuses_of_300_to_599(self, status: int) -> None:
        assert Reject(status).status == status

    @pytest.mark.parametrize("status", [299, 600, 101, 200, -403, "403", 403.0, None, True])
    def test_reject_takes_no_status_below_300_or_above_599(self, status: Any) -> None:
        with pytest.raises(ValueError, match="is not a status to reject with: 300 to 599"):
            Reject(status)

    def test_a_body_that_is_text_is_utf_8_and_labelled_so(self) -> None:
        reject = Reject(401, "wer da? ☺")
        assert reject.body == "wer da? ☺".encode()
        assert reject.headers == {"Content-Type": "text/plain; charset=utf-8"}

    @pytest.mark.parametrize("body", [b"{}", bytearray(b"{}"), memoryview(b"{}")])
    def test_a_body_of_bytes_is_sent_as_it_is(self, body: bytes) -> None:
        reject = Reject(401, body)
        assert (type(reject.body), reject.body, reject.headers) == (bytes, b"{}", {})

    @pytest.mark.parametrize("name", ["Content-Type", "content-type"])
    def test_a_content_type_of_the_users_stays(self, name: str) -> None:
        headers = {name: "application/json"}
        assert Reject(401, "{}", headers).headers == headers

    @pytest.mark.parametrize("body", [5, None, ["a"]])
    def test_reject_takes_no_body_but_a_str_or_bytes(self, body: Any) -> None:
        with pytest.raises(ValueError, match="is not a body: a str or bytes"):
            Reject(401, body)

    def test_reject_does_not_change_the_headers_it_is_given(self) -> None:
        headers = {"Location": "/login"}
        reject = Reject(303, "", headers)
        assert headers == {"Location": "/login"}
        assert reject.headers["Location"] == "/login"

    def test_reject_takes_no_header_that_would_split_the_response(self) -> None:
        with pytest.raises(ValueError, match="is not a value for the header Location"):
            Reject(303, "", {"Location": "/\r\nSet-Cookie: admin=1"})

    def test_reject_shows_its_status(self) -> None:
        assert str(Reject(429)) == "429"


def test_accept_takes_no_header_that_would_split_the_response() -> None:
    with pytest.raises(ValueError, match="is not a value for the header X"):
        Accept(None, headers={"X": "1\r\n\r\n"})


def test_only_a_message_that_was_written_is_true() -> None:
    assert [outcome for outcome in Outcome if outcome] == [Outcome.WRITTEN]
