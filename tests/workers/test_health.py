from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.task import Clock

from wshost.settings.options import Settings
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.health import Health, resident


class Line:
    """Counts what is asked."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def tell(self, head: Any) -> None:
        self.told.append(head)


class Scene:
    """One worker that serves, and what is said of it."""

    def __init__(self, **given: Any) -> None:
        self.clock = Clock()
        self.crew = Crew()
        line: Any = Line()
        self.line = line
        self.worker = Worker(1, line, State.SERVING, pid=7)
        self.crew.add(self.worker)
        self.hanging: list[float] = []
        self.worn: list[str] = []
        self.size = 0
        self.health = Health(
            self.clock,
            self.crew,
            Settings(**{"worker_timeout": 0.0, **given}),
            hangs=lambda _, seconds: self.hanging.append(seconds),
            worn=lambda _, why: self.worn.append(why),
            resident=lambda _: self.size,
        )
        self.health.serves(self.worker)
        self.health.start()

    def wait(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)


def test_a_worker_that_answers_does_not_hang() -> None:
    scene = Scene(worker_timeout=3.0)
    for _ in range(20):
        scene.wait(2)
        scene.health.lives(scene.worker)
    assert scene.hanging == []
    assert len(scene.line.told) == 20
    scene.wait(4)
    assert scene.hanging == [3.0]


def test_time_in_which_the_supervisor_stood_still_does_not_count() -> None:
    scene = Scene(worker_timeout=10.0)
    scene.wait(2)
    scene.clock.advance(1_000.0)
    assert scene.hanging == []
    scene.wait(7)
    assert scene.hanging == [10.0]


def test_a_worker_that_is_not_serving_is_left_alone() -> None:
    scene = Scene(worker_timeout=1.0, worker_max_age=1.0)
    scene.worker.state = State.LEAVING
    scene.wait(5)
    assert (scene.hanging, scene.worn) == ([], [])


def test_a_worker_has_an_age_give_or_take_a_part() -> None:
    scene = Scene(worker_max_age=100.0)
    scene.wait(89)
    assert scene.worn == []
    scene.wait(22)
    assert scene.worn[0].startswith("it is ")


def test_a_worker_that_has_grown_too_large_is_worn() -> None:
    scene = Scene(worker_max_rss=100 << 20)
    scene.size = 100 << 20
    scene.wait(2)
    assert scene.worn == []
    scene.size = (150 << 20) + 5
    scene.wait(1)
    assert scene.worn == ["it has 150MiB of memory"]
    scene.worker.pid = None
    scene.wait(1)
    assert len(scene.worn) == 1


def test_nothing_is_looked_at_after_the_stop() -> None:
    scene = Scene(worker_timeout=1.0)
    scene.health.stop()
    scene.health.stop()
    scene.wait(5)
    assert scene.line.told == []


def test_the_memory_of_a_process_is_asked_of_the_kernel() -> None:
    assert resident(os.getpid()) > 1 << 20
    assert resident(0) == 0


@pytest.mark.parametrize("seconds", [0, 1])
def test_without_limits_nothing_is_said(seconds: int) -> None:
    scene = Scene()
    scene.size = 1 << 40
    scene.wait(seconds)
    assert (scene.hanging, scene.worn, scene.line.told) == ([], [], [])
