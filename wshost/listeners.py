"""Listens on endpoints that strings describe, and says in one line what prevents it. Knows no chain and no host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from wshost.connection import address
from wshost.results import ConfigurationError
from wshost.sockets import limit_unsent

if TYPE_CHECKING:
    from wshost.tls import Certificates

#: Connections that the kernel holds until they are accepted; Twisted's 50 are few when all clients reconnect at once.
BACKLOG = 1024

#: Of these kinds of endpoints we know that they only listen on the reactor.
_FAST = frozenset({"tcp", "tcp6", "unix"})

_log = Logger("wshost")


def tcp(port: int, interface: str) -> str:
    """Return the description of a TCP endpoint."""
    kind = "tcp6" if ":" in interface else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(interface)}:backlog={BACKLOG}"


class Listener:
    """One endpoint.

    :param description: as `twisted.internet.endpoints.serverFromString` takes it.
    :param certificates: for TLS on the endpoint, which then must not bring its own.
    :raises ConfigurationError: when the description is none.
    """

    def __init__(self, reactor: Any, description: str, certificates: Certificates | None) -> None:
        kind = description.removeprefix("haproxy:").partition(":")[0]
        #: Before anything else comes a line that says who the peer really is.
        self.proxied = description.startswith("haproxy:")
        #: It is a Unix socket, which has a lock file with the process's id.
        self.unix = kind == "unix"
        self._secure = certificates is not None or kind in {"ssl", "tls"}
        self._reactor = reactor
        self._description = description
        # For TLS that the endpoint does not know of.
        self._certificates = certificates
        self._told = False
        # Fires with None while it isn't told to listen, and when that failed.
        self._port: Deferred[IListeningPort | None] = succeed(None)
        self._error: ConfigurationError | None = None
        if certificates is not None and kind in {"ssl", "tls"}:
            raise ConfigurationError(f"listen: {description!r} brings its own TLS: leave out tls-cert, or {kind}:")
        try:
            self._endpoint = serverFromString(self._fastest(kind), description)
        except Exception as error:  # whatever the endpoint's plugin may raise
            lacking = kind == "systemd" and isinstance(error, LookupError)
            reason = "systemd has passed no such socket" if lacking else error
            raise ConfigurationError(f"listen: {description!r}: {reason}") from error

    def _fastest(self, kind: str) -> Any:
        """Return a reactor for endpoints of this kind that has faster ports, where there is one."""
        if kind not in _FAST or not isinstance(self._reactor, AsyncioSelectorReactor):
            return self._reactor
        try:
            from wshost.fastnet.listening import FastReactor  # noqa: PLC0415 - aiofastnet may be missing
        except ImportError:
            return self._reactor
        if self._certificates is None or self.proxied:
            return FastReactor(self._reactor)
        context, self._certificates = self._certificates.context, None
        return FastReactor(self._reactor, context)

    def listen(self, factory: IProtocolFactory) -> None:
        """Start to listen, unless that was done before.

        :raises ConfigurationError: when it can't. An endpoint that takes its time logs that instead.
        """
        if self._told:
            return
        self._error = None
        if self._certificates is not None:
            from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415 - it brings pyOpenSSL

            factory = TLSMemoryBIOFactory(self._certificates.context_factory(), False, factory, self._reactor)
        port = maybeDeferred(self._endpoint.listen, factory)
        port.addCallback(self._listening)
        port.addErrback(self._fail)
        if self._error is not None:
            raise self._error
        self._told = True
        self._port = port

    def _listening(self, port: IListeningPort) -> IListeningPort:
        limit_unsent(port)
        return port

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
