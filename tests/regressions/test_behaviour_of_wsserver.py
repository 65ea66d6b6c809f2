"""The behaviours of wsserver, the original: each is kept, or corrected where it was a fault.

A test's class is named after what it is about, and its docstring says what the original did. Most go through
`wshost.service`, as somebody who comes from there would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

import wshost
from tests.memory import MemoryHost, Peer, request
from tests.ports import Reactor
from tests.regressions import wire
from tests.regressions.wire import BINARY, CONTINUATION, PING, PONG, TEXT, close_code, frame, frames, status
from wshost import Accept, Reject
from wshost.interfaces import IContext, IProtocolDriver, IProtocolModule
from wshost.results import REFUSED, Close, ConfigurationError, Refused, Results, Switch


class Handler:
    """A handler of which the test says how it answers; it notes all that it is told.

    :param answer: from a message to an answer without a state.
    """

    def __init__(self, answer: Callable[[Any], tuple[Any, ...]] = lambda message: ("noreply",)) -> None:
        self.options: Mapping[str, Any]
        self.heard: list[Any] = []
        self._answer = answer

    @property
    def worker(self) -> Any:
        """The connection's reference, as the original calls it."""
        return self.options["worker"]

    def init(self, options: Mapping[str, Any]) -> int:
        self.options = options
        return 0

    def handle(self, message: Any, count: int) -> tuple[Any, ...]:
        self.heard.append(message)
        return (*self._answer(message), count + 1)


def replying(*answer: Any) -> Handler:
    """A handler that answers texts so, and nothing else."""
    return Handler(lambda message: answer if message[0] == "text" else ("noreply",))


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def connect(reactor: Reactor, listener: int = 0, port: int = 50_000) -> Peer:
    """Connect to what listens."""
    factory = reactor.tcpServers[listener][1]
    host: Any = SimpleNamespace(reactor=reactor, hub=SimpleNamespace(factory=lambda proxied: factory))
    return Peer(host, IPv4Address("TCP", "127.0.0.1", port))


def options(handler: Any, **more: Any) -> dict[str, Any]:
    """The original's options."""
    modules = [("wsserver_websocket_protocol", {"handler_module": handler})]
    return {"port": 8080, "number_of_workers": 10, "worker_options": {"protocol_modules_options": modules}, **more}


@pytest.fixture
def start(reactor: Reactor) -> Iterator[Callable[..., Any]]:
    """Start a service with these options."""
    running: list[Any] = []

    def start(given: Any) -> Any:
        running.append(wshost.service(given, reactor))
        running[-1].startService()
        return running[-1]

    yield start
    for service in running:
        if service.running:
            service.stopService()


class TestOptions:
    """`port` (8080), `number_of_workers` and `worker_options` (no default), `register`; reuseaddr, no bind address."""

    def test_the_originals_options_start_a_server(self, start: Callable[..., Any], reactor: Reactor) -> None:
        start(options(replying("reply", "hi")))
        assert reactor.tcpServers[0][0] == 8080
        peer = connect(reactor)
        assert status(peer.upgrade()) == 101
        peer.text("hello")
        assert peer.messages() == ["hi"]

    def test_options_as_pairs_start_a_server(self, start: Callable[..., Any], reactor: Reactor) -> None:
        handler = replying("reply", "hi")
        start(
            [
                ("port", 8080),
                ("number_of_workers", 10),
                (
                    "worker_options",
                    [("protocol_modules", [("wsserver_websocket_protocol", [("handler_module", handler)])])],
                ),
            ]
        )
        assert status(connect(reactor).upgrade()) == 101

    def test_every_option_but_the_handler_has_a_default(self, start: Callable[..., Any], reactor: Reactor) -> None:
        start({"handler": Handler()})
        port, _, backlog, interface = reactor.tcpServers[0]
        assert (port, interface) == (8080, "127.0.0.1")
        assert backlog > 100

    def test_a_missing_handler_and_a_wrong_port_are_named(self) -> None:
        with pytest.raises(ConfigurationError, match="there is no handler"):
            wshost.service({"port": 8080})
        with pytest.raises(ConfigurationError, match="port"):
            wshost.service(options(Handler(), port="http"))

    def test_an_interface_and_endpoints_can_be_given(self, start: Callable[..., Any], reactor: Reactor) -> None:
        start({"handler": Handler(), "port": 0, "interface": "::1"})
        start({"handler": Handler(), "listen": ["tcp:8081:interface=127.0.0.2:backlog=7"]})
        assert [server[3] for server in reactor.tcpServers] == ["::1", "127.0.0.2"]
        assert reactor.tcpServers[1][2] == 7


class TestNumberOfWorkers:
    """N workers served one connection each: the one more connected, and got no 101 until another had gone."""

    def test_a_connection_beyond_number_of_workers_gets_503_at_once(
        self, start: Callable[..., Any], reactor: Reactor
    ) -> None:
        start(options(Handler(), number_of_workers=2))
        peers = [connect(reactor) for _ in range(2)]
        assert [status(peer.upgrade()) for peer in peers] == [101, 101]
        assert status(connect(reactor).take()) == 503

    def test_a_connection_that_ends_makes_room_for_another(self, start: Callable[..., Any], reactor: Reactor) -> None:
        start(options(Handler(), number_of_workers=1))
        first = connect(reactor)
        first.upgrade()
        first.leave()
        assert status(connect(reactor).upgrade()) == 101


class TestSupervision:
    """A worker that crashed was replaced, any number of times; the others did not notice."""

    def test_a_crash_ends_one_connection_only(self) -> None:
        def crash(message: Any) -> tuple[Any, ...]:
            if message == ("text", "crash"):
                raise RuntimeError
            return ("reply", "fine") if message[0] == "text" else ("noreply",)

        host = MemoryHost(Handler(crash), max_connections=2)
        other = host.open()
        for _ in range(50):
            peer = host.open()
            peer.text("crash")
            assert peer.messages() == [("close", 1011, "")]
            peer.leave()
        other.text("how are you")
        assert other.messages() == ["fine"]


class TestRegister:
    """`register` named the server; without it, stop/0 did nothing."""

    def test_a_service_has_a_name_to_be_found_by(self, reactor: Reactor) -> None:
        application = MultiService()
        server: Any = wshost.service(options(Handler(), register="chat"), reactor)
        server.setServiceParent(application)
        assert IServiceCollection(application).getServiceNamed("chat") is server

    def test_a_service_without_a_name_can_be_stopped(self, start: Callable[..., Any], reactor: Reactor) -> None:
        server = start(options(Handler()))
        stopped = server.stopService()
        reactor.ports[0].closed.callback(None)  # type: ignore[union-attr]
        assert stopped.called


class TestStop:
    """The socket was closed: clients got no Close, and handlers were not told."""

    def test_at_a_stop_clients_get_1001_and_handlers_connection_close(
        self, start: Callable[..., Any], reactor: Reactor
    ) -> None:
        handler = Handler()
        server = start(options(handler))
        peer = connect(reactor)
        peer.upgrade()
        stopped = server.stopService()
        reactor.ports[0].closed.callback(None)  # type: ignore[union-attr]
        assert close_code(peer.take()) == 1001
        assert not stopped.called
        peer.send(wire.close(1001))
        peer.leave()
        assert handler.heard == [("info", "drain"), "connection_close"]
        assert stopped.called


class TestInit:
    """init got the worker's pid, before the 101 was written; it could not refuse."""

    def test_init_gets_the_worker_and_returns_the_state(self) -> None:
        handler = replying("reply", "hi")
        peer = MemoryHost(handler).open()
        peer.text("a")
        assert handler.worker.send("b")
        assert peer.messages() == ["hi", "b"]

    def test_init_runs_before_the_101(self) -> None:
        written: list[bytes] = []

        class Watching(Handler):
            def init(self, options: Mapping[str, Any]) -> int:
                written.extend(peer.transport.writes)
                return super().init(options)

        peer = MemoryHost(Watching()).connect()
        assert status(peer.upgrade()) == 101
        assert written == []


