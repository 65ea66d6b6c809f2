"""ASGI applications for uvicorn and daphne: an echo, and one that sends each message to all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_everybody: set[Send] = set()


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send each message back."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        if text is None:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
        else:
            await send({"type": "websocket.send", "text": text})


async def broadcast(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send each message to all."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    _everybody.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = {"type": "websocket.send", "text": event["text"]}
            for one in list(_everybody):
                await one(message)
    finally:
        _everybody.discard(send)
