from __future__ import annotations

from collections.abc import Iterator
from socket import socketpair
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.workers.surroundings import Peer, Ports, Reactor, heads, pair
from wshost.settings.options import Settings
from wshost.workers import adopting as module
from wshost.workers.adopting import Adopting
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.line import RETRY, Line
from wshost.workers.passing import Passing
from wshost.workers.verdicts import ADMITTED, CROWDED


class Scene:
    """Connections of another process, and workers that are none."""

    def __init__(self, **given: Any) -> None:
        self.reactor = Reactor()
        self.crew = Crew()
        self.passing = Passing(self.reactor, Settings(**given), self.crew, Ports)  # type: ignore[arg-type]
        self.events: list[str] = []
        self.adopting = Adopting(
            self.reactor,
            self.crew,
            self.passing,
            lambda: self.events.append("pause"),
            lambda: self.events.append("resume"),
        )
        self.peers: list[Peer] = []
        self.clients: list[Any] = []

    def hire(self) -> Worker:
        ours, theirs = pair()
        self.peers.append(Peer(theirs))
        worker = Worker(self.crew.next_number(), Line(self.reactor, ours, lambda *_: None, lambda: None), State.SERVING)
        self.crew.add(worker)
        return worker

    def come(self, *ids: str, name: Any = ("192.0.2.1", 5), client: Any = None) -> None:
        for id in ids:
            ours, theirs = socketpair()
            self.clients.append(ours)
            self.adopting.take({"id": id, "name": name, "client": client}, b"state", theirs)

    def got(self, number: int = 1) -> list[str]:
        return [head["id"] for head in heads(self.peers[number - 1].read(), "head")]

    def close(self) -> None:
        self.adopting.stop()
        self.passing.stop()
        for worker in self.crew:
            worker.line.close()
        for one in (*self.peers, *self.clients, self.passing.ports):
            one.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def fill(worker: Worker) -> None:
    while worker.line.send({}, data=bytes(60_000)):
        pass


def test_connections_go_to_the_workers_with_the_fewest_and_count_there(scene: Scene) -> None:
    one, other = scene.hire(), scene.hire()
    one.connections.add(100)
    scene.come("w1c1", "w1c2", "w1c3")
    assert (len(one.connections), len(other.connections)) == (2, 2)
    assert (scene.got(1), scene.got(2)) == (["w1c2"], ["w1c1", "w1c3"])
    assert len(scene.passing.gate) == 3
    scene.peers[0].sockets[0].send(b"hello")
    assert scene.clients[1].recv(5) == b"hello"
    assert scene.adopting.count == 3


def test_without_room_they_wait_and_so_does_the_process_before(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    worker = scene.hire()
    fill(worker)
    ended: list[bool] = []
    scene.come("c1", "c2")
    assert scene.events == ["pause"]
    scene.adopting.end(lambda: ended.append(True))
    scene.reactor.advance(RETRY)
    assert (scene.got(), ended) == ([], [])
    scene.reactor.advance(RETRY)
    assert scene.got() == ["c1", "c2"]
    assert scene.events == ["pause", "resume"]
    assert ended == [True]


def test_without_workers_they_wait(scene: Scene) -> None:
    scene.come("c1")
    scene.hire()
    scene.reactor.advance(RETRY)
    assert scene.got() == ["c1"]


def test_one_of_which_too_much_is_to_be_said_ends_and_the_others_go_on(scene: Scene) -> None:
    worker = scene.hire()
    ours, theirs = socketpair()
    scene.clients.append(ours)
    with capturedLogs() as logged:
        scene.adopting.take({"id": "c1", "name": "", "client": None, "notes": {"seen": [1] * 32_000}}, b"", theirs)
        scene.come("c2")
    assert scene.got() == ["c2"]
    assert ours.recv(1) == b""
    (line,) = [formatEvent(event) for event in logged]
    assert line.startswith("a connection of the process before can't be passed on: ")
    assert (worker.connections, len(scene.passing.gate)) == ({2}, 1)


def test_those_that_wait_at_the_end_are_closed(scene: Scene) -> None:
    scene.come("c1")
    scene.adopting.stop()
    assert scene.clients[0].recv(1) == b""
    assert len(scene.passing.gate) == 0
    assert not scene.reactor.getDelayedCalls()


def test_they_count_for_their_address_whether_it_has_room_or_not() -> None:
    scene = Scene(max_connections_per_address=1)
    worker = scene.hire()
    scene.come("c1", "c2")
    assert [head["counted"] for head in scene.peers[0].read()] == [True, True]
    assert scene.passing.gate.judge(10, "192.0.2.1") == CROWDED
    scene.passing.forget(worker, [1, 2])
    assert scene.passing.gate.judge(11, "192.0.2.1") == ADMITTED
    scene.close()


@pytest.mark.parametrize(("name", "client"), [("", None), (("192.0.2.9", 5), None), (("192.0.2.1", 5), [None, None])])
def test_those_without_an_address_of_a_client_count_for_none(name: Any, client: Any) -> None:
    scene = Scene(max_connections_per_address=1, trust_proxy=["192.0.2.9"])
    scene.hire()
    scene.come("c1", name=name, client=client)
    assert [head["counted"] for head in scene.peers[0].read()] == [False]
    scene.close()


def test_a_client_whom_a_proxy_has_named_counts() -> None:
    scene = Scene(max_connections_per_address=1, trust_proxy=["192.0.2.9"])
    scene.hire()
    scene.come("c1", name=("192.0.2.9", 5), client=["192.0.2.1", 7])
    assert [head["counted"] for head in scene.peers[0].read()] == [True]
    assert scene.passing.gate.judge(10, "192.0.2.1") == CROWDED
    scene.close()


def test_an_address_of_ipv6_is_counted_too() -> None:
    scene = Scene(max_connections_per_address=1, trust_proxy=["192.0.2.9"])
    scene.hire()
    scene.come("c1", name=["2001:db8::1", 5, 0, 0])
    assert scene.passing.gate.judge(10, "2001:db8::1") == CROWDED
    scene.close()
