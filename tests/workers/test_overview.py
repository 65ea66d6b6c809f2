from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.workers.surroundings import Peer, Reactor, pair
from wshost.workers.answers import LAST
from wshost.workers.crew import Crew, State, Worker
from wshost.workers.line import Line
from wshost.workers.overview import LARGEST, MOST_OPEN, TIMEOUT, Overview, Silent


def family(name: str, value: float, kind: str = "counter") -> list[Any]:
    sample = f"wshost_{name}_total" if kind == "counter" else f"wshost_{name}"
    return [f"wshost_{name}", name, kind, [[sample, {}, value]]]


class Scene:
    """What the supervisor sees of workers that are none."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.crew = Crew()
        self.peers: dict[int, Peer] = {}
        self.overview = Overview(self.reactor, self.crew, 50, lambda: (True, "ready"), lambda pid: 1_000 * pid)

    def add(self, connections: int = 0) -> Worker:
        ours, theirs = pair()
        number = self.crew.next_number()
        self.peers[number] = Peer(theirs)
        line = Line(self.reactor, ours, partial(self.said, number), lambda: None)
        worker = Worker(number, line, State.SERVING, pid=100 + number, served=True)
        worker.connections.update(range(1_000 * number, 1_000 * number + connections))
        self.crew.add(worker)
        return worker

    def said(self, number: int, head: Any, data: bytes, _: Any) -> None:
        worker = self.crew.find(number)
        assert worker is not None
        self.overview.told(worker, head, data)

    def asked(self, number: int = 1) -> list[dict[str, Any]]:
        return [head for head in self.peers[number].read() if "ask" in head]

    def tell(self, number: int, question: int, value: Any, **more: Any) -> None:
        data = json.dumps(value).encode()
        self.peers[number].channel.send({"answer": question, "left": 0, **more}, data)
        self.reactor.read()

    def answer(self, number: int, value: Any, **more: Any) -> dict[str, Any]:
        """Answer the only question."""
        [head] = self.asked(number)
        self.tell(number, head["ask"], value, **more)
        return head

    def end(self, number: int) -> None:
        worker = self.crew.find(number)
        assert worker is not None
        worker.line.finish()
        self.crew.remove(worker)
        self.overview.ended(worker)
        self.peers.pop(number).close()

    def scrape(self, *answers: tuple[int, list[Any]]) -> dict[str, float]:
        """All samples by name, when these workers have answered, and the others don't."""
        made: list[Any] = []
        self.overview.export("").addCallback(made.append)
        for number, families in answers:
            self.answer(number, families)
        if not made:
            self.reactor.advance(TIMEOUT)
        [(data, media_type)] = made
        assert media_type.startswith("text/plain")
        return {
            "".join([sample.name, *sample.labels.values()]): sample.value
            for one in parse(data.decode())
            for sample in one.samples
        }

    def close(self) -> None:
        for worker in self.crew:
            worker.line.close()
        for one in self.peers.values():
            one.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def result(deferred: Any) -> Any:
    found: list[Any] = []
    deferred.addBoth(found.append)
    [one] = found
    return one


