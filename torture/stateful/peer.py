"""One peer of the server, down to the byte. It keeps to RFC 6455 by itself, and breaks it where a step says so.

Knows no handler, and not what should come.
"""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate

from tests.memory import MemoryHost, MemoryTransport, request
from torture.peers import CLOSE, CONTINUATION, PONG, frame
from wshost.protocols.websocket.driver import HEARTBEAT

_TAIL = b"\0\0\xff\xff"


class Wire(MemoryTransport):
    """A transport that meets the peer's FIN behind the peer's last bytes, and not while it is paused."""

    #: Whether the peer has sent FIN; and whether that has been met.
    ended = met = False

    def end(self) -> None:
        """The peer has sent FIN."""
        self.ended = True
        self._read()

    def _read(self) -> None:
        super()._read()
        open_still = self.producing and not (self.aborted or self.gone or self._unread)
        if self.ended and open_still and not self.met:
            self.met = True
            self._protocol.readConnectionLost()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self.ended and not self.met:
            self._clock.callLater(0, self._read)


class Peer:
    """One peer.

    :param number: asks for the path of this name.
    :param deflate: offers permessage-deflate.
    """

    def __init__(self, host: MemoryHost, number: int, deflate: bool) -> None:
        self.deflate = deflate
        address = IPv4Address("TCP", "127.0.0.1", 1_024 + number)
        protocol: Any = host.hub.factory().buildProtocol(address)
        self.wire = Wire(host.reactor, protocol, address)
        #: The status of the server's response; 0 until it is there.
        self.status = 0
        #: What has come: ("text", str), ("binary", bytes), ("ping", bytes), ("pong", bytes); and the Closes.
        self.came: list[tuple[str, Any]] = []
        self.closes: list[tuple[int, str]] = []
        #: Whether permessage-deflate was agreed on; whether this peer answers a Close, as it must.
        self.compressed = False
        self.polite = True
        #: What a step has not sent yet, of bytes that it cut.
        self.rest = b""
        #: Whether this peer has sent its Close.
        self.has_closed = False
        self._head = b""
        self._frames: Connection | None = None
        self._message: list[Any] = []
        headers = {"Sec-WebSocket-Extensions": "permessage-deflate"} if deflate else {}
        self.request = request(f"/{number}", headers)
        protocol.makeConnection(self.wire)

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""
        return self.wire.gone

    # Sending

    def push(self, data: bytes, cut: int = 0) -> None:
        """Send what an earlier step has left, and this; leave out its last bytes.

        :param cut: so many bytes are left for later.
        """
        data = self.rest + data
        here = max(0, len(data) - cut)
        self.rest = data[here:]
        if here:
            self.wire.receive(data[:here])

    def message(
        self, opcode: int, payload: bytes, pieces: int = 1, between: bytes = b"", deflate: bool = False
    ) -> bytes:
        """Return a message in frames.

        :param pieces: in so many fragments.
        :param between: control frames between the first two.
        :param deflate: compressed, if that was agreed.
        """
        compressed = deflate and self.compressed
        if compressed:
            deflater = zlib.compressobj(wbits=-15)
            payload = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)
        size = -(-len(payload) // pieces) or 1
        parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
        frames = [
            frame(CONTINUATION if index else opcode, part, fin=index == len(parts) - 1, rsv1=compressed and not index)
            for index, part in enumerate(parts)
        ]
        return frames[0] + between + b"".join(frames[1:])

    def close(self, payload: bytes, cut: int = 0) -> None:
        """Send a Close."""
        self.has_closed = True
        self.push(frame(CLOSE, payload), cut)

    def end(self) -> None:
        """Send FIN."""
        self.push(b"")
        self.wire.end()

    def reset(self) -> None:
        """Send RST."""
        self.rest = b""
        self.wire.lose(ConnectionLost())

    # Receiving

    def read_again(self) -> None:
        """Read, after a pause."""
        self.wire.reading = True
        self.wire.drain()

    def react(self) -> bool:
        """Take what has come, and do what a peer does then; return whether anything was to be done.

        :raises AssertionError: when it breaks the protocol.
        """
        data = self.wire.take()
        if data:
            self._take(data)
        if self.wire.half_closed and self.wire.reading and not (self.wire.ended or self.gone or self.rest):
            self.end()
            return True
        return bool(data)

    def _take(self, data: bytes) -> None:
        assert not self.closes, f"{data[:40]!r} follows a Close"
        if self._frames is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            assert not self.status or self.status == 101, "a second response"
            self.status = int(head[9:12])
            if self.status != 101:
                return
            extensions: list[Extension] = []
            _, offered, answer = head.lower().partition(b"sec-websocket-extensions: ")
            if offered:
                self.compressed = True
                extension = PerMessageDeflate()
                extension.finalize(answer.partition(b"\r\n")[0].decode())
                extensions.append(extension)
            self._frames = Connection(ConnectionType.CLIENT, extensions)
        self._frames.receive_data(data)
        for event in self._frames.events():
            self._handle(event)

    def _handle(self, event: Any) -> None:
        assert not self.closes, f"{event} follows a Close"
        match event:
            case TextMessage() | BytesMessage():
                self._message.append(event.data)
                if event.message_finished:
                    text = isinstance(event, TextMessage)
                    whole = "".join(self._message) if text else b"".join(self._message)
                    self.came.append(("text" if text else "binary", whole))
                    self._message.clear()
            case Ping() if bytes(event.payload) == HEARTBEAT:
                if not self.has_closed:
                    self.push(frame(PONG, HEARTBEAT))
            case Ping():
                self.came.append(("ping", bytes(event.payload)))
            case Pong():
                self.came.append(("pong", bytes(event.payload)))
            case CloseConnection():
                self.closes.append((event.code, event.reason or ""))
                if self.polite and not self.has_closed:
                    self.close(b"" if event.code == 1005 else event.code.to_bytes(2, "big"))
