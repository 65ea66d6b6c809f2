"""Sends one connection a message from a program on asyncio, and says what became of it."""

import asyncio
import sys

import wshost


async def main(broker, ref, text):
    async with wshost.connect_async(broker) as cluster:
        outcome = await cluster.send(ref, text, confirm=True)
        print(outcome.value)


asyncio.run(main(*sys.argv[1:]))
