"""Random frames, cut anywhere: wshost reads from them what an independent parser, wsproto, reads.

``WSHOST_TEST_EXAMPLES=100000 pytest tests/integration/test_agreement_with_wsproto.py``
tries so many scripts in each test instead of the few that every run of the tests has time for.

Where wsproto is not the judge we want, `CORRECTIONS` says why, and shows it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, frame_protocol
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, RsvBits

from tests.memory import MemoryHost, Peer
from tests.regressions.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TAIL, TEXT
from wshost.protocols.websocket.driver import HEARTBEAT

EXAMPLES = int(os.environ.get("WSHOST_TEST_EXAMPLES", "300"))

#: A close code.
BAD_GATEWAY = 1014

#: Bytes of a message.
LIMIT = 1 << 20

DEFLATE = "permessage-deflate"


# What is sent


def encode(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"\x37\xfa\x21\x3d"
) -> bytes:
    """Return a frame, right or wrong (RFC 6455 §5.2)."""
    return head(opcode, len(payload), fin=fin, rsv=rsv) + mask + masked(payload, mask)


def head(opcode: int, size: int, *, fin: bool = True, rsv: int = 0, form: int | None = None) -> bytes:
    """Return the first bytes of a frame, up to its mask.

    :param form: 126 or 127 for a length in 16 or 64 bits where another form were right.
    """
    if form is None:
        form = size if size < 126 else 126 if size < 1 << 16 else 127
    length = size.to_bytes({126: 2, 127: 8}.get(form, 0), "big") if form >= 126 else b""
    return bytes(((0x80 if fin else 0) | rsv | opcode, 0x80 | form)) + length


def masked(payload: bytes, mask: bytes) -> bytes:
    """Mask a payload (RFC 6455 §5.3)."""
    key: bytes = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


class Deflater:
    """A client's side of permessage-deflate."""

    def __init__(self) -> None:
        self._compressor: Any = None

    def compress(self, data: bytes, *, fresh: bool, last: bool) -> bytes:
        """Return a compressed message (RFC 7692 §7.2.1).

        :param fresh: without what was said before.
        :param last: the block says that it is the last of its stream (§7.2.3.4), so that the next begins another.
        """
        if self._compressor is None or fresh:
            self._compressor = zlib.compressobj(wbits=-15)
        compressed: bytes = self._compressor.compress(data)
        if last:
            compressed += self._compressor.flush() + b"\0"
            self._compressor = None
        else:
            compressed += self._compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]
        return compressed


@dataclass(frozen=True)
class Frame:
    """A control frame, or anything else that is sent as it is."""

    data: bytes

    def encode(self, deflater: Deflater | None) -> bytes:
        return self.data


@dataclass(frozen=True)
class Message:
    """A message, whole or in fragments with control frames in between, with an end or without."""

    opcode: int
    payload: bytes
    #: Where it is cut, from 0 to 1, and what is sent there.
    cuts: Sequence[tuple[float, bytes]] = ()
    mask: bytes = b"\0\0\0\0"
    compressed: bool = False
    fresh: bool = False
    last: bool = False
    fin: bool = True
    #: A bit of the compressed payload that is changed, from 0 to 1.
    flipped: float | None = None
    #: Is the payload compressed already, or something like that?
    raw: bool = False

    def encode(self, deflater: Deflater | None) -> bytes:
        payload, rsv = self.payload, 0
        if self.compressed and deflater is not None:
            rsv = RSV1
            if not self.raw:
                payload = deflater.compress(payload, fresh=self.fresh, last=self.last)
            if self.flipped is not None and payload:
                bit = int(self.flipped * (len(payload) * 8 - 1))
                payload = bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(payload))
        parts = []
        start, opcode = 0, self.opcode
        for cut, between in sorted(self.cuts):
            end = int(cut * len(payload))
            parts += [encode(opcode, payload[start:end], fin=False, rsv=rsv, mask=self.mask), between]
            start, opcode, rsv = end, CONTINUATION, 0
        return b"".join([*parts, encode(opcode, payload[start:], fin=self.fin, rsv=rsv, mask=self.mask)])


