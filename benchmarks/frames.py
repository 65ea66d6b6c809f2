"""Builds and parses WebSocket frames for the load. Knows nothing of sockets or servers."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_FIN = 0x80
_RSV1 = 0x40
_MASKED = 0x80

#: The end of a compressed message, which is not sent (RFC 7692 §7.2.1).
_TAIL = b"\x00\x00\xff\xff"


class WrongAnswerError(Exception):
    """A server sent a wrong answer."""


def head(opcode: int, length: int, *, fin: bool = True, compressed: bool = False, masked: bool = False) -> bytes:
    """Return the first bytes of a frame, its length included (RFC 6455 §5.2)."""
    first = opcode | (_FIN if fin else 0) | (_RSV1 if compressed else 0)
    mask = _MASKED if masked else 0
    if length < 126:
        return bytes((first, mask | length))
    if length < 0x10000:
        return bytes((first, mask | 126)) + length.to_bytes(2, "big")
    return bytes((first, mask | 127)) + length.to_bytes(8, "big")


def server_frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, compressed: bool = False) -> bytes:
    """Return a frame as a server sends it."""
    return head(opcode, len(payload), fin=fin, compressed=compressed) + payload


def client_frame(
    payload: bytes, key: bytes, opcode: int = TEXT, *, fin: bool = True, compressed: bool = False
) -> bytes:
    """Return a frame as a client sends it.

    :param key: the masking key, 4 bytes.
    """
    begin = head(opcode, len(payload), fin=fin, compressed=compressed, masked=True) + key
    size = len(payload)
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return begin + (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")


def deflated(payload: bytes, window_bits: int = 15) -> bytes:
    """Compress a message by itself, without the context of earlier messages (RFC 7692 §7.2.1)."""
    # zlib can't use a window of 8 bits. A message of less than 256 bytes that was compressed with 9 bits also fits 8.
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -max(window_bits, 9))
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data[: -len(_TAIL)]


class Inflater:
    """Decompresses the messages of one server on one connection.

    :param window_bits: the server's window, as negotiated.
    :param takeover: whether a message may refer back to earlier ones.
    """

    def __init__(self, window_bits: int = 15, *, takeover: bool = True) -> None:
        self._window_bits = window_bits
        self._takeover = takeover
        self._context = zlib.decompressobj(-window_bits)

    def inflate(self, data: bytes) -> bytes:
        """Return the message. The data must be those of all its frames."""
        try:
            message = self._context.decompress(data + _TAIL)
        except zlib.error as error:
            raise WrongAnswerError(f"a message does not inflate: {error}") from error
        # If a server ends a message with a final block (RFC 7692 §7.2.3.4), the next message needs a new context.
        if not self._takeover or self._context.eof:
            self._context = zlib.decompressobj(-self._window_bits)
        return message


class Parser:
    """Finds the messages in a server's bytes, for any division into frames and reads. Skips pings and pongs.

    :param inflater: None without permessage-deflate.
    """

    def __init__(self, inflater: Inflater | None = None) -> None:
        self._inflater = inflater
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._opcode = 0
        self._compressed = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[int, bytes]]:
        """Take bytes; yield opcode and payload of each message that is complete now, and of a Close.

        :raises WrongAnswerError: for frames that no server may send.
        """
        self._buffer += data
        while (frame := self._frame()) is not None:
            first, payload = frame
            opcode = first & 0x0F
            if opcode == CLOSE:
                yield opcode, payload
            elif opcode in (PING, PONG):
                continue
            elif opcode in (TEXT, BINARY) and not self._opcode:
                self._opcode = opcode
                self._compressed = bool(first & _RSV1)
            elif opcode != CONTINUATION or not self._opcode:
                raise WrongAnswerError(f"a frame with opcode {opcode} is out of place")
            if opcode == CLOSE:
                continue
            self._parts.append(payload)
            if first & _FIN:
                message = b"".join(self._parts)
                opcode, self._opcode = self._opcode, 0
                self._parts.clear()
                yield opcode, self._inflated(message)

    def _inflated(self, message: bytes) -> bytes:
        if not self._compressed:
            return message
        if self._inflater is None:
            raise WrongAnswerError("a message is compressed, though nothing was negotiated")
        return self._inflater.inflate(message)

    def _frame(self) -> tuple[int, bytes] | None:
        """Remove the first frame, if it is whole, and return its first byte and its payload."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if buffer[1] & _MASKED:
            raise WrongAnswerError("a frame of the server is masked")
        length, start = buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        frame = buffer[0], bytes(buffer[start : start + length])
        del buffer[: start + length]
        return frame


@dataclass(frozen=True)
class Burst:
    """Messages that leave in one write, and the expected answer."""

    #: The client's frames, joined.
    request: bytes
    #: The server's frames, joined, in the shortest form.
    reply: bytes
    #: The messages in them.
    payloads: tuple[bytes, ...]


def bursts(
    payloads: list[bytes], in_flight: int, *, window_bits: int | None = None, replies: list[bytes] | None = None
) -> list[Burst]:
    """Put messages together into bursts.

    :param window_bits: the client's window; None to send uncompressed messages.
    :param replies: the answer to each message; None for an echo.
    """
    made = []
    chance = random.Random(6455)
    for at in range(0, len(payloads), in_flight):
        group = tuple(payloads[at : at + in_flight])
        answers = tuple((replies or payloads)[at : at + in_flight])
        sent = group if window_bits is None else tuple(deflated(payload, window_bits) for payload in group)
        request = b"".join(
            client_frame(payload, chance.randbytes(4), compressed=window_bits is not None) for payload in sent
        )
        made.append(Burst(request, b"".join(map(server_frame, answers)), answers))
    return made
