"""websockets on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from benchmarks.servers.answers import Answer
from benchmarks.servers.arguments import read_arguments

#: websockets' own choice of windows and memory level, with zlib's fastest level.
_DEFLATE = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5, "level": 1}
)

_everybody: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


def answering(answer: Answer) -> Callable[[ServerConnection], Awaitable[None]]:
    async def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(await answer(message))

    return handle


async def give_to_all(connection: ServerConnection) -> None:
    _everybody.add(connection)
    try:
        async for message in connection:
            broadcast(_everybody, message)
    finally:
        _everybody.discard(connection)


async def main() -> None:
    arguments = read_arguments()
    answer = arguments.answer()
    async with serve(
        give_to_all if arguments.broadcast else answering(answer) if answer else echo,
        "127.0.0.1",
        arguments.port,
        ssl=arguments.tls(),
        compression=None,
        extensions=[_DEFLATE] if arguments.deflate else None,
        # A server that is stopped between its turns would miss the answers to its pings.
        ping_interval=None,
        backlog=4096,
    ) as server:
        await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