class TestMessages:
    """`{text, ByteList}`, `{binary, Bin}`, `{ping, L}`, `{pong, L}`, `{close, {Code, Reason}}`, `connection_close`."""

    def test_a_handler_gets_each_kind_of_message(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        peer.send(
            frame(TEXT, "schön".encode())
            + frame(BINARY, b"\x00\xff")
            + frame(PING, b"a")
            + frame(PONG, b"b")
            + wire.close(4000, "enough")
        )
        peer.leave()
        assert handler.heard == [
            ("text", "schön"),
            ("binary", b"\x00\xff"),
            ("ping", b"a"),
            ("pong", b"b"),
            ("close", (4000, "enough")),
            "connection_close",
        ]

    def test_a_close_without_a_code_comes_as_none(self) -> None:
        handler = Handler()
        MemoryHost(handler).open().send(wire.close(None))
        assert handler.heard == [("close", (None, ""))]


class TestAnswers:
    """noreply, reply, ping, ping with data, pong, pong with data, close, close with code and reason."""

    @pytest.mark.parametrize(
        ("answer", "frames"),
        [
            (("noreply",), []),
            (("reply", "hi"), ["hi"]),
            (("ping",), [("ping", b"")]),
            (("ping", "x"), [("ping", b"x")]),
            (("pong",), [("pong", b"")]),
            (("pong", b"x"), [("pong", b"x")]),
            (("close",), [("close", 1000, "Normal close")]),
            (("close", 4001, "bye"), [("close", 4001, "bye")]),
        ],
    )
    def test_each_answer_sends_its_frame(self, answer: tuple[Any, ...], frames: list[Any]) -> None:
        peer = MemoryHost(replying(*answer)).open()
        peer.text("now")
        assert peer.messages() == frames

    def test_a_list_of_replies_sends_one_frame_each(self) -> None:
        peer = MemoryHost(replying("reply", ["a", b"b", ""])).open()
        peer.text("now")
        assert peer.messages() == ["a", b"b", ""]


class TestCloseOutOfTheBlue:
    """`{close, …}` to anything but a close crashed the worker."""

    @pytest.mark.parametrize("data", [frame(TEXT, b"x"), frame(BINARY, b"x"), frame(PING), frame(PONG)])
    def test_a_close_answer_to_any_message_closes(self, data: bytes) -> None:
        peer = MemoryHost(Handler(lambda message: ("close", 4001, "bye"))).open()
        peer.send(data)
        assert close_code(peer.take()) == 4001

    def test_a_close_answer_to_an_info_closes(self) -> None:
        handler = Handler(lambda message: ("close",))
        peer = MemoryHost(handler).open()
        assert handler.worker.info("go")
        peer.turn()
        assert close_code(peer.take()) == 1000


class TestPeerCloses:
    """The answer to a peer's Close was lost; without one, the connection stayed open."""

    @pytest.mark.parametrize(
        ("answer", "code"),
        [(("noreply",), 1000), (("reply", "too late"), 1000), (("close",), 1000), (("close", 4001, "bye"), 4001)],
    )
    def test_a_peers_close_is_answered(self, answer: tuple[Any, ...], code: int) -> None:
        handler = Handler(lambda message: answer if message[0] == "close" else ("noreply",))
        host = MemoryHost(handler)
        peer = host.open()
        peer.send(wire.close(1000))
        assert close_code(peer.take()) == code
        peer.leave()
        assert host.idle()


class TestConnectionClose:
    """It came only when TCP was closed without a stop of the worker: not after a Close, not after a crash."""

    @pytest.mark.parametrize(
        "end",
        [
            lambda peer, handler: peer.send(wire.close()),
            lambda peer, handler: handler.worker.close(),
            lambda peer, handler: peer.text("crash"),
            lambda peer, handler: peer.leave(),
            lambda peer, handler: peer.leave(ConnectionLost()),
            lambda peer, handler: peer.half_close(),
            lambda peer, handler: peer.send(b"\xff\xff"),
        ],
        ids=["peer's Close", "our Close", "crash", "TCP close", "reset", "half-close", "protocol error"],
    )
    def test_connection_close_comes_once_whatever_ends_the_connection(
        self, end: Callable[[Peer, Handler], Any]
    ) -> None:
        def answer(message: Any) -> tuple[Any, ...]:
            if message == ("text", "crash"):
                raise RuntimeError
            return ("noreply",)

        handler = Handler(answer)
        peer = MemoryHost(handler).open()
        end(peer, handler)
        for _ in range(15):
            peer.turn(1)
        peer.leave()
        assert handler.heard.count("connection_close") == 1
        assert handler.heard[-1] == "connection_close"

    def test_the_answer_to_connection_close_is_ignored(self) -> None:
        handler = Handler(lambda message: ("reply", "too late"))
        MemoryHost(handler).open().leave()
        assert handler.heard == ["connection_close"]


class TestPings:
    """A client's pings were not answered."""

    def test_a_ping_gets_its_pong(self) -> None:
        peer = MemoryHost(Handler()).open()
        peer.send(frame(PING, b"there?"))
        assert peer.messages() == [("pong", b"there?")]


class TestReplies:
    """Always text; beyond code point 255 a crash; an empty one was not sent."""

    @pytest.mark.parametrize("data", ["hi", "", "grüße, 世界 🎉", b"hi", b"", b"\x00\xff"])
    def test_a_reply_of_str_is_text_and_of_bytes_binary(self, data: str | bytes) -> None:
        handler = replying("reply", data)
        peer = MemoryHost(handler).open()
        peer.text("now")
        assert handler.worker.send(data)
        assert peer.messages() == [data, data]


class TestOutgoingFragments:
    """What was longer than 4,096 bytes left in frames of that size."""

    def test_a_long_reply_is_one_frame(self) -> None:
        peer = MemoryHost(replying("reply", "x" * 100_000)).open()
        peer.text("now")
        assert [(one.opcode, len(one.payload), one.fin) for one in frames(peer.take())] == [(TEXT, 100_000, True)]


class TestBuffering:
    """A message split over two reads ended the connection, as did a ping between fragments."""

    @pytest.mark.parametrize("size", [1, 7, 900, 1_000, 1_001, 2_000])
    def test_messages_come_whole_however_they_are_split(self, size: int) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        data = frame(BINARY, b"x" * 2_000) + frame(TEXT, b"end")
        for start in range(0, len(data), size):
            peer.send(data[start : start + size])
        assert handler.heard == [("binary", b"x" * 2_000), ("text", "end")]

    def test_a_ping_between_fragments_is_handled(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        peer.send(frame(TEXT, b"a", fin=False) + frame(PING) + frame(CONTINUATION, b"b"))
        assert handler.heard == [("ping", b""), ("text", "ab")]


class TestProtocolErrors:
    """No check of UTF-8 or RSV; an unmasked frame or a reserved opcode was a crash; no limit of size or time."""

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (frame(TEXT, b"\xff"), 1007),
            (frame(TEXT, b"x", rsv=0x40), 1002),
            (b"\x81\x01x", 1002),
            (frame(3), 1002),
            (frame(11), 1002),
            (wire.head(BINARY, (1 << 20) + 1), 1009),
        ],
        ids=["UTF-8", "RSV", "unmasked", "opcode", "control opcode", "size"],
    )
    def test_each_protocol_error_is_closed_with_its_code(self, data: bytes, code: int) -> None:
        peer = MemoryHost(Handler()).open()
        peer.send(data)
        assert close_code(peer.take()) == code

    def test_silent_peers_are_dropped(self) -> None:
        host = MemoryHost(Handler())
        peer, silent = host.connect(), host.open()
        for _ in range(45):
            peer.turn(1)
        assert peer.gone
        assert silent.gone

    def test_compression_subprotocol_origin_and_path_are_checked(
        self, start: Callable[..., Any], reactor: Reactor
    ) -> None:
        start({"route": {"/chat": Handler()}, "subprotocol": ["v2"], "compress": True})
        head = connect(reactor).upgrade(
            "/chat", {"Sec-WebSocket-Protocol": "v1, v2", "Sec-WebSocket-Extensions": "permessage-deflate"}
        )
        assert b"Sec-WebSocket-Protocol: v2\r\n" in head
        assert b"Sec-WebSocket-Extensions: permessage-deflate" in head
        assert status(connect(reactor).upgrade("/chat", {"Origin": "http://evil.example"})) == 403
        assert status(connect(reactor).upgrade("/")) == 404


