from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.admin.conftest import Look
from tests.cluster.bus import Bus
from tests.memory import MemoryHost
from wshost.admin.connections import MOST
from wshost.admin.here import Here
from wshost.admin.pages import Answer, Pages
from wshost.admin.seen import DRAINING, READY, STARTING
from wshost.cluster.local import LocalHubs
from wshost.cluster.outside import Outside
from wshost.cluster.subjects import Subjects


def ask(look: Any, path: str, method: str = "GET", **query: str) -> Answer:
    answers: list[Any] = []
    answer = Pages(Here(look)).answer(method, path, query, "")
    if isinstance(answer, Answer):
        return answer
    answer.addCallback(answers.append)
    (found,) = answers
    assert isinstance(found, Answer)
    return found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
class TestHealth:
    def test_a_process_that_answers_is_healthy(self, method: str) -> None:
        """Whatever became of its server."""
        assert ask(None, "/healthz", method)[:2] == (200, b"ok\n")

    @pytest.mark.parametrize(("state", "status"), [(STARTING, 503), (READY, 200), (DRAINING, 503)])
    def test_only_a_server_that_lets_clients_in_is_ready(
        self, look: Look, method: str, state: str, status: int
    ) -> None:
        assert ask(lambda: look(state), "/readyz", method)[:2] == (status, f"{state}\n".encode())

    def test_a_server_whose_backplane_is_away_is_ready_and_says_why_it_is_away(self, look: Look, method: str) -> None:
        """Else all would lose their clients when a broker is away."""
        outside = Outside(Clock(), lambda call: None, LocalHubs(), Subjects(), machine="m", buffer=1_000)
        outside.add(Bus().backplane())
        found = ask(lambda: look()._replace(outside=outside), "/readyz", method)[:2]
        assert found == (200, b"ready; the backplane is not connected: it has not connected yet\n")
        outside.lines[0].connected()
        assert ask(lambda: look()._replace(outside=outside), "/readyz", method)[:2] == (200, b"ready\n")


class TestMetrics:
    def test_metrics_have_the_media_type_of_their_format(self, look: Look) -> None:
        status, body, headers = ask(look, "/metrics")
        assert (status, headers) == (200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        assert b"\nwshost_ready 1.0\n" in body


class TestConnections:
    def test_connections_are_json(self, look: Look, host: MemoryHost) -> None:
        host.open()
        status, body, headers = ask(look, "/connections")
        assert (status, headers) == (200, {"Content-Type": "application/json"})
        assert [one["id"] for one in json.loads(body)["connections"]] == ["c1"]

    def test_a_query_asks_for_a_page(self, look: Look, host: MemoryHost) -> None:
        for _ in range(4):
            host.open()
        body = ask(look, "/connections", limit="2", after="c1").body
        assert [one["id"] for one in json.loads(body)["connections"]] == ["c2", "c3"]

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "", "٣", str(MOST + 1), "1" * 5_000])
    def test_a_wrong_limit_gets_400(self, look: Look, limit: str) -> None:
        status, body, _ = ask(look, "/connections", limit=limit)
        assert (status, body.decode()) == (400, f"limit: {limit!r} is not a number from 1 to {MOST}\n")

    def test_a_wrong_id_to_go_on_from_gets_400(self, look: Look) -> None:
        assert ask(look, "/connections", after="7").status == 400

    def test_one_connection_is_shown(self, look: Look, host: MemoryHost) -> None:
        host.open()
        assert json.loads(ask(look, "/connections/c1").body)["module"] == "websocket"

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    @pytest.mark.parametrize("id", ["c1", "", "c1/x", "é"])
    def test_a_connection_that_is_gone_gets_404(self, look: Look, method: str, id: str) -> None:
        status, body, _ = ask(look, f"/connections/{id}", method)
        assert (status, body.decode()) == (404, f"There is no connection {id!r} now.\n")

    def test_delete_closes_a_connection_and_then_aborts_it(self, look: Look, host: MemoryHost) -> None:
        peer = host.open()
        pages = Pages(Here(look))
        answers: list[Any] = [
            pages.answer("DELETE", "/connections/c1", {"code": "4001", "reason": "go"}, "") for _ in range(2)
        ]
        assert [(one.status, json.loads(one.body)) for one in answers] == [
            (202, {"id": "c1", "result": "closing"}),
            (200, {"id": "c1", "result": "aborted"}),
        ]
        assert peer.transport.aborted

    @pytest.mark.parametrize("code", ["1005", "999", "5000", "x"])
    def test_a_code_that_may_not_be_sent_gets_400(self, look: Look, host: MemoryHost, code: str) -> None:
        peer = host.open()
        assert ask(look, "/connections/c1", "DELETE", code=code).status == 400
        assert not peer.gone


class TestOthers:
    @pytest.mark.parametrize("path", ["/", "", "*", "/metrics/", "/Metrics", "/connection", "http://localhost/metrics"])
    def test_other_paths_get_404(self, look: Look, path: str) -> None:
        status, body, _ = ask(look, path)
        assert (status, body) == (404, b"There are /healthz, /readyz, /metrics, /connections.\n")

    @pytest.mark.parametrize(
        ("path", "method", "allowed"),
        [
            ("/healthz", "POST", "GET, HEAD"),
            ("/metrics", "DELETE", "GET, HEAD"),
            ("/connections", "DELETE", "GET, HEAD"),
            ("/connections/c1", "POST", "GET, HEAD, DELETE"),
        ],
    )
    def test_other_methods_get_405(self, look: Look, path: str, method: str, allowed: str) -> None:
        answer = ask(look, path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)


class Later:
    """What is served by others, whose answer comes later."""

    def __init__(self) -> None:
        self.answer: Deferred[Any] = Deferred()

    def page(self, limit: int, after: str) -> Deferred[Any]:
        return self.answer

    def one(self, id: str) -> Deferred[Any]:
        return self.answer

    def close(self, id: str, code: int, reason: str) -> Deferred[Any]:
        return self.answer


class TestLater:
    def ask(self, later: Any, path: str, method: str = "GET") -> list[Any]:
        answers: list[Any] = []
        answer: Any = Pages(later).answer(method, path, {}, "")
        answer.addBoth(answers.append)
        assert answers == []
        return answers

    @pytest.mark.parametrize(
        ("path", "method", "value", "status", "body"),
        [
            ("/connections", "GET", {"total": 0}, 200, '{"total": 0}'),
            ("/connections/w1c1", "GET", {"id": "w1c1"}, 200, '{"id": "w1c1"}'),
            ("/connections/w1c1", "GET", None, 404, "There is no connection 'w1c1' now."),
            ("/connections/w1c1", "DELETE", "closing", 202, '{"id": "w1c1", "result": "closing"}'),
        ],
    )
    def test_an_answer_may_come_later(self, path: str, method: str, value: Any, status: int, body: str) -> None:
        later = Later()
        answers = self.ask(later, path, method)
        later.answer.callback(value)
        assert (answers[0].status, answers[0].body.decode()) == (status, f"{body}\n")

    @pytest.mark.parametrize(("error", "status"), [(ValueError("not so"), 400), (TimeoutError("too slow"), 504)])
    def test_a_failure_that_comes_later_is_explained(self, error: Exception, status: int) -> None:
        later = Later()
        answers = self.ask(later, "/connections")
        later.answer.errback(error)
        assert (answers[0].status, answers[0].body.decode()) == (status, f"{error}\n")

    def test_a_failure_of_another_kind_stays_one(self) -> None:
        later = Later()
        answers = self.ask(later, "/connections")
        later.answer.errback(KeyError("x"))
        assert isinstance(answers[0].value, KeyError)
