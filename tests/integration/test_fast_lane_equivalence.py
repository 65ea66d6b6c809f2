"""Random conversations with random handlers: a server with the fast lane does what one without it does.

``WSHOST_TEST_EXAMPLES=100000 pytest tests/integration/test_fast_lane_equivalence.py`` tries so many conversations
in each test instead of the few that every run of the tests has time for.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.memory import MemoryHost, Peer
from tests.regressions.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TAIL, TEXT

EXAMPLES = int(os.environ.get("WSHOST_TEST_EXAMPLES", "200"))
thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

#: Bytes of a message, and of what waits for the peer.
LIMIT = 70_000
MAX_OUTPUT = 100_000

#: Sizes about those where a frame changes its form, or what reads it its way; the last is too large.
SIZES = [0, 1, 2, 5, 30, 124, 125, 126, 127, 2_047, 2_048, 8_192, 9_000, 65_535, 65_536, LIMIT, LIMIT + 1]

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}


# What is sent


def encode(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = b"\x37\xfa\x21\x3d",
    form: int | None = None,
) -> bytes:
    """Return a frame, right or wrong (RFC 6455 §5.2).

    :param key: without one it is not masked.
    :param form: 126 or 127 for a length in 16 or 64 bits where another form were right.
    """
    size = len(payload)
    if form is None:
        form = size if size < 126 else 126 if size < 1 << 16 else 127
    length = size.to_bytes({126: 2, 127: 8}.get(form, 0), "big") if form >= 126 else b""
    head = bytes(((0x80 if fin else 0) | rsv | opcode, (0x80 if key is not None else 0) | form)) + length
    if key is None:
        return head + payload
    mask = (key * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return head + key + masked


keys = st.sampled_from([b"\x37\xfa\x21\x3d", b"\0\0\0\0", b"\0\x01\0\0", b"\x80\xff\0\x7f"])
data_opcodes = st.sampled_from([TEXT, BINARY])
units = st.sampled_from([b"hello ", "aé€😀".encode(), b"\0", "zzé".encode()])


@st.composite
def texts(draw: st.DrawFn, *, valid: bool = True) -> bytes:
    """Draw the payload of a text."""
    size = draw(st.sampled_from(SIZES))
    unit = draw(units)
    payload = unit * (size // len(unit))
    payload += b"z" * (size - len(payload))
    if not valid:
        bad = draw(st.sampled_from([b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80"]))
        at = draw(st.sampled_from([0, len(payload) // 2, len(payload)]))
        payload = payload[:at] + bad + payload[at + len(bad) :]
    return payload


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    """Draw a message in one frame."""
    return encode(draw(data_opcodes), draw(texts()), key=draw(keys))


@st.composite
def controls(draw: st.DrawFn) -> bytes:
    """Draw a ping or a pong."""
    return encode(draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=125)), key=draw(keys))


@st.composite
def fragmented(draw: st.DrawFn, *, valid: bool = True, compressed: bool = False) -> bytes:
    """Draw a message in fragments, with control frames in between."""
    payload, rsv = draw(texts(valid=valid)), 0
    if compressed:
        payload, rsv = deflated(payload), RSV1
    ends = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts, start, opcode = [], 0, draw(data_opcodes)
    for end in ends:
        parts.append(encode(opcode, payload[start:end], fin=False, rsv=rsv, key=draw(keys)))
        parts.append(draw(controls() | st.just(b"")))
        start, opcode, rsv = end, CONTINUATION, 0
    return b"".join(parts) + encode(opcode, payload[start:], rsv=rsv, key=draw(keys))


def deflated(payload: bytes) -> bytes:
    """Compress what is a message (RFC 7692 §7.2.1), by itself."""
    compressor = zlib.compressobj(wbits=-12)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


@st.composite
def closes(draw: st.DrawFn) -> bytes:
    """Draw a Close, most of them valid."""
    payload = st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x0f\xa0", b"\x03\xed", b"\x03", b"\x03\xe8\xff"])
    return encode(CLOSE, draw(payload), key=draw(keys))


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Draw what is no valid frame, or is none where it stands."""
    opcode, payload, key = draw(data_opcodes), draw(texts()), draw(keys)
    match draw(st.integers(0, 8)):
        case 0:
            return encode(TEXT, draw(texts(valid=False)), key=key)
        case 1:
            return draw(fragmented(valid=False))
        case 2:
            return encode(opcode, payload, key=key, rsv=draw(st.sampled_from([0x10, 0x20, 0x40, 0x70])))
        case 3:
            return encode(opcode, payload, key=None)
        case 4:
            return encode(opcode, b"a" * draw(st.integers(0, 125)), key=key, form=draw(st.sampled_from([126, 127])))
        case 5:
            return encode(draw(st.sampled_from([CONTINUATION, 3, 7, 11, 15])), payload, key=key)
        case 6:
            return encode(PING, b"a" * 126, key=key)
        case 7:
            return encode(opcode, payload, key=key, fin=False)
        case _:
            return draw(st.binary(min_size=1, max_size=40))


