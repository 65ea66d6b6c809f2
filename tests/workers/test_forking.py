from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.workers.supervised import Scene
from wshost.workers.forking import LOOK, adopt_orphans


class TestTemplate:
    def test_a_template_that_can_not_prepare_ends_the_server(self, scene: Scene, left: list[str]) -> None:
        scene.supervisor.startService()
        scene.template.say(ready=True)
        scene.template.say(failed="no handler")
        scene.template.channel.close()
        scene.reactor.read()
        assert left == ["no handler"]
        assert len(scene.templates) == 1

    def test_a_template_that_takes_no_command_forks_later(
        self, scene: Scene, left: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene.start()
        line = scene.supervisor._forking._line
        assert line is not None
        while line.send({}, data=bytes(60_000)):
            pass
        scene.end(1, 0)
        for _ in range(8):
            scene.reactor.advance(30.0)
        assert len(scene.crew) == 1
        with suppress(BlockingIOError):
            while True:
                scene.template.channel.receive()
        scene.reactor.advance(30.0)
        scene.go_on()
        assert len(scene.crew.serving) == 2

    def test_a_dead_template_is_replaced_and_its_workers_go_on(self, scene: Scene) -> None:
        scene.start()
        with capturedLogs() as logged:
            scene.kill_template()
        assert [formatEvent(event) for event in logged] == [
            "the process that forks workers has ended: another one starts"
        ]
        assert scene.templates[0].process.events == ["kill", "wait"]
        assert len(scene.templates) == 2
        assert [worker.number for worker in scene.crew.serving] == [1, 2]
        scene.statuses[101] = 9
        with capturedLogs() as logged:
            scene.reactor.advance(LOOK)
        assert [formatEvent(event) for event in logged] == [
            "worker 1 (pid 101) was ended by SIGKILL; 0 connections lost"
        ]
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 3]
        scene.statuses[102] = 0
        scene.reactor.advance(LOOK)
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [3, 4]
        assert not scene.supervisor._forking._looking.running

    def test_a_worker_that_another_process_has_adopted_ends_with_its_line(self, scene: Scene) -> None:
        scene.start()
        scene.kill_template()
        scene.statuses[101] = None
        scene.reactor.advance(LOOK)
        assert scene.crew.find(1) is not None
        scene.templates[0].workers[1].channel.close()
        scene.reactor.read()
        scene.reactor.advance(LOOK)
        assert scene.crew.find(1) is None

    def test_a_worker_that_was_not_forked_yet_is_forked_by_the_next_template(self, scene: Scene) -> None:
        scene.start()
        scene.end(1, -9)
        scene.kill_template()
        scene.reactor.advance(0)
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 4]

    def test_orphans_are_looked_at_by_one_call_only(self, scene: Scene) -> None:
        scene.start()
        scene.kill_template()
        scene.reactor.advance(0)
        scene.kill_template()
        scene.reactor.advance(0)
        assert len(scene.templates) == 3
        assert scene.supervisor._forking._looking.running

    def test_a_template_is_tried_again_until_it_starts(self, scene: Scene) -> None:
        scene.start()
        scene.unable = 2
        with capturedLogs() as logged:
            scene.kill_template()
            for _ in range(4):
                scene.reactor.advance(30.0)
        assert [formatEvent(event) for event in logged].count("no process can be started: too many processes") == 2
        assert len(scene.templates) == 2

    def test_a_template_that_can_not_prepare_later_is_told_of(self, scene: Scene, left: list[str]) -> None:
        scene.start()
        with capturedLogs() as logged:
            scene.template.say(failed="no handler", traceback="Traceback")
            scene.reactor.read()
        assert [formatEvent(event) for event in logged] == ["workers can't start: no handler"]
        assert left == []

    def test_a_template_is_not_renewed_once_the_server_stops(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scene.supervisor._forking._deaths, "note", lambda _: (5.0, False))
        scene.start()
        scene.kill_template()
        scene.supervisor.stopService()
        scene.reactor.advance(5.0)
        assert len(scene.templates) == 1

    def test_the_death_of_a_template_at_the_end_is_no_news(self, scene: Scene) -> None:
        scene.start()
        scene.supervisor.stopService()
        with capturedLogs() as logged:
            scene.kill_template()
        assert not logged
        scene.statuses |= {101: 0, 102: 0}
        scene.reactor.advance(LOOK)
        assert len(scene.crew) == 0


class TestPreload:
    def test_a_worker_that_was_to_be_forked_is_forked_by_the_other_template(self, made: Callable[..., Scene]) -> None:
        scene = made(preload=True)
        scene.start()
        scene.end(1, -9)
        scene.supervisor._forking.renew()
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 4]

    def test_a_dead_template_is_not_renewed_twice(self, made: Callable[..., Scene]) -> None:
        scene = made(preload=True)
        scene.start()
        scene.supervisor._forking.stop()
        scene.supervisor._forking.renew()
        assert len(scene.templates) == 1


def test_workers_become_children_of_their_supervisor_when_their_template_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []

    class Library:
        prctl = staticmethod(lambda *args: calls.append(args))

    monkeypatch.undo()
    monkeypatch.setattr("ctypes.CDLL", lambda _: Library)
    adopt_orphans()
    assert calls == [(36, 1, 0, 0, 0)]
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    adopt_orphans()
    assert len(calls) == 1
