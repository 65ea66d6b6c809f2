import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wshost.protocols.http.head import BadRequest, demand_get, parse, response, split_authority
from wshost.request import Headers, Request


def head(*fields: str, start: str = "GET /chat HTTP/1.1", host: str = "Host: example.com") -> bytes:
    lines = [start, *([host] if host else []), *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def refusal(data: bytes, max_headers: int = 100) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(data, max_headers=max_headers)
    return caught.value


class TestRequestLine:
    """RFC 9112 §3."""

    def test_a_request_line_has_method_target_and_version(self) -> None:
        request = parse(head(start="GET /chat/%20/x?room=1&b?c HTTP/1.1"))
        assert request == Request(
            "GET", "/chat/%20/x?room=1&b?c", "/chat/%20/x", "room=1&b?c", "example.com", request.headers
        )
        assert request.route is None

    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "get", "!#$%&'*+-.^_`|~09AZaz"])
    def test_any_token_is_a_method(self, method: str) -> None:
        assert parse(head(start=f"{method} / HTTP/1.1")).method == method

    @pytest.mark.parametrize(
        "start",
        [
            "",
            " ",
            "GET",
            "GET /",
            "GET / ",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET\t/\tHTTP/1.1",
            "GET / x HTTP/1.1",
            "G(T / HTTP/1.1",
            "G@T / HTTP/1.1",
            " / HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1",
            "GET / HTTP/1.10",
            "GET / HTTP/11",
            "GET / HTTP/01.1",
            "GET / HTTPS/1.1",
            "GET / HTTP/1.1x",
        ],
    )
    def test_a_malformed_request_line_gets_400(self, start: str) -> None:
        assert refusal(head(start=start)).status == 400

    @pytest.mark.parametrize("start", ["PRI * HTTP/2.0", "GET / HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/0.9"])
    def test_another_http_version_gets_505(self, start: str) -> None:
        assert refusal(head(start=start, host="")).status == 505


class TestHTTP10:
    """RFC 9110 §7.8: a server must ignore an Upgrade field of HTTP/1.0."""

    def test_the_upgrade_field_of_http_1_0_is_ignored(self) -> None:
        request = parse(head("UPGRADE: websocket", "Connection: Upgrade", start="GET / HTTP/1.0"))
        assert "upgrade" not in request.headers
        assert request.headers["connection"] == "Upgrade"

    def test_http_1_0_needs_no_host(self) -> None:
        assert parse(head(start="OPTIONS / HTTP/1.0", host="")).host == ""

    def test_a_malformed_host_of_http_1_0_gets_400(self) -> None:
        assert refusal(head(start="GET / HTTP/1.0", host="Host:")).status == 400

    def test_a_chunked_body_of_http_1_0_gets_400(self) -> None:
        assert refusal(head("Transfer-Encoding: chunked", start="POST / HTTP/1.0")).status == 400


class TestTarget:
    """RFC 9112 §3.2."""

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/?", "/", ""),
            ("/a?b=c", "/a", "b=c"),
            ("//evil.example/a", "//evil.example/a", ""),
            ("/http://a/", "/http://a/", ""),
            ("/!\"$&'()*+,-.:;<=>@[\\]^_`{|}~", "/!\"$&'()*+,-.:;<=>@[\\]^_`{|}~", ""),
            ("/%00%fF?%25", "/%00%fF", "%25"),
        ],
    )
    def test_a_target_in_origin_form_is_split(self, target: str, path: str, query: str) -> None:
        request = parse(head(start=f"GET {target} HTTP/1.1"))
        assert (request.target, request.path, request.query, request.host) == (target, path, query, "example.com")

    @pytest.mark.parametrize(
        ("target", "host", "path", "query"),
        [
            ("http://other.example", "other.example", "/", ""),
            ("HTTPS://other.example:8443/a/b?c", "other.example:8443", "/a/b", "c"),
            ("ws://other.example?c=/", "other.example", "/", "c=/"),
            ("wss://[::1]:1/", "[::1]:1", "/", ""),
        ],
    )
    def test_the_host_of_an_absolute_target_replaces_the_header(
        self, target: str, host: str, path: str, query: str
    ) -> None:
        """RFC 9112 §3.2.2."""
        request = parse(head(start=f"GET {target} HTTP/1.1"))
        assert (request.target, request.path, request.query, request.host) == (target, path, query, host)
        assert request.headers["host"] == "example.com"

    def test_an_absolute_target_needs_the_host_header_too(self) -> None:
        assert refusal(head(start="GET http://example.com/ HTTP/1.1", host="")).status == 400

    @pytest.mark.parametrize(
        "target",
        [
            "*",
            "example.com:80",
            "chat",
            "?a",
            "/a#b",
            "#",
            "/%",
            "/%4",
            "/%4g",
            "/%%41",
            "/?%zz",
            "/a\tb",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http:/example.com",
            "http:example.com",
            "http://",
            "http:///a",
            "http://?a",
            "http://user@example.com/",
            "http://user:pass@example.com/",
            "http://exa\\mple.com/",
            "http://example.com:x/",
            "xhttp://example.com/",
        ],
    )
    def test_a_malformed_target_gets_400(self, target: str) -> None:
        assert refusal(head(start=f"GET {target} HTTP/1.1")).status == 400