good = st.one_of(plain(), plain(), plain(), controls(), fragmented())
#: Conversations, most of which go well for long.
frames = st.lists(st.one_of(good, good, good, good, closes(), broken()), min_size=1, max_size=10)
deflating = st.lists(st.one_of(good, good, fragmented(compressed=True), broken()), min_size=1, max_size=8)


@st.composite
def pieces(draw: st.DrawFn, frames: st.SearchStrategy[list[bytes]]) -> list[bytes]:
    """Draw frames, and cut them: anywhere, and near where they begin and end."""
    conversation = draw(frames)
    data = b"".join(conversation)
    begins = [0]
    for frame in conversation:
        begins.append(begins[-1] + len(frame))
    near = st.builds(int.__add__, st.sampled_from(begins), st.integers(-5, 16))
    cuts = set(draw(st.lists(near | st.integers(0, len(data)), max_size=20)))
    if draw(st.booleans()):
        # One byte at a time, for a while.
        at = draw(near)
        cuts |= set(range(at, at + 30))
    ends = sorted({cut for cut in cuts if 0 < cut < len(data)} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


# What happens


class Step(NamedTuple):
    """Something that happens to a server."""

    #: See `Side.do`.
    what: str
    argument: Any = None


happenings = st.one_of(
    st.just(Step("release")),
    st.just(Step("release")),
    st.builds(Step, st.just("pass"), st.sampled_from([0.5, 5.0, 19.0, 61.0, 121.0])),
    st.builds(Step, st.just("read"), st.booleans()),
    st.builds(Step, st.just("send"), st.sampled_from(["hé", b"there", "x" * 40_000])),
    st.just(Step("ping")),
    st.just(Step("info")),
)
endings = st.sampled_from([Step("close"), Step("leave"), Step("half-close")])
#: What a handler does with one message after the other.
good_behaviours = st.sampled_from(["echo", "echo", "late", "late", "silent", "several", "large", "ping", "by ref"])
behaviours = st.lists(
    good_behaviours | good_behaviours | st.sampled_from(["close", "close by ref", "fail", "fail late"]),
    min_size=1,
    max_size=8,
)


@st.composite
def stories(draw: st.DrawFn, frames: st.SearchStrategy[list[bytes]]) -> list[Step]:
    """Draw what happens between one piece and the next."""
    steps: list[Step] = []
    for piece in draw(pieces(frames)):
        steps += [Step("feed", piece), *draw(st.lists(happenings, max_size=2))]
    if draw(st.integers(0, 3)) == 0:
        steps.insert(draw(st.integers(0, len(steps))), draw(endings))
    return steps + [Step("read", True)] + [Step("release")] * 3 + [Step("pass", 60.0)] * 4


class Handler:
    """Does what it is told to, in this order and again and again, and writes down what comes."""

    def __init__(self, behaviours: Sequence[str]) -> None:
        self.told: list[Any] = []
        self.ref: Any = None
        self._behaviours = behaviours
        self._count = 0
        self._waiting: list[tuple[Deferred[Any], Any]] = []

    def init(self, options: Any) -> None:
        self.ref = options["worker"]

    def handle(self, message: Any, state: None) -> Any:
        self.told.append(message)
        self._count += 1
        if message == "connection_close":
            return "noreply", state
        data = message[1] if message[0] in {"text", "binary"} else repr(message)
        match self._behaviours[self._count % len(self._behaviours)]:
            case "echo":
                return "reply", data, state
            case "late":
                return self._later(("reply", data, state))
            case "fail late":
                return self._later(ValueError("as asked"))
            case "several":
                return "reply", [data, "and", b"more"], state
            case "large":
                # More than a transport takes before it says that it is full. Until then nobody knows how much waits in
                # it, and one message more may be answered, as turns end elsewhere with the lane.
                return "reply", "é" * 33_000, state
            case "ping":
                return "ping", b"?", state
            case "by ref":
                self.ref.send(data)
            case "close":
                return "close", 4_000, "enough", state
            case "close by ref":
                self.ref.close(4_001, "too much")
            case "fail":
                raise ValueError("as asked")
        return "noreply", state

    def _later(self, result: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self._waiting.append((deferred, result))
        return deferred

    def release(self) -> None:
        """Answer what has waited longest."""
        if self._waiting:
            deferred, result = self._waiting.pop(0)
            if not deferred.called:
                (deferred.errback if isinstance(result, Exception) else deferred.callback)(result)


class Side:
    """A server with the lane or without, and its only peer."""

    def __init__(self, behaviours: Sequence[str], *, fast_lane: bool, compress: bool) -> None:
        self.handler = Handler(behaviours)
        options = {"fast_lane": fast_lane, "compress": compress, "max_message_size": LIMIT}
        self._host = MemoryHost(self.handler, websocket_options=options, max_output=MAX_OUTPUT)
        # With the lane, what it may be read into is, too.
        self._peer: Peer = self._host.open(headers=DEFLATE if compress else None, buffered=fast_lane)

    def do(self, step: Step) -> None:
        """Let it happen, and whatever follows without more time."""
        what, argument = step
        transport, ref = self._peer.transport, self.handler.ref
        if what == "feed":
            transport.receive(argument)
        elif what == "release":
            self.handler.release()
        elif what == "pass":
            self._host.reactor.advance(argument)
        elif what == "read":
            transport.reading = argument
            if argument:
                transport.drain()
        elif what == "leave":
            self._peer.leave()
        elif what == "half-close":
            if not transport.gone:
                self._peer.half_close()
        elif what == "info":
            ref.info("hello")
        else:
            getattr(ref, what)(*([] if argument is None else [argument]))
        reactor = self._host.reactor
        while any(call.getTime() <= reactor.seconds() for call in reactor.getDelayedCalls()):
            reactor.advance(0)

    def seen(self) -> dict[str, Any]:
        """Return all that the two outside can see: what the handler was told since, and what the peer has got."""
        transport = self._peer.transport
        told, self.handler.told = self.handler.told, []
        return {
            "told": told,
            "sent": transport.take(),
            "gone": transport.gone,
            "ending": (transport.half_closed, transport.disconnecting, transport.aborted),
            "reading": transport.producing,
        }


def compare(steps: Sequence[Step], behaviours: Sequence[str], *, compress: bool = False) -> None:
    """Let the same happen to two servers; after each step they have done the same."""
    without, with_lane = (Side(behaviours, fast_lane=fast_lane, compress=compress) for fast_lane in (False, True))
    for step in steps:
        without.do(step)
        with_lane.do(step)
        assert with_lane.seen() == without.seen(), step


class TestTheLaneIsNotSeen:
    @thorough
    @given(pieces=pieces(frames))
    def test_an_echoed_peer_gets_the_same_bytes_with_and_without_the_fast_lane(self, pieces: list[bytes]) -> None:
        compare([Step("feed", piece) for piece in pieces], ["echo"])

    @thorough
    @given(
        pieces=pieces(st.lists(st.one_of(good, good, fragmented(compressed=True), broken()), min_size=1, max_size=8))
    )
    def test_a_peer_with_compression_gets_the_same_bytes_with_and_without_the_fast_lane(
        self, pieces: list[bytes]
    ) -> None:
        compare([Step("feed", piece) for piece in pieces], ["echo"], compress=True)

    @thorough
    @given(steps=stories(frames), behaviours=behaviours, compress=st.booleans())
    def test_any_handler_and_its_peer_see_the_same_with_and_without_the_fast_lane(
        self, steps: list[Step], behaviours: list[str], compress: bool
    ) -> None:
        compare(steps, behaviours, compress=compress)

    @thorough
    @given(count=st.integers(200, 1_500), size=st.sampled_from([0, 1, 130]), cut=st.integers(1, 5_000))
    def test_a_peer_that_sends_more_than_one_turn_takes_gets_the_same_bytes(
        self, count: int, size: int, cut: int
    ) -> None:
        data = (encode(TEXT, b"a" * size) + encode(BINARY, b"b")) * count
        pieces = [data[:cut], data[cut:]] if cut < len(data) else [data]
        compare([*(Step("feed", piece) for piece in pieces), Step("pass", 1.0)], ["echo", "silent"])
