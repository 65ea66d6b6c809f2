"""Autobahn as an engine without I/O: frames in, callbacks out. The only file that imports autobahn.

The engine never sees an HTTP request: the head was parsed and judged before (`_handshake.py`), and what Autobahn would
have taken from it is set here. It starts no timer, writes to no transport and logs nothing; whoever drives it does.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import txaio

txaio.use_twisted()

from autobahn.exception import PayloadCorruptError, PayloadExceededError  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflateOfferAccept as DeflateAccept  # noqa: E402
from autobahn.websocket.protocol import WebSocketServerFactory, WebSocketServerProtocol  # noqa: E402

#: LZ77 window and memory level for compression: 14 KiB a connection instead of zlib's 256 (design: Defaults).
WINDOW_BITS = 12
MEMORY_LEVEL = 5


class Sink(Protocol):
    """Whom the engine tells; the calls come from within `Engine.step`, `Engine.fail` and the like."""

    def on_write(self, data: bytes) -> None:
        """These bytes are for the peer."""

    def on_message(self, payload: bytes, is_binary: bool) -> None:
        """A whole message came; text is valid UTF-8."""

    def on_ping(self, payload: bytes) -> None:
        """A ping came; it is not answered yet."""

    def on_pong(self, payload: bytes) -> None:
        """A pong came."""

    def on_close(self, code: int | None, reason: str) -> None:
        """The peer starts the closing handshake; answer with `Engine.answer_close`."""

    def on_drop(self) -> None:
        """The connection is over for the engine; nothing more will come of it."""


class _Silence:
    """A logger for Autobahn, which logs what peers do to it: how often would be theirs to say."""

    def debug(self, *_args: Any, **_event: Any) -> None:
        """Drop it."""

    info = warn = error = debug


class _Deflate(PerMessageDeflate):
    """permessage-deflate (RFC 7692) that inflates no more than it is allowed to.

    Autobahn asks zlib for exactly the allowed length, and so can't tell a message that ends there from one whose last
    match goes on beyond: that one arrives cut. One byte more tells.
    """

    _decompressor: Any

    def decompress_message_data(self, data: bytes, max_output_len: int = 0) -> bytes:
        try:
            inflated: bytes = self._decompressor.decompress(data, max(max_output_len, 0) + 1)
        except zlib.error as error:
            raise PayloadCorruptError(str(error)) from error
        if len(inflated) > max_output_len:
            raise PayloadExceededError("inflates beyond the limit")
        return inflated


class Engine(WebSocketServerProtocol):
    """One WebSocket connection, from the accepted handshake on. Made by an `EngineClass`.

    :param sink: is told what happens.
    """

    # Autobahn copies its options from the factory to each connection; ours are class attributes (`engine_class`).
    CONFIG_ATTRS = []  # noqa: RUF012
    log = _Silence()
    logOctets = logFrames = trackTimings = False
    utf8validateIncoming = applyMask = requireMaskedClientFrames = True
    maskServerFrames = echoCloseCodeReason = False
    # A peer that breaks the protocol is told why before it is dropped: Autobahn's suite asks for it.
    failByDrop = False
    autoFragmentSize = openHandshakeTimeout = closeHandshakeTimeout = 0
    autoPingInterval = autoPingTimeout = 0
    peer = ""

    max_fragments: int
    compress: bool
    factory = WebSocketServerFactory(server="")

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self._fragments = 0
        self._message = bytearray()
        self._answering = False
        self._accepted: DeflateAccept | None = None
        #: How many messages have begun to arrive.
        self.begun = 0
        self._connectionMade()

    # What the driver calls

    def open(self, key: str, extensions: str, subprotocol: str | None, headers: Mapping[str, str]) -> None:
        """Accept the opening handshake: writes the 101 (RFC 6455 §4.2.2).

        :param key: the Sec-WebSocket-Key, checked.
        :param extensions: the Sec-WebSocket-Extensions of the request, "" without.
        :param subprotocol: the one to use, out of those offered.
        :param headers: more headers for the response, checked.
        """
        self._wskey = key
        self.websocket_version = 13
        self.websocket_protocols = [] if subprotocol is None else [subprotocol]
        self.websocket_extensions = self._offers(extensions) if self.compress else []
        self.succeedHandshake((subprotocol, headers))
        if self._accepted is not None:
            self._perMessageCompress = _Deflate.create_from_offer_accept(True, self._accepted)

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer; `step` looks at them."""
        self.data += data

    def step(self) -> bool:
        """Take one step: a frame's head, or what is there of its payload.

        :returns: False when there is nothing more to do before more bytes are fed.
        """
        return self.state != self.STATE_CLOSED and bool(self.processData())

    @property
    def inside(self) -> bool:
        """True in the middle of a message or a frame."""
        return self.inside_message or self.current_frame is not None or bool(self.data)

    @property
    def failed(self) -> bool:
        """True once the peer has broken the protocol, or a limit."""
        return bool(self.failedByMe)

    def send(self, payload: bytes, is_binary: bool) -> None:
        """Send one message in one frame."""
        # Not Autobahn's sendMessage: it holds its limit for what comes in against what goes out, after compressing,
        # and so leaves the peer with a broken context.
        compress = self._perMessageCompress
        if compress is not None:
            compress.start_compress_message()
            payload = compress.compress_message_data(payload) + compress.end_compress_message()
        self.sendFrame(opcode=2 if is_binary else 1, payload=payload, rsv=0 if compress is None else 4)

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        self.sendFrame(opcode=9, payload=payload)

    def pong(self, payload: bytes) -> None:
        """Send a pong."""
        self.sendFrame(opcode=10, payload=payload)

    def start_close(self, code: int, reason: bytes) -> None:
        """Send a Close; the peer's answer is followed by `Sink.on_drop`."""
        self.sendCloseFrame(code, reason)

    def answer_close(self, code: int, reason: bytes) -> None:
        """Answer the peer's Close."""
        self._answering = True
        self.sendCloseFrame(code, reason, isReply=True)
        self.dropConnection()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 §7.1.7) for something that the engine can't see."""
        self._fail_connection(code, reason)

    # What Autobahn calls

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self._sink.on_write(data)

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)
        self.begun += 1
        self._fragments = 0
        self._message = bytearray()

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        self._fragments += 1
        if self._fragments > self.max_fragments and not self.failedByMe:
            self.fail(1009, f"a message of more than {self.max_fragments} fragments")

    def onMessageFrameData(self, payload: bytes) -> None:
        # Autobahn keeps a list of what came with each read: some twenty bytes for one, if the peer will have it so.
        if not self.failedByMe:
            self._message += payload

    def onMessageFrameEnd(self) -> None:
        """Nothing: `onMessageFrameData` has put it where it belongs."""

    def onMessageEnd(self) -> None:
        payload, self._message = bytes(self._message), bytearray()
        if not self.failedByMe:
            self._sink.on_message(payload, self.message_is_binary)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        if isReply and not self._answering:
            self._sink.on_close(self.remoteCloseCode, self.remoteCloseReason or "")
        else:
            super().sendCloseFrame(code, reasonUtf8, isReply)

    def dropConnection(self, abort: bool = False) -> None:
        # Autobahn drops right behind its reply to a Close; ours may come later.
        if self.state == self.STATE_CLOSING:
            self.state = self.STATE_CLOSED
            self._sink.on_drop()

    def _onOpen(self) -> None:
        """Nothing: the driver knows."""

    def _onMessageBegin(self, isBinary: bool) -> None:
        self.onMessageBegin(isBinary)

    def _onMessageFrameBegin(self, length: int) -> None:
        self.onMessageFrameBegin(length)

    def _onMessageFrameData(self, payload: bytes) -> None:
        self.onMessageFrameData(payload)

    def _onMessageFrameEnd(self) -> None:
        self.onMessageFrameEnd()

    def _onMessageEnd(self) -> None:
        self.onMessageEnd()

    def _onPing(self, payload: bytes) -> None:
        self._sink.on_ping(payload)

    def _onPong(self, payload: bytes) -> None:
        self._sink.on_pong(payload)

    # Extensions

    def _offers(self, header: str) -> list[tuple[str, dict[str, list[str | bool]]]]:
        """The offers of permessage-deflate that can be accepted: of the others, RFC 7692 §5.1 says to decline them."""
        offers = []
        for name, parameters in self._parseExtensionsHeader(header):
            if name == PerMessageDeflate.EXTENSION_NAME:
                try:
                    PerMessageDeflateOffer.parse(parameters)
                except Exception:  # noqa: S112 - Autobahn raises no narrower one
                    continue
                offers.append((name, parameters))
        return offers

    def perMessageCompressionAccept(self, offers: list[Any]) -> Any:
        offer = offers[0]
        self._accepted = DeflateAccept(
            offer,
            request_max_window_bits=WINDOW_BITS if offer.accept_max_window_bits else 0,
            window_bits=min(WINDOW_BITS, offer.request_max_window_bits or WINDOW_BITS),
            mem_level=MEMORY_LEVEL,
        )
        return self._accepted


def engine_class(*, max_message_size: int, max_frame_size: int, max_fragments: int, compress: bool) -> type[Engine]:
    """Return an `Engine` class with these options.

    :param max_message_size: bytes of a message, inflated; more fails the connection with 1009.
    :param max_frame_size: bytes of a frame; more fails the connection with 1009.
    :param max_fragments: frames of a message; more fail the connection with 1009.
    :param compress: whether permessage-deflate is accepted when offered.
    """
    return type(
        "Engine",
        (Engine,),
        {
            "maxMessagePayloadSize": max_message_size,
            "maxFramePayloadSize": max_frame_size,
            "max_fragments": max_fragments,
            "compress": compress,
        },
    )
