"""aiohttp on uvloop, without an access log. It compresses with ISA-L, the fastest backend that its docs name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import uvloop
from aiohttp import set_zlib_backend, web
from isal import isal_zlib

from benchmarks.servers.answers import Answer
from benchmarks.servers.arguments import read_arguments

_arguments = read_arguments()
_everybody: set[web.WebSocketResponse] = set()

set_zlib_backend(isal_zlib)


async def echo(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse(compress=_arguments.deflate)
    await connection.prepare(request)
    async for message in connection:
        if message.type is web.WSMsgType.TEXT:
            await connection.send_str(message.data)
        elif message.type is web.WSMsgType.BINARY:
            await connection.send_bytes(message.data)
    return connection


def answering(answer: Answer) -> Callable[[web.Request], Awaitable[web.WebSocketResponse]]:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(compress=_arguments.deflate)
        await connection.prepare(request)
        async for message in connection:
            if message.type is web.WSMsgType.TEXT:
                await connection.send_str(await answer(message.data))
        return connection

    return handle


async def give_to_all(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse(compress=_arguments.deflate)
    await connection.prepare(request)
    _everybody.add(connection)
    try:
        async for message in connection:
            for one in list(_everybody):
                await one.send_str(message.data)
    finally:
        _everybody.discard(connection)
    return connection


_answer = _arguments.answer()
application = web.Application()
application.router.add_get("/", give_to_all if _arguments.broadcast else answering(_answer) if _answer else echo)
web.run_app(
    application,
    host="127.0.0.1",
    port=_arguments.port,
    ssl_context=_arguments.tls(),
    access_log=None,
    print=None,
    backlog=4096,
    loop=uvloop.new_event_loop(),
)
