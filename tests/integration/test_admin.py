"""The admin endpoint of a real server: by http.client, by curl, and by the parser of Prometheus's own library."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests import programs
from tests.integration.server import SCRIPTS, Server, running_server

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SOON = 15.0

#: Answers at once; "wait" it answers when the file `go` is there.
WAITING = """
import os
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater

def init(options):
    return None

def handle(message, state):
    match message:
        case ("text", "wait"):
            return wait(state)
        case ("text", _):
            return ("reply", "done", state)
    return ("noreply", state)

@inlineCallbacks
def wait(state):
    from twisted.internet import reactor
    print("it waits", flush=True)
    while not os.path.exists("go"):
        yield deferLater(reactor, 0.02)
    return ("reply", "done", state)
"""


class OverSocket(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SOON)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SOON)
        self.sock.connect(self._path)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    Path("waiting.py").write_text(WAITING, encoding="ascii")
    return tmp_path


@pytest.fixture(params=["default", "epoll"])
def server(request: pytest.FixtureRequest, files: Path) -> Iterator[Server]:
    """One on each kind of reactor: their transports are Twisted's and ours."""
    reactor = None if request.param == "default" else request.param
    with running_server("--handler=waiting", "--admin=unix:admin.sock", cwd=files, reactor=reactor) as server:
        server.wait_for("admin listening on unix:")
        yield server
        assert "Traceback" not in server.log


def ask(path: str, method: str = "GET", **fields: str) -> tuple[int, str]:
    client = OverSocket("admin.sock")
    client.request(method, path, headers=fields)
    response = client.getresponse()
    body = response.read().decode()
    client.close()
    return response.status, body


def metrics() -> Callable[..., float]:
    """Scrape; the result returns one value, by name and labels."""
    status, text = ask("/metrics")
    assert status == 200
    samples = {(one.name, tuple(sorted(one.labels.items()))): one.value for all_ in parse(text) for one in all_.samples}
    return lambda name, **labels: samples[name, tuple(sorted(labels.items()))]


def wait_for(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not found():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def test_prometheus_can_read_what_has_happened(server: Server) -> None:
    with connect(server.url) as client:
        client.send("hello")
        assert client.recv(timeout=SOON) == "done"
        value = metrics()
        assert value("wshost_ready") == 1
        assert value("wshost_connections", module="websocket") == 1
        assert value("wshost_messages_total", direction="in") == value("wshost_messages_total", direction="out") == 1
        assert value("wshost_handler_seconds_count", handler="waiting") == 1
    wait_for(lambda: metrics()("wshost_connections", module="websocket") == 0, "the end of the connection")
    value = metrics()
    assert value("wshost_closes_total", code="1000", side="peer") == 1
    assert value("wshost_messages_total", direction="in") == 1
    # Those of the endpoint itself don't count.
    assert value("wshost_connections_opened_total") == 1


def test_an_operator_closes_a_connection(server: Server) -> None:
    with connect(server.url) as client:
        (shown,) = json.loads(ask("/connections")[1])["connections"]
        assert shown["peer"] == "{}:{}".format(*client.socket.getsockname())
        path = f"/connections/{shown['id']}"
        assert json.loads(ask(path)[1])["id"] == shown["id"]
        assert ask(path, "DELETE", Origin="null")[0] == 403
        assert ask(path, "DELETE") == (202, json.dumps({"id": shown["id"], "result": "closing"}) + "\n")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=SOON)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "closed by an administrator")
    wait_for(lambda: ask(path)[0] == 404, "the end of the connection")


def test_a_draining_server_is_not_ready_but_shows_its_connections(server: Server, files: Path) -> None:
    # This one does not hold the stop, although it is open.
    idle = OverSocket("admin.sock")
    idle.connect()
    with connect(server.url) as client:
        assert ask("/readyz") == (200, "ready\n")
        client.send("wait")
        server.wait_for("it waits")
        assert ask("/healthz") == (200, "ok\n")
        stopping(server)
        wait_for(lambda: ask("/readyz") == (503, "draining\n"), "that it drains")
        assert ask("/healthz") == (200, "ok\n")
        assert metrics()("wshost_ready") == 0
        assert json.loads(ask("/connections")[1])["total"] == 1
        (files / "go").touch()
        assert client.recv(timeout=SOON) == "done"
    server.wait()
    assert idle.sock.recv(1) == b""
    idle.close()
    assert not (files / "admin.sock").exists()


def stopping(server: Server) -> None:
    """Tell a server to stop, and don't wait."""
    os.kill(server.pid, signal.SIGTERM)


def test_a_port_without_an_interface_is_on_the_loopback(files: Path) -> None:
    with running_server("--admin=0", cwd=files) as server:
        port = int(server.wait_for(r"admin listening on http://127\.0\.0\.1:(\d+) ")[1])
        answers: list[Any] = []
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", "evil.example"):
            client = HTTPConnection("127.0.0.1", port, timeout=SOON)
            client.request("GET", "/readyz", headers={"Host": host})
            answers.append(client.getresponse().status)
            client.close()
    assert answers == [200, 200, 421]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--listen=unix:a.sock", "--admin=unix:a.sock"],
            "admin: 'unix:a.sock' is where clients connect: operators need an endpoint apart",
        ),
        (
            ["--port=0", "--admin=unix:none/a.sock"],
            "can't listen on unix:none/a.sock: No such file or directory",
        ),
        (["--port=0", "--admin=nothing"], "admin: 'nothing': Unknown endpoint type: 'nothing'"),
    ],
)
def test_an_endpoint_that_can_not_be_is_said_in_one_line(files: Path, options: list[str], line: str) -> None:
    command = [str(SCRIPTS / "wshost"), "--handler=waiting", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=files)
    assert done.returncode == 1
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_of_the_documentation_work_as_they_stand(server: Server) -> None:
    script = (EXAMPLES / "admin.sh").read_text().replace("/run/chat/admin.sock", "admin.sock")
    programs.find("curl", package="curl")
    with connect(server.url):
        done = subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert [line for line in done.stdout.splitlines() if line in {"ok", "ready", "wshost_ready 1.0"}] == [
        "ok",
        "ready",
        "wshost_ready 1.0",
    ]
    assert '"id": "c1"' in done.stdout
    assert '"result": "closing"' in done.stdout