@dataclass(frozen=True)
class Script:
    """All that one client sends."""

    compress: bool
    items: Sequence[Frame | Message]
    #: Where the bytes are cut, from 0 to 1.
    cuts: Sequence[float] = field(default=())

    def encode(self) -> bytes:
        deflater = Deflater() if self.compress else None
        return b"".join(item.encode(deflater) for item in self.items)

    def chunks(self) -> Iterator[bytes]:
        data = self.encode()
        ends = sorted({int(cut * len(data)) for cut in self.cuts} | {len(data)})
        for start, end in zip([0, *ends], ends, strict=False):
            if end > start:
                yield data[start:end]


# What is seen


class Seen(NamedTuple):
    """What a parser sees."""

    #: The messages, pings and pongs, as a handler gets them.
    messages: list[Any]
    #: The peer's Close, as a handler gets it; or the code of ours, when the peer has failed; None: it is open still.
    end: tuple[int | None, str] | int | None


class Recorder:
    """A handler that echoes."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def init(self, options: Any) -> None:
        pass

    def handle(self, message: Any, state: None) -> Any:
        if message != "connection_close":
            self.messages.append(message)
        if message[0] in ("text", "binary"):
            return "reply", message[1], state
        return "noreply", state


def wshost(script: Script, chunks: Sequence[bytes]) -> tuple[Seen, bytes]:
    """Return what wshost sees, and what it has sent."""
    recorder = Recorder()
    options = {"max_message_size": LIMIT, "compress": True, "ping_interval": 0}
    peer = MemoryHost(recorder, websocket_options=options).open(
        headers={"Sec-WebSocket-Extensions": DEFLATE if script.compress else ""}
    )
    for chunk in chunks:
        peer.send(chunk)
    sent = peer.take()
    settle(peer)
    sent += peer.transport.take()
    messages = recorder.messages
    end: Any = None
    if peer.transport.half_closed:
        if messages and messages[-1][0] == "close":
            end = messages.pop()[1]
        else:
            end = next(event.code for event in client(script, sent) if isinstance(event, CloseConnection))
    return Seen(messages, end), sent


def settle(peer: Peer) -> None:
    """Let it have all the turns that it wants."""
    while not peer.transport.producing:
        peer.turn()


def client(script: Script, data: bytes) -> list[Any]:
    """Return what a client by wsproto reads."""
    deflate = PerMessageDeflate()
    deflate.finalize(DEFLATE)
    connection = Connection(ConnectionType.CLIENT, [deflate] if script.compress else [])
    connection.receive_data(data)
    return list(connection.events())


_process_close = frame_protocol.FrameProtocol._process_close


def process_close(protocol: Any, close: Any) -> Any:
    """As wsproto does, but for 1014, which IANA's registry has, and wsproto takes for unknown."""
    payload = bytes(close.payload)
    if payload[:2] != struct.pack("!H", BAD_GATEWAY):
        return _process_close(protocol, close)
    # What is checked of the reason is the same.
    known: Any = _process_close(protocol, close._replace(payload=struct.pack("!H", 1000) + payload[2:]))
    return known._replace(payload=(BAD_GATEWAY, known.payload[1]))


def knowing_all_codes() -> Any:
    """Let wsproto know them."""
    return patch.object(frame_protocol.FrameProtocol, "_process_close", process_close)


def wsproto(script: Script, chunks: Sequence[bytes], *, corrected: bool = True) -> Seen:
    """Return what wsproto sees; or, corrected, what it should."""
    with knowing_all_codes() if corrected else nullcontext():
        return _wsproto(script, chunks, corrected)


