"""python-socketio: an asynchronous server with its manager for Redis. Subscribers are all clients."""

from __future__ import annotations

import os

import socketio

server = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(os.environ["SCALE_REDIS"]),
    # Clients that only count would miss these.
    ping_interval=86_400,
)


@server.on("publish")  # type: ignore[untyped-decorator]
async def publish(_sid: str, count: int, size: int) -> None:
    """Publish to all."""
    for _ in range(count):
        await server.emit("m", "x" * size)


app = socketio.ASGIApp(server)
