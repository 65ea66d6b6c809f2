"""Listens on an endpoint that a string describes; a failure is reported in one line. Knows no connection."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    UNIXServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from wshost.connections.address import address
from wshost.connections.kernel import limit_unsent
from wshost.fastnet.negotiation import acceptable_protocols
from wshost.fastnet.stale_sockets import replacing_stale_socket
from wshost.listening.certificates import Certificates, Renewable, negotiate
from wshost.listening.proxy_protocol import ProxiedFactory
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from ssl import SSLContext

    from twisted.internet.ssl import CertificateOptions

#: How many connections the kernel holds until they are accepted. Twisted's 50 are too few when all clients reconnect.
BACKLOG = 1024

#: A Unix socket's permissions without `mode=`: its user and its group may connect.
MODE = 0o660

#: The kinds of endpoints that listen with ports of `wshost.fastnet` on an asyncio reactor.
_FAST = frozenset({"systemd", "tcp", "tcp6", "unix"})

#: The kinds of endpoints that need more than Twisted's own ports do.
_CHANGED = frozenset({"ssl", "systemd", "unix"})

_log = Logger("wshost")


def tcp(port: int, interface: str) -> str:
    """Return the description of a TCP endpoint."""
    kind = "tcp6" if ":" in interface else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(interface)}:backlog={BACKLOG}"


def _arguments(description: str) -> list[str]:
    """Return the arguments in an endpoint's description, without escaped characters."""
    return re.sub(r"\\.", "", description).split(":")[1:]


def _has(arguments: list[str], name: str) -> bool:
    return any(one.startswith(f"{name}=") for one in arguments)


class _EndpointReactor:
    """The reactor of `unix:`, `ssl:` and `systemd:` endpoints that listen with Twisted's own ports.

    :param reactor: the reactor that listens.
    :param proxied: a proxy's header comes before TLS, even though the endpoint does TLS.
    """

    def __init__(self, reactor: Any, proxied: bool) -> None:
        self._reactor = reactor
        self._proxied = proxied

    def listenUNIX(self, address: Any, *args: Any, **kwargs: Any) -> IListeningPort:
        """Listen as `IReactorUNIX` says, but replace a socket that a killed server has left."""
        with replacing_stale_socket(address):
            port: IListeningPort = self._reactor.listenUNIX(address, *args, **kwargs)
        return port

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen as `IReactorSocket` says, but check the socket, and leave it as it is."""
        from wshost.fastnet import adopted  # noqa: PLC0415 - Windows has no Unix sockets

        kind = adopted.UNIXPort if addressFamily == socket.AF_UNIX else adopted.Port
        port: Any = kind(adopted.listening_socket(fileDescriptor, addressFamily), factory, self._reactor)
        port.startListening()
        listening: IListeningPort = port
        return listening

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen as `IReactorSSL` says, but select a protocol by ALPN, too."""
        negotiate(contextFactory, acceptable_protocols(factory), "the certificate")
        listening: IListeningPort
        if self._proxied:
            secure = TLSMemoryBIOFactory(contextFactory, False, factory, self._reactor)
            listening = self._reactor.listenTCP(port, ProxiedFactory(secure), backlog, interface)
        else:
            listening = self._reactor.listenSSL(port, factory, contextFactory, backlog, interface)
        return listening


