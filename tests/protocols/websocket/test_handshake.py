import base64
from collections.abc import Mapping
from typing import Any, cast

import pytest
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from wshost.protocols.http.head import BadRequest
from wshost.protocols.websocket.handshake import Hint, Offer, acceptance, agree, check, connection_info, cookies
from wshost.request import TLS, Headers, Proxy, Request
from wshost.results import Accept

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
VALID = {"Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}


def request(headers: Mapping[str, str], **more: Any) -> Request:
    fields = Headers({**VALID, **headers}.items())
    return Request("GET", "/chat?room=1", "/chat", "room=1", "example.com", fields, **more)


def refusal(headers: Mapping[str, str | None]) -> BadRequest:
    fields = {name: value for name, value in {**VALID, **headers}.items() if value is not None}
    with pytest.raises(BadRequest) as caught:
        check(Request("GET", "/", "/", "", "example.com", Headers(fields.items())))
    return caught.value


class TestOffer:
    """RFC 6455 §4.2.1."""

    def test_a_minimal_request_is_a_valid_offer(self) -> None:
        assert check(request({})) == Offer(KEY, "", ())

    def test_an_offer_has_subprotocols_and_extensions(self) -> None:
        headers = {
            "Sec-WebSocket-Protocol": "chat, soap ,,wamp.2.json",
            "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        }
        assert check(request(headers)) == Offer(
            KEY, "permessage-deflate; client_max_window_bits", ("chat", "soap", "wamp.2.json")
        )

    def test_a_missing_version_gets_400(self) -> None:
        assert refusal({"Sec-WebSocket-Version": None}).status == 400

    @pytest.mark.parametrize("version", ["", "8", "14", "13, 8", "013", "1３", "13 "])
    def test_another_version_gets_426(self, version: str) -> None:
        """RFC 6455 §4.4; RFC 9110 §15.5.22 asks for Upgrade."""
        refused = refusal({"Sec-WebSocket-Version": version})
        assert refused.status == 426
        assert refused.headers == {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"}

    def test_a_missing_key_gets_400(self) -> None:
        assert refusal({"Sec-WebSocket-Key": None}).status == 400

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "x",
            KEY[:-1],
            KEY + "=",
            KEY + KEY,
            f" {KEY}",
            f"{KEY[:-2]}\xe4=",
            KEY.replace("d", "-"),
            base64.b64encode(b"x" * 15).decode(),
            base64.b64encode(b"x" * 17).decode(),
        ],
    )
    def test_a_key_that_is_not_16_bytes_in_base64_gets_400(self, key: str) -> None:
        assert refusal({"Sec-WebSocket-Key": key}).status == 400

    @pytest.mark.parametrize("subprotocols", ["chat, chat", "chat soap", "a@b", '"chat"', "ch\xe4t"])
    def test_subprotocols_that_are_not_different_tokens_get_400(self, subprotocols: str) -> None:
        assert refusal({"Sec-WebSocket-Protocol": subprotocols}).status == 400

    def test_subprotocols_may_differ_by_case_alone(self) -> None:
        assert check(request({"Sec-WebSocket-Protocol": "chat, Chat"})).subprotocols == ("chat", "Chat")

    @pytest.mark.parametrize(
        "extensions",
        [
            "",
            ",",
            "foo",
            "foo, bar; baz=2",
            "foo;bar;bar",
            'foo ; a = "1"\t;\tb=x',
            r'foo; a="\1\0"; b="1\0"',
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
        ],
    )
    def test_well_formed_extensions_are_accepted(self, extensions: str) -> None:
        assert check(request({"Sec-WebSocket-Extensions": extensions})).extensions == extensions

    @pytest.mark.parametrize(
        "extensions",
        [
            "foo bar",
            "foo;",
            ";foo",
            "foo; =1",
            "foo; a=",
            "foo; a=1=2",
            'foo; a="',
            'foo; a=""',
            'foo; a="1 2"',
            "f\xf6o",
        ],
    )
    def test_malformed_extensions_get_400(self, extensions: str) -> None:
        """RFC 6455 §9.1: the recipient must fail the connection."""
        assert refusal({"Sec-WebSocket-Extensions": f"permessage-deflate, {extensions}"}).status == 400

    @pytest.mark.parametrize("character", [" ", ";", "=", '"', "a", ";a", "; a=b", " ;"])
    def test_malformed_extensions_are_found_in_linear_time(self, character: str) -> None:
        """CVE-2021-32640: a regular expression that tries all ways takes hours for this."""
        refused = refusal({"Sec-WebSocket-Extensions": f"a;a{character * 16_384}@"})
        assert refused.status == (431 if ";" in character else 400)

    @pytest.mark.parametrize(
        ("name", "separator", "most"),
        [
            ("Sec-WebSocket-Protocol", ",", 100),
            ("Sec-WebSocket-Extensions", ",", 100),
            ("Sec-WebSocket-Extensions", ";", 101),
            ("Cookie", ";", 500),
        ],
        ids=["subprotocols", "extensions", "parameters", "cookies"],
    )
    def test_too_long_lists_get_431(self, name: str, separator: str, most: int) -> None:
        """Each member costs more than its bytes."""
        members = [f"a{number}" for number in range(most)]
        check(request({name: separator.join(members)}))
        assert refusal({name: separator.join([*members, "b"])}).status == 431
        assert refusal({name: separator * most}).status == 431

    def test_parameters_are_counted_over_all_offers(self) -> None:
        offer = "permessage-deflate; client_max_window_bits; a"
        check(request({"Sec-WebSocket-Extensions": ", ".join([offer] * 50)}))
        assert refusal({"Sec-WebSocket-Extensions": ", ".join([offer] * 51)}).status == 431

    def test_no_reason_repeats_what_the_peer_has_sent(self) -> None:
        for name in ("Version", "Key", "Protocol", "Extensions"):
            assert "<script>" not in refusal({f"Sec-WebSocket-{name}": "<script>"}).reason


class TestAgreement:
    """RFC 6455 §4.2.2, /subprotocol/."""

    OFFER = Offer(KEY, "", ("chat", "soap"))

    @pytest.mark.parametrize(
        ("ours", "agreed"),
        [([], None), (["wamp"], None), (["soap"], "soap"), (["soap", "chat"], "soap"), (["wamp", "chat"], "chat")],
    )
    def test_the_servers_order_of_subprotocols_counts(self, ours: list[str], agreed: str | None) -> None:
        assert agree(self.OFFER, Accept(None), ours) == agreed

    @pytest.mark.parametrize("ours", [[], ["chat"]])
    def test_the_handlers_choice_of_a_subprotocol_wins(self, ours: list[str]) -> None:
        assert agree(self.OFFER, Accept(None, "soap"), ours) == "soap"

    @pytest.mark.parametrize("chosen", ["wamp", "Chat", ""])
    def test_a_choice_that_was_not_offered_is_an_error(self, chosen: str) -> None:
        with pytest.raises(
            ValueError, match=r"^the client did not offer the subprotocol '.*', only \('chat', 'soap'\)$"
        ):
            agree(self.OFFER, Accept(None, chosen), ["chat"])

    def test_other_headers_of_the_handler_are_allowed(self) -> None:
        assert agree(self.OFFER, Accept(None, None, {"Set-Cookie": "a=b", "X-Sec-WebSocket-Y": "z"}), []) is None

    @pytest.mark.parametrize(
        "name",
        [
            "Connection",
            "upgrade",
            "Content-Length",
            "Transfer-Encoding",
            "Sec-WebSocket-Accept",
            "sec-websocket-protocol",
        ],
    )
    def test_headers_of_the_handshake_are_an_error(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"^a handler may not send the header {name}$"):
            agree(self.OFFER, Accept(None, None, {"X-Room": "1", name: "1"}), [])


class TestCookies:
    """RFC 6265 §4.2.1."""

    @pytest.mark.parametrize(
        ("header", "found"),
        [
            ("", {}),
            ("a=b", {"a": "b"}),
            ("a=b; c=d", {"a": "b", "c": "d"}),
            ("a=b;c=d ;\te=f", {"a": "b", "c": "d", "e": "f"}),
            ("a=1; a=2", {"a": "1"}),
            ("a=b=c==", {"a": "b=c=="}),
            ("a=", {"a": ""}),
            ("a", {}),
            (";;; =; =x; a=b", {"a": "b"}),
            ('a="b c"', {"a": "b c"}),
            ('a="', {"a": '"'}),
            ('a=""', {"a": ""}),
            ('a="b', {"a": '"b'}),
        ],
    )
    def test_cookies_are_returned_by_name(self, header: str, found: dict[str, str]) -> None:
        assert cookies(header) == found


class TestConnectionInfo:
    def test_a_minimal_request_has_a_connection_info_without_extras(self) -> None:
        asked = request({})
        info = connection_info(asked, check(asked), "unix:", None)
        assert (info.peer, info.host, info.path, info.query) == ("unix:", "example.com", "/chat", "room=1")
        assert info.headers is asked.headers
        assert (info.cookies, info.origin, info.subprotocols, info.tls, info.route) == ({}, None, (), None, None)

    def test_a_connection_info_has_everything_that_the_request_has(self) -> None:
        headers = {"Origin": "https://example.com", "Cookie": "a=b", "Sec-WebSocket-Protocol": "soap, chat"}
        asked, tls = request(headers, route="/*"), TLS()
        proxy = Proxy("unix:", secure=True)
        info = connection_info(asked, check(asked), "[::1]:50000", tls, proxy)
        assert info.proxy is proxy
        assert (info.peer, info.tls, info.route) == ("[::1]:50000", tls, "/*")
        assert (info.cookies, info.origin, info.subprotocols) == ({"a": "b"}, "https://example.com", ("soap", "chat"))


class TestAcceptance:
    """RFC 6455 §4.2.2."""

    def test_a_101_has_the_accept_header(self) -> None:
        assert acceptance(KEY, None, "", {}) == (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"\r\n"
        )

    def test_a_101_has_subprotocol_extensions_and_headers(self) -> None:
        headers = {"X-Room": "1", "Set-Cookie": "a=b; Secure"}
        assert acceptance(KEY, "chat", "permessage-deflate", headers).split(b"\r\n") == [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"X-Room: 1",
            b"Set-Cookie: a=b; Secure",
            b"Sec-WebSocket-Protocol: chat",
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            b"Sec-WebSocket-Extensions: permessage-deflate",
            b"",
            b"",
        ]


class TestHint:
    """Who asks for subprotocols in vain fails, in most clients, and does not see why."""

    def test_an_unmet_subprotocol_is_logged_once_with_the_option_to_set(self) -> None:
        events: list[LogEvent] = []
        observe = cast("ILogObserver", events.append)
        hint = Hint()
        globalLogPublisher.addObserver(observe)
        try:
            hint.give(("chat", "x" * 5_000))
            hint.give(("soap",))
            Hint().give(("soap",))
        finally:
            globalLogPublisher.removeObserver(observe)
        first, other = (formatEvent(event) for event in events)
        assert "asked for the subprotocol chat, x" in first
        assert "--subprotocol" in first
        assert len(first) < 500
        assert "asked for the subprotocol soap and got none" in other
