"""twisted.web.websocket, new in Twisted 26, on the epoll reactor."""

from __future__ import annotations

from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor, ssl  # noqa: E402
from twisted.python.failure import Failure  # noqa: E402
from twisted.web.resource import Resource  # noqa: E402
from twisted.web.server import Request, Site  # noqa: E402
from twisted.web.websocket import WebSocketResource, WebSocketTransport  # noqa: E402

from benchmarks.servers.arguments import read_arguments  # noqa: E402

#: The transports by `id()`, as they can't be members of a set.
_everybody: dict[int, WebSocketTransport] = {}


class Echo:
    """Sends each message back."""

    transport: WebSocketTransport

    @classmethod
    def buildProtocol(cls, _request: Request) -> Echo:
        return cls()

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        self.transport = transport

    def negotiationFinished(self) -> None: ...

    def pongReceived(self, payload: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...

    def textMessageReceived(self, message: str) -> None:
        self.transport.sendTextMessage(message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        self.transport.sendBytesMessage(bytes(data))


class Broadcast(Echo):
    """Sends each message to all."""

    def negotiationFinished(self) -> None:
        _everybody[id(self.transport)] = self.transport

    def connectionLost(self, reason: Failure) -> None:
        _everybody.pop(id(self.transport), None)

    def textMessageReceived(self, message: str) -> None:
        for one in _everybody.values():
            one.sendTextMessage(message)


def main() -> None:
    arguments = read_arguments()
    root = Resource()
    root.putChild(b"", WebSocketResource(Broadcast if arguments.broadcast else Echo))
    site = Site(root)
    site.noisy = False
    live: Any = reactor
    if arguments.cert:
        context = ssl.DefaultOpenSSLContextFactory(arguments.cert, arguments.cert)
        live.listenSSL(arguments.port, site, context, backlog=4096, interface="127.0.0.1")
    else:
        live.listenTCP(arguments.port, site, backlog=4096, interface="127.0.0.1")
    live.run()


if __name__ == "__main__":
    main()
