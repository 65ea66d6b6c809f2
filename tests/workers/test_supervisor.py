from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket, socketpair
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.workers.supervised import Endpoint, Notifier, Scene
from tests.workers.surroundings import heads
from wshost.commands.one_line import Exit
from wshost.process import signals
from wshost.process.takeover import Channel
from wshost.results import ConfigurationError
from wshost.workers.crew import State
from wshost.workers.verdicts import ADMITTED


class TestStart:
    def test_clients_are_let_in_when_all_workers_serve(self, scene: Scene, notifier: Notifier) -> None:
        scene.supervisor.bind(unix=False)
        scene.supervisor.privilegedStartService()
        scene.supervisor.startService()
        assert scene.ports.bound == [False, True, True]
        assert scene.template.fork() == [1, 2]
        scene.template.workers[1].say(serves=True)
        scene.reactor.read()
        assert scene.listener.events == []
        scene.template.workers[2].say(serves=True)
        scene.template.workers[2].say(serves=True)
        scene.reactor.read()
        (how, plain, secure), resumed = scene.listener.events
        assert (plain, secure, resumed) == ("ws", "ws", "resume")
        assert how.endswith("2 workers: 101, 102")
        assert notifier.told == ["live", "ready"]

    def test_a_worker_that_serves_before_the_template_has_named_it_names_itself(self, scene: Scene) -> None:
        scene.start()
        worker: Any = scene.supervisor._crew.find(1)
        worker.state, worker.pid = State.STARTING, None
        scene.template.workers[1].say(serves=True, pid=4_711)
        scene.reactor.read()
        assert (worker.state, worker.pid) == (State.SERVING, 4_711)

    def test_without_processes_there_is_no_start(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        scene.unable = 1
        with pytest.raises(Exit, match="workers: no process can be started: too many processes"):
            scene.supervisor.startService()

    def test_systems_without_what_workers_need_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "pidfd_open")
        with pytest.raises(ConfigurationError, match="they need Linux"):
            Scene()


class TestSignals:
    def test_hang_ups_open_all_logs_again_and_reload(self, scene: Scene, handled: list[Any]) -> None:
        scene.start()
        (hangup, reopen), (reload, again) = handled
        assert (hangup, reload) == (signals.HANGUP, signals.RELOAD)
        reopen(signal.SIGHUP)
        assert scene.said("reopen") == {1: [True], 2: [True]}
        again(signal.SIGHUP)
        assert scene.said("reload") == {1: [True], 2: []}


class TestReports:
    def test_a_worker_that_asks_about_a_client_is_answered(self, scene: Scene) -> None:
        scene.start()
        scene.connect()
        (number,) = next(iter(scene.crew)).connections
        scene.workers[1].say(judge=[[number, "192.0.2.9"]])
        scene.reactor.read()
        assert heads(scene.workers[1].read(), "judged") == [[[number, ADMITTED]]]

    def test_a_worker_that_gives_no_sign_of_life_is_killed_and_replaced(self, made: Callable[..., Scene]) -> None:
        scene = made(worker_timeout=3.0)
        scene.start()
        scene.reactor.pump([1.0] * 3)
        assert scene.said("beat") == {1: [True], 2: [True]}
        scene.workers[2].say(beat=True)
        scene.reactor.read()
        with capturedLogs() as logged:
            scene.reactor.pump([1.0] * 3)
        assert [formatEvent(event) for event in logged] == ["worker 1 (pid 101) has given no sign of life for 3 s"]
        assert scene.killed == [(101, signal.SIGKILL)]
        scene.end(1, -9)
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 3]

    def test_a_worker_that_imports_handlers_again_may_take_its_time(self, made: Callable[..., Scene]) -> None:
        scene = made(worker_timeout=3.0)
        scene.start()
        scene.supervisor.reload()
        scene.reactor.pump([1.0] * 5)
        assert (101, signal.SIGKILL) not in scene.killed
        assert (102, signal.SIGKILL) in scene.killed


def together(made: Callable[..., Scene], path: str, **given: Any) -> tuple[Scene, Scene]:
    """A server that has told another one to accept, and that one."""
    old = made(takeover=path, **given)
    old.start()
    scenes: list[Scene] = []
    asking = threading.Thread(target=lambda: scenes.append(made(takeover=path, **given)))
    asking.start()
    while asking.is_alive():
        old.reactor.read()
    new = scenes[0]
    new.start()
    old.reactor.read()
    old.reactor.read()
    return old, new


