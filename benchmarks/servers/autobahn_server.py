"""Autobahn on Twisted's epoll reactor, as its documentation starts it; broadcasts are prepared once for all."""

from __future__ import annotations

from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept  # noqa: E402
from twisted.internet import reactor, ssl  # noqa: E402

from benchmarks.servers.arguments import read_arguments  # noqa: E402

_everybody: set[Any] = set()


class Echo(WebSocketServerProtocol):
    """Sends each message back."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


class Broadcast(WebSocketServerProtocol):
    """Sends each message to all."""

    def onOpen(self) -> None:
        _everybody.add(self)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        _everybody.discard(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        prepared = self.factory.prepareMessage(payload, isBinary)
        for one in _everybody:
            one.sendPreparedMessage(prepared)


def accept_deflate(offers: list[Any]) -> Any:
    """Agree to the first offer of permessage-deflate."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


def main() -> None:
    arguments = read_arguments()
    factory = WebSocketServerFactory()
    factory.protocol = Broadcast if arguments.broadcast else Echo
    if arguments.deflate:
        factory.setProtocolOptions(perMessageCompressionAccept=accept_deflate)
    live: Any = reactor
    if arguments.cert:
        context = ssl.DefaultOpenSSLContextFactory(arguments.cert, arguments.cert)
        live.listenSSL(arguments.port, factory, context, backlog=4096, interface="127.0.0.1")
    else:
        live.listenTCP(arguments.port, factory, backlog=4096, interface="127.0.0.1")
    live.run()


if __name__ == "__main__":
    main()
