"""A reactor that listens with this package's ports, and the parser of endpoint strings that begin with ``fast:``."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import directlyProvides, providedBy

from wshost.fastnet.adopted import listening_socket
from wshost.fastnet.negotiation import check_ciphers, openssl_reason, server_answers, server_context
from wshost.fastnet.port import AdoptedPort, AdoptedUNIXPort, Port, UNIXPort


class FastReactor:
    """An asyncio reactor that listens with this package's ports. The reactor that it wraps does everything else.

    Twisted's endpoints can listen on it as on any reactor.

    :param reactor: an `AsyncioSelectorReactor`, on any event loop.
    :param context: for TLS connections; None for plain ones. By ALPN it selects one of the protocols that a port's
        factory accepts (`IProtocolNegotiationFactory`), so all factories must accept the same protocols.
    :param inherited: a socket that listens already, which the next port takes over; None: each opens its own.
    """

    def __init__(
        self, reactor: Any, context: ssl.SSLContext | None = None, inherited: socket.socket | None = None
    ) -> None:
        self._reactor = reactor
        self._inherited = inherited
        #: For the connections of ports that listen later.
        self.context = context
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Listen as `IReactorTCP` says."""
        return self._listen(Port(port, factory, backlog, interface, self._reactor, context=self.context))

    def listenUNIX(
        self, address: Any, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o660, wantPID: int = 0
    ) -> IListeningPort:
        """Listen as `IReactorUNIX` says."""
        return self._listen(UNIXPort(address, factory, backlog, mode, self._reactor, wantPID, context=self.context))

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen as `IReactorSocket` says, on a socket that listens already."""
        listening = listening_socket(fileDescriptor, addressFamily)
        adopted = AdoptedUNIXPort if addressFamily == socket.AF_UNIX else AdoptedPort
        return self._listen(adopted(listening, factory, self._reactor, context=self.context))

    def _listen(self, port: Any) -> IListeningPort:
        if self._inherited is not None:
            port._preexistingSocket, self._inherited = self._inherited, None  # noqa: SLF001 - as `_fromListeningDescriptor`
        port.startListening()
        listening: IListeningPort = port
        return listening


def parse(  # noqa: PLR0917 - a description gives them by position and by name
    reactor: Any,
    port: str | None = None,
    interface: str = "",
    backlog: str = "50",
    unix: str | None = None,
    mode: str = "660",
    lockfile: str = "1",
    cert: str | None = None,
    key: str | None = None,
) -> IStreamServerEndpoint:
    """Return the endpoint of ``fast:8080``, ``fast:443:cert=server.pem``, ``fast:unix=/run/x``.

    :param reactor: the reactor that listens.
    :param port: a TCP port.
    :param interface: an IPv4 or IPv6 address to bind to, "" for all of IPv4.
    :param backlog: how many connections the kernel holds until they are accepted.
    :param unix: the path of a Unix socket, instead of a port.
    :param mode: the socket's permissions, in octal: by default its user and its group may connect.
    :param lockfile: "0" for no lock file beside the socket.
    :param cert: for TLS, a PEM file with the server's certificate first, then the rest of its chain.
    :param key: a PEM file with the private key; None when `cert` has the key, too.
    :raises ValueError: when the arguments don't fit together, the reactor is not asyncio's, or no client would agree on
        a cipher for the certificate.
    """
    if (port is None) == (unix is None):
        raise ValueError("fast: takes either a port or unix=")
    if not isinstance(reactor, AsyncioSelectorReactor):
        raise ValueError("fast: needs asyncio's reactor")
    if key is not None and cert is None:
        raise ValueError("fast: key= needs cert=")
    context = None
    if cert is not None:
        context = server_context()
        context.load_cert_chain(cert, key)
        try:
            check_ciphers(server_answers(context))
        except ssl.SSLError as error:
            raise ValueError(f"{cert}: clients can't agree on a cipher for it: {openssl_reason(error)}") from error
    fast = FastReactor(reactor, context)
    if unix is not None:
        return UNIXServerEndpoint(fast, unix, int(backlog), int(mode, 8), bool(int(lockfile)))
    endpoint = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    return endpoint(fast, int(port or 0), int(backlog), interface)
