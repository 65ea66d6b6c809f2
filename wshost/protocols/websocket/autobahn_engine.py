"""Autobahn as an engine without I/O: frames in, callbacks out. The only file that imports Autobahn.

The engine never sees an HTTP request: `handshake.py` has answered the request, and the engine starts in the open state.
It starts no timer, writes to no transport and logs nothing. Its driver does all that.
"""

from __future__ import annotations

from typing import Any

import txaio

txaio.use_twisted()

from autobahn.exception import PayloadCorruptError, PayloadExceededError  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflate  # noqa: E402
from autobahn.websocket.protocol import WebSocketServerFactory, WebSocketServerProtocol  # noqa: E402
from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]  # noqa: E402

from wshost.messages import MAX_REASON, sendable  # noqa: E402
from wshost.protocols.websocket.deflate import Corrupt, Inflater, TooLong  # noqa: E402
from wshost.protocols.websocket.sink import EngineSink  # noqa: E402


class _Silence:
    """A logger for Autobahn that drops everything: peers could fill the log."""

    def debug(self, *_args: Any, **_event: Any) -> None:
        """Drop the event."""

    info = warn = error = debug


class _Deflate:
    """permessage-deflate (RFC 7692) of incoming messages, with Autobahn's interface.

    Autobahn's own class asks zlib for exactly the allowed length, so a longer message may arrive truncated. It also
    drops the output of the four bytes that end a message, and all input after a final block.
    """

    EXTENSION_NAME = PerMessageDeflate.EXTENSION_NAME

    def __init__(self, inflater: Inflater) -> None:
        self._inflater = inflater
        #: The content of a message that is too long, up to the limit.
        self.exceeding = b""

    def start_decompress_message(self) -> None:
        self._inflater.begin()

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        try:
            return self._inflater.add(data)
        except TooLong as error:
            self.exceeding = error.inflated
            raise PayloadExceededError from error
        except Corrupt as error:
            raise PayloadCorruptError from error

    def end_decompress_message(self) -> None:
        try:
            self._inflater.end()
        except Corrupt as error:
            raise PayloadCorruptError from error


