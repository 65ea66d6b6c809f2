"""What servers answer to handshakes and closings, right and wrong: the questions, and the peers that are asked.

Python's peers are asked by the tests. What Node's ws answers was recorded, in ``peers/ws_answers.json``, by

    NODE_PATH=…/node_modules python -m tests.integration.answers

where ``npm install ws`` has put it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import websockets
from aiohttp import WSMsgType, web
from websockets.asyncio.server import serve

from tests.memory import KEY, request
from tests.regressions.wire import BINARY, CLOSE, CONTINUATION, PING, RSV1, TEXT, close, frame, frames, head

PEERS = Path(__file__).parent / "peers"
RECORDED = PEERS / "ws_answers.json"

#: Seconds in which a server does what it will do.
PATIENCE = 1.5

EXTENSIONS, PROTOCOL = "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"


def deflate(parameters: str) -> bytes:
    return request(headers={EXTENSIONS: f"permessage-deflate{parameters}"})


HANDSHAKES = {
    "the least": request(),
    "names in lower case": request().lower().replace(KEY.lower(), KEY).replace(b"get / http", b"GET / HTTP"),
    "Upgrade: WebSocket": request(headers={"Upgrade": "WebSocket"}),
    "Connection: keep-alive, Upgrade": request(headers={"Connection": "keep-alive, Upgrade"}),
    "HTTP/1.0": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "POST": request().replace(b"GET", b"POST"),
    "no Host": request(headers={"Host": ""}),
    "no Upgrade": request(headers={"Upgrade": ""}),
    "no Connection": request(headers={"Connection": ""}),
    "Upgrade: h2c": request(headers={"Upgrade": "h2c"}),
    "no key": request(headers={"Sec-WebSocket-Key": ""}),
    "a short key": request(headers={"Sec-WebSocket-Key": "c2hvcnQ="}),
    "a key that is no base64": request(headers={"Sec-WebSocket-Key": "!!!!!!!!!!!!!!!!!!!!!!=="}),
    "no version": request(headers={"Sec-WebSocket-Version": ""}),
    "version 8": request(headers={"Sec-WebSocket-Version": "8"}),
    "version 14": request(headers={"Sec-WebSocket-Version": "14"}),
    "a subprotocol": request(headers={PROTOCOL: "chat"}),
    "subprotocols": request(headers={PROTOCOL: "soap, chat"}),
    "another subprotocol": request(headers={PROTOCOL: "soap"}),
    "a subprotocol twice": request(headers={PROTOCOL: "chat, chat"}),
    "a subprotocol that is no token": request(headers={PROTOCOL: "ch at"}),
    "another origin": request(headers={"Origin": "http://elsewhere.example"}),
    "an absolute target": request("http://example.com/"),
    "another extension": request(headers={EXTENSIONS: "x-webkit-deflate-frame"}),
    "extensions that are malformed": request(headers={EXTENSIONS: "permessage-deflate;; x"}),
    "deflate": deflate(""),
    "client_max_window_bits": deflate("; client_max_window_bits"),
    "client_max_window_bits=15": deflate("; client_max_window_bits=15"),
    "client_max_window_bits=9": deflate("; client_max_window_bits=9"),
    "client_max_window_bits=8": deflate("; client_max_window_bits=8"),
    'client_max_window_bits="10"': deflate('; client_max_window_bits="10"'),
    "client_max_window_bits=09": deflate("; client_max_window_bits=09"),
    "server_max_window_bits=10": deflate("; server_max_window_bits=10"),
    "server_max_window_bits=8": deflate("; server_max_window_bits=8"),
    "no takeover": deflate("; server_no_context_takeover; client_no_context_takeover"),
    "an unknown parameter": deflate("; x"),
    "a parameter twice": deflate("; client_max_window_bits; client_max_window_bits"),
    "a second offer": deflate("; x, permessage-deflate; client_max_window_bits=10"),
}

CLOSINGS = {
    "without a code": close(None),
    **{f"{code}": close(code) for code in (1000, 1001, 1003, 1011, 1014, 3000, 4999)},
    "4000 bye": close(4000, "bye"),
    **{f"{code}, which is none": close(code) for code in (0, 999, 1005, 1006, 1015, 2999, 5000)},
    "one byte": frame(CLOSE, b"\3"),
    "a reason that is no UTF-8": frame(CLOSE, struct.pack("!H", 1000) + b"\xff"),
    "of 126 bytes": head(CLOSE, 126) + bytes(126),
    "twice": close(1000) + close(4000),
    "data behind it": close(1000) + frame(TEXT, b"late"),
    "between fragments": frame(TEXT, b"a", fin=False) + close(4000),
    "fragments, and a ping between": (frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b")),
    "no mask": b"\x81\x02hi",
    "opcode 3": frame(3, b"x"),
    "opcode 11": frame(11, b"x"),
    "RSV1 and no extension": frame(TEXT, b"x", rsv=RSV1),
    "RSV2": frame(TEXT, b"x", rsv=0x20),
    "a fragmented ping": frame(PING, b"x", fin=False),
    "a ping of 126 bytes": head(PING, 126) + bytes(126),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a message within one": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "text that is no UTF-8": frame(TEXT, b"\xff"),
    "a message that is too large": head(BINARY, 1 << 21),
    "2^63 bytes": head(BINARY, 1 << 63),
    "a length in more bytes than need be": b"\x82\xfe\x00\x01\0\0\0\0x",
}


def asked(port: int, opening: bytes, then: bytes | None = None) -> tuple[bytes, str]:
    """Send an opening handshake, and then this, if it is accepted.

    :returns: the response's head or all that comes behind it; how it ends: ``FIN``, ``RST``, not in time (``open``).
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(opening)
        try:
            while b"\r\n\r\n" not in received:
                more = client.recv(65_536)
                if not more:
                    return received, "FIN"
                received += more
            if then is None:
                return received, "open"
            # Not in one packet: there are servers that don't expect that.
            client.sendall(then)
            received = received.partition(b"\r\n\r\n")[2]
            while more := client.recv(65_536):
                received += more
        except TimeoutError:
            return received, "open"
        except ConnectionResetError:
            return received, "RST"
    return received, "FIN"


