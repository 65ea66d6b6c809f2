"""Servers with workers and without take over from one another, with real processes: their connections go on."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.server import PATIENCE, Server, running_server
from tests.integration.test_takeover import NAMED, TALLY, counted
from tests.integration.test_workers import attempt, open_one, wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


class Servers:
    """Servers that take over from one another."""

    def __init__(self, stack: ExitStack, folder: Path, *options: str) -> None:
        self._stack = stack
        self._options = ("--takeover", str(folder / "takeover"), *options)
        self.last: Server | None = None

    def start(self, workers: int) -> Server:
        """Start a server, which takes over; wait until the one before has ended."""
        before, options = self.last, (*self._options, *(() if workers == 1 else ("--workers", str(workers))))
        self.last = self._stack.enter_context(running_server(*options, command="wshost"))
        if before is not None:
            status, log = before.wait()
            assert status == 0
            assert "Traceback" not in log
            assert " error " not in log
            assert self.last.port == before.port
        return self.last

    def open(self, count: int = 1) -> list[ClientConnection]:
        assert self.last is not None
        return [self._stack.enter_context(open_one(self.last)) for _ in range(count)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kinds", [(2, 3), (1, 2), (2, 1)])
def test_connections_go_on_whatever_serves_before_and_after(
    stack: ExitStack, folder: Path, kinds: tuple[int, int]
) -> None:
    servers = Servers(stack, folder, "--handler", TALLY)
    old = servers.start(kinds[0])
    clients = servers.open(12)
    assert {counted(client) for client in clients} == {"1"}
    new = servers.start(kinds[1])
    assert "another process has taken over, with 12 connections" in old.log
    assert {counted(client) for client in clients} == {"2"}
    assert counted(servers.open()[0]) == "1"
    assert new.stop()[0] == 0
    for client in clients:
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
    assert "Traceback" not in new.log


def said(client: ClientConnection, what: str) -> str:
    client.send(what)
    answer = client.recv(timeout=PATIENCE)
    assert isinstance(answer, str)
    return answer


def test_texts_of_references_stay_valid_from_one_server_to_the_next(stack: ExitStack, folder: Path) -> None:
    (folder / "named.py").write_text(NAMED)
    servers = Servers(stack, folder, "--handler", str(folder / "named.py"))
    texts: dict[str, ClientConnection] = {}
    for workers in (2, 2, 1, 2):
        servers.start(workers)
        clients = [*texts.values(), *servers.open(2)]
        for client in clients[len(texts) :]:
            texts[said(client, "who")] = client
        # No id comes twice, not even for another home.
        assert len({text.rpartition(".")[2] for text in texts}) == len(texts) == len(clients)
        for client in clients:
            for text, other in texts.items():
                client.send(text)
                assert other.recv(timeout=PATIENCE) == "found"
    assert all(said(client, "who") == text for text, client in texts.items())


def test_limits_count_the_connections_that_went_over(stack: ExitStack, folder: Path) -> None:
    options = ("--max-connections", "5", "--max-connections-per-address", "3")
    servers = Servers(stack, folder, "--handler", TALLY, *options)
    servers.start(2)
    clients = servers.open(3)
    assert {counted(client) for client in clients} == {"1"}
    new = servers.start(2)
    with attempt(new) as status:
        assert status == 503
    clients[0].close()

    def has_room() -> bool:
        with attempt(new) as status:
            return status == 101

    wait_until(has_room)


def test_clients_whom_a_proxy_has_named_count_for_their_address_from_one_server_to_the_next(
    stack: ExitStack, folder: Path
) -> None:
    servers = Servers(
        stack, folder, "--handler", TALLY, "--trust-proxy", "127.0.0.1", "--max-connections-per-address", "2"
    )

    def open_from(host: str) -> ClientConnection:
        assert servers.last is not None
        headers = {"X-Forwarded-For": host}
        return connect(servers.last.url, compression=None, additional_headers=headers, open_timeout=PATIENCE)

    def status(host: str) -> int:
        try:
            with open_from(host):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    servers.start(2)
    clients = [stack.enter_context(open_from("192.0.2.1")) for _ in range(2)]
    for round, workers in enumerate((2, 1, 2), 1):
        assert {counted(client) for client in clients} == {str(round)}
        assert (status("192.0.2.1"), status("192.0.2.2")) == (503, 101)
        servers.start(workers)
    assert {counted(client) for client in clients} == {"4"}
    assert (status("192.0.2.1"), status("192.0.2.2")) == (503, 101)
    clients[0].close()
    wait_until(lambda: status("192.0.2.1") == 101)


#: Says what was published to whom; one message is published.
ROOM = """
import wshost
def init(options):
    options["worker"].subscribe("room")
