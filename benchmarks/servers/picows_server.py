"""picows on uvloop: a listener in Python; frames are parsed in Cython. Each payload is sent back without a copy."""

from __future__ import annotations

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.servers.arguments import read_arguments

_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)
_everybody: set[WSTransport] = set()


class Echo(WSListener):
    """Sends each frame back. picows gives frames to the listener, and does not join the frames of a message."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in _MESSAGES or frame.msg_type == WSMsgType.CONTINUATION:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


class Broadcast(Echo):
    """Sends each message to all."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        _everybody.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        _everybody.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type not in _MESSAGES:
            super().on_ws_frame(transport, frame)
            return
        kind, payload = frame.msg_type, frame.get_payload_as_memoryview()
        for one in _everybody:
            one.send(kind, payload)


async def main() -> None:
    arguments = read_arguments()
    listener = Broadcast if arguments.broadcast else Echo

    def accept(_request: WSUpgradeRequest) -> WSListener:
        return listener()

    server = await ws_create_server(accept, "127.0.0.1", arguments.port, ssl=arguments.tls(), backlog=4096)
    await server.serve_forever()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
