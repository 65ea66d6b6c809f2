"""Random deflated messages, whole, cut or changed: each way to inflate them comes to the same verdict.

The ways are the fast lane and the engine, with a message in one piece or many. The judge is `tests/deflate.py`, which
inflates without zlib.
``WSHOST_TEST_EXAMPLES=100000 pytest tests/integration/test_deflate_verdicts.py`` tries so many conversations.
"""

from __future__ import annotations

import os
import zlib
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deflate import TAIL, TooMuch, Wrong, inflate
from tests.memory import MemoryHost
from tests.regressions.wire import BINARY, CONTINUATION, RSV1, TEXT, close_code, frame
from wshost.protocols.websocket.deflate import Corrupt, Inflater, TooLong

EXAMPLES = int(os.environ.get("WSHOST_TEST_EXAMPLES", "30"))
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
chances = st.randoms(use_true_random=False)

#: Bytes of a message.
LIMIT = 1_500
WINDOW = 32_768

STRATEGIES = [zlib.Z_FIXED, zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE]
FLUSHES = [zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK]


def text(chance: Random) -> bytes:
    size = chance.choice([0, 1, 5, 50, 300, 700])
    return bytes(
        chance.choice(
            [
                chance.choices(b"abcdef ", k=size),
                chance.choices(range(256), k=size),
                chance.choices(range(128), weights=range(128, 0, -1), k=size),
                b"h\xc3\xb6llo w\xc3\xb6rld " * (size // 14),
            ]
        )
    )


def stream(chance: Random, data: bytes, before: bytes) -> tuple[bytes, bool]:
    """Deflate, in blocks of any kind, what may refer back; return whether the last is marked as final."""
    dictionary = {"zdict": before} if before else {}
    level, memory, strategy = chance.choice([0, 1, 6, 9]), chance.choice([1, 5, 9]), chance.choice(STRATEGIES)
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, memory, strategy, **dictionary)
    middle = chance.randint(0, len(data))
    deflated = deflater.compress(data[:middle])
    if chance.random() < 0.5:
        deflated += deflater.flush(chance.choice(FLUSHES))
    deflated += deflater.compress(data[middle:])
    final = chance.random() < 0.4
    return deflated + deflater.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH), final


def payload(chance: Random, before: bytes) -> bytes:
    """Return a message's payload: of several streams; some are cut, at any bit, or changed."""
    deflated, final = b"", False
    for _ in range(chance.randint(1, 3)):
        data = text(chance)
        one, final = stream(chance, data, before)
        deflated, before = deflated + one, (before + data)[-WINDOW:]
    if not final:
        deflated = deflated.removesuffix(TAIL)
    elif chance.random() < 0.5:
        # RFC 7692 §7.2.3.4 has this byte; who forgets it is understood.
        deflated += b"\0"
    what = chance.random()
    at = chance.randint(0, len(deflated) * 8)
    if what < 0.2:
        kept = deflated[: at // 8 + 1]
        return kept[:-1] + bytes((kept[-1] & (1 << at % 8) - 1,)) if at % 8 else deflated[: at // 8]
    if what < 0.3 and at < len(deflated) * 8:
        return deflated[: at // 8] + bytes((deflated[at // 8] ^ 1 << at % 8,)) + deflated[at // 8 + 1 :]
    return deflated


def messages(chance: Random) -> list[tuple[bytes, bytes | int]]:
    """Return payloads, and what each holds; the last may hold nothing: then the code that says so."""
    before = b""
    made: list[tuple[bytes, bytes | int]] = []
    for _ in range(chance.randint(1, 4)):
        deflated = payload(chance, before)
        try:
            message = inflate(deflated, before, LIMIT)
        except Wrong:
            return [*made, (deflated, 1007)]
        except TooMuch:
            return [*made, (deflated, 1009)]
        made.append((deflated, message))
        before = (before + message)[-WINDOW:]
    return made


def pieces(chance: Random, data: bytes, most: int) -> list[bytes]:
    cut: list[bytes] = []
    while data:
        size = chance.randint(1, most)
        cut.append(data[:size])
        data = data[size:]
    return cut


class Recorder:
    """A handler that writes down what comes."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def init(self, options: Any) -> None:
        pass

    def handle(self, message: Any, state: None) -> Any:
        self.told.append(message)
        return "noreply", state


def seen(sent: list[bytes], *, fast_lane: bool) -> tuple[list[Any], int | None]:
    """Return what a handler hears of these bytes, and with what code the server closes."""
    recorder = Recorder()
    options = {"fast_lane": fast_lane, "compress": True, "max_message_size": LIMIT, "ping_interval": 0}
    peer = MemoryHost(recorder, websocket_options=options).open(
        headers={"Sec-WebSocket-Extensions": "permessage-deflate"}
    )
    written = b""
    for piece in sent:
        peer.send(piece)
        written += peer.take()
    return recorder.told, close_code(written)


@thorough
@given(chance=chances)
def test_the_inflater_agrees_with_an_inflater_written_from_the_rfc(chance: Random) -> None:
    whole, piecewise = Inflater(15, LIMIT), Inflater(15, LIMIT)

    def by_pieces(deflated: bytes) -> bytes:
        piecewise.begin()
        message = b"".join(map(piecewise.add, pieces(chance, deflated, 40)))
        piecewise.end()
        return message

    for deflated, expected in messages(chance):
        for way in (whole.inflate, by_pieces):
            found: bytes | int
            try:
                found = way(deflated)
            except Corrupt:
                found = 1007
            except TooLong:
                found = 1009
            assert found == expected, deflated.hex()


@thorough
@given(chance=chances)
def test_fast_lane_and_engine_read_the_same_messages_wherever_they_are_cut(chance: Random) -> None:
    data = b""
    told: list[Any] = []
    code: int | None = None
    for deflated, expected in messages(chance):
        opcode = chance.choice([TEXT, BINARY])
        if chance.random() < 0.7:
            data += frame(opcode, deflated, rsv=RSV1)
        else:
            at = chance.randint(0, len(deflated))
            data += frame(opcode, deflated[:at], fin=False, rsv=RSV1) + frame(CONTINUATION, deflated[at:])
        if isinstance(expected, int):
            code = expected
            break
        if opcode == BINARY:
            told.append(("binary", expected))
            continue
        try:
            told.append(("text", expected.decode()))
        except UnicodeDecodeError:
            code = 1007
            break
    ways = [
        seen(sent, fast_lane=fast_lane)
        for sent in ([data], pieces(chance, data, 400), pieces(chance, data, 7))
        for fast_lane in (True, False)
    ]
    assert all(way == ways[0] for way in ways)
    found, with_code = ways[0]
    assert found == told
    # A text that is too long may be no text as far as it goes: then that is what it is closed for.
    assert with_code == code or (code, with_code) == (1009, 1007)
