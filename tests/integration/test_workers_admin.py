"""The admin endpoint of a server with workers, with real processes: one answer for all of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.integration.server import PATIENCE, Server, running_server
from tests.integration.test_workers import ask, wait_until, workers_of

HANDLER = str(Path(__file__).parent / "workers_handler.py")


class Operator:
    """Asks the admin endpoint."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        client = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            client.request(method, path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        finally:
            client.close()

    def page(self, query: str = "") -> Any:
        status, body = self.ask(f"/connections{query}")
        assert status == 200, body
        return json.loads(body)

    def scrape(self) -> dict[str, float]:
        """All samples by name and labels."""
        status, body = self.ask("/metrics")
        assert status == 200, body
        return {
            "".join([sample.name, *(f" {value}" for _, value in sorted(sample.labels.items()))]): sample.value
            for family in parse(body)
            for sample in family.samples
        }


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server("--workers=2", f"--handler={HANDLER}", "--admin=tcp:0", command="wshost") as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Operator:
    return Operator(int(server.wait_for(r"admin listening on \S+:(\d+)")[1]))


def open_some(server: Server, stack: ExitStack, count: int) -> list[ClientConnection]:
    return [stack.enter_context(connect(server.url, compression=None)) for _ in range(count)]


LASTING = ("_total", "_bucket", "_count", "_sum")


def lasting(samples: dict[str, float]) -> dict[str, float]:
    """Those that must not go backwards, of ours."""
    return {
        name: value
        for name, value in samples.items()
        if name.startswith("wshost_") and name.partition(" ")[0].endswith(LASTING)
    }


def test_no_counter_goes_backwards_when_a_worker_is_killed(server: Server, operator: Operator) -> None:
    assert operator.ask("/readyz") == (200, "ready: 2 of 2 workers serve\n")
    first, _ = workers_of(server)
    with ExitStack() as stack:
        clients = open_some(server, stack, 6)
        pids = [ask(client) for client in clients]
        before = operator.scrape()
        assert before["wshost_workers"] == 2
        assert before["wshost_connections websocket"] == 6
        assert before["wshost_connections_opened_total"] == 6
        assert before["wshost_messages_total in"] == 6
        assert before[f"wshost_handler_seconds_count {HANDLER}"] == 6
        assert before["wshost_worker_cpu_seconds_total"] > 0
        assert all(before[f"wshost_worker_resident_bytes w{number}"] > 0 for number in (1, 2))
        os.kill(first, signal.SIGKILL)
        server.wait_for(r"worker 1 \(pid \d+\) \S.*lost")
        wait_until(lambda: operator.scrape()["wshost_workers"] == 2)
        after = operator.scrape()
        old, new = lasting(before), lasting(after)
        assert [name for name, value in old.items() if new[name] < value] == []
        assert after["wshost_worker_deaths_total"] == 1
        assert after["wshost_connections websocket"] == 3
        left = [client for client, pid in zip(clients, pids, strict=True) if pid != str(first)]
        for client in left:
            ask(client)
        assert operator.scrape()["wshost_messages_total in"] == 9


def test_connections_of_all_workers_are_shown_page_by_page_and_closed(server: Server, operator: Operator) -> None:
    with ExitStack() as stack:
        clients = open_some(server, stack, 6)
        for client in clients:
            ask(client)
        whole = operator.page()
        ids = [one["id"] for one in whole["connections"]]
        assert ids == ["w1c1", "w1c2", "w1c3", "w2c1", "w2c2", "w2c3"]
        assert (whole["total"], whole["next"]) == (6, None)
        paged: list[str] = []
        after = ""
        while after is not None:
            page = operator.page(f"?limit=2&after={after}")
            paged += [one["id"] for one in page["connections"]]
            after = page["next"]
        assert paged == ids
        assert json.loads(operator.ask("/connections/w2c2")[1])["module"] == "websocket"
        assert operator.ask("/connections/w7c1")[0] == 404
        assert operator.ask("/connections/w2c2?code=1005", "DELETE")[0] == 400
        status, body = operator.ask("/connections/w2c2?code=4001", "DELETE")
        assert (status, json.loads(body)) == (202, {"id": "w2c2", "result": "closing"})
        with pytest.raises(ConnectionClosed) as caught:
            clients[3].recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4001


def test_a_worker_that_hangs_is_left_out_and_still_counted(server: Server, operator: Operator) -> None:
    with ExitStack() as stack:
        for client in open_some(server, stack, 4):
            ask(client)
        before = operator.scrape()
        first, _ = workers_of(server)
        os.kill(first, signal.SIGSTOP)
        try:
            page = operator.page()
            assert [one["id"] for one in page["connections"]] == ["w2c1", "w2c2"]
            assert page["silent"] == ["w1"]
            assert operator.scrape()["wshost_messages_total in"] == before["wshost_messages_total in"] == 4
        finally:
            os.kill(first, signal.SIGCONT)
        wait_until(lambda: "silent" not in operator.page())
