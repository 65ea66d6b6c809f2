"""The load's frames, judged by the RFC's examples and by wsproto and Autobahn's rules, not by themselves."""

from __future__ import annotations

import zlib

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from benchmarks.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Inflater,
    Parser,
    WrongAnswerError,
    bursts,
    client_frame,
    deflated,
    server_frame,
)

KEY = b"\x37\xfa\x21\x3d"
SIZES = (0, 1, 125, 126, 65_535, 65_536)


class TestFrames:
    def test_frames_are_those_of_the_examples_in_rfc_6455_5_7(self) -> None:
        assert server_frame(b"Hello") == bytes.fromhex("810548656c6c6f")
        assert client_frame(b"Hello", KEY) == bytes.fromhex("818537fa213d7f9f4d5158")
        assert server_frame(b"Hel", fin=False) == bytes.fromhex("010348656c")
        assert client_frame(b"Hello", KEY, PONG) == bytes.fromhex("8a8537fa213d7f9f4d5158")
        assert server_frame(bytes(256), 2)[:4] == bytes.fromhex("827e0100")
        assert server_frame(bytes(65_536), 2)[:10] == bytes.fromhex("827f0000000000010000")

    @pytest.mark.parametrize("size", SIZES)
    def test_another_server_reads_what_the_client_sends(self, size: int) -> None:
        other = Connection(ConnectionType.SERVER)
        other.receive_data(client_frame(b"x" * size, KEY))
        parts = [event.data for event in other.events() if isinstance(event, TextMessage)]
        assert "".join(parts) == "x" * size

    @pytest.mark.parametrize("size", SIZES)
    def test_a_servers_frame_is_what_another_server_sends(self, size: int) -> None:
        other = Connection(ConnectionType.SERVER)
        assert server_frame(b"x" * size) == other.send(TextMessage("x" * size))


class TestBursts:
    def test_bursts_hold_all_messages_in_order(self) -> None:
        payloads = [str(number).encode() for number in range(6)]
        made = bursts(payloads, 3)
        assert [burst.payloads for burst in made] == [(b"0", b"1", b"2"), (b"3", b"4", b"5")]
        for burst in made:
            other = Connection(ConnectionType.SERVER)
            other.receive_data(burst.request)
            assert [event.data for event in other.events()] == [payload.decode() for payload in burst.payloads]  # type: ignore[attr-defined]
            assert burst.reply == b"".join(server_frame(payload) for payload in burst.payloads)

    def test_compressed_messages_of_a_burst_do_not_need_each_other(self) -> None:
        payloads = [b'{"a": 1}' * 20, b'{"a": 1}' * 20]
        (burst,) = bursts(payloads, 2, window_bits=10)
        # Twice the same, each on its own.
        one = client_frame(deflated(payloads[0], 10), bytes(4), compressed=True)
        assert len(burst.request) == 2 * len(one)
        assert burst.request[0] == 0x80 | 0x40 | TEXT
        assert zlib.decompressobj(-10).decompress(deflated(payloads[1], 10) + b"\x00\x00\xff\xff") == payloads[1]


class TestParser:
    STREAM = (
        server_frame(b"one")
        + server_frame(b"t", fin=False)
        + server_frame(b"are you there?", PING)
        + server_frame(b"w", 0, fin=False)
        + server_frame(b"o", 0)
        + server_frame(b"3" * 300)
        + server_frame(b"\x03\xe8", CLOSE)
    )
    MESSAGES = ((TEXT, b"one"), (TEXT, b"two"), (TEXT, b"3" * 300), (CLOSE, b"\x03\xe8"))

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    def test_messages_are_read_however_the_bytes_are_cut(self, step: int) -> None:
        parser = Parser()
        found: list[tuple[int, bytes]] = []
        for at in range(0, len(self.STREAM), step):
            found += parser.feed(self.STREAM[at : at + step])
        assert tuple(found) == self.MESSAGES

    def test_a_longer_length_than_needed_is_read(self) -> None:
        assert list(Parser().feed(b"\x81\x7f" + (3).to_bytes(8, "big") + b"abc")) == [(TEXT, b"abc")]

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (client_frame(b"x", KEY), "masked"),
            (server_frame(b"x", 0), "out of place"),
            (server_frame(b"x", fin=False) + server_frame(b"x"), "out of place"),
            (server_frame(b"x", 3), "out of place"),
            (server_frame(b"x", compressed=True), "nothing was negotiated"),
        ],
        ids=["masked", "continuation of nothing", "text in text", "reserved opcode", "compressed"],
    )
    def test_a_frame_that_no_server_may_send_is_an_error(self, data: bytes, why: str) -> None:
        with pytest.raises(WrongAnswerError, match=why):
            list(Parser().feed(data))


class TestInflater:
    def test_messages_that_take_over_their_context_are_inflated(self) -> None:
        compressor = zlib.compressobj(6, zlib.DEFLATED, -12)
        inflater = Inflater(12)
        for _ in range(3):
            data = compressor.compress(b"again and again") + compressor.flush(zlib.Z_SYNC_FLUSH)
            assert inflater.inflate(data[:-4]) == b"again and again"

    def test_messages_without_context_takeover_are_inflated(self) -> None:
        inflater = Inflater(takeover=False)
        assert [inflater.inflate(deflated(b"new")) for _ in range(2)] == [b"new", b"new"]

    def test_messages_that_end_in_a_final_block_are_inflated(self) -> None:
        # RFC 7692 §7.2.3.4
        inflater = Inflater()
        assert inflater.inflate(bytes.fromhex("f348cdc9c9070000")) == b"Hello"
        assert inflater.inflate(bytes.fromhex("f248cdc9c90700")) == b"Hello"

    def test_a_message_that_does_not_inflate_is_an_error(self) -> None:
        with pytest.raises(WrongAnswerError, match="does not inflate"):
            Inflater().inflate(b"\xff\xff\xff")
