from __future__ import annotations

import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.workers.supervised import Notifier, Scene
from wshost.settings.options import Settings
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.deaths import MANY
from wshost.workers.staffing import OVERTIME
from wshost.workers.stopping import ABORTING, Stopping


def test_all_workers_drain_and_then_all_has_stopped(scene: Scene, notifier: Notifier) -> None:
    scene.start()
    scene.connect()
    stopped = scene.supervisor.stopService()
    again = scene.supervisor.stopService()
    assert scene.listener.events[-1] == "stop"
    assert scene.said("stop") == {1: [True], 2: [True]}
    assert notifier.told[-1] == "waiting for 2 connections"
    scene.workers[1].say(waiting=0)
    scene.reactor.read()
    with capturedLogs() as logged:
        scene.reactor.advance(1)
    assert [formatEvent(event) for event in logged] == ["waiting for 1 connection"]
    scene.end(1, 0)
    assert not stopped.called
    assert scene.end(2, 0) == []
    assert stopped.called
    assert again.called
    assert scene.template.process.events == ["kill", "wait"]
    with capturedLogs() as logged:
        scene.reactor.advance(5)
    assert not logged


def test_nothing_is_said_of_no_connections(scene: Scene) -> None:
    scene.start()
    scene.supervisor.stopService()
    with capturedLogs() as logged:
        scene.reactor.advance(1)
    assert not logged


def test_workers_that_do_not_end_in_time_are_killed(scene: Scene) -> None:
    scene.start()
    scene.supervisor.stopService()
    scene.reactor.advance(10.0 + OVERTIME)
    assert scene.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]


def test_a_second_signal_ends_all_at_once(scene: Scene) -> None:
    scene.start()
    scene.supervisor.stopService()
    scene.supervisor._stopping.abort()
    assert scene.said("abort") == {1: [True], 2: [True]}
    scene.reactor.advance(ABORTING)
    assert scene.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]


def test_a_worker_that_is_forked_after_a_second_signal_is_killed(scene: Scene) -> None:
    scene.supervisor.startService()
    scene.supervisor.stopService()
    scene.supervisor._stopping.abort()
    scene.reactor.advance(ABORTING)
    assert scene.killed == []
    scene.template.fork()
    scene.reactor.read()
    assert scene.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]


def test_without_workers_a_stop_is_soon_done(scene: Scene) -> None:
    stopped: Deferred[None] = scene.supervisor.stopService()
    assert stopped.called


def test_a_dead_worker_is_not_replaced_once_the_server_stops(scene: Scene) -> None:
    scene.start()
    for number in range(1, MANY + 1):
        scene.end(number, 1)
        scene.go_on()
    scene.supervisor.stopService()
    scene.reactor.advance(1.0)
    assert scene.template.fork() == []


class Steps:
    """A stop of one worker that is none, step by step."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.clock = Clock()
        self.crew = Crew()
        line: Any = self
        self.worker = Worker(self.crew.next_number(), line, State.SERVING)
        self.crew.add(self.worker)
        systemd: Any = Notifier()
        self.finished: Deferred[None] = Deferred()
        self.stopping = Stopping(
            self.clock,
            self.crew,
            Settings(workers=1, drain_timeout=10.0),
            systemd,
            kill=lambda worker: self.steps.append(("kill", worker.number)),
            halt=lambda: self.steps.append("halt"),
            finish=self.finish,
        )

    def tell(self, head: Any) -> None:
        self.steps += head

    def finish(self) -> Deferred[None]:
        self.steps.append("finish")
        return self.finished


def test_nothing_new_begins_before_workers_are_told_and_all_else_ends_after_the_last_one() -> None:
    scene = Steps()
    scene.stopping.ended()
    done = [scene.stopping.begin(), scene.stopping.begin()]
    scene.stopping.ended()
    assert scene.steps == ["halt", "stop"]
    scene.crew.remove(scene.worker)
    scene.stopping.ended()
    assert scene.steps == ["halt", "stop", "finish"]
    assert scene.stopping.runs
    scene.finished.callback(None)
    assert [one.called for one in done] == [True, True]
    assert not scene.stopping.runs


def test_workers_that_are_forked_too_late_are_killed_after_a_second_signal_only() -> None:
    scene = Steps()
    scene.stopping.forked(scene.worker)
    assert scene.steps == []
    scene.stopping.abort()
    scene.stopping.forked(scene.worker)
    assert scene.steps == ["abort", ("kill", 1)]
    scene.clock.advance(ABORTING)
    assert scene.steps == ["abort", ("kill", 1), ("kill", 1)]
