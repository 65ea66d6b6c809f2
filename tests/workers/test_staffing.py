from __future__ import annotations

import signal
from collections.abc import Callable
from socket import AF_UNIX, socket

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.workers.supervised import Scene
from wshost.workers import staffing
from wshost.workers.crew import State
from wshost.workers.deaths import MANY
from wshost.workers.line import RETRY
from wshost.workers.staffing import LAST_WORDS, OVERTIME, SETTLE


class TestBeginnings:
    def test_each_pair_of_workers_gets_a_stream(self, made: Callable[..., Scene]) -> None:
        scene = made(workers=3)
        scene.start()
        assert scene.said("peer") == {1: [2, 3], 2: [1, 3], 3: [1, 2]}
        first, second = scene.workers[1].sockets[0], scene.workers[2].sockets[0]
        first.sendall(b"hello")
        assert second.recv(5) == b"hello"

    def test_a_worker_that_can_not_start_ends_the_server_with_its_line(
        self, scene: Scene, left: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene.supervisor.startService()
        scene.template.fork()
        for number in (1, 2):
            scene.workers[number].say(failed=f"no handler {number}", traceback="")
        scene.end(1, 1)
        scene.end(2, 1)
        assert left == ["no handler 1"]

    def test_a_worker_that_dies_before_it_has_served_ends_the_server(self, scene: Scene, left: list[str]) -> None:
        scene.supervisor.startService()
        scene.template.fork()
        scene.end(2, -11)
        assert left == ["worker 2 (pid 102) was ended by SIGSEGV before it has served"]


def test_a_worker_that_takes_no_socket_gets_no_stream(scene: Scene) -> None:
    scene.start()
    for worker in scene.crew:
        while worker.line.send({}, data=bytes(60_000)):
            pass
    first, second = scene.crew
    staffing._connect(first, second)
    assert scene.said("peer") == {1: [2], 2: [1]}
    assert first.state is State.SERVING
    scene.reactor.advance(RETRY)
    with socket(AF_UNIX) as unused:
        assert unused.fileno() >= 0


class TestDeaths:
    def test_a_dead_worker_is_replaced_and_its_connections_are_forgotten(self, scene: Scene) -> None:
        scene.start()
        scene.connect()
        assert scene.end(1, -9) == ["worker 1 (pid 101) was ended by SIGKILL; 1 connection lost"]
        assert len(scene.supervisor._passing.gate) == 1
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 3]
        assert len(scene.listener.events) == 2

    @pytest.mark.parametrize(
        ("status", "how"),
        [
            (3, "has exited with status 3"),
            (-64, "was ended by SIGRTMAX"),
            (-200, "was ended by signal 200"),
            (None, "could not be forked: too many"),
        ],
    )
    def test_the_log_says_how_a_worker_has_ended(self, scene: Scene, status: int | None, how: str) -> None:
        scene.start()
        assert scene.end(1, status, why="too many") == [f"worker 1 (pid 101) {how}; 0 connections lost"]

    def test_what_a_worker_has_said_at_last_is_heard(self, scene: Scene) -> None:
        scene.start()
        scene.connect()
        scene.workers[1].say(ended=[0])
        scene.workers[1].say(failed="the backplane can't connect", traceback="")
        assert scene.end(1, 1) == ["worker 1 (pid 101) can't start: the backplane can't connect; 0 connections lost"]

    def test_workers_that_die_one_after_another_are_replaced_ever_later(self, scene: Scene) -> None:
        scene.start()
        logged = []
        for number in range(1, MANY + 1):
            logged += scene.end(number, 1)
            scene.go_on()
        assert logged.count("workers die one after another: from now on, each is replaced only after some time") == 1
        assert len(scene.crew) == 1
        scene.reactor.advance(1.0)
        scene.go_on()
        assert len(scene.crew.serving) == 2

    def test_a_worker_that_has_lost_its_line_is_killed(self, scene: Scene) -> None:
        scene.start()
        scene.workers[1].channel.close()
        scene.reactor.read()
        assert scene.crew.find(1) is not None
        scene.reactor.advance(LAST_WORDS)
        assert scene.killed == [(101, signal.SIGKILL)]
        scene.end(1, -9)
        scene.go_on()
        assert len(scene.crew.serving) == 2

    def test_a_worker_that_ends_after_it_has_lost_its_line_is_not_killed(self, scene: Scene) -> None:
        scene.start()
        scene.workers[1].channel.close()
        scene.reactor.read()
        scene.end(1, 0)
        scene.reactor.advance(LAST_WORDS)
        assert scene.killed == []

    def test_a_process_that_has_gone_can_not_be_killed(self, scene: Scene) -> None:
        scene.start()
        worker = scene.crew.find(1)
        assert worker is not None
        worker.pid = -1
        scene.workers[1].channel.close()
        scene.reactor.read()
        scene.reactor.advance(LAST_WORDS)
        assert scene.killed == [(-1, signal.SIGKILL)]

    def test_a_worker_that_somebody_has_told_to_stop_is_replaced_soon(self, scene: Scene) -> None:
        scene.start()
        scene.workers[1].say(waiting=1)
        scene.workers[1].say(waiting=0)
        scene.reactor.read()
        scene.reactor.advance(SETTLE)
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 3]
        assert scene.end(1, 0) == []
        assert len(scene.crew) == 2

    def test_what_an_unknown_worker_says_changes_nothing(self, scene: Scene) -> None:
        scene.start()
        scene.template.say(ended=77, status=0)
        scene.workers[1].say(unknown=1)
        scene.reactor.read()
        scene.supervisor._worker_says(77, {"serves": True}, b"", [])
        scene.supervisor._staffing.lost(77)
        assert len(scene.crew.serving) == 2

    def test_the_last_words_of_a_worker_may_be_that_it_has_ended(self, scene: Scene) -> None:
        """What is received while it is forgotten must not forget it again."""
        scene.start()
        worker = scene.crew.find(1)
        assert worker is not None
        scene.end(1, 0)
        scene.supervisor._staffing.ended(worker, "has ended")
        assert scene.crew.lasting == 2


