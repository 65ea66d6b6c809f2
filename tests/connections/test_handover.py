from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from tests.connections.modules import Module
from tests.memory import MemoryHost, MemoryTransport, link
from wshost.connections.handover import LARGEST, PAUSE, TRIES, Frozen, MovedConnection, name_of, packet
from wshost.connections.home import Home, write
from wshost.connections.shared import Link
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.interfaces import IMovableDriver, ISessionFactory
from wshost.networks import Networks
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket


class Handler:
    """Counts messages, and can move; does as it is told by what it gets."""

    def __init__(self, **attributes: Any) -> None:
        self.seen: list[Any] = []
        self.thawed: list[Any] = []
        self.__dict__.update(attributes)

    def init(self, options: Mapping[str, Any]) -> dict[str, Any]:
        self.worker = options["worker"]
        return {"count": 0, "worker": options["worker"]}

    def handle(self, message: Any, state: dict[str, Any]) -> Any:
        self.seen.append(message)
        if message[0] != "text":
            return ("noreply", state)
        state["count"] += 1
        return ("reply", f"{message[1]} {state['count']}", state)

    def freeze(self, state: dict[str, Any]) -> bytes:
        return str(state["count"]).encode()

    def thaw(self, data: bytes, options: Mapping[str, Any]) -> dict[str, Any]:
        self.thawed.append((data, sorted(options)))
        return {"count": int(data), "worker": options["worker"]}


class Movable(MemoryTransport):
    """A transport that gives its socket away."""

    detached: Any = None
    stays = False

    def detach(self) -> tuple[socket.socket, Any] | None:
        if self.stays or self._buffer:
            return None
        ours, self.detached = socket.socketpair()
        return ours, self.getPeer()


class Moving:
    """The connections that a host gives away."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host
        self.given: list[Frozen] = []
        self.sockets: list[int] = []
        self.count: list[int] = []
        self.error: Exception | None = None
        #: How many seconds it takes to take one.
        self.slowly = 0.0

    def give(self, frozen: Frozen, given: socket.socket, name: Any) -> None:
        self.host.reactor.rightNow += self.slowly
        if self.error is not None:
            raise self.error
        assert given.fileno() >= 0
        self.given.append(frozen)

    def start(self) -> Moving:
        self.host.hub.hand_over(self.give).addCallback(self.count.append)
        return self

    def wait(self) -> Moving:
        self.host.reactor.advance(TRIES * PAUSE + 1)
        return self


@pytest.fixture(autouse=True)
def _transports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Movable] = []

    def make(*args: Any, **kwargs: Any) -> Movable:
        made.append(Movable(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr("tests.memory.MemoryTransport", make)
    yield
    for transport in made:
        if transport.detached is not None:
            transport.detached.close()


def plain(handler: Any, **how: Any) -> MemoryHost:
    """A host without compression, whose context can't move."""
    return MemoryHost(handler, websocket_options={"compress": False}, **how)


def adopt(host: MemoryHost, frozen: Frozen, address: str = "127.0.0.1") -> tuple[MovedConnection, Movable]:
    """The connection in another process, and its transport."""
    connection: Any = host.hub.adopt(frozen)
    transport = Movable(host.reactor, connection, IPv4Address("TCP", address, 50_000))
    connection.makeConnection(transport)
    host.reactor.advance(0)
    return connection, transport


