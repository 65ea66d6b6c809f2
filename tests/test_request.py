"""What handlers see of a request: header fields, and the values around them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from wshost.request import TLS, TOKEN, ConnectionInfo, Headers, Request, fields_of, headers_of, traceparent


@pytest.mark.parametrize(
    ("text", "is_token"),
    [
        ("GET", True),
        ("!#$%&'*+-.^_`|~09AZaz", True),
        ("", False),
        *((f"a{character}", False) for character in '\0\t\r\n "(),/:;<=>?@[\\]{}\x7fé'),
    ],
)
def test_a_token_is_what_rfc_9110_5_6_2_says(text: str, is_token: bool) -> None:
    assert bool(TOKEN.fullmatch(text)) is is_token


class TestHeaders:
    """RFC 9110 §5."""

    @pytest.mark.parametrize("name", ["X-Id", "x-id", "X-ID"])
    def test_headers_are_found_in_any_case(self, name: str) -> None:
        headers = Headers([("x-Id", "1")])
        assert headers[name] == "1"
        assert name in headers
        assert headers.get(name) == "1"

    def test_a_header_that_is_absent_is_a_key_error(self) -> None:
        headers = Headers()
        with pytest.raises(KeyError):
            headers["x-id"]
        assert "x-id" not in headers
        assert headers.get("x-id") is None

    def test_headers_are_a_mapping_of_lower_case_names(self) -> None:
        headers = Headers([("Host", "a"), ("X-Id", "1")])
        assert len(headers) == 2
        assert list(headers) == ["host", "x-id"]
        assert headers == {"host": "a", "x-id": "1"}

    def test_headers_that_come_twice_are_joined_to_one_list(self) -> None:
        """RFC 9110 §5.3."""
        headers = Headers([("Accept", "a"), ("X", "1"), ("ACCEPT", "b, c"), ("accept", "d")])
        assert headers == {"accept": "a, b, c, d", "x": "1"}

    def test_cookies_that_come_twice_are_one_cookie_string(self) -> None:
        """RFC 6265 §5.4; more than one field is legal since RFC 9113 §8.2.3."""
        assert Headers([("Cookie", "a=1"), ("cookie", "b=2")])["Cookie"] == "a=1; b=2"

    def test_headers_show_their_fields(self) -> None:
        assert repr(Headers([("Host", "a")])) == "Headers([('host', 'a')])"


class TestListFields:
    """RFC 9110 §5.6.1."""

    @pytest.mark.parametrize(
        ("value", "members"),
        [
            ("websocket", ("websocket",)),
            ("keep-alive, Upgrade", ("keep-alive", "Upgrade")),
            ("a ,\tb,c", ("a", "b", "c")),
            (", a,, b ,", ("a", "b")),
            ("", ()),
            (" , ", ()),
        ],
    )
    def test_a_list_field_has_its_members_without_empty_ones(self, value: str, members: tuple[str, ...]) -> None:
        assert Headers([("Connection", value)]).list("connection") == members

    def test_a_list_field_may_come_in_several_fields(self) -> None:
        assert Headers([("Connection", "a"), ("Connection", "b")]).list("Connection") == ("a", "b")

    def test_a_list_field_that_is_absent_has_no_members(self) -> None:
        assert Headers().list("connection") == ()


class TestTraceparent:
    """W3C Trace Context §3.2, with the examples of its own tests."""

    IDS = "12345678901234567890123456789012-1234567890123456"

    @pytest.mark.parametrize("flags", ["00", "01", "ff"])
    @pytest.mark.parametrize("version", ["00", "01", "cc", "fe"])
    def test_a_valid_traceparent_is_as_received(self, version: str, flags: str) -> None:
        value = f"{version}-{self.IDS}-{flags}"
        headers = Headers([("TraceParent", value)])
        assert traceparent(headers) == value
        assert ConnectionInfo("unix:", "a", "/", "", headers).traceparent == value

    @pytest.mark.parametrize("rest", ["-", "-what-the-future-will-be-like", "-\x85" + "x" * 10_000])
    def test_what_a_later_version_adds_is_left_out(self, rest: str) -> None:
        assert traceparent(Headers([("traceparent", f"cc-{self.IDS}-01{rest}")])) == f"cc-{self.IDS}-01"

    @pytest.mark.parametrize(
        "value",
        [
            "",
            IDS,
            f"00-{IDS}",
            f"00-{IDS}-",
            f"00-{IDS}-1",
            f"00-{IDS}-.0",
            f"00-{IDS}-0A",
            f"00-{IDS}-001",
            f"00-{IDS}-01-",
            f"00-{IDS}-01-more",
            f"0-{IDS}-01",
            f"000-{IDS}-01",
            f".0-{IDS}-01",
            f"ff-{IDS}-01",
            f"cc-{IDS}-01.what",
            f"00-{IDS}-01, 00-{IDS}-01",
            f"00{IDS}01",
            "00-00000000000000000000000000000000-1234567890123456-01",
            "00-12345678901234567890123456789012-0000000000000000-01",
            "00-1234567890123456789012345678901-1234567890123456-01",
            "00-123456789012345678901234567890123-1234567890123456-01",
            "00-.2345678901234567890123456789012-1234567890123456-01",
            "00-1234567890123456789012345678901A-1234567890123456-01",
            "00-12345678901234567890123456789012-123456789012345-01",
            "00-12345678901234567890123456789012-12345678901234567-01",
        ],
    )
    def test_an_invalid_traceparent_is_none(self, value: str) -> None:
        assert traceparent(Headers([("traceparent", value)])) is None

    def test_a_request_without_a_traceparent_has_none(self) -> None:
        assert traceparent(Headers()) is None
        assert ConnectionInfo("unix:", "a", "/", "", Headers()).traceparent is None


class TestValues:
    def test_a_request_has_no_route_without_routes(self) -> None:
        assert Request("GET", "/a?b", "/a", "b", "host", Headers()).route is None

    def test_a_tls_connection_without_a_certificate_has_none(self) -> None:
        assert TLS().peer_certificate is None

    def test_a_connection_info_has_defaults(self) -> None:
        info = ConnectionInfo("127.0.0.1:50000", "localhost:8080", "/", "", Headers())
        assert (info.cookies, info.origin, info.subprotocols, info.tls, info.route) == ({}, None, (), None, None)

    def test_the_default_cookies_can_not_be_changed(self) -> None:
        info = ConnectionInfo("127.0.0.1:50000", "localhost:8080", "/", "", Headers())
        with pytest.raises(TypeError):
            info.cookies["a"] = "1"  # type: ignore[index]

    def test_a_connection_info_can_not_be_changed(self) -> None:
        info = ConnectionInfo("127.0.0.1:50000", "localhost:8080", "/", "", Headers())
        with pytest.raises(FrozenInstanceError):
            info.peer = "127.0.0.1:1"  # type: ignore[misc]


def test_headers_are_made_of_fields_and_give_them_back() -> None:
    fields = {"host": "a", "x-b": "c"}
    headers = headers_of(fields)
    assert (headers["Host"], headers.get("X-B")) == ("a", "c")
    assert fields_of(headers) is fields