def _wsproto(script: Script, chunks: Sequence[bytes], corrected: bool) -> Seen:
    extensions: list[Extension] = [Limit()] if corrected else []
    if script.compress:
        extensions.append(Deflate() if corrected else PerMessageDeflate())
        extensions[-1].finalize(DEFLATE)
    connection = Connection(ConnectionType.SERVER, extensions)
    messages: list[Any] = []
    texts: list[str] = []
    parts: list[bytes] = []
    end: Any = None
    for chunk in chunks:
        if end is not None:
            break
        connection.receive_data(chunk)
        for event in connection.events():
            match event:
                case TextMessage():
                    texts.append(event.data)
                    if event.message_finished:
                        messages.append(("text", "".join(texts)))
                        texts = []
                case BytesMessage():
                    parts.append(bytes(event.data))
                    if event.message_finished:
                        messages.append(("binary", b"".join(parts)))
                        parts = []
                case Ping():
                    messages.append(("ping", bytes(event.payload)))
                case Pong() if event.payload != HEARTBEAT or not corrected:
                    messages.append(("pong", bytes(event.payload)))
                case CloseConnection() if connection.state is ConnectionState.REMOTE_CLOSING:
                    end = (None if event.code == CloseReason.NO_STATUS_RCVD else int(event.code), event.reason)
                case CloseConnection():
                    end = int(event.code)
    return Seen(messages, end)


class Limit(Extension):
    """wsproto has no limits; the size of a message is one."""

    name = "limit"

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        raise NotImplementedError

    def frame_inbound_header(self, proto: Any, opcode: Any, rsv: Any, payload_length: int) -> Any:
        too_big = payload_length > LIMIT
        return (
            CloseReason.MESSAGE_TOO_BIG if too_big else super().frame_inbound_header(proto, opcode, rsv, payload_length)
        )


class Deflate(PerMessageDeflate):
    """wsproto's permessage-deflate, with the `CORRECTIONS`."""

    #: What was inflated last.
    _said = b""

    def frame_inbound_header(self, proto: Any, opcode: Any, rsv: Any, payload_length: int) -> Any:
        if not opcode.iscontrol():
            return super().frame_inbound_header(proto, opcode, rsv, payload_length)
        self._inbound_is_compressible = False
        return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else RsvBits(False, False, False)

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> Any:
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        inflated = b""
        # Behind a final block another stream begins, with the window of the last.
        while data:
            if self._decompressor is None or self._decompressor.eof:
                self._decompressor = zlib.decompressobj(-15, zdict=self._said)
            try:
                piece = self._decompressor.decompress(bytes(data))
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            inflated += piece
            self._said = (self._said + piece)[-32_768:]
            data = self._decompressor.unused_data
        return inflated

    def frame_inbound_complete(self, proto: Any, fin: bool) -> Any:
        if not fin or not self._inbound_is_compressible:
            return None
        compressed, self._inbound_compressed = self._inbound_compressed, None
        if not compressed:
            return None
        decompressor: Any = self._decompressor
        if not decompressor.eof:
            try:
                rest = decompressor.decompress(TAIL)
                # Behind an empty block there may be another, a final one.
                more = decompressor.copy().decompress(b"\3\0") if not decompressor.eof else b""
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if rest or more:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if decompressor.eof:
            if decompressor.unused_data:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            self._decompressor = zlib.decompressobj(-15, zdict=self._said)
        return None


HELLO = Message(TEXT, b"hello hello", compressed=True)

#: What wsproto 1.3 sees otherwise: why that is not what we want, a script, and what it sees there.
CORRECTIONS = {
    "RFC 7692 §6: a control frame between fragments does not end the message's compression": (
        Script(True, [Message(TEXT, b"hello hello", [(0.5, encode(PING))], compressed=True)]),
        Seen([("ping", b"")], 1007),
    ),
    "RFC 7692 §7.2.1: a message ends with an empty block, so one that ends within a block is broken": (
        Script(True, [Message(BINARY, b"\x00\x09\x00\xf6\xffhello", compressed=True, raw=True)]),
        Seen([("binary", b"hello" + TAIL)], None),
    ),
    "RFC 7692 §7.2.3.4: behind the last block of a stream the next message begins another": (
        Script(True, [Message(TEXT, b"hello", compressed=True, last=True)] * 2),
        Seen([("text", "hello")], 1007),
    ),
    "RFC 7692 §7.2.1: or more of the same message": (
        Script(True, [Message(TEXT, bytes.fromhex("f348cdc9c90700 f348cdc9c9070000"), compressed=True, raw=True)]),
        Seen([("text", "Hello")], None),
    ),
    "RFC 6455 §10.4: there are limits": (
        Script(False, [Frame(head(BINARY, LIMIT + 1) + b"\0\0\0\0")]),
        Seen([], None),
    ),
    "IANA's registry of close codes: 1014 is one": (
        Script(False, [Frame(encode(CLOSE, struct.pack("!H", BAD_GATEWAY)))]),
        Seen([], 1002),
    ),
    "the pong to a heartbeat of ours is not for the handler": (
        Script(False, [Frame(encode(PONG, HEARTBEAT))]),
        Seen([("pong", HEARTBEAT)], None),
    ),
}


