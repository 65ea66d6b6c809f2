from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IPullProducer,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs
from twisted.protocols.basic import LineReceiver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost, MemoryReactor, Peer, link
from wshost.interfaces import IContext, IPreparedModule, IProtocolDriver
from wshost.protocols import factory
from wshost.protocols.http import module as http
from wshost.results import REFUSED, ConfigurationError, Results, Switch

with warnings.catch_warnings():
    # It uses what its neighbour has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from twisted.web.static import Data

LIMIT = 100_000


class Shout(LineReceiver):
    """Says each line back, louder."""

    transport: Any

    def lineReceived(self, line: bytes) -> None:
        if line == b"quit":
            self.transport.write(b"BYE\r\n")
            self.transport.loseConnection()
        else:
            self.transport.write(line.upper() + b"\r\n")


class Note(Protocol):
    """A protocol that notes what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Exception] = []
        self.on_connection: Callable[[Note], object] = lambda _: None

    def connectionMade(self) -> None:
        self.on_connection(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.append(reason.value)


class Notes(Factory):
    """Builds one."""

    noisy = False

    def __init__(self, on_connection: Callable[[Note], object] = lambda _: None) -> None:
        self.note = Note()
        self.note.on_connection = on_connection
        self.addresses: list[IAddress | None] = []
        self.starts = self.stops = 0

    def startFactory(self) -> None:
        self.starts += 1

    def stopFactory(self) -> None:
        self.stops += 1

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.addresses.append(addr)
        return self.note


def serve(served: Any, **limits: Any) -> MemoryHost:
    return MemoryHost(chain=[link("factory", factory, {"factory": served})], max_output=LIMIT, **limits)


def connect(on_connection: Callable[[Note], object] = lambda _: None, *, secure: bool = False) -> tuple[Peer, Note]:
    """A peer of a protocol that notes what happens to it, and the protocol."""
    notes = Notes(on_connection)
    return serve(notes).connect(secure=secure), notes.note


def quiet(kind: Any) -> Any:
    made: Any = Factory.forProtocol(kind)
    made.noisy = False
    return made


@pytest.fixture(autouse=True)
def events() -> Iterator[Any]:
    """What was logged. A test that expects something clears it."""
    with capturedLogs() as events:
        yield events
    assert [event for event in events if "failure" in event or "log_failure" in event] == []


SHOUT = quiet(Shout)


class TestPrepare:
    def test_the_module_provides_its_interfaces(self) -> None:
        verifyObject(IPreparedModule, factory)

    def test_prepare_accepts_a_factory(self) -> None:
        assert factory.prepare({"factory": SHOUT}) is SHOUT

    def test_prepare_accepts_the_dotted_path_of_a_factory(self) -> None:
        assert factory.prepare({"factory": f"{__name__}.SHOUT"}) is SHOUT

    def test_prepare_starts_the_factory_once(self) -> None:
        """As a port does that listens."""
        notes = Notes()
        host = serve(notes)
        assert notes.starts == 1
        for _ in range(2):
            host.connect().leave()
        assert (notes.starts, notes.stops) == (1, 0)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({}, "factory: None provides no IProtocolFactory"),
            ({"factory": 7}, "factory: 7 provides no IProtocolFactory"),
            ({"factory": f"{__name__}.LIMIT"}, "factory: 100000 provides no IProtocolFactory"),
            ({"factory": Factory}, "factory: <class 'twisted.internet.protocol.Factory'> provides no IProtocolFactory"),
            ({"factory": SHOUT, "port": 80}, "factory: unknown option 'port'"),
            ({"factory": "nowhere.at.all"}, "factory: 'nowhere.at.all' can't be imported: "),
            ({"factory": "twisted.nothing"}, "factory: 'twisted.nothing' can't be imported: "),
            ({"factory": "no module"}, "factory: 'no module' can't be imported: "),
            ({"factory": ""}, "factory: '' can't be imported: "),
        ],
    )
    def test_prepare_names_what_is_wrong(self, options: dict[str, Any], text: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            factory.prepare(options)
        assert str(caught.value).startswith(text)
        assert "\n" not in str(caught.value)


class Gate:
    """A module that switches on the first line."""

    def prepare(self, options: Any) -> None:
        """Nothing to prepare."""

    def init(self, options: Any, context: IContext) -> Gate:
        return self

    def handle_connection_in(self, data: bytes) -> Results:
        _, _, rest = data.partition(b"\n")
        return [b"come in\r\n", Switch("factory", rest)]

    def handle_action(self, action: str, *args: Any) -> Any:
        return REFUSED

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


class TestLineReceiver:
    """A protocol as Twisted has many, last in a chain."""

    def connect(self) -> Peer:
        chain = [link("gate", Gate()), link("factory", factory, {"factory": SHOUT})]
        return MemoryHost(chain=chain).connect()

    def test_a_line_receiver_answers_lines(self) -> None:
        peer = self.connect()
        peer.send(b"knock\nhello\r\nwor")
        peer.send(b"ld\r\n")
        assert peer.take() == b"come in\r\nHELLO\r\nWORLD\r\n"

    def test_the_answers_to_one_read_leave_in_one_write(self) -> None:
        peer = self.connect()
        peer.send(b"knock\none\r\ntwo\r\nthree\r\n")
        assert peer.transport.writes == [b"come in\r\nONE\r\nTWO\r\nTHREE\r\n"]

    def test_a_line_receiver_may_close(self) -> None:
        peer = self.connect()
        peer.send(b"knock\nquit\r\nnever\r\n")
        peer.send(b"never\r\n")
        assert peer.take() == b"come in\r\nBYE\r\n"
        assert peer.transport.half_closed


class TestDriver:
    def test_the_driver_provides_its_interfaces(self) -> None:
        _, note = connect()
        for interface in (IProtocolDriver, ITCPTransport, IConsumer, IPushProducer):
            verifyObject(interface, note.transport)

    def test_the_factory_gets_the_peers_address(self) -> None:
        notes = Notes()
        serve(notes).connect("192.0.2.1", 4711)
        assert notes.addresses == [IPv4Address("TCP", "192.0.2.1", 4711)]

    def test_a_factory_that_builds_nothing_closes_the_connection(self) -> None:
        class Nobody(Factory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> None:
                return None

        peer = serve(Nobody()).connect()
        assert peer.transport.half_closed
        peer.send(b"x")
        peer.leave()
        assert peer.take() == b""

    def test_the_driver_refuses_unknown_actions(self) -> None:
        peer, _ = connect()
        assert not peer.connection.ref.send(b"x")
        assert not peer.connection.ref.info("x")

    def test_the_driver_writes_nothing_when_the_server_stops(self) -> None:
        peer, note = connect()
        peer.connection.shut_down()
        peer.turn()
        assert peer.transport.half_closed
        peer.half_close()
        assert [type(reason) for reason in note.lost] == [ConnectionDone]


class TestTransport:
    def test_the_transport_writes_what_the_protocol_writes(self) -> None:
        peer, note = connect()
        note.transport.write(b"one ")
        note.transport.writeSequence([b"two ", b"three"])
        assert peer.take() == b"one two three"

    @pytest.mark.parametrize("data", ["text", 7, None, bytearray(b"x")])
    def test_the_transport_refuses_to_write_anything_but_bytes(self, data: Any) -> None:
        """Not the connection, which others' code would end for it."""
        peer, note = connect()
        with pytest.raises(TypeError, match=f"a transport writes bytes, not {type(data).__name__}"):
            note.transport.write(data)
        note.transport.write(b"fine")
        assert peer.take() == b"fine"

    def test_the_transport_knows_both_addresses(self) -> None:
        peer, note = connect()
        assert note.transport.getPeer() == peer.transport.getPeer()
        assert note.transport.getHost() == peer.transport.getHost()

    def test_the_protocol_pauses_and_resumes_reading(self) -> None:
        peer, note = connect()
        note.transport.pauseProducing()
        peer.send(b"unheard")
        assert note.received == b""
        note.transport.resumeProducing()
        peer.turn()
        assert note.received == b"unheard"

    def test_settings_of_tcp_are_ignored(self) -> None:
        _, note = connect()
        note.transport.setTcpNoDelay(False)
        note.transport.setTcpKeepAlive(True)
        assert note.transport.getTcpNoDelay()
        assert not note.transport.getTcpKeepAlive()

    @pytest.mark.parametrize("lose", ["loseConnection", "loseWriteConnection", "stopProducing"])
    def test_the_connection_closes_when_all_output_has_left(self, lose: str) -> None:
        peer, note = connect()
        note.transport.write(b"bye")
        assert not note.transport.disconnecting
        getattr(note.transport, lose)()
        assert note.transport.disconnecting
        assert peer.take() == b"bye"
        assert peer.transport.half_closed
        peer.half_close()
        assert [type(reason) for reason in note.lost] == [ConnectionDone]

    def test_nothing_is_written_after_lose_connection(self) -> None:
        peer, note = connect()
        note.transport.loseConnection()
        note.transport.write(b"never")
        note.transport.loseConnection()
        assert peer.take() == b""

    def test_abort_connection_ends_the_connection_at_once(self) -> None:
        peer, note = connect()
        note.transport.write(b"never")
        note.transport.abortConnection()
        assert note.transport.disconnecting
        peer.turn()
        assert peer.transport.aborted
        assert peer.transport.writes == []
        assert [type(reason) for reason in note.lost] == [ConnectionAborted]

    @pytest.mark.parametrize(
        ("end", "kind"),
        [
            (lambda peer: peer.leave(), ConnectionDone),
            (lambda peer: peer.leave(CONNECTION_DONE), ConnectionDone),
            (lambda peer: peer.half_close(), ConnectionDone),
            (lambda peer: peer.leave(ConnectionLost()), ConnectionLost),
            (lambda peer: [peer.connection.abort("the server stopped"), peer.turn()], ConnectionLost),
        ],
    )
    def test_connection_lost_gets_the_kind_of_loss(self, end: Callable[[Peer], object], kind: type[Exception]) -> None:
        peer, note = connect()
        end(peer)
        assert [type(reason) for reason in note.lost] == [kind]

    def test_connection_lost_gets_the_reason(self) -> None:
        peer, note = connect()
        peer.connection.abort("the server stopped")
        peer.turn()
        assert "the server stopped" in str(note.lost[0])

    def test_the_transport_works_from_connection_made_on(self) -> None:
        peer, note = connect(lambda note: note.transport.write(b"hello"))
        assert peer.take() == b"hello"
        assert note.connected

    def test_a_protocol_that_raises_ends_its_connection(self, events: Any) -> None:
        peer, note = connect()
        note.dataReceived = None  # type: ignore[assignment, method-assign]
        peer.send(b"x")
        assert peer.gone
        assert len(note.lost) == 1
        assert len(events) == 1
        events.clear()