class TestMetrics:
    def test_those_of_all_workers_are_added(self, scene: Scene) -> None:
        scene.add()
        scene.add()
        scene.crew.deaths = 4
        samples = scene.scrape(
            (1, [family("messages", 3), family("topics", 2, "gauge"), family("connections_limit", 9, "gauge")]),
            (2, [family("messages", 4), family("topics", 5, "gauge"), family("connections_limit", 9, "gauge")]),
        )
        assert samples["wshost_messages_total"] == 7
        assert samples["wshost_topics"] == 5
        assert samples["wshost_connections_limit"] == 50
        assert (samples["wshost_ready"], samples["wshost_workers"]) == (1, 2)
        assert samples["wshost_worker_deaths_total"] == 4
        assert samples["wshost_worker_resident_bytesw1"] == 101_000
        assert samples["process_resident_memory_bytes"] > 0

    def test_a_worker_that_does_not_answer_counts_with_its_last_values(self, scene: Scene) -> None:
        scene.add()
        scene.add()
        scene.scrape((1, [family("messages", 3)]), (2, [family("messages", 4)]))
        assert scene.scrape((2, [family("messages", 5)]))["wshost_messages_total"] == 8

    def test_what_a_worker_said_last_stays_when_it_has_ended(self, scene: Scene) -> None:
        """It told more than at the last scrape; its gauges have gone with it."""
        scene.add()
        scene.add()
        first = [family("messages", 3), family("connections", 6, "gauge")]
        scene.scrape((1, first), (2, [family("messages", 4), family("connections", 1, "gauge")]))
        scene.tell(1, LAST, [family("messages", 9), family("connections", 6, "gauge")])
        scene.end(1)
        samples = scene.scrape((2, [family("messages", 4), family("connections", 1, "gauge")]))
        assert samples["wshost_messages_total"] == 13
        assert samples["wshost_connections"] == 1

    def test_a_killed_worker_counts_as_at_the_last_scrape(self, scene: Scene) -> None:
        scene.add()
        scene.scrape((1, [family("messages", 3)]))
        scene.end(1)
        scene.add()
        assert scene.scrape((2, [family("messages", 1)]))["wshost_messages_total"] == 4

    def test_an_older_answer_does_not_replace_a_newer_one(self, scene: Scene) -> None:
        scene.add()
        made: list[Any] = []
        for _ in range(2):
            scene.overview.export("").addCallback(made.append)
        older, newer = scene.asked()
        scene.tell(1, newer["ask"], [family("messages", 5)])
        scene.tell(1, older["ask"], [family("messages", 3)])
        assert [b"wshost_messages_total 5.0" in data for data, _ in made] == [True, True]

    def test_a_worker_that_has_not_served_is_not_asked(self, scene: Scene) -> None:
        scene.add().served = False
        assert scene.scrape()["wshost_workers"] == 1
        assert scene.asked() == []

    def test_a_worker_that_was_not_forked_has_no_memory(self, scene: Scene) -> None:
        worker = scene.add()
        worker.served, worker.pid = False, None
        assert "wshost_worker_resident_bytesw1" not in scene.scrape()


def page(number: int, *ids: int, more: bool = False) -> dict[str, Any]:
    names = [{"id": f"w{number}c{id}"} for id in ids]
    return {"connections": names, "next": names[-1]["id"] if more else None}


def ids(found: dict[str, Any]) -> list[str]:
    return [one["id"] for one in found["connections"]]