class TestFields:
    """RFC 9112 §5, RFC 9110 §5."""

    def test_names_are_case_insensitive_and_values_are_stripped(self) -> None:
        headers = parse(head("X-A: \t a, \t b \t", "x-b:c", "X-C:", "!#$%&'*+-.^_`|~09: :")).headers
        assert dict(headers) == {
            "host": "example.com",
            "x-a": "a, \t b",
            "x-b": "c",
            "x-c": "",
            "!#$%&'*+-.^_`|~09": ":",
        }

    def test_a_list_may_come_in_several_lines(self) -> None:
        headers = parse(
            head("Sec-WebSocket-Protocol: a", "Cookie: a=1", "sec-websocket-protocol: b", "cookie: b=2")
        ).headers
        assert headers.list("Sec-WebSocket-Protocol") == ("a", "b")
        assert headers["Cookie"] == "a=1; b=2"

    @pytest.mark.parametrize(
        "line",
        [
            "X-A",
            ": a",
            ":",
            "X-A : a",
            "X-A\t: a",
            " X-A: a",
            " folded",
            "\tfolded: a",
            "X A: a",
            "X(A: a",
            "X/A: a",
            '"X": a',
        ],
    )
    @pytest.mark.parametrize("place", ["first", "last"])
    def test_a_malformed_field_gets_400(self, line: str, place: str) -> None:
        data = head(line) if place == "last" else head("Host: example.com", host=line)
        assert refusal(data).status == 400

    def test_an_empty_line_is_no_field(self) -> None:
        assert refusal(head("", "X-A: a")).status == 400

    @pytest.mark.parametrize("byte", sorted({*range(0x20), 0x7F} - {0x09}))
    @pytest.mark.parametrize("where", ["X-A: a{}b", "X-A: {}", "X-A:{}X-B: b", "X{}A: a", "Cookie: a={}"])
    def test_a_control_character_gets_400(self, byte: int, where: str) -> None:
        assert refusal(head(where.format(chr(byte)))).status == 400

    @pytest.mark.parametrize("byte", [0x80, 0x85, 0xA0, 0xB2, 0xB5, 0xDF, 0xE9, 0xFF])
    @pytest.mark.parametrize("where", ["X{}A: a", "{}: a", "{}X-A: a", "X-A{}: a", "X-A: a\r\n{}: a", "{}"])
    def test_a_non_ascii_field_name_gets_400(self, byte: int, where: str) -> None:
        assert refusal(head(where.format(chr(byte)))).status == 400

    @pytest.mark.parametrize("byte", [0x00, 0x0A, 0x0D, 0x0B, 0x7F, 0x85, 0xFF])
    def test_a_control_character_in_the_request_line_gets_400(self, byte: int) -> None:
        assert refusal(head(start=f"GET /{chr(byte)} HTTP/1.1")).status == 400

    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\r\n", b"\r\n\r"])
    def test_a_line_that_does_not_end_in_crlf_gets_400(self, end: bytes) -> None:
        assert refusal(b"GET / HTTP/1.1\r\nHost: example.com" + end + b"X-A: a\r\n\r\n").status == 400

    @pytest.mark.parametrize(
        "name",
        [
            "Authorization",
            "Content-Length",
            "Content-Type",
            "Host",
            "Origin",
            "Proxy-Authorization",
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
        ],
    )
    def test_a_singleton_field_that_comes_twice_gets_400(self, name: str) -> None:
        value = "example.com" if name == "Host" else "0"
        host = "" if name == "Host" else "Host: example.com"
        assert parse(head(f"{name}: {value}", host=host)).headers[name] == value
        assert refusal(head(f"{name}: {value}", f"{name.upper()}: {value}", host=host)).status == 400

    def test_too_many_fields_get_431(self) -> None:
        fields = [f"X-{number}: a" for number in range(4)]
        assert len(parse(head(*fields), max_headers=5).headers) == 5
        assert refusal(head(*fields), max_headers=4).status == 431

    def test_100_fields_are_allowed_by_default(self) -> None:
        fields = ["X-A: a"] * 99
        assert parse(head(*fields)).headers.list("x-a") == ("a",) * 99
        assert refusal(head("X-A: a", *fields)).status == 431