class TestTLS:
    def test_with_tls_the_transport_provides_issltransport(self) -> None:
        _, plain = connect()
        _, secure = connect(secure=True)
        assert not ISSLTransport.providedBy(plain.transport)
        assert ISSLTransport.providedBy(secure.transport)

    @pytest.mark.parametrize("secure", [False, True])
    def test_the_peers_certificate_is_none_without_one(self, secure: bool) -> None:
        _, note = connect(secure=secure)
        assert note.transport.getPeerCertificate() is None

    def test_the_peers_certificate_is_returned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        peer, note = connect(secure=True)
        certificate = object()
        monkeypatch.setattr(peer.transport, "getPeerCertificate", lambda: certificate)
        assert note.transport.getPeerCertificate() is certificate


@implementer(IPushProducer)
class Push:
    """A producer that goes on until it is paused."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.asked: list[str] = []

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


@implementer(IPullProducer)
class Pull:
    """A producer that produces when it is asked: so much, so often."""

    def __init__(self, note: Note, times: int, size: int = 10_000) -> None:
        self.note = note
        self.times = times
        self.size = size
        self.asked = 0
        self.stopped = False

    def resumeProducing(self) -> None:
        self.asked += 1
        self.note.transport.write(bytes(self.size))
        if self.asked == self.times:
            self.note.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped = True


class TestPushProducer:
    def test_a_push_producer_pauses_while_the_output_is_full(self) -> None:
        peer, note = connect()
        peer.transport.reading = False
        note.transport.registerProducer(push := Push(note), True)
        note.transport.write(bytes(LIMIT - 1))
        assert push.asked == []
        note.transport.write(b"!")
        assert push.asked == ["pause"]
        peer.turn()
        assert push.asked == ["pause"]
        peer.transport.drain()
        assert push.asked == ["pause", "resume"]

    def test_a_push_producer_is_stopped_when_the_connection_is_lost(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(push := Push(note), True)
        peer.leave()
        assert push.asked == ["stop"]
        assert len(note.lost) == 1

    def test_a_producer_that_fails_to_stop_does_not_hide_the_loss(self, events: Any) -> None:
        peer, note = connect()
        note.transport.registerProducer(object(), True)
        peer.leave()
        assert len(note.lost) == 1
        assert len(events) == 1
        events.clear()

    def test_an_unregistered_producer_is_left_alone(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(push := Push(note), True)
        note.transport.unregisterProducer()
        note.transport.write(bytes(LIMIT))
        peer.turn()
        peer.leave()
        assert push.asked == []

    def test_the_connection_does_not_close_before_a_push_producer_is_done(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(Push(note), True)
        note.transport.loseConnection()
        note.transport.write(b"the rest")
        peer.send(b"unheard")
        assert not peer.transport.half_closed
        note.transport.unregisterProducer()
        assert peer.take() == b"the rest"
        assert peer.transport.half_closed
        assert note.received == b""

    def test_a_second_producer_is_refused(self) -> None:
        _, note = connect()
        note.transport.registerProducer(Push(note), True)
        with pytest.raises(RuntimeError, match="another producer is registered"):
            note.transport.registerProducer(Push(note), True)

    @pytest.mark.parametrize(
        "end", [lambda peer, note: peer.leave(), lambda peer, note: note.transport.loseConnection()]
    )
    def test_a_producer_registered_after_the_end_is_stopped(self, end: Callable[[Peer, Note], object]) -> None:
        peer, note = connect()
        end(peer, note)
        for streaming in (True, False):
            note.transport.registerProducer(push := Push(note), streaming)
            assert push.asked == ["stop"]


class TestPullProducer:
    def test_a_pull_producer_is_asked_until_it_is_done(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(pull := Pull(note, 20), False)
        for _ in range(10):
            peer.turn()
        assert pull.asked == 20
        assert peer.take() == bytes(200_000)
        assert not pull.stopped

    def test_a_pull_producer_is_asked_once_a_turn(self) -> None:
        """It is others' turn, too."""
        turns: list[int] = []
        peer, note = connect()
        pull = Pull(note, 20)
        note.transport.registerProducer(pull, False)
        assert pull.asked == 1
        peer.reactor.callLater(0, lambda: turns.append(pull.asked))
        peer.turn()
        assert turns == [2]

    def test_a_pull_producer_is_not_asked_while_the_output_is_full(self) -> None:
        peer, note = connect()
        peer.transport.reading = False
        note.transport.registerProducer(pull := Pull(note, 100), False)
        for _ in range(10):
            peer.turn()
        written = pull.asked
        assert written < 100
        assert not peer.transport.producing
        peer.transport.reading = True
        for _ in range(10):
            peer.transport.drain()
            peer.turn()
        assert peer.take() == bytes(1_000_000)

    def test_a_pull_producer_is_not_asked_twice_a_turn_when_the_output_drains(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(pull := Pull(note, 100, size=1), False)
        asked = pull.asked
        for _ in range(3):
            note.transport.handle_action("drained")
        assert pull.asked == asked
        assert peer.connection.ask(0, "drained")

    def test_drained_without_a_producer_does_nothing(self) -> None:
        peer, _ = connect()
        assert peer.connection.ask(0, "drained")

    def test_a_push_producer_may_follow_a_pull_producer(self) -> None:
        peer, note = connect()
        push = Push(note)

        class Last(Pull):
            def resumeProducing(self) -> None:
                super().resumeProducing()
                note.transport.registerProducer(push, True)

        note.transport.registerProducer(Last(note, 1), False)
        peer.turn()
        assert push.asked == []

    def test_another_pull_producer_may_follow(self) -> None:
        peer, note = connect()
        second = Pull(note, 3)

        class First(Pull):
            def resumeProducing(self) -> None:
                super().resumeProducing()
                note.transport.registerProducer(second, False)

        note.transport.registerProducer(First(note, 1), False)
        assert second.asked == 1
        for _ in range(3):
            peer.turn()
        assert second.asked == 3

    def test_a_pull_producer_is_stopped_when_the_connection_is_lost(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(pull := Pull(note, 100), False)
        peer.transport.lose(ConnectionDone())
        asked = pull.asked
        peer.turn()
        assert pull.stopped
        assert pull.asked == asked

    def test_the_connection_does_not_close_before_a_pull_producer_is_done(self) -> None:
        peer, note = connect()
        note.transport.registerProducer(Pull(note, 3), False)
        note.transport.loseConnection()
        for _ in range(3):
            peer.turn()
        assert peer.take() == bytes(30_000)
        assert peer.transport.half_closed


GET = b"GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n"


class Leaf(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]


class Secure(Leaf):
    """Says whether it is."""

    def render_GET(self, request: Any) -> bytes:
        return b"secure" if request.isSecure() else b"plain"


@implementer(IPushProducer)
class Big(Leaf):
    """A megabyte, as fast as it can go."""

    def render_GET(self, request: Any) -> int:
        self.request = request
        self.left = 1_000_000
        request.setHeader(b"Content-Length", b"1000000")
        request.registerProducer(self, True)
        self.resumeProducing()
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        self.paused = False
        while self.left and not self.paused:
            self.left -= 10_000
            self.request.write(bytes(10_000))
        if not self.left:
            self.request.unregisterProducer()
            self.request.finish()

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        raise AssertionError("it was not done")


class Endless(Leaf):
    """Never answers."""

    def render_GET(self, request: Any) -> int:
        self.failed = request.notifyFinish()
        self.failed.addErrback(lambda failure: failure.trap(ConnectionLost, ConnectionDone))
        return NOT_DONE_YET


class TestSite:
    """`twisted.web` answers what is not an upgrade, on the same port."""

    @pytest.fixture
    def host(self) -> Iterator[MemoryHost]:
        self.root = root = Resource()
        root.putChild(b"page", Data(b"hello", "text/plain"))
        root.putChild(b"big", Big())
        root.putChild(b"secure", Secure())
        root.putChild(b"endless", Endless())
        reactor = MemoryReactor()
        site = Site(root, reactor=reactor)
        site.noisy = False
        chain = [
            link("http", http, {"upgrade": "web", "otherwise": "web"}),
            link("web", factory, {"factory": site}),
        ]
        yield MemoryHost(chain=chain, reactor=reactor, max_output=LIMIT)
        site.doStop()

    def test_twisted_web_answers_a_request(self, host: MemoryHost) -> None:
        peer = host.connect()
        peer.send(GET % b"/page")
        head, _, body = peer.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"hello"

    def test_twisted_web_answers_again_on_the_same_connection(self, host: MemoryHost) -> None:
        peer = host.connect()
        peer.send(GET % b"/page" + (GET % b"/secure")[:20])
        assert peer.take().endswith(b"\r\n\r\nhello")
        peer.send((GET % b"/secure")[20:])
        assert peer.take().endswith(b"\r\n\r\nplain")
        assert not peer.transport.half_closed

    def test_twisted_web_sends_no_faster_than_the_peer_reads(self, host: MemoryHost) -> None:
        peer = host.connect()
        peer.transport.reading = False
        peer.send(GET % b"/big")
        assert 800_000 < self.root.children[b"big"].left < 1_000_000
        for _ in range(20):
            peer.transport.drain()
            peer.turn()
        assert peer.take().partition(b"\r\n\r\n")[2] == bytes(1_000_000)
        assert max(map(len, peer.transport.writes)) < LIMIT + 10_000

    @pytest.mark.parametrize(("secure", "body"), [(False, b"plain"), (True, b"secure")])
    def test_twisted_web_knows_whether_there_is_tls(self, host: MemoryHost, secure: bool, body: bytes) -> None:
        peer = host.connect(secure=secure)
        peer.send(GET % b"/secure")
        assert peer.take().endswith(b"\r\n\r\n" + body)

    def test_twisted_web_closes_when_it_is_asked_to(self, host: MemoryHost) -> None:
        peer = host.connect()
        peer.send((GET % b"/page").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert peer.take().endswith(b"hello")
        assert peer.transport.half_closed

    def test_twisted_web_learns_that_the_peer_has_gone(self, host: MemoryHost) -> None:
        peer = host.connect()
        peer.send(GET % b"/endless")
        peer.leave(ConnectionLost())
        assert not host.hub.shared.registry.all()

    def test_twisted_web_drops_a_silent_peer(self, host: MemoryHost) -> None:
        """Its own timeout, by our clock."""
        peer = host.connect()
        peer.send(GET % b"/page")
        for _ in range(100):
            peer.turn(1)
        assert peer.gone
