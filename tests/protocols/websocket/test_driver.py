import gc
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost, Peer, link, request
from tests.regressions.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TAIL,
    TEXT,
    close,
    close_code,
    frame,
    frames,
    head,
    mask,
)
from wshost.connections.context import MAX_KEPT
from wshost.interfaces import (
    IBufferedDriver,
    IChannel,
    IConfirmingDriver,
    ICountingDriver,
    IMovableDriver,
    IRef,
    IRenewableDriver,
    ISession,
    ISessionFactory,
)
from wshost.messages import CALL
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket
from wshost.protocols.websocket.autobahn_engine import Engine
from wshost.protocols.websocket.driver import HEARTBEAT, STEPS, TURN_SIZE, WebSocket
from wshost.protocols.websocket.keepalive import CONTROL_BURST, Keepalive
from wshost.protocols.websocket.reader import ENGINE_WORK
from wshost.request import ConnectionInfo
from wshost.results import REFUSED, Accept, Outcome

#: The answer to `close()`.
ECHOED = ("close", 1000, "")


@implementer(ISession)
class Session:
    """A session that notes what it is told, and calls the test's functions at its start and on each message."""

    def __init__(self, factory: "Sessions", channel: IChannel, connection: ConnectionInfo) -> None:
        self.busy = self.has_infos = False
        self.told: list[Any] = []
        self.behind_infos: list[Callable[[], None]] = []
        # Whether an answer is awaited, and the calls that wait for it.
        self.awaits = False
        self.kept: list[Callable[[], None]] = []
        self.channel = channel
        self.connection = connection
        self.ref: IRef
        self._factory = factory

    def open(self, ref: IRef) -> None:
        self.ref = ref
        self._factory.init(self)

    def handle_message(self, message: Any) -> None:
        assert not self.busy
        self.told.append(message)
        self._factory.handle(self, message)

    def handle_info(self, message: Any) -> bool:
        if message == "one too many":
            return False
        self.told.append(("info", message))
        if not self.busy:
            self.has_infos = True
            self.channel.call_soon(lambda: self._inform(message))
        return True

    def _inform(self, message: Any) -> None:
        self.has_infos = False
        self._factory.handle(self, ("info", message))
        calls, self.behind_infos = self.behind_infos, []
        for call in calls:
            call()
        self.channel.proceed()

    def after_infos(self, call: Callable[[], None]) -> None:
        self.behind_infos.append(call)

    def connection_lost(self) -> None:
        self.told.append("lost")

    def go_on(self) -> None:
        """Have what was awaited: make the calls that have waited for that."""
        self.awaits = False
        for call in self.kept:
            call()
        self.release()

    def release(self) -> None:
        """End being busy."""
        self.busy = False
        self.channel.proceed()


@implementer(ISessionFactory)
class Sessions:
    def __init__(self, init: Callable[[Session], None], handle: Callable[[Session, Any], object]) -> None:
        self.init = init
        self.handle = handle
        self.made: list[Session] = []

    def session(self, channel: IChannel, connection: ConnectionInfo) -> Session:
        self.made.append(Session(self, channel, connection))
        return self.made[-1]


def accept(session: Session) -> None:
    session.channel.accept(Accept(None))


def wait(session: Session) -> None:
    """Leave the decision on the handshake for later."""


def echo(session: Session, message: Any) -> None:
    if message[0] in ("text", "binary"):
        session.channel.send(message[1])


def work(session: Session, message: Any) -> None:
    """Be busy until released."""
    session.busy = True


def await_rest(session: Session, message: Any) -> None:
    """Await something until `Session.go_on`."""
    session.busy = session.awaits = True
    session.kept, session.behind_infos = session.behind_infos, []


