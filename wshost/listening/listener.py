"""Listens on endpoints that strings describe, and says in one line what prevents it. Knows no chain and no host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from wshost.connections.address import address
from wshost.connections.kernel import limit_unsent
from wshost.fastnet.negotiation import spoken
from wshost.listening.proxy_protocol import ProxiedFactory
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from wshost.listening.certificates import Certificates

#: Connections that the kernel holds until they are accepted; Twisted's 50 are few when all clients reconnect at once.
BACKLOG = 1024

#: Who may connect to a Unix socket, unless `mode=` says otherwise: its user and its group.
MODE = 0o660

#: Of these kinds of endpoints we know that they only listen on the reactor.
_FAST = frozenset({"tcp", "tcp6", "unix"})

_log = Logger("wshost")


def tcp(port: int, interface: str) -> str:
    """Return the description of a TCP endpoint."""
    kind = "tcp6" if ":" in interface else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(interface)}:backlog={BACKLOG}"


def _arguments(description: str) -> list[str]:
    """Return the arguments of an endpoint, as far as it matters here: what is escaped in them is left out."""
    return re.sub(r"\\.", "", description).split(":")[1:]


def _has(arguments: list[str], name: str) -> bool:
    return any(one.startswith(f"{name}=") for one in arguments)


class _Vacating:
    """What Unix endpoints need of a reactor, taking the place of sockets that killed servers have left behind.

    Our own ports do so themselves.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenUNIX(self, address: Any, *args: Any, **kwargs: Any) -> IListeningPort:
        from wshost.fastnet.stale_sockets import vacant  # noqa: PLC0415 - Windows has no such locks

        with vacant(address):
            port: IListeningPort = self._reactor.listenUNIX(address, *args, **kwargs)
        return port


class Listener:
    """One endpoint.

    :param description: as `twisted.internet.endpoints.serverFromString` takes it.
    :param certificates: for TLS on the endpoint, which then must not bring its own.
    :raises ConfigurationError: when the description is none.
    """

    def __init__(self, reactor: Any, description: str, certificates: Certificates | None) -> None:
        below = description.removeprefix("haproxy:")
        kind = below.partition(":")[0]
        arguments = _arguments(below)
        tls = kind in {"ssl", "tls"} or (kind == "fast" and _has(arguments, "cert"))
        #: Before anything else comes a header that says who the peer really is.
        self.proxied = below != description
        #: It is a Unix socket, which has a lock file with the process's id.
        self.unix = kind == "unix" or (kind == "fast" and _has(arguments, "unix"))
        self._secure = certificates is not None or tls
        self._reactor = reactor
        self._description = description
        # For TLS that the endpoint does not know of.
        self._certificates = certificates
        self._told = False
        self._paused = False
        # Fires with None while it isn't told to listen, and when that failed.
        self._port: Deferred[IListeningPort | None] = succeed(None)
        self._error: ConfigurationError | None = None
        # TLS is the endpoint's, and yet comes behind that header.
        self._beneath = self.proxied and kind == "ssl"
        if certificates is not None and tls:
            raise ConfigurationError(f"listen: {description!r} brings its own TLS: leave out tls-cert, or {kind}:")
        if self.proxied and (kind == "haproxy" or (tls and not self._beneath)):
            what = "haproxy:" if kind == "haproxy" else "TLS of its own: use tls-cert"
            raise ConfigurationError(f"listen: {description!r}: behind haproxy: there can't be {what}")
        if kind == "unix" and len([one for one in arguments if "=" not in one]) < 2 and not _has(arguments, "mode"):
            below += f":mode={MODE:o}"
        try:
            self._endpoint = serverFromString(self._listening_on(kind), below)
        except Exception as error:  # whatever the endpoint's plugin may raise
            lacking = kind == "systemd" and isinstance(error, LookupError)
            reason = "systemd has passed no such socket" if lacking else error
            raise ConfigurationError(f"listen: {description!r}: {reason}") from error

    def _listening_on(self, kind: str) -> Any:
        """Return what the endpoint listens on."""
        if kind == "ssl":
            return (_Beneath if self._beneath else _Negotiating)(self._reactor)
        reactor = self._fastest(kind)
        return _Vacating(reactor) if kind == "unix" and reactor is self._reactor else reactor

    def _fastest(self, kind: str) -> Any:
        """Return a reactor for endpoints of this kind that has faster ports, where there is one."""
        if kind not in _FAST or not isinstance(self._reactor, AsyncioSelectorReactor):
            return self._reactor
        try:
            from wshost.fastnet.reactor import FastReactor  # noqa: PLC0415 - aiofastnet may be missing
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

            options = self._certificates.context_factory(spoken(factory))
            factory = TLSMemoryBIOFactory(options, False, factory, self._reactor)
        if self.proxied and not self._beneath:
            factory = ProxiedFactory(factory)
        port = maybeDeferred(self._endpoint.listen, factory)
        port.addCallback(self._listening)
        port.addErrback(self._fail)
        if self._error is not None:
            raise self._error
        self._told = True
        self._port = port

    def pause(self) -> None:
        """Accept nobody until `resume`, as far as that can be: clients wait. An endpoint that takes its time, too."""
        self._paused = True
        self._port.addCallback(self._pause)

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False
        self._port.addCallback(self._resume)

    def _listening(self, port: IListeningPort) -> IListeningPort:
        limit_unsent(port)
        return port

    def announce(self, chain: str, plain: str, secure: str) -> None:
        """Log where it listens, now or as soon as it does.

        :param chain: the chain, in words.
        :param plain: the scheme of its URL.
        :param secure: the same with TLS.
        """
        self._port.addCallback(self._announce, chain, plain, secure)

    def stop(self) -> Deferred[None]:
        """Listen no more; fires when the socket is closed."""
        self._port.cancel()
        return self._port.addCallback(lambda port: None if port is None else port.stopListening())

    def _pause(self, port: IListeningPort | None) -> IListeningPort | None:
        # Whatever else an endpoint of somebody's may have for a port accepts.
        if self._paused and isinstance(port, FileDescriptor):
            port.stopReading()
        return port

    def _resume(self, port: IListeningPort | None) -> IListeningPort | None:
        if isinstance(port, FileDescriptor):
            port.startReading()
        return port

    def _announce(self, port: IListeningPort | None, chain: str, plain: str, secure: str) -> IListeningPort | None:
        if port is not None:
            where = address(port.getHost())
            # That of `fast:` has what its description brought.
            scheme = secure if self._secure or getattr(port, "context", None) is not None else plain
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


class _Negotiating:
    """What `ssl:` endpoints need of a reactor, with TLS that negotiates."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """As `IReactorSSL` has it."""
        self._negotiate(contextFactory, factory)
        listening: IListeningPort = self._reactor.listenSSL(port, factory, contextFactory, backlog, interface)
        return listening

    def _negotiate(self, context_factory: Any, factory: IProtocolFactory) -> None:
        from wshost.listening.certificates import negotiate  # noqa: PLC0415 - what that imports takes its time

        negotiate(context_factory, spoken(factory), "the certificate")


class _Beneath(_Negotiating):
    """The same, letting the PROXY protocol's header come first, as proxies send it."""

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """As `IReactorSSL` has it."""
        from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415 - it brings pyOpenSSL

        self._negotiate(contextFactory, factory)
        secure = TLSMemoryBIOFactory(contextFactory, False, factory, self._reactor)
        listening: IListeningPort = self._reactor.listenTCP(port, ProxiedFactory(secure), backlog, interface)
        return listening
