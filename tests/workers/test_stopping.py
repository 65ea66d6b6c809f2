from __future__ import annotations

import signal

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.workers.supervised import Notifier, Scene
from wshost.workers.deaths import MANY
from wshost.workers.staffing import OVERTIME
from wshost.workers.stopping import ABORTING


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
