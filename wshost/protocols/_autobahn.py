"""Autobahn as an engine without I/O: frames in, callbacks out. The only file that imports autobahn.

The engine never sees an HTTP request: the head was parsed, judged and answered before (`_handshake.py`), and where that
leaves Autobahn is set here. It starts no timer, writes to no transport and logs nothing; whoever drives it does.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import txaio

txaio.use_twisted()

from autobahn.exception import PayloadCorruptError, PayloadExceededError  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflateOfferAccept as DeflateAccept  # noqa: E402
from autobahn.websocket.protocol import WebSocketServerFactory, WebSocketServerProtocol  # noqa: E402
from autobahn.websocket.xormasker import create_xor_masker  # type: ignore[attr-defined]  # noqa: E402

from wshost.control import MAX_REASON  # noqa: E402
from wshost.protocols._deflate import MAX_WINDOW_BITS, WINDOW_BITS, Corrupt, Inflater, TooLong  # noqa: E402


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


class _Deflate:
    """permessage-deflate (RFC 7692) as Autobahn asks for it, for messages that come.

    Autobahn's own asks zlib for exactly the allowed length, and so can't tell a message that ends there from one whose
    last match goes on beyond: that one arrives cut. What inflates only together with the four bytes that end a message,
    and what follows a block marked as the last, it drops.
    """

    EXTENSION_NAME = PerMessageDeflate.EXTENSION_NAME

    def __init__(self, inflater: Inflater) -> None:
        self._inflater = inflater

    def start_decompress_message(self) -> None:
        self._inflater.begin()

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        try:
            return self._inflater.add(data)
        except TooLong as error:
            raise PayloadExceededError from error
        except Corrupt as error:
            raise PayloadCorruptError from error

    def end_decompress_message(self) -> None:
        try:
            self._inflater.end()
        except Corrupt as error:
            raise PayloadCorruptError from error


class Engine(WebSocketServerProtocol):
    """One WebSocket connection, from the accepted handshake on. Made by a class that `engine_class` returns.

    :param sink: is told what happens.
    :param inflater: of the connection, where permessage-deflate was agreed on.
    """

    # Autobahn copies its options from the factory to each connection; ours are class attributes (`engine_class`).
    CONFIG_ATTRS = []  # noqa: RUF012
    log = _Silence()
    logOctets = logFrames = trackTimings = False
    utf8validateIncoming = applyMask = requireMaskedClientFrames = True
    maskServerFrames = echoCloseCodeReason = False
    # By this it looks at nothing behind what is wrong; that it drops the connection without a word is overridden.
    failByDrop = True
    autoFragmentSize = openHandshakeTimeout = closeHandshakeTimeout = 0
    autoPingInterval = autoPingTimeout = 0
    # Autobahn's limits count compressed bytes as if they were inflated, before they are: ours are `max_message_size`…
    maxMessagePayloadSize = maxFramePayloadSize = 0
    peer = ""

    max_message_size: int
    max_frame_size: int
    max_fragments: int
    _isMessageCompressed: bool
    _perMessageCompress: Any
    factory = WebSocketServerFactory(server="")

    def __init__(self, sink: Sink, inflater: Inflater | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._message = bytearray()
        self._answering = False
        #: How many messages, and control frames between messages, have arrived.
        self.arrived = 0
        self._connectionMade()
        # Where Autobahn stands when it has answered the handshake.
        self.state = self.STATE_OPEN
        self.websocket_version = 13
        self.inside_message = False
        self.current_frame = None  # type: ignore[assignment]
        if inflater is not None:
            self._perMessageCompress = _Deflate(inflater)
        # Of no use here, and a kilobyte of each connection.
        del self.send_queue

    # What the driver calls

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

    def start_close(self, code: int, reason: bytes) -> None:
        """Send a Close; the peer's answer is followed by `Sink.on_drop`."""
        self.sendCloseFrame(code, reason)

    def answer_close(self, code: int, reason: bytes) -> None:
        """Answer the peer's Close."""
        self._answering = True
        self.sendCloseFrame(code, reason, isReply=True)
        self.dropConnection()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 §7.1.7): say why, unless a Close is out already, and look at nothing more."""
        self.sendCloseFrame(code, reason.encode("ascii", "replace")[:MAX_REASON])
        self.dropConnection()

    def fail_size(self) -> None:
        """Fail the connection for a message that is too large."""
        self.fail(1009, f"a message of more than {self.max_message_size} bytes")

    def fail_payload(self) -> None:
        """Fail the connection for what a message holds (RFC 6455 §8.1)."""
        # Of bad UTF-8 and bad deflate data in one message, which is seen first depends on where the bytes were cut.
        self.fail(1007, "invalid UTF-8 or deflate data")

    # What Autobahn calls

    def _fail_connection(self, code: int = 1002, reason: str = "") -> None:
        self.fail(code, reason)

    def _invalid_payload(self, reason: str) -> bool:
        self.fail_payload()
        return True

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self._sink.on_write(data)

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

    def _onMessageBegin(self, isBinary: bool) -> None:
        self.onMessageBegin(isBinary)
        self._fragments = 0

    def _onMessageFrameBegin(self, length: int) -> None:
        self._fragments += 1
        size = len(self._message) if self._isMessageCompressed else len(self._message) + length
        if size > self.max_message_size:
            self.fail_size()
        elif length > self.max_frame_size:
            self.fail(1009, f"a frame of more than {self.max_frame_size} bytes")
        elif self._fragments > self.max_fragments:
            self.fail(1009, f"a message of more than {self.max_fragments} fragments")

    def _max_message_size_exceeded(self, *_sizes_and_reason: Any) -> None:
        self.fail_size()

    def _onMessageFrameData(self, payload: bytes) -> None:
        # Autobahn keeps a list of what came with each read: some twenty bytes for one, if the peer will have it so.
        self._message += payload

    def _onMessageFrameEnd(self) -> None:
        """Nothing: `_onMessageFrameData` has put it where it belongs."""

    def _onMessageEnd(self) -> None:
        self.arrived += 1
        payload, self._message = bytes(self._message), bytearray()
        self._sink.on_message(payload, self.message_is_binary)

    def _onPing(self, payload: bytes) -> None:
        self.arrived += not self.inside_message
        self._sink.on_ping(payload)

    def _onPong(self, payload: bytes) -> None:
        self.arrived += not self.inside_message
        self._sink.on_pong(payload)


class Agreement(NamedTuple):
    """What was agreed on for permessage-deflate (RFC 7692 §7.1)."""

    #: The Sec-WebSocket-Extensions of the response.
    response: str
    #: The LZ77 windows of what we send, and of what comes.
    server_window_bits: int
    client_window_bits: int
    #: Messages that we send refer back to those before.
    takeover: bool


def negotiate(extensions: str, takeover: bool = True) -> Agreement | None:
    """Agree on extensions (RFC 6455 §9.1).

    :param extensions: the Sec-WebSocket-Extensions of the request.
    :param takeover: whether we want our messages to refer back to those before, where the client doesn't mind.
    :returns: None when there is nothing to agree on.
    """
    parse: Any = WebSocketServerProtocol._parseExtensionsHeader  # noqa: SLF001 - which needs no connection
    for name, parameters in parse(None, extensions):
        if name == PerMessageDeflate.EXTENSION_NAME:
            try:
                offer = PerMessageDeflateOffer.parse(parameters)
            except Exception:  # noqa: S112 - Autobahn raises no narrower one; RFC 7692 §5.1 says to decline these
                continue
            return _accept(offer, takeover)
    return None


def _accept(offer: PerMessageDeflateOffer, takeover: bool) -> Agreement:
    accepted = DeflateAccept(offer, request_max_window_bits=WINDOW_BITS if offer.accept_max_window_bits else 0)
    response: str = accepted.get_extension_string()
    if not takeover and not offer.request_no_context_takeover:
        # A server may say so by itself (RFC 7692 §7.1.1.1), and Autobahn can't.
        response += "; server_no_context_takeover"
    return Agreement(
        response,
        server_window_bits=min(WINDOW_BITS, offer.request_max_window_bits or WINDOW_BITS),
        client_window_bits=WINDOW_BITS if offer.accept_max_window_bits else MAX_WINDOW_BITS,
        takeover=takeover and not offer.request_no_context_takeover,
    )


def xor(data: bytes, key: bytes) -> bytes:
    """Return data masked, or without its mask (RFC 6455 §5.3)."""
    masked: bytes = create_xor_masker(key, len(data)).process(data)
    return masked


def engine_class(*, max_message_size: int, max_frame_size: int, max_fragments: int) -> type[Engine]:
    """Return an `Engine` class with these options.

    :param max_message_size: bytes of a message, inflated; more fails the connection with 1009.
    :param max_frame_size: bytes of a frame, compressed when it is; more fails the connection with 1009.
    :param max_fragments: frames of a message; more fail the connection with 1009.
    """
    return type(
        "Engine",
        (Engine,),
        {
            "max_message_size": max_message_size,
            "max_frame_size": max_frame_size,
            "max_fragments": max_fragments,
        },
    )
