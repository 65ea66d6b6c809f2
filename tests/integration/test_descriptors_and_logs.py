"""A server without free file descriptors, and limits on what peers can have logged, on both kinds of reactor."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.integration.server import Server, running_server
from tests.memory import request
from tests.regressions import wire

SOON = 10
REACTORS = ["default", "epoll"]

WEBSITE = """
from twisted.web.server import Site
from twisted.web.static import File

factory = Site(File("."))
"""


def dial(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SOON)


def echoes(client: socket.socket, text: bytes) -> bool:
    """Whether a connection that is open still answers."""
    client.sendall(wire.frame(wire.TEXT, text))
    return client.recv(4096).endswith(text)


def seconds_of_cpu(server: Server) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limited(soft: int, hard: int) -> list[str]:
    """What gives a server so many descriptors."""
    return ["sh", "-c", f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$0" "$@"']


class TestWithoutDescriptors:
    @pytest.fixture(params=REACTORS)
    def server(self, request: pytest.FixtureRequest) -> Iterator[Server]:
        reactor = None if request.param == "default" else request.param
        with running_server("--port=0", reactor=reactor, before=limited(80, 80)) as server:
            yield server

    def test_without_free_descriptors_open_connections_are_served_and_new_ones_wait(self, server: Server) -> None:
        with ExitStack() as stack:
            first = stack.enter_context(dial(server))
            first.sendall(request())
            assert first.recv(4096).startswith(b"HTTP/1.1 101 ")
            others = [stack.enter_context(dial(server)) for _ in range(100)]
            for other in others:
                with suppress(OSError):
                    other.sendall(request())
            # Who is not closed at once.
            assert echoes(first, b"still here")
            # Until the log has its fill of them: the next ones are only counted.
            sizes = [len(server.log)]
            while len(sizes) < 8 or sizes[-1] > sizes[-2]:
                for _ in range(100):
                    with suppress(OSError):
                        dial(server).close()
                assert echoes(first, b"and now")
                sizes.append(len(server.log))
            # What still waits to be accepted is not there any more then.
            time.sleep(1)
            before = seconds_of_cpu(server)
            time.sleep(1)
            assert seconds_of_cpu(server) - before < 0.1
            assert echoes(first, b"at rest")
        deadline = time.monotonic() + SOON
        while True:
            with dial(server) as late, suppress(ConnectionError):
                late.sendall(request())
                if late.recv(4096).startswith(b"HTTP/1.1 101 "):
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "Traceback" not in server.log
        assert len(server.log) < 20_000
        server.wait_for("more of these were not logged")

    def test_too_few_descriptors_for_max_connections_are_logged_at_the_start(self, server: Server) -> None:
        assert re.search(
            r"max-connections is 10000, and this process may have 80 files open: that is .* 30 conn", server.log
        )


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    with running_server("--port=0", "--max-connections=100", before=limited(64, 500)) as server:
        limits = Path(f"/proc/{server.pid}/limits").read_text(encoding="ascii")
        assert re.search(r"Max open files +500 +500 ", limits)
        assert "max-connections" not in server.log


class TestAnotherProgramsLog:
    def test_tracebacks_that_twisted_web_logs_are_limited(self, tmp_path: Path) -> None:
        (tmp_path / "site.html").write_text("hello", encoding="ascii")
        (tmp_path / "web.py").write_text(WEBSITE, encoding="ascii")
        modules = ("http,otherwise=web.factory", "websocket", "web.factory")
        with running_server(
            "--port=0",
            "--handler=wshost.handlers.echo",
            *(f"--protocol-module={module}" for module in modules),
            cwd=tmp_path,
        ) as server:
            for _ in range(300):
                with dial(server) as client:
                    client.sendall(b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert client.recv(4096).startswith(b"HTTP/1.1 ")
            assert len(server.log) < 150_000
            assert server.log.count("Traceback (most recent call last)") <= 20
            server.wait_for(r"\d more of these were not logged: twisted\.web")