class TestOpaqueBytes:
    """RFC 9110 §5.5: obs-text is opaque. It is handed on, and nothing is made of it."""

    @pytest.mark.parametrize("name", ["Cookie", "User-Agent", "X-A", "Referer", "Authorization-Info", "Sec-Fetch-Site"])
    @pytest.mark.parametrize(
        "value",
        [
            "Zo\xeb",
            "\u65e5\u672c\u8a9e=1",
            "\x80",
            "\x85",
            "\xa0",
            "\u2028",
            "\u212a",
            "\u017f",
            "\ufeff",
            "\U0001f600",
        ],
    )
    def test_a_non_ascii_value_keeps_its_bytes(self, name: str, value: str) -> None:
        for data in (value.encode(), value.encode()[:-1] or b"\xff", value.encode()[::-1]):
            request = parse(head(f"{name}: {data.decode('latin-1')}"))
            assert request.headers[name].encode("latin-1") == data

    def test_every_non_ascii_byte_is_allowed_in_a_value(self) -> None:
        data = bytes((*range(0x80, 0x100), *range(0x21, 0x7F)))
        assert parse(head(f"X-A: {data.decode('latin-1')}")).headers["x-a"].encode("latin-1") == data

    @pytest.mark.parametrize("byte", [0x85, 0xA0, 0x1680 & 0xFF, 0x80])
    def test_no_non_ascii_byte_is_white_space_or_ends_a_line(self, byte: int) -> None:
        headers = parse(head(f"X-A: {chr(byte)} a {chr(byte)}", f"X-B: b{chr(byte)}Content-Length: 5")).headers
        assert headers["x-a"] == f"{chr(byte)} a {chr(byte)}"
        assert headers.list("x-a") == (headers["x-a"],)
        assert "content-length" not in headers

    @pytest.mark.parametrize(
        "name",
        [
            "Host",
            "Origin",
            "Connection",
            "Upgrade",
            "Content-Length",
            "Content-Type",
            "Transfer-Encoding",
            "TE",
            "Trailer",
            "Expect",
            "Keep-Alive",
            "Proxy-Connection",
            "Authorization",
            "Proxy-Authorization",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
            "sec-websocket-location",
        ],
    )
    @pytest.mark.parametrize("text", ["\xff", "\x85", "\xa0", "\xb2", "\xb9", "\xc3\xa9", "\xe2\x84\xaa"])
    def test_a_non_ascii_byte_in_a_parsed_field_gets_400(self, name: str, text: str) -> None:
        host = "" if name == "Host" else "Host: example.com"
        for value in (text, f"a{text}", f"{text}a"):
            assert refusal(head(f"{name}: {value}", host=host)).status == 400

    @pytest.mark.parametrize("text", ["\xff", "\x85", "\xa0", "\xc3\xa9"])
    @pytest.mark.parametrize(
        "start", ["G{}T / HTTP/1.1", "GET /{} HTTP/1.1", "GET /{0} HTTP/1.1{0}", "{}", "GET /?{} HTTP/1.1"]
    )
    def test_a_non_ascii_byte_in_the_request_line_gets_400(self, text: str, start: str) -> None:
        assert refusal(head(start=start.format(text))).status == 400