# What may be sent

# Around each change of the length's form, and of what is looked at in one step.
sizes = st.sampled_from([0, 1, 124, 125, 126, 127, 8_186, 8_192, 65_535, 65_536])
texts = st.text(max_size=40).map(str.encode) | sizes.map(lambda size: "ö".encode() * (size // 2) + b"o" * (size % 2))
binaries = st.binary(max_size=40) | sizes.map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256))
masks = st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff"]) | st.binary(min_size=4, max_size=4)
fractions = st.floats(0, 1)
controls = st.builds(encode, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=masks)
cuts = st.lists(st.tuples(fractions, st.just(b"") | controls), max_size=4)

how: dict[str, Any] = {
    "cuts": cuts,
    "mask": masks,
    "compressed": st.booleans(),
    "fresh": st.booleans(),
    "last": st.integers(0, 9).map(lambda n: n == 0),
}
messages = st.builds(Message, st.just(TEXT), texts, **how) | st.builds(Message, st.just(BINARY), binaries, **how)
frames = controls.map(Frame)

close_codes = st.sampled_from(
    [0, 1, 999, *range(1000, 1018), 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535]
) | st.integers(0, 65535)
reasons = st.text(max_size=30).map(str.encode) | st.binary(max_size=123)
closes = st.just(encode(CLOSE)) | st.builds(
    lambda code, reason, mask: encode(CLOSE, struct.pack("!H", code) + reason, mask=mask), close_codes, reasons, masks
)

not_utf_8 = st.sampled_from(
    [
        b"\x80",
        b"\xc0\xaf",
        b"\xc3",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"\xf4\x90\x80\x80",
        b"\xf8",
        b"\xff",
    ]
)
broken_texts = st.builds(lambda before, wrong, after: before + wrong + after, texts, not_utf_8, texts)

beginning = Message(BINARY, b"begun", fin=False)

DATA, CONTROL = st.sampled_from([TEXT, BINARY]), st.sampled_from([CLOSE, PING, PONG])
EMPTY_MASK = b"\0\0\0\0"


def unmasked(opcode: int, payload: bytes) -> bytes:
    return bytes((0x80 | opcode, len(payload))) + payload


def long_way(form: int, size: int) -> bytes:
    return head(BINARY, size, form=form) + EMPTY_MASK + bytes(size)


def announced(size: int) -> bytes:
    return head(BINARY, size) + EMPTY_MASK


