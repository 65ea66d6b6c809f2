"""Unix sockets that killed servers left, that living servers use, and who may connect, on both kinds of reactor."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.server import SCRIPTS, Server, running_server
from tests.memory import request

SOON = 10

#: Endpoints, and the reactors that have them.
KINDS = [
    (None, "unix:{path}"),
    (None, "unix:{path}:lockfile=0"),
    (None, "fast:unix={path}"),
    ("epoll", "unix:{path}"),
    ("epoll", "unix:{path}:lockfile=0"),
]


@pytest.fixture
def path() -> Iterator[Path]:
    """The names of sockets are short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory) / "chat.sock"


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(filter(None, kind)))
def kind(request: pytest.FixtureRequest) -> tuple[str | None, str]:
    kind: tuple[str | None, str] = request.param
    return kind


@pytest.fixture
def reactor(kind: tuple[str | None, str]) -> str | None:
    return kind[0]


@pytest.fixture
def listen(kind: tuple[str | None, str], path: Path) -> str:
    return "--listen=" + kind[1].format(path=path)


def serves(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SOON)
        client.connect(str(path))
        client.sendall(request())
        return client.recv(4096).startswith(b"HTTP/1.1 101 ")


def killed(server: Server) -> None:
    server.stop(signal.SIGKILL)


class TestWhatAKilledServerLeft:
    def test_the_socket_of_a_killed_server_is_taken_over(self, path: Path, listen: str, reactor: str | None) -> None:
        with running_server(listen, reactor=reactor) as server:
            killed(server)
        assert path.is_socket()
        with running_server(listen, reactor=reactor) as server:
            assert server.url == f"unix:{path}"
            assert serves(path)
        assert [*path.parent.iterdir()] == []

    def test_the_socket_of_a_killed_server_is_taken_over_though_its_lock_names_another_process(
        self, path: Path, listen: str, reactor: str | None
    ) -> None:
        """One that lives: ids are used again, in a container most of all."""
        with running_server(listen, reactor=reactor) as server:
            killed(server)
        lock = path.with_name("chat.sock.lock")
        lock.unlink(missing_ok=True)
        lock.symlink_to(str(os.getpid()))
        with running_server(listen, reactor=reactor):
            assert serves(path)
        assert not path.exists()


def attempt(listen: str, reactor: str | None) -> tuple[int, list[str]]:
    """Start a server that can't: its exit status, and what it says to the terminal."""
    done = subprocess.run(
        [
            str(SCRIPTS / "twistd"),
            *([f"--reactor={reactor}"] if reactor else []),
            *("--nodaemon", "--pidfile=", "--logfile=/dev/null", "wshost", "--handler=wshost.handlers.echo", listen),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


class TestWhatIsInUse:
    def test_the_socket_of_a_living_server_is_left_to_it(self, path: Path, listen: str, reactor: str | None) -> None:
        with running_server(listen, reactor=reactor):
            # A lock that is none keeps nobody out.
            path.with_name("chat.sock.lock").unlink(missing_ok=True)
            status, lines = attempt(listen, reactor)
            assert (status, lines) == (1, [f"wshost: can't listen on {listen[9:]}: a server listens there already"])
            assert serves(path)

    def test_a_file_in_the_sockets_place_is_kept(self, path: Path, listen: str, reactor: str | None) -> None:
        path.write_text("mine", encoding="ascii")
        status, lines = attempt(listen, reactor)
        assert (status, lines) == (1, [f"wshost: can't listen on {listen[9:]}: Address already in use"])
        assert path.read_text(encoding="ascii") == "mine"


class TestWhoMayConnect:
    def test_a_unix_socket_is_open_to_its_user_and_group_by_default(
        self, path: Path, listen: str, reactor: str | None
    ) -> None:
        """Those of the directory, where that hands on its group."""
        os.chown(path.parent, -1, 4711 if os.getuid() == 0 else os.getgid())
        path.parent.chmod(0o2750)
        with running_server(listen, reactor=reactor):
            found = path.stat()
            assert stat.S_IMODE(found.st_mode) == 0o660
            assert found.st_gid == path.parent.stat().st_gid

    def test_a_unix_socket_gets_the_mode_that_the_endpoint_names(self, path: Path) -> None:
        with running_server(f"--listen=unix:{path}:mode=606"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o606
