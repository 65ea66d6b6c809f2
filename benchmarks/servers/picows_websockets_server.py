"""picows.websockets on uvloop: the interface of websockets above picows, with permessage-deflate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import uvloop
from picows.websockets.asyncio import ServerConnection, broadcast, serve

from benchmarks.servers.answers import Answer
from benchmarks.servers.arguments import read_arguments

_everybody: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def answering(answer: Answer) -> Callable[[ServerConnection], Awaitable[None]]:
    async def handle(connection: ServerConnection) -> None:
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
        compression="deflate" if arguments.deflate else None,
        # A server that is stopped between its turns would miss the answers to its pings.
        ping_interval=None,
        backlog=4096,
    ) as server:
        await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