class TestListsOfTooMany:
    """What a client chooses has a number: each member costs more than its bytes."""

    @pytest.mark.parametrize("name", ["Connection", "Upgrade"])
    @pytest.mark.parametrize("member", ["a", ""])
    def test_more_than_100_members_of_connection_or_upgrade_get_431(self, name: str, member: str) -> None:
        assert parse(head(f"{name}: {','.join([member] * 100)}")).headers[name]
        assert refusal(head(f"{name}: {','.join([member] * 101)}")).status == 431

    @pytest.mark.parametrize("name", ["X-A", "Accept", "Sec-WebSocket-Extensions"])
    def test_more_than_1000_members_of_another_field_get_431(self, name: str) -> None:
        assert len(parse(head(f"{name}: {','.join(['a'] * 1_000)}")).headers.list(name)) == 1_000
        assert refusal(head(f"{name}: {','.join(['a'] * 1_001)}")).status == 431

    def test_members_in_several_lines_are_counted_together(self) -> None:
        fields = [f"Connection: {','.join(['a'] * 10)}" for _ in range(10)]
        assert len(parse(head(*fields)).headers.list("connection")) == 100
        assert refusal(head(*fields, "connection: a")).status == 431
        assert refusal(head(*["Upgrade: a"] * 101), max_headers=200).status == 431

    @pytest.mark.parametrize("name", ["Cookie", "Referer"])
    def test_commas_in_cookies_and_urls_are_not_counted(self, name: str) -> None:
        assert parse(head(f"{name}: {',' * 5_000}")).headers[name] == "," * 5_000


class TestHost:
    """RFC 9112 §3.2, RFC 9110 §7.2."""

    @pytest.mark.parametrize(
        "host",
        [
            "example.com",
            "EXAMPLE.com.",
            "a_b:8080",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::1]:65535",
            "a:",
            "%41!$&'()*+,;=~",
        ],
    )
    def test_a_host_is_a_name_or_an_address_with_or_without_a_port(self, host: str) -> None:
        assert parse(head(host=f"Host: {host}")).host == host

    @pytest.mark.parametrize(
        "host",
        [
            "",
            ":80",
            "example.com:x",
            "example.com:65536",
            "example.com:123456",
            "example.com:-1",
            "a:1:2",
            "::1",
            "[::1",
            "[]",
            "[1]",
            "[::1%25eth0]",
            "[v1.a]",
            "[example.com]",
            "[::1]x",
            "user@example.com",
            "example.com/",
            "http://example.com",
            "a b",
            "a, b",
            "a\\b",
            "a%4",
            "<a>",
        ],
    )
    def test_a_malformed_host_gets_400(self, host: str) -> None:
        assert refusal(head(host=f"Host: {host}")).status == 400

    def test_a_missing_host_gets_400(self) -> None:
        assert refusal(head(host="")).status == 400


class TestAuthority:
    @pytest.mark.parametrize(
        ("authority", "parts"),
        [
            ("Example.COM", ("example.com", None)),
            ("example.com:", ("example.com", None)),
            ("example.com:0080", ("example.com", 80)),
            ("[2001:DB8:0:0::1]:443", ("[2001:db8::1]", 443)),
        ],
    )
    def test_an_authority_is_normalised(self, authority: str, parts: tuple[str, int | None]) -> None:
        assert split_authority(authority) == parts

    @pytest.mark.parametrize("authority", ["", "ex\xe4mple.com", "\u212aa", "a:\u0661", "a\n", "[::\u0661]"])
    def test_a_non_ascii_authority_is_refused(self, authority: str) -> None:
        with pytest.raises(ValueError, match="not a host"):
            split_authority(authority)


