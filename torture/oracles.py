"""What must hold for any input of one part of the server. Knows not where the input comes from.

Each input goes through the part as a whole and in two pieces, and must give the same answer. An oracle gets the input
and where to cut it; it raises an exception when the answers differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.memory import MemoryHost, Peer, request
from torture.peers import frame
from wshost.fastnet.tls_records import count_records, end_of_records
from wshost.handlers import echo
from wshost.listening.proxy_header import InvalidHeader, parse

_DATE = re.compile(rb"\r\nDate: [^\r]*")


def _open(**options: Any) -> Peer:
    compress = options.get("compress", False)
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate"} if compress else None
    peer: Peer = MemoryHost(echo, websocket_options={"max_message_size": 4_096, **options}).open(headers=headers)
    return peer


def _said(peer: Peer, *pieces: bytes) -> tuple[bytes, bool]:
    """Return the answer to these bytes, and whether it was the end; then leave."""
    for piece in filter(None, pieces):
        peer.send(piece)
    # A second may pass between two answers.
    answer = _DATE.sub(b"", peer.take()), peer.gone
    if not peer.gone:
        peer.leave()
    return answer


def check_head(data: bytes, cut: int) -> None:
    """A request: the fuzzer's bytes between a valid request line and valid fields, or alone."""
    if data[:1] > b"\x80":
        valid = request()
        data = valid[:-2] + data[1:] + b"\r\n\r\n"
    whole = _said(MemoryHost(echo).connect(), data)
    pieces = _said(MemoryHost(echo).connect(), data[:cut], data[cut:])
    same(whole, pieces)


def check_frames(data: bytes, cut: int) -> None:
    """Frames, by wshost's own reader and by Autobahn's."""
    whole = _said(_open(), data)
    same(whole, _said(_open(), data[:cut], data[cut:]))
    same(whole, _said(_open(fast_lane=False), data))


def check_deflate(data: bytes, cut: int) -> None:
    """Compressed messages: the payload is the fuzzer's."""
    message = frame(0x1 + (cut & 1), data, rsv1=True)
    whole = _said(_open(compress=True), message)
    same(whole, _said(_open(compress=True), message[:cut], message[cut:]))
    same(whole, _said(_open(compress=True, fast_lane=False), message))


def check_proxy(data: bytes, cut: int) -> None:
    """The header of the PROXY protocol."""
    if data[:1] > b"\x80":
        data = b"\r\n\r\n\x00\r\nQUIT\n" + data[1:]
    elif data[:1] > b"\x40":
        data = b"PROXY " + data[1:]
    found: list[Any] = []
    for end in (cut, len(data)):
        try:
            found.append(parse(data[:end]))
        except InvalidHeader:
            found.append(InvalidHeader)
    if found[0] is not None and found[0] != found[1]:
        raise AssertionError(f"{found[0]} became {found[1]}")


def check_records(data: bytes, cut: int) -> None:
    """The bounds of TLS records."""
    end = end_of_records(data, 0)
    if not 0 <= end <= len(data) or count_records(data) < 0:
        raise AssertionError(f"the records end at {end} of {len(data)}")
    if end_of_records(data[:cut], 0) > end:
        raise AssertionError("more records in fewer bytes")


def same(one: object, other: object) -> None:
    """Raise an AssertionError unless both answers are the same."""
    if one != other:
        raise AssertionError(f"{one} is not {other}")


#: By their names.
ORACLES: dict[str, Callable[[bytes, int], None]] = {
    "head": check_head,
    "frames": check_frames,
    "deflate": check_deflate,
    "PROXY": check_proxy,
    "TLS records": check_records,
}
