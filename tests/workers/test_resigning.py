from __future__ import annotations

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.workers.supervised import Scene
from tests.workers.surroundings import Peer, pair
from wshost.process.takeover import Channel


def test_a_successor_that_takes_no_connections_gets_none(scene: Scene) -> None:
    scene.start()
    ours, theirs = pair()
    channel = Channel(ours)
    channel.said = {"connections": False}
    scene.supervisor._resigning.give_up_to(channel)
    assert scene.said("give") == {1: [], 2: []}
    assert scene.reactor.stops == 1
    assert Peer(theirs, Channel).read() == [{"opened": 0}]
    theirs.close()


def test_a_server_that_stops_while_it_is_taken_over_is_not_stopped_twice(scene: Scene) -> None:
    scene.start()
    ours, theirs = pair()
    assert scene.supervisor._resigning.give_up_to(Channel(ours))
    scene.supervisor.stopService()
    for number in (1, 2):
        scene.end(number)
    assert scene.reactor.stops == 0
    theirs.close()


@pytest.mark.parametrize("followed", [False, True])
def test_a_server_that_stops_leaves_a_successor_that_starts_the_sockets(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    scene.start()
    monkeypatch.setattr(scene.supervisor._succession, "stop", lambda: followed)
    released: list[str] = []
    monkeypatch.setattr(scene.listener.port, "release", lambda: released.append("release"))
    scene.supervisor.stopService()
    assert released == ["release"] * followed


def test_sockets_that_can_not_go_over_are_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.start()
    scene.listener.port = None
    assert scene.supervisor._endpoints.sockets() == {}
    ours, theirs = pair()
    channel = Channel(ours)
    channel.said = {"connections": False}
    scene.supervisor._resigning.give_up_to(channel)
    assert scene.listener.events[-1] == "pause"
    theirs.close()


def test_a_successor_that_has_gone_changes_nothing(scene: Scene) -> None:
    scene.start()
    ours, theirs = pair()
    theirs.close()
    with capturedLogs() as logged:
        assert not scene.supervisor._resigning.give_up_to(Channel(ours))
    assert formatEvent(logged[0]).startswith("the process that would take over has gone")
    assert scene.listener.events[-2:] == ["pause", "resume"]
    assert scene.reactor.stops == 0
