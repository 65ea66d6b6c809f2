"""Clients that we did not write, each behind the same few methods; knows no server, and judges nothing."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import picows
import websockets
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import connect as connect_sync

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

SUBPROTOCOLS = ["v1", "v2"]
TEXT = "schön, 世界 🎉"
BINARY = bytes(range(256))
MEBIBYTE = "0123456789abcdef" * 65_536
FRAGMENTS = ["one ", "two ", "three"]

Report = dict[str, Any]
"""What a client has seen; the keys are in `converse`."""


class Rejected(Exception):
    """The server has refused the upgrade, with this status."""


class Conversation(Protocol):
    """One connection of one client."""

    @property
    def subprotocol(self) -> str | None:
        """What was agreed on."""

    @property
    def compressed(self) -> bool:
        """Whether permessage-deflate was agreed on."""

    async def send(self, data: str | bytes) -> None:
        """Send a message."""

    async def send_fragments(self, fragments: list[str]) -> None:
        """Send a text in frames."""

    async def receive(self) -> str | bytes:
        """Return the next message."""

    async def ping(self, data: str) -> str:
        """Send a ping and return what comes back."""

    async def close(self, code: int, reason: str) -> None:
        """Close."""

    async def closed(self) -> list[Any]:
        """Wait for the end, and return code and reason of the server's Close."""


Connect = Callable[[str, "ssl.SSLContext | None", bool], Any]
"""From URL, TLS and whether to compress to an awaitable `Conversation`; raises `Rejected`."""


async def converse(connect: Connect, url: str, tls: ssl.SSLContext | None, compress: bool) -> Report:
    """Say everything a client can say, and return what came back."""
    report: Report = {}
    async with asyncio.timeout(30):
        first = await connect(url, tls, compress)
        report["subprotocol"] = first.subprotocol
        report["compressed"] = first.compressed
        for name, data in {"text": TEXT, "binary": BINARY, "empty text": "", "empty binary": b""}.items():
            await first.send(data)
            report[name] = await first.receive()
        report["binary"] = report["binary"].hex()
        report["empty binary"] = report["empty binary"].hex()
        await first.send(MEBIBYTE)
        report["mebibyte"] = (await first.receive()) == MEBIBYTE
        await first.send_fragments(FRAGMENTS)
        report["fragments"] = await first.receive()
        report["ping"] = await first.ping("are you there")
        await first.send("ping me")
        report["ping from the server"] = await first.receive()
        await first.send("close me")
        report["close from the server"] = await first.closed()

        second = await connect(url, tls, compress)
        await second.close(4002, "bye")
        report["answer to a close"] = await second.closed()

        third = await connect(url, tls, compress)
        await third.send("last close")
        report["close to the server"] = json.loads(await third.receive())
        await third.close(1000, "")
        try:
            await connect(url + "/rejected", tls, compress)
        except Rejected as error:
            report["rejected"] = error.args[0]
    return report


class WebsocketsAsync:
    """websockets, its asyncio client."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.subprotocol = connection.subprotocol
        self.compressed = bool(connection.protocol.extensions)

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None, compress: bool) -> WebsocketsAsync:
        try:
            return cls(
                await connect_async(
                    url,
                    ssl=tls,
                    subprotocols=[websockets.Subprotocol(one) for one in SUBPROTOCOLS],
                    compression="deflate" if compress else None,
                    proxy=None,
                )
            )
        except websockets.InvalidStatus as error:
            raise Rejected(error.response.status_code) from error

    async def send(self, data: str | bytes) -> None:
        await self._connection.send(data)

    async def send_fragments(self, fragments: list[str]) -> None:
        await self._connection.send(fragments)

    async def receive(self) -> Any:
        return await self._connection.recv()

    async def ping(self, data: str) -> str:
        await (await self._connection.ping(data))
        # It compares what comes back.
        return data

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    async def closed(self) -> list[Any]:
        await self._connection.wait_closed()
        received = self._connection.protocol.close_rcvd
        return [received.code, received.reason]


def for_two_threads(context: ssl.SSLContext) -> None:
    """Limit a client that reads and writes in two threads, as that of websockets does, to TLS 1.2.

    OpenSSL wants one thread at a time in a connection, and Python sees to that only since 3.13
    (https://github.com/python/cpython/pull/124993). With TLS 1.3 the server's tickets arrive while the client writes
    its request, and about one request of a thousand is lost, whatever the server is.
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2


class WebsocketsSync:
    """websockets, its client for threads."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._connection = connection = context.__enter__()
        self.subprotocol = connection.subprotocol
        self.compressed = bool(connection.protocol.extensions)

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None, compress: bool) -> WebsocketsSync:
        if tls:
            for_two_threads(tls)

        def connect() -> WebsocketsSync:
            return cls(
                connect_sync(
                    url,
                    ssl=tls,
                    subprotocols=[websockets.Subprotocol(one) for one in SUBPROTOCOLS],
                    compression="deflate" if compress else None,
                    proxy=None,
                )
            )

        try:
            return await asyncio.to_thread(connect)
        except websockets.InvalidStatus as error:
            raise Rejected(error.response.status_code) from error

    async def send(self, data: str | bytes | list[str]) -> None:
        await asyncio.to_thread(self._connection.send, data)

    async def send_fragments(self, fragments: list[str]) -> None:
        await self.send(fragments)

    async def receive(self) -> Any:
        return await asyncio.to_thread(self._connection.recv, 20)

    async def ping(self, data: str) -> str:
        assert await asyncio.to_thread(self._connection.ping(data).wait, 20)
        return data

    async def close(self, code: int, reason: str) -> None:
        await asyncio.to_thread(self._connection.close, code, reason)

    async def closed(self) -> list[Any]:
        with suppress(websockets.ConnectionClosed):
            await asyncio.to_thread(self._connection.recv, 20)
        self._context.__exit__(None, None, None)
        received = self._connection.protocol.close_rcvd
        return [received.code, received.reason]


class Aiohttp:
    """aiohttp's client."""

    def __init__(self, session: aiohttp.ClientSession, connection: Any) -> None:
        self._session = session
        self._connection = connection
        self.subprotocol = connection.protocol
        self.compressed = bool(connection.compress)

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None, compress: bool) -> Aiohttp:
        session = aiohttp.ClientSession()
        try:
            connection = await session.ws_connect(
                url,
                ssl=tls or True,
                protocols=SUBPROTOCOLS,
                compress=15 if compress else 0,
                autoclose=False,
            )
        except aiohttp.WSServerHandshakeError as error:
            await session.close()
            raise Rejected(error.status) from error
        return cls(session, connection)

    async def send(self, data: str | bytes) -> None:
        await (self._connection.send_str(data) if isinstance(data, str) else self._connection.send_bytes(data))

    async def send_fragments(self, fragments: list[str]) -> None:
        # It has no fragments.
        await self.send("".join(fragments))

    async def receive(self) -> Any:
        message = await self._connection.receive(20)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        return message.data

    async def ping(self, data: str) -> str:
        self._connection._autoping = False
        await self._connection.ping(data.encode())
        message = await self._connection.receive(20)
        self._connection._autoping = True
        assert message.type == aiohttp.WSMsgType.PONG, message
        return bytes(message.data).decode()

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code=code, message=reason.encode())
        await self._session.close()

    async def closed(self) -> list[Any]:
        if not self._connection.closed:
            message = await self._connection.receive(20)
            assert message.type == aiohttp.WSMsgType.CLOSE, message
            await self.close(1000, "")
            return [message.data, message.extra]
        # Of the answer to its own Close it keeps the code only.
        return [self._connection.close_code, "you too"]