class Engine(WebSocketServerProtocol):
    """One WebSocket connection after its handshake. `engine_class` returns subclasses with limits.

    :param sink: receives what the engine reports.
    :param inflater: the connection's, if permessage-deflate was agreed on.
    """

    # Autobahn would copy its options from the factory to each connection. Here they are class attributes instead.
    CONFIG_ATTRS = []  # noqa: RUF012
    log = _Silence()
    logOctets = logFrames = trackTimings = False
    utf8validateIncoming = applyMask = requireMaskedClientFrames = True
    maskServerFrames = echoCloseCodeReason = False
    # Stop parsing at the first error. `fail` prevents that Autobahn then drops the connection without a Close.
    failByDrop = True
    autoFragmentSize = openHandshakeTimeout = closeHandshakeTimeout = 0
    autoPingInterval = autoPingTimeout = 0
    # Off, as Autobahn's limits count compressed bytes. The limits of wshost are `max_message_size` and the next three.
    maxMessagePayloadSize = maxFramePayloadSize = 0
    peer = ""

    max_message_size: int
    max_frame_size: int
    max_deflated_size: int
    max_fragments: int
    _isMessageCompressed: bool
    _perMessageCompress: Any
    factory = WebSocketServerFactory(server="")

    def __init__(self, sink: EngineSink, inflater: Inflater | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._message = bytearray()
        #: How many messages, and control frames between messages, have arrived.
        self.arrived = 0
        self._connectionMade()
        # The state of Autobahn after an accepted handshake.
        self.state = self.STATE_OPEN
        self.websocket_version = 13
        self.inside_message = False
        self.current_frame = None  # type: ignore[assignment]
        if inflater is not None:
            self._perMessageCompress = _Deflate(inflater)
        # Unused; it takes a kilobyte per connection.
        del self.send_queue

    # What the driver calls

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer, for `step` to parse."""
        self.data += data

    def step(self) -> bool:
        """Parse one frame's head, or the available part of its payload.

        :returns: False when more bytes are needed.
        """
        return self.state != self.STATE_CLOSED and bool(self.processData())

    @property
    def inside(self) -> bool:
        """Whether a message or a frame is incomplete."""
        return self.inside_message or self.current_frame is not None or bool(self.data)

    def start_close(self, code: int | None, reason: bytes) -> None:
        """Send a Close; with no code, an empty one. After the peer's answer, `EngineSink.on_drop` is called."""
        self.sendCloseFrame(code, reason)

    def answer_close(self, code: int | None, reason: bytes) -> None:
        """Answer the peer's Close; with no code, by an empty one."""
        self.sendCloseFrame(code, reason, isReply=True)
        self.dropConnection()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 §7.1.7): send a Close, unless one was sent, and parse nothing more."""
        self._sink.on_fail(code, reason)
        self.sendCloseFrame(code, reason.encode("ascii", "replace")[:MAX_REASON])
        self.dropConnection()

    def fail_size(self) -> None:
        """Fail the connection for a message that is too large."""
        self.fail(1009, f"a message of more than {self.max_message_size} bytes")

    def fail_payload(self) -> None:
        """Fail the connection for the content of a message (RFC 6455 §8.1)."""
        # One reason for both faults: if a message has both, the first one seen depends on how the bytes were split.
        self.fail(1007, "invalid UTF-8 or deflate data")

    # What Autobahn calls

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        self.fail(code, reason)

    def _invalid_payload(self, reason: str) -> bool:
        self.fail_payload()
        return True

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self._sink.on_write(data)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        # Autobahn's own method answers at once, and does not know code 1014. Here the driver answers, maybe later.
        if code is not None and not sendable(code):
            self.fail(1002, f"invalid close code {code}")
            return True
        try:
            reason = (reasonRaw or b"").decode()
        except UnicodeDecodeError:
            self.fail_payload()
            return True
        if self.state == self.STATE_OPEN:
            self._sink.on_close(code, reason)
        else:
            self.dropConnection()
        return None

    def dropConnection(self, abort: bool = False) -> None:
        if self.state == self.STATE_CLOSING:
            self.state = self.STATE_CLOSED
            self._sink.on_drop()

    def _onMessageBegin(self, isBinary: bool) -> None:
        self.onMessageBegin(isBinary)
        self._fragments = 0

    def _onMessageFrameBegin(self, length: int) -> None:
        self._fragments += 1
        if self._isMessageCompressed:
            # The size of the message is known only as it is inflated.
            size, most = len(self._message), self.max_deflated_size
        else:
            size, most = len(self._message) + length, self.max_frame_size
        if size > self.max_message_size:
            self.fail_size()
        elif length > most:
            self.fail(1009, f"a frame of more than {most} bytes")
        elif self._fragments > self.max_fragments:
            self.fail(1009, f"a message of more than {self.max_fragments} fragments")

    def _max_message_size_exceeded(self, *_sizes_and_reason: Any) -> None:
        # If a message is both too long and invalid UTF-8, the first fault in it counts, however the bytes were split.
        if self.message_is_binary or self.utf8validator.validate(self._perMessageCompress.exceeding)[0]:
            self.fail_size()
        else:
            self.fail_payload()

    def _onMessageFrameData(self, payload: bytes) -> None:
        # Autobahn's own method keeps a list of pieces. If a peer sends single bytes, it takes twenty times the memory.
        self._message += payload

    def _onMessageFrameEnd(self) -> None:
        """Do nothing: `_onMessageFrameData` has added the payload."""

    def _onMessageEnd(self) -> None:
        self.arrived += 1
        payload, self._message = bytes(self._message), bytearray()
        # The inflated size counts.
        self._sink.on_message(
            ("binary", payload) if self.message_is_binary else ("text", payload.decode()), len(payload)
        )

    def _onPing(self, payload: bytes) -> None:
        self.arrived += not self.inside_message
        self._sink.on_ping(payload)

    def _onPong(self, payload: bytes) -> None:
        self.arrived += not self.inside_message
        self._sink.on_pong(payload)


def xor(data: bytes, key: bytes) -> bytes:
    """Mask or unmask data (RFC 6455 §5.3)."""
    masked: bytes = create_xor_masker(key, len(data)).process(data)
    return masked


def engine_class(
    *, max_message_size: int, max_frame_size: int, max_fragments: int, max_deflated_size: int | None = None
) -> type[Engine]:
    """Return an `Engine` class with these limits.

    :param max_message_size: bytes of a message, inflated; more fails the connection with 1009.
    :param max_frame_size: bytes of a frame; more fails the connection with 1009.
    :param max_fragments: frames of a message; more fail the connection with 1009.
    :param max_deflated_size: bytes of a frame of a deflated message, before inflating; `max_frame_size` by default.
    """
    return type(
        "Engine",
        (Engine,),
        {
            "max_message_size": max_message_size,
            "max_frame_size": max_frame_size,
            "max_deflated_size": max_frame_size if max_deflated_size is None else max_deflated_size,
            "max_fragments": max_fragments,
        },
    )
