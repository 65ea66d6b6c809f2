from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from socket import socket, socketpair
from typing import Any

import pytest

from tests.workers.surroundings import Peer, Ports, Reactor, heads, pair
from wshost.process.takeover import MOST
from wshost.settings.options import Settings
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.line import RETRY, Line
from wshost.workers.passing import MOST_WAITING, Passing
from wshost.workers.verdicts import ADMITTED, CROWDED, FULL


class Scene:
    """Connections, and workers that they may go to."""

    def __init__(self, **given: Any) -> None:
        self.reactor = Reactor()
        self.crew = Crew()
        self.passing = Passing(self.reactor, Settings(**given), self.crew, Ports)  # type: ignore[arg-type]
        self.ports: Any = self.passing.ports
        self.peers: list[Peer] = []
        self.clients: list[socket] = []

    def hire(self) -> Worker:
        ours, theirs = pair()
        self.peers.append(Peer(theirs))
        line = Line(self.reactor, ours, lambda *_: None, lambda: None)
        worker = Worker(self.crew.next_number(), line, State.SERVING)
        self.crew.add(worker)
        return worker

    def connect(self, count: int = 1, host: Any = "192.0.2.1", place: int = 0) -> None:
        accepted: deque[tuple[socket, Any]] = deque()
        for number in range(count):
            ours, theirs = socketpair()
            self.clients.append(ours)
            accepted.append((theirs, host if isinstance(host, bytes) else (host, number)))
        self.ports.take(place, accepted)
        assert not accepted

    def taken(self, worker: Worker) -> list[Any]:
        return [one for batch in heads(self.peers[worker.number - 1].read(), "take") for one in batch]

    def close(self) -> None:
        self.passing.stop()
        for worker in self.crew:
            worker.line.close()
        for one in (*self.peers, *self.clients, self.ports):
            one.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    scene.passing.begin()
    yield scene
    scene.close()


def test_connections_go_to_workers_in_turn_with_names_numbers_and_verdicts(scene: Scene) -> None:
    first, second = scene.hire(), scene.hire()
    scene.connect(3)
    assert scene.taken(first) == [(0, ("192.0.2.1", 0), 1, ADMITTED), (0, ("192.0.2.1", 2), 3, ADMITTED)]
    assert scene.taken(second) == [(0, ("192.0.2.1", 1), 2, ADMITTED)]
    assert [len(peer.sockets) for peer in scene.peers] == [2, 1]
    assert scene.passing.accepted == 3


def test_more_connections_than_a_packet_may_have_go_in_several(scene: Scene) -> None:
    worker = scene.hire()
    scene.connect(MOST + 1)
    assert len(scene.taken(worker)) == MOST + 1


def test_a_name_may_be_an_abstract_one(scene: Scene) -> None:
    worker = scene.hire()
    scene.connect(host=b"\0name")
    assert scene.taken(worker) == [(0, b"\0name", 1, ADMITTED)]


def test_connections_wait_until_a_worker_serves(scene: Scene) -> None:
    scene.connect(2)
    worker = scene.hire()
    scene.passing.go_on()
    assert [one[2] for one in scene.taken(worker)] == [1, 2]


def test_a_worker_that_has_no_room_gets_none_and_the_next_one_does(scene: Scene) -> None:
    full = scene.hire()
    while full.line.send({}, data=bytes(60_000)):
        pass
    free = scene.hire()
    scene.connect(3)
    assert [one[2] for one in scene.taken(free)] == [2, 1, 3]
    assert not full.connections
    assert free.connections == {1, 2, 3}


def test_connections_that_no_worker_has_room_for_are_tried_again_in_order(scene: Scene) -> None:
    worker = scene.hire()
    while worker.line.send({}, data=bytes(60_000)):
        pass
    scene.connect(2)
    scene.connect(1)
    assert scene.taken(worker) == []
    scene.reactor.advance(RETRY)
    assert [one[2] for one in scene.taken(worker)] == [1, 2, 3]


def test_clients_wait_in_the_kernel_while_too_many_wait_here(scene: Scene) -> None:
    listener = scene.ports.listeners[0]
    scene.connect(200)
    for _ in range(3):
        scene.connect(200)
    assert listener.events == ["resume", "pause"]
    assert len(scene.passing.gate) == 800 < MOST_WAITING
    scene.hire()
    scene.passing.go_on()
    assert listener.events == ["resume", "pause", "resume"]


def test_a_stop_closes_what_waits_and_accepts_no_more(scene: Scene) -> None:
    worker = scene.hire()
    while worker.line.send({}, data=bytes(60_000)):
        pass
    scene.connect()
    scene.clients[0].setblocking(False)
    assert scene.passing.stop().called
    assert scene.clients[0].recv(1) == b""
    assert len(scene.passing.gate) == 0
    assert scene.ports.listeners[0].events == ["resume", "stop"]
    scene.reactor.advance(RETRY)
    scene.passing.go_on()
    assert scene.ports.listeners[0].events == ["resume", "stop"]


def test_a_connection_that_has_ended_makes_room() -> None:
    scene = Scene(max_connections=1)
    worker = scene.hire()
    scene.connect(2)
    assert [one[3] for one in scene.taken(worker)] == [ADMITTED, FULL]
    scene.passing.forget(worker, [1, 2])
    assert not worker.connections
    scene.connect()
    assert [one[3] for one in scene.taken(worker)] == [ADMITTED]
    scene.close()


def test_a_client_counts_by_its_address_unless_a_proxy_is_to_name_it() -> None:
    scene = Scene(
        max_connections_per_address=1, listen=["tcp:80", "haproxy:tcp:81", "unix:/x"], trust_proxy=["192.0.2.7"]
    )
    worker = scene.hire()
    scene.connect(2)
    scene.connect(2, place=1)
    scene.connect(2, "192.0.2.7")
    scene.connect(1, "192.0.2.8")
    verdicts = [one[3] for one in scene.taken(worker)]
    assert verdicts == [ADMITTED, CROWDED, ADMITTED, ADMITTED, ADMITTED, ADMITTED, ADMITTED]
    scene.close()


def test_a_worker_is_told_whether_clients_have_room_that_proxies_have_named() -> None:
    scene = Scene(max_connections_per_address=1, listen=["haproxy:tcp:81"])
    first, second = scene.hire(), scene.hire()
    scene.connect(4)
    scene.passing.judge(first, [(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.2")])
    # 2 is none of its own.
    assert heads(scene.peers[0].read(), "judged") == [[[1, ADMITTED], [3, ADMITTED]]]
    scene.passing.judge(second, [(2, "192.0.2.1"), (4, "192.0.2.3")])
    assert heads(scene.peers[1].read(), "judged") == [[[2, CROWDED], [4, ADMITTED]]]
    scene.passing.forget(first, [1])
    scene.connect(1)
    scene.passing.judge(first, [(5, "192.0.2.1")])
    assert heads(scene.peers[0].read(), "judged") == [[[5, ADMITTED]]]
    scene.close()


def test_without_trusted_proxies_each_peer_counts_by_its_address() -> None:
    scene = Scene(connection_rate=1)
    worker = scene.hire()
    scene.connect(3)
    assert [one[3] for one in scene.taken(worker)] == [ADMITTED, ADMITTED, 1]
    scene.close()


def test_accepting_may_pause_and_go_on(scene: Scene) -> None:
    scene.passing.pause()
    scene.passing.go_on()
    scene.passing.begin()
    assert scene.ports.listeners[0].events == ["resume", "pause", "resume"]
