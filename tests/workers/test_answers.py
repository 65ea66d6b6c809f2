from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs

from tests.memory import MemoryHost
from tests.workers.surroundings import Reactor, pair
from wshost.admin.seen import READY, Seen
from wshost.handlers import echo
from wshost.workers import answers as module
from wshost.workers.answers import LAST, PART, Answers
from wshost.workers.line import Line
from wshost.workers.packets import Packets


class Scene:
    """The answers of a worker, and the supervisor's end of its line."""

    def __init__(self) -> None:
        self.host = MemoryHost(echo, counts_ends=True)
        self.host.hub._prefix = "w3"
        self.reactor = Reactor()
        ours, theirs = pair()
        self.channel = Packets(theirs)
        theirs.setblocking(False)
        self.line = Line(self.reactor, ours, lambda *_: None, lambda: None)
        self.answers = Answers(self.look, self.line, lambda: 1.5)

    def look(self) -> Seen:
        return Seen(READY, self.host.hub.shared, self.host.hub.topics, {}, None, {"version": "1"})

    def read(self) -> list[tuple[dict[str, Any], bytes]]:
        packets: list[tuple[dict[str, Any], bytes]] = []
        while True:
            try:
                head, data, _ = self.channel.receive()
            except BlockingIOError:
                return packets
            packets.append((head, data))

    def ask(self, what: str, *about: Any) -> tuple[dict[str, Any], Any]:
        self.answers.answer({"ask": 7, "what": what, "about": about})
        self.host.reactor.advance(0)
        [(head, data)] = self.read()
        return head, json.loads(data)

    def close(self) -> None:
        self.line.close()
        self.channel.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def test_a_worker_shows_its_connections(scene: Scene) -> None:
    scene.host.open()
    scene.host.open()
    head, page = scene.ask("page", 1, "w2c9")
    assert head == {"answer": 7, "left": 0}
    assert [one["id"] for one in page["connections"]] == ["w3c1"]
    assert page["next"] == "w3c1"
    assert scene.ask("one", "w3c2")[1]["module"] == "websocket"
    assert scene.ask("one", "w3c9")[1] is None


def test_a_worker_closes_a_connection(scene: Scene) -> None:
    scene.host.open()
    assert scene.ask("close", "w3c1", 4001, "go")[1] == "closing"
    assert scene.ask("close", "w3c1", 4001, "go")[1] == "aborted"


def test_a_worker_refuses_what_may_not_be_sent(scene: Scene) -> None:
    scene.host.open()
    head, why = scene.ask("close", "w3c1", 1005, "go")
    assert head == {"answer": 7, "refused": True, "left": 0}
    assert "1005" in why


def test_a_worker_has_metrics_and_its_processor_time(scene: Scene) -> None:
    scene.host.open()
    families = {one[0]: one for one in scene.ask("metrics")[1]}
    assert families["wshost_connections_opened"][2:] == ["counter", [["wshost_connections_opened_total", {}, 1.0]]]
    assert families["wshost_worker_cpu_seconds"][3] == [["wshost_worker_cpu_seconds_total", {}, 1.5]]


def test_a_question_that_fails_is_logged_and_answered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "read", fail)
    with capturedLogs() as logged:
        assert scene.ask("metrics") == ({"answer": 7, "failed": True, "left": 0}, None)
    assert [event["log_failure"].type for event in logged] == [ZeroDivisionError]


def test_a_large_answer_comes_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 100)
    scene.host.open()
    scene.answers.answer({"ask": 1, "what": "one", "about": ["w3c1"]})
    packets = scene.read()
    assert [head["left"] for head, _ in packets] == list(reversed(range(len(packets))))
    assert [len(data) for _, data in packets[:-1]] == [100] * (len(packets) - 1)
    assert len(packets) > 1
    assert json.loads(b"".join(data for _, data in packets))["id"] == "w3c1"


def test_a_part_has_room_for_its_head_in_a_packet(scene: Scene) -> None:
    scene.line.tell({"answer": 1 << 62, "refused": True, "left": 1_000}, b"x" * PART)
    [(_, data)] = scene.read()
    assert len(data) == PART


def test_a_worker_that_ends_tells_its_metrics_at_once(scene: Scene) -> None:
    for _ in range(300):
        scene.host.open().text("hello")
    scene.answers.tell_last()
    [(head, data)] = scene.read()
    assert head == {"answer": LAST, "left": 0}
    families = {one[0]: one[3] for one in json.loads(data)}
    assert ["wshost_messages_total", {"direction": "in"}, 300.0] in families["wshost_messages"]