def handle(message, state):
    match message:
        case ("text", text):
            wshost.publish("room", text)
    return ("noreply", state)
def freeze(state):
    return b""
def thaw(data, options):
    return None
"""


def test_subscriptions_go_on(stack: ExitStack, folder: Path) -> None:
    (folder / "room.py").write_text(ROOM)
    servers = Servers(stack, folder, "--handler", str(folder / "room.py"))
    servers.start(2)
    clients = servers.open(4)
    servers.start(2)
    for client in clients:
        client.send("hello")
        assert {other.recv(timeout=PATIENCE) for other in clients} == {"hello"}


#: Has a name, is present, and monitors others; keeps its reference, but says nothing of itself again.
KNOWN = """
import wshost
def init(options):
    return options["worker"]
def handle(message, ref):
    match message:
        case ("text", "who"):
            return ("reply", str(ref), ref)
        case ("text", "present"):
            return ("reply", " ".join(sorted(map(str, wshost.present("room")))), ref)
        case ("text", text):
            what, about = text.split()
            match what:
                case "be":
                    done = wshost.register(about, ref) and wshost.track("room", ref, {"number": about})
                case "whereis":
                    done = wshost.whereis(about)
                case "monitor":
                    done = ref.monitor(wshost.Ref.parse(about))
            return ("reply", str(done), ref)
        case ("info", ("down", other, reason)):
            return ("reply", f"down {other}", ref)
    return ("noreply", ref)
def freeze(ref):
    return b""
def thaw(data, options):
    return options["worker"]
"""


def test_what_can_not_go_over_gets_a_close(stack: ExitStack, folder: Path) -> None:
    """A compressed connection has a context that no other process knows."""
    servers = Servers(stack, folder, "--handler", TALLY, "--compress")
    old = servers.start(2)
    client = stack.enter_context(connect(old.url))
    (plain,) = servers.open()
    assert counted(client) == counted(plain) == "1"
    servers.start(2)
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=PATIENCE)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    assert counted(plain) == "2"


def test_the_admin_endpoint_goes_over_and_shows_connections_of_the_server_before(
    stack: ExitStack, folder: Path
) -> None:
    admin = folder / "admin"
    servers = Servers(stack, folder, "--handler", TALLY, "--admin", f"unix:{admin}")

    def ask(path: str, method: str = "GET") -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(admin))
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65_536), b"")).decode().partition("\r\n\r\n")[2]

    servers.start(2)
    clients = servers.open(4)
    assert {counted(client) for client in clients} == {"1"}
    assert ask("/readyz") == "ready: 2 of 2 workers serve\n"
    servers.start(2)
    assert ask("/readyz") == "ready: 2 of 2 workers serve\n"
    assert {counted(client) for client in clients} == {"2"}
    assert '\nwshost_connections{module="websocket"} 4.0\n' in ask("/metrics")
    assert [f'"id": "{id}"' in ask("/connections") for id in ("w1c1", "w1c2", "w2c1", "w2c2")] == [True] * 4
    assert '"id": "w2c1"' in ask("/connections/w2c1")
    assert "closing" in ask("/connections/w2c1", "DELETE")
    wait_until(lambda: '"id": "w2c1"' not in ask("/connections"))


def knows(client: ClientConnection, what: str, answer: str) -> None:
    """In another worker, it is known a moment later."""
    wait_until(lambda: said(client, what) == answer)


def test_names_presences_and_monitors_go_on(stack: ExitStack, folder: Path) -> None:
    (folder / "known.py").write_text(KNOWN)
    servers = Servers(stack, folder, "--handler", str(folder / "known.py"))
    texts: dict[str, ClientConnection] = {}
    for workers in (2, 2, 1, 2):
        servers.start(workers)
        if not texts:
            clients = servers.open(4)
            texts = {said(client, "who"): client for client in clients}
            for number, client in enumerate(clients):
                assert said(client, f"be {number}") == "True"
            for client in clients:
                for text in texts:
                    assert said(client, f"monitor {text}") == "True"
        for client in servers.open(2):
            for number, text in enumerate(texts):
                knows(client, f"whereis {number}", text)
            knows(client, "present", " ".join(sorted(texts)))
            client.close()
    # Nobody was told that another one had ended. Now one does.
    (gone, ended), *others = texts.items()
    ended.close()
    assert {client.recv(timeout=PATIENCE) for _, client in others} == {f"down {gone}"}
