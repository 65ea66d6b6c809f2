"""Tornado on uvloop, by asyncio, on which Tornado runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvloop
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from benchmarks.servers.arguments import read_arguments

_arguments = read_arguments()
_everybody: set[WebSocketHandler] = set()


class Echo(WebSocketHandler):
    """Sends each message back."""

    def get_compression_options(self) -> dict[str, Any] | None:
        return {"compression_level": 1} if _arguments.deflate else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, isinstance(message, bytes))


class Broadcast(Echo):
    """Sends each message to all."""

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        _everybody.add(self)

    def on_close(self) -> None:
        _everybody.discard(self)

    async def on_message(self, message: str | bytes) -> None:
        for one in _everybody:
            one.write_message(message, isinstance(message, bytes))


async def main() -> None:
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    application = Application([("/", Broadcast if _arguments.broadcast else Echo)])
    HTTPServer(application, ssl_options=_arguments.tls()).listen(_arguments.port, "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
