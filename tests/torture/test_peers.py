"""What attackers send is what they mean to send, and what they hear is read whole."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import Message, Request

from torture.peers import BINARY, CLOSE, TEXT, ask, close_code, frame, gone, handshake, many, read_frame, reset


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_what_another_parser_reads(size: int) -> None:
    other = Connection(ConnectionType.SERVER)
    other.receive_data(frame(BINARY, b"x" * size))
    parts = [event for event in other.events() if isinstance(event, Message)]
    assert b"".join(bytes(part.data) for part in parts) == b"x" * size
    assert parts[-1].message_finished


@pytest.mark.parametrize("deflate", [False, True])
def test_a_handshake_is_what_another_parser_accepts(deflate: bool) -> None:
    other = WSConnection(ConnectionType.SERVER)
    other.receive_data(handshake("/room", deflate))
    (request,) = other.events()
    assert isinstance(request, Request)
    assert request.target == "/room"
    assert bool(request.extensions) is deflate


@pytest.mark.parametrize("size", [0, 126, 70_000])
def test_frames_of_the_server_are_read_whole(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    ours, theirs = ends
    other = Connection(ConnectionType.SERVER)
    theirs.sendall(other.send(Message(data=b"x" * size)))
    assert read_frame(ours) == (BINARY, b"x" * size)


def test_an_answer_is_a_text(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"\x81\x02ok")
    assert ask(ours, "well?") == "ok"
    assert theirs.recv(100) == frame(TEXT, b"well?")


@pytest.mark.parametrize(
    ("said", "code"), [(b"\x81\x01x\x88\x02\x03\xf1", 1009), (b"\x88\x00", 1005), (b"\x81\x01x", 0), (b"", 0)]
)
def test_the_code_of_the_servers_close_is_read(
    ends: tuple[socket.socket, socket.socket], said: bytes, code: int
) -> None:
    ours, theirs = ends
    theirs.sendall(said)
    theirs.close()
    assert close_code(ours) == code


def test_many_sockets_are_closed_though_one_can_not_be_made() -> None:
    made: list[socket.socket] = []

    def make() -> socket.socket:
        if len(made) == 2:
            raise OSError
        made.append(socket.socket())
        return made[-1]

    with pytest.raises(OSError), many(5, make):  # noqa: PT011 - any
        pass
    assert [one.fileno() for one in made] == [-1, -1]


def test_closed_sockets_are_seen_and_open_ones_count_as_late(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    deadline = time.monotonic() + 0.05
    assert gone([ours], deadline) == deadline + 1
    theirs.sendall(b"a last word")
    reset(theirs)
    deadline = time.monotonic() + 30
    assert gone([ours], deadline) < deadline


def test_a_close_has_its_code_in_two_bytes() -> None:
    assert frame(CLOSE, (1000).to_bytes(2, "big")) == b"\x88\x82\0\0\0\0\x03\xe8"
