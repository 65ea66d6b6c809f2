"""Numbered messages: what a listener makes of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from scale.crowd import until
from scale.numbers import Listener

Say = Callable[[int], None]


@pytest.fixture
def pair() -> Iterator[tuple[Listener, Say]]:
    client, server = socket.socketpair()
    with client, server:
        listener = Listener(client)
        listener.start()

        def say(number: int) -> None:
            text = str(number).encode()
            server.sendall(bytes((0x81, len(text))) + text)

        yield listener, say
        listener.stop()


def test_messages_are_counted_and_the_last_number_is_known(pair: tuple[Listener, Say]) -> None:
    listener, say = pair
    for number in (1, 2, 5):
        say(number)
    until(lambda: listener.received == 3, "all have come")
    assert (listener.last, listener.disordered) == (5, 0)


@pytest.mark.parametrize("number", [2, 1])
def test_a_number_that_comes_twice_or_too_late_is_noted(pair: tuple[Listener, Say], number: int) -> None:
    listener, say = pair
    for one in (1, 2, number, 3):
        say(one)
    until(lambda: listener.received == 4, "all have come")
    assert listener.disordered == 1


def test_the_end_of_a_connection_is_noted() -> None:
    client, server = socket.socketpair()
    with client:
        listener = Listener(client)
        listener.start()
        server.close()
        until(lambda: listener.failure != "", "the end is noted")
        listener.stop()
    assert listener.failure == "the server has closed the connection"