class TestTakeover:
    def test_the_next_server_accepts_once_its_workers_serve_and_this_one_drains(
        self, made: Callable[..., Scene], path: str
    ) -> None:
        old, new = together(made, path)
        assert list(new.ports.inherited) == [new.listener.description]
        # Numbers of workers name connections, and never come again.
        assert [worker.number for worker in new.crew] == [3, 4]
        assert new.listener.events == []
        assert old.listener.events[-2:] == ["pause", "release"]
        assert old.reactor.stops == 0
        new.reactor.read()
        assert new.listener.events[-1] == "resume"
        giving = {number: peer for number, peer in old.workers.items() if heads(peer.read(), "give")}
        assert list(giving) == [1, 2]
        ours, theirs = socketpair()
        head = {"id": "w1c1", "home": ["a", "b"], "client": None, "name": ""}
        Channel(giving[1].sockets[-1]).send(head, b"state", [theirs.fileno()])
        theirs.close()
        new.reactor.read()
        new.supervisor._succession.pause()
        new.supervisor._succession.resume()
        [carried] = new.said("head")[3]
        assert carried == head
        with capturedLogs() as logged:
            giving[1].say(given=1)
            old.reactor.read()
            old.end(2, -9)
        assert "another process has taken over, with 1 connection" in [formatEvent(one) for one in logged]
        assert old.reactor.stops == 1
        for peer in giving.values():
            peer.close()
        with capturedLogs() as logged:
            new.reactor.read()
        assert [formatEvent(one) for one in logged] == ["1 connection went over from the process before"]
        assert new.said("settled") == {3: [True], 4: [True]}
        ours.close()
        old.supervisor.stopService()
        assert Path(path).is_socket()
        new.supervisor.stopService()
        assert not Path(path).exists()

    def test_a_path_at_which_nobody_can_wait_prevents_the_start(
        self, made: Callable[..., Scene], path: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scene = made(takeover=path)
        Path(path).write_text("no socket")
        with pytest.raises(Exit, match=r"takeover: .*is no socket"):
            scene.supervisor.startService()

    def test_what_is_no_server_is_not_taken_over(self, made: Callable[..., Scene], path: str) -> None:
        with socket(AF_UNIX) as other:
            other.bind(f"{path}.x")
            other.listen()
            with pytest.raises(ConfigurationError, match=f"takeover: {path}.x: "):
                made(takeover=f"{path}.x")

    def test_a_path_that_is_lost_meanwhile_is_told_of(
        self, made: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene = made()
        succession = scene.supervisor._succession

        def offer(*_: Any) -> None:
            raise ConfigurationError("takeover: no such folder")

        monkeypatch.setattr(type(succession), "waits", True)
        monkeypatch.setattr(succession, "offer", offer)
        with capturedLogs() as logged:
            scene.start()
        assert [formatEvent(event) for event in logged] == ["takeover: no such folder"]


class TestOperators:
    def test_the_state_says_how_many_workers_serve(self, watched: Scene, endpoints: list[Endpoint]) -> None:
        overview = endpoints[0].served
        assert overview.state() == (False, "starting: 0 of 2 workers serve")
        watched.start()
        assert overview.state() == (True, "ready: 2 of 2 workers serve")
        watched.end(1, 9)
        assert overview.state() == (True, "ready: 1 of 2 workers serve")
        watched.end(2, 9)
        assert overview.state() == (False, "starting: 0 of 2 workers serve")
        watched.go_on()
        watched.supervisor.stopService()
        assert overview.state() == (False, "draining: 0 of 2 workers serve")

    def test_workers_are_asked_and_deaths_are_counted(self, watched: Scene, endpoints: list[Endpoint]) -> None:
        overview = endpoints[0].served
        watched.start()
        found: list[Any] = []
        overview.one("w1c1").addCallback(found.append)
        [number] = watched.said("ask")[1]
        watched.template.workers[1].channel.send({"answer": number, "left": 0}, b"null")
        watched.reactor.read()
        assert found == [None]
        watched.end(1, 9)
        assert watched.crew.deaths == 1
        assert overview.one("w1c1") is None

    def test_the_endpoint_goes_over_with_the_others(
        self, endpoints: list[Endpoint], made: Callable[..., Scene], path: str
    ) -> None:
        old, new = together(made, path, admin="tcp:9090")
        mine, its = endpoints
        assert mine.listener is not None
        assert its.listener is not None
        with its.inherited as inherited:
            assert inherited.fileno() >= 0
        assert set(its.listener.events) == {"pause"}
        assert mine.listener.events[-2:] == ["pause", "release"]
        assert its.served.mixed is False
        new.reactor.read()
        assert its.listener.events[-1] == "resume"
        ours, theirs = socketpair()
        with ours, theirs:
            new.supervisor._adopt({"id": "w1c1", "client": None, "name": ""}, b"", theirs)
        assert its.served.mixed is True
        old.supervisor.stopService()
        for number in (1, 2):
            old.end(number)
