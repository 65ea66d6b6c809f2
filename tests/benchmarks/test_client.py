"""What the load makes of the head of a server's answer."""

from __future__ import annotations

import socket

import pytest

from benchmarks.client import Target, agreed, read_head, request
from benchmarks.frames import TEXT, WrongAnswerError, deflated, server_frame

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def test_compression_is_offered_as_browsers_do() -> None:
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n" in request(
        Target(1, deflate=True)
    )
    assert b"Extensions" not in request(Target(1))


def test_a_connection_without_compression_is_accepted() -> None:
    window_bits, parser = agreed(ACCEPTED + b"\r\n", deflate=False)
    assert window_bits is None
    assert list(parser.feed(server_frame(b"x"))) == [(TEXT, b"x")]


def test_the_windows_and_takeover_that_the_server_chose_are_used() -> None:
    head = ACCEPTED + (
        b"sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_max_window_bits=12\r\n\r\n"
    )
    window_bits, parser = agreed(head, deflate=True)
    assert window_bits == 12
    frame = server_frame(deflated(b"each on its own"), compressed=True)
    assert list(parser.feed(frame * 2)) == [(TEXT, b"each on its own")] * 2


@pytest.mark.parametrize(
    ("head", "deflate", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", False, "answered"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", False, "answered"),
        (ACCEPTED + b"\r\n", True, "does not agree"),
        (ACCEPTED + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", False, "nobody offered"),
    ],
    ids=["refused", "wrong accept", "no deflate", "deflate unasked"],
)
def test_a_wrong_answer_to_the_handshake_is_an_error(head: bytes, deflate: bool, why: str) -> None:
    with pytest.raises(WrongAnswerError, match=why):
        agreed(head, deflate=deflate)


@pytest.mark.parametrize("said", [b"HTTP/1.1 101 Swi", ACCEPTED + b"\r\n\x81\x01x"], ids=["cut", "with more behind"])
def test_a_head_that_is_cut_or_has_more_behind_it_is_an_error(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(WrongAnswerError, match="the handshake was answered"):
            read_head(ours)
