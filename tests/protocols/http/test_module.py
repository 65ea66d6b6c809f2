import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wshost.interfaces import (
    IContext,
    IEncoding,
    ILinkedModule,
    INegotiatedModule,
    IPreparedModule,
    IProtocolDriver,
    Timer,
)
from wshost.networks import Networks
from wshost.protocols.http import module as http
from wshost.protocols.http.options import Options
from wshost.request import Request
from wshost.results import REFUSED, Close, ConfigurationError, Results, Switch
from wshost.settings.options import MODULES, Settings

UPGRADE = (
    b"GET /chat?room=1 HTTP/1.1\r\n"
    b"Host: example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
PAGE = b"GET /page HTTP/1.1\r\nHost: example.com\r\n\r\n"
POST = b"POST /form HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello"


class OneTimer:
    def __init__(self, call: IDelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


@implementer(IContext)
class Connection:
    """A connection as this module sees it: it keeps what is performed."""

    ref = None
    request = None
    peer = "127.0.0.1:50000"
    peer_address = IPv4Address("TCP", "127.0.0.1", 50000)
    host_address = IPv4Address("TCP", "127.0.0.1", 8080)
    tls = proxy = route = None
    output_full = reset_by_peer = blocked = False
    reading = True
    max_output = 1 << 20

    def __init__(
        self, next_module: str | None = "websocket", admitted: bool = True, notes: dict[str, Any] | None = None
    ) -> None:
        self.notes = notes
        self.trusted: Networks | None = None
        #: What a proxy has said of clients; and whether there is room for them.
        self.clients: list[tuple[IAddress | None, bool]] = []
        self.room = True
        #: Whether another process is asked about them; and what is called when it has answered.
        self.asks = False
        self.decided: Callable[[], None] | None = None
        self.paused = False
        self.refused: list[tuple[int, str]] = []
        self.next_module = next_module
        self.admitted = admitted
        self.retry_after = 0
        self.clock = Clock()
        self.performed: list[Results] = []

    def perform(self, results: Results) -> None:
        self.performed.append(results)

    def count_refusal(self, status: int, reason: str) -> None:
        self.refused.append((status, reason))

    def use_client(self, client: IAddress | None, secure: bool, decided: Callable[[], None] | None = None) -> bool:
        self.clients.append((client, secure))
        if self.asks:
            self.decided = decided
            return False
        self.admitted = self.room
        return True

    def decide(self, room: bool) -> Results:
        """Another process has answered; return what the driver asked for."""
        self.admitted = room
        assert self.decided is not None
        self.decided()
        return self.performed.pop() if self.performed else None

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def keep_actions(self) -> None:
        raise NotImplementedError

    def release_actions(self) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        raise NotImplementedError

    def receive_into(self, buffer: Any) -> bool:
        raise NotImplementedError

    def call_soon(self, call: Callable[[], None]) -> None:
        raise NotImplementedError

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return OneTimer(self.clock.callLater(seconds, call))

    def call_regardless(self, seconds: float, call: Callable[[], None]) -> Timer:
        raise NotImplementedError

    def count_crash(self, handler: str, kind: str) -> None:
        raise NotImplementedError

    def log_failure(self, what: str) -> None:
        raise NotImplementedError

    def unsubscribe_all(self) -> None:
        raise NotImplementedError

    def start_over(self) -> None:
        raise NotImplementedError

    def use_policy(self, policy: str) -> None:
        raise NotImplementedError

    def take_waiting(self) -> Sequence[str | bytes]:
        raise NotImplementedError

    def use_encoding(self, encoding: IEncoding | None) -> None:
        raise NotImplementedError


def start(connection: Connection | None = None, **options: Any) -> IProtocolDriver:
    return http.init(http.prepare(options), connection or Connection())


def receive(data: bytes, **options: Any) -> Results:
    return start(**options).handle_connection_in(data)


def switch(result: Results) -> tuple[str, bytes, Request]:
    assert isinstance(result, Switch)
    assert result.request is not None
    return result.name, result.unread, result.request


def answer(result: Results) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the response that this result closes with."""
    assert isinstance(result, Close)
    head, _, body = result.data.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    version, status, _ = line.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = dict(field.split(": ", 1) for field in fields)
    assert headers["Content-Length"] == str(len(body))
    assert headers["Connection"].startswith("close")
    return int(status), headers, body


def without_date(response: bytes) -> bytes:
    return b"\r\n".join(line for line in response.split(b"\r\n") if not line.startswith(b"Date: "))


class TestInterfaces:
    def test_the_module_provides_its_interfaces(self) -> None:
        assert verifyObject(IPreparedModule, http)
        assert verifyObject(ILinkedModule, http)
        assert verifyObject(INegotiatedModule, http)
        assert http.alpn_protocols == (b"http/1.1",)

    def test_the_driver_provides_iprotocoldriver(self) -> None:
        assert verifyObject(IProtocolDriver, start())

    def test_the_connection_of_these_tests_provides_icontext(self) -> None:
        assert verifyObject(IContext, Connection())


class TestOptions:
    def test_the_defaults_are_those_of_the_table(self) -> None:
        assert http.prepare({}) == Options(**{name: one.default for name, one in MODULES["http"].items()})

    def test_sizes_may_have_a_unit(self) -> None:
        assert http.prepare({"max_head_size": "8KiB"}).max_head_size == 8192

    def test_the_mapping_is_left_as_it_was(self) -> None:
        options = {"paths": ["/"], "upgrade": "", "timeout": 3}
        http.prepare(options)
        assert options == {"paths": ["/"], "upgrade": "", "timeout": 3}

    def test_an_empty_name_of_a_module_is_none(self) -> None:
        assert http.prepare({"upgrade": "", "otherwise": None}) == http.prepare({})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"path": ["/chat"]}, r"^http: unknown option 'path'; did you mean paths\?$"),
            ({"paths": "/chat"}, r"^http: paths: '/chat' is not a list$"),
            ({"paths": None}, r"^http: paths: None is not a list$"),
            ({"paths": [7]}, r"^http: paths: 7 is not a string of one or more characters$"),
            ({"paths": []}, r"^http: paths: an empty list"),
            ({"paths": ["/chat", "chat"]}, r"^http: paths: 'chat' is not a path pattern"),
            ({"health_path": 7}, r"^http: health_path: 7 is not a string of one or more characters$"),
            ({"health_path": "healthz"}, r"^http: health_path: 'healthz' is not a path that requests have"),
            ({"health_path": "/health/*"}, r"^http: health_path: '/health/\*' is not a path that requests have"),
            ({"health_path": "/a/../b"}, r"^http: health_path: '/a/\.\./b' is not a path that requests have"),
            ({"health_path": "/a", "paths": ["/a"]}, r"^http: health_path: '/a' is a route, too$"),
            ({"upgrade": 7}, r"^http: upgrade: 7 is not a string"),
            ({"otherwise": ["site"]}, r"^http: otherwise: \['site'\] is not a string"),
            ({"max_head_size": 0}, r"^http: max_head_size: 0 is not a size from 1 to "),
            ({"max_headers": "100"}, r"^http: max_headers: '100' is not a whole number from 1 to "),
            ({"timeout": 0}, r"^http: timeout: 0 is not a number of seconds from 0.001 to "),
        ],
    )
    def test_wrong_options_are_named(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            http.prepare(options)

    @pytest.mark.parametrize(
        ("options", "chain", "message"),
        [
            ({}, ["http"], r"^http: no module follows"),
            ({}, ["websocket", "http"], r"^http: no module follows"),
            ({"upgrade": "mine"}, ["http", "websocket"], r"^http: upgrade: 'mine' is no other module of the chain: "),
            (
                {"otherwise": "site"},
                ["http", "websocket"],
                r"^http: otherwise: 'site' is no other module of the chain: http, websocket$",
            ),
            ({"otherwise": "http"}, ["http", "websocket"], r"^http: otherwise: 'http' is no other module"),
        ],
    )
    def test_a_chain_without_the_named_modules_is_refused(
        self, options: dict[str, str], chain: list[str], message: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=message):
            http.check(http.prepare(options), chain, chain.index("http"))

    @pytest.mark.parametrize("options", [{}, {"upgrade": "websocket"}, {"upgrade": "site", "otherwise": "site"}])
    def test_a_chain_with_the_named_modules_is_taken(self, options: dict[str, str]) -> None:
        prepared = http.prepare(options)
        http.check(prepared, ["first", "http", "websocket", "site"], 1)
        with pytest.raises(ConfigurationError):
            http.check(prepared, ["first", "http"], 1)


class TestLineEnds:
    """RFC 9112 §2.2."""

    @pytest.mark.parametrize(
        "parts", [[b"GET / HTTP/1.1\n"], [b"GET / HTTP/1.1\r\nHost: a", b"\n"], [b"GET /", b"\nH"]]
    )
    def test_a_bare_line_feed_gets_400_as_soon_as_it_comes(self, parts: list[bytes]) -> None:
        driver = start()
        for part in parts[:-1]:
            assert driver.handle_connection_in(part) is None
        assert answer(driver.handle_connection_in(parts[-1]))[0] == 400

    @pytest.mark.parametrize(
        "head",
        [
            b"\r\n0\n\r\n\r\n",
            b"GET / HTTP/1.1\nX: \0\r\n\r\n",
            b"GET / HTTP/2.0\r\nHost: a\nX: \r\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\n" + b"X: a\r\n" * 40 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: a\n" + b"x" * 200,
        ],
    )
    def test_it_gets_the_same_answer_in_whatever_pieces_it_comes(self, head: bytes) -> None:
        answers = set()
        for cut in range(len(head)):
            driver = start(max_head_size=100, max_headers=20)
            result = driver.handle_connection_in(head[:cut]) if cut else None
            status, _, body = answer(result or driver.handle_connection_in(head[cut:]))
            answers.add((status, body))
        assert answers == {(400, b"A line of the request head does not end in CRLF.")}

    def test_cr_and_lf_may_come_apart(self) -> None:
        driver = start()
        for byte in UPGRADE[:-1]:
            assert driver.handle_connection_in(bytes([byte])) is None
        assert switch(driver.handle_connection_in(UPGRADE[-1:]))[0] == "websocket"

    def test_a_bare_line_feed_behind_the_head_is_handed_on(self) -> None:
        assert switch(receive(UPGRADE + b"\n"))[1] == b"\n"


class TestEmptyLines:
    """RFC 9112 §2.2: before the request line, they are ignored."""

    @pytest.mark.parametrize("count", [1, 2, 8])
    @pytest.mark.parametrize("size", [1, 2, 3, 1_000])
    def test_up_to_eight_empty_lines_are_ignored(self, count: int, size: int) -> None:
        driver = start()
        data = b"\r\n" * count + UPGRADE + b"\x81"
        end = len(data) - 1
        results = [driver.handle_connection_in(data[at : at + size]) for at in range(0, end, size)]
        name, unread, request = switch(results[-1])
        assert results[:-1] == [None] * (len(results) - 1)
        assert (name, request.path) == ("websocket", "/chat")
        assert unread == (b"" if end % size == 0 else b"\x81")

    def test_empty_lines_are_not_handed_on(self) -> None:
        """Others may take no more than one."""
        assert switch(receive(b"\r\n\r\n" + POST, otherwise="site"))[:2] == ("site", POST)

    @pytest.mark.parametrize("size", [1, 2, 3, 1_000])
    def test_nine_empty_lines_get_400(self, size: int) -> None:
        driver = start()
        data = b"\r\n" * 9
        results = [driver.handle_connection_in(data[at : at + size]) for at in range(0, len(data), size)]
        assert answer(next(result for result in results if result is not None))[0] == 400

    @pytest.mark.parametrize("data", [b"\n", b"\r\n\n", b"\r\r\n", b"\n\r\n", b"\r\n\rG", b"\r\n \r\n", b"\r\n\0"])
    def test_anything_else_before_the_request_line_gets_400(self, data: bytes) -> None:
        assert answer(receive(data + UPGRADE))[0] == 400
        driver = start()
        results = [driver.handle_connection_in(bytes([byte])) for byte in data + UPGRADE]
        assert answer(next(result for result in results if result is not None))[0] == 400

    def test_a_bare_line_feed_is_no_empty_line(self) -> None:
        """RFC 9112 §2.2 allows it; a proxy in front may see it otherwise."""
        assert answer(receive(b"\n" + UPGRADE))[0] == 400

    @pytest.mark.parametrize("data", [b"\r", b"\r\n", b"\r\n\r"])
    def test_empty_lines_without_a_request_are_closed_at_the_timeout(self, data: bytes) -> None:
        connection = Connection()
        assert start(connection).handle_connection_in(data) is None
        connection.clock.advance(Settings.handshake_timeout.default)
        assert connection.performed == [Close()]

    def test_empty_lines_behind_the_head_are_handed_on(self) -> None:
        assert switch(receive(UPGRADE + b"\r\n"))[1] == b"\r\n"

    def test_empty_lines_do_not_count_for_the_size_of_the_head(self) -> None:
        assert switch(receive(b"\r\n" * 8 + UPGRADE, max_head_size=len(UPGRADE)))[0] == "websocket"


class TestUpgrade:
    """RFC 6455 §4.2.1, RFC 9110 §7.8."""

    def test_the_next_module_gets_upgrades(self) -> None:
        name, unread, request = switch(receive(UPGRADE))
        assert (name, unread) == ("websocket", b"")
        assert (request.method, request.path, request.query) == ("GET", "/chat", "room=1")
        assert (request.host, request.route) == ("example.com", None)
        assert request.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="

    def test_a_module_named_by_the_option_upgrade_gets_upgrades(self) -> None:
        assert switch(receive(UPGRADE, upgrade="mine"))[0] == "mine"
        assert switch(start(Connection(next_module=None), upgrade="mine").handle_connection_in(UPGRADE))[0] == "mine"

    def test_bytes_behind_the_head_are_handed_on(self) -> None:
        assert switch(receive(UPGRADE + b"\x81\x80\0\0\0\0\r\n\r\n"))[1] == b"\x81\x80\0\0\0\0\r\n\r\n"

    @pytest.mark.parametrize("upgrade", [b"WebSocket", b"h2c, websocket", b"a/1,WEBSOCKET ,b"])
    @pytest.mark.parametrize("connection", [b"upgrade", b"keep-alive,UPGRADE"])
    def test_upgrade_and_connection_are_lists_in_any_case(self, upgrade: bytes, connection: bytes) -> None:
        data = UPGRADE.replace(b": websocket", b": " + upgrade).replace(b"keep-alive, Upgrade", connection)
        assert switch(receive(data))[0] == "websocket"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"Upgrade: websocket\r\n", b""),
            (b": websocket", b": h2c"),
            (b": websocket", b": websocket2, websocket/13, not websocket"),
            (b"Connection: keep-alive, Upgrade\r\n", b""),
            (b"keep-alive, Upgrade", b"keep-alive, Upgrades"),
            (b"HTTP/1.1", b"HTTP/1.0"),
        ],
    )
    def test_requests_that_are_no_upgrade_get_426(self, old: bytes, new: bytes) -> None:
        """RFC 9110 §15.5.22."""
        status, headers, body = answer(receive(UPGRADE.replace(old, new)))
        assert (status, headers["Upgrade"], headers["Connection"]) == (426, "websocket", "close, Upgrade")
        assert b"WebSocket" in body
        assert headers["Content-Type"].startswith("text/plain")


class TestChunks:
    """Bytes come as they like, and none gets lost."""

    def test_a_head_may_come_byte_by_byte(self) -> None:
        driver = start()
        results = [driver.handle_connection_in(bytes([byte])) for byte in UPGRADE]
        assert results[:-1] == [None] * (len(UPGRADE) - 1)
        assert switch(results[-1])[:2] == ("websocket", b"")

    @settings(deadline=None)
    @given(st.binary(max_size=40), st.lists(st.integers(1, 60), min_size=1), st.sampled_from([UPGRADE, PAGE]))
    def test_no_way_of_cutting_loses_a_byte(self, rest: bytes, sizes: list[int], head: bytes) -> None:
        data = head + rest
        driver = start(otherwise="site")
        fed = 0
        for size in itertools.cycle(sizes):
            chunk = data[fed : fed + size]
            fed += size
            result = driver.handle_connection_in(chunk)
            if result is not None:
                break
        name, unread, request = switch(result)
        assert unread + data[fed:] == (rest if head is UPGRADE else data)
        assert (name, request) == switch(receive(data, otherwise="site"))[::2]

    def test_a_head_that_comes_byte_by_byte_is_read_in_linear_time(self) -> None:
        def seconds(size: int) -> float:
            """The processor's time for a thousand bytes, one by one, behind a head of this size."""
            driver = start(max_head_size="1MiB")
            driver.handle_connection_in(b"G" * size)
            before = time.thread_time()
            for _ in range(1_000):
                assert driver.handle_connection_in(b"G") is None
            return time.thread_time() - before

        # The quickest of several runs: others may use the processor's caches.
        assert min(seconds(1 << 18) for _ in range(3)) < 10 * min(seconds(1) for _ in range(3))


class TestOtherwise:
    """What is no upgrade is another module's, as it came."""

    @pytest.mark.parametrize(
        "data",
        [
            PAGE,
            POST,
            PAGE + PAGE,
            UPGRADE.replace(b"GET", b"POST"),
            UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
            b"HEAD / HTTP/1.0\r\n\r\n",
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"GET /?" + b"a&" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_the_module_named_by_otherwise_gets_every_byte_and_the_request(self, data: bytes) -> None:
        name, unread, request = switch(receive(data, otherwise="site", paths=["/chat"]))
        assert (name, unread) == ("site", data)
        assert request.method == data.partition(b" ")[0].decode()

    def test_the_module_named_by_otherwise_does_not_get_upgrades(self) -> None:
        assert switch(receive(UPGRADE, otherwise="site"))[0] == "websocket"
        assert answer(receive(UPGRADE, otherwise="site", paths=["/other"]))[0] == 404

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"POST / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x85chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 100 + b"\r\n", 431),
            (b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 16384, 431),
        ],
    )
    def test_the_module_named_by_otherwise_does_not_get_bad_heads(self, data: bytes, status: int) -> None:
        assert answer(receive(data, otherwise="site"))[0] == status

    def test_twisted_web_reads_what_the_module_named_by_otherwise_gets(self) -> None:
        class Form(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:
                return b"got " + bytes(request.content.read())

        clock = Clock()
        transport = StringTransport()
        protocol = Site(Form(), reactor=clock).buildProtocol(None)  # type: ignore[no-untyped-call]
        protocol.makeConnection(transport)
        protocol.dataReceived(switch(receive(POST[:-3], otherwise="site"))[1])
        protocol.dataReceived(POST[-3:])
        assert transport.value().startswith(b"HTTP/1.1 200 OK\r\n")
        assert transport.value().endswith(b"got hello")
        transport.loseConnection()
        protocol.connectionLost(None)


class TestPaths:
    @pytest.mark.parametrize(("paths", "route"), [(["/chat"], "/chat"), (["/other", "/*"], "/*")])
    def test_the_request_names_the_pattern(self, paths: list[str], route: str) -> None:
        assert switch(receive(UPGRADE, paths=paths))[2].route == route

    def test_paths_that_are_not_served_get_404(self) -> None:
        """RFC 9110 §15.5.5."""
        assert answer(receive(UPGRADE, paths=["/chat/*"]))[0] == 404
        assert answer(receive(PAGE, paths=["/chat"]))[0] == 404


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-A : a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (UPGRADE.replace(b"Host", b"Content-Length: 7\r\nHost"), 413),
            (UPGRADE.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"), 413),
            (POST, 405),
        ],
    )
    def test_each_refusal_has_its_status(self, data: bytes, status: int) -> None:
        assert answer(receive(data))[0] == status

    def test_a_405_response_names_the_allowed_method(self) -> None:
        """RFC 9110 §15.5.6."""
        assert answer(receive(POST))[1]["Allow"] == "GET"

    def test_the_response_to_head_has_no_body(self) -> None:
        """RFC 9110 §9.3.2."""
        assert answer(receive(PAGE.replace(b"GET", b"HEAD")))[::2] == (405, b"")

    @pytest.mark.parametrize(
        "data", [b"\x16", b"\x16\x03\x01\x02\x00", b"\rG", b"\r\r", b"\n", b" ", b"\0", b"\x80", b"{", b"("]
    )
    def test_garbage_gets_400_at_its_first_byte(self, data: bytes) -> None:
        assert answer(receive(data))[0] == 400

    def test_input_after_a_refusal_is_ignored(self) -> None:
        driver = start()
        assert answer(driver.handle_connection_in(POST))[0] == 405
        assert driver.handle_connection_in(UPGRADE) is None
        assert driver.handle_connection_in(b"\x16") is None

    def test_the_answer_repeats_nothing_of_the_request(self) -> None:
        result = receive(b"GET /<script> HTTP/1.1\r\nHost: <script>\r\n\r\n")
        assert b"script" not in answer(result)[2]


class TestHealth:
    """The checks of load balancers."""

    @pytest.mark.parametrize(
        "request_line", [b"GET /healthz HTTP/1.0\r\n", b"GET /healthz?from=nginx HTTP/1.1\r\nHost: 10.0.0.1\r\n"]
    )
    @pytest.mark.parametrize("options", [{}, {"paths": ["/chat"]}, {"paths": ["/*"]}, {"otherwise": "site"}])
    def test_the_health_path_gets_200_whatever_is_served(self, request_line: bytes, options: dict[str, Any]) -> None:
        connection = Connection(notes={})
        driver = start(connection, health_path="/healthz", **options)
        status, headers, body = answer(driver.handle_connection_in(request_line + b"\r\n"))
        assert (status, body, headers["Cache-Control"]) == (200, b"ok\n", "no-store")
        assert connection.notes is None
        assert connection.refused == []

    def test_an_upgrade_on_the_health_path_gets_200(self) -> None:
        assert answer(receive(UPGRADE, health_path="/chat"))[0] == 200

    def test_the_answer_to_head_is_that_to_get_without_its_body(self) -> None:
        """RFC 9110 §9.3.2."""
        head, get = (
            receive(method + b" /healthz HTTP/1.0\r\n\r\n", health_path="/healthz") for method in (b"HEAD", b"GET")
        )
        assert isinstance(head, Close)
        assert isinstance(get, Close)
        assert head.data.endswith(b"\r\n\r\n")
        assert without_date(head.data) + b"ok\n" == without_date(get.data)

    def test_options_are_answered_with_the_methods(self) -> None:
        """HAProxy's check by default."""
        status, headers, body = answer(receive(b"OPTIONS /healthz HTTP/1.0\r\n\r\n", health_path="/healthz"))
        assert (status, headers["Allow"], body) == (200, "GET, HEAD, OPTIONS", b"")

    def test_another_method_on_the_health_path_gets_405(self) -> None:
        connection = Connection(notes={})
        driver = start(connection, health_path="/healthz", otherwise="site")
        status, headers, _ = answer(driver.handle_connection_in(b"POST /healthz HTTP/1.0\r\n\r\n"))
        assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
        assert connection.refused == [(405, "Only GET, HEAD and OPTIONS are served here.")]
        assert connection.notes is not None

    @pytest.mark.parametrize("path", [b"/", b"/healthz/", b"/Healthz", b"/%68ealthz"])
    def test_other_paths_are_none_of_health(self, path: bytes) -> None:
        assert answer(receive(b"GET " + path + b" HTTP/1.0\r\n\r\n", health_path="/healthz"))[0] == 426

    def test_a_server_that_stops_or_is_full_says_503(self) -> None:
        stopping = start(health_path="/healthz").handle_action("shutdown")
        assert isinstance(stopping, Close)
        full = Connection(admitted=False)
        start(full, health_path="/healthz")
        assert [answer(result)[0] for result in (stopping, *full.performed)] == [503, 503]


class TestNotes:
    """For the access log."""

    def test_a_request_is_noted(self) -> None:
        connection = Connection(notes={})
        data = UPGRADE.replace(b"Host", b"User-Agent: a browser\r\nHost")
        start(connection, paths=["/*"]).handle_connection_in(data)
        assert connection.notes == {"path": "/chat", "user_agent": "a browser", "traceparent": None, "route": "/*"}

    def test_a_traceparent_is_noted(self) -> None:
        connection = Connection(notes={})
        value = "00-12345678901234567890123456789012-1234567890123456-01"
        start(connection).handle_connection_in(UPGRADE.replace(b"Host", f"Traceparent: {value}\r\nHost".encode()))
        assert connection.notes is not None
        assert connection.notes["traceparent"] == value

    def test_a_request_that_is_refused_is_noted_and_counted(self) -> None:
        connection = Connection(notes={})
        start(connection).handle_connection_in(PAGE)
        assert connection.notes == {"path": "/page", "user_agent": None, "traceparent": None}
        assert connection.refused == [(426, "This is a WebSocket server: connect with ws:// or wss://.")]

    @pytest.mark.parametrize(
        ("data", "refused"),
        [
            (PAGE.replace(b"GET", b"HEAD"), (405, "Only GET is served here.")),
            (b"\x16", (400, "This is not HTTP.")),
        ],
    )
    def test_each_refusal_is_counted(self, data: bytes, refused: tuple[int, str]) -> None:
        connection = Connection()
        start(connection).handle_connection_in(data)
        assert connection.refused == [refused]

    def test_a_late_head_a_full_server_and_one_that_stops_are_counted(self) -> None:
        late, full, stopping = Connection(), Connection(admitted=False), Connection()
        start(late).handle_connection_in(b"GET")
        late.clock.advance(Settings.handshake_timeout.default)
        start(full)
        start(stopping).handle_action("shutdown")
        assert [*late.refused, *full.refused, *stopping.refused] == [
            (408, "The request head took too long."),
            (503, "The server is full."),
            (503, "The server is shutting down."),
        ]

    def test_a_silent_peer_is_not_refused(self) -> None:
        connection = Connection()
        start(connection)
        connection.clock.advance(Settings.handshake_timeout.default)
        assert connection.refused == []


class TestHeadSize:
    """RFC 6585 §5."""

    def test_a_head_as_long_as_the_limit_is_accepted(self) -> None:
        assert switch(receive(UPGRADE + b"more", max_head_size=len(UPGRADE)))[:2] == ("websocket", b"more")

    def test_a_head_longer_than_the_limit_gets_431(self) -> None:
        assert answer(receive(UPGRADE, max_head_size=len(UPGRADE) - 1))[0] == 431

    def test_the_first_byte_beyond_the_limit_gets_431(self) -> None:
        driver = start(max_head_size=32)
        assert driver.handle_connection_in(b"G" * 31) is None
        assert answer(driver.handle_connection_in(b"G"))[0] == 431

    def test_the_default_limit_of_a_head_is_that_of_the_table(self) -> None:
        driver = start()
        assert driver.handle_connection_in(b"G" * (MODULES["http"]["max_head_size"].default - 1)) is None
        assert answer(driver.handle_connection_in(b"G"))[0] == 431

    def test_too_many_headers_get_431(self) -> None:
        assert switch(receive(UPGRADE, max_headers=5))[0] == "websocket"
        assert answer(receive(UPGRADE, max_headers=4))[0] == 431


class TestTimeout:
    def test_an_unfinished_head_gets_408(self) -> None:
        """RFC 9110 §15.5.9."""
        connection = Connection()
        driver = start(connection)
        driver.handle_connection_in(UPGRADE[:-1])
        connection.clock.advance(Settings.handshake_timeout.default - 0.01)
        assert connection.performed == []
        connection.clock.advance(0.01)
        assert [answer(result)[0] for result in connection.performed] == [408]
        assert driver.handle_connection_in(UPGRADE[-1:]) is None

    def test_a_byte_does_not_extend_the_time_of_a_head(self) -> None:
        connection = Connection()
        driver = start(connection, timeout=2)
        for byte in UPGRADE[:20]:
            connection.clock.advance(0.1)
            driver.handle_connection_in(bytes([byte]))
        assert [answer(result)[0] for result in connection.performed] == [408]

    def test_a_silent_peer_is_closed_without_an_answer(self) -> None:
        connection = Connection()
        driver = start(connection)
        connection.clock.advance(Settings.handshake_timeout.default)
        assert connection.performed == [Close()]
        assert driver.handle_connection_in(UPGRADE) is None

    @pytest.mark.parametrize("data", [UPGRADE, PAGE, b"\x16", b"G" * 16384])
    def test_no_timer_is_left_behind_the_head(self, data: bytes) -> None:
        connection = Connection()
        assert start(connection).handle_connection_in(data) is not None
        assert connection.clock.getDelayedCalls() == []

    def test_no_timer_is_left_behind_the_connection(self) -> None:
        connection = Connection()
        driver = start(connection)
        driver.handle_connection_in(b"GET")
        driver.handle_connection_close("the peer left")
        driver.handle_connection_close("and again")
        assert connection.clock.getDelayedCalls() == []
        assert connection.performed == []


class TestFullServer:
    def test_a_connection_from_an_address_that_connects_too_often_gets_429_at_once(self) -> None:
        connection = Connection(admitted=False)
        connection.retry_after = 3
        start(connection)
        [result] = connection.performed
        status, headers, _ = answer(result)
        assert (status, headers["Retry-After"]) == (429, "3")

    def test_a_connection_that_is_not_admitted_gets_503_at_once(self) -> None:
        """RFC 9110 §15.6.4."""
        connection = Connection(admitted=False)
        driver = start(connection)
        [result] = connection.performed
        status, headers, _ = answer(result)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert driver.handle_connection_in(UPGRADE) is None
        driver.handle_connection_close("closed")
        assert connection.clock.getDelayedCalls() == []


def upgrade(*fields: str) -> bytes:
    return UPGRADE.removesuffix(b"\r\n") + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


class TestBehindATrustedProxy:
    @pytest.fixture
    def connection(self) -> Connection:
        connection = Connection()
        connection.trusted = Networks(["10.0.0.0/8"])
        return connection

    @pytest.mark.parametrize(
        ("fields", "client", "secure"),
        [
            (["X-Forwarded-For: 192.0.2.1"], IPv4Address("TCP", "192.0.2.1", 0), False),
            (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1:7"], IPv4Address("TCP", "192.0.2.1", 7), False),
            (['Forwarded: for="[2001:db8::1]:4711";proto=https'], IPv6Address("TCP", "2001:db8::1", 4711), True),
            (["X-Forwarded-Proto: https"], None, True),
            ([], None, False),
        ],
    )
    def test_the_proxy_names_the_client(
        self, connection: Connection, fields: list[str], client: IAddress | None, secure: bool
    ) -> None:
        assert switch(start(connection).handle_connection_in(upgrade(*fields)))[0] == "websocket"
        assert connection.clients == [(client, secure)]

    def test_anybody_else_names_nobody(self) -> None:
        connection = Connection()
        data = upgrade("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2")
        assert switch(start(connection).handle_connection_in(data))[0] == "websocket"
        assert connection.clients == []

    def test_two_headers_that_disagree_get_400(self, connection: Connection) -> None:
        data = upgrade("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2")
        assert answer(start(connection).handle_connection_in(data))[0] == 400
        assert connection.clients == []
        assert connection.refused == [(400, "Forwarded and X-Forwarded-For name different clients.")]

    @pytest.mark.parametrize(("retry_after", "status"), [(0, 503), (3, 429)])
    def test_a_client_for_whom_there_is_no_room_is_refused(
        self, connection: Connection, retry_after: int, status: int
    ) -> None:
        connection.room, connection.retry_after = False, retry_after
        assert answer(start(connection).handle_connection_in(upgrade("X-Forwarded-For: 192.0.2.1")))[0] == status

    def test_a_client_about_whom_another_process_is_asked_waits_for_its_answer(self, connection: Connection) -> None:
        connection.asks = True
        driver = start(connection)
        assert driver.handle_connection_in(upgrade("X-Forwarded-For: 192.0.2.1") + b"one") is None
        assert connection.paused
        assert connection.clock.getDelayedCalls() == []
        assert driver.handle_connection_in(b"two") is None
        name, unread, request = switch(connection.decide(room=True))
        assert (name, unread, request.headers["x-forwarded-for"]) == ("websocket", b"onetwo", "192.0.2.1")

    @pytest.mark.parametrize(("retry_after", "status"), [(0, 503), (3, 429)])
    def test_a_client_for_whom_another_process_has_no_room_is_refused(
        self, connection: Connection, retry_after: int, status: int
    ) -> None:
        connection.asks, connection.retry_after = True, retry_after
        start(connection).handle_connection_in(upgrade("X-Forwarded-For: 192.0.2.1"))
        assert answer(connection.decide(room=False))[0] == status
        assert connection.refused[0][0] == status

    def test_a_bad_request_gets_its_answer_after_the_other_processs(self, connection: Connection) -> None:
        connection.asks = True
        driver = start(connection)
        assert (
            driver.handle_connection_in(PAGE.replace(b"GET", b"POST").replace(b"Host", b"Forwarded: for=_x\r\nHost"))
            is None
        )
        assert answer(connection.decide(room=True))[0] == 405

    def test_a_server_that_stops_does_not_wait_for_another_process(self, connection: Connection) -> None:
        connection.asks = True
        driver = start(connection)
        driver.handle_connection_in(upgrade("X-Forwarded-For: 192.0.2.1"))
        stopped = driver.handle_action("shutdown")
        assert isinstance(stopped, Close)
        assert answer(stopped)[0] == 503
        assert connection.decide(room=True) is None

    def test_health_checks_and_requests_for_another_module_have_no_client(self, connection: Connection) -> None:
        """A proxy keeps its connections with another module open, for one client after the other."""
        page = PAGE.replace(b"Host", b"X-Forwarded-For: 192.0.2.1\r\nHost")
        driver = start(connection, health_path="/page")
        assert answer(driver.handle_connection_in(page))[0] == 200
        assert switch(start(connection, otherwise="web").handle_connection_in(page))[0] == "web"
        assert connection.clients == []


class TestActions:
    @pytest.mark.parametrize("action", ["drain", "shutdown"])
    @pytest.mark.parametrize("received", [b"", b"GET / HT"])
    def test_a_server_that_stops_answers_503(self, received: bytes, action: str) -> None:
        connection = Connection()
        driver = start(connection)
        if received:
            driver.handle_connection_in(received)
        result = driver.handle_action(action)
        assert isinstance(result, Close)
        status, headers, _ = answer(result)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert driver.handle_connection_in(UPGRADE) is None
        assert connection.clock.getDelayedCalls() == []

    def test_a_shutdown_adds_nothing_to_an_answer(self) -> None:
        driver = start()
        driver.handle_connection_in(POST)
        assert driver.handle_action("shutdown") is None

    @pytest.mark.parametrize(
        "action", [("send", "hi"), ("ping", b""), ("close", 1000, ""), ("info", 1), ("drained",), ("whatever",)]
    )
    def test_other_actions_are_refused(self, action: tuple[Any, ...]) -> None:
        driver = start()
        assert driver.handle_action(*action) is REFUSED
        assert switch(driver.handle_connection_in(UPGRADE))[0] == "websocket"