class TestFraming:
    """RFC 9112 §6: what proxies are tricked with is refused, whoever takes the body."""

    @pytest.mark.parametrize("value", ["", "-1", "+1", "1.0", "0x1", "1 0", "5, 5", "1e3"])
    def test_a_content_length_that_is_no_number_gets_400(self, value: str) -> None:
        assert refusal(head(f"Content-Length: {value}", start="POST / HTTP/1.1")).status == 400

    @pytest.mark.parametrize("length", ["0", "5"])
    def test_content_length_with_transfer_encoding_gets_400(self, length: str) -> None:
        fields = ("Transfer-Encoding: chunked", f"Content-Length: {length}")
        assert refusal(head(*fields, start="POST / HTTP/1.1")).status == 400

    @pytest.mark.parametrize(
        "field", ["Transfer-Encoding: chunked", "Content-Length: 5", "Content-Length: " + "9" * 5000]
    )
    def test_content_length_or_transfer_encoding_alone_is_read(self, field: str) -> None:
        name, value = field.split(": ")
        assert parse(head(field, start="POST / HTTP/1.1")).headers[name] == value


class TestDemandGet:
    def refusal(self, data: bytes) -> BadRequest:
        with pytest.raises(BadRequest) as caught:
            demand_get(parse(data))
        return caught.value

    @pytest.mark.parametrize("field", ["X-A: a", "Content-Length: 0", "Content-Length: 000"])
    def test_a_get_without_a_body_passes(self, field: str) -> None:
        demand_get(parse(head(field)))
        assert self.refusal(head(field, start="POST / HTTP/1.1")).status == 405

    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get", "GETX"])
    def test_another_method_gets_405(self, method: str) -> None:
        """RFC 9110 §15.5.6."""
        bad = self.refusal(head(start=f"{method} / HTTP/1.1"))
        assert (bad.status, bad.headers) == (405, {"Allow": "GET"})

    def test_the_response_to_head_has_no_body(self) -> None:
        """RFC 9110 §9.3.2."""
        assert self.refusal(head(start="HEAD / HTTP/1.1")).reason == ""
        assert self.refusal(head(start="POST / HTTP/1.1")).reason

    @pytest.mark.parametrize(
        "field",
        ["Content-Length: 1", "Content-Length: 01", "Content-Length: " + "9" * 5000, "Transfer-Encoding: chunked"],
    )
    def test_a_request_body_gets_413(self, field: str) -> None:
        assert self.refusal(head(field)).status == 413

    def test_more_than_100_query_fields_get_400(self) -> None:
        demand_get(parse(head(start=f"GET /?{'&'.join(['a'] * 100)} HTTP/1.1")))
        assert self.refusal(head(start=f"GET /?{'&'.join(['a'] * 101)} HTTP/1.1")).status == 400