class TestReplacements:
    def test_a_worker_that_is_too_old_drains_once_its_successor_serves(self, made: Callable[..., Scene]) -> None:
        scene = made(worker_max_age=100.0, worker_timeout=0.0)
        scene.start()
        with capturedLogs() as logged:
            scene.reactor.pump([1.0] * 112)
        assert len(logged) == 1
        assert "is replaced: it is " in formatEvent(logged[0])
        old, other = (1, 2) if "worker 1" in formatEvent(logged[0]) else (2, 1)
        assert scene.said("stop") == {1: [], 2: []}
        scene.go_on()
        assert scene.said("stop")[old] == [True]
        assert {worker.number for worker in scene.crew.serving} == {other, 3}
        assert scene.end(old, 0) == []
        assert len(scene.crew) == 2

    def test_a_worker_that_does_not_drain_in_time_is_killed(self, made: Callable[..., Scene]) -> None:
        scene = made(worker_max_age=100.0, worker_timeout=0.0)
        scene.start()
        scene.supervisor._staffing._retire(scene.crew.serving[0])
        scene.workers[1].channel.close()
        scene.reactor.read()
        scene.reactor.advance(10.0 + OVERTIME)
        assert scene.killed == [(101, signal.SIGKILL)]

    def test_a_worker_that_dies_before_its_successor_serves_is_replaced_by_it(self, made: Callable[..., Scene]) -> None:
        scene = made()
        scene.start()
        first = scene.crew.serving[0]
        scene.supervisor._staffing.replace(first, "it is old")
        scene.supervisor._staffing.replace(scene.crew.serving[1], "it is old")
        scene.end(1, -9)
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 3]
        assert len(scene.crew) == 2
