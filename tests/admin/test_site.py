from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from wshost.admin.pages import Answer, text
from wshost.admin.site import MOST_CLIENTS, TIMEOUT, Site, refused
from wshost.protocols.websocket.browsers import Hosts

HERE = IPv4Address("TCP", "192.0.2.7", 9090)
SOCKET = UNIXAddress("/run/admin.sock")


class Pages:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._answer = answer or text(200, "hello", {"X-More": "1"})

    def answer(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


class Client:
    def __init__(self, site: Site, host: IAddress = SOCKET) -> None:
        self.transport = StringTransport(host)
        self._clock: Clock = site.reactor
        built = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        self.protocol: Any = built
        self.protocol.makeConnection(self.transport)

    def ask(self, head: str, body: bytes = b"") -> str:
        self.protocol.dataReceived(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        self._clock.advance(0)
        return self.answer()

    def answer(self) -> str:
        said: str = self.transport.value().decode()
        self.transport.clear()
        return said

    def go(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionError()))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pages() -> Pages:
    return Pages()


def site_of(clock: Clock, pages: Any, *hosts: str) -> Site:
    return Site(clock, pages, Hosts(hosts))


@pytest.fixture
def site(clock: Clock, pages: Pages) -> Site:
    return site_of(clock, pages)


class TestRequests:
    def test_a_request_gets_the_answer_of_its_page(self, site: Site, pages: Pages) -> None:
        head = "GET /metrics?a=1&a=2&b=%C3%A9 HTTP/1.1\nHost: localhost\nAccept: text/plain"
        status, _, rest = Client(site).ask(head).partition("\r\n")
        assert status == "HTTP/1.1 200 OK"
        fields, _, body = rest.partition("\r\n\r\n")
        assert body == "hello\n"
        assert {"X-More: 1", "Content-Length: 6", "Cache-Control: no-store", "X-Content-Type-Options: nosniff"} <= set(
            fields.split("\r\n")
        )
        assert "\r\nDate: " in fields
        assert pages.asked == [("GET", "/metrics", {"a": "2", "b": "é"}, "text/plain")]

    def test_the_answer_to_head_has_no_body(self, site: Site) -> None:
        answer = Client(site).ask("HEAD / HTTP/1.1\nHost: localhost")
        assert "\r\nContent-Length: 6\r\n" in answer
        assert answer.endswith("\r\n\r\n")

    def test_a_connection_takes_one_request_after_the_other(self, site: Site) -> None:
        client = Client(site)
        for _ in range(2):
            assert client.ask("GET / HTTP/1.1\nHost: localhost\nContent-Length: 0").startswith("HTTP/1.1 200 ")

    def test_requests_that_come_together_get_one_answer_in_each_turn(
        self, site: Site, pages: Pages, clock: Clock
    ) -> None:
        """Else one client could hold all others up, those of the server, too."""
        first, second, third = clients = [Client(site) for _ in range(3)]
        for client in clients:
            client.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        assert pages.asked == []
        second.go()
        asked = []
        for _ in range(5):
            call: Any = clock.calls.pop(0)
            call.func()
            asked.append(len(pages.asked))
        # Nothing for the client that has gone.
        assert asked == [1, 1, 2, 3, 4]
        assert [client.answer().count("HTTP/1.1 200 ") for client in (first, third)] == [2, 2]

    def test_a_later_answer_is_sent_when_it_is_there(self, clock: Clock) -> None:
        later: Deferred[Answer] = Deferred()
        client = Client(site_of(clock, Pages(later)))
        assert client.ask("GET / HTTP/1.1\nHost: localhost") == ""
        later.callback(text(200, "late"))
        assert client.answer().endswith("\r\n\r\nlate\n")

    def test_a_later_answer_to_a_client_that_has_gone_is_dropped(self, clock: Clock) -> None:
        later: Deferred[Answer] = Deferred()
        client = Client(site_of(clock, Pages(later)))
        client.ask("GET / HTTP/1.1\nHost: localhost")
        client.go()
        later.callback(text(200, "late"))
        assert client.answer() == ""

    @pytest.mark.parametrize("error", [LookupError("on purpose"), SystemExit(3)])
    def test_a_page_that_fails_gets_500_and_is_logged(self, clock: Clock, error: BaseException) -> None:
        client = Client(site_of(clock, Pages(error)))
        with capturedLogs() as events:
            answer = client.ask("GET / HTTP/1.1\nHost: localhost")
        assert answer.startswith("HTTP/1.1 500 ")
        assert "on purpose" not in answer
        assert [event["log_failure"].value for event in events] == [error]

    @pytest.mark.parametrize(
        ("fields", "body"),
        [("Content-Length: 3", b"x=y"), ("Transfer-Encoding: chunked", b"3\r\nx=y\r\n0\r\n\r\n")],
    )
    def test_a_request_with_a_body_is_aborted(self, site: Site, pages: Pages, fields: str, body: bytes) -> None:
        client = Client(site)
        assert client.ask(f"DELETE /connections/c1 HTTP/1.1\nHost: localhost\n{fields}", body) == ""
        assert client.transport.disconnected
        assert pages.asked == []

    def test_nothing_is_logged_of_a_request(self, site: Site) -> None:
        """A monitor asks every few seconds."""
        factory: Any = site
        with capturedLogs() as events:
            factory.doStart()
            Client(site).ask("GET / HTTP/1.1\nHost: localhost")
            factory.doStop()
        assert events == []

    def test_the_log_names_the_port_admin(self, site: Site) -> None:
        assert site.logPrefix() == "admin"


class TestLimits:
    def test_a_silent_client_is_dropped(self, site: Site, clock: Clock) -> None:
        client = Client(site)
        clock.advance(TIMEOUT - 0.1)
        assert not client.transport.disconnecting
        clock.advance(0.2)
        assert client.transport.disconnecting

    def test_clients_that_are_dropped_for_silence_are_no_news(self, site: Site, clock: Clock) -> None:
        """A monitor may keep its connection from one look to the next."""
        with capturedLogs() as events:
            client = Client(site)
            clock.advance(TIMEOUT)
            clock.advance(TIMEOUT)
            assert client.transport.disconnected
        assert {event["log_level"] for event in events} == {LogLevel.debug}

    def test_clients_beyond_the_most_are_closed_at_once(self, site: Site) -> None:
        clients = [Client(site) for _ in range(MOST_CLIENTS)]
        late = Client(site)
        assert late.transport.disconnected
        assert not any(client.transport.disconnected for client in clients)
        clients[0].go()
        assert Client(site).ask("GET / HTTP/1.1\nHost: localhost").startswith("HTTP/1.1 200 ")

    def test_all_clients_are_aborted_when_the_endpoint_stops(self, site: Site) -> None:
        clients = [Client(site) for _ in range(2)]
        site.abort_all()
        assert [client.transport.disconnected for client in clients] == [True, True]


class TestBrowsers:
    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:9090", "127.0.0.1", "[::1]:9090", "a.localhost", "192.0.2.7:9090", "ops.example"],
    )
    def test_the_endpoints_names_may_be_asked_for(self, host: str) -> None:
        assert refused("GET", host, None, HERE, Hosts(["ops.example"])) is None

    def test_an_ipv6_endpoint_may_be_asked_for_by_its_address(self) -> None:
        assert refused("GET", "[2001:db8::1]", None, IPv6Address("TCP", "2001:db8::1", 9090), Hosts()) is None

    @pytest.mark.parametrize(
        ("host", "status"),
        [("evil.example", 421), ("192.0.2.8", 421), ("evil.example.", 421), ("", 400), (None, 400), ("a b", 400)],
    )
    def test_another_name_is_refused(self, host: str | None, status: int) -> None:
        """Its owner can let it resolve to this endpoint (DNS rebinding)."""
        answer = refused("GET", host, None, HERE, Hosts(["ops.example"]))
        assert answer is not None
        assert answer.status == status

    def test_a_status_that_twisted_does_not_know_has_its_reason_phrase(self, site: Site) -> None:
        answer = Client(site, HERE).ask("GET / HTTP/1.1\nHost: evil.example")
        assert answer.startswith("HTTP/1.1 421 Misdirected Request\r\n")

    def test_no_name_is_asked_for_on_a_unix_socket(self) -> None:
        assert refused("GET", None, None, SOCKET, Hosts()) is None

    @pytest.mark.parametrize("method", ["DELETE", "POST"])
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
    def test_a_page_may_change_nothing(self, method: str, origin: str) -> None:
        answer = refused(method, "localhost", origin, HERE, Hosts())
        assert answer is not None
        assert answer.status == 403

    def test_a_page_that_may_only_look_is_not_told_apart(self) -> None:
        """The browser shows it nothing, as there are no headers of CORS."""
        assert refused("GET", "localhost", "https://evil.example", HERE, Hosts()) is None

    def test_a_refused_request_asks_no_page(self, site: Site, pages: Pages) -> None:
        answer = Client(site, HERE).ask("DELETE /connections/c1 HTTP/1.1\nHost: localhost\nOrigin: null")
        assert answer.startswith("HTTP/1.1 403 ")
        assert pages.asked == []
