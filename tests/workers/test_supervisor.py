from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, socket, socketpair
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from tests.workers.surroundings import Listener, Peer, Ports, Reactor, Template, heads, pair
from wshost.commands.one_line import Exit
from wshost.process import ending, signals
from wshost.process.takeover import Channel
from wshost.results import ConfigurationError
from wshost.settings.options import Settings
from wshost.workers import supervisor as module
from wshost.workers.crew import State
from wshost.workers.deaths import MANY
from wshost.workers.forking import LOOK, adopt_orphans
from wshost.workers.kit import Kit
from wshost.workers.line import RETRY
from wshost.workers.supervisor import ABORTING, LAST_WORDS, OVERTIME, SETTLE, Supervisor
from wshost.workers.verdicts import ADMITTED


class Notifier:
    """Notes what systemd is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def ready(self, status: str) -> None:
        self.told.append("ready")

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self, status: str) -> None:
        self.told.append(status)

    def live(self, reactor: Any) -> None:
        self.told.append("live")


class Scene:
    """A supervisor, and processes that are none."""

    def __init__(self, **given: Any) -> None:
        self.reactor = Reactor()
        self.templates: list[Template] = []
        self.killed: list[tuple[int, int]] = []
        # What `waitpid` returns, by the process id.
        self.statuses: dict[int, int | None] = {}
        # How often no template can be started.
        self.unable = 0
        self.supervisor = Supervisor(
            Settings(**{"workers": 2, "drain_timeout": 10.0, "worker_timeout": 0.0, **given}),
            Kit({}),
            self.reactor,
            spawn=self.spawn,
            listen=Ports,  # type: ignore[arg-type]
            kill=self.kill,
            wait=self.wait,
        )
        self.ports: Any = self.supervisor._passing.ports
        self.listener: Any = self.ports.listeners[0]
        self.crew = self.supervisor._crew

    def spawn(self) -> tuple[socket, Any]:
        if self.unable:
            self.unable -= 1
            raise OSError(11, "too many processes")
        ours, theirs = pair()
        self.templates.append(Template(theirs))
        return ours, self.templates[-1].process

    def kill(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))
        if pid < 0:
            raise ProcessLookupError

    def wait(self, pid: int, how: int) -> tuple[int, int]:
        assert how == os.WNOHANG
        status = self.statuses.get(pid)
        if status is None and pid in self.statuses:
            raise ChildProcessError
        return (0, 0) if status is None else (pid, status)

    @property
    def template(self) -> Template:
        return self.templates[-1]

    @property
    def workers(self) -> dict[int, Peer]:
        return {number: peer for template in self.templates for number, peer in template.workers.items()}

    def start(self) -> None:
        """Start, until all workers serve."""
        self.supervisor.startService()
        self.go_on()

    def go_on(self) -> None:
        """Fork what is to be forked; new workers serve."""
        for number in self.template.fork():
            self.template.workers[number].say(serves=True)
        self.reactor.read()

    def end(self, number: int, status: int | None = 0, **more: Any) -> list[str]:
        """A worker ends; return what is logged."""
        template = next(one for one in self.templates if number in one.workers)
        with capturedLogs() as logged:
            template.end(number, status, **more)
            self.reactor.read()
        return [formatEvent(event) for event in logged]

    def kill_template(self) -> None:
        self.template.channel.close()
        self.reactor.read()

    def connect(self) -> None:
        """Pretend that each serving worker has one connection."""
        for number, worker in enumerate(self.crew.serving):
            worker.connections.add(number)
            self.supervisor._passing.gate.judge(number, None)

    def said(self, kind: str) -> dict[int, list[Any]]:
        return {number: heads(peer.read(), kind) for number, peer in self.workers.items()}

    def close(self) -> None:
        for worker in self.crew:
            worker.line.close()
        self.supervisor._forking.stop()
        self.supervisor._succession.stop()
        for one in (*self.templates, self.ports, *self.ports.inherited.values()):
            one.close()


@pytest.fixture(autouse=True)
def notifier(monkeypatch: pytest.MonkeyPatch) -> Notifier:
    notifier = Notifier()
    monkeypatch.setattr(module, "Notifier", lambda: notifier)
    monkeypatch.setattr(module, "adopt_orphans", lambda: None)
    return notifier


@pytest.fixture(autouse=True)
def handled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called at signals."""
    handled: list[Any] = []
    monkeypatch.setattr(signals, "call_after", lambda numbers, _, call: handled.append((numbers, call)))
    return handled


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why the process is to end."""
    left: list[str] = []
    monkeypatch.setattr(ending, "leave", lambda _, error: left.append(str(error)))
    return left


@pytest.fixture
def made() -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(**given: Any) -> Scene:
        scenes.append(Scene(**given))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def scene(made: Callable[..., Scene]) -> Scene:
    return made()


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

    @pytest.mark.parametrize(
        ("given", "scheme"),
        [
            ({"tls_cert": ["x"]}, "wss"),
            ({"protocol_module": [("lines", {})]}, "tcp"),
            ({"protocol_module": [(object(), {})], "tls_cert": ["x"]}, "tls"),
        ],
    )
    def test_the_log_names_the_urls_scheme(
        self, made: Callable[..., Scene], given: dict[str, Any], scheme: str
    ) -> None:
        scene = made(**given)
        scene.start()
        assert scene.listener.events[0][1:] == (scheme, scheme)

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

    def test_a_template_that_can_not_prepare_ends_the_server(self, scene: Scene, left: list[str]) -> None:
        scene.supervisor.startService()
        scene.template.say(ready=True)
        scene.template.say(failed="no handler")
        scene.template.channel.close()
        scene.reactor.read()
        assert left == ["no handler"]
        assert len(scene.templates) == 1

    def test_without_processes_there_is_no_start(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        scene.unable = 1
        with pytest.raises(Exit, match="workers: no process can be started: too many processes"):
            scene.supervisor.startService()

    def test_systems_without_what_workers_need_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "pidfd_open")
        with pytest.raises(ConfigurationError, match="they need Linux"):
            Scene()

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

    def test_a_worker_that_asks_about_a_client_is_answered(self, scene: Scene) -> None:
        scene.start()
        scene.connect()
        (number,) = next(iter(scene.crew)).connections
        scene.workers[1].say(judge=[[number, "192.0.2.9"]])
        scene.reactor.read()
        assert heads(scene.workers[1].read(), "judged") == [[[number, ADMITTED]]]

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
        scene.supervisor._worker_lost(77)
        assert len(scene.crew.serving) == 2

    def test_the_last_words_of_a_worker_may_be_that_it_has_ended(self, scene: Scene) -> None:
        """What is received while it is forgotten must not forget it again."""
        scene.start()
        worker = scene.crew.find(1)
        assert worker is not None
        scene.end(1, 0)
        scene.supervisor._ended(worker, "has ended")
        assert scene.crew.lasting == 2


class TestTemplate:
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
        monkeypatch.setattr(scene.supervisor._deaths, "note", lambda _: (5.0, False))
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


class TestHealth:
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
        scene.supervisor._retire(scene.crew.serving[0])
        scene.workers[1].channel.close()
        scene.reactor.read()
        scene.reactor.advance(10.0 + OVERTIME)
        assert scene.killed == [(101, signal.SIGKILL)]

    def test_a_worker_that_dies_before_its_successor_serves_is_replaced_by_it(self, made: Callable[..., Scene]) -> None:
        scene = made()
        scene.start()
        first = scene.crew.serving[0]
        scene.supervisor._replace(first, "it is old")
        scene.supervisor._replace(scene.crew.serving[1], "it is old")
        scene.end(1, -9)
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 3]
        assert len(scene.crew) == 2


class TestPreload:
    def test_workers_after_a_reload_are_forked_from_another_template(self, made: Callable[..., Scene]) -> None:
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

    def test_a_worker_that_was_to_be_forked_is_forked_by_the_other_template(self, made: Callable[..., Scene]) -> None:
        scene = made(preload=True)
        scene.start()
        scene.end(1, -9)
        scene.supervisor._forking.renew()
        scene.go_on()
        assert [worker.number for worker in scene.crew.serving] == [2, 4]

    def test_nothing_new_needs_no_other_template(self, made: Callable[..., Scene]) -> None:
        scene = made(preload=True)
        scene.start()
        scene.supervisor.reload()
        for number in (1, 2):
            scene.workers[number].say(reloaded=[], done=False)
            scene.reactor.read()
        assert len(scene.templates) == 1

    def test_a_dead_template_is_not_renewed_twice(self, made: Callable[..., Scene]) -> None:
        scene = made(preload=True)
        scene.start()
        scene.supervisor._forking.stop()
        scene.supervisor._forking.renew()
        assert len(scene.templates) == 1


class TestStop:
    def test_all_workers_drain_and_then_all_has_stopped(self, scene: Scene, notifier: Notifier) -> None:
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

    def test_nothing_is_said_of_no_connections(self, scene: Scene) -> None:
        scene.start()
        scene.supervisor.stopService()
        with capturedLogs() as logged:
            scene.reactor.advance(1)
        assert not logged

    def test_workers_that_do_not_end_in_time_are_killed(self, scene: Scene) -> None:
        scene.start()
        scene.supervisor.stopService()
        scene.reactor.advance(10.0 + OVERTIME)
        assert scene.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]

    def test_a_second_signal_ends_all_at_once(self, scene: Scene) -> None:
        scene.start()
        scene.supervisor.stopService()
        scene.supervisor._abort()
        assert scene.said("abort") == {1: [True], 2: [True]}
        scene.reactor.advance(ABORTING)
        assert scene.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]

    def test_a_worker_that_is_forked_after_a_second_signal_is_killed(self, scene: Scene) -> None:
        scene.supervisor.startService()
        scene.supervisor.stopService()
        scene.supervisor._abort()
        scene.reactor.advance(ABORTING)
        assert scene.killed == []
        scene.template.fork()
        scene.reactor.read()
        assert scene.killed == [(101, signal.SIGKILL), (102, signal.SIGKILL)]

    def test_without_workers_a_stop_is_soon_done(self, scene: Scene) -> None:
        stopped: Deferred[None] = scene.supervisor.stopService()
        assert stopped.called

    def test_a_dead_worker_is_not_replaced_once_the_server_stops(self, scene: Scene) -> None:
        scene.start()
        for number in range(1, MANY + 1):
            scene.end(number, 1)
            scene.go_on()
        scene.supervisor.stopService()
        scene.reactor.advance(1.0)
        assert scene.template.fork() == []


class TestSignals:
    def test_hang_ups_open_all_logs_again_and_reload(self, scene: Scene, handled: list[Any]) -> None:
        scene.start()
        (hangup, reopen), (reload, again) = handled
        assert (hangup, reload) == (signals.HANGUP, signals.RELOAD)
        reopen(signal.SIGHUP)
        assert scene.said("reopen") == {1: [True], 2: [True]}
        again(signal.SIGHUP)
        assert scene.said("reload") == {1: [True], 2: []}


class TestReload:
    def test_workers_reload_one_after_another(self, scene: Scene, notifier: Notifier) -> None:
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

    def test_what_fails_in_one_worker_is_not_tried_in_the_others(self, scene: Scene, notifier: Notifier) -> None:
        scene.start()
        scene.supervisor.reload()
        scene.workers[1].say(reloaded=["the handlers stay as they are"], done=False)
        scene.reactor.read()
        assert scene.said("reload") == {1: [True], 2: []}
        assert notifier.told[2:] == ["reloading", "ready"]

    def test_a_worker_that_dies_meanwhile_is_left_out(self, scene: Scene, notifier: Notifier) -> None:
        scene.start()
        scene.supervisor.reload()
        scene.end(2, -9)
        scene.end(1, -9)
        assert notifier.told[2:] == ["reloading", "ready"]

    def test_a_reload_that_is_asked_for_meanwhile_follows(self, scene: Scene, notifier: Notifier) -> None:
        scene.start()
        scene.supervisor.reload()
        scene.supervisor.reload()
        for number in (1, 2):
            scene.workers[number].say(reloaded=[], done=False)
            scene.reactor.read()
        assert scene.said("reload")[1] == [True, True]
        assert notifier.told[2:] == ["reloading", "ready", "reloading"]

    def test_before_all_serve_and_once_the_server_stops_nothing_is_reloaded(
        self, scene: Scene, notifier: Notifier
    ) -> None:
        scene.supervisor.reload()
        scene.start()
        scene.supervisor.reload()
        scene.supervisor.stopService()
        scene.workers[1].say(reloaded=["no"], done=False)
        scene.reactor.read()
        scene.supervisor.reload()
        assert notifier.told == ["live", "ready", "reloading", "waiting for 0 connections"]


@pytest.fixture
def path() -> Iterator[str]:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield f"{folder}/takeover"


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

    def test_a_successor_that_takes_no_connections_gets_none(self, scene: Scene) -> None:
        scene.start()
        ours, theirs = pair()
        channel = Channel(ours)
        channel.said = {"connections": False}
        scene.supervisor._give_up_to(channel)
        assert scene.said("give") == {1: [], 2: []}
        assert scene.reactor.stops == 1
        assert Peer(theirs, Channel).read() == [{"opened": 0}]
        theirs.close()

    def test_a_server_that_stops_while_it_is_taken_over_is_not_stopped_twice(self, scene: Scene) -> None:
        scene.start()
        ours, theirs = pair()
        assert scene.supervisor._give_up_to(Channel(ours))
        scene.supervisor.stopService()
        for number in (1, 2):
            scene.end(number)
        assert scene.reactor.stops == 0
        theirs.close()

    def test_sockets_that_can_not_go_over_are_left(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        scene.start()
        scene.listener.port = None
        assert scene.supervisor._share() == {}
        ours, theirs = pair()
        channel = Channel(ours)
        channel.said = {"connections": False}
        scene.supervisor._give_up_to(channel)
        assert scene.listener.events[-1] == "pause"
        theirs.close()

    def test_a_successor_that_has_gone_changes_nothing(self, scene: Scene) -> None:
        scene.start()
        ours, theirs = pair()
        theirs.close()
        with capturedLogs() as logged:
            assert not scene.supervisor._give_up_to(Channel(ours))
        assert formatEvent(logged[0]).startswith("the process that would take over has gone")
        assert scene.listener.events[-2:] == ["pause", "resume"]
        assert scene.reactor.stops == 0

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


def test_a_worker_that_takes_no_socket_gets_no_stream(scene: Scene) -> None:
    scene.start()
    for worker in scene.crew:
        while worker.line.send({}, data=bytes(60_000)):
            pass
    first, second = scene.crew
    module._connect(first, second)
    assert scene.said("peer") == {1: [2], 2: [1]}
    assert first.state is State.SERVING
    scene.reactor.advance(RETRY)
    with socket(AF_UNIX) as unused:
        assert unused.fileno() >= 0


class Endpoint:
    """An endpoint for operators that listens nowhere."""

    description = "tcp:9090"

    def __init__(self, served: Any) -> None:
        self.served = served
        self.events: list[Any] = []
        self.fails = False
        self.listener: Listener | None = None
        self.inherited: Any = None

    def listen(self, _: Any, unix: bool, inherited: Any) -> None:
        if self.fails:
            raise ConfigurationError("admin: it is taken")
        self.events.append(("listen", unix))
        self.listener = self.listener or Listener(self.description)
        self.inherited = self.inherited or inherited

    def announce(self) -> None:
        self.events.append("announce")

    def stop(self) -> Deferred[None]:
        self.events.append("stop")
        return succeed(None)


class TestOperators:
    @pytest.fixture
    def endpoints(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Endpoint]]:
        endpoints: list[Endpoint] = []

        def made(settings: Settings, served: Callable[[], Any]) -> Endpoint:
            endpoints.append(Endpoint(served()))
            return endpoints[-1]

        monkeypatch.setattr(module, "admin_endpoint", made)
        yield endpoints
        for one in endpoints:
            if one.listener is not None:
                one.listener.socket.close()

    @pytest.fixture
    def watched(self, endpoints: list[Endpoint]) -> Iterator[Scene]:
        scene = Scene(admin="tcp:9090")
        yield scene
        scene.close()

    def test_the_endpoint_listens_with_the_others_and_stops_last(
        self, watched: Scene, endpoints: list[Endpoint]
    ) -> None:
        [endpoint] = endpoints
        watched.supervisor.bind(unix=False)
        watched.start()
        assert endpoint.events == [("listen", False), ("listen", True), "announce"]
        watched.supervisor.stopService()
        watched.end(1)
        assert endpoint.events[-1] == "announce"
        watched.end(2)
        assert endpoint.events[-1] == "stop"

    def test_an_endpoint_that_is_taken_closes_the_others(self, watched: Scene, endpoints: list[Endpoint]) -> None:
        endpoints[0].fails = True
        with pytest.raises(ConfigurationError, match="it is taken"):
            watched.supervisor.bind()
        assert watched.listener.events[-1] == "stop"

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
        assert overview.deaths == 1
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
