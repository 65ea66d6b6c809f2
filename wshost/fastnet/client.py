"""Connections that this process makes, with this package's transport instead of Twisted's. Plain TCP only.

Twisted's transport writes in a later turn of the reactor, for which it has the loop watch the socket, and stop to. This
one writes at once what the kernel takes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IConnector
from zope.interface import directlyProvides, providedBy

from wshost.fastnet.port import loop_of
from wshost.fastnet.transport import Transport


class Client(tcp.Client):
    """Connects as Twisted's client does. When it has, its socket is the transport's, and it has done its work."""

    connector: Any
    getPeer: Any
    reactor: Any
    realAddress: Any
    socket: Any

    def _connectDone(self) -> None:
        #: As ports have it, for the transport.
        self.loop = loop_of(self.reactor)
        protocol = self.connector.buildProtocol(self.getPeer())
        self.connected = 1
        if protocol is None:
            # The factory wants no connection after all.
            self.socket.close()
            return
        # The socket itself has no peer any more when that has reset the connection.
        self.connector.transport = transport = Transport(self.socket, protocol, self.realAddress, self, 0, self.reactor)
        try:
            protocol.makeConnection(transport)
        except BaseException:  # the loop must serve other connections
            transport.abortConnection()
            self.loop.log.failure("{protocol} failed when its connection was made", protocol=protocol)


class Connector(tcp.Connector):
    """Twisted's connector, with this module's client. The factory is not told of the end of a connection: who needs to
    know is the protocol.
    """

    host: Any
    port: Any
    bindAddress: Any
    reactor: Any

    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


class ConnectingReactor:
    """An asyncio reactor that connects with this module's clients. The reactor that it wraps does everything else.

    Twisted's endpoints can connect by it as by any reactor.

    :param reactor: an `AsyncioSelectorReactor`, on any event loop.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> IConnector:
        """Connect as `IReactorTCP` says. The transport has no `startTLS`, and the factory hears of no end."""
        connector = Connector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector
