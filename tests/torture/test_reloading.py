"""The peers of the test of SIGHUP find every answer that is missing, doubled or of older code."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torture.peers import PONG, frame
from torture.reloading import BREAKS, HANDLER, OPEN, _Files, _Peer


@pytest.fixture
def ends() -> Iterator[tuple[_Peer, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield _Peer(ours), theirs


def answer(text: str) -> bytes:
    return bytes((0x81, len(text))) + text.encode()


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (["0 0 1", "1 1 1", "2 2 2"], 0),
        (["0 0 1", "0 1 1"], 1),
        (["1 0 1"], 1),
        (["0 1 1"], 1),
        (["0 0 2", "1 1 1"], 1),
    ],
)
def test_answers_must_be_in_order_and_of_no_older_code(
    ends: tuple[_Peer, socket.socket], said: list[str], wrong: int
) -> None:
    peer, server = ends
    for text in said:
        server.sendall(answer(text))
        peer.read()
    assert (peer.wrong, peer.answered, peer.lost) == (wrong, len(said), "")


@pytest.mark.parametrize("said", [b"", answer("no number"), b"\x88\x02\x03\xe9"])
def test_a_connection_that_ends_or_says_something_else_is_lost(ends: tuple[_Peer, socket.socket], said: bytes) -> None:
    peer, server = ends
    server.sendall(said)
    server.close()
    peer.read()
    assert peer.lost


def test_a_ping_of_the_server_is_answered(ends: tuple[_Peer, socket.socket]) -> None:
    peer, server = ends
    server.sendall(b"\x89\x01x")
    peer.read()
    assert (peer.answered, peer.lost) == (0, "")
    assert server.recv(100) == frame(PONG, b"x")


def test_no_more_messages_are_open_than_a_peer_may_have(ends: tuple[_Peer, socket.socket]) -> None:
    peer, server = ends
    peer.ask()
    peer.ask()
    assert peer.asked == OPEN
    server.sendall(answer("0 0 1"))
    peer.read()
    peer.ask()
    assert peer.asked == OPEN + 1


def test_each_break_leaves_all_other_files_good(tmp_path: Path) -> None:
    files = _Files(tmp_path)
    assert files.change(0) == "reloaded"
    good = {path.name: path.read_text() for path in tmp_path.iterdir()}
    for number, (name, broken, due) in enumerate(BREAKS[1:], 1):
        assert files.change(number) == due
        for path in tmp_path.iterdir():
            if path.name == name:
                assert path.read_text() == broken
            elif path.suffix == ".pem":
                assert path.read_text() == good[path.name]


def test_the_handler_counts_messages_and_says_its_version() -> None:
    found: dict[str, Any] = {}
    exec(HANDLER.format(version=7), found)
    assert found["handle"](("text", "12"), 3) == ("reply", "12 3 7", 4)
    assert found["handle"](("text", "hello"), 3) == ("reply", "hello", 3)
    assert found["handle"](("info", "drain"), 3) == ("noreply", 3)