class TestActions:
    """send, ping and close never failed, and were ignored while closing, when a data frame crashed the worker."""

    def test_actions_return_whether_they_were_accepted(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        worker = handler.worker
        assert bool(worker.send("a")) is worker.ping() is worker.ping("b") is worker.close(4001, "c") is True
        assert bool(worker.send("d")) is worker.ping() is worker.close() is False
        assert peer.messages() == ["a", ("ping", b""), ("ping", b"b"), ("close", 4001, "c")]
        peer.leave()
        assert bool(worker.send("e")) is worker.ping() is worker.close() is False

    def test_a_data_frame_while_closing_is_ignored(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        handler.worker.close()
        peer.send(frame(TEXT, b"late") + wire.close())
        peer.leave()
        assert handler.heard == ["connection_close"]

    def test_a_close_that_is_not_answered_ends_the_connection(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        handler.worker.close()
        for _ in range(11):
            peer.turn(1)
        assert peer.gone


class TestHTTP:
    """Every bad request crashed the worker without an answer; bytes behind the head were lost."""

    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (request(headers={"Sec-WebSocket-Key": ""}), 400),
            (request(headers={"Sec-WebSocket-Version": "8"}), 426),
            (b"garbage\r\n\r\n", 400),
        ],
    )
    def test_each_bad_request_gets_its_status(self, data: bytes, answer: int) -> None:
        peer = MemoryHost(Handler()).connect()
        peer.send(data)
        assert status(peer.take()) == answer

    def test_a_peer_that_leaves_within_its_request_leaves_nothing(self) -> None:
        host = MemoryHost(Handler())
        peer = host.connect()
        peer.send(b"GET / HT")
        peer.leave()
        assert host.idle()

    def test_a_frame_behind_the_request_is_handled(self) -> None:
        handler = Handler()
        MemoryHost(handler).connect().upgrade(after=frame(TEXT, b"first"))
        assert handler.heard == [("text", "first")]


@implementer(IProtocolDriver)
class Knock:
    """Lets those in who say the word first."""

    def __init__(self, options: Mapping[str, Any], context: IContext) -> None:
        self._word = options["word"]
        self._next = context.next_module

    def handle_connection_in(self, data: bytes) -> Results:
        word, _, unread = data.partition(b"\n")
        return Switch(self._next, unread) if word == self._word and self._next else Close(b"no\n")

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        return REFUSED

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


@implementer(IProtocolModule)
class KnockModule:
    """A module of the original's contract: init, and a driver with the original's three functions."""

    def init(self, options: Mapping[str, Any], context: IContext) -> Knock:
        return Knock(options, context)


knock = KnockModule()


class TestProtocolModules:
    """init, handle_connection_in, handle_action, handle_connection_close; but the modules were hard-coded."""

    def test_any_module_may_be_the_first(self, start: Callable[..., Any], reactor: Reactor) -> None:
        start(
            {
                "worker_options": {
                    "protocol_modules": [
                        (f"{__name__}.knock", {"word": b"friend"}),
                        ("wsserver_http_protocol", {}),
                        ("wsserver_websocket_protocol", {"handler_module": replying("reply", "hi")}),
                    ]
                }
            }
        )
        peer = connect(reactor)
        peer.send(b"friend\n" + request() + frame(TEXT, b"hello"))
        head, _, rest = peer.take().partition(b"\r\n\r\n")
        assert status(head) == 101
        assert [one.payload for one in frames(rest)] == [b"hi"]
        foe = connect(reactor)
        foe.send(b"foe\n")
        assert foe.take() == b"no\n"


class TestErrorsOfSockets:
    """An error of accept or of TCP ended one process of two; a worker, and its slot, were lost."""

    def test_resets_free_their_places(self) -> None:
        host = MemoryHost(Handler(), max_connections=1)
        for _ in range(20):
            host.connect().leave(ConnectionLost())
            peer = host.connect()
            peer.send(b"GET / HTTP")
            peer.leave(ConnectionLost())
            host.open().leave(ConnectionLost())
        assert host.idle()


class TestReadme:
    """Its example names `protocol_modules`, the code reads `protocol_modules_options`: one or the other failed."""

    @pytest.mark.parametrize("key", ["protocol_modules", "protocol_modules_options"])
    def test_protocol_modules_are_read_under_both_of_their_names(
        self, key: str, start: Callable[..., Any], reactor: Reactor
    ) -> None:
        handler = replying("reply", "hi")
        start(
            {
                "port": 8080,
                "number_of_workers": 10,
                "worker_options": {key: [("wsserver_websocket_protocol", {"handler_module": handler})]},
            }
        )
        peer = connect(reactor)
        peer.upgrade()
        peer.text("hello")
        assert peer.messages() == ["hi"]


class TestToDos:
    """The four that the original's README has for later."""

    def test_init_is_told_who_connects(self) -> None:
        handler = Handler()
        MemoryHost(handler).open("/chat?room=1", {"Cookie": "a=b"})
        connection = handler.options["connection"]
        assert connection.peer == "127.0.0.1:50000"
        assert (connection.host, connection.path, connection.query) == ("example.com", "/chat", "room=1")
        assert (connection.headers["cookie"], connection.cookies) == ("a=b", {"a": "b"})

    def test_the_handler_may_reject(self) -> None:
        class Choosy(Handler):
            def init(self, options: Mapping[str, Any]) -> int:
                raise Reject(401, "who are you?", {"WWW-Authenticate": "Basic"})

        handler = Choosy()
        peer = MemoryHost(handler).connect()
        peer.send(request())
        head, _, body = peer.take().partition(b"\r\n\r\n")
        assert (status(head), body) == (401, b"who are you?")
        assert b"WWW-Authenticate: Basic\r\n" in head
        peer.leave()
        assert handler.heard == []

    def test_the_handler_may_choose_the_subprotocol(self) -> None:
        class Choosing(Handler):
            def init(self, options: Mapping[str, Any]) -> Any:
                return Accept(super().init(options), subprotocol=options["connection"].subprotocols[-1])

        head = MemoryHost(Choosing()).connect().upgrade(headers={"Sec-WebSocket-Protocol": "a, b"})
        assert b"Sec-WebSocket-Protocol: b\r\n" in head

    def test_only_routed_paths_are_served(self, start: Callable[..., Any], reactor: Reactor) -> None:
        start({"route": {"/chat": Handler(), "/feed/*": Handler()}})
        answers = [status(connect(reactor).upgrade(path)) for path in ("/chat", "/feed/1", "/", "/chat/", "/chatter")]
        assert answers == [101, 101, 404, 404, 404]

    def test_a_certificate_makes_the_server_listen_with_tls(
        self, start: Callable[..., Any], reactor: Reactor, tmp_path: Any
    ) -> None:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
        start({"handler": Handler(), "tls_cert": str(tmp_path / "server.pem")})
        assert isinstance(reactor.tcpServers[0][1], TLSMemoryBIOFactory)
