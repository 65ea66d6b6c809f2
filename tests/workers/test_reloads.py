from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.workers.supervised import Notifier, Scene
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.forking import LOOK
from wshost.workers.reloads import Reloads


def test_workers_reload_one_after_another(scene: Scene, notifier: Notifier) -> None:
    scene.start()
    scene.supervisor.reload()
    assert scene.said("reload") == {1: [True], 2: []}
    scene.workers[1].say(reloaded=["the certificates stay as they are"], done=True)
    scene.reactor.read()
    assert scene.said("reload") == {1: [], 2: [True]}
    assert notifier.told[2:] == ["reloading"]
    scene.workers[2].say(reloaded=[], done=True)
    scene.workers[2].say(reloaded=[], done=True)
    scene.reactor.read()
    assert notifier.told[2:] == ["reloading", "ready"]


def test_what_fails_in_one_worker_is_not_tried_in_the_others(scene: Scene, notifier: Notifier) -> None:
    scene.start()
    scene.supervisor.reload()
    scene.workers[1].say(reloaded=["the handlers stay as they are"], done=False)
    scene.reactor.read()
    assert scene.said("reload") == {1: [True], 2: []}
    assert notifier.told[2:] == ["reloading", "ready"]


def test_a_worker_that_dies_meanwhile_is_left_out(scene: Scene, notifier: Notifier) -> None:
    scene.start()
    scene.supervisor.reload()
    scene.end(2, -9)
    scene.end(1, -9)
    assert notifier.told[2:] == ["reloading", "ready"]


def test_a_reload_that_is_asked_for_meanwhile_follows(scene: Scene, notifier: Notifier) -> None:
    scene.start()
    scene.supervisor.reload()
    scene.supervisor.reload()
    for number in (1, 2):
        scene.workers[number].say(reloaded=[], done=False)
        scene.reactor.read()
    assert scene.said("reload")[1] == [True, True]
    assert notifier.told[2:] == ["reloading", "ready", "reloading"]


def test_before_all_serve_and_once_the_server_stops_nothing_is_reloaded(scene: Scene, notifier: Notifier) -> None:
    scene.supervisor.reload()
    scene.start()
    scene.supervisor.reload()
    scene.supervisor.stopService()
    scene.workers[1].say(reloaded=["no"], done=False)
    scene.reactor.read()
    scene.supervisor.reload()
    assert notifier.told == ["live", "ready", "reloading", "waiting for 0 connections"]


def test_workers_after_a_reload_are_forked_from_another_template(made: Callable[..., Scene]) -> None:
    scene = made(preload=True)
    scene.start()
    scene.supervisor.reload()
    for number in (1, 2):
        scene.workers[number].say(reloaded=[], done=True)
        scene.reactor.read()
    assert len(scene.templates) == 2
    assert scene.templates[0].process.events == ["kill", "wait"]
    assert [worker.number for worker in scene.crew.serving] == [1, 2]
    scene.statuses[101] = 9
    scene.reactor.advance(LOOK)
    scene.go_on()
    assert sorted(scene.template.workers) == [3]


def test_nothing_new_needs_no_other_template(made: Callable[..., Scene]) -> None:
    scene = made(preload=True)
    scene.start()
    scene.supervisor.reload()
    for number in (1, 2):
        scene.workers[number].say(reloaded=[], done=False)
        scene.reactor.read()
    assert len(scene.templates) == 1


class Steps:
    """Reloads of one worker that is none, step by step."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.able = True
        self.crew = Crew()
        line: Any = self
        self.worker = Worker(self.crew.next_number(), line, State.SERVING)
        self.crew.add(self.worker)
        self.systemd = Notifier()
        systemd: Any = self.systemd
        self.reloads = Reloads(self.crew, systemd, lambda: self.able, lambda: self.steps.append("renew"))

    def tell(self, head: Any) -> None:
        self.steps += head


def test_later_workers_get_what_is_new_once_all_have_it() -> None:
    scene = Steps()
    scene.reloads.begin()
    assert scene.reloads.asks(scene.worker)
    assert (scene.steps, scene.systemd.told) == (["reload"], ["reloading"])
    scene.reloads.answered(scene.worker, True, [])
    assert not scene.reloads.asks(scene.worker)
    assert (scene.steps, scene.systemd.told) == (["reload", "renew"], ["reloading", "ready"])
    scene.reloads.begin()
    scene.reloads.answered(scene.worker, False, [])
    assert scene.steps == ["reload", "renew", "reload"]


def test_a_server_that_stops_meanwhile_renews_nothing() -> None:
    scene = Steps()
    scene.reloads.begin()
    scene.able = False
    scene.reloads.answered(scene.worker, True, [])
    scene.reloads.begin()
    assert (scene.steps, scene.systemd.told) == (["reload"], ["reloading"])