class Server(MemoryHost):
    """A host of the http and the websocket module, with sessions of this file."""

    def __init__(
        self,
        handle: Callable[[Session, Any], object] = echo,
        init: Callable[[Session], None] = accept,
        limits: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.sessions = Sessions(init, handle)
        options = {"ping_interval": 0, "handler": self.sessions, **options}
        super().__init__(chain=[link("http", http), link("websocket", websocket, options)], **(limits or {}))

    @property
    def session(self) -> Session:
        """The only session."""
        [session] = self.sessions.made
        return session

    @property
    def told(self) -> list[Any]:
        """What the only session was told."""
        return self.session.told


def driver(server: Server) -> WebSocket:
    """Return the driver of the only connection: it is its session's channel."""
    found = server.session.channel
    assert isinstance(found, WebSocket)
    return found


def outcomes(ref: Any, *messages: str) -> list[Any]:
    """What becomes of messages that are sent now, once that is known."""
    fired: list[Any] = []
    for message in messages:
        ref.send(message, confirm=True).addBoth(fired.append)
    return fired


def status(peer: Peer) -> int:
    """Return the status of the response that has come."""
    return int(peer.take().split(b" ")[1])


def fed(peer: Peer, data: bytes) -> None:
    """Let bytes come in, without the end of the turn."""
    peer.connection.dataReceived(data)


def each_call(clock: Clock) -> Iterator[None]:
    """Make the calls that are due one by one; yield before each, and at the end."""
    yield
    while clock.calls and clock.calls[0].getTime() <= clock.seconds():
        call = clock.calls.pop(0)
        call.called = 1
        call.func(*call.args, **call.kw)
        yield


def elapse(peer: Peer, seconds: float) -> None:
    """Let time pass, and make each call at the time at which it is due."""
    clock = peer.reactor
    end = clock.seconds() + seconds
    while due := [call.getTime() for call in clock.getDelayedCalls() if call.getTime() <= end]:
        clock.advance(max(0.0, min(due) - clock.seconds()))
    clock.advance(max(0.0, end - clock.seconds()))
    peer.turn()


@pytest.fixture
def log() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


class TestInterfaces:
    def test_a_driver_provides_the_interfaces_of_what_it_can_do(self) -> None:
        server = Server()
        server.open()
        found = driver(server)
        verifyObject(IBufferedDriver, found)
        verifyObject(IConfirmingDriver, found)
        verifyObject(ICountingDriver, found)
        verifyObject(IRenewableDriver, found)
        verifyObject(IChannel, found)

    def test_the_sessions_of_these_tests_provide_isession(self) -> None:
        server = Server()
        verifyObject(ISessionFactory, server.sessions)
        server.open()
        verifyObject(ISession, server.session)


class TestOpening:
    """RFC 6455 §4.2."""

    def test_a_valid_handshake_is_accepted(self) -> None:
        server = Server()
        peer = server.connect()
        response = peer.upgrade("/chat?room=1", {"Cookie": "a=b", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert response.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in response
        info = server.session.connection
        assert (info.peer, info.path, info.query, info.cookies) == ("127.0.0.1:50000", "/chat", "room=1", {"a": "b"})
        assert info.tls is None
        peer.text("hello")
        assert peer.messages() == ["hello"]

    def test_a_session_knows_that_its_connection_has_tls(self) -> None:
        server = Server()
        peer = server.connect(secure=True)
        peer.upgrade()
        assert server.session.connection.tls is not None

    @pytest.mark.parametrize(
        ("headers", "refused"),
        [
            ({"Sec-WebSocket-Version": ""}, 400),
            ({"Sec-WebSocket-Version": "12"}, 426),
            ({"Sec-WebSocket-Key": ""}, 400),
            ({"Sec-WebSocket-Key": "short"}, 400),
            ({"Sec-WebSocket-Protocol": "a, a"}, 400),
            ({"Sec-WebSocket-Extensions": "a;"}, 400),
            ({"Origin": "https://evil.example"}, 403),
        ],
    )
    def test_an_invalid_handshake_is_refused(self, headers: dict[str, str], refused: int) -> None:
        server = Server()
        peer = server.connect()
        peer.send(request(headers=headers) + frame(TEXT, b"hello"))
        response = peer.transport.take()
        assert response.startswith(b"HTTP/1.1 %d " % refused)
        assert b"\r\nConnection: close" in response
        assert (b"\r\nSec-WebSocket-Version: 13\r\n" in response) is (refused == 426)
        assert server.sessions.made == []
        assert peer.transport.half_closed
        peer.leave()
        assert server.idle()

    @pytest.mark.parametrize("origin", ["http://example.com", "https://app.example"])
    def test_allowed_origins_are_accepted(self, origin: str) -> None:
        assert Server(origins=["https://app.example"]).open(headers={"Origin": origin}).frames

    @pytest.mark.parametrize(
        ("chosen", "used"),
        [(None, b"soap"), ("chat", b"chat"), ("wamp", b"wamp")],
    )
    def test_a_subprotocol_that_both_know_is_agreed_on(self, chosen: str | None, used: bytes) -> None:
        server = Server(
            init=lambda session: session.channel.accept(Accept(None, chosen)), subprotocols=["soap", "chat"]
        )
        peer = server.connect()
        response = peer.upgrade(headers={"Sec-WebSocket-Protocol": "chat, wamp, soap"})
        assert b"\r\nSec-WebSocket-Protocol: %s\r\n" % used in response
        assert server.session.connection.subprotocols == ("chat", "wamp", "soap")

    @pytest.mark.parametrize(
        ("asked", "subprotocols", "lines"), [("chat", [], 1), ("chat", ["soap"], 1), ("chat", ["chat"], 0), ("", [], 0)]
    )
    def test_a_subprotocol_that_is_asked_for_in_vain_is_logged_once(
        self, asked: str, subprotocols: list[str], lines: int, log: list[LogEvent]
    ) -> None:
        """Most clients fail such a connection and do not say why. The log says it, once."""
        server = Server(subprotocols=subprotocols)
        for _ in range(3):
            server.open(headers={"Sec-WebSocket-Protocol": asked})
        assert len(log) == lines
        assert all("--subprotocol" in str(event["log_format"]) for event in log)

    @pytest.mark.parametrize(
        "accepted", [Accept(None, "wamp"), Accept(None, headers={"Upgrade": "h2c"})], ids=["subprotocol", "header"]
    )
    @pytest.mark.parametrize("late", [False, True])
    def test_a_handler_that_accepts_wrongly_is_answered_with_500_and_logged(
        self, accepted: Accept, late: bool, log: list[LogEvent]
    ) -> None:
        """This is the handler's error. The session ends as any other does."""
        server = Server(init=wait if late else lambda session: session.channel.accept(accepted))
        peer = server.connect()
        peer.send(request(headers={"Sec-WebSocket-Protocol": "chat"}) + frame(TEXT, b"hello"))
        if late:
            server.session.channel.accept(accepted)
        assert status(peer) == 500
        [event] = log
        assert "the handler's init accepted wrongly" in str(event)
        assert isinstance(event["failure"].value, ValueError)
        assert server.told == []
        peer.leave()
        assert server.told == ["lost"]
        assert server.idle()

    def test_a_handler_may_add_headers_to_the_response(self) -> None:
        server = Server(init=lambda session: session.channel.accept(Accept(None, None, {"X-Room": "1"})))
        assert b"\r\nX-Room: 1\r\n" in server.connect().upgrade()

    @pytest.mark.parametrize("late", [False, True])
    def test_a_handler_may_reject_the_handshake(self, late: bool) -> None:
        def refuse(session: Session) -> None:
            session.channel.reject(401, b"who are you?", {"WWW-Authenticate": "Basic"})

        server = Server(init=wait if late else refuse)
        peer = server.connect()
        peer.send(request())
        if late:
            refuse(server.session)
        response = peer.take()
        assert response.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nWWW-Authenticate: Basic\r\n" in response
        assert response.endswith(b"\r\n\r\nwho are you?")
        # It was said already.
        refuse(server.session)
        accept(server.session)
        assert not server.session.ref.send("late")
        assert peer.take() == b""
        peer.leave()
        assert server.told == ["lost"]
        assert server.idle()

    def test_frames_that_come_with_the_request_are_read(self) -> None:
        server = Server()
        peer = server.connect()
        peer.upgrade(after=frame(TEXT, b"one") + frame(TEXT, b"two")[:3])
        peer.send(frame(TEXT, b"two")[3:])
        assert peer.messages() == ["one", "two"]

    def test_a_session_may_send_as_soon_as_it_has_accepted(self) -> None:
        def greet(session: Session) -> None:
            accept(session)
            session.channel.send("hello")

        assert Server(init=greet).open().messages() == ["hello"]

    def test_a_second_decision_on_the_handshake_is_ignored(self) -> None:
        server = Server()
        peer = server.open()
        accept(server.session)
        server.session.channel.reject(500, b"", {})
        assert peer.take() == b""
        peer.text("hello")
        assert peer.messages() == ["hello"]


class TestWhileInitIsPending:
    def test_frames_that_come_before_the_decision_are_kept(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"one"))
        assert not peer.transport.producing
        # Those that had been taken already come nevertheless.
        fed(peer, frame(TEXT, b"two") + frame(PING, b"3")[:1])
        fed(peer, frame(PING, b"3")[1:])
        assert server.told == []
        assert peer.take() == b""
        accept(server.session)
        assert peer.transport.producing
        assert server.told == [("text", "one"), ("text", "two"), ("ping", b"3")]
        response, _, rest = peer.take().partition(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 101 ")
        assert [one.payload for one in frames(rest)] == [b"one", b"two", b"3"]

    def test_frames_that_were_kept_wait_for_a_busy_session(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"one"))
        server.session.busy = True
        accept(server.session)
        assert peer.take().startswith(b"HTTP/1.1 101 ")
        assert server.told == []
        server.session.release()
        assert server.told == [("text", "one")]

    def test_actions_of_refs_before_the_decision_are_done_in_order_after_it(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"hello"))
        ref = server.session.ref
        assert ref.send("one")
        assert ref.ping(b"two")
        assert ref.send(b"three")
        assert ref.info("four")
        assert peer.take() == b""
        assert server.told == []
        accept(server.session)
        peer.turn()
        assert ("info", "four") in server.told
        response, _, rest = peer.take().partition(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 101 ")
        assert [(one.opcode, one.payload) for one in frames(rest)] == [
            (TEXT, b"one"),
            (PING, b"two"),
            (BINARY, b"three"),
            (TEXT, b"hello"),
        ]

    def test_a_ref_may_send_before_its_session_has_accepted(self) -> None:
        """The connection keeps the message until the module has started."""

        def greet(session: Session) -> None:
            assert session.ref.send("two")
            accept(session)
            session.channel.send("one")

        peer = Server(init=greet).connect()
        _, _, rest = peer.upgrade().partition(b"\r\n\r\n")
        assert rest == b""
        assert peer.messages() == ["one", "two"]

    def test_the_number_of_actions_that_wait_for_the_decision_is_bounded(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request())
        ref = server.session.ref
        assert [bool(ref.send("x")) for _ in range(MAX_KEPT + 2)] == [True] * MAX_KEPT + [False] * 2
        assert not ref.ping(b"")
        assert not ref.info("")
        assert not ref.close(1000, "")
        accept(server.session)
        assert sum(one.opcode == TEXT for one in frames(peer.take().partition(b"\r\n\r\n")[2])) == MAX_KEPT

    def test_the_size_of_actions_that_wait_for_the_decision_is_bounded(self) -> None:
        server = Server(init=wait)
        server.connect().send(request())
        ref = server.session.ref
        size = (1 << 20) - 2 * CALL
        assert ref.send(b"x" * (size - 10))
        assert not ref.send("x" * 11)
        assert ref.send("x" * 10)
        assert not ref.send(b"")
        assert not ref.ping(b"x")

    def test_an_unknown_action_is_refused(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request())
        accept(server.session)
        assert not peer.connection.ask(0, "dance", 1)
        assert server.session.ref.send("still open")
        [sent] = frames(peer.take().partition(b"\r\n\r\n")[2])
        assert sent.payload == b"still open"

    def test_a_close_by_a_ref_before_the_decision_follows_the_response(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"hello") + close(4_000))
        assert server.session.ref.close(4_000, "full")
        server.session.busy = True
        accept(server.session)
        response, _, rest = peer.take().partition(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 101 ")
        assert rest == b"\x88\x06\x0f\xa0full"
        assert server.told == []
        assert peer.transport.half_closed

    def test_a_drain_before_the_decision_is_answered_with_503(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request())
        peer.connection.drain()
        assert status(peer) == 503
        accept(server.session)
        assert peer.take() == b""

    def test_messages_go_both_ways_after_the_handler_was_told_of_the_drain(self) -> None:
        server = Server()
        peer = server.open()
        peer.connection.drain()
        peer.text("hello")
        assert peer.messages() == ["hello"]
        assert server.told == [("info", "drain"), ("text", "hello")]

    def test_a_stop_of_the_server_before_the_decision_is_answered_with_503(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"hello"))
        server.hub.stop()
        assert status(peer) == 503
        accept(server.session)
        server.session.channel.reject(500, b"", {})
        server.session.channel.proceed()
        assert peer.take() == b""
        peer.leave()
        assert server.told == ["lost"]
        assert server.idle()

    def test_a_peer_may_leave_before_the_decision(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"hello"))
        peer.leave()
        accept(server.session)
        server.session.channel.reject(500, b"", {})
        assert server.told == ["lost"]
        assert peer.take() == b""
        assert server.idle()


def scripted(session: Session, message: Any) -> None:
    """Answer a message in each way that a channel offers."""
    match message:
        case ("text", "close"):
            session.channel.close(4_000, "bye")
        case ("text" | "binary", data):
            session.channel.send(data)
        case ("ping", data):
            session.channel.pong(data + b"!")
        case ("pong", data):
            session.channel.ping(data)
        case ("close", (code, reason)):
            session.channel.send(f"{code} {reason}")
            session.channel.close(4_001, "näh")


BEGINNING = (
    frame(TEXT, "Köln".encode())
    + frame(BINARY, b"x" * 130)
    + frame(TEXT, fin=False)
    + frame(PING, b"in")
    + frame(CONTINUATION, b"be", fin=False)
    + frame(PONG, b"tween")
    + frame(CONTINUATION, b"en")
    + frame(BINARY)
)
ENDINGS = {
    "the peer closes": close(3_000, "tschüß") + frame(TEXT, b"late"),
    "the handler closes": frame(TEXT, b"close") + frame(TEXT, b"late") + frame(PING) + close(4_000) + frame(PING),
    "the peer is wrong": frame(TEXT, b"\xff") + frame(TEXT, b"late"),
    "the peer is wrong in its Close": close(1005) + close(1000),
}