wrong_anywhere = st.one_of(
    st.builds(encode, st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), binaries),
    st.builds(encode, DATA, rsv=st.sampled_from([0x10, 0x20, 0x30])),
    st.builds(encode, CONTROL, rsv=st.sampled_from([0x10, 0x20, 0x40, 0x70])),
    st.builds(encode, CONTROL, fin=st.just(False)),
    st.builds(encode, CONTROL, st.just(b"x" * 126)),
    st.builds(unmasked, DATA | CONTROL, st.binary(max_size=125)),
    st.just(encode(CLOSE, b"\x03")),
)
wrong_lengths = st.one_of(
    st.builds(long_way, st.just(126), st.integers(0, 125)),
    st.builds(long_way, st.just(127), st.sampled_from([0, 125, 126, 65_535])),
    st.builds(announced, st.integers(LIMIT + 1, (1 << 64) - 1)),
    st.builds(announced, st.sampled_from([LIMIT + 1, 1 << 62, (1 << 63) - 1, 1 << 63])),
)
wrong_messages = st.one_of(
    st.builds(Message, st.just(TEXT), broken_texts, **how),
    st.builds(Message, st.just(BINARY), st.binary(max_size=60), compressed=st.just(True), raw=st.just(True), cuts=cuts),
    st.builds(
        Message, st.sampled_from([TEXT, BINARY]), texts, flipped=fractions, **{**how, "compressed": st.just(True)}
    ),
    st.builds(Message, st.just(CONTINUATION), binaries),
)
ends = st.one_of(
    st.just([]),
    closes.map(lambda data: [Frame(data)]),
    (wrong_anywhere | wrong_lengths).map(lambda data: [Frame(data)]),
    wrong_messages.map(lambda message: [message]),
    (wrong_anywhere | closes | st.just(encode(TEXT, b"x"))).map(lambda data: [beginning, Frame(data)]),
    st.just([Message(BINARY, b"begun", compressed=True, fin=False), Frame(encode(CONTINUATION, b"x", rsv=RSV1))]),
)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Some messages and control frames, then something that is wrong, or an end, and more behind that."""
    items = draw(st.lists(messages | frames, max_size=5))
    items += draw(ends)
    items += draw(st.lists(messages | frames, max_size=2))
    return Script(draw(st.booleans()), items, draw(st.lists(fractions, max_size=8)))


thoroughly = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("reason", CORRECTIONS)
def test_wsproto_is_corrected_where_it_differs_from_the_rfc(reason: str) -> None:
    script, seen = CORRECTIONS[reason]
    data = [script.encode()]
    assert wsproto(script, data, corrected=False) == seen
    corrected = wsproto(script, data)
    assert corrected != seen
    assert wshost(script, data)[0] == corrected


@thoroughly
@given(scripts())
@example(Script(False, [beginning, Frame(encode(CLOSE, struct.pack("!H", BAD_GATEWAY)))]))
@example(Script(True, [HELLO, HELLO, Message(TEXT, b"", compressed=True), HELLO]))
def test_wshost_reads_the_same_messages_as_wsproto(script: Script) -> None:
    chunks = list(script.chunks())
    seen, sent = wshost(script, chunks)
    assert seen == wsproto(script, chunks)
    # What leaves is what a handler that echoes says, and a client agrees.
    answers: list[Any] = []
    with knowing_all_codes():
        events = list(client(script, sent))
    for event in events:
        match event:
            case TextMessage() | BytesMessage():
                answers.append(event.data)
            case Pong():
                answers.append(("pong", event.payload))
            case CloseConnection():
                answers.append(event.code)
    expected: list[Any] = []
    for kind, data in seen.messages:
        expected += [("pong", data)] if kind == "ping" else [data] if kind != "pong" else []
    if seen.end is not None:
        # A peer's Close is answered by its code, an empty one by an empty one.
        code = seen.end if isinstance(seen.end, int) else seen.end[0]
        expected.append(CloseReason.NO_STATUS_RCVD if code is None else code)
    assert answers == expected


@thoroughly
@given(scripts())
def test_the_answers_do_not_depend_on_where_the_bytes_are_cut(script: Script) -> None:
    whole = wshost(script, [script.encode()])
    assert wshost(script, list(script.chunks())) == whole


@thoroughly
@given(scripts(), st.integers(0, 1))
def test_nothing_is_left_when_the_peer_leaves_at_any_byte(script: Script, skipped: int) -> None:
    """At any byte."""
    recorder = Recorder()
    host = MemoryHost(recorder, websocket_options={"compress": True})
    peer = host.open(headers={"Sec-WebSocket-Extensions": DEFLATE if script.compress else ""})
    for chunk in list(script.chunks())[skipped:]:
        peer.send(chunk)
    peer.leave()
    assert host.idle()
