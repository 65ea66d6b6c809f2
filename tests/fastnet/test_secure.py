from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trustme
import uvloop
from OpenSSL.crypto import X509
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, INegotiated, ISSLTransport
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import HalfCloseable, Port, Producer, Recorder, turn
from wshost.fastnet.secure import SecureTransport
from wshost.fastnet.socket_transport import HIGH_WATER


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = request.param()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def theirs(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["chat"])
    authority.configure_trust(context)
    return context


@pytest.fixture
def ours(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["chat"])
    authority.issue_cert("localhost").configure_cert(context)
    return context


class Pair:
    """A transport, and the standard library's TLS at the other end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ours: ssl.SSLContext, theirs: ssl.SSLContext, protocol: Recorder
    ) -> None:
        self.loop = loop
        self.port = Port(loop, ours)
        mine, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = theirs.wrap_bio(self._in, self._out, server_hostname="localhost")
        self.protocol = protocol
        self.transport: Any = SecureTransport(mine, protocol, "", self.port, 0, self.port.reactor)
        protocol.transport = self.transport

    def turn(self) -> Pair:
        turn(self.loop)
        return self

    def exchange(self) -> None:
        """What either has for the other gets there."""
        for _ in range(3):
            if self._out.pending:
                self.peer.send(self._out.read())
            self.turn()
            with suppress(BlockingIOError, ConnectionResetError):
                while data := self.peer.recv(1 << 16):
                    self._in.write(data)

    def shake(self) -> Pair:
        for _ in range(3):
            with suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.exchange()
        return self

    def send(self, data: bytes) -> Pair:
        self.client.write(data)
        self.exchange()
        return self

    def read(self) -> bytes:
        """All that has come; at the end follows b"<end>"."""
        self.exchange()
        data = b""
        with suppress(ssl.SSLWantReadError):
            try:
                while True:
                    more = self.client.read(1 << 16)
                    if not more:
                        return data + b"<end>"
                    data += more
            except ssl.SSLZeroReturnError:
                return data + b"<end>"
        return data

    def finish(self) -> None:
        if not self.transport.disconnected:
            self.transport.abortConnection()
        self.turn()
        self.peer.close()


Connect = Callable[..., Pair]


@pytest.fixture
def connect(loop: asyncio.AbstractEventLoop, ours: ssl.SSLContext, theirs: ssl.SSLContext) -> Iterator[Connect]:
    """Connect a protocol, a `Recorder` by default; hands have not been shaken yet."""
    pairs: list[Pair] = []

    def connect(protocol: Recorder | None = None) -> Pair:
        pairs.append(Pair(loop, ours, theirs, protocol or Recorder()))
        return pairs[-1]

    yield connect
    for pair in pairs:
        pair.finish()


@pytest.fixture
def pair(connect: Connect) -> Pair:
    return connect().shake()


class TestInterfaces:
    @pytest.mark.parametrize("interface", [ISSLTransport, INegotiated])
    def test_transports_provide_twisteds_interfaces_for_tls(self, pair: Pair, interface: Any) -> None:
        assert verifyObject(interface, pair.transport)


class TestData:
    def test_data_goes_both_ways(self, pair: Pair) -> None:
        pair.send(b"hello")
        assert pair.protocol.received == b"hello"
        pair.transport.write(b"hello back")
        assert pair.read() == b"hello back"

    def test_data_written_early_is_sent_after_the_handshake(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.write(b"early")
        pair.turn()
        assert pair.transport.handshaking
        assert pair.shake().read() == b"early"
        assert not pair.transport.handshaking

    def test_a_streaming_producer_is_paused_while_much_waits_for_the_handshake(self, connect: Connect) -> None:
        pair, producer = connect(), Producer()
        pair.transport.registerProducer(producer, True)
        pair.transport.write(b"x" * HIGH_WATER)
        assert producer.asked == []
        pair.transport.write(b"x")
        assert producer.asked == ["pause"]
        assert pair.shake().read() == b"x" * (HIGH_WATER + 1)
        assert producer.asked == ["pause", "resume"]

    def test_a_pull_producer_can_register_before_the_handshake(self, connect: Connect) -> None:
        pair, producer = connect(), Producer()

        def produce() -> None:
            if len(producer.asked) <= 3:
                pair.transport.write(b"x")
            else:
                pair.transport.unregisterProducer()

        producer.on_resume = produce
        pair.transport.registerProducer(producer, False)
        assert producer.asked == ["resume"]
        assert pair.shake().read() == b"xxx"

    def test_data_is_not_read_into_the_protocols_buffer(self, connect: Connect) -> None:
        class Buffered(Recorder):
            def buffer_updated(self, nbytes: int) -> None:
                """Never called."""

        pair = connect(Buffered()).shake()
        assert not pair.transport.receive_into(bytearray(10))
        assert pair.send(b"hello").protocol.received == b"hello"

    def test_reading_that_is_paused_before_the_handshake_stays_paused(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.pauseProducing()
        pair.shake().send(b"hello")
        assert pair.protocol.received == b""
        pair.transport.resumeProducing()
        assert pair.turn().protocol.received == b"hello"


class TestTheHandshake:
    def test_a_handshake_listener_is_told_when_the_handshake_is_done(self, connect: Connect) -> None:
        @implementer(IHandshakeListener)
        class Listener(Recorder):
            def handshakeCompleted(self) -> None:
                self.events.append("shaken")

        pair = connect(Listener())
        assert pair.protocol.events == []
        assert pair.shake().protocol.events == ["shaken"]

    def test_a_handshake_listener_that_fails_loses_its_connection(self, connect: Connect) -> None:
        @implementer(IHandshakeListener)
        class Failing(Recorder):
            def handshakeCompleted(self) -> None:
                raise ZeroDivisionError

        with capturedLogs() as events:
            pair = connect(Failing()).shake()
        assert pair.protocol.lost is ZeroDivisionError
        assert len(events) == 1

    def test_a_failed_handshake_is_the_reason_of_the_end(self, connect: Connect) -> None:
        pair = connect()
        pair.peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert pair.turn().protocol.lost is ssl.SSLError
        assert pair.protocol.events == ["lost"]

    def test_a_failed_handshake_tells_the_peer_why(self, connect: Connect, ours: ssl.SSLContext) -> None:
        """RFC 8446 §6.2"""
        ours.verify_mode = ssl.CERT_REQUIRED
        pair = connect().shake()
        with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
            pair.client.read(1)
        assert pair.protocol.lost is ssl.SSLError

    @pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
    def test_a_peer_that_leaves_in_the_handshake_is_not_logged(self, connect: Connect, said: bytes) -> None:
        pair = connect()
        pair.peer.send(said)
        pair.peer.close()
        with capturedLogs() as events:
            pair.turn()
        assert pair.protocol.lost is ConnectionLost
        assert events == []


class TestThePeersEnd:
    @pytest.mark.parametrize("protocol", [Recorder, HalfCloseable])
    def test_a_close_notify_is_answered(self, connect: Connect, protocol: type[Recorder]) -> None:
        pair = connect(protocol()).shake()
        with suppress(ssl.SSLWantReadError):
            pair.client.unwrap()
        pair.exchange()
        pair.transport.write(b"too late")
        assert pair.protocol.events == ["lost"]
        assert pair.protocol.lost is ConnectionDone
        assert pair.read() == b"<end>"

    def test_an_end_without_close_notify_is_a_lost_connection(self, pair: Pair) -> None:
        pair.peer.shutdown(socket.SHUT_WR)
        assert pair.turn().protocol.lost is ConnectionLost


class TestLoseConnection:
    def test_lose_connection_sends_a_close_notify_and_waits_for_the_peers(self, pair: Pair) -> None:
        pair.transport.write(b"bye")
        pair.transport.loseConnection()
        pair.transport.write(b"too late")
        assert pair.read() == b"bye<end>"
        assert pair.protocol.lost is None
        with suppress(ssl.SSLZeroReturnError, ssl.SSLWantReadError):
            pair.client.unwrap()
        pair.exchange()
        assert pair.protocol.lost is ConnectionDone

    def test_the_peers_close_notify_is_read_though_reading_is_paused(self, pair: Pair) -> None:
        pair.transport.pauseProducing()
        pair.send(b"not heard")
        pair.transport.loseConnection()
        assert pair.read() == b"<end>"
        with suppress(ssl.SSLZeroReturnError, ssl.SSLWantReadError):
            pair.client.unwrap()
        pair.exchange()
        assert pair.protocol.lost is ConnectionDone
        assert pair.protocol.received == b""

    def test_lose_connection_before_the_handshake_aborts(self, connect: Connect) -> None:
        """As Twisted has it, where nothing was written."""
        pair = connect()
        pair.transport.loseConnection()
        assert pair.protocol.events == []
        assert pair.turn().protocol.lost is ConnectionAborted
        assert pair.transport.disconnecting

    def test_lose_connection_before_the_handshake_sends_what_was_written(self, connect: Connect) -> None:
        pair = connect()
        pair.transport.write(b"bye")
        pair.transport.loseConnection()
        assert pair.shake().read() == b"bye<end>"

    def test_lose_write_connection_loses_the_connection(self, pair: Pair) -> None:
        pair.transport.loseWriteConnection()
        assert pair.transport.disconnecting
        assert pair.read() == b"<end>"


class TestAbortConnection:
    @pytest.mark.parametrize("shaken", [True, False])
    def test_abort_connection_sends_no_close_notify(self, connect: Connect, shaken: bool) -> None:
        pair = connect()
        if shaken:
            pair.shake()
        pair.transport.abortConnection()
        assert pair.protocol.events == []
        pair.exchange()
        assert pair.protocol.events == ["lost"]
        assert pair.protocol.lost is ConnectionAborted

    @pytest.mark.parametrize("shaken", [True, False])
    def test_the_reactors_stop_ends_connections(self, connect: Connect, shaken: bool) -> None:
        pair = connect()
        if shaken:
            pair.shake()
        (trigger,) = pair.port.reactor.triggers
        trigger()
        assert pair.protocol.lost is ConnectionLost
        assert pair.turn().protocol.events == ["lost"]


class TestThePeer:
    def test_a_peer_may_have_no_certificate(self, pair: Pair) -> None:
        assert pair.transport.getPeerCertificate() is None

    def test_the_peers_certificate_is_known_when_the_handshake_is_done(
        self, connect: Connect, ours: ssl.SSLContext, theirs: ssl.SSLContext, authority: trustme.CA
    ) -> None:
        authority.issue_cert("ada@example.com", common_name="ada").configure_cert(theirs)
        authority.configure_trust(ours)
        ours.verify_mode = ssl.CERT_REQUIRED
        seen: list[Any] = []

        @implementer(IHandshakeListener)
        class Listener(Recorder):
            def handshakeCompleted(self) -> None:
                # Here programs look at it.
                transport: Any = self.transport
                seen.append(transport.getPeerCertificate())

        pair = connect(Listener())
        assert pair.transport.getPeerCertificate() is None
        certificate = pair.shake().transport.getPeerCertificate()
        assert isinstance(certificate, X509)
        assert [one.to_cryptography() for one in seen] == [certificate.to_cryptography()]
        assert "CN=ada" in certificate.to_cryptography().subject.rfc4514_string()

    def test_the_negotiated_protocol_is_known_after_the_handshake(self, connect: Connect) -> None:
        pair = connect()
        assert pair.transport.negotiatedProtocol is None
        assert pair.shake().transport.negotiatedProtocol == b"chat"

    def test_nothing_is_known_of_a_peer_after_the_end(self, pair: Pair) -> None:
        pair.transport.abortConnection()
        pair.turn()
        assert pair.transport.getPeerCertificate() is None
        assert pair.transport.negotiatedProtocol is None
