from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from wshost.protocols.http.head import BadRequest
from wshost.protocols.websocket.browsers import Hosts, check_browser
from wshost.protocols.websocket.origin import Origins
from wshost.request import TLS, Headers, Proxy, Request
from wshost.results import ConfigurationError

OUTSIDE = IPv4Address("TCP", "192.0.2.1", 8080)
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 8080)


class Connection:
    """What is asked of an `IContext`."""

    def __init__(self, at: IAddress, secure: bool, proxy: Proxy | None = None) -> None:
        self.host_address = at
        self.tls = TLS() if secure else None
        self.proxy = proxy


def answer(
    host: str,
    origin: str | None,
    *,
    hosts: Any = (),
    origins: Any = (),
    at: IAddress = OUTSIDE,
    secure: bool = False,
    proxy: Proxy | None = None,
) -> int:
    """Return the status that this request is refused with, or 101."""
    headers = Headers([] if origin is None else [("Origin", origin)])
    request = Request("GET", "/", "/", "", host, headers)
    connection: Any = Connection(at, secure, proxy)
    try:
        check_browser(request, connection, Origins(origins), Hosts(hosts))
    except BadRequest as bad:
        return bad.status
    return 101


class TestNoBrowser:
    """Who sends no Origin is no browser, and brings nobody's cookies: it may ask for what it likes."""

    @pytest.mark.parametrize("host", ["evil.example", "localhost", ""])
    @pytest.mark.parametrize("at", [OUTSIDE, LOOPBACK])
    @pytest.mark.parametrize("hosts", [[], ["chat.example.com"]])
    def test_a_client_without_an_origin_may_connect(self, host: str, at: IAddress, hosts: list[str]) -> None:
        assert answer(host, None, at=at, hosts=hosts) == 101


class TestRebinding:
    """A page of evil.example has that name lead to us. Host and Origin agree: both are its own to choose."""

    @pytest.mark.parametrize(
        "name",
        [
            "evil.example",
            "EVIL.example",
            "evil.example.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evillocalhost",
            "localhost.localdomain",
            "192.0.2.1",
            "0.0.0.0",
            "128.0.0.1",
            "[::]",
            "[::2]",
            "[::ffff:192.0.2.1]",
            "127.1",
            "2130706433",
            "a%2elocalhost",
        ],
    )
    @pytest.mark.parametrize("port", ["", ":8080"])
    @pytest.mark.parametrize(
        "at",
        [
            LOOPBACK,
            IPv4Address("TCP", "127.255.255.254", 1),
            IPv6Address("TCP", "::1", 8080),
            IPv6Address("TCP", "::ffff:127.0.0.1", 8080),
        ],
        ids=str,
    )
    def test_on_a_loopback_address_a_foreign_host_gets_421(self, name: str, port: str, at: IAddress) -> None:
        assert answer(f"{name}{port}", f"http://{name}{port}", at=at) == 421
        assert answer(f"{name}{port}", "https://other.example", at=at) == 421

    @pytest.mark.parametrize(
        "name",
        [
            "localhost",
            "LocalHost",
            "localhost.",
            "app.localhost",
            "a.b.localhost.",
            "127.0.0.1",
            "127.1.2.3",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f00:1]",
        ],
    )
    @pytest.mark.parametrize("at", [LOOPBACK, IPv6Address("TCP", "::1", 8080)], ids=str)
    def test_on_a_loopback_address_loopback_names_are_accepted(self, name: str, at: IAddress) -> None:
        assert answer(f"{name}:8080", f"http://{name}:8080", at=at) == 101
        assert answer(f"{name}:8080", "http://evil.example", at=at) == 403
        assert answer(f"{name}:8080", "http://evil.example:8080", at=at) == 403

    @pytest.mark.parametrize(
        "at",
        [OUTSIDE, IPv6Address("TCP", "2001:db8::1", 1), UNIXAddress("/run/chat"), HostnameAddress(b"a", 1), object()],
        ids=lambda at: type(at).__name__,
    )
    def test_on_another_address_any_name_is_accepted(self, at: Any) -> None:
        """A Unix socket no browser can reach: there a proxy is in front."""
        assert answer("chat.example.com", "https://chat.example.com", at=at) == 101

    def test_a_page_of_a_listed_origin_is_accepted(self) -> None:
        origins = ["https://app.example", "null"]
        assert answer("chat.example.com", "https://app.example", at=LOOPBACK, origins=origins) == 101
        assert answer("chat.example.com", "null", at=LOOPBACK, origins=origins) == 101

    def test_a_listed_origin_lets_no_other_in(self) -> None:
        """That some origin is given says nothing of our names."""
        origins = ["https://app.example"]
        assert answer("evil.example", "http://evil.example", at=LOOPBACK, origins=origins) == 421
        assert answer("chat.example.com", "http://evil.example", at=LOOPBACK, origins=origins) == 403
        assert answer("localhost", "http://localhost", at=LOOPBACK, origins=origins) == 101

    def test_with_the_origin_star_any_page_is_accepted(self) -> None:
        assert answer("evil.example", "http://evil.example", at=LOOPBACK, origins=["*"]) == 101
        assert answer("evil.example", "null", at=LOOPBACK, origins=["*"]) == 101