class Listener:
    """One endpoint.

    :param reactor: the reactor that listens.
    :param description: a description for `twisted.internet.endpoints.serverFromString`.
    :param certificates: for TLS; None: there is no TLS, or the endpoint has its own.
    :param option: the option that has the description, for errors.
    :param inherited: the endpoint's socket, which listens already in another process; None to open one.
    :param copy: a copy of the endpoint's socket, which another process owns; None to open one. It is left as it is.
    :raises ConfigurationError: when the description is wrong.
    """

    def __init__(
        self,
        reactor: Any,
        description: str,
        certificates: Certificates | None,
        *,
        option: str = "listen",
        inherited: socket.socket | None = None,
        copy: socket.socket | None = None,
    ) -> None:
        endpoint = description.removeprefix("haproxy:")
        kind = endpoint.partition(":")[0]
        arguments = _arguments(endpoint)
        own_tls = kind in {"ssl", "tls"} or (kind == "fast" and _has(arguments, "cert"))
        #: Each connection begins with a proxy's header, which names the client's address.
        self.proxied = endpoint != description
        #: The endpoint is a Unix socket, which has a lock file with the process's id.
        self.unix = kind == "unix" or (kind == "fast" and _has(arguments, "unix"))
        self._secure = certificates is not None or own_tls
        self._reactor = reactor
        #: Describes the endpoint.
        self.description = description
        self._inherited = inherited
        # None if the endpoint has TLS of its own, or none.
        self._certificates = certificates
        # The reactor whose ports do TLS by themselves; otherwise TLS is wrapped around the factory, with this context.
        self._fast: Any = None
        self._wrapping: Renewable | None = None
        # What the listening factory's TLS may select by ALPN.
        self._protocols: tuple[bytes, ...] = ()
        self._header_before_factory = self.proxied and kind != "ssl"
        self._told = False
        self._paused = False
        # Fires with None before `listen`, and when `listen` has failed.
        self._port: Deferred[IListeningPort | None] = succeed(None)
        self._error: ConfigurationError | None = None
        if certificates is not None and own_tls:
            raise ConfigurationError(f"listen: {description!r} brings its own TLS: leave out tls-cert, or {kind}:")
        if self.proxied and (kind == "haproxy" or (own_tls and kind != "ssl")):
            what = "haproxy:" if kind == "haproxy" else "TLS of its own: use tls-cert"
            raise ConfigurationError(f"listen: {description!r}: behind haproxy: there can't be {what}")
        if kind == "unix" and len([one for one in arguments if "=" not in one]) < 2 and not _has(arguments, "mode"):
            endpoint += f":mode={MODE:o}"
        try:
            family = None if copy is None else copy.family
            if copy is None:
                self._endpoint = serverFromString(self._reactor_for(kind), endpoint)
            else:
                self._endpoint = AdoptedStreamServerEndpoint(self._reactor_for(kind), copy.detach(), family)
        except Exception as error:  # an endpoint's plugin may raise anything
            lacking = kind == "systemd" and isinstance(error, LookupError)
            reason = "systemd has passed no such socket" if lacking else error
            raise ConfigurationError(f"{option}: {description!r}: {reason}") from error

    def _reactor_for(self, kind: str) -> Any:
        """Return the reactor for an endpoint of this kind. Ports of `wshost.fastnet` take the certificates over."""
        if kind in _FAST and isinstance(self._reactor, AsyncioSelectorReactor):
            with suppress(ImportError):  # Windows has no Unix sockets
                from wshost.fastnet.reactor import FastReactor  # noqa: PLC0415 - as above

                if self._certificates is None or self.proxied:
                    return FastReactor(self._reactor, inherited=self._inherited)
                self._fast = FastReactor(self._reactor, self._certificates.context, self._inherited)
                return self._fast
        if self._inherited is not None:
            raise ValueError("only endpoints tcp:, tcp6: and unix: on asyncio's reactor can be taken over")
        return _EndpointReactor(self._reactor, self.proxied) if kind in _CHANGED else self._reactor

    def listen(self, factory: IProtocolFactory) -> None:
        """Start to listen, unless this was done before.

        :param factory: builds the protocols of the connections.
        :raises ConfigurationError: when listening fails at once. If it fails later, the error is only logged.
        """
        if self._told:
            return
        self._error = None
        if self._certificates is not None:
            self._protocols = acceptable_protocols(factory)
            if self._fast is None:
                self._wrapping = Renewable(self._certificates.context_factory(self._protocols))
                factory = TLSMemoryBIOFactory(self._wrapping, False, factory, self._reactor)
            else:
                self._certificates.select(self._protocols)
        if self._header_before_factory:
            factory = ProxiedFactory(factory)
        port = maybeDeferred(self._endpoint.listen, factory)
        port.addCallback(self._limit_unsent)
        port.addErrback(self._fail)
        if self._error is not None:
            raise self._error
        self._told = True
        self._port = port

    def pause(self) -> None:
        """Accept no connection until `resume`: clients wait. Ports that are no Twisted descriptors can't be paused."""
        self._paused = True
        self._port.addCallback(self._regulate)

    def resume(self) -> None:
        """Undo `pause`."""
        self._paused = False
        self._port.addCallback(self._regulate)

    def renew(self, certificates: Certificates) -> Callable[[], None]:
        """Prepare to use other certificates. An endpoint that has TLS of its own, or none, has no use for them.

        :returns: lets new connections use them, and does not fail.
        :raises ConfigurationError: when Twisted's TLS can't use them.
        """
        if self._certificates is None:
            return _do_nothing
        options = None
        if self._fast is not None:
            certificates.select(self._protocols)
        elif self._wrapping is not None:
            options = certificates.context_factory(self._protocols)
        return partial(self._use, certificates, options)

    def _use(self, certificates: Certificates, options: CertificateOptions | None) -> None:
        self._certificates = certificates
        if self._fast is not None:
            self._fast.context = certificates.context
            self._port.addCallback(self._secure_by, certificates.context)
        elif self._wrapping is not None and options is not None:
            self._wrapping.options = options

    def _secure_by(self, port: Any, context: SSLContext) -> Any:
        if port is not None:
            port.context = context
        return port

    def _limit_unsent(self, port: IListeningPort) -> IListeningPort:
        limit_unsent(port)
        return port

    def announce(self, chain: str, plain: str, secure: str, what: str = "wshost") -> None:
        """Log the URL, now or as soon as the endpoint listens.

        :param chain: the chain, as text.
        :param plain: the URL's scheme without TLS.
        :param secure: the URL's scheme with TLS.
        :param what: what listens there.
        """
        self._port.addCallback(self._announce, chain, plain, secure, what)

    def when_listening(self, call: Callable[[], None]) -> None:
        """Make a call, now or as soon as the endpoint listens; never, if it can't, or is stopped before."""
        self._port.addCallback(self._call, call)

    @property
    def port(self) -> Any:
        """Its port, if that can go over to another process: one of `wshost.fastnet` that listens; else None."""
        found: list[Any] = []

        def find(port: Any) -> Any:
            found.append(port)
            return port

        self._port.addCallback(find)
        return found[0] if found and hasattr(found[0], "release") else None

    @property
    def path(self) -> str | None:
        """The path of its Unix socket, or its abstract name; None if it is another kind of endpoint."""
        if not isinstance(self._endpoint, UNIXServerEndpoint):
            return None
        return os.fsdecode(self._endpoint._address)  # noqa: SLF001 - it has no public name

    @property
    def host(self) -> IAddress | None:
        """Where it listens; None if it does not."""
        found: list[IAddress] = []

        def find(port: IListeningPort | None) -> IListeningPort | None:
            found.extend([] if port is None else [port.getHost()])
            return port

        self._port.addCallback(find)
        return found[0] if found else None

    def stop(self) -> Deferred[None]:
        """Stop listening.

        :returns: fires when the socket is closed.
        """
        self._port.cancel()
        return self._port.addCallback(lambda port: None if port is None else port.stopListening())

    def _regulate(self, port: IListeningPort | None) -> IListeningPort | None:
        # A plugin's endpoint may return another kind of port, which can't be paused.
        if isinstance(port, FileDescriptor):
            (port.stopReading if self._paused else port.startReading)()
        return port

    def _announce(
        self, port: IListeningPort | None, chain: str, plain: str, secure: str, what: str
    ) -> IListeningPort | None:
        if port is not None:
            where = address(port.getHost())
            scheme = secure if self._secure else plain
            url = where if where.startswith("unix:") else f"{scheme}://{where}"
            _log.info("{what} listening on {url} ({chain})", what=what, url=url, chain=chain)
        return port

    def _call(self, port: IListeningPort | None, call: Callable[[], None]) -> IListeningPort | None:
        if port is not None:
            call()
        return port

    def _fail(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        error = failure.value
        where = self.description
        if isinstance(error, CannotListenError):
            if isinstance(error.port, int):
                where = f"{error.interface or '*'}:{error.port}"
            error = error.socketError
        reason = (isinstance(error, OSError) and error.strerror) or error
        self._error = ConfigurationError(f"can't listen on {where}: {reason}")
        self._error.__cause__ = failure.value
        _log.error("{error}", error=self._error)


def _do_nothing() -> None:
    """Do nothing."""
