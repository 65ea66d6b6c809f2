"""What our transports stand on in their tests: an event loop that runs by the turn, a port, and a connected socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wshost.fastnet.port import Loop


class Reactor:
    """Has an event loop, and ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncioEventloop = loop
        self.triggers: list[Any] = []

    def addSystemEventTrigger(self, phase: str, event: str, call: Any) -> None:
        assert (phase, event) == ("during", "shutdown")
        self.triggers.append(call)


class Port:
    """What a transport needs of a port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None = None) -> None:
        self.reactor = Reactor(loop)
        self.loop = Loop(self.reactor)
        self.context = context
        self.protocols: tuple[bytes, ...] = ()


def turn(loop: asyncio.AbstractEventLoop, times: int = 4) -> None:
    """Let the loop run what is due, and see what its sockets have: so many times."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        for _ in range(times):
            loop.call_soon(loop.stop)
            loop.run_forever()
    finally:
        asyncio._set_running_loop(outer)


class Recorder(Protocol):
    """Notes what it is told, and does what a test has it do."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received = b""
        self.on_data: Any = lambda data: None
        self.on_loss: Any = lambda: None
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.on_data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")
        self.reason = reason
        self.on_loss()

    @property
    def lost(self) -> Any:
        """By what kind of reason it was lost; None while it is not."""
        return None if self.reason is None else type(self.reason.value)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Notes the ends of both halves, too."""

    def __init__(self) -> None:
        super().__init__()
        self.on_end: Any = lambda: None

    def readConnectionLost(self) -> None:
        self.events.append("read")
        self.on_end()

    def writeConnectionLost(self) -> None:
        self.events.append("write")
        self.on_end()


class Producer:
    """Notes what a consumer asks of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.on_resume: Any = lambda: None
        self.on_pause: Any = lambda: None
        self.on_stop: Any = lambda: None

    def pauseProducing(self) -> None:
        self.asked.append("pause")
        self.on_pause()

    def resumeProducing(self) -> None:
        self.asked.append("resume")
        self.on_resume()

    def stopProducing(self) -> None:
        self.asked.append("stop")
        self.on_stop()


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes no more."""
    with suppress(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))


def everything(peer: socket.socket) -> bytes:
    """What a peer that does not block can read now; what it reads last is empty when that is the end."""
    data = b""
    try:
        while more := peer.recv(1 << 16):
            data += more
    except BlockingIOError:
        return data
    return data + b"<end>"