class TestHosts:
    """What the option lists, and nothing else."""

    @pytest.mark.parametrize(
        ("option", "name"),
        [
            ("chat.example.com", "chat.example.com"),
            ("Chat.Example.com.", "cHAT.example.com"),
            ("chat.example.com", "chat.example.com."),
            ("*.example.com", "a.example.com"),
            ("*.Example.com.", "a.B.example.com."),
            ("my_host", "my_host"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("::1", "[::1]"),
            ("[::1]", "[0:0::1]"),
            ("2001:DB8::1", "[2001:db8:0::1]"),
            ("localhost", "localhost"),
            ("*", "chat.example.com"),
            ("*", "[::1]"),
        ],
    )
    @pytest.mark.parametrize("at", [OUTSIDE, LOOPBACK, UNIXAddress("/run/chat")], ids=str)
    def test_named_hosts_are_accepted_on_any_port(self, option: str, name: str, at: IAddress) -> None:
        for port in ("", ":80", ":8443"):
            assert answer(f"{name}{port}", f"http://{name}{port}", hosts=["other.example", option], at=at) == 101

    @pytest.mark.parametrize(
        ("option", "name"),
        [
            ("chat.example.com", "evil.example"),
            ("chat.example.com", "example.com"),
            ("chat.example.com", "a.chat.example.com"),
            ("chat.example.com", "chat.example.com.evil.example"),
            ("chat.example.com", "evilchat.example.com"),
            ("chat.example.com", "chat.example.com.."),
            ("chat.example.com", "chat%2eexample.com"),
            ("chat.example.com", "localhost"),
            ("chat.example.com", "127.0.0.1"),
            ("*.example.com", "example.com"),
            ("*.example.com", ".example.com.evil.example"),
            ("*.example.com", "evilexample.com"),
            ("192.0.2.1", "192.0.2.10"),
            ("::1", "[::2]"),
            ("localhost", "app.localhost"),
        ],
    )
    @pytest.mark.parametrize("at", [OUTSIDE, LOOPBACK, UNIXAddress("/run/chat")], ids=str)
    def test_with_host_options_other_hosts_get_421(self, option: str, name: str, at: IAddress) -> None:
        assert answer(name, f"http://{name}", hosts=[option], at=at) == 421
        assert answer(name, "https://app.example", hosts=[option], at=at, origins=["https://app.example"]) == 421
        assert answer(name, "https://app.example", hosts=[option], at=at, origins=["*"]) == 421

    def test_a_named_host_lets_no_foreign_origin_in(self) -> None:
        assert answer("chat.example.com", "http://evil.example", hosts=["chat.example.com"]) == 403
        assert answer("chat.example.com", "http://evil.example", hosts=["*"], at=LOOPBACK) == 403
        assert answer("chat.example.com", "null", hosts=["*"]) == 403

    def test_an_empty_host_is_none_of_the_named_ones(self) -> None:
        """A module of somebody else's may hand over a request without one."""
        assert answer("", "http://example.com", hosts=["example.com"]) == 421
        assert answer("", "http://example.com", at=LOOPBACK) == 421
        assert answer("", "http://example.com", hosts=["*"]) == 403


class TestScheme:
    """Where TLS ends here, our own pages are of https. In front of a plain connection, a proxy may end it."""

    @pytest.mark.parametrize(
        ("origin", "host", "secure", "expected"),
        [
            ("https://h", "h", True, 101),
            ("https://h:8443", "h:8443", True, 101),
            ("http://h", "h", True, 403),
            ("http://h:443", "h:443", True, 403),
            ("http://h:8443", "h:8443", True, 403),
            ("http://h", "h", False, 101),
            ("https://h", "h", False, 101),
        ],
    )
    def test_the_origins_scheme_must_be_that_of_the_connection(
        self, origin: str, host: str, secure: bool, expected: int
    ) -> None:
        assert answer(host, origin, secure=secure) == expected

    @pytest.mark.parametrize(
        ("origin", "secure", "expected"),
        [("https://h", True, 101), ("http://h", True, 403), ("https://h", False, 101), ("http://h", False, 101)],
    )
    def test_tls_that_ends_at_a_trusted_proxy_is_as_if_it_ended_here(
        self, origin: str, secure: bool, expected: int
    ) -> None:
        assert answer("h", origin, proxy=Proxy("10.0.0.1:50000", secure)) == expected

    def test_an_origin_of_another_scheme_may_be_listed(self) -> None:
        assert answer("h", "http://h", secure=True, origins=["http://h"]) == 101


class TestLog:
    """Whoever puts a proxy in front learns what to set, and no peer can fill the log."""

    @pytest.fixture
    @staticmethod
    def events() -> Iterator[list[LogEvent]]:
        events: list[LogEvent] = []
        observer = cast("ILogObserver", events.append)
        globalLogPublisher.addObserver(observer)
        yield events
        globalLogPublisher.removeObserver(observer)

    def test_a_refused_host_is_logged_once_with_the_option_to_set(self, events: list[LogEvent]) -> None:
        hosts, connection = Hosts(), Connection(LOOPBACK, False)
        bodies = set()
        for name in ("chat.example.com", "'$(reboot)'", "x" * 10_000):
            request = Request("GET", "/", "/", "", name, Headers([("Origin", "http://a")]))
            with pytest.raises(BadRequest) as caught:
                check_browser(request, connection, Origins(), hosts)  # type: ignore[arg-type]
            bodies.add(caught.value.reason)
        (event,) = events
        text = formatEvent(event)
        assert "--host" in text
        assert "'chat.example.com'" in text
        (body,) = bodies
        assert "--host" in body
        assert "chat.example.com" not in body

    def test_the_log_line_is_bounded(self, events: list[LogEvent]) -> None:
        Hosts(["chat.example.com"]).tell("x" * 10_000)
        assert len(formatEvent(events[0])) < 500


class TestBadOptions:
    @pytest.mark.parametrize(
        "option",
        [
            "",
            "chat.example.com:8080",
            "[::1]:80",
            "[::1",
            "::1]",
            "[chat]",
            "https://chat.example.com",
            "chat.example.com/",
            "user@example.com",
            "chat example",
            "b\xfccher.example",
            "\u212aelvin.example",
            "chat..example",
            ".example.com",
            "chat.*.com",
            "*.",
            "**",
            "*example.com",
            "*.*.example.com",
            "*.192.0.2.1",
            "*.[::1]",
            "fe80::1%eth0",
            b"example.com",
            None,
        ],
    )
    def test_wrong_hosts_are_named(self, option: Any) -> None:
        with pytest.raises(ConfigurationError, match="is not a host: write") as caught:
            Hosts(["example.com", option])
        assert str(caught.value).startswith(repr(option))

    def test_hosts_must_be_a_list(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^hosts are a list, not 'example.com'$"):
            Hosts("example.com")
