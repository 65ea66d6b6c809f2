"""The peers of the test of takeovers find what is lost, doubled or out of order."""

from __future__ import annotations

import socket
import time

import pytest

from torture.peers import PING
from torture.takeover import _Load


def answer(text: str) -> bytes:
    return bytes((0x81, len(text))) + text.encode()


@pytest.mark.parametrize(
    ("said", "answers", "wrong"),
    [(["0", "1", "2"], 3, 0), (["0", "0"], 2, 1), (["1"], 1, 1), (["0", "2"], 2, 1)],
)
def test_answers_must_count_without_a_gap(said: list[str], answers: int, wrong: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        load = _Load([ours])
        load.start()
        theirs.sendall(bytes((0x80 | PING, 0)))
        for text in said:
            theirs.sendall(answer(text))
        deadline = time.monotonic() + 20
        while load.answers < answers and time.monotonic() < deadline:
            time.sleep(0.005)
        load.stop()
    assert (load.answers, load.wrong, load.lost) == (answers, wrong, 0)
    assert 0 < load.longest < 20


@pytest.mark.parametrize("last", [b"", answer("no number")])
def test_a_connection_that_ends_or_says_something_else_is_lost(last: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        load = _Load([ours])
        load.start()
        if last:
            theirs.sendall(last)
        else:
            theirs.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 20
        while not load.lost and time.monotonic() < deadline:
            time.sleep(0.005)
        load.stop()
    assert (load.answers, load.lost) == (0, 1)
