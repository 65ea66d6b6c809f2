"""Listens on endpoints that strings describe, and says in one line what prevents it. Knows no chain and no host."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from wshost.connection import address
from wshost.results import ConfigurationError

#: Connections that the kernel holds until they are accepted; Twisted's 50 are few when all clients reconnect at once.
BACKLOG = 1024

_log = Logger("wshost")


def tcp(port: int, interface: str) -> str:
    """Return the description of a TCP endpoint."""
    kind = "tcp6" if ":" in interface else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(interface)}:backlog={BACKLOG}"


class Listener:
    """One endpoint.

    :param description: as `twisted.internet.endpoints.serverFromString` takes it.
    :param context_factory: for TLS on the endpoint, which then must not bring its own.
    :raises ConfigurationError: when the description is none.
    """

    def __init__(self, reactor: Any, description: str, context_factory: CertificateOptions | None) -> None:
        kind = description.removeprefix("haproxy:").partition(":")[0]
        #: Before anything else comes a line that says who the peer really is.
        self.proxied = description.startswith("haproxy:")
        #: It is a Unix socket, which has a lock file with the process's id.
        self.unix = kind == "unix"
        self._secure = context_factory is not None or kind in {"ssl", "tls"}
        self._reactor = reactor
        self._description = description
        self._context_factory = context_factory
        self._told = False
        # Fires with None while it isn't told to listen, and when that failed.
        self._port: Deferred[IListeningPort | None] = succeed(None)
        self._error: ConfigurationError | None = None
        if context_factory is not None and kind in {"ssl", "tls"}:
            raise ConfigurationError(f"listen: {description!r} brings its own TLS: leave out tls-cert, or {kind}:")
        try:
            self._endpoint = serverFromString(reactor, description)
        except Exception as error:  # whatever the endpoint's plugin may raise
            lacking = kind == "systemd" and isinstance(error, LookupError)
            reason = "systemd has passed no such socket" if lacking else error
            raise ConfigurationError(f"listen: {description!r}: {reason}") from error

    def listen(self, factory: IProtocolFactory) -> None:
        """Start to listen, unless that was done before.

        :raises ConfigurationError: when it can't. An endpoint that takes its time logs that instead.
        """
        if self._told:
            return
        self._error = None
        if self._context_factory is not None:
            factory = TLSMemoryBIOFactory(self._context_factory, False, factory, self._reactor)
        port = maybeDeferred(self._endpoint.listen, factory)
        port.addErrback(self._fail)
        if self._error is not None:
            raise self._error
        self._told = True
        self._port = port

    def announce(self, chain: str, plain: str, secure: str) -> None:
        """Log where it listens, now or as soon as it does.

        :param chain: the chain, in words.
        :param plain: the scheme of its URL.
        :param secure: the same with TLS.
        """
        self._port.addCallback(self._announce, chain, secure if self._secure else plain)

    def stop(self) -> Deferred[None]:
        """Listen no more; fires when the socket is closed."""
        self._port.cancel()
        return self._port.addCallback(lambda port: None if port is None else port.stopListening())

    def _announce(self, port: IListeningPort | None, chain: str, scheme: str) -> IListeningPort | None:
        if port is not None:
            where = address(port.getHost())
            url = where if where.startswith("unix:") else f"{scheme}://{where}"
            _log.info("wshost listening on {url} ({chain})", url=url, chain=chain)
        return port

    def _fail(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        where = self._description
        if isinstance(error, CannotListenError):
            if isinstance(error.port, int):
                where = f"{error.interface or '*'}:{error.port}"
            error = error.socketError
        reason = (isinstance(error, OSError) and error.strerror) or error
        self._error = ConfigurationError(f"can't listen on {where}: {reason}")
        self._error.__cause__ = failure.value
        _log.error("{error}", error=self._error)
