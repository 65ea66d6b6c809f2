"""Defects of Autobahn 26.10.2: the same input shows each on bare Autobahn, and its absence in wshost.

A test does the same to both, and says what it sees of each. Its name is true of wshost; where its id says autobahn, it
shows the contrary. The fourteen numbered ones are defects, in words above their tests; the others, at the end, are
things that people don't expect.
"""

from __future__ import annotations

import gc
import random
import threading
import time
import tracemalloc
import warnings
import zlib
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from typing import Any

import pytest
from autobahn.exception import Disconnected, PayloadExceededError
from twisted.internet.base import ReactorBase
from twisted.internet.ssl import CertificateOptions

from tests.handlers.surroundings import without_loop
from tests.memory import Peer, request
from tests.regressions import wire
from tests.regressions.conftest import Log
from tests.regressions.servers import Application, Autobahn, AutobahnProtocol, TLSClient, Waiting, Wshost, both
from tests.regressions.wire import BINARY, CONTINUATION, PING, PONG, TEXT, close_code, frame, frames
from wshost.process import reactors

Server = type[Autobahn] | type[Wshost]


def feed(peer: Peer, data: bytes, size: int = 65_536) -> int:
    """Send bytes as a kernel hands them over, as long as the server reads; return how many it took."""
    taken = 0
    while taken < len(data) and peer.transport.producing and not peer.gone:
        peer.send(data[taken : taken + size])
        taken += size
    return min(taken, len(data))


# 1. While onConnect's Deferred is pending, a second request does the handshake again.


@both(autobahn=(2, 2), wshost=(1, 1))
def test_a_second_request_makes_no_second_handshake(server: Server, seen: tuple[int, int]) -> None:
    application = Waiting()
    peer = server(application).connect()
    peer.send(request() + request())
    peer.send(request())
    application.decision.callback(None)
    assert (application.told.count("connect"), peer.take().count(b"HTTP/1.1 101 ")) == seen


# 2. What onConnect waits for comes when the connection is gone: it opens nevertheless.


@both(autobahn=["connect", "close", "open"], wshost=["connect"])
@pytest.mark.parametrize("end", ["the peer leaves", "the handshake times out"])
def test_a_connection_that_has_ended_does_not_open_afterwards(server: Server, seen: list[str], end: str) -> None:
    application = Waiting()
    host = server(application)
    peer = host.connect()
    peer.send(request())
    if end == "the peer leaves":
        peer.leave()
    else:
        peer.turn(6)
        peer.leave()
    application.decision.callback(None)
    peer.turn()
    assert application.told == seen


# 3. The request head may be endless.


@both(autobahn=(True, None), wshost=(False, 431))
def test_an_endless_request_head_is_not_kept_and_gets_431(server: Server, seen: tuple[bool, int | None]) -> None:
    peer = server().connect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    feed(peer, b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"x" * 1_000_000)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert (kept > 500_000, wire.status(peer.take())) == seen


# 4. Lines end at what ends none in HTTP: a proxy sees one header field where Autobahn sees two.

SMUGGLED = b"X-A: foo%bX-Forwarded-User: admin"


