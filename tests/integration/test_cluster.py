"""What processes that serve together do for their clients, with real processes: workers, and servers over NATS."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.integration.brokers import nats_server
from tests.integration.server import PATIENCE, Server, running_server

HANDLER = str(Path(__file__).parent / "cluster_handler.py")


@pytest.fixture(params=["workers", "nats"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers over NATS; or one with two workers, twice."""
    with ExitStack() as stack:
        if request.param == "workers":
            one = stack.enter_context(running_server("--handler", HANDLER, "--workers", "2", command="wshost"))
            yield one, one
        else:
            broker = stack.enter_context(nats_server(tmp_path))
            options = ("--handler", HANDLER, "--backplane", f"nats://127.0.0.1:{broker.port}", "--port", "0")
            first, second = (stack.enter_context(running_server(*options, command="wshost")) for _ in range(2))
            yield first, second


@pytest.fixture
def clients(servers: tuple[Server, Server]) -> Iterator[tuple[ClientConnection, ClientConnection]]:
    """One of each process: workers get connections by turns."""
    with (
        connect(servers[0].url, compression=None) as one,
        connect(servers[1].url, compression=None) as two,
    ):
        # Workers serve when they are connected, brokers may need a moment to tell one another.
        wait_until(lambda: reaches(one, two))
        yield one, two


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(client: ClientConnection) -> str:
    answer = client.recv(timeout=PATIENCE)
    assert isinstance(answer, str)
    return answer


def ask(client: ClientConnection, what: str) -> str:
    client.send(what)
    return read(client)


def reaches(one: ClientConnection, two: ClientConnection) -> bool:
    """Whether the process of one client reaches the other's, which has got a message then."""
    if ask(one, f"to {ask(two, 'who')} hello") != "written":
        return False
    assert read(two) == "hello"
    return True


def boot(client: ClientConnection) -> str:
    return ask(client, "who").split(".")[1]


def test_the_clients_are_at_different_processes(clients: tuple[ClientConnection, ClientConnection]) -> None:
    assert boot(clients[0]) != boot(clients[1])


def test_what_is_published_in_one_process_reaches_the_subscribers_of_both_in_order(
    clients: tuple[ClientConnection, ClientConnection],
) -> None:
    for number in range(100):
        clients[0].send(f"all {number}")
    for client in clients:
        assert [read(client) for _ in range(100)] == [str(number) for number in range(100)]


def test_a_reference_of_another_process_confirms_and_knows_when_its_connection_has_gone(
    servers: tuple[Server, Server], clients: tuple[ClientConnection, ClientConnection]
) -> None:
    one, two = clients
    text = ask(two, "who")
    assert ask(one, f"to {text} found") == "written"
    assert read(two) == "found"
    two.close()
    wait_until(lambda: ask(one, f"to {text} late") == "gone")


def test_a_name_is_known_in_each_process_and_goes_with_its_connection(
    clients: tuple[ClientConnection, ClientConnection],
) -> None:
    one, two = clients
    text = ask(two, "who")
    assert ask(two, "name ann") == "True"
    wait_until(lambda: ask(one, "whereis ann") == text)
    assert ask(one, "name ann") == "False"
    two.close()
    wait_until(lambda: ask(one, "whereis ann") == "None")


def test_a_process_that_is_killed_takes_its_names_with_it_and_its_monitors_are_told(
    servers: tuple[Server, Server], clients: tuple[ClientConnection, ClientConnection]
) -> None:
    one, two = clients
    text = ask(two, "who")
    assert ask(two, "name ann") == "True"
    wait_until(lambda: ask(one, "whereis ann") == text)
    one.send(f"monitor {text}")
    os.kill(process_of(servers[1], text), signal.SIGKILL)
    # Another beat must be missed: the answer comes after seconds.
    assert re.fullmatch(rf"down {re.escape(text)} \S.*", read(one))
    wait_until(lambda: ask(one, "whereis ann") == "None")
    # The broker, or the other worker, knows that nobody is there.
    assert ask(one, f"to {text} late") == "unreachable"


def test_a_handler_that_asks_is_told_of_what_was_lost_while_the_broker_was_away(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(nats_server(tmp_path))
        way = ("--backplane", f"nats://127.0.0.1:{broker.port}", "--backplane-patience", "0.1", "--port", "0")
        servers = [stack.enter_context(running_server("--handler", HANDLER, *way, command="wshost")) for _ in range(2)]
        one, two = (stack.enter_context(connect(server.url, compression=None)) for server in servers)
        wait_until(lambda: reaches(one, two))
        one.send("all first")
        assert [read(client) for client in (one, two)] == ["first"] * 2
        broker.kill()
        servers[0].wait_for("the backplane is not connected")
        one.send("all lost")
        assert read(one) == "lost"
        servers[0].wait_for("the backplane has dropped 1 payloads")
        broker.start()
        for server in servers:
            server.wait_for("the backplane is connected again")
        # The other process may know it by now, or by the next message.
        one.send("all last")
        assert sorted(read(two) for _ in range(2)) == ["last", "lost room 1"]


def process_of(server: Server, text: str) -> int:
    """The process id of the worker that a reference names, or of the server."""
    worker = re.search(r"\.w(\d)c", text)
    if worker is None:
        return server.pid
    return int(server.wait_for(r"2 workers: (\d+), (\d+)")[int(worker[1])])