class TestMessages:
    """RFC 6455 §5, §6."""

    def test_the_handler_gets_each_message_ping_and_pong(self) -> None:
        server = Server()
        server.open().send(BEGINNING)
        assert server.told == [
            ("text", "Köln"),
            ("binary", b"x" * 130),
            ("ping", b"in"),
            ("pong", b"tween"),
            ("text", "been"),
            ("binary", b""),
        ]

    def test_the_peer_gets_what_the_handler_sends(self) -> None:
        server = Server()
        peer = server.open()
        channel = server.session.channel
        for data in ("Köln", "", b"\xff"):
            channel.send(data)
        channel.ping(b"1")
        channel.pong(b"2")
        channel.proceed()
        assert peer.messages() == ["Köln", "", b"\xff", ("ping", b"1"), ("pong", b"2")]

    @pytest.mark.parametrize("compress", [False, True])
    def test_bytes_that_may_change_can_be_sent(self, compress: bool) -> None:
        server = Server(compress=compress)
        peer = server.open()
        channel: Any = server.session.channel
        for kind in (bytearray, memoryview):
            channel.send(kind(b"data"))
            channel.ping(kind(b"1"))
            channel.pong(kind(b"2"))
        for ask in (channel.send, channel.ping, channel.pong):
            with pytest.raises(TypeError):
                ask(7)
        channel.proceed()
        assert peer.messages() == [b"data", ("ping", b"1"), ("pong", b"2")] * 2

    def test_a_control_frame_has_at_most_125_bytes(self) -> None:
        """RFC 6455 §5.5."""
        server = Server()
        server.open()
        channel: Any = server.session.channel
        for ask in (channel.ping, channel.pong):
            with pytest.raises(ValueError, match=r"at most 125 bytes, not 128$"):
                ask(memoryview(bytes(128)).cast("I"))

    def test_a_str_that_is_no_utf_8_raises_and_is_not_sent(self) -> None:
        """The session has to handle the exception."""
        server = Server()
        peer = server.open()
        with pytest.raises(UnicodeEncodeError):
            server.session.channel.send("\ud800")
        server.session.channel.proceed()
        assert peer.take() == b""

    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    def test_frames_are_read_the_same_wherever_they_are_cut_in_two(self, ending: bytes) -> None:
        data = request() + BEGINNING + ending
        seen = set()
        for cut in range(len(request()) - 4, len(data)):
            server = Server(scripted)
            peer = server.connect()
            peer.send(data[:cut])
            peer.send(data[cut:])
            seen.add((peer.take(), repr(server.told), peer.transport.half_closed))
        [(written, _, half_closed)] = seen
        assert written.startswith(b"HTTP/1.1 101 ")
        assert half_closed

    @pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
    def test_frames_are_read_the_same_byte_by_byte(self, ending: bytes) -> None:
        written = []
        for size in (1, 1_000_000):
            data = BEGINNING + ending
            peer = Server(scripted).open()
            for start in range(0, len(data), size):
                peer.send(data[start : start + size])
            written.append(peer.take())
        assert written[0] == written[1]

    def test_the_answers_to_one_read_are_one_write(self) -> None:
        peer = Server().open()
        peer.transport.writes.clear()
        peer.send(frame(TEXT, b"x") * 16)
        assert peer.transport.writes == [b"\x81\x01x" * 16]


class TestALargeMessage:
    """A transport that can does read the payload into the buffer of the message."""

    PAYLOAD = "large é€😀 " * 5_000

    @pytest.mark.parametrize("buffered", [True, False])
    @pytest.mark.parametrize("piece", [1_000, 9_999, 20_000])
    def test_a_large_message_arrives_whole_in_any_pieces(self, piece: int, buffered: bool) -> None:
        server = Server(fast_lane=True)
        peer = server.open(buffered=buffered)
        data = frame(TEXT, self.PAYLOAD.encode()) + frame(TEXT, b"small")
        rooms = 0
        for at in range(0, len(data), piece):
            peer.send(data[at : at + piece])
            rooms += peer.transport.room is not None
        assert server.told == [("text", self.PAYLOAD), ("text", "small")]
        assert (rooms > 0) is buffered
        assert peer.transport.room is None

    def test_a_large_message_waits_for_a_busy_session(self) -> None:
        server = Server(work)
        peer = server.open(buffered=True)
        data = frame(TEXT, self.PAYLOAD.encode())
        peer.send(data[:20_000])
        peer.connection.ref.info("an info")
        peer.turn()
        assert server.session.busy
        peer.send(data[20_000:])
        assert server.told == [("info", "an info")]
        server.session.release()
        peer.turn()
        assert server.told == [("info", "an info"), ("text", self.PAYLOAD)]

    def test_bytes_of_a_large_message_show_that_the_peer_is_alive(self) -> None:
        server = Server(ping_interval=20, ping_timeout=20)
        peer = server.open(buffered=True)
        data = frame(BINARY, bytes(60_000))
        peer.send(data[:20_000])
        for at in range(20_000, 60_000, 10_000):
            peer.turn(19)
            peer.send(data[at : at + 10_000])
        assert peer.take() == b""

    def test_a_large_text_that_is_no_utf_8_is_closed_with_1007(self) -> None:
        server = Server()
        peer = server.open(buffered=True)
        data = frame(TEXT, b"a" * 30_000 + b"\xff" + b"a" * 30_000)
        peer.send(data[:20_000])
        peer.send(data[20_000:40_000])
        assert close_code(peer.take()) == 1007
        assert peer.transport.room is None
        peer.send(data[40_000:])
        assert server.told == []

    def test_the_rest_of_a_large_message_is_dropped_when_the_connection_fails(self) -> None:
        server = Server(message_timeout=5)
        peer = server.open(buffered=True)
        data = frame(TEXT, self.PAYLOAD.encode())
        peer.send(data[:20_000])
        peer.turn(6)
        assert close_code(peer.take()) == 1008
        assert driver(server).handle_buffer_in(1) is None
        peer.send(data[20_000:])
        assert server.told == []


