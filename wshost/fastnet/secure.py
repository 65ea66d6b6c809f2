"""One accepted connection with TLS: to its protocol one of Twisted's transports. Knows nothing of records."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, INegotiated
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.fastnet.tls_transport import TLSTransport
from wshost.fastnet.transport import CLOSED, STARTING, Transport

if TYPE_CHECKING:
    from OpenSSL.crypto import X509


class SecureTransport(Transport):
    """A connection with TLS; its port has an `ssl.SSLContext`, too.

    As with Twisted's TLS, the protocol is connected before the handshake; what it writes waits for that.
    """

    __slots__ = ()

    def _connect(self, loop: Any) -> Any:
        with suppress(OSError):  # it is not connected any more
            # What TLS says waits for no answer.
            self.setTcpNoDelay(True)
        return TLSTransport(loop, self.socket, self, self.server.context, self.server.protocols)

    # What the transport below calls

    def connection_made(self, transport: Any) -> None:
        self._begin()

    def eof_received(self) -> bool:
        # The peer's close_notify: it is answered, and that is the end.
        self._eof = True
        self._quiet = False
        self._state = CLOSED
        return False

    def _explain(self, exc: BaseException | None) -> Failure:
        if exc is None and not (self._eof or self.disconnecting):
            # An end without close_notify may be an attacker's.
            return Failure(ConnectionLost())
        if isinstance(exc, ssl.SSLError):
            return Failure(exc)
        return super()._explain(exc)

    def _begin(self) -> None:
        if IHandshakeListener.providedBy(self.protocol):
            try:
                self.protocol.handshakeCompleted()
            except BaseException:  # as Twisted's transports: what fails is this connection
                self._fail()
        super()._begin()

    # The end

    def loseConnection(self) -> None:
        if self._state == STARTING and self._held is None:
            self.abortConnection()
        else:
            super().loseConnection()

    def _stop_reading(self) -> None:
        # The peer's close_notify is to be read.
        if self._read_paused:
            self._under.resume_reading()

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def _drop(self, reason: Failure) -> None:
        self.disconnecting = True
        super()._drop(reason)

    def _drop_early(self) -> None:
        self._under.abort()

    # TLS

    @property
    def handshaking(self) -> bool:
        """Whether the handshake is not done yet."""
        return self._state == STARTING

    def getPeerCertificate(self) -> X509 | None:
        encoded = None
        # Not by our state: the protocol hears of the handshake's end before it changes.
        with suppress(ValueError):  # it is not done yet
            encoded = None if self._under is None else self._under.ssl_object.getpeercert(True)
        if encoded is None:
            return None
        from OpenSSL.crypto import FILETYPE_ASN1, load_certificate  # noqa: PLC0415 - few connections need it

        return load_certificate(FILETYPE_ASN1, encoded)

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol of ALPN, None when there is none, or not yet."""
        name = None if self._under is None else self._under.ssl_object.selected_alpn_protocol()
        return None if name is None else name.encode("ascii")


classImplements(SecureTransport, INegotiated)