@pytest.mark.uninstrumented
class TestLinearTime:
    """ReDoS (CVE-2021-32640 and its like): quadratic work on such heads takes seconds."""

    SIZE = 1 << 18
    PATHOLOGICAL = (
        "GET /" + "%41" * (SIZE // 3) + "% HTTP/1.1",
        "GET /" + "?" * SIZE + " HTTP/1.1",
        "GET http://" + "a" * SIZE + "@ HTTP/1.1",
        "GET http://" + "%41" * (SIZE // 3) + "^ HTTP/1.1",
        "GET http://[" + ":" * SIZE + " HTTP/1.1",
        "GET" + " " * SIZE + "/ HTTP/1.1",
        "G" * SIZE + "( / HTTP/1.1",
        "GET / HTTP/1.1\r\nX-A: a" + " " * SIZE + "b",
        "GET / HTTP/1.1\r\nX-A:" + "\t " * (SIZE // 2),
        "GET / HTTP/1.1\r\n" + "X" * SIZE + " : a",
        "GET / HTTP/1.1\r\nHost: " + "a" * SIZE + ":x",
        "GET / HTTP/1.1\r\nHost: " + "0." * (SIZE // 2) + "@",
        "GET / HTTP/1.1\r\nContent-Length: " + "9" * SIZE,
        "GET / HTTP/1.1" + "\r\nX-A: a" * (SIZE // 8),
        "GET / HTTP/1.1" + "\r\n" * (SIZE // 2),
    )

    @pytest.mark.parametrize("text", PATHOLOGICAL, ids=range(len(PATHOLOGICAL)))
    def test_heads_of_sixteen_times_the_limit_are_parsed_within_a_second(self, text: str) -> None:
        data = f"{text}\r\nHost: example.com\r\n\r\n".encode()
        began = time.thread_time()
        try:
            demand_get(parse(data, max_headers=self.SIZE))
        except BadRequest as bad:
            assert bad.status in {400, 413, 431}  # noqa: PT017
        assert time.thread_time() - began < 1


TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=8)
VISIBLE = st.text([chr(code) for code in range(0x21, 0x7F)], max_size=12)
NAMES = st.sampled_from(["Connection", "Upgrade", "Cookie", "X-A", "x-a", "Accept"])
VALUES = st.sampled_from(["a", "a \t b", "", "websocket", "Upgrade, close", "a=1; b=2", "\xe9", "\x85\xa0"])
RISKY = st.sampled_from(
    [("Host", "a"), ("Origin", "null"), ("Content-Length", "5"), ("Content-Length", "5, 5"), ("X ", "")]
)
FIELDS = st.one_of(st.tuples(TOKENS, VISIBLE), st.tuples(NAMES, VALUES), st.tuples(NAMES, VALUES), RISKY)


@st.composite
def almost_heads(draw: st.DrawFn) -> bytes:
    """Heads that are mostly right, some of them with a few bytes changed."""
    method = draw(st.one_of(st.sampled_from(["GET", "POST"]), TOKENS))
    target = draw(st.sampled_from(["/", "/a?b=c", "/%41", "http://a:80/"])) + draw(st.one_of(st.just(""), VISIBLE))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]))
    fields = [("Host", "example.com"), *draw(st.lists(FIELDS, max_size=5))]
    space = draw(st.sampled_from([" ", "", "\t", "  "]))
    data = head(*(f"{name}:{space}{value}" for name, value in fields), start=f"{method} {target} {version}", host="")
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        place = draw(st.integers(0, len(data) - 4))
        data = data[:place] + draw(st.binary(max_size=2)) + data[place + draw(st.integers(0, 2)) :]
    return data if data.endswith(b"\r\n\r\n") else data + b"\r\n\r\n"


class TestAnyBytes:
    @settings(deadline=None)
    @given(st.one_of(st.binary().map(lambda data: data + b"\r\n\r\n"), almost_heads()))
    @example(b"\r\n\r\n")
    @example(b"\r\n\r\n\r\n\r\n")
    def test_random_bytes_are_a_request_or_refused(self, data: bytes) -> None:
        try:
            request = parse(data)
        except BadRequest as bad:
            assert bad.status in {400, 431, 505}  # noqa: PT017
        else:
            assert data.startswith(f"{request.method} {request.target} HTTP/1.".encode())
            assert request.path.startswith("/")

    @settings(deadline=None)
    @given(almost_heads())
    def test_h11_reads_the_same_from_accepted_heads(self, data: bytes) -> None:
        try:
            request = parse(data)
        except BadRequest:
            return
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        other = connection.next_event()
        assert isinstance(other, h11.Request)
        assert (request.method.encode(), request.target.encode()) == (other.method, other.target)
        ignored = {b"upgrade"} if other.http_version == b"1.0" else set()
        theirs = Headers(
            (name.decode(), value.decode("latin-1")) for name, value in other.headers if name not in ignored
        )
        assert dict(request.headers) == dict(theirs)


def parts(data: bytes) -> tuple[str, dict[str, str], bytes]:
    text, _, body = data.partition(b"\r\n\r\n")
    start, *lines = text.decode("ascii").split("\r\n")
    return start, dict(line.split(": ", 1) for line in lines), body


class TestResponse:
    """RFC 9112 §4."""

    def test_a_response_has_status_headers_and_body(self) -> None:
        start, headers, body = parts(response(404, b"gone", {"X-A": "a"}))
        del headers["Date"]
        assert start == "HTTP/1.1 404 Not Found"
        assert headers == {"X-A": "a", "Content-Length": "4", "Connection": "close"}
        assert body == b"gone"

    def test_a_response_may_be_a_status_alone(self) -> None:
        start, headers, body = parts(response(503))
        assert (start, headers["Content-Length"], body) == ("HTTP/1.1 503 Service Unavailable", "0", b"")

    def test_a_body_of_str_is_plain_text(self) -> None:
        _, headers, body = parts(response(400, "n\xf6"))
        assert (headers["Content-Type"], headers["Content-Length"]) == ("text/plain; charset=utf-8", "3")
        assert body == "n\xf6".encode()

    def test_a_content_type_among_the_headers_wins(self) -> None:
        data = response(400, "{}", {"content-type": "application/json"})
        assert b"\r\ncontent-type: application/json\r\n" in data
        assert b"text/plain" not in data

    @pytest.mark.parametrize("status", [HTTPStatus.UPGRADE_REQUIRED, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE])
    def test_the_reason_phrase_is_the_standard_one(self, status: HTTPStatus) -> None:
        assert response(status).startswith(f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode())

    @pytest.mark.parametrize(
        "line",
        [
            "413 Content Too Large",
            "414 URI Too Long",
            "416 Range Not Satisfiable",
            "421 Misdirected Request",
            "422 Unprocessable Content",
        ],
    )
    def test_a_reason_phrase_is_that_of_the_newest_standard(self, line: str) -> None:
        """RFC 9110 §15.5 has other phrases than the standards before it, which some versions of Python know."""
        assert response(int(line[:3])).startswith(f"HTTP/1.1 {line}\r\n".encode())

    def test_an_unknown_status_has_a_reason_phrase(self) -> None:
        assert response(599).startswith(b"HTTP/1.1 599 Status\r\n")

    def test_the_date_field_is_now(self) -> None:
        """RFC 9110 §6.6.1."""
        before = int(time.time())
        _, headers, _ = parts(response(400))
        assert headers["Date"].endswith(" GMT")
        assert before <= parsedate_to_datetime(headers["Date"]).timestamp() <= time.time()

    def test_with_an_upgrade_header_connection_names_it(self) -> None:
        """RFC 9110 §7.8."""
        _, headers, _ = parts(response(426, headers={"upgrade": "websocket"}))
        assert (headers["upgrade"], headers["Connection"]) == ("websocket", "close, Upgrade")

    def test_a_304_response_has_no_body(self) -> None:
        """RFC 9110 §15.4.5."""
        _, headers, body = parts(response(304, b"body", {"ETag": '"1"'}))
        assert (headers["ETag"], body) == ('"1"', b"")
        assert "Content-Length" not in headers

    @pytest.mark.parametrize("name", ["Connection", "content-length", "DATE", "Transfer-Encoding"])
    def test_framing_headers_of_the_caller_are_left_out(self, name: str) -> None:
        data = response(403, b"body", {name: "chunked"})
        assert b"chunked" not in data
        assert b"\r\nContent-Length: 4\r\n" in data

    @pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: b"}, {"X-A\r\nX-B": "b"}, {"X-A": "\x85"}, {"": "a"}])
    def test_a_header_value_with_a_line_end_is_refused(self, headers: dict[str, str]) -> None:
        """RFC 9110 §5.5: response splitting."""
        with pytest.raises(ValueError, match="is not a"):
            response(403, b"", headers)

    def test_a_status_that_is_no_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="format"):
            response("403 a\r\nX-B: b")  # type: ignore[arg-type]

    @settings(deadline=None)
    @given(st.integers(300, 599), st.one_of(st.binary(), st.text()), st.dictionaries(TOKENS, VISIBLE, max_size=3))
    def test_h11_reads_a_response(self, status: int, body: bytes | str, headers: dict[str, str]) -> None:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(response(status, body, headers))
        connection.receive_data(b"")
        answer = connection.next_event()
        assert isinstance(answer, h11.Response)
        assert answer.status_code == status
        received = b""
        while isinstance(event := connection.next_event(), h11.Data):
            received += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        expected = body.encode() if isinstance(body, str) else body
        assert received == (b"" if status == 304 else expected)
