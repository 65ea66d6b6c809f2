"""One accepted connection with TLS, by aiofastnet's engine. Knows nothing of where its certificates come from."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from aiofastnet.ssl_transport import SSLTransport_Socket
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, INegotiated
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.fastnet.transport import CLOSED, STARTING, Transport

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

#: How many bytes are read at once, and encrypted before they are sent: a TLS record with its head and its tag. Each
#: connection has two buffers of that size.
BUFFER = (1 << 14) + 64
#: How many seconds a peer has for its part of the handshake, and of closing. Twisted's own TLS has no such limits; a
#: connection that ends earlier is garbage only then.
HANDSHAKE_TIMEOUT = 15.0
SHUTDOWN_TIMEOUT = 10.0


class _Alerting(SSLTransport_Socket):  # type: ignore[misc]
    """aiofastnet's transport, telling the peer by TLS's alert why its handshake fails (RFC 8446 §6.2)."""

    __slots__ = ()

    def _force_close(self, exc: BaseException | None) -> None:
        if isinstance(exc, ssl.SSLError) and self.get_protocol().handshaking:
            # What OpenSSL has written is still here; this sends it.
            self._write_ready()
        super()._force_close(exc)


class SecureTransport(Transport):
    """A connection with TLS; its port has an `ssl.SSLContext`, too.

    As with Twisted's TLS, the protocol is connected before the handshake; what it writes waits for that.
    """

    __slots__ = ()

    def _connect(self, loop: Any) -> Any:
        waiter = loop.create_future()
        waiter.add_done_callback(self._shaken)
        return _Alerting(
            loop,
            self,
            self.server.context,
            True,
            HANDSHAKE_TIMEOUT,
            SHUTDOWN_TIMEOUT,
            BUFFER,
            BUFFER,
            self.socket,
            waiter,
        )

    # What aiofastnet calls

    def connection_made(self, transport: Any) -> None:
        # It has more to do before it can be written to.
        self.server.loop.call_soon(self._begin)

    def _shaken(self, waiter: asyncio.Future[None]) -> None:
        error = waiter.exception()
        if error is not None:
            # A transport that was never made is never lost.
            self.connection_lost(error)

    def eof_received(self) -> bool:
        # The peer's close_notify: aiofastnet answers it, and ends.
        self._eof = True
        self._quiet = False
        self._state = CLOSED
        return False

    def _explain(self, exc: BaseException | None) -> Failure:
        if exc is None and not (self._eof or self.disconnecting):
            # An end without close_notify may be an attacker's.
            return Failure(ConnectionLost())
        if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError):
            return Failure(exc)
        return super()._explain(exc)

    def _begin(self) -> None:
        if IHandshakeListener.providedBy(self.protocol):
            try:
                self.protocol.handshakeCompleted()
            except Exception:
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
        self.server.loop.call_soon(self.connection_lost, None)

    # TLS

    @property
    def handshaking(self) -> bool:
        """Whether the handshake is not done yet."""
        return self._state == STARTING

    def getPeerCertificate(self) -> X509 | None:
        engine = self._engine()
        encoded = None if engine is None else engine.getpeercert(True)
        if encoded is None:
            return None
        from OpenSSL.crypto import FILETYPE_ASN1, load_certificate  # noqa: PLC0415 - few connections need it

        return load_certificate(FILETYPE_ASN1, encoded)

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol of ALPN, None when there is none, or not yet."""
        engine = self._engine()
        name = None if engine is None else engine.selected_alpn_protocol()
        return None if name is None else name.encode("ascii")

    def _engine(self) -> Any:
        return None if self._under is None else self._under.get_extra_info("ssl_object")


classImplements(SecureTransport, INegotiated)
