from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from OpenSSL import SSL

from tests.fastnet.records import Records
from tests.fastnet.surroundings import turn
from wshost.fastnet.layers import Layer
from wshost.fastnet.negotiation import server_context
from wshost.fastnet.tls_records import shared_buffers
from wshost.fastnet.tls_transport import HANDSHAKE_TIMEOUT, PARTS, SHUTDOWN_TIMEOUT, TLSTransport

#: More than the kernel keeps for a peer that does not read.
MUCH = bytes(range(256)) * 12_000
#: This thread's.
BUFFERS = shared_buffers()


class Sparing:
    """A context of which a connection takes three bytes at most in one call."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.calls = 0

    def wrap_bio(self, *args: Any, **kwargs: Any) -> Any:
        self.connection = self.context.wrap_bio(*args, **kwargs)
        self.do_handshake = self.connection.do_handshake
        self.read = self.connection.read
        self.unwrap = self.connection.unwrap
        return self

    def write(self, data: bytes) -> int:
        self.calls += 1
        return self.connection.write(data[:3])


class Timer:
    """Notes that it is not wanted any more."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop whose timers wait for the test, and which notes what is reported to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timers: list[Timer] = []
        self.reported: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def call_later(self, seconds: float, call: Callable[..., None], *args: Any) -> Timer:
        self.timers.append(Timer(seconds, partial(call, *args)))
        return self.timers[-1]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reported.append(context["exception"])

    @property
    def waiting(self) -> list[float]:
        """For how long the timers wait that still do."""
        return [timer.seconds for timer in self.timers if not timer.cancelled]


