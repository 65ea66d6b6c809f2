"""Autobahn's client as a `clients.Conversation`; run as a program, on Twisted, it prints its report as JSON."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from typing import Any

import txaio
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import react

from tests.integration.clients import SUBPROTOCOLS, Rejected, converse

txaio.use_twisted()

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol  # noqa: E402
from autobahn.websocket.compress import (  # noqa: E402
    PerMessageDeflateOffer,
    PerMessageDeflateResponseAccept,
)


class Autobahn(WebSocketClientProtocol):
    """Autobahn's client."""

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[list[Any]] = loop.create_future()
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._pongs: asyncio.Queue[str] = asyncio.Queue()
        self.subprotocol: str | None = None
        self.compressed = False

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None, compress: bool) -> Autobahn:
        from twisted.internet import reactor

        factory: Any = WebSocketClientFactory(url, protocols=SUBPROTOCOLS, reactor=reactor)
        if compress:
            factory.setProtocolOptions(
                perMessageCompressionOffers=[PerMessageDeflateOffer()],
                perMessageCompressionAccept=PerMessageDeflateResponseAccept,
            )
        protocol = cls()
        factory.protocol = lambda: protocol
        connector: Any = reactor
        if tls:
            [authority] = [
                Certificate.loadPEM(ssl.DER_cert_to_PEM_cert(one).encode()) for one in tls.get_ca_certs(True)
            ]
            trusted = optionsForClientTLS(factory.host, trustRoot=authority)
            connector.connectSSL(factory.host, factory.port, factory, trusted)
        else:
            connector.connectTCP(factory.host, factory.port, factory)
        await protocol._opened
        return protocol

    def onConnect(self, response: Any) -> None:
        self.subprotocol = response.protocol
        self.compressed = bool(response.extensions)

    def onOpen(self) -> None:
        self._opened.set_result(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._messages.put_nowait(payload if isBinary else payload.decode())

    def onPong(self, payload: bytes) -> None:
        self._pongs.put_nowait(payload.decode())

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        if not self._opened.done():
            status = re.search(r"\b[345]\d\d\b", reason)
            self._opened.set_exception(Rejected(int(status[0])) if status else ConnectionError(reason))
        self._ended.set_result([code, reason])

    async def send(self, data: str | bytes) -> None:
        payload = data.encode() if isinstance(data, str) else data
        self.sendMessage(payload, isBinary=isinstance(data, bytes))  # type: ignore[no-untyped-call]

    async def send_fragments(self, fragments: list[str]) -> None:
        self.beginMessage()
        for fragment in fragments:
            self.sendMessageFrame(fragment.encode())
        self.endMessage()

    async def receive(self) -> str | bytes:
        return await self._messages.get()

    async def ping(self, data: str) -> str:
        self.sendPing(data.encode())
        return await self._pongs.get()

    async def close(self, code: int, reason: str) -> None:
        self.sendClose(code, reason)
        await self._ended

    async def closed(self) -> list[Any]:
        return await self._ended


def main(reactor: Any, url: str, ca: str, compress: str) -> Deferred[None]:
    """Converse."""
    tls = ssl.create_default_context(cafile=ca) if ca else None
    future = asyncio.ensure_future(converse(Autobahn.connect, url, tls, bool(compress)))
    return Deferred.fromFuture(future).addCallback(lambda report: print(json.dumps(report)))


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    react(main, sys.argv[1:])
