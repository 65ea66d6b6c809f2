"""Clients that count what comes, on pairs of sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from scale.crowd import Crowd, crowd, frame_size, tell, until
from torture.peers import TEXT, frame


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for pair in made:
        for one in pair:
            one.close()


@pytest.fixture
def clients(pairs: list[tuple[socket.socket, socket.socket]]) -> Iterator[Crowd]:
    made = Crowd([pair[0] for pair in pairs])
    yield made
    made.close()


def test_the_bytes_of_all_clients_are_counted(clients: Crowd, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    for _, server in pairs:
        server.sendall(b"12345")
    assert clients.receive(15) == 15


def test_nothing_is_waited_for_when_nothing_comes(
    clients: Crowd, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    pairs[0][1].sendall(b"12345")
    assert clients.receive(15, 0.0) == 5


def test_nothing_is_waited_for_after_the_deadline(
    clients: Crowd, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    pairs[0][1].sendall(b"12345")
    assert clients.receive(15, deadline=time.monotonic()) == 0


def test_an_end_is_an_error(clients: Crowd, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    pairs[0][1].close()
    with pytest.raises(ConnectionResetError):
        clients.receive(15)


def test_an_end_that_may_come_is_counted(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    clients = Crowd([pair[0] for pair in pairs], may_end=True)
    pairs[0][1].close()
    pairs[1][1].sendall(b"12345")
    assert clients.receive(15, 0.0) == 5
    assert clients.ended == 1
    clients.close()


def test_a_crowd_closes_its_clients() -> None:
    one, other = socket.socketpair()
    with other, crowd(1, lambda: one):
        pass
    assert one.fileno() == -1


@pytest.mark.parametrize(("payload", "size"), [(125, 127), (126, 130), (65_535, 65_539), (65_536, 65_546)])
def test_the_size_of_a_servers_frame_depends_on_its_length(payload: int, size: int) -> None:
    assert frame_size(payload) == size


def test_a_text_leaves_as_a_frame() -> None:
    one, other = socket.socketpair()
    with one, other:
        tell(one, "!pid")
        assert other.recv(100) == frame(TEXT, b"!pid")


def test_a_fact_is_waited_for() -> None:
    facts = iter((False, True))
    assert until(lambda: next(facts), "it comes") > 0


def test_a_fact_that_does_not_come_is_an_error() -> None:
    with pytest.raises(TimeoutError, match="not within 0 s: it comes"):
        until(lambda: False, "it comes", 0)