class Recorder(Layer):
    """A protocol that notes what it is told, and then does what the test wants."""

    def __init__(self, **reactions: Callable[[Any], Any]) -> None:
        self.transport: Any = None
        self.told: list[str] = []
        self.chunks: list[bytes] = []
        self.error: BaseException | None = None
        self.reactions = reactions

    @property
    def received(self) -> bytes:
        return b"".join(self.chunks)

    def _react(self, name: str) -> None:
        assert "lost" not in self.told, f"{name} came behind the end"
        self.told.append(name)
        if name in self.reactions:
            self.reactions[name](self.transport)

    def handshake_completed(self) -> None:
        self._react("made")

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self._react("data")

    def buffer_updated(self, nbytes: int) -> None:
        """Never called: what TLS reads is to be decrypted."""

    def eof_received(self) -> bool:
        self._react("eof")
        return False

    def pause_writing(self) -> None:
        self._react("pause")

    def resume_writing(self) -> None:
        self._react("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self._react("lost")


class Pair:
    """A transport, and at the other end a socket with the standard library's TLS beside it."""

    def __init__(
        self, loop: Loop, ours: ssl.SSLContext, theirs: ssl.SSLContext, protocol: Recorder, *protocols: bytes
    ) -> None:
        self.loop = loop
        mine, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client: Any = theirs.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.protocol = protocol
        ticking: Any = loop
        self.transport = protocol.transport = TLSTransport(ticking, mine, protocol, ours, protocols)

    def turn(self) -> Pair:
        turn(self.loop.loop)
        return self

    def feed(self, data: bytes) -> Pair:
        """The server gets these bytes at once."""
        self.peer.send(data)
        return self.turn()

    def take(self) -> bool:
        """What the server has said comes to the client; say whether that was anything."""
        self.turn()
        size = self.incoming.pending
        with suppress(BlockingIOError, ConnectionResetError):
            while data := self.peer.recv(1 << 16):
                self.incoming.write(data)
        return self.incoming.pending > size

    def encrypt(self, data: bytes) -> bytes:
        """A record of the client's."""
        self.client.write(data)
        return self.outgoing.read()

    def step(self) -> bytes:
        """Let the client go on with its handshake; return what it says."""
        with suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
        return self.outgoing.read()

    def shake(self) -> Pair:
        for _ in range(3):
            if said := self.step():
                self.feed(said)
            self.take()
        return self

    def read(self) -> bytes:
        """All that the server says; behind its end follows b"<end>"."""
        data = b""
        while self.take():
            try:
                while more := self.client.read(1 << 16):
                    data += more
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLZeroReturnError:
                pass
            return data + b"<end>"
        return data

    def say_goodbye(self) -> bytes:
        """The client's close_notify."""
        with suppress(ssl.SSLError):
            self.client.unwrap()
        return self.outgoing.read()

    def finish(self) -> None:
        self.transport.abort()
        self.turn()
        self.peer.close()


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop = request.param()
    yield Loop(loop)
    loop.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def theirs(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def ours(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


Connect = Callable[..., Pair]


@pytest.fixture
def connect(loop: Loop, ours: ssl.SSLContext, theirs: ssl.SSLContext) -> Iterator[Connect]:
    """Connect a protocol that reacts as told; hands have not been shaken yet."""
    pairs: list[Pair] = []

    def connect(*protocols: bytes, **reactions: Callable[[Any], Any]) -> Pair:
        pairs.append(Pair(loop, ours, theirs, Recorder(**reactions), *protocols))
        return pairs[-1]

    yield connect
    for pair in pairs:
        pair.finish()


@pytest.fixture
def pair(connect: Connect) -> Pair:
    return connect().shake()


class TestALPN:
    """RFC 7301 §3.2: who offers none of our protocols is refused; Python's `ssl` would go on without one."""

    @pytest.mark.parametrize("offered", [[], ["http/1.1"], ["h2", "http/1.1"]], ids=["nothing", "ours", "ours, too"])
    def test_clients_that_offer_our_protocol_or_none_are_served(
        self, connect: Connect, ours: ssl.SSLContext, theirs: ssl.SSLContext, offered: list[str]
    ) -> None:
        ours.set_alpn_protocols(["http/1.1"])
        theirs.set_alpn_protocols(offered)
        pair = connect(b"http/1.1").shake()
        assert pair.protocol.told == ["made"]
        assert pair.client.selected_alpn_protocol() == ("http/1.1" if offered else None)
        pair.feed(pair.encrypt(b"hello"))
        assert pair.protocol.received == b"hello"

    @pytest.mark.parametrize("size", [1, 100, 10_000])
    @pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_clients_that_offer_only_other_protocols_are_refused(
        self, connect: Connect, theirs: ssl.SSLContext, maximum: ssl.TLSVersion, size: int
    ) -> None:
        theirs.maximum_version = maximum
        theirs.set_alpn_protocols(["h2", "h3"])
        pair = connect(b"http/1.1", b"chat").turn()
        hello = pair.step()
        for at in range(0, len(hello), size):
            assert pair.protocol.told == []
            pair.feed(hello[at : at + size])
        assert pair.take()
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.no.application.protocol"):
            pair.client.do_handshake()
        assert pair.protocol.told == ["lost"]
        assert isinstance(pair.protocol.error, ssl.SSLError)
        assert "ALPN" in str(pair.protocol.error)
        assert pair.loop.waiting == []

    def test_no_client_is_refused_where_there_is_no_protocol_to_select(
        self, connect: Connect, theirs: ssl.SSLContext
    ) -> None:
        theirs.set_alpn_protocols(["h2"])
        pair = connect().shake()
        assert pair.protocol.told == ["made"]
        assert pair.client.selected_alpn_protocol() is None

    @pytest.mark.parametrize("protocols", [(), (b"http/1.1",)])
    def test_the_context_is_chosen_by_the_name_that_the_client_asks_for(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, ours: ssl.SSLContext, protocols: tuple[bytes, ...]
    ) -> None:
        asked: list[bytes] = []

        def choose(name: bytes) -> ssl.SSLContext:
            asked.append(name)
            return chosen

        chosen = server_context()
        # It has no certificate.
        monkeypatch.setattr(ours, "choose", choose, raising=False)
        pair = connect(*protocols).turn().feed(hello := connect().step())
        assert hello
        assert asked == [b"localhost"]
        assert isinstance(pair.protocol.error, ssl.SSLError)

    def test_openssl_refuses_what_is_no_client_hello(self, connect: Connect) -> None:
        pair = connect(b"http/1.1").turn().feed(b"GET / HTTP/1.1\r\n\r\n")
        assert pair.protocol.told == ["lost"]
        assert "ALPN" not in str(pair.protocol.error)


class TestTheHandshake:
    def test_the_protocol_is_told_of_the_handshakes_end(self, connect: Connect) -> None:
        pair = connect().turn()
        assert pair.protocol.told == []
        assert pair.loop.waiting == [HANDSHAKE_TIMEOUT / PARTS]
        assert pair.shake().protocol.told == ["made"]
        assert pair.loop.waiting == []

    def test_the_handshake_may_come_byte_by_byte(self, connect: Connect) -> None:
        pair = connect()
        while pair.protocol.told == []:
            for byte in pair.step():
                pair.feed(bytes([byte]))
            pair.take()
        pair.feed(pair.encrypt(b"hello"))
        assert pair.protocol.chunks == [b"hello"]

    def test_many_handshakes_can_go_on_at_once(self, connect: Connect) -> None:
        """They share what OpenSSL reads from and writes to."""
        pairs = [connect() for _ in range(4)]
        for _ in range(3):
            for pair in pairs:
                pair.feed(pair.step() or b"")
            for pair in pairs:
                pair.take()
        for number, pair in enumerate(pairs):
            pair.feed(pair.encrypt(b"%d" % number))
            pair.transport.write_nocheck(b"to %d" % number)
        assert [pair.protocol.received for pair in pairs] == [b"0", b"1", b"2", b"3"]
        assert [pair.read() for pair in pairs] == [b"to 0", b"to 1", b"to 2", b"to 3"]

    def test_a_handshake_that_takes_too_long_ends_the_connection(self, connect: Connect) -> None:
        """Counted by parts: one is all that the process can stand still for."""
        pair = connect().turn()
        for _ in range(PARTS):
            assert pair.turn().protocol.told == []
            pair.loop.timers[-1].call()
        assert pair.turn().protocol.told == ["lost"]
        assert isinstance(pair.protocol.error, TimeoutError)

    @pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x02\x00\x00\x01\x00", b"\x16\x03\x01\xff\xff"])
    def test_a_handshake_of_garbage_ends_the_connection(self, connect: Connect, said: bytes) -> None:
        pair = connect().turn().feed(said)
        assert pair.protocol.told == ["lost"]
        assert isinstance(pair.protocol.error, ssl.SSLError)

    def test_a_failed_handshake_tells_the_peer_why(self, connect: Connect) -> None:
        """RFC 8446 §6.2"""
        pair = connect().turn().feed(b"\x16\x03\x01\xff\xff")
        pair.take()
        alert = pair.incoming.read()
        # A fatal one, of a record that is too long.
        assert (alert[0], alert[5:]) == (21, b"\x02\x16")

    @pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
    def test_a_peer_that_leaves_in_the_handshake_resets_the_connection(self, connect: Connect, said: bytes) -> None:
        pair = connect().turn()
        if said:
            pair.feed(said)
        pair.peer.shutdown(socket.SHUT_WR)
        assert pair.turn().protocol.told == ["lost"]
        assert isinstance(pair.protocol.error, ConnectionResetError)
        assert pair.loop.waiting == []

    def test_close_during_the_handshake_ends_the_connection(self, connect: Connect) -> None:
        pair = connect().turn()
        pair.transport.close()
        assert pair.turn().protocol.told == ["lost"]

    def test_abort_before_the_handshake_ends_the_connection(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.abort()
        assert pair.protocol.told == []
        assert pair.turn().protocol.told == ["lost"]
        assert pair.protocol.error is None

    def test_writes_during_the_handshake_are_dropped(self, connect: Connect) -> None:
        pair = connect().turn()
        pair.transport.write_nocheck(b"early")
        assert pair.shake().read() == b""

    def test_data_right_behind_the_handshake_is_received(self, connect: Connect) -> None:
        pair = connect(made=lambda transport: transport.write_nocheck(b"welcome")).turn()
        self._shake_with(pair, b"hello")
        assert pair.protocol.told == ["made", "data"]
        assert pair.protocol.received == b"hello"
        assert pair.read() == b"welcome"

    def test_data_right_behind_the_handshake_waits_while_reading_is_paused(self, connect: Connect) -> None:
        pair = connect(made=lambda transport: transport.pause_reading()).turn()
        self._shake_with(pair, b"hello")
        assert pair.protocol.told == ["made"]
        pair.transport.resume_reading()
        pair.transport.pause_reading()
        assert pair.turn().protocol.told == ["made"]
        pair.transport.resume_reading()
        assert pair.turn().protocol.received == b"hello"
        pair.feed(pair.encrypt(b"again"))
        assert pair.protocol.received == b"helloagain"

    def test_data_right_behind_the_handshake_is_dropped_after_an_abort(self, connect: Connect) -> None:
        pair = connect(made=lambda transport: transport.abort()).turn()
        self._shake_with(pair, b"hello")
        assert pair.protocol.told == ["made", "lost"]

    def test_data_that_waits_is_dropped_after_an_abort(self, connect: Connect) -> None:
        pair = connect(made=lambda transport: transport.pause_reading()).turn()
        self._shake_with(pair, b"hello")
        pair.transport.resume_reading()
        pair.transport.abort()
        assert pair.turn().protocol.told == ["made", "lost"]

    def test_tls_1_2_is_served(self, connect: Connect, theirs: ssl.SSLContext) -> None:
        theirs.maximum_version = ssl.TLSVersion.TLSv1_2
        pair = connect(data=lambda transport: transport.write_nocheck(b"hello back")).shake()
        pair.feed(pair.encrypt(b"hello"))
        assert pair.read() == b"hello back"
        assert pair.transport.ssl_object.version() == "TLSv1.2"

    def _shake_with(self, pair: Pair, data: bytes) -> None:
        """Shake hands; these come with the client's last part."""
        pair.feed(pair.step())
        pair.take()
        pair.feed(pair.step() + pair.encrypt(data))


class TestInput:
    def test_records_may_be_split_anywhere(self, pair: Pair) -> None:
        record = pair.encrypt(b"0")
        pair.feed(record)
        for end in range(1, len(record)):
            record = pair.encrypt(b"%d" % (end % 10))
            pair.feed(record[:end])
            assert len(pair.protocol.chunks) == end
            pair.feed(record[end:])
        assert pair.protocol.chunks == [b"%d" % (end % 10) for end in range(len(record))]

    def test_several_records_at_once_are_received_as_one(self, pair: Pair) -> None:
        pair.feed(pair.encrypt(b"one") + pair.encrypt(b"two"))
        assert pair.protocol.chunks == [b"onetwo"]

    def test_the_beginning_of_a_record_waits_for_its_rest(self, pair: Pair) -> None:
        one, two = pair.encrypt(b"one"), pair.encrypt(b"two")
        pair.feed(one + two[:3])
        assert pair.protocol.chunks == [b"one"]
        pair.feed(two[3:])
        assert pair.protocol.chunks == [b"one", b"two"]

    def test_data_of_several_records_is_received(self, pair: Pair) -> None:
        data = MUCH[:100_000]
        pair.feed(pair.encrypt(data))
        assert pair.protocol.received == data

    def test_a_request_to_renegotiate_is_answered_by_openssl(self, connect: Connect) -> None:
        """RFC 5246 §7.2.2: the peer may ask for another handshake, and is told that there is none."""
        pair = connect()
        context = SSL.Context(SSL.TLSv1_2_METHOD)
        pair.client = client = SSL.Connection(context)
        client.set_connect_state()
        while pair.protocol.told == []:
            with suppress(SSL.WantReadError):
                client.do_handshake()
            pair.feed(client.bio_read(1 << 16)).take()
            client.bio_write(pair.incoming.read())
        client.do_handshake()
        client.renegotiate()
        with suppress(SSL.WantReadError):
            client.do_handshake()
        pair.feed(client.bio_read(1 << 16))
        assert pair.take()
        assert pair.protocol.told == ["made"]

    def test_no_input_is_received_while_reading_is_paused(self, pair: Pair) -> None:
        pair.transport.pause_reading()
        pair.feed(pair.encrypt(b"hello"))
        assert pair.protocol.received == b""
        pair.transport.resume_reading()
        assert pair.turn().protocol.received == b"hello"

    @pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x20" + bytes(32)])
    def test_garbage_behind_data_ends_the_connection(self, pair: Pair, garbage: bytes) -> None:
        pair.feed(pair.encrypt(b"before") + garbage)
        assert pair.protocol.told == ["made", "data", "lost"]
        assert isinstance(pair.protocol.error, ssl.SSLError)
        with pytest.raises(ssl.SSLError, match="ALERT"):
            pair.read()

    def test_a_protocol_that_fails_on_data_loses_its_connection(self, connect: Connect) -> None:
        pair = connect(data=lambda transport: 1 // 0).shake()
        pair.feed(pair.encrypt(b"hello"))
        assert pair.protocol.told == ["made", "data", "lost"]
        assert [type(error) for error in pair.loop.reported] == [ZeroDivisionError]


class TestOutput:
    def test_data_can_be_written_from_data_received(self, connect: Connect) -> None:
        pair = connect(data=lambda transport: transport.write_nocheck(b"hello back")).shake()
        pair.feed(pair.encrypt(b"hello"))
        assert pair.read() == b"hello back"

    def test_small_writes_from_data_received_leave_when_it_ends(self, pair: Pair) -> None:
        noted = []

        def write(transport: Any) -> None:
            transport.write_nocheck(b"one")
            transport.write_nocheck(b"two")
            noted.append(transport.get_write_buffer_size() > len("onetwo"))
            with pytest.raises(BlockingIOError):
                pair.peer.recv(1)

        pair.take()
        pair.protocol.reactions["data"] = write
        assert pair.feed(pair.encrypt(b"hello")).read() == b"onetwo"
        assert (noted, pair.transport.get_write_buffer_size()) == ([True], 0)

    def test_large_writes_from_data_received_leave_at_once_and_in_order(self, pair: Pair) -> None:
        arrived = []

        def write(transport: Any) -> None:
            transport.write_nocheck(b"<small>")
            transport.write_nocheck(MUCH[:16_384])
            arrived.append(len(pair.peer.recv(1 << 16, socket.MSG_PEEK)))
            transport.write_nocheck(b"<end>")

        pair.take()
        pair.protocol.reactions["data"] = write
        assert pair.feed(pair.encrypt(b"hello")).read() == b"<small>" + MUCH[:16_384] + b"<end>"
        assert arrived[0] > len(b"<small>") + 16_384

    @pytest.mark.parametrize("end", [lambda transport: transport.abort(), lambda transport: 1 // 0])
    def test_a_write_from_data_received_is_sent_though_the_connection_then_ends(
        self, connect: Connect, end: Callable[[Any], None]
    ) -> None:
        def write(transport: Any) -> None:
            transport.write_nocheck(b"why")
            end(transport)

        pair = connect(data=write).shake()
        assert pair.feed(pair.encrypt(b"hello")).read() == b"why"
        assert pair.protocol.told == ["made", "data", "lost"]

    def test_a_write_from_data_received_is_sent_before_the_answer_to_a_close_notify(self, connect: Connect) -> None:
        pair = connect(data=lambda transport: transport.write_nocheck(b"hello back")).shake()
        pair.feed(b"".join(pair.encrypt(b"hello") for _ in range(100)) + pair.say_goodbye())
        assert pair.read() == b"hello back" * pair.protocol.told.count("data") + b"<end>"
        assert pair.protocol.told[-2:] == ["eof", "lost"]

    def test_an_empty_write_sends_nothing(self, pair: Pair) -> None:
        pair.take()
        pair.transport.write_nocheck(b"")
        assert not pair.take()

    def test_pause_writing_and_resume_writing_are_passed_on(self, connect: Connect) -> None:
        pair = connect().shake()
        pair.transport.set_write_buffer_limits(1 << 16, 0)
        pair.transport.write_nocheck(MUCH)
        assert pair.protocol.told == ["made", "pause"]
        assert pair.transport.get_write_buffer_size() > 1 << 16
        assert pair.read() == MUCH
        assert pair.protocol.told == ["made", "pause", "resume"]
        assert pair.transport.get_write_buffer_size() == 0

    def test_output_written_from_pause_writing_arrives_in_order(self, connect: Connect) -> None:
        pair = connect(pause=lambda transport: transport.write_nocheck(b"<paused>")).shake()
        pair.transport.set_write_buffer_limits(1 << 16, 0)
        pair.transport.write_nocheck(MUCH)
        pair.transport.write_nocheck(b"<more>")
        assert pair.read() == MUCH + b"<paused><more>"

    def test_the_shared_buffers_are_empty_between_calls(self, pair: Pair) -> None:
        """What OpenSSL works with belongs to the thread, and is bounded."""
        pair.transport.write_nocheck(MUCH)
        assert pair.read() == MUCH
        for _ in range(4):
            pair.feed(pair.encrypt(MUCH[:100_000]))
        assert (BUFFERS.incoming.pending, BUFFERS.outgoing.pending) == (0, 0)

    def test_a_write_may_take_several_calls_into_openssl(
        self, loop: Loop, ours: ssl.SSLContext, theirs: ssl.SSLContext
    ) -> None:
        sparing: Any = Sparing(ours)
        pair = Pair(loop, sparing, theirs, Recorder()).shake()
        pair.transport.write_nocheck(b"hello back")
        assert pair.read() == b"hello back"
        assert sparing.calls == 4
        pair.finish()

    def test_a_write_that_openssl_refuses_ends_the_connection(self, pair: Pair) -> None:
        with suppress(ssl.SSLError):
            # As a servername callback could: nothing can be said behind this.
            pair.transport.ssl_object.unwrap()
        pair.transport.write_nocheck(b"too late")
        assert pair.turn().protocol.told == ["made", "lost"]
        assert isinstance(pair.protocol.error, ssl.SSLError)

    def test_a_write_during_another_call_into_openssl_is_sent_behind_it(self, pair: Pair) -> None:
        """A collector's call, or a signal's, can come there."""
        BUFFERS.busy = True
        pair.transport.write_nocheck(b"one")
        BUFFERS.busy = False
        pair.transport.write_nocheck(b"two")
        pair.transport.close()
        assert pair.read() == b"onetwo<end>"

    def test_a_write_during_another_call_into_openssl_is_lost_by_an_abort(self, pair: Pair) -> None:
        BUFFERS.busy = True
        pair.transport.write_nocheck(b"one")
        pair.transport.abort()
        BUFFERS.busy = False
        # The abort was asked for later than the rest.
        assert pair.turn().protocol.told == ["made", "lost"]


class TestNewKeys:
    """RFC 8446 §4.6.3: how often the peer brings one, or asks for one, no RFC says; each costs as much as a message."""

    @pytest.fixture
    def records(self, theirs: ssl.SSLContext, tmp_path: Path, connect: Connect) -> Records:
        theirs.keylog_filename = str(tmp_path / "keys")
        self.pair = connect().shake()
        assert self.pair.protocol.told == ["made"]
        return Records(self.pair.client, tmp_path / "keys")

    def send(self, data: bytes) -> list[str]:
        """The peer sends this, and reads nothing; return what the protocol has been told."""
        while data:
            with suppress(BlockingIOError):
                data = data[self.pair.peer.send(data) :]
            self.pair.turn()
        return self.pair.protocol.told[1:]

    def test_new_keys_are_taken(self, records: Records) -> None:
        data = b"".join(records.key_update() + records.record(b"%d" % number) for number in range(20))
        assert self.send(data)[0] == "data"
        assert self.pair.protocol.received == b"".join(b"%d" % number for number in range(20))

    @pytest.mark.parametrize("count", [33, 5_000])
    def test_too_many_new_keys_end_the_connection(self, records: Records, count: int) -> None:
        data = [records.key_update() for _ in range(count)]
        assert self.send(b"".join(data[:32])) == []
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send(b"".join(data[32:]))
        assert self.pair.protocol.told == ["made", "lost"]
        assert isinstance(self.pair.protocol.error, ConnectionAbortedError)

    def test_data_pays_for_new_keys(self, records: Records) -> None:
        """Not by little of it."""
        some = bytes(1 << 14)
        for _ in range(10):
            updates = b"".join(records.key_update() for _ in range(16))
            assert "lost" not in self.send(updates + b"".join(records.record(some) for _ in range(16)))
        assert len(self.pair.protocol.received) == 10 << 18
        for _ in range(2):
            told = self.send(b"".join(records.key_update() for _ in range(17)) + records.record(b"x"))
        assert told[-1] == "lost"

    def test_answers_to_new_keys_that_the_peer_does_not_read_end_the_connection(self, records: Records) -> None:
        self.pair.transport.write_nocheck(MUCH)
        some = bytes(1 << 14)
        rounds = 0
        while "lost" not in self.pair.protocol.told:
            updates = b"".join(records.key_update(requested=True) for _ in range(16))
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send(updates + b"".join(records.record(some) for _ in range(16)))
            rounds += 1
            assert rounds < 100
        assert rounds > 16
        assert isinstance(self.pair.protocol.error, ConnectionAbortedError)

    def test_answers_to_new_keys_come_after_what_was_written_before(self, records: Records) -> None:
        self.pair.protocol.reactions["data"] = lambda transport: transport.write_nocheck(b"hello back ")
        data = [records.record(b"hello") for _ in range(70)]
        updates = records.key_update(requested=True) + records.key_update(requested=True)
        self.send(b"".join(data) + updates + records.record(b"hello"))
        assert self.pair.read() == b"hello back " * len(self.pair.protocol.chunks)
        assert len(self.pair.protocol.chunks) > 1

    def test_answers_to_new_keys_keep_their_place_when_the_protocol_writes_on_a_pause(self, records: Records) -> None:
        self.pair.protocol.reactions["data"] = lambda transport: transport.write_nocheck(b"hello back")
        self.pair.protocol.reactions["pause"] = lambda transport: transport.write_nocheck(MUCH[:20_000])
        self.pair.transport.set_write_buffer_limits(len(MUCH) << 1, 0)
        self.pair.transport.write_nocheck(MUCH)
        # The next bytes are too many.
        self.pair.transport.set_write_buffer_limits(self.pair.transport.get_write_buffer_size(), 0)
        data = [records.record(b"hello") for _ in range(64)]
        # OpenSSL answers the first when the second comes.
        updates = records.key_update(requested=True) + records.key_update(requested=True)
        self.send(b"".join(data) + updates + records.record(b"hello"))
        assert self.pair.protocol.told == ["made", "data", "pause", "data"]
        assert self.pair.read() == MUCH + b"hello back" + MUCH[:20_000] + b"hello back"

    def test_answers_to_new_keys_are_sent(self, records: Records) -> None:
        self.send(records.key_update(requested=True) + records.record(b"hello"))
        self.pair.transport.write_nocheck(b"hello back")
        assert self.pair.read() == b"hello back"


class TestManyRecords:
    """They are not read all at once."""

    def test_hundreds_of_records_arrive_in_order(self, pair: Pair) -> None:
        data = b"".join(pair.encrypt(b"%d " % number) for number in range(1_000))
        pair.feed(data).turn().turn()
        assert pair.protocol.received == b"".join(b"%d " % number for number in range(1_000))
        assert len(pair.protocol.chunks) > 10

    @pytest.mark.parametrize("end", [b"", b"<end>"])
    def test_hundreds_of_records_wait_while_reading_is_paused(self, connect: Connect, end: bytes) -> None:
        """And come before all that is read later, the peer's end included."""
        pair = connect(data=lambda transport: transport.pause_reading()).shake()
        data = b"".join(pair.encrypt(b"%d " % number) for number in range(300))
        pair.feed(data + (pair.say_goodbye() if end else b""))
        if end:
            pair.peer.shutdown(socket.SHUT_WR)
        chunks = 0
        while len(pair.protocol.chunks) > chunks:
            chunks = len(pair.protocol.chunks)
            pair.transport.resume_reading()
            pair.turn()
        assert chunks > 3
        assert pair.protocol.received == b"".join(b"%d " % number for number in range(300))
        assert pair.protocol.told[-1] == ("lost" if end else "data")

    def test_other_connections_are_read_between_hundreds_of_records(self, connect: Connect) -> None:
        order: list[str] = []
        flooder = connect(data=lambda _: order.append("flooder")).shake()
        polite = connect(data=lambda _: order.append("polite")).shake()
        flooder.peer.send(b"".join(flooder.encrypt(b"x") for _ in range(1_000)))
        polite.feed(polite.encrypt(b"x")).turn().turn()
        assert order.index("polite") <= 2
        assert order.count("flooder") > 10
        assert flooder.protocol.received == b"x" * 1_000

    def test_the_handshake_may_come_in_hundreds_of_records(self, connect: Connect) -> None:
        """Though the protocol reads nothing yet."""
        pair = connect()
        pair.transport.pause_reading()
        hello = pair.step()
        pair.feed(b"".join(b"\x16\x03\x01\x00\x01%c" % byte for byte in hello[5:]))
        pair.take()
        pair.shake()
        assert pair.protocol.told == ["made"]
        pair.feed(pair.encrypt(b"hello"))
        assert pair.protocol.received == b""
        pair.transport.resume_reading()
        assert pair.turn().protocol.received == b"hello"

    def test_reading_that_is_resumed_twice_goes_on_once(self, connect: Connect) -> None:
        pair = connect(data=lambda transport: transport.pause_reading()).shake()
        pair.feed(b"".join(pair.encrypt(b"x") for _ in range(300)))
        calls: list[Callable[[], None]] = []
        pair.loop.call_soon = calls.append  # type: ignore[attr-defined]
        pair.transport.resume_reading()
        pair.transport.resume_reading()
        del pair.loop.call_soon
        assert len(calls) == 1
        before = len(pair.protocol.chunks)
        calls[0]()
        assert len(pair.protocol.chunks) == before + 1

    def test_hundreds_of_records_are_dropped_after_an_abort(self, connect: Connect) -> None:
        pair = connect(data=lambda transport: transport.abort()).shake()
        pair.feed(b"".join(pair.encrypt(b"x") for _ in range(300)))
        assert pair.protocol.told == ["made", "data", "lost"]

    def test_waiting_records_are_dropped_after_an_abort(self, connect: Connect) -> None:
        pair = connect(data=lambda transport: transport.pause_reading()).shake()
        pair.feed(b"".join(pair.encrypt(b"x") for _ in range(300)))
        pair.transport.resume_reading()
        pair.transport.abort()
        assert pair.turn().protocol.told == ["made", "data", "lost"]


class TestClosing:
    def test_close_sends_a_close_notify_and_waits_for_the_peers(self, pair: Pair) -> None:
        pair.transport.write_nocheck(b"bye")
        pair.transport.close()
        pair.transport.close()
        pair.transport.write_nocheck(b"too late")
        assert pair.read() == b"bye<end>"
        assert pair.protocol.told == ["made"]
        assert pair.loop.waiting == [SHUTDOWN_TIMEOUT / PARTS]
        pair.feed(pair.encrypt(b"not heard any more") + pair.say_goodbye())
        assert pair.protocol.told == ["made", "lost"]
        assert pair.protocol.error is None
        assert pair.loop.waiting == []

    def test_close_reads_the_peers_close_notify_though_reading_is_paused(self, pair: Pair) -> None:
        pair.transport.pause_reading()
        pair.transport.close()
        assert pair.read() == b"<end>"
        assert pair.feed(pair.say_goodbye()).protocol.told == ["made", "lost"]

    def test_close_without_an_answer_times_out(self, pair: Pair) -> None:
        pair.transport.close()
        for _ in range(PARTS):
            assert pair.turn().protocol.told == ["made"]
            pair.loop.timers[-1].call()
        assert pair.turn().protocol.told == ["made", "lost"]
        assert isinstance(pair.protocol.error, TimeoutError)

    def test_close_sends_what_is_unsent_first(self, pair: Pair) -> None:
        pair.transport.write_nocheck(MUCH)
        pair.transport.close()
        assert pair.read() == MUCH + b"<end>"

    def test_close_waits_longer_for_a_peer_that_reads_slowly(self, pair: Pair) -> None:
        pair.transport.write_nocheck(MUCH)
        pair.transport.close()
        for _ in range(3):
            with suppress(BlockingIOError):
                while pair.peer.recv(1 << 16):
                    pass
            for _ in range(PARTS):
                pair.turn().loop.timers[-1].call()
                assert "lost" not in pair.turn().protocol.told
        pair.loop.timers[-1].call()
        assert pair.turn().protocol.told[-1] == "lost"
        assert isinstance(pair.protocol.error, TimeoutError)

    def test_close_is_done_when_the_peer_ends_without_an_answer(self, pair: Pair) -> None:
        pair.transport.close()
        pair.peer.shutdown(socket.SHUT_WR)
        assert pair.turn().protocol.told == ["made", "lost"]
        assert pair.protocol.error is None


class TestThePeersEnd:
    def test_a_close_notify_is_told_and_answered(self, pair: Pair) -> None:
        pair.feed(pair.encrypt(b"bye") + pair.say_goodbye())
        assert pair.protocol.told == ["made", "data", "eof", "lost"]
        assert pair.protocol.error is None
        assert pair.read() == b"<end>"

    def test_the_answer_to_a_close_notify_comes_behind_what_is_unsent(self, pair: Pair) -> None:
        pair.transport.write_nocheck(MUCH)
        pair.feed(pair.say_goodbye())
        assert pair.protocol.told == ["made", "pause", "eof"]
        assert pair.read().endswith(b"<end>")
        assert pair.protocol.told[-1] == "lost"

    def test_a_protocol_may_abort_on_a_close_notify(self, connect: Connect) -> None:
        pair = connect(eof=lambda transport: transport.abort()).shake()
        assert pair.feed(pair.say_goodbye()).protocol.told == ["made", "eof", "lost"]
        assert pair.read() == b""

    @pytest.mark.parametrize("said", [0, 3, 10])
    def test_an_end_without_close_notify_is_not_told_as_one(self, pair: Pair, said: int) -> None:
        """It may be an attacker's, between two records and within one."""
        if said:
            pair.feed(pair.encrypt(b"hello")[:said])
        pair.peer.shutdown(socket.SHUT_WR)
        assert pair.turn().protocol.told == ["made", "lost"]

    def test_a_broken_connection_is_lost_with_the_systems_error(self, pair: Pair) -> None:
        pair.transport.write_nocheck(MUCH)
        pair.peer.close()
        assert pair.turn().protocol.told[-1] == "lost"
        assert isinstance(pair.protocol.error, OSError | None)


class TestAbort:
    def test_abort_drops_what_is_unsent(self, pair: Pair) -> None:
        pair.transport.write_nocheck(MUCH)
        pair.transport.abort()
        pair.transport.write_nocheck(b"too late")
        pair.transport.close()
        assert pair.turn().protocol.told[-1] == "lost"
        assert MUCH not in pair.read()