class TestPages:
    def test_a_page_has_those_of_all_workers_in_order(self, scene: Scene) -> None:
        scene.add(2)
        scene.add(1)
        found = scene.overview.page(100, "")
        scene.answer(2, page(2, 1))
        assert scene.answer(1, page(1, 4, 7))["about"] == (100, "")
        whole = result(found)
        assert ids(whole) == ["w1c4", "w1c7", "w2c1"]
        assert (whole["total"], whole["next"]) == (3, None)
        assert "silent" not in whole

    def test_only_the_workers_are_asked_that_can_fill_the_page(self, scene: Scene) -> None:
        scene.add(2)
        scene.add(2)
        found = scene.overview.page(2, "")
        scene.answer(1, page(1, 1, 2))
        assert scene.asked(2) == []
        assert result(found)["next"] == "w1c2"

    def test_a_page_goes_on_after_an_id(self, scene: Scene) -> None:
        for _ in range(3):
            scene.add(2)
        found = scene.overview.page(2, "w2c1")
        assert scene.asked(1) == []
        scene.answer(2, page(2, 2))
        assert scene.asked(3) == []
        assert result(found)["next"] == "w2c2"

    def test_a_worker_with_nothing_left_does_not_end_the_pages(self, scene: Scene) -> None:
        scene.add(2)
        scene.add(2)
        found = scene.overview.page(2, "w1c2")
        scene.answer(1, page(1))
        scene.answer(2, page(2, 1, 2, more=True))
        whole = result(found)
        assert (ids(whole), whole["next"]) == (["w2c1", "w2c2"], "w2c2")

    def test_a_page_is_cut_where_it_is_full(self, scene: Scene) -> None:
        scene.add(1)
        scene.add(3)
        found = scene.overview.page(2, "")
        scene.answer(1, page(1, 1))
        scene.answer(2, page(2, 1, 2, more=True))
        whole = result(found)
        assert (ids(whole), whole["next"]) == (["w1c1", "w2c1"], "w2c1")

    def test_workers_that_do_not_answer_are_left_out_and_named(self, scene: Scene) -> None:
        """Nobody waits for one after another."""
        for _ in range(3):
            scene.add(5)
        found = scene.overview.page(5, "")
        scene.reactor.advance(TIMEOUT)
        scene.answer(3, page(3, 1))
        scene.reactor.advance(TIMEOUT)
        whole = result(found)
        assert (ids(whole), whole["silent"], whole["next"]) == (["w3c1"], ["w1", "w2"], None)

    def test_no_workers_have_no_connections(self, scene: Scene) -> None:
        assert result(scene.overview.page(5, "")) == {"connections": [], "total": 0, "next": None}

    def test_what_is_no_id_is_refused(self, scene: Scene) -> None:
        with pytest.raises(ValueError, match="'x' is not the id of a connection"):
            scene.overview.page(5, "x")


class TestOne:
    @pytest.mark.parametrize("id", ["x", "c1", "w2c1"])
    def test_there_is_none_where_there_is_no_worker(self, scene: Scene, id: str) -> None:
        scene.add()
        assert scene.overview.one(id) is None
        assert scene.overview.close(id, 1000, "") is None

    def test_its_worker_is_asked(self, scene: Scene) -> None:
        scene.add()
        found = scene.overview.one("w1c2")
        head = scene.answer(1, {"id": "w1c2"})
        assert (head["what"], head["about"]) == ("one", ("w1c2",))
        assert result(found) == {"id": "w1c2"}

    def test_its_worker_closes_it(self, scene: Scene) -> None:
        scene.add()
        found = scene.overview.close("w1c2", 4001, "go")
        head = scene.answer(1, "closing")
        assert (head["what"], head["about"]) == (
            "close",
            (
                "w1c2",
                4001,
                "go",
            ),
        )
        assert result(found) == "closing"

    def test_what_its_worker_refuses_is_refused(self, scene: Scene) -> None:
        scene.add()
        found = scene.overview.close("w1c2", 1005, "go")
        scene.answer(1, "not 1005", refused=True)
        error = result(found).value
        assert (type(error), str(error)) == (ValueError, "not 1005")

    def test_a_worker_that_fails_counts_as_silent(self, scene: Scene) -> None:
        scene.add()
        found = scene.overview.one("w1c2")
        scene.answer(1, None, failed=True)
        error = result(found).value
        assert (type(error), str(error)) == (Silent, "worker 1 (pid 101) does not answer.")