def handshake(port: int, data: bytes) -> list[Any]:
    """Return the status, the subprotocol, and the extension's parameters, sorted."""
    response, _ = asked(port, data)
    lines = response.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    if not lines[0]:
        return ["nothing"]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    status = int(lines[0].split()[1])
    if status != 101:
        return [status]
    assert (fields["upgrade"], fields["connection"].lower()) == ("websocket", "upgrade"), lines
    extensions = sorted(part.strip() for part in fields.get(EXTENSIONS.lower(), "").split(";") if part)
    return [status, fields.get(PROTOCOL.lower()), extensions]


def closing(port: int, data: bytes) -> list[Any]:
    """Return the frames that come, a Close by its code and what it echoes, and how the connection ends."""
    received, end = asked(port, request(), data)
    answers: list[Any] = []
    for one in frames(received):
        if one.opcode == CLOSE:
            code = struct.unpack("!H", one.payload[:2])[0] if one.payload else None
            # Everyone has words of his own for what is wrong.
            answers.append(["close", code, *(["bye"] if one.payload[2:] == b"bye" else [])])
        else:
            answers.append([one.opcode, one.payload.decode()])
    return [*answers, end]


def answers(port: int) -> dict[str, dict[str, list[Any]]]:
    """Ask a server everything."""
    with ThreadPoolExecutor(16) as pool:
        return {
            "handshakes": dict(
                zip(HANDSHAKES, pool.map(lambda one: handshake(port, one), HANDSHAKES.values()), strict=True)
            ),
            "closings": dict(zip(CLOSINGS, pool.map(lambda one: closing(port, one), CLOSINGS.values()), strict=True)),
        }


@contextmanager
def in_a_thread(start: Callable[[], Any]) -> Iterator[int]:
    """Run a server in a loop of its own.

    :param start: a coroutine function; its result is a port, and what ends the server.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    port, stop = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def start_websockets() -> tuple[int, Callable[[], Any]]:
    async def echo(connection: Any) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    def select(_: Any, offered: Sequence[websockets.Subprotocol]) -> websockets.Subprotocol | None:
        return next((one for one in offered if one == "chat"), None)

    server = await serve(echo, "127.0.0.1", 0, select_subprotocol=select, close_timeout=0.2)

    async def stop() -> None:
        server.close()
        await server.wait_closed()

    return server.sockets[0].getsockname()[1], stop


async def start_aiohttp() -> tuple[int, Callable[[], Any]]:
    async def echo(got: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(protocols=["chat"], max_msg_size=1 << 20, timeout=0.2)
        await response.prepare(got)
        async for message in response:
            if message.type == WSMsgType.TEXT:
                await response.send_str(message.data)
            else:
                await response.send_bytes(message.data)
        return response

    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner.addresses[0][1], runner.cleanup


#: Those that run in Python.
STARTS: Mapping[str, Callable[[], Any]] = {"websockets": start_websockets, "aiohttp": start_aiohttp}


def main() -> None:
    """Record what Node's ws answers."""
    with subprocess.Popen(["node", PEERS / "ws_server.cjs"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            recorded = answers(int(process.stdout.readline()))
        finally:
            process.terminate()
    lines = [
        f"  {json.dumps(kind)}: {{\n"
        + ",\n".join(f"    {json.dumps(name)}: {json.dumps(answer)}" for name, answer in of_kind.items())
        + "\n  }"
        for kind, of_kind in recorded.items()
    ]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
