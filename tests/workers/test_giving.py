from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.workers.surroundings import Peer, Reactor, heads, pair
from wshost.process.takeover import Channel
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.giving import SECONDS, Giving
from wshost.workers.line import RETRY, Line


class Scene:
    """Workers that are none, and a process that takes over."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.crew = Crew()
        self.giving = Giving(self.reactor, self.crew)
        self.peers: list[Peer] = []
        self.done: list[int] = []
        ours, theirs = pair()
        self.channel, self.successor = Channel(ours), Peer(theirs, Channel)

    def hire(self, state: State = State.SERVING) -> Worker:
        ours, theirs = pair()
        self.peers.append(Peer(theirs))
        number = self.crew.next_number()
        worker = Worker(number, Line(self.reactor, ours, lambda *_: None, lambda: None), state)
        self.crew.add(worker)
        return worker

    def begin(self, **said: Any) -> None:
        self.channel.said = said
        self.giving.begin(self.channel).addCallback(self.done.append)

    def asked(self) -> list[int]:
        return [number for number, peer in enumerate(self.peers, 1) if heads(peer.read(), "give")]

    def close(self) -> None:
        self.channel.close()
        self.successor.close()
        for worker in self.crew:
            worker.line.close()
        for one in self.peers:
            one.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def test_each_worker_that_serves_gets_the_way_to_the_process_that_takes_over(scene: Scene) -> None:
    one, other, _ = scene.hire(), scene.hire(), scene.hire(State.LEAVING)
    scene.begin()
    assert scene.asked() == [1, 2]
    scene.peers[0].sockets[0].send(b'{"id": "w1c1"}\n')
    assert scene.successor.read() == [{"id": "w1c1"}]
    scene.giving.answered(one, 3)
    assert scene.done == []
    scene.giving.answered(other, 4)
    assert scene.done == [7]
    assert not scene.reactor.getDelayedCalls()


def test_a_worker_whose_number_comes_again_in_the_other_process_keeps_its_connections(scene: Scene) -> None:
    one, _ = scene.hire(), scene.hire()
    scene.begin(workers=1)
    assert scene.asked() == [1]
    scene.giving.answered(one, 0)
    assert scene.done == [0]


def test_without_workers_there_is_nothing_to_give(scene: Scene) -> None:
    scene.begin()
    assert scene.done == [0]


def test_a_worker_without_room_is_asked_again_and_one_that_has_gone_is_not(scene: Scene) -> None:
    worker, gone = scene.hire(), scene.hire()
    gone.line.close()
    while worker.line.send({}, data=bytes(60_000)):
        pass
    scene.begin()
    scene.reactor.advance(RETRY)
    scene.peers[0].read()
    scene.reactor.advance(RETRY)
    assert scene.asked() == [1]
    scene.giving.answered(worker, 2)
    assert scene.done == [2]


def test_a_worker_that_ends_before_it_is_asked_is_not_waited_for(scene: Scene) -> None:
    worker = scene.hire()
    while worker.line.send({}, data=bytes(60_000)):
        pass
    scene.begin()
    scene.giving.answered(worker, 0)
    scene.giving.answered(worker, 1)
    assert scene.done == [0]
    scene.reactor.advance(RETRY)
    assert scene.asked() == []


def test_workers_have_only_so_much_time(scene: Scene) -> None:
    one, other = scene.hire(), scene.hire()
    scene.begin()
    scene.giving.answered(one, 3)
    scene.reactor.advance(SECONDS)
    assert scene.done == [3]
    scene.giving.answered(other, 1)
    assert scene.done == [3]