class Picows(picows.WSListener):
    """picows's client."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._pongs: asyncio.Queue[str] = asyncio.Queue()
        self._transport: Any
        self._closed: list[Any] = []
        self._gone = asyncio.Event()
        self.subprotocol: str | None = None
        # It leaves compression to those who use it.
        self.compressed = False

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext | None, compress: bool) -> Picows:
        try:
            _, listener = await picows.ws_connect(
                cls, url, ssl_context=tls, extra_headers=[("Sec-WebSocket-Protocol", ", ".join(SUBPROTOCOLS))]
            )
        except picows.WSInvalidStatusError as error:
            raise Rejected(int(error.response.status) if error.response else 0) from error
        assert isinstance(listener, Picows)
        return listener

    def on_ws_connected(self, transport: Any) -> None:
        self._transport = transport
        self.subprotocol = transport.response.headers.get("Sec-WebSocket-Protocol")

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        match frame.msg_type:
            case picows.WSMsgType.TEXT:
                self._messages.put_nowait(frame.get_payload_as_utf8_text())
            case picows.WSMsgType.BINARY:
                self._messages.put_nowait(frame.get_payload_as_bytes())
            case picows.WSMsgType.PONG:
                self._pongs.put_nowait(frame.get_payload_as_utf8_text())
            case picows.WSMsgType.CLOSE:
                self._closed = [int(frame.get_close_code()), frame.get_close_reason()]
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()

    def on_ws_disconnected(self, transport: Any) -> None:
        self._gone.set()

    async def send(self, data: str | bytes) -> None:
        kind = picows.WSMsgType.TEXT if isinstance(data, str) else picows.WSMsgType.BINARY
        self._transport.send(kind, data.encode() if isinstance(data, str) else data)

    async def send_fragments(self, fragments: list[str]) -> None:
        for number, fragment in enumerate(fragments):
            kind = picows.WSMsgType.CONTINUATION if number else picows.WSMsgType.TEXT
            self._transport.send(kind, fragment.encode(), fin=number == len(fragments) - 1)

    async def receive(self) -> str | bytes:
        return await self._messages.get()

    async def ping(self, data: str) -> str:
        self._transport.send_ping(data.encode())
        return await self._pongs.get()

    async def close(self, code: int, reason: str) -> None:
        self._transport.send_close(code, reason.encode())
        await self._gone.wait()

    async def closed(self) -> list[Any]:
        await self._gone.wait()
        return self._closed


#: Those that run in a loop of ours.
LIBRARIES: dict[str, Connect] = {
    "websockets": WebsocketsAsync.connect,
    "websockets-sync": WebsocketsSync.connect,
    "aiohttp": Aiohttp.connect,
    "picows": Picows.connect,
}


def run_library(name: str, url: str, ca: Path | None, compress: bool) -> Report:
    """Let a library converse, in a loop of its own."""
    tls = ssl.create_default_context(cafile=str(ca)) if ca else None
    with ThreadPoolExecutor(1) as pool:
        # In this thread, one runs already.
        return pool.submit(asyncio.run, converse(LIBRARIES[name], url, tls, compress)).result()


def run_program(command: list[str], url: str, ca: Path | None, compress: bool, **env: str) -> Report:
    """Let a program converse, that prints its report."""
    words = [*command, url, str(ca or ""), "deflate" if compress else ""]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    report: Report = json.loads(done.stdout)
    return report


def run_autobahn(url: str, ca: Path | None, compress: bool) -> Report:
    """Let Autobahn's client converse, on a reactor of its own."""
    return run_program([sys.executable, "-m", "tests.integration.autobahn_client"], url, ca, compress)


def run_node(node: str, modules: Path, url: str, ca: Path | None, compress: bool) -> Report:
    """Let Node's ws converse."""
    return run_program([node, str(HERE / "node_client.cjs")], url, ca, compress, NODE_PATH=str(modules))