class TestGivingAway:
    def test_an_idle_connection_goes_and_its_handler_is_told_nothing(self) -> None:
        handler = Handler()
        host = plain(handler)
        peer = host.open()
        peer.text("x")
        moving = Moving(host).start().wait()
        (frozen,) = moving.given
        assert frozen.data == b"1"
        assert (frozen.head["id"], frozen.head["module"]) == (peer.connection.id, "websocket")
        assert moving.count == [1]
        assert handler.seen == [("text", "x")]
        assert len(host.hub.shared.registry) == 0
        assert handler.worker.send("too late").name == "DROPPED"

    def test_its_timers_its_place_and_its_topics_are_free_then(self) -> None:
        host = plain(Handler())
        peer = host.open()
        peer.connection.ref.subscribe("news")
        peer.turn()
        moving = Moving(host).start().wait()
        assert moving.given[0].head["topics"] == ["news"]
        assert host.hub.topics.names == []
        assert host.hub.shared.admission.count_address("127.0.0.1")
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []

    def test_what_has_gone_through_it_stays_in_the_sum(self) -> None:
        """A scrape that has begun before may still ask the connection for it."""
        host = plain(Handler(), counts_ends=True)
        peer = host.open()
        peer.text("x")
        before = peer.connection.traffic()
        assert before.messages_in == before.messages_out == 1
        assert Moving(host).start().wait().count == [1]
        assert host.hub.shared.account.ended == peer.connection.traffic() == before
        assert not host.hub.shared.account.closed

    @pytest.mark.parametrize(
        "handler",
        [
            Handler(freeze=None),
            Handler(thaw=None),
            Handler(freeze=lambda state: "no bytes"),
            Handler(freeze=lambda state: dict[str, Any]()["on purpose"]),
        ],
    )
    def test_a_handler_that_can_not_freeze_keeps_its_connection(self, handler: Any) -> None:
        host = plain(handler)
        peer = host.open()
        with capturedLogs():
            moving = Moving(host).start().wait()
        assert (moving.given, moving.count) == ([], [0])
        peer.text("x")
        assert peer.messages() == ["x 1"]

    def test_a_compressed_connection_stays(self) -> None:
        host = MemoryHost(Handler(), websocket_options={"compress": True})
        peer = host.open(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
        assert Moving(host).start().wait().count == [0]
        assert not peer.gone

    def test_a_connection_stays_that_is_in_its_handshake(self) -> None:
        host = plain(Handler())
        peer = host.connect()
        assert Moving(host).start().wait().count == [0]
        assert not peer.gone

    @pytest.mark.parametrize("sent", [b"\x81", b"\x01\x80key!"])
    def test_a_connection_stays_within_a_message(self, sent: bytes) -> None:
        host = plain(Handler())
        peer = host.open()
        peer.send(sent)
        assert Moving(host).start().wait().count == [0]

    def test_a_connection_whose_output_waits_goes_when_it_has_left(self) -> None:
        host = plain(Handler())
        peer = host.open()
        peer.transport.reading = False
        peer.connection.ref.send("x" * 100_000)
        peer.turn()
        moving = Moving(host).start()
        peer.turn()
        assert moving.given == []
        peer.transport.reading = True
        peer.transport.drain()
        assert moving.wait().count == [1]

    def test_a_connection_goes_whose_output_somebody_has_waited_for(self) -> None:
        host = plain(Handler())
        peer = host.open()
        drained: list[bool] = []
        peer.connection.ref.drained().addCallback(drained.append)
        peer.transport.reading = False
        peer.connection.ref.send("x" * 100_000)
        peer.turn()
        peer.connection.ref.drained().addCallback(drained.append)
        moving = Moving(host).start()
        peer.turn()
        assert (drained, moving.given) == ([True], [])
        peer.transport.reading = True
        peer.transport.drain()
        assert moving.wait().count == [1]
        assert drained == [True, True]

    def test_a_connection_goes_whose_handler_has_a_policy_for_slow_peers(self) -> None:
        adapter = HandlerAdapter(Handler(), {}, when_slow="drop_old")
        chain = [link("http", http), link("websocket", websocket, {"handler": adapter, "compress": False})]
        host = MemoryHost(chain=chain)
        host.open()
        assert Moving(host).start().wait().count == [1]

    def test_a_connection_stays_that_reads_into_a_buffer(self) -> None:
        host = plain(Handler())
        peer = host.open(buffered=True)
        peer.send(b"\x82\xfe" + (20_000).to_bytes(2, "big") + bytes(4) + bytes(4_000))
        assert peer.transport.room is not None
        assert Moving(host).start().wait().count == [0]

    def test_a_connection_stays_that_closes(self) -> None:
        host = plain(Handler())
        host.open().connection.ref.close()
        assert Moving(host).start().wait().count == [0]

    def test_a_connection_that_ends_meanwhile_is_passed_over(self) -> None:
        host = plain(Handler())
        peers = [host.open(), host.open()]
        moving = Moving(host).start()
        peers[0].transport.lose(ConnectionError())
        assert moving.wait().count == [1]

    def test_a_connection_stays_whose_freeze_has_sent_something(self) -> None:
        handler = Handler()

        def freeze(state: dict[str, Any]) -> bytes:
            state["worker"].send("from freeze")
            return b"1"

        handler.freeze = freeze  # type: ignore[method-assign]
        host = plain(handler)
        peer = host.open()
        moving = Moving(host).start().wait()
        assert moving.count == [0]
        assert peer.messages() == ["from freeze"] * TRIES

    def test_a_transport_that_can_not_give_its_socket_away_stays(self) -> None:
        host = plain(Handler())
        peer: Any = host.open()
        peer.transport.stays = True
        assert Moving(host).start().wait().count == [0]
        peer.text("x")
        assert peer.messages() == ["x 1"]

    def test_other_kinds_of_transports_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.memory.MemoryTransport", MemoryTransport)
        host = plain(Handler())
        host.open()
        assert Moving(host).start().wait().count == [0]

    def test_notes_that_can_not_be_sent_keep_the_connection(self) -> None:
        host = plain(Handler(), counts_ends=True)
        deep: list[Any] = []
        for _ in range(10_000):
            deep = [deep]
        for note in (object(), deep):
            notes = host.open().connection.context.notes
            assert notes is not None
            notes["mine"] = note
        assert Moving(host).start().wait().count == [0]

    def test_many_connections_take_several_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wshost.connections.handover.A_TURN", 2)
        host = plain(Handler())
        for _ in range(5):
            host.open()
        moving = Moving(host).start()
        seen: list[int] = []
        host.reactor.callLater(0, lambda: seen.append(len(moving.given)))
        assert moving.wait().count == [5]
        assert seen == [2]

    def test_a_turn_ends_when_they_are_taken_slowly(self) -> None:
        host = plain(Handler())
        for _ in range(5):
            host.open()
        moving = Moving(host)
        moving.slowly = 0.3
        moving.start()
        seen: list[int] = []
        host.reactor.callLater(0, lambda: seen.append(len(moving.given)))
        assert moving.wait().count == [5]
        assert seen == [2]

    def test_when_nobody_takes_them_any_more_one_is_lost_and_the_others_stay(self) -> None:
        handler = Handler()
        host = plain(handler)
        for _ in range(3):
            host.open()
        moving = Moving(host)
        moving.error = BrokenPipeError()
        assert moving.start().wait().count == [0]
        assert handler.seen == ["connection_close"]
        assert len(host.hub.shared.registry) == 2

    def test_a_connection_stays_of_which_too_much_is_to_be_said(self) -> None:
        host = plain(Handler(freeze=lambda state: b"x" * LARGEST))
        host.open()
        assert Moving(host).start().wait().count == [0]


class TestGoingOn:
    """In another host, which stands for another process."""

    def moved(self, handler: Any = None, **how: Any) -> Frozen:
        host = plain(handler or Handler(), **how)
        peer = host.open()
        peer.text("x")
        peer.connection.ref.subscribe("news")
        peer.turn()
        return Moving(host).start().wait().given[0]

    def test_the_handler_goes_on_with_its_state(self) -> None:
        handler = Handler()
        host = plain(handler)
        connection, transport = adopt(host, self.moved())
        assert handler.thawed == [(b"1", ["worker"])]
        transport.receive(client_text("y"))
        host.reactor.advance(0)
        assert transport.take() == b"\x81\x03y 2"
        assert connection.id == "c1"

    def test_the_handlers_reference_works(self) -> None:
        handler = Handler()
        host = plain(handler)
        _, transport = adopt(host, self.moved())
        host.hub.shared.registry.find("c1").ref.send("hi")  # type: ignore[union-attr]
        host.reactor.advance(0)
        assert transport.take() == b"\x81\x02hi"

    def test_its_reference_names_the_home_where_it_was_made(self) -> None:
        host = plain(Handler())
        frozen = self.moved()
        connection, transport = adopt(host, frozen)
        home = Home(*frozen.head["home"])
        assert home != host.hub.shared.registry.home
        assert str(connection.ref) == write(home, "c1")
        again = Moving(host).start().wait().given[0]
        assert again.head["home"] == home
        transport.detached.close()

    def test_one_of_the_home_of_this_process_or_of_none_is_no_guest(self) -> None:
        host = plain(Handler())
        registry = host.hub.shared.registry
        frozen = self.moved()
        for id, home in (("c1", registry.home), ("c2", None)):
            connection, _ = adopt(host, Frozen({**frozen.head, "id": id, "home": home}, frozen.data))
            assert str(connection.ref) == write(registry.home, id)

    def test_what_the_directory_knows_of_it_goes_along_before_its_handler_is_called(self) -> None:
        handler = Handler()
        held = {"names": [["boss", 1.0]]}
        told: list[Any] = []

        class Directory:
            def freeze(self, ref: Any) -> Any:
                return held

            def gone(self, *_: Any) -> None:
                """Do nothing."""

            def thaw(self, ref: Any, held: Any) -> None:
                told.append((str(ref), held, list(handler.thawed)))

        first, second = plain(Handler()), plain(handler)
        for host in (first, second):
            host.hub.shared.registry.directory = Directory()  # type: ignore[assignment]
        peer = first.open()
        text = str(peer.connection.ref)
        (frozen,) = Moving(first).start().wait().given
        adopt(second, frozen)
        assert told == [(text, held, [])]
        assert len(handler.thawed) == 1
        adopt(second, Frozen({**frozen.head, "id": "c9", "held": {}}, frozen.data))
        assert len(told) == 1

    def test_the_peers_name_goes_along(self) -> None:
        frozen = Frozen({"id": "c1"}, b"")
        for name, expected in ((("192.0.2.1", 5), ("192.0.2.1", 5)), (b"\0abstract", ""), ("", "")):
            assert name_of(json.loads(json.dumps(packet(frozen, name)))) == expected

    def test_topics_go_along(self) -> None:
        host = plain(Handler())
        _, transport = adopt(host, self.moved())
        assert host.hub.topics.publish_locally("news", "hi")
        host.reactor.advance(0)
        assert transport.take() == b"\x81\x02hi"

    def test_it_goes_along_of_which_topics_the_handler_is_told_what_was_lost(self) -> None:
        told = Handler()
        first = plain(Handler())
        peer = first.open()
        ref = peer.connection.ref
        assert ref.subscribe("news", tell_lost=True)
        assert ref.subscribe("sports")
        frozen = Moving(first).start().wait().given[0]
        host = plain(told)
        adopt(host, frozen)
        for topic in ("news", "sports"):
            host.hub.topics.lose_locally(topic, 2)
        host.reactor.advance(0)
        host.reactor.advance(0)
        assert told.seen == [("info", ("lost", "news", 2))]

    def test_a_connection_of_an_older_version_goes_along(self) -> None:
        frozen = self.moved()
        head = {name: value for name, value in frozen.head.items() if name != "tell_lost"}
        host = plain(Handler())
        connection, _ = adopt(host, Frozen(head, frozen.data))
        assert host.hub.topics.names == ["news"]
        assert connection.told_of_losses == []

    def test_the_account_goes_along(self) -> None:
        host = plain(Handler(), access=True)
        connection, transport = adopt(host, self.moved(access=True))
        host.reactor.advance(5)
        with capturedLogs() as events:
            transport.lose(ConnectionError())
        (said,) = [event for event in events if event["log_namespace"] == "wshost.access"]
        text = formatEvent(said)
        assert " messages_in=1 " in text
        assert " messages_out=1 " in text
        assert text.startswith("path=/ ")
        assert float(text.partition("seconds=")[2].split()[0]) >= 5
        assert connection.traffic().messages_in == 1

    def test_the_place_of_an_address_is_counted_here(self) -> None:
        host = plain(Handler(), max_connections_per_address=1)
        _, transport = adopt(host, self.moved())
        assert not host.hub.shared.admission.count_address("127.0.0.1")
        transport.lose(ConnectionError())
        assert host.hub.shared.admission.count_address("127.0.0.1")

    def test_an_address_that_has_too_many_here_loses_none(self) -> None:
        host = plain(Handler(), max_connections_per_address=1)
        assert host.hub.shared.admission.count_address("127.0.0.1")
        connection, transport = adopt(host, self.moved())
        assert not transport.aborted
        assert connection.context.counted_address is None

    @pytest.mark.parametrize(("client", "kind"), [("203.0.113.7", IPv4Address), ("2001:db8::7", IPv6Address)])
    def test_what_a_trusted_proxy_has_said_goes_along(self, client: str, kind: type) -> None:
        first = plain(Handler(), trusted=Networks(["127.0.0.1"]))
        first.open(headers={"X-Forwarded-For": client})
        frozen = Moving(first).start().wait().given[0]
        host = plain(Handler(), trusted=Networks(["127.0.0.1"]))
        connection, _ = adopt(host, frozen)
        assert connection.context.peer_address == kind("TCP", client, 0)
        assert connection.context.counted_address == client
        assert connection.context.proxy is not None
        assert connection.context.proxy.peer == "127.0.0.1:50000"

    def test_a_peer_without_an_address_is_not_counted(self) -> None:
        connection: Any = plain(Handler()).hub.adopt(self.moved())
        host = plain(Handler())
        connection = host.hub.adopt(self.moved())
        connection.makeConnection(Movable(host.reactor, connection, UNIXAddress(None)))
        assert connection.context.counted_address is None

    def test_a_handler_that_can_not_thaw_gets_1011_for_its_peer(self) -> None:
        handler = Handler(thaw=lambda data, options: dict[str, Any]()["on purpose"])
        host = plain(handler)
        with capturedLogs() as events:
            _, transport = adopt(host, self.moved())
            host.reactor.advance(0)
        assert transport.take() == b"\x88\x02\x03\xf3"
        assert any("the handler's thaw failed" in formatEvent(event) for event in events)
        transport.lose(ConnectionError())
        assert handler.seen == []

    @pytest.mark.parametrize("modules", [[], [Link("websocket", Module(), None)]])
    def test_a_connection_ends_whose_module_is_not_here(self, modules: list[Link]) -> None:
        host = MemoryHost(chain=[Link("a", Module(), None), *modules])
        with capturedLogs():
            _, transport = adopt(host, self.moved())
        assert transport.aborted

    def test_a_connection_ends_whose_route_is_not_here(self) -> None:
        frozen = self.moved()
        router = Router({"/a": HandlerAdapter(Handler(), {})})
        chain = [link("http", http), link("websocket", websocket, {"handler": router})]
        host = MemoryHost(chain=chain)
        with capturedLogs():
            _, transport = adopt(host, frozen)
        assert transport.aborted

    def test_the_handler_of_the_route_goes_on(self) -> None:
        handler = Handler()
        head = {**self.moved().head, "route": "/a"}
        router = Router({"/a": HandlerAdapter(handler, {})})
        host = MemoryHost(chain=[link("http", http), link("websocket", websocket, {"handler": router})])
        adopt(host, Frozen(head, b"3"))
        assert handler.thawed == [(b"3", ["worker"])]

    def test_a_factory_that_can_not_go_on_ends_the_connection(self) -> None:
        @implementer(ISessionFactory)
        class Sessions:
            def session(self, channel: Any, connection: Any) -> Any:
                raise AssertionError

        host = MemoryHost(chain=[link("http", http), link("websocket", websocket, {"handler": Sessions()})])
        with capturedLogs():
            _, transport = adopt(host, self.moved())
        assert transport.aborted

    def test_a_limited_connection_is_limited_again(self) -> None:
        handler = Handler()
        host = MemoryHost(handler, websocket_options={"message_rate": 5})
        adopt(host, self.moved())
        assert handler.thawed == [(b"1", ["worker"])]

    def test_a_handler_that_restarts_does_not_after_it_has_moved(self) -> None:
        def crash(message: Any, state: Any) -> Any:
            raise LookupError

        handler = Handler(handle=crash)
        adapter = HandlerAdapter(handler, {}, restarts=True)
        host = MemoryHost(chain=[link("http", http), link("websocket", websocket, {"handler": adapter})])
        _, transport = adopt(host, self.moved())
        with capturedLogs():
            transport.receive(client_text("y"))
            host.reactor.advance(0)
        assert transport.take() == b"\x88\x02\x03\xf3"

    def test_pings_go_on(self) -> None:
        host = MemoryHost(Handler(), websocket_options={"ping_interval": 5})
        _, transport = adopt(host, self.moved())
        host.reactor.advance(6)
        assert transport.take().startswith(b"\x89")

    def test_no_pings_are_sent_where_none_are_wanted(self) -> None:
        host = MemoryHost(Handler(), websocket_options={"ping_interval": 0})
        _, transport = adopt(host, self.moved())
        host.reactor.advance(100)
        assert transport.take() == b""


class TestModules:
    """Modules of users may move, too."""

    def host(self, driver: Any) -> MemoryHost:
        class Own:
            def init(self, options: Any, context: Any) -> Any:
                return driver

            def thaw(self, options: Any, context: Any, data: bytes) -> Any:
                return driver

        module: Any = Own()
        host = MemoryHost(chain=[Link("a", module, None)], counts_ends=True)
        host.connect()
        return host

    def test_a_module_without_thaw_keeps_its_connections(self) -> None:
        host = MemoryHost(chain=[Link("a", Module(), None)])
        host.connect()
        assert Moving(host).start().wait().count == [0]

    def test_a_driver_without_freeze_keeps_its_connection(self) -> None:
        assert Moving(self.host(Driver())).start().wait().count == [0]

    def test_a_driver_that_does_not_want_to_keeps_its_connection(self) -> None:
        assert Moving(self.host(Freezing(lambda: None))).start().wait().count == [0]

    def test_a_driver_that_fails_keeps_its_connection(self) -> None:
        host = self.host(Freezing(lambda: dict[str, Any]()["on purpose"]))
        with capturedLogs() as events:
            assert Moving(host).start().wait().count == [0]
        assert any("a module failed to freeze" in formatEvent(event) for event in events)

    def test_a_driver_that_can_goes_on_in_the_same_module(self) -> None:
        frozen = Moving(self.host(Freezing(lambda: bytearray(b"mine")))).start().wait().given[0]
        assert frozen.data == b"mine"
        connection, _ = adopt(self.host(Freezing(lambda: None)), frozen)
        assert connection.context.module == "a"


class Driver:
    """A driver that is asked for nothing."""

    def handle_connection_in(self, data: bytes) -> Any:
        """Nothing."""

    def handle_action(self, action: str, *args: Any) -> Any:
        """Nothing."""

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


@implementer(IMovableDriver)
class Freezing(Driver):
    """A driver that can move, if it does as a test says."""

    def __init__(self, freeze: Callable[[], Any]) -> None:
        self._freeze = freeze

    def freeze(self) -> Any:
        return self._freeze()


def client_text(text: str) -> bytes:
    """One masked text frame, with a key of zeros."""
    return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text.encode()


def test_a_message_that_is_being_published_reaches_its_subscriber_once_before_it_goes() -> None:
    host = plain(Handler())
    peer = host.open()
    peer.connection.ref.subscribe("news")
    peer.turn()
    moving = Moving(host)
    host.reactor.callLater(0, host.hub.topics.publish_locally, "news", "hi")
    moving.start()
    assert moving.wait().count == [1]
    assert peer.messages() == ["hi"]
