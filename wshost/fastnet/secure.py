"""One accepted connection with TLS, as a transport with Twisted's interfaces. Knows nothing of records."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, INegotiated
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.fastnet.output import State
from wshost.fastnet.socket_transport import HIGH_WATER
from wshost.fastnet.tls_transport import TLSTransport
from wshost.fastnet.transport import Transport

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

    from wshost.fastnet.layers import Lower


class SecureTransport(Transport):
    """A connection with TLS. Its port must have an `ssl.SSLContext`.

    As with Twisted's TLS, the protocol is connected before the handshake. Bytes that it writes are kept until the
    handshake is done.
    """

    __slots__ = ("_early", "_tls")

    def _connect(self) -> Lower:
        with suppress(OSError):  # the socket is not connected any more
            # TLS may send a record that the peer does not answer. The next record must not wait for the peer's ACK.
            self.setTcpNoDelay(True)
        self._state = State.OPENING
        # Bytes that are written during the handshake.
        self._early: list[bytes] | None = None
        server = self.server
        self._tls = TLSTransport(server.loop, self.socket, self, server.context, server.protocols)
        return self._tls

    # What the layer below calls

    def handshake_completed(self) -> None:
        if IHandshakeListener.providedBy(self.protocol):
            self._call(self.protocol.handshakeCompleted)
        if self._state is State.CLOSED:
            return
        self._state = State.OPEN
        if self._producer is not None and not self._streaming:
            self._start_pulling()
        early, self._early = self._early, None
        if early is not None:
            self.write(b"".join(early))
            if self._producer_paused and self._state is State.OPEN and self.get_write_buffer_size() <= HIGH_WATER:
                self.resume_writing()
        self._close_if_due()

    def eof_received(self) -> bool:
        """Note that the peer has sent its close_notify. TLS answers it, and the connection ends."""
        self._peer_ended = True
        self._state = State.CLOSED
        return False

    def _explain(self, exc: BaseException | None) -> Failure:
        if exc is None and not (self._peer_ended or self.disconnecting):
            # An attacker may have ended a connection that ends without a close_notify.
            return Failure(ConnectionLost())
        if isinstance(exc, ssl.SSLError):
            return Failure(exc)
        return super()._explain(exc)

    # Output

    def _write_unless_open(self, data: bytes) -> None:
        if self._state is not State.OPENING:
            super()._write_unless_open(data)
            return
        if self._early is None:
            self._early = []
        self._early.append(data)
        if self._producer is not None and sum(map(len, self._early)) > HIGH_WATER:
            self.pause_writing()

    # The end

    def loseConnection(self) -> None:
        if self._state is State.OPENING and self._early is None:
            self.abortConnection()
        else:
            super().loseConnection()

    def _read_until_closed(self) -> None:
        """Read the peer's close_notify, though the protocol may have paused reading."""
        self._transport.resume_reading()

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def _abort(self, reason: Failure) -> None:
        self.disconnecting = True
        super()._abort(reason)

    # TLS

    @property
    def handshaking(self) -> bool:
        """Whether the handshake is not done yet."""
        return self._state is State.OPENING

    def getPeerCertificate(self) -> X509 | None:
        encoded = None
        # `_state` does not tell: it changes only after the protocol was told of the end of the handshake.
        with suppress(ValueError):  # the handshake is not done
            encoded = None if self.disconnected else self._tls.ssl_object.getpeercert(True)
        if encoded is None:
            return None
        from OpenSSL.crypto import FILETYPE_ASN1, load_certificate  # noqa: PLC0415 - few connections need it

        return load_certificate(FILETYPE_ASN1, encoded)

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol selected by ALPN; None when there is none, or not yet."""
        name = None if self.disconnected else self._tls.ssl_object.selected_alpn_protocol()
        return None if name is None else name.encode("ascii")


classImplements(SecureTransport, INegotiated)