class TestABusySession:
    """A session handles one message at a time, in order. While it is busy, the peer is not read."""

    def test_each_message_waits_for_a_busy_session(self) -> None:
        server = Server(work)
        peer = server.open()
        fed(peer, frame(TEXT, b"one") + frame(PING, b"two") + frame(TEXT, b"three")[:4])
        for done in (["one"], ["one", b"two"]):
            assert [message[1] for message in server.told] == done
            assert not peer.transport.producing
            server.session.release()
        assert peer.transport.producing
        peer.send(frame(TEXT, b"three")[4:])
        assert server.told[2:] == [("text", "three")]

    def test_bytes_that_were_received_already_wait_for_a_busy_session(self) -> None:
        server = Server(work)
        peer = server.open()
        for payload in (b"one", b"two", b"three"):
            fed(peer, frame(TEXT, payload))
        assert server.told == [("text", "one")]
        server.session.release()
        assert server.told == [("text", "one"), ("text", "two")]
        assert not peer.transport.producing
        server.session.release()
        server.session.release()
        assert server.told == [("text", "one"), ("text", "two"), ("text", "three")]
        assert peer.transport.producing

    def test_a_busy_sessions_answer_is_sent_when_it_comes(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.text("hello")
        assert peer.take() == b""
        server.session.channel.send("answer")
        server.session.release()
        assert peer.messages() == ["answer"]

    def test_actions_of_refs_do_not_wait_for_a_busy_session(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.text("hello")
        assert server.session.ref.send("news")
        assert server.session.ref.info("more")
        assert peer.messages() == ["news"]
        assert server.told == [("text", "hello"), ("info", "more")]

    def test_a_session_that_is_busy_again_at_once_gets_no_message(self) -> None:
        """It may have begun to handle an info, for example."""
        server = Server(work)
        peer = server.open()
        fed(peer, frame(TEXT, b"one") + frame(TEXT, b"two"))
        server.session.channel.proceed()
        assert server.told == [("text", "one")]
        assert not peer.transport.producing

    def test_reading_is_not_paused_for_a_message_that_is_answered_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To pause reading costs a system call."""
        peer = Server().open()
        told: list[str] = []
        monkeypatch.setattr(peer.transport, "pauseProducing", lambda: told.append("pause"))
        monkeypatch.setattr(peer.transport, "resumeProducing", lambda: told.append("resume"))
        peer.text("hello")
        assert peer.messages() == ["hello"]
        assert not told


class TestRefs:
    @pytest.mark.parametrize("most", [1 << 16, 1 << 22])
    def test_as_many_actions_wait_behind_infos_as_output_may_wait(self, most: int) -> None:
        server = Server(limits={"max_output": most})
        peer = server.open()
        ref = server.session.ref
        assert ref.info("info")
        accepted = [bool(ref.send(b"x" * (most // 4))) for _ in range(6)]
        assert accepted == [True] * 3 + [False] * 3
        assert peer.messages() == [b"x" * (most // 4)] * 3
        assert ref.send(b"x" * (most // 4))

    @pytest.mark.parametrize("act", [lambda ref: ref.send("2"), lambda ref: ref.ping(b"2")])
    def test_actions_do_not_overtake_those_that_wait_behind_an_info_while_it_is_awaited(
        self, act: Callable[[IRef], bool]
    ) -> None:
        server = Server(await_rest)
        peer = server.open()
        ref = server.session.ref
        assert ref.info("info")
        assert ref.send("1")
        assert ref.close(4_000, "bye")
        assert peer.messages() == []
        assert act(ref)
        assert peer.messages() in (["1", "2"], ["1", ("ping", b"2")])
        server.session.channel.send("the answer")
        server.session.go_on()
        # A Close waits for the answer, and nothing is sent twice.
        assert peer.messages() == ["the answer", ("close", 4_000, "bye")]

    def test_what_a_handler_does_on_an_info_comes_before_what_waits_behind_it(self) -> None:
        server = Server(lambda session, message: session.ref.send("1"))
        peer = server.open()
        assert server.session.ref.info("info")
        assert server.session.ref.send("2")
        assert peer.messages() == ["1", "2"]

    def test_actions_behind_an_info_on_which_the_handler_closes_are_dropped(self) -> None:
        server = Server(lambda session, message: session.channel.close(4_000, "bye"))
        peer = server.open()
        ref = server.session.ref
        assert ref.info("info")
        assert ref.send("too late")
        assert peer.messages() == [("close", 4_000, "bye")]

    def test_messages_behind_an_info_count_as_waiting_until_they_have_left(self) -> None:
        server = Server()
        peer = server.open()
        ref = server.session.ref
        assert ref.info("info")
        assert ref.send("1")
        assert ref.close(4_000, "bye")
        assert ref.waiting == CALL + 1
        fired: list[Any] = []
        ref.drained().addBoth(fired.append)
        assert fired == []
        assert peer.messages() == ["1", ("close", 4_000, "bye")]
        assert ref.waiting == 0
        peer.leave()
        assert fired == [False]

    def test_who_waits_until_all_has_left_waits_for_messages_behind_an_info(self) -> None:
        server = Server()
        peer = server.open()
        ref = server.session.ref
        assert ref.info("info")
        assert ref.send("1")
        fired: list[Any] = []
        ref.drained().addBoth(fired.append)
        peer.turn(1)
        assert (peer.messages(), fired) == (["1"], [True])

    def test_a_handler_that_awaits_its_own_output_lets_messages_behind_the_info_go(self) -> None:
        server = Server(await_rest)
        peer = server.open()
        ref = server.session.ref
        fired: list[Any] = []
        ref.send("0")
        assert ref.info("info")
        assert ref.send("1")
        # One that has begun to wait before the info, and one that waits when it is handled.
        ref.drained().addBoth(fired.append)
        peer.turn(1)
        ref.drained().addBoth(fired.append)
        peer.turn(1)
        assert (peer.messages(), fired) == (["0", "1"], [True, True])

    def test_messages_that_will_not_be_sent_do_not_wait(self) -> None:
        server = Server(lambda session, message: session.channel.close(4_000, "bye"))
        server.open()
        ref = server.session.ref
        assert ref.info("info")
        assert ref.send("too late")
        assert ref.waiting > 0
        server.reactor.advance(0)
        assert ref.waiting == 0

    def test_a_confirmed_message_behind_an_info_is_written_when_it_has_left(self) -> None:
        server = Server(await_rest)
        peer = server.open()
        assert server.session.ref.info("info")
        fired = outcomes(server.session.ref, "1")
        assert (peer.messages(), fired) == ([], [])
        server.session.go_on()
        peer.turn(1)
        assert (peer.messages(), fired) == (["1"], [Outcome.WRITTEN])

    def test_a_confirmed_message_that_finds_no_room_behind_infos_is_dropped(self) -> None:
        server = Server(await_rest, limits={"max_output": 1 << 16})
        peer = server.open()
        assert server.session.ref.info("info")
        assert server.session.ref.send(b"x" * (1 << 16))
        fired = outcomes(server.session.ref, "x")
        peer.turn()
        assert fired == [Outcome.OVERFLOW]

    def test_a_confirmed_message_behind_an_info_on_which_the_handler_closes_is_not_written(self) -> None:
        server = Server(lambda session, message: session.channel.close(4_000, "bye"))
        peer = server.open()
        assert server.session.ref.info("info")
        fired = outcomes(server.session.ref, "too late")
        assert peer.messages() == [("close", 4_000, "bye")]
        assert fired == []
        peer.leave()
        assert fired == [Outcome.GONE]

    def test_a_confirmed_message_does_not_overtake_others(self) -> None:
        server = Server(await_rest)
        peer = server.open()
        assert server.session.ref.info("info")
        assert server.session.ref.send("1")
        peer.turn()
        fired = outcomes(server.session.ref, "2")
        peer.turn(1)
        assert (peer.messages(), fired) == (["1", "2"], [Outcome.WRITTEN])

    def test_no_confirmed_message_is_written_behind_a_close(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.send(close(1_000))
        assert server.session.busy
        fired = outcomes(server.session.ref, "x")
        peer.turn()
        assert fired == [Outcome.GONE]
        server.session.release()
        assert peer.messages() == [ECHOED]

    def test_a_confirmed_message_that_waits_for_the_handshake_is_written_after_it(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request())
        fired = outcomes(server.session.ref, "x")
        peer.turn(1)
        assert fired == []
        accept(server.session)
        peer.turn(1)
        assert fired == [Outcome.WRITTEN]

    def test_a_confirmed_message_that_waits_for_a_refused_handshake_is_not_written(self) -> None:
        server = Server(init=wait)
        peer = server.connect()
        peer.send(request())
        fired = outcomes(server.session.ref, "x")
        server.session.channel.reject(403, b"", {})
        peer.leave()
        assert fired == [Outcome.GONE]

    def test_a_ref_sends_pings_informs_and_closes(self) -> None:
        server = Server()
        peer = server.open()
        ref = server.session.ref
        assert ref.send("text")
        assert ref.send(b"binary")
        assert ref.ping(b"ping")
        assert ref.info("info")
        assert not ref.info("one too many")
        assert ref.close(4_000, "bye")
        assert peer.messages() == ["text", b"binary", ("ping", b"ping"), ("close", 4_000, "bye")]
        assert server.told == [("info", "info")]
        assert not ref.send("late")
        assert not ref.info("late")
        assert not ref.close(4_001, "again")
        assert peer.take() == b""

    def test_a_handler_may_send_on_an_info(self) -> None:
        server = Server(lambda session, message: session.channel.send(message[1]))
        peer = server.open()
        assert server.session.ref.info("news")
        assert peer.messages() == ["news"]

    def test_what_a_handler_and_its_ref_send_leaves_in_order(self) -> None:
        def handle(session: Session, message: Any) -> None:
            session.channel.send("1")
            assert session.ref.send("2")
            session.channel.send("3")

        peer = Server(handle).open()
        peer.send(frame(TEXT) * 2)
        assert peer.messages() == ["1", "2", "3"] * 2

    @pytest.mark.parametrize("rest", [b"", frame(TEXT, b"two"), frame(PING) + frame(TEXT, b"two")[:3], close(4_000)])
    def test_a_handler_that_closes_by_its_ref_gets_no_further_message(self, rest: bytes) -> None:
        """It closes within a step of the engine, which must not be asked for another step then."""

        def handle(session: Session, message: Any) -> None:
            assert session.ref.close(4_000, "bye")
            assert not session.ref.send("late")

        server = Server(handle)
        peer = server.open()
        peer.send(frame(TEXT, b"one") + rest)
        assert peer.messages() == [("close", 4_000, "bye")]
        assert server.told == [("text", "one")]
        if rest != close(4_000):
            peer.send((frame(TEXT, b"two")[3:] if len(rest) == 9 else b"") + frame(BINARY) + close(4_000))
        assert peer.transport.half_closed
        assert server.told == [("text", "one")]

    def test_a_busy_handler_may_answer_before_the_server_stops(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.text("slow")
        peer.text("held")
        server.hub.stop()
        assert peer.messages() == []
        server.session.channel.send("the answer")
        server.session.release()
        assert peer.messages() == ["the answer", ("close", 1001, "going away")]
        assert server.told == [("text", "slow"), ("info", "drain")]

    def test_a_handler_that_stops_the_server_gets_no_further_message(self) -> None:
        server = Server(lambda session, message: server.hub.stop())
        peer = server.open()
        peer.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
        assert peer.messages() == [("close", 1001, "going away")]
        assert server.told == [("text", "one"), ("info", "drain")]

    def test_output_may_drain_while_a_handler_is_running(self) -> None:
        server = Server(lambda session, message: peer.connection.ask(0, "drained"))
        peer = server.open()
        peer.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
        assert server.told == [("text", "one"), ("text", "two")]


class TestMessagesThatWaitOutside:
    """Messages of refs to a slow peer, under a policy that drops them."""

    def slow(self) -> tuple[Server, Peer]:
        """A peer that reads nothing, and two messages that wait for it."""

        def conflate(session: Session) -> None:
            session.channel.use_policy("conflate")
            accept(session)

        server = Server(init=conflate)
        peer = server.open()
        peer.transport.reading = False
        server.session.ref.send(bytes(70_000))
        peer.turn()
        for data, key in (("old", "a"), ("other", "b"), ("new", "a")):
            server.session.ref.send(data, key)
        return server, peer

    def rest(self, peer: Peer) -> list[Any]:
        peer.transport.reading = True
        peer.transport.drain()
        return peer.messages()[1:]

    def test_they_become_frames_when_the_peer_reads_and_count_as_sent_only_then(self) -> None:
        server, peer = self.slow()
        assert driver(server).messages_out == 1
        assert self.rest(peer) == ["new", "other"]
        assert driver(server).messages_out == 3

    def test_answers_and_pings_overtake_them(self) -> None:
        server, peer = self.slow()
        server.session.channel.send("answer")
        server.session.ref.ping(b"?")
        assert self.rest(peer) == ["answer", ("ping", b"?"), "new", "other"]

    def test_they_leave_before_our_close_and_none_after_it(self) -> None:
        server, peer = self.slow()
        server.session.ref.close(1000, "bye")
        assert not server.session.ref.send("late")
        assert self.rest(peer) == ["new", "other", ("close", 1000, "bye")]

    def test_they_are_dropped_when_the_peer_closes(self) -> None:
        server, peer = self.slow()
        peer.send(close(1000))
        assert not server.session.ref.send("late")
        assert self.rest(peer) == [ECHOED]

    def test_they_are_dropped_when_the_peer_breaks_the_protocol(self) -> None:
        server, peer = self.slow()
        peer.send(frame(BINARY, b"", rsv=RSV1))
        assert not server.session.ref.send("late")
        [(kind, code, _)] = self.rest(peer)
        assert (kind, code) == ("close", 1002)


class TestThePeerCloses:
    """RFC 6455 §7.1.5, §7.1.6."""

    @pytest.mark.parametrize(
        ("sent", "told"),
        [(close(None), (None, "")), (close(1000), (1000, "")), (close(4_321, "tschüß"), (4_321, "tschüß"))],
    )
    def test_a_close_is_answered_with_the_peers_code_and_reason(
        self, sent: bytes, told: tuple[int | None, str]
    ) -> None:
        """RFC 6455 §5.5.1. A browser's close event then has the code and the reason that its page has given."""
        server = Server()
        peer = server.open()
        peer.send(sent)
        assert server.told == [("close", told)]
        [(opcode, payload, *_)] = frames(peer.take())
        assert (opcode, payload) == (CLOSE, mask(sent[6:]))
        assert peer.transport.half_closed
        assert not server.session.ref.send("late")
        peer.leave()
        assert server.told == [("close", told), "lost"]
        assert server.idle()

    def test_a_handler_may_answer_a_close_with_a_code_of_its_own(self) -> None:
        server = Server(lambda session, message: session.channel.close(4_000, "bye"))
        peer = server.open()
        peer.send(close())
        assert peer.messages() == [("close", 4_000, "bye")]

    def test_a_handler_may_answer_a_close_without_a_code(self) -> None:
        server = Server(lambda session, message: session.channel.close(None, ""))
        peer = server.open()
        peer.send(close(4_000, "bye"))
        assert peer.take() == b"\x88\x00"
        assert peer.transport.half_closed

    def test_a_handler_may_send_before_the_close_is_answered(self) -> None:
        server = Server(lambda session, message: session.channel.send("wait"))
        peer = server.open()
        peer.send(close() + frame(TEXT, b"late"))
        assert peer.take() == b"\x81\x04wait\x88\x02\x03\xe8"
        assert server.told == [("close", (1000, ""))]

    def test_a_busy_handler_may_answer_a_close_later(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.send(close() + frame(TEXT, b"late"))
        assert not server.session.ref.send("late")
        assert not server.session.ref.close(1000, "")
        server.session.channel.proceed()
        assert peer.take() == b""
        server.session.channel.close(4_000, "bye")
        server.session.release()
        assert peer.messages() == [("close", 4_000, "bye")]
        assert server.told == [("close", (1000, ""))]
        peer.leave()
        assert server.idle()

    def test_a_close_that_a_busy_handler_leaves_to_us_is_answered_when_it_is_done(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.send(close())
        server.session.release()
        assert peer.messages() == [ECHOED]

    def test_a_close_is_answered_for_a_handler_that_is_too_late(self) -> None:
        server = Server(work, close_timeout=3)
        peer = server.open()
        peer.send(close())
        elapse(peer, 2.9)
        assert peer.take() == b""
        elapse(peer, 0.2)
        assert peer.messages() == [ECHOED]
        assert peer.transport.half_closed
        server.session.channel.close(4_000, "bye")
        server.session.release()
        assert peer.take() == b""
        peer.leave()
        assert server.idle()

    def test_a_close_waits_for_a_handler_that_is_busy_with_an_earlier_message(self) -> None:
        """The time to answer the Close begins when the earlier message has been handled."""
        server = Server(work, close_timeout=3)
        peer = server.open()
        peer.send(frame(TEXT) + close())
        elapse(peer, 100)
        assert peer.take() == b""
        server.session.release()
        assert server.told == [("text", ""), ("close", (1000, ""))]
        elapse(peer, 3)
        assert peer.messages() == [ECHOED]

    def test_a_close_within_a_fragmented_message_is_answered(self) -> None:
        server = Server()
        peer = server.open()
        peer.send(frame(TEXT, b"x", fin=False) + close())
        assert peer.messages() == [ECHOED]
        assert server.told == [("close", (1000, ""))]

    @pytest.mark.parametrize(
        ("sent", "code"),
        [
            (frame(CLOSE, b"\x03"), 1002),
            (close(1005), 1002),
            (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        ],
    )
    def test_an_invalid_close_is_answered_with_an_error_code(self, sent: bytes, code: int) -> None:
        server = Server()
        peer = server.open()
        peer.send(sent)
        [(kind, sent_code, _)] = peer.messages()
        assert (kind, sent_code) == ("close", code)
        assert server.told == []
        assert peer.transport.half_closed
        peer.leave()
        assert server.told == ["lost"]

    def test_a_stop_of_the_server_waits_for_the_handlers_answer_to_a_close(self) -> None:
        server = Server(work)
        peer = server.open()
        peer.send(close())
        server.hub.stop()
        assert peer.take() == b""
        server.session.release()
        assert peer.messages() == [ECHOED]


class TestWeClose:
    """RFC 6455 §7.1.2."""

    def test_a_ref_may_close_without_a_code(self) -> None:
        server = Server()
        peer = server.open()
        assert server.session.ref.close(None, "")
        assert peer.take() == b"\x88\x00"
        peer.send(close(None))
        assert peer.transport.half_closed
        assert peer.take() == b""

    def closing(self, **options: Any) -> tuple[Server, Peer]:
        server = Server(**options)
        peer = server.open()
        assert server.session.ref.close(4_000, "bye")
        assert peer.messages() == [("close", 4_000, "bye")]
        return server, peer

    def test_a_close_that_the_peer_answers_ends_our_half(self) -> None:
        server, peer = self.closing()
        assert not peer.transport.half_closed
        peer.send(close(4_000))
        assert peer.transport.half_closed
        assert peer.take() == b""
        peer.leave()
        assert server.told == ["lost"]
        assert server.idle()

    def test_a_peer_that_does_not_answer_our_close_is_aborted(self) -> None:
        server, peer = self.closing(close_timeout=3)
        elapse(peer, 2.9)
        assert not peer.gone
        elapse(peer, 0.2)
        assert peer.gone
        assert peer.transport.aborted
        assert server.told == ["lost"]
        assert server.idle()

    def test_a_peer_that_answers_our_close_and_stays_is_aborted(self) -> None:
        """The connection ends it by its own close timeout."""
        server, peer = self.closing(close_timeout=3, limits={"close_timeout": 5})
        elapse(peer, 2)
        peer.send(close())
        elapse(peer, 4.9)
        assert not peer.gone
        elapse(peer, 0.2)
        assert peer.gone
        assert server.idle()

    def test_frames_behind_our_close_are_dropped(self) -> None:
        server, peer = self.closing()
        peer.send(BEGINNING + frame(TEXT, b"x" * 100_000))
        assert server.told == []
        assert peer.take() == b""
        assert peer.transport.producing
        peer.send(close())
        assert peer.transport.half_closed

    def test_a_peers_close_among_frames_that_wait_is_found_when_we_close(self) -> None:
        """The peer's Close may be among the frames that wait."""
        server = Server(work)
        peer = server.open()
        peer.send(frame(TEXT, b"one") + frame(TEXT, b"two") + close())
        assert server.session.ref.close(4_000, "bye")
        assert peer.messages() == [("close", 4_000, "bye")]
        assert peer.transport.half_closed
        server.session.channel.send("late")
        server.session.release()
        assert server.told == [("text", "one")]
        assert peer.take() == b""

    def test_two_closes_that_cross_end_the_connection(self) -> None:
        server = Server(lambda session, message: session.channel.close(4_000, "bye"))
        peer = server.open()
        peer.send(frame(TEXT) + close(4_001))
        assert peer.messages() == [("close", 4_000, "bye")]
        assert server.told == [("text", "")]
        assert peer.transport.half_closed

    def test_an_invalid_frame_behind_our_close_ends_the_connection_without_an_answer(self) -> None:
        _, peer = self.closing()
        peer.send(frame(TEXT, b"\xff"))
        assert peer.take() == b""
        assert peer.transport.half_closed

    def test_nothing_is_sent_behind_the_sessions_close(self) -> None:
        server = Server()
        peer = server.open()
        channel = server.session.channel
        channel.close(1011, "")
        channel.close(4_000, "again")
        channel.send("late")
        channel.ping(b"late")
        channel.pong(b"late")
        channel.proceed()
        assert peer.take() == b"\x88\x02\x03\xf3"

    def test_a_stop_of_the_server_closes_with_1001(self) -> None:
        server = Server()
        peer = server.open()
        server.hub.stop()
        assert peer.messages() == [("close", 1001, "going away")]
        assert not server.session.ref.send("late")
        peer.send(close(1001))
        assert peer.transport.half_closed
        peer.leave()
        assert server.idle()

    def test_a_stop_of_the_server_behind_our_close_sends_nothing(self) -> None:
        server, peer = self.closing()
        server.hub.stop()
        assert peer.take() == b""
        peer.send(close())
        server.hub.stop()
        assert driver(server).handle_action("shutdown") is None
        assert peer.take() == b""


class TestReload:
    """The action "reload": handlers were imported again."""

    def test_a_session_that_can_go_over_to_newer_code_is_told(self) -> None:
        server = Server()
        server.open()
        told: list[bool] = [True, False]
        server.session.renew = lambda: told.pop(0)  # type: ignore[attr-defined]
        assert driver(server).handle_action("reload") is None
        assert driver(server).handle_action("reload") is REFUSED

    def test_a_session_that_answers_the_peers_close_is_not_told(self) -> None:
        """Its new code might have to be awaited, and the answer with it."""
        server = Server(work)
        peer = server.open()
        server.session.renew = lambda: True  # type: ignore[attr-defined]
        peer.send(close())
        assert driver(server).handle_action("reload") is REFUSED

    def test_a_session_of_another_factory_goes_on_as_before(self) -> None:
        server = Server()
        peer = server.open()
        assert driver(server).handle_action("reload") is REFUSED
        peer.send(frame(TEXT, b"hello"))
        assert server.session.told == [("text", "hello")]


class TestInvalidFrames:
    """RFC 6455 §7.1.7."""

    WRONG = (
        (frame(TEXT, b"x", rsv=0x40), 1002),
        (b"\x81\x00", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (head(TEXT, (1 << 20) + 1), 1009),
        (head(TEXT, 1 << 62), 1009),
        (frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 1_024, 1009),
    )

    @pytest.mark.parametrize(("sent", "code"), WRONG)
    def test_an_invalid_frame_is_closed_with_the_right_code(self, sent: bytes, code: int) -> None:
        server = Server()
        peer = server.open()
        peer.send(frame(TEXT, b"hello") + sent)
        hello, (kind, sent_code, reason) = peer.messages()
        assert (hello, kind, sent_code) == ("hello", "close", code)
        assert reason
        assert not server.session.ref.send("late")
        # The end of our half is behind the Close: the peer can read both, whatever it does.
        assert peer.transport.half_closed
        peer.send(close(code))
        peer.leave()
        assert server.told == [("text", "hello"), "lost"]
        assert server.idle()

    @pytest.mark.parametrize(("sent", "code"), WRONG)
    def test_a_peer_that_sends_on_behind_an_invalid_frame_is_ignored_and_dropped(self, sent: bytes, code: int) -> None:
        """What it sends is neither read nor kept, and the connection is aborted at the close timeout."""
        server = Server(limits={"close_timeout": 5})
        peer = server.open()
        peer.send(sent)
        peer.take()
        tracemalloc.start()
        for _ in range(49):
            peer.send(frame(TEXT, b"x" * 10_000) + frame(PING))
            elapse(peer, 0.1)
        assert tracemalloc.get_traced_memory()[0] < 100_000
        tracemalloc.stop()
        assert peer.transport.producing
        assert not peer.gone
        elapse(peer, 0.2)
        assert peer.gone
        assert server.told == ["lost"]
        assert server.idle()

    def test_an_invalid_frame_waits_for_a_busy_session(self) -> None:
        """The frame is read after the message before it has been answered."""
        server = Server(work)
        peer = server.open()
        peer.send(frame(TEXT, b"hello") + frame(TEXT, b"\xff"))
        assert peer.take() == b""
        server.session.channel.send("answer")
        server.session.release()
        answer, (kind, code, _) = peer.messages()
        assert (answer, kind, code) == ("answer", "close", 1007)


class TestCompression:
    """RFC 7692."""

    def test_compression_that_is_enabled_is_agreed_on_and_used(self) -> None:
        peer = Server(compress=True).open(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
        peer.send(frame(TEXT, bytes.fromhex("f2 48 cd c9 c9 07 00"), rsv=RSV1))
        [answer] = frames(peer.take())
        assert answer.rsv1
        assert answer.payload == bytes.fromhex("f2 48 cd c9 c9 07 00")

    def test_compression_is_not_agreed_on_by_default(self) -> None:
        peer = Server().connect()
        assert b"Extensions" not in peer.upgrade(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})


class TestPings:
    """RFC 6455 §5.5.2, §5.5.3."""

    def test_pings_are_answered_before_the_handler_sees_them(self) -> None:
        server = Server(lambda session, message: session.channel.send(message[0]))
        peer = server.open()
        peer.send(frame(PING, b"1") + frame(PONG, b"2") + frame(PING) + frame(TEXT))
        assert peer.messages() == [("pong", b"1"), "ping", "pong", ("pong", b""), "ping", "text"]

    def test_pings_behind_our_close_are_not_answered(self) -> None:
        server = Server()
        peer = server.open()
        server.session.ref.close(1000, "")
        peer.take()
        peer.send(frame(PING) + frame(PONG))
        assert peer.take() == b""
        assert server.told == []

    @pytest.mark.parametrize("opcode", [PING, PONG])
    def test_too_many_pings_and_pongs_are_closed_with_1008(self, opcode: int) -> None:
        server = Server()
        peer = server.open()
        peer.send(frame(opcode) * (CONTROL_BURST + 2) + frame(TEXT))
        *answers, end = peer.messages()
        assert end == ("close", 1008, "too many pings and pongs")
        assert len(answers) == (CONTROL_BURST if opcode == PING else 0)
        assert len(server.told) == CONTROL_BURST
        assert peer.transport.half_closed

    def test_too_many_pings_behind_our_close_end_the_connection(self) -> None:
        server = Server()
        peer = server.open()
        server.session.ref.close(1000, "")
        peer.take()
        peer.send(frame(PING) * (CONTROL_BURST + 1))
        assert peer.take() == b""
        assert peer.transport.half_closed

    def test_many_pings_are_answered_when_they_come_over_time(self) -> None:
        server = Server()
        peer = server.open()
        for _ in range(30):
            peer.send(frame(PING) * 100)
            elapse(peer, 1)
        assert len(server.told) == 3_000


class TestHeartbeat:
    def test_a_peer_that_answers_pings_stays_connected(self) -> None:
        server = Server(ping_interval=20, ping_timeout=10)
        peer = server.open()
        for _ in range(10):
            elapse(peer, 19.9)
            assert peer.take() == b""
            elapse(peer, 0.1)
            [ping] = frames(peer.take())
            assert (ping.opcode, ping.payload) == (PING, HEARTBEAT)
            peer.send(frame(PONG, ping.payload))
        # The handler did not ask for them.
        assert server.told == []

    def test_a_peer_that_answers_no_ping_is_aborted(self) -> None:
        server = Server(ping_interval=20, ping_timeout=10)
        peer = server.open()
        elapse(peer, 7)
        peer.send(frame(TEXT)[:1])
        elapse(peer, 29.9)
        assert not peer.gone
        elapse(peer, 0.2)
        assert peer.gone
        assert peer.transport.aborted
        assert server.told == ["lost"]
        assert server.idle()

    def test_a_slow_upload_shows_that_the_peer_is_alive(self) -> None:
        peer = Server(ping_interval=20, ping_timeout=10).open()
        peer.send(head(BINARY, 100))
        for _ in range(99):
            elapse(peer, 1)
            peer.send(b"x")
        assert peer.take() == b""
        assert not peer.gone

    def test_a_peer_stays_connected_while_the_handler_is_busy(self) -> None:
        """We do not read it then. Afterwards it has a whole interval again."""
        server = Server(work, ping_interval=20, ping_timeout=10)
        peer = server.open()
        fed(peer, frame(TEXT) * 2)
        elapse(peer, 1_000)
        # For the sake of peers that leave meanwhile.
        assert {one.opcode for one in frames(peer.take())} == {PING}
        server.session.busy = False
        elapse(peer, 5)
        server.session.channel.proceed()
        server.session.release()
        elapse(peer, 19.9)
        assert peer.take() == b""
        elapse(peer, 0.1)
        assert [one.opcode for one in frames(peer.take())] == [PING]

    def test_a_peer_has_time_to_answer_when_the_handler_is_no_longer_busy(self) -> None:
        """The peer's pong came in time, but is still in the socket."""
        server = Server(ping_interval=20, ping_timeout=10)
        peer = server.open()
        elapse(peer, 20)
        # An info, say, keeps it busy; so what comes next is not looked at.
        server.session.busy = True
        server.session.channel.proceed()
        assert not peer.transport.producing
        peer.send(frame(PONG))
        elapse(peer, 9.9)
        server.session.busy = False
        server.session.channel.proceed()
        # The reactor has not come to read, and the ping's time is nearly up.
        assert driver(server).heard_at == peer.reactor.seconds()
        peer.turn()
        assert server.told == [("pong", b"")]

    def test_a_peer_has_time_to_answer_when_output_is_no_longer_full(self) -> None:
        server = Server(ping_interval=20, ping_timeout=10, limits={"max_output": 1_000, "stall_timeout": 1_000})
        peer = server.open()
        elapse(peer, 20)
        peer.transport.reading = False
        server.session.ref.send("x" * 100_000)
        elapse(peer, 9.9)
        assert not peer.transport.producing
        peer.transport.drain()
        assert driver(server).heard_at == peer.reactor.seconds()

    def test_a_peer_stays_connected_while_output_is_full(self) -> None:
        server = Server(ping_interval=20, ping_timeout=10, limits={"max_output": 1_000, "stall_timeout": 1_000})
        peer = server.open()
        peer.transport.reading = False
        server.session.ref.send("x" * 100_000)
        elapse(peer, 500)
        assert not peer.gone
        peer.transport.reading = True
        peer.transport.drain()
        assert peer.messages() == ["x" * 100_000]
        elapse(peer, 20)
        assert [one.opcode for one in frames(peer.take())] == [PING]

    def test_no_pings_are_sent_when_the_interval_is_0(self) -> None:
        server = Server(ping_interval=0)
        peer = server.open()
        elapse(peer, 100_000)
        assert peer.take() == b""
        assert not peer.gone


class TestSlowMessages:
    @pytest.mark.parametrize("beginning", [frame(TEXT)[:1], head(BINARY, 100), frame(TEXT, fin=False), head(PING, 5)])
    def test_a_message_that_does_not_end_in_time_is_closed_with_1008(self, beginning: bytes) -> None:
        server = Server(message_timeout=60)
        peer = server.open()
        peer.send(beginning)
        elapse(peer, 59.9)
        assert peer.take() == b""
        elapse(peer, 0.2)
        assert peer.messages() == [("close", 1008, "a message took too long")]
        assert peer.transport.half_closed

    def test_pings_do_not_extend_the_time_of_a_message(self) -> None:
        peer = Server(message_timeout=60).open()
        peer.send(frame(TEXT, fin=False))
        for _ in range(70):
            peer.send(frame(PING) + frame(CONTINUATION, b"x", fin=False))
            elapse(peer, 1)
        assert peer.messages() == [*[("pong", b"")] * 60, ("close", 1008, "a message took too long")]

    def test_many_messages_that_end_in_time_are_accepted(self) -> None:
        """A message is always on its way, but not the same one for long."""
        server = Server(message_timeout=60)
        peer = server.open()
        data = frame(TEXT, b"hello") + frame(PING) + frame(PING)
        size = len(data) + 1
        for start in range(0, size * len(data), size):
            peer.send((data * size)[start : start + size])
            elapse(peer, 59.9)
        assert server.told == [("text", "hello"), ("ping", b""), ("ping", b"")] * size

    def test_a_message_that_waits_for_a_busy_handler_has_no_deadline(self) -> None:
        """The peer may have sent the rest, which we do not read meanwhile."""
        server = Server(work, message_timeout=60)
        peer = server.open()
        fed(peer, frame(TEXT) + frame(TEXT)[:1])
        elapse(peer, 1_000)
        peer.send(frame(TEXT)[1:])
        server.session.release()
        peer.turn()
        assert server.told == [("text", ""), ("text", "")]

    def test_a_message_behind_our_close_has_no_deadline_of_its_own(self) -> None:
        """The closing handshake has a deadline of its own."""
        server = Server(message_timeout=60, close_timeout=1_000, limits={"close_timeout": 1_000})
        peer = server.open()
        server.session.ref.close(1000, "")
        peer.send(frame(TEXT, fin=False))
        peer.take()
        elapse(peer, 500)
        assert not peer.transport.half_closed


class TestAPartialFrame:
    def test_a_partial_frame_that_ends_behind_our_close_is_dropped(self) -> None:
        """RFC 6455 §5.5.1: frames behind a Close are not processed."""
        server = Server()
        peer = server.open()
        long = frame(TEXT, b"x" * 10_000)
        peer.send(long[:5_000])
        assert server.session.ref.close(1000, "bye")
        peer.send(long[5_000:] + close(1000, "bye"))
        assert server.told == []
        assert peer.messages() == [("close", 1000, "bye")]
        assert peer.transport.half_closed


class TestFairness:
    """What one peer sends at once is read in several turns, so that other connections have theirs."""

    @pytest.mark.parametrize(("size", "count"), [(0, 10_000), (1, 8_000), (100, 1_000), (60_000, 1)])
    @pytest.mark.parametrize("fast_lane", [True, False])
    def test_one_turn_takes_a_limited_number_of_steps(self, fast_lane: bool, size: int, count: int) -> None:
        server = Server(fast_lane=fast_lane)
        peer = server.open()
        told = []
        fed(peer, frame(TEXT, b"x" * size) * count)
        for _ in each_call(peer.reactor):
            told.append(len(server.told))
            assert peer.transport.producing is (told[-1] == count)
        # The engine takes a frame's head and its payload in two steps, or more.
        most = STEPS if fast_lane else STEPS // 2
        assert all(later - before <= most for before, later in pairwise([0, *told]))
        assert len(told) >= count // STEPS
        # None was lost, and all were answered.
        assert server.told == [("text", "x" * size)] * count
        assert [one.payload for one in frames(peer.take())] == [b"x" * size] * count

    @pytest.mark.parametrize("piece", [frame(PING, b""), frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"")])
    def test_one_turn_takes_fewer_frames_that_take_long(self, piece: bytes) -> None:
        """Control frames and fragments are read by the engine."""
        server = Server(fast_lane=True)
        peer = server.open()
        told = [0]
        fed(peer, piece * 900)
        told.extend(len(server.told) for _ in each_call(peer.reactor))
        assert told[-1] == 900
        assert max(later - before for before, later in pairwise(told)) <= TURN_SIZE // ENGINE_WORK + 1

    def test_one_turn_sends_a_limited_amount_of_output(self) -> None:
        server = Server(lambda session, message: session.channel.send(message[1] * 1_000))
        peer = server.open()
        peer.transport.writes.clear()
        fed(peer, frame(TEXT, b"x" * 20) * 20)
        assert not peer.transport.producing
        peer.turn()
        assert len(server.told) == 20
        assert len(peer.take()) == 400_080
        assert all(TURN_SIZE < len(written) < TURN_SIZE + 20_005 for written in peer.transport.writes[:-1])
        assert peer.transport.producing

    @pytest.mark.parametrize("busybody", [False, True])
    def test_one_turn_inflates_a_limited_amount(self, busybody: bool) -> None:
        """One read of 64 KiB may become 64 MiB."""

        def handle(session: Session, message: Any) -> None:
            if busybody:
                session.ref.send("x")

        server = Server(handle, compress=True)
        peer = server.open(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
        compressor = zlib.compressobj(wbits=-15)
        zeros = (compressor.compress(bytes(100_000)) + compressor.flush(zlib.Z_FULL_FLUSH))[: -len(TAIL)]
        fed(peer, frame(BINARY, zeros, rsv=RSV1) * 50)
        told = [len(server.told) for _ in each_call(peer.reactor)]
        assert told[0] == 2
        assert all(later - before in (0, 2) for before, later in pairwise(told))
        assert told[-1] == 50

    def test_bytes_that_come_between_two_turns_are_read_in_order(self) -> None:
        """TLS may still hand over bytes after reading was paused."""
        server = Server(fast_lane=False)
        peer = server.open()
        fed(peer, b"".join(frame(TEXT, b"%d" % number) for number in range(200)))
        assert len(server.told) < 200
        fed(peer, frame(TEXT, b"200"))
        peer.turn()
        assert [int(text) for _, text in server.told] == list(range(201))
        assert [int(one.payload) for one in frames(peer.take())] == list(range(201))
        assert peer.transport.producing

    def test_messages_of_a_later_turn_wait_for_a_busy_handler(self) -> None:
        server = Server(lambda session, message: work(session, message) if message[1] == "200" else None)
        peer = server.open()
        fed(peer, b"".join(frame(TEXT, b"%d" % number) for number in range(300)))
        peer.turn()
        assert len(server.told) == 201
        assert not peer.transport.producing
        server.session.release()
        peer.turn()
        assert len(server.told) == 300

    def test_messages_wait_while_output_is_full(self) -> None:
        """A peer that does not read its answers has its messages wait."""
        server = Server(limits={"max_output": 10_000})
        peer = server.open()
        peer.transport.reading = False
        for _ in range(20):
            fed(peer, frame(TEXT, b"x" * 10_000))
        peer.turn()
        handled = len(server.told)
        assert handled < 20
        assert not peer.transport.producing
        peer.transport.reading = True
        for _ in range(20):
            peer.transport.drain()
            peer.turn()
        assert len(server.told) == 20
        assert len(peer.take()) == 20 * 10_004
        assert peer.transport.producing


def leave(peer: Peer, server: Server) -> None:
    """Let the peer leave, and nothing be left of the connection."""
    peer.leave()
    assert server.idle()


class TestTheEnd:
    @pytest.mark.parametrize("init", [accept, wait])
    def test_calls_after_the_end_do_nothing(self, init: Callable[[Session], None], log: list[LogEvent]) -> None:
        server = Server(init=init, ping_interval=20)
        peer = server.connect()
        peer.send(request() + frame(TEXT, b"x", fin=False) + head(PING, 3))
        leave(peer, server)
        late = driver(server)
        told = list(server.told)
        channel = server.session.channel
        channel.accept(Accept(None))
        channel.reject(500, b"", {})
        channel.send("late")
        channel.ping(b"late")
        channel.pong(b"late")
        channel.close(1000, "late")
        channel.proceed()
        assert late.handle_connection_in(b"late") is None
        for action, args in {
            "send": ("late",),
            "ping": (b"",),
            "close": (1000, ""),
            "info": (1,),
            "drain": (),
        }.items():
            assert late.handle_action(action, *args) is REFUSED
        assert late.handle_action("drained") is None
        assert late.handle_action("shutdown") is None
        assert server.told == told
        assert peer.transport.sent.count(b"late") == 0
        assert server.idle()
        assert log == []

    def test_timers_and_failure_logs_work_after_the_end(self, log: list[LogEvent]) -> None:
        """The session may need them to end."""
        server = Server()
        leave(server.open(), server)
        called: list[int] = []
        server.session.channel.call_later(1, lambda: called.append(1))
        server.session.channel.call_later(1, lambda: called.append(2)).cancel()
        server.reactor.advance(1)
        assert called == [1]
        try:
            raise KeyError
        except KeyError:
            server.session.channel.log_failure("it fails")
        [event] = log
        assert "it fails" in str(event)

    def test_a_session_may_have_a_crash_of_its_handler_counted(self) -> None:
        server = Server()
        server.open()
        server.session.channel.count_crash("chat", "handle")
        assert server.hub.shared.account.crashes == {("chat", "handle"): 1}

    def test_a_session_may_ask_for_the_time_and_end_all_subscriptions(self) -> None:
        server = Server()
        peer = server.open()
        channel = server.session.channel
        peer.connection.ref.subscribe("a")
        channel.unsubscribe_all()
        assert server.hub.topics.names == []
        peer.connection.ref.subscribe("b")
        channel.start_over()
        assert server.hub.topics.names == []
        before = channel.seconds()
        server.reactor.advance(2)
        assert channel.seconds() - before == 2

    @pytest.mark.parametrize(
        "stage",
        [
            b"",
            frame(TEXT)[:1],
            frame(TEXT, fin=False),
            head(BINARY, 10) + b"x",
            close(),
            frame(TEXT, b"\xff"),
            frame(TEXT) * 1_000,
            frame(TEXT, b"work"),
            frame(TEXT, b"work") + close(),
            frame(TEXT, b"close"),
        ],
    )
    def test_an_ended_connection_leaves_no_timer(self, stage: bytes) -> None:
        def handle(session: Session, message: Any) -> None:
            if message == ("text", "work"):
                session.busy = True
            elif message == ("text", "close"):
                session.channel.close(1000, "")

        server = Server(handle, ping_interval=20)
        peer = server.open()
        fed(peer, stage)
        peer.leave()
        assert server.told[-1] == "lost"
        assert server.idle()

    @pytest.mark.parametrize("extensions", ["", "permessage-deflate"])
    @pytest.mark.parametrize(
        "stage",
        [
            BEGINNING,
            BEGINNING + head(PING, 5),
            frame(TEXT) * 1_000,
            frame(TEXT, b"\xff"),
            close(),
            frame(TEXT, b"close"),
        ],
    )
    def test_an_ended_connection_needs_no_garbage_collector(self, stage: bytes, extensions: str) -> None:
        server = Server(scripted, ping_interval=20, compress=True)
        gc.collect()
        before = ours()
        gc.disable()
        try:
            peers = [server.open(headers={"Sec-WebSocket-Extensions": extensions}) for _ in range(10)]
            for peer in peers:
                fed(peer, stage)
            assert len(ours() - before) >= 2 * 10
            for peer in peers:
                peer.leave()
            assert server.idle()
            # The host has let go of them, the test and its sessions do now.
            server.sessions.made.clear()
            del peers, peer
            assert ours() <= before
        finally:
            gc.enable()

    def test_nothing_is_left_of_a_thousand_connections(self) -> None:
        server = Server(ping_interval=20)
        gc.collect()
        before = ours()
        for _ in range(1_000):
            peer = server.open()
            peer.send(BEGINNING)
            peer.send(close())
            peer.leave()
        assert all(session.told[-1] == "lost" for session in server.sessions.made)
        assert server.idle()
        server.sessions.made.clear()
        del peer
        assert ours() <= before


def ours() -> set[int]:
    """Return the ids of all drivers, engines and keepalives in this process."""
    return {id(one) for one in gc.get_objects() if isinstance(one, (WebSocket, Engine, Keepalive))}


class TestMemory:
    def test_an_idle_connection_takes_less_than_6_kib(self) -> None:
        """Counted are the driver, the engine and the keepalive."""
        server = Server(ping_interval=20)
        peers = [server.open()]
        gc.collect()
        tracemalloc.start()
        peers += [server.open() for _ in range(100)]
        gc.collect()
        here = [
            trace.size
            for trace in tracemalloc.take_snapshot().statistics("filename")
            if "/autobahn/" in trace.traceback[0].filename or "/protocols/" in trace.traceback[0].filename
        ]
        tracemalloc.stop()
        assert sum(here) < 100 * 6_144

    def test_nothing_is_kept_of_messages_that_were_answered(self) -> None:
        server = Server()
        peer = server.open()
        tracemalloc.start()
        data = frame(BINARY, random.Random(1).randbytes(1 << 20))
        for _ in range(5):
            for start in range(0, len(data), 65_536):
                fed(peer, data[start : start + 65_536])
                peer.turn()
            peer.transport.take()
            peer.transport.writes.clear()
            server.told.clear()
        kept = tracemalloc.get_traced_memory()[0] - len(data)
        tracemalloc.stop()
        assert kept < 100_000


class TestPublished:
    """Published messages and those of the connection itself leave in the order in which they were sent."""

    @staticmethod
    def open(handle: Callable[[Session, Any], object], **options: Any) -> tuple[Server, Peer]:
        server = Server(handle, **options)
        peer = server.open()
        assert server.session.ref.subscribe("a")
        return server, peer

    def test_a_message_published_between_two_answers_leaves_between_them(self) -> None:
        def handle(session: Session, message: Any) -> None:
            session.channel.send("before")
            server.hub.topics.publish_locally("a", "published")
            session.channel.send("after")

        server, peer = self.open(handle)
        fed(peer, frame(TEXT, b"1") + frame(TEXT, b"2"))
        assert peer.messages() == ["before", "published", "after"] * 2

    def test_publications_leave_before_our_close_and_none_after_it(self) -> None:
        server, peer = self.open(echo)
        server.hub.topics.publish_locally("a", "before")
        server.session.channel.close(1000, "")
        server.hub.topics.publish_locally("a", "after")
        server.session.channel.proceed()
        assert peer.messages() == ["before", ("close", 1000, "")]

    def test_no_publication_leaves_while_the_answer_to_a_close_is_awaited(self) -> None:
        server, peer = self.open(work)
        server.hub.topics.publish_locally("a", "before")
        fed(peer, close(1000))
        server.hub.topics.publish_locally("a", "after")
        server.session.release()
        assert peer.messages() == ["before", ECHOED]

    def test_publications_leave_before_a_close_with_an_error_code(self) -> None:
        server, peer = self.open(echo)
        server.hub.topics.publish_locally("a", "before")
        fed(peer, frame(CONTINUATION, b""))
        server.hub.topics.publish_locally("a", "after")
        first, (kind, code, _) = peer.messages()
        assert (first, kind, code) == ("before", "close", 1002)

    @staticmethod
    def published(*offers: str, **options: Any) -> list[bytes]:
        """What each of some peers, by its offer of an extension, gets in one write of a message published twice."""
        server = Server(**options)
        peers = [server.open(headers={"Sec-WebSocket-Extensions": offer}) for offer in offers]
        for peer, session in zip(peers, server.sessions.made, strict=True):
            assert session.ref.subscribe("a")
            peer.transport.writes.clear()
        for _ in range(2):
            server.hub.topics.publish_locally("a", "a message " * 10)
        for peer in peers:
            peer.turn()
            assert len(peer.transport.writes) == 1
        return [peer.transport.writes[0] for peer in peers]

    def test_with_context_takeover_a_message_refers_back_to_the_one_before(self) -> None:
        plain, deflated = self.published("", "permessage-deflate", compress=True)
        assert len(plain) == 2 * 102
        first = 2 + deflated[1]
        assert 0 < len(deflated) - first < first

    def test_without_context_takeover_peers_with_the_same_window_share_the_bytes(self) -> None:
        """RFC 7692 §7.1.1.1, §7.1.2.1."""
        offer = "permessage-deflate; server_no_context_takeover"
        one, other, smaller = self.published(offer, offer, f"{offer}; server_max_window_bits=10", compress=True)
        assert one is other
        assert one is not smaller
        assert one[: len(one) // 2] == one[len(one) // 2 :]

    def test_the_server_may_do_without_context_takeover(self) -> None:
        """RFC 7692 §7.1.1.1."""
        one, other = self.published(*["permessage-deflate"] * 2, compress=True, server_no_context_takeover=True)
        assert one is other

    def test_nothing_follows_a_close_that_was_asked_for_before_the_handshake_was_done(self) -> None:
        def init(session: Session) -> None:
            assert session.ref.subscribe("a")
            session.ref.close(1000, "")
            accept(session)

        server = Server(init=init)
        peer = server.open()
        server.hub.topics.publish_locally("a", "late")
        assert peer.messages() == [("close", 1000, "")]


class TestNotes:
    """For the access log."""

    def noted(self, server: Server, *talk: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Let a client say this, and go; return what was noted of its connection."""
        peer = server.connect()
        peer.upgrade(headers=headers)
        for data in talk:
            peer.send(data)
        notes = peer.connection.context.notes
        assert notes is not None
        peer.leave()
        return {name: notes[name] for name in notes.keys() - {"path", "user_agent", "seconds", "bytes_in", "bytes_out"}}

    def test_messages_and_what_was_agreed_on_are_noted(self) -> None:
        server = Server(limits={"access": True}, compress=True, subprotocols=["chat"])
        headers = {"Sec-WebSocket-Extensions": "permessage-deflate", "Sec-WebSocket-Protocol": "chat"}
        assert self.noted(server, frame(TEXT, b"one"), frame(BINARY, b"two"), close(), headers=headers) == {
            "status": 101,
            "traceparent": None,
            "subprotocol": "chat",
            "deflate": True,
            "messages_in": 2,
            "messages_out": 2,
            "code": 1000,
            "reason": "",
            "closed_by": "peer",
        }

    @pytest.mark.parametrize(
        ("data", "code", "by"),
        [
            (close(), 1000, "peer"),
            (frame(CLOSE, b""), 1005, "peer"),
            (frame(TEXT, b"\xff"), 1007, "server"),
            (frame(3, b""), 1002, "server"),
            (frame(TEXT, b"close"), 4000, "server"),
        ],
    )
    def test_who_has_closed_first_and_how_is_noted(self, data: bytes, code: int, by: str) -> None:
        """RFC 6455 §7.1.5."""

        def handle(session: Session, message: Any) -> None:
            if message == ("text", "close"):
                session.channel.close(4000, "enough")

        notes = self.noted(Server(handle, limits={"access": True}), data, close())
        assert (notes["code"], notes["closed_by"]) == (code, by)

    def test_a_refusal_is_noted_and_counted(self) -> None:
        def init(session: Session) -> None:
            session.channel.reject(403, b"not you, \x1b[1m", {})

        server = Server(init=init, limits={"access": True})
        reason = "The handler has refused it."
        notes = self.noted(server)
        assert (notes["status"], notes["reason"]) == (403, reason)
        assert "messages_in" not in notes
        assert server.hub.shared.account.refused == {(403, reason): 1}

    def test_a_handshake_that_breaks_the_protocol_is_noted(self) -> None:
        notes = self.noted(Server(limits={"access": True}), headers={"Sec-WebSocket-Version": "8"})
        assert (notes["status"], notes["reason"]) == (426, "Only version 13 of WebSocket is spoken here.")


class TestAnotherProcess:
    """A connection that is frozen here, and goes on in another driver."""

    def frozen(self, server: Server) -> Any:
        session: Any = server.session
        session.freeze = lambda: b"state"
        return driver(server).freeze()

    def test_an_open_connection_between_two_messages_can_go(self) -> None:
        server = Server(compress=False)
        server.open()
        assert verifyObject(IMovableDriver, driver(server))
        assert self.frozen(server) == b"state"

    def test_a_session_that_has_no_way_to_do_so_stays(self) -> None:
        server = Server(compress=False)
        server.open()
        assert driver(server).freeze() is None

    @pytest.mark.parametrize("sent", [frame(TEXT, b"x")[:1], frame(TEXT, b"x", fin=False), close(1000)])
    def test_a_connection_within_a_message_or_behind_a_close_stays(self, sent: bytes) -> None:
        server = Server(compress=False)
        peer = server.open()
        found = driver(server)
        session: Any = server.session
        session.freeze = lambda: b"state"
        fed(peer, sent)
        assert found.freeze() is None

    def test_a_connection_that_has_not_been_accepted_stays(self) -> None:
        server = Server(init=lambda session: None, compress=False)
        server.connect().upgrade()
        assert self.frozen(server) is None

    def test_a_connection_whose_session_is_at_work_stays(self) -> None:
        server = Server(work, compress=False)
        server.open().text("x")
        assert self.frozen(server) is None

    def test_a_compressed_connection_stays(self) -> None:
        server = Server(compress=True)
        server.open(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
        assert self.frozen(server) is None

    @pytest.mark.parametrize("interval", [0, 20])
    def test_a_driver_goes_on_open_with_what_its_factory_makes(self, interval: int) -> None:
        server = Server(compress=False, ping_interval=interval)
        peer = server.open()
        given: list[Any] = []

        def thaw(channel: Any, ref: Any, route: Any, data: bytes) -> Any:
            given.append((channel, ref, route, data))
            return server.session

        sessions: Any = server.sessions
        sessions.thaw = thaw
        options = server.hub.shared.chain[1].options
        found = websocket.thaw(options, peer.connection.context, b"state")
        assert given == [(found, peer.connection.ref, peer.connection.context.route, b"state")]
        assert found.is_open

    def test_a_factory_that_can_not_go_on_is_an_error(self) -> None:
        server = Server(compress=False)
        peer = server.open()
        with pytest.raises(TypeError, match=r"can't go on with connections of another process$"):
            websocket.thaw(server.hub.shared.chain[1].options, peer.connection.context, b"state")