class TestAnswers:
    def test_an_answer_may_come_in_parts(self, scene: Scene) -> None:
        scene.add()
        found = scene.overview.one("w1c2")
        [head] = scene.asked()
        for left, part in ((1, b'{"id":'), (0, b' "w1c2"}')):
            scene.peers[1].channel.send({"answer": head["ask"], "left": left}, part)
        scene.reactor.read()
        assert result(found) == {"id": "w1c2"}

    def test_an_answer_that_comes_too_late_is_dropped(self, scene: Scene) -> None:
        scene.add()
        found = scene.overview.one("w1c2")
        scene.reactor.advance(TIMEOUT)
        assert isinstance(result(found).value, Silent)
        scene.answer(1, {"id": "w1c2"})
        again = scene.overview.one("w1c3")
        scene.answer(1, {"id": "w1c3"})
        assert result(again) == {"id": "w1c3"}

    @pytest.mark.parametrize("asks", [True, False])
    def test_an_answer_that_is_too_large_is_none(self, scene: Scene, asks: bool) -> None:
        scene.add()
        found = scene.overview.one("w1c2") if asks else None
        question = scene.asked()[0]["ask"] if asks else LAST
        for _ in range(LARGEST // 100_000 + 1):
            scene.peers[1].channel.send({"answer": question, "left": 1}, b"x" * 100_000)
            scene.reactor.read()
        if found is not None:
            assert isinstance(result(found).value, Silent)
        scene.tell(1, LAST, [family("messages", 3)]) if asks else None
        assert scene.scrape().get("wshost_messages_total") == (3 if asks else None)

    def test_a_worker_that_ends_answers_no_more(self, scene: Scene) -> None:
        scene.add()
        scene.add()
        found, other = scene.overview.one("w1c2"), scene.overview.one("w2c1")
        scene.peers[1].channel.send({"answer": LAST, "left": 1}, b"[")
        scene.end(1)
        assert isinstance(result(found).value, Silent)
        scene.answer(2, {"id": "w2c1"})
        assert result(other) == {"id": "w2c1"}

    def test_a_worker_that_leaves_too_many_questions_open_gets_no_more(self, scene: Scene) -> None:
        scene.add()
        for _ in range(MOST_OPEN):
            result_of: Any = scene.overview.one("w1c2")
            result_of.addErrback(lambda _: None)
        asked = scene.asked()
        assert len(asked) == MOST_OPEN
        assert isinstance(result(scene.overview.one("w1c2")).value, Silent)
        scene.tell(1, asked[0]["ask"], None)
        scene.overview.one("w1c2")
        assert len(scene.asked()) == 1

    def test_a_worker_that_has_lost_its_line_is_not_asked(self, scene: Scene) -> None:
        scene.add().line.close()
        assert isinstance(result(scene.overview.one("w1c2")).value, Silent)


def carried(scene: Scene) -> list[Any]:
    """Three workers, of which two answer for connections that the process before has made."""
    scene.crew.started = 4
    for _ in range(3):
        scene.add()
    scene.overview.mixed = True
    return []


def test_pages_are_in_the_order_of_ids_whichever_worker_has_a_connection(scene: Scene) -> None:
    carried(scene)
    pages: list[Any] = []
    scene.overview.page(2, "w1c1").addCallback(pages.append)
    for number, ids in {5: ["w2c1", "w5c1"], 6: ["c9", "w2c2"], 7: []}.items():
        scene.answer(number, {"connections": [{"id": id} for id in ids], "next": None})
    assert [one["id"] for one in pages[0]["connections"]] == ["c9", "w2c1"]
    assert pages[0]["next"] == "w2c1"


def test_all_workers_are_asked_for_a_connection_of_the_process_before(scene: Scene) -> None:
    found = carried(scene)
    scene.overview.one("w1c1").addCallback(found.append)  # type: ignore[union-attr]
    for number, answer in {5: None, 6: {"id": "w1c1"}, 7: None}.items():
        scene.answer(number, answer)
    scene.overview.close("c9", 1000, "").addCallback(found.append)  # type: ignore[union-attr]
    for number in (5, 6, 7):
        scene.answer(number, None)
    assert found == [{"id": "w1c1"}, None]


def test_a_worker_that_does_not_answer_may_have_it(scene: Scene) -> None:
    found = carried(scene)
    scene.overview.one("w1c1").addErrback(lambda failure: found.append(failure.type))  # type: ignore[union-attr]
    for number in (5, 7):
        scene.answer(number, None)
    scene.reactor.advance(TIMEOUT)
    assert found == [Silent]
