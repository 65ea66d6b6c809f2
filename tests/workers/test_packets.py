from __future__ import annotations

import marshal
from collections.abc import Iterator
from socket import AF_INET, AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, send_fds, socket, socketpair
from typing import Any

import pytest

from tests.workers.surroundings import pair
from wshost.process.takeover import LARGEST, MOST
from wshost.workers.packets import Packets


@pytest.fixture
def ends() -> Iterator[tuple[Packets, Packets]]:
    first, second = map(Packets, pair())
    yield first, second
    first.close()
    second.close()


@pytest.mark.parametrize("name", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0), "/path", b"\0name", None])
def test_a_packet_arrives_as_it_was_sent(ends: tuple[Packets, Packets], name: Any) -> None:
    head = {"take": [(0, name, 1 << 40, -1)], "done": True, "why": "Grüße"}
    ends[0].send(head, b"\n\x00data")
    assert ends[1].receive() == (head, b"\n\x00data", [])


def test_sockets_of_all_kinds_arrive_in_order(ends: tuple[Packets, Packets]) -> None:
    kinds = [(AF_INET, SOCK_STREAM), (AF_UNIX, SOCK_STREAM), (AF_UNIX, SOCK_SEQPACKET)]
    made = [socket(*kind) for kind in kinds]
    ends[0].send({}, b"", [one.fileno() for one in made])
    head, data, sockets = ends[1].receive()
    assert (head, data) == ({}, b"")
    assert [(one.family, one.type) for one in sockets] == kinds
    for one in (*made, *sockets):
        one.close()


def test_programs_that_the_process_starts_do_not_inherit_received_sockets(ends: tuple[Packets, Packets]) -> None:
    with socket() as one:
        ends[0].send({}, b"", [one.fileno()])
    (received,) = ends[1].receive()[2]
    with received:
        assert not received.get_inheritable()


def test_a_packet_has_as_many_sockets_as_the_kernel_passes(ends: tuple[Packets, Packets]) -> None:
    with socket() as one:
        ends[0].send({}, b"", [one.fileno()] * MOST)
    sockets = ends[1].receive()[2]
    assert len(sockets) == MOST
    for one in sockets:
        one.close()


def test_a_packet_that_is_too_large_is_an_error(ends: tuple[Packets, Packets]) -> None:
    with pytest.raises(ValueError, match="bytes are too many for a packet"):
        ends[0].send({}, bytes(LARGEST))


def test_a_packet_is_not_too_large_with_room_for_its_head(ends: tuple[Packets, Packets]) -> None:
    ends[0].send({"answer": 1}, bytes(LARGEST - 1_024))
    assert ends[1].receive() == ({"answer": 1}, bytes(LARGEST - 1_024), [])


def test_other_types_are_an_error(ends: tuple[Packets, Packets]) -> None:
    with pytest.raises(ValueError, match="unmarshallable"):
        ends[0].send({"what": object()})


WHOLE = marshal.dumps(({"head": 1}, b""))
OTHERS = [marshal.dumps(1), marshal.dumps(([], b"")), marshal.dumps(({}, "")), marshal.dumps(({},))]


@pytest.mark.parametrize("packet", [b"no packet", WHOLE[:-1], *OTHERS])
def test_another_form_is_an_error_and_its_sockets_are_closed(ends: tuple[Packets, Packets], packet: bytes) -> None:
    ours, theirs = socketpair()
    with ours:
        with theirs:
            send_fds(ends[0].socket, [packet], [theirs.fileno()])
        with pytest.raises(ValueError, match="a packet has another form"):
            ends[1].receive()
        assert ours.recv(1) == b""


def test_the_end_of_the_other_process_is_an_error(ends: tuple[Packets, Packets]) -> None:
    ends[0].close()
    with pytest.raises(EOFError):
        ends[1].receive()