@both(autobahn=(101, True), wshost=(400, False))
@pytest.mark.parametrize("separator", [b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\r", b"\n"], ids=repr)
def test_a_control_character_in_a_header_field_gets_400_and_begins_no_other_field(
    server: Server, seen: tuple[int, bool], separator: bytes
) -> None:
    class Trusting(AutobahnProtocol):
        def onConnect(self, request: Any) -> None:
            users.append(request.headers.get("x-forwarded-user"))

    users: list[str | None] = []
    peer = (server(protocol=Trusting) if server is Autobahn else server()).connect()
    peer.send(request().replace(b"\r\n\r\n", b"\r\n" + SMUGGLED % separator + b"\r\n\r\n"))
    assert (wire.status(peer.take()), users == ["admin"]) == seen


def test_a_byte_beyond_ascii_ends_no_header_line() -> None:
    """It is opaque (RFC 9110 §5.5), and stays in the field's value."""

    class Handler:
        def init(self, options: Any) -> None:
            headers.update(options["connection"].headers)

        def handle(self, message: Any, state: Any) -> Any:
            return ("noreply", state)

    headers: dict[str, str] = {}
    peer = Wshost(handler=Handler()).connect()
    peer.send(request().replace(b"\r\n\r\n", b"\r\n" + SMUGGLED % b"\x85" + b"\r\n\r\n"))
    assert wire.status(peer.take()) == 101
    assert headers["x-a"] == "foo\x85X-Forwarded-User: admin"
    assert "x-forwarded-user" not in headers


# 5. What the application says when it refuses, and any exception's text, goes to the wire as it is.

SPLITTING = "x\r\nSet-Cookie: admin=1\r\nX-Rest: "
SPLITTING_QUERY = "/?q=x%0d%0aSet-Cookie:%20admin=1%0d%0aX-Rest:%20"


@both(autobahn=True, wshost=False)
@pytest.mark.parametrize("way", ["the reason", "a header", "an exception"])
def test_line_ends_of_the_application_do_not_split_the_response(server: Server, seen: bool, way: str) -> None:
    class Careless(Application):
        def connect(self, query: str) -> Any:
            assert query == SPLITTING
            if way == "the reason":
                raise host.deny(query)
            if way == "an exception":
                raise KeyError(query) if server is Wshost else RuntimeError(query)
            return None, {"X-Room": query}

    host = server(Careless())
    peer = host.connect()
    head = peer.upgrade(SPLITTING_QUERY)
    assert (b"\r\nSet-Cookie: admin=1\r\n" in head) is seen


# 6. A message may have any number of fragments.


@both(autobahn=None, wshost=1009)
@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_message_of_20000_fragments_is_closed_with_1009(server: Server, seen: int | None, size: int) -> None:
    peer = server(max_message_size=1 << 20).open()
    fragment = frame(CONTINUATION, b"x" * size, fin=False)
    feed(peer, frame(TEXT, fin=False) + fragment * 20_000)
    assert close_code(peer.take()) == seen


@both(autobahn=True, wshost=False)
def test_fragments_take_less_than_ten_times_the_memory_of_their_message(server: Server, seen: bool) -> None:
    """With a limit for messages set, what they cost is still many times that."""
    more: dict[str, Any] = {} if server is Autobahn else {"max_fragments": 1 << 20}
    peer = server(max_message_size=1 << 20, **more).open()
    data = frame(BINARY, b"xx", fin=False) + frame(CONTINUATION, b"xx", fin=False) * 5_000
    tracemalloc.start()
    feed(peer, data)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (kept > 10 * 10_000) is seen


# 7. A peer that does not read is read from, and answered, for ever.


@both(autobahn=True, wshost=False)
@pytest.mark.parametrize("opcode", [PING, TEXT])
def test_a_peer_that_does_not_read_is_not_answered_without_end(server: Server, seen: bool, opcode: int) -> None:
    peer = server().open()
    peer.transport.reading = False
    data = frame(opcode, b"x" * 125) * 20_000
    feed(peer, data)
    assert (sum(map(len, peer.transport.writes)) > 2_000_000) is seen


# 8. What waits for a peer that does not read keeps a closing connection open for ever.


@both(autobahn=False, wshost=True)
@pytest.mark.parametrize("end", ["close", "failed handshake"])
def test_a_closing_connection_ends_though_its_peer_does_not_read(server: Server, seen: bool, end: str) -> None:
    host = server()
    if end == "close":
        peer = host.open()
        peer.transport.reading = False
        feed(peer, frame(PING, b"x" * 125) * 8_000 + wire.close())
    else:
        peer = host.connect()
        peer.transport.reading = False
        peer.send(b"POST / HTTP/1.1\r\n\r\n")
    peer.turn()
    for _ in range(60):
        peer.turn(1)
    assert peer.gone is seen


# 9. The same over TLS, where a closing connection also waits for the peer's close_notify; what comes in is kept.


@both(autobahn=False, wshost=True)
def test_a_closing_tls_connection_ends_without_the_peers_close_notify(
    server: Server, seen: bool, certificate: CertificateOptions
) -> None:
    """The request is refused, and the peer, which reads all that it is sent, never says good-bye."""
    host = server()
    client = TLSClient(host, certificate)
    client.shake_hands()
    client.send(b"POST / HTTP/1.1\r\n\r\n")
    for _ in range(60):
        host.reactor.advance(1)
    assert client.transport.gone is seen


@both(autobahn=True, wshost=False)
def test_input_of_a_closing_tls_connection_is_not_kept(
    server: Server, seen: bool, certificate: CertificateOptions
) -> None:
    host = server()
    client = TLSClient(host, certificate)
    client.shake_hands()
    client.send(b"POST / HTTP/1.1\r\n\r\n")
    tracemalloc.start()
    for _ in range(100):
        client.send(b"x" * 10_000)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (kept > 500_000) is seen


# 10. What callbacks raise or return is not looked after.


class Failing(Application):
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def opened(self) -> None:
        self._fail("open")

    def message(self, data: str | bytes) -> str | bytes | None:
        self._fail("message")
        return super().message(data)

    def closed(self) -> None:
        self._fail("close")

    def _fail(self, where: str) -> None:
        if where == self._where:
            raise RuntimeError("the application's fault")


@both(autobahn=(101, False, False), wshost=(500, False, True))
def test_a_failure_at_the_opening_is_answered_with_500_and_ends_the_connection(
    server: Server, seen: tuple[int, bool, bool]
) -> None:
    """Autobahn leaves the connection open, and what came with the request unread; there is no Close and no end."""
    host = server(Failing("open"))
    peer = host.connect()
    status = wire.status(peer.upgrade(after=frame(TEXT, b"hello")))
    for _ in range(10):
        peer.turn(1)
    assert (status, "hello" in host.application.told, peer.gone) == seen


@both(autobahn=(None, True), wshost=(1011, False))
def test_a_failure_at_a_message_is_closed_with_1011(server: Server, seen: tuple[int | None, bool]) -> None:
    """Autobahn drops the connection without a word."""
    peer = server(Failing("message")).open()
    peer.send(frame(TEXT, b"hello"))
    assert (close_code(peer.take()), peer.gone) == seen


@both(autobahn=[], wshost=["hello"])
@without_loop
def test_a_coroutine_that_handles_a_message_is_awaited(server: Server, seen: list[str]) -> None:
    class Async(AutobahnProtocol):
        async def onMessage(self, payload: bytes, isBinary: bool) -> None:  # type: ignore[override]
            self.sendMessage(payload)  # type: ignore[no-untyped-call]

    class Handler:
        def init(self, options: Any) -> None:
            pass

        async def handle(self, message: Any, state: None) -> tuple[Any, ...]:
            return ("reply", message[1], state) if message[0] == "text" else ("noreply", state)

    peer = (Autobahn(protocol=Async) if server is Autobahn else Wshost(handler=Handler())).open()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine '.*onMessage' was never awaited")
        peer.send(frame(TEXT, b"hello"))
        gc.collect()
    assert peer.messages() == seen


@both(autobahn=503, wshost=101)
def test_a_failure_at_the_end_frees_the_connections_place(server: Server, seen: int) -> None:
    """One failure of onClose, and Autobahn counts that connection for ever."""
    host = server(Failing("close"), max_connections=1)
    host.open().leave()
    assert wire.status(host.connect().upgrade()) == seen


@both(autobahn=None, wshost=500)
def test_a_subprotocol_that_was_not_offered_is_answered_with_500(server: Server, seen: int | None) -> None:
    """The client is left without an answer until the handshake times out."""

    class Stubborn(Application):
        def connect(self, query: str) -> Any:
            return "soap", {}

    peer = server(Stubborn()).connect()
    assert wire.status(peer.upgrade(headers={"Sec-WebSocket-Protocol": "chat"})) == seen


# 11. Timers fire on whole seconds, and at times when they were cancelled.


@both(autobahn=True, wshost=False)
def test_a_peer_has_the_whole_close_timeout_to_answer(server: Server, seen: bool) -> None:
    """A peer has one second to answer a Close: by Autobahn, started at 0.99, 10 ms."""
    host = server(close_timeout=1)
    peer = host.open()
    peer.turn(0.99)
    host.close(peer)
    peer.turn(0.02)
    assert peer.gone is seen


@both(autobahn=True, wshost=False)
def test_a_peer_that_answers_its_ping_in_time_is_not_dropped_with_the_dead(server: Server, seen: bool) -> None:
    """Of 1,001 peers that were pinged at the same time all but one are dead. That one answers in time."""
    host = server(ping_interval=1, ping_timeout=1)
    peers = [host.open() for _ in range(1_001)]
    alive = peers[-1]
    while not (pings := [one for one in frames(alive.take()) if one.opcode == PING]):
        host.reactor.advance(0.05)
    for _ in range(19):
        host.reactor.advance(0.05)
    alive.send(frame(PONG, pings[0].payload))
    for _ in range(10):
        host.reactor.advance(0.05)
    assert alive.gone is seen


# 12. A heartbeat that is none.


@both(autobahn=(1, False), wshost=(1, True))
def test_a_peer_that_answers_no_ping_is_dropped_though_no_timeout_is_set(
    server: Server, seen: tuple[int, bool]
) -> None:
    """Without a timeout named, Autobahn pings once, and never notices that nothing comes."""
    peer = server(ping_interval=5).open()
    for _ in range(120):
        peer.turn(1)
    assert (sum(one.opcode == PING for one in frames(peer.take())), peer.gone) == seen


@both(autobahn=True, wshost=False)
def test_a_long_upload_shows_that_the_peer_is_alive(server: Server, seen: bool) -> None:
    """40 kB of one frame come every second."""
    peer = server(ping_interval=5, ping_timeout=5).open()
    peer.send(wire.head(BINARY, 1_000_000))
    for _ in range(20):
        peer.turn(1)
        peer.send(b"x" * 40_000)
    assert peer.gone is seen


# 13. sendMessage compresses before it looks, and sendPreparedMessage does not look at all.


@both(autobahn=False, wshost=True)
def test_messages_inflate_after_one_longer_than_the_limit_for_received_ones(server: Server, seen: bool) -> None:
    """A message that Autobahn does not send, as it exceeds the limit for messages received, is in its compressor."""

    class Verbose(Application):
        def message(self, data: str | bytes) -> str | bytes | None:
            # Text that does not compress, and that the last answer refers back to.
            return random.Random(1).randbytes(2_000 if data == "long" else 200).hex()

    class Forgiving(AutobahnProtocol):
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            with suppress(PayloadExceededError):
                super().onMessage(payload, isBinary)

    more: dict[str, Any] = {"protocol": Forgiving} if server is Autobahn else {}
    host = server(Verbose(), compress=True, max_message_size=1_024, **more)
    peer = host.connect()
    peer.send(request(headers={"Sec-WebSocket-Extensions": "permessage-deflate"}))
    _, _, data = peer.take().partition(b"\r\n\r\n")
    for message in (b"short", b"long", b"short"):
        peer.send(frame(TEXT, message))
        data += peer.take()
    inflate = zlib.decompressobj(-15)
    try:
        last = [inflate.decompress(one.payload + wire.TAIL) for one in frames(data)][-1]
    except zlib.error:
        last = b""
    assert (last.decode() == Verbose().message("short")) is seen


@both(autobahn=True, wshost=False)
def test_a_message_sent_before_the_handshake_leaves_after_it(server: Server, seen: bool) -> None:
    application = Waiting()
    host = server(application)
    peer = host.connect()
    peer.send(request())
    if isinstance(host, Autobahn):
        peer.connection.sendPreparedMessage(host.factory.prepareMessage(b"early"))  # type: ignore[attr-defined]
    else:
        assert peer.connection.ref.send("early")
    assert (b"early" in peer.take()) is seen
    application.decision.callback(None)
    peer.turn()
    head, _, rest = peer.take().partition(b"\r\n\r\n")
    assert wire.status(head) == 101
    assert (b"early" in rest) is not seen


@both(autobahn=True, wshost=False)
def test_no_message_is_sent_behind_the_close(server: Server, seen: bool) -> None:
    host = server()
    peer = host.open()
    host.close(peer)
    if isinstance(host, Autobahn):
        peer.connection.sendPreparedMessage(host.factory.prepareMessage(b"late"))  # type: ignore[attr-defined]
    else:
        assert not peer.connection.ref.send("late")
    assert (b"late" in peer.take()) is seen


# 14. Whoever sends many frames has the reactor for himself.


class Listening(Application):
    """Says nothing."""

    def message(self, data: str | bytes) -> None:
        self.told.append(data)


@both(autobahn=range(10_000, 10_001), wshost=range(1, 257))
def test_at_most_256_frames_of_a_read_are_handled_at_once(server: Server, seen: range) -> None:
    """One read of 64 KiB holds ten thousand frames: so many are handled before anybody else has a turn."""
    host = server(Listening())
    connection: Any = host.open().connection
    connection.dataReceived(frame(TEXT) * 10_000)
    assert host.application.told.count("") in seen


@both(autobahn=range(50_000, 50_001), wshost=range(1, 5 * 256 + 1))
def test_a_message_waits_for_at_most_256_frames_of_each_flooder(server: Server, seen: range) -> None:
    """Five flooders, and how many of their frames are handled before the one of somebody who came after them."""
    host = server(Listening())
    flooders, innocent = [host.open() for _ in range(5)], host.open()
    for peer in flooders:
        peer.connection.dataReceived(frame(TEXT) * 10_000)
    innocent.connection.dataReceived(frame(TEXT, b"me"))
    told = host.application.told
    assert told[: told.index("me")].count("") in seen


# What else is as people don't expect it.


@both(autobahn=(303, True), wshost=(426, False))
def test_no_query_redirects_a_client(server: Server, seen: tuple[int, bool]) -> None:
    """A link to the server leads anywhere: its status page is on by default."""
    peer = server().connect()
    peer.send(b"GET /?redirect=http://evil.example/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
    head = peer.take()
    assert (wire.status(head), b"evil.example" in head) == seen


@both(autobahn=True, wshost=False)
def test_a_refusal_does_not_tell_the_version(server: Server, seen: bool) -> None:
    peer = server().connect()
    peer.send(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
    told = version("autobahn" if server is Autobahn else "wshost")
    assert (told.encode() in peer.take()) is seen


@both(autobahn=True, wshost=False)
def test_a_malformed_url_logs_no_traceback(server: Server, seen: bool, log: Log) -> None:
    peer = server().connect()
    peer.send(b"GET /?redirect=http://[/ HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert ("Traceback" in log.text) is seen


@both(autobahn=None, wshost=503)
def test_connections_count_before_they_send_a_request(server: Server, seen: int | None) -> None:
    """Whoever sends no request is one connection too many that is not refused."""
    host = server(max_connections=1)
    host.open()
    assert wire.status(host.connect().take()) == seen


@both(autobahn="admin:'--", wshost="127.0.0.1:50000")
def test_forwarded_addresses_are_not_believed(server: Server, seen: str) -> None:
    class Naming(AutobahnProtocol):
        def onConnect(self, request: Any) -> None:
            peers.append(request.peer)

    class Handler:
        def init(self, options: Any) -> None:
            peers.append(options["connection"].peer)

        def handle(self, message: Any, state: None) -> tuple[str, None]:
            return "noreply", state

    peers: list[str] = []
    host = Autobahn(protocol=Naming, trust_forwarded=1) if server is Autobahn else Wshost(handler=Handler())
    host.open(headers={"X-Forwarded-For": "admin:'--"})
    assert peers == [seen]


@both(autobahn=400, wshost=101)
@pytest.mark.parametrize("offer", ["permessage-deflate; colour=red", "permessage-deflate; server_max_window_bits=8"])
def test_an_extension_that_is_declined_does_not_fail_the_handshake(server: Server, seen: int, offer: str) -> None:
    """An offer that can't be accepted is to be declined (RFC 7692 §5.1), and the connection goes without."""
    head = server(compress=True).connect().upgrade(headers={"Sec-WebSocket-Extensions": offer})
    assert wire.status(head) == seen
    if wire.status(head) == 101:
        assert b"Sec-WebSocket-Extensions" not in head


@both(autobahn=None, wshost=1012)
def test_a_server_may_close_with_1012(server: Server, seen: int | None) -> None:
    """A server can't say by sendClose that it restarts (1012), nor that it goes away, is full or failed."""
    host = server()
    peer = host.open()
    with suppress(Exception):
        host.close(peer, 1012)
    assert close_code(peer.take()) == seen


@both(autobahn=True, wshost=False)
def test_input_behind_a_protocol_error_is_not_kept(server: Server, seen: bool) -> None:
    """The peer is told why it is closed, when failByDrop is off; and until it answers, what it sends is kept."""
    more: dict[str, Any] = {"fail_by_drop": False, "close_timeout": 5} if server is Autobahn else {}
    peer = server(**more).open()
    tracemalloc.start()
    feed(peer, wire.head(PING, 1 << 62) + b"x" * 2_000_000)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert close_code(peer.take()) == 1002
    assert (kept > 1_000_000) is seen


@both(autobahn=pytest.raises(Disconnected), wshost=nullcontext())
def test_sending_after_the_end_raises_nothing(server: Server, seen: AbstractContextManager[object]) -> None:
    host = server()
    peer = host.open()
    peer.leave()
    with seen:
        host.send(peer, "late")
    assert peer.take() == b""


@both(autobahn=True, wshost=False)
def test_a_message_of_another_thread_is_not_written_from_that_thread(server: Server, seen: bool) -> None:
    """A message sent from another thread is written from that thread."""
    writers: list[int] = []
    host = server()
    peer = host.open()
    write = peer.transport.write

    def written(data: bytes) -> None:
        writers.append(threading.get_ident())
        write(data)

    peer.transport.write = written  # type: ignore[method-assign]

    def send() -> None:
        if isinstance(host, Autobahn):
            host.send(peer, "hello")
        else:
            assert peer.connection.ref.send("hello")

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    peer.turn()
    assert peer.messages() == ["hello"]
    assert (writers == [thread.ident]) is seen


@pytest.mark.parametrize(("monotonic", "jumps"), [(False, True), (True, False)], ids=["autobahn", "wshost"])
def test_setting_the_clock_does_not_move_the_reactors_time(
    monkeypatch: pytest.MonkeyPatch, monotonic: bool, jumps: bool
) -> None:
    """Reactors go by the time of day: when that is set, all timers are due. `twistd wshost` gives them another."""

    class Reactor:
        def seconds(self) -> float:
            # What ReactorBase has; it has bound it before a test could replace it.
            return time.time()

    assert ReactorBase.seconds is time.time
    reactor = Reactor()
    if monotonic:
        reactors.use_monotonic_time(reactor)
    before, time_of_day = reactor.seconds(), time.time
    monkeypatch.setattr(time, "time", lambda: time_of_day() + 3_600)
    assert (reactor.seconds() - before > 3_000) is jumps
