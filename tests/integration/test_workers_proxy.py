"""Behind proxies, the limits of an address hold over all workers, as in one process; with real processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.server import PATIENCE, Server, running_server
from tests.integration.test_workers import HANDLER, serving, wait_until, workers_of
from tests.memory import request
from tests.regressions import wire

BOTH = pytest.mark.parametrize("way", ["header", "forwarded"])
#: One connection from each address, in all workers together.
ONE = "--max-connections-per-address=1"
CLIENT, OTHER = "192.0.2.1", "192.0.2.2"


def options(way: str) -> list[str]:
    if way == "header":
        return ["--listen=haproxy:tcp:0:interface=127.0.0.1"]
    return ["--port=0", "--trust-proxy=127.0.0.1"]


def greeting(way: str, address: str) -> bytes:
    """What a proxy sends of a client's: it asks for its worker."""
    if way == "header":
        return f"PROXY TCP4 {address} 192.0.2.9 4711 80\r\n".encode() + request() + wire.frame(wire.TEXT, b"pid")
    return request(headers={"X-Forwarded-For": address}) + wire.frame(wire.TEXT, b"pid")


class Client:
    """One connection, as a proxy makes it."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.socket = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))

    def ask(self, way: str, address: str = CLIENT) -> str:
        """Shake hands; return the worker's process id, or the status of the refusal."""
        self.socket.sendall(greeting(way, address))
        return self.hear()

    def hear(self) -> str:
        data = b""
        while not (frames := list(wire.frames(data.partition(b"\r\n\r\n")[2]))):
            more = self.socket.recv(4_096)
            assert more, f"there came no more than {data!r}"
            data += more
            if b"\r\n\r\n" in data and not data.startswith(b"HTTP/1.1 101 "):
                return data.split(b" ")[1].decode()
        return frames[0].payload.decode()


@contextmanager
def behind(way: str, *more: str) -> Iterator[tuple[Server, Callable[[], Client]]]:
    with serving(*options(way), *more) as server, ExitStack() as stack:
        yield server, lambda: Client(server, stack)
        assert "Traceback" not in server.log


def has_room(server: Server, way: str) -> bool:
    with ExitStack() as stack:
        return Client(server, stack).ask(way) not in {"503", "429"}


def sockets_of(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(descriptor.readlink().name)
        except OSError:
            # It was that of this loop, or has been closed.
            continue
    return found


def has(pid: int, server: Server, client: Client) -> bool:
    """Whether a process has the other end of a client's connection."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    ends = f"{server.port:04X}", f"{client.socket.getsockname()[1]:04X}"
    inodes = {row[9] for row in rows if (row[1][-4:], row[2][-4:]) == ends}
    return bool(sockets_of(pid) & {f"socket:[{inode}]" for inode in inodes})


def wait_for_workers(server: Server, clients: list[Client]) -> None:
    """Wait until workers have these connections."""
    workers = workers_of(server)
    wait_until(lambda: all(any(has(pid, server, client) for pid in workers) for client in clients))


@BOTH
def test_an_address_has_its_limit_over_all_workers_and_gets_its_place_back(way: str) -> None:
    with behind(way, ONE) as (server, connect):
        first, second, third = connect(), connect(), connect()
        assert first.ask(way) in map(str, workers_of(server))
        assert second.ask(way) == "503"
        assert third.ask(way, OTHER) in map(str, workers_of(server))
        first.socket.close()
        wait_until(lambda: has_room(server, way))


@BOTH
def test_an_address_that_connects_too_often_is_told_so_by_each_worker(way: str) -> None:
    # A second's worth of 1 is saved up for 2 seconds.
    with behind(way, "--connection-rate=1") as (_, connect):

        def too_often() -> bool:
            return connect().ask(way) == "429"

        wait_until(too_often)
        assert connect().ask(way, OTHER) not in {"429", "503"}


@BOTH
def test_a_worker_that_is_killed_gives_the_places_of_its_clients_back(way: str) -> None:
    with behind(way, ONE) as (server, connect):
        pid = connect().ask(way)
        assert [connect().ask(way) for _ in range(2)] == ["503", "503"]
        os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: has_room(server, way))


@BOTH
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_without_an_answer_of_the_supervisor_workers_decide_alone(way: str, how: signal.Signals) -> None:
    with behind(way, ONE, "--drain-timeout=5") as (server, connect):
        clients = [connect() for _ in range(4)]
        wait_for_workers(server, clients)
        os.kill(server.pid, how)
        for client in clients:
            client.socket.sendall(greeting(way, CLIENT))
        # Each of two workers admits one.
        answers = [client.hear() for client in clients]
        assert sorted(answer == "503" for answer in answers) == [False, False, True, True]
        assert len(set(answers)) == 3
        if how == signal.SIGSTOP:
            os.kill(server.pid, signal.SIGCONT)
            assert server.stop()[0] == 0


@BOTH
def test_a_flood_of_one_address_is_refused_and_others_are_served(way: str) -> None:
    with behind(way, ONE, "--max-connections=300") as (server, connect):
        assert connect().ask(way) not in {"429", "503"}
        flood = [connect() for _ in range(200)]
        for client in flood:
            client.socket.sendall(greeting(way, CLIENT))
        assert {client.hear() for client in flood} == {"503"}
        for client in flood:
            client.socket.close()
        assert connect().ask(way, OTHER) in map(str, workers_of(server))


@BOTH
def test_one_process_answers_the_same(way: str) -> None:
    given = ("--handler", HANDLER, *options(way), ONE)
    with running_server(*given, command="wshost") as server, ExitStack() as stack:
        first, second = Client(server, stack), Client(server, stack)
        assert (first.ask(way), second.ask(way)) == (str(server.pid), "503")
