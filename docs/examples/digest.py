"""Computes slow hashes in a thread pool. While one is computed, only its own client waits."""

from hashlib import scrypt

from twisted.internet.threads import deferToThread


async def init(options):
    return None


async def handle(message, state):
    match message:
        case ("text", password):
            key = await deferToThread(scrypt, password.encode(), salt=b"docs", n=2**14, r=8, p=1)
            return ("reply", key.hex(), state)
    return ("noreply", state)
