"""Sockets that systemd passes: by its own program, to both commands."""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
import trustme
from websockets.sync.client import connect, unix_connect

from tests.integration.server import running_server

#: Passes on TCP sockets, whose ports the kernel chooses: systemd's program takes no port 0, but passes on what it gets.
TCP = """
import os, socket, sys
hosts = sys.argv[1].split()
families = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
passed = [socket.create_server((host, 0), family=families[host]) for host in hosts]
for place, one in enumerate(passed):
    os.dup2(one.fileno(), 20 + place)
for place in range(len(passed)):
    os.dup2(20 + place, 3 + place)
os.environ.update(LISTEN_FDS=str(len(passed)), LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""
#: Passes on something else than sockets that listen; a number of them comes first.
PASSING = """
import os, socket, sys
count, kind, *command = sys.argv[1:]
passed = {
    "datagrams": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "idle": socket.socket,
    "file": lambda: open(os.devnull),
    "listening": lambda: socket.create_server(("127.0.0.1", 0)),
}[kind]()
os.dup2(passed.fileno(), 9)
os.dup2(9, 3)
os.environ.update(LISTEN_FDS=count, LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""
#: What systemd's program says when it listens, and what a command says that can't start.
WAITS = re.compile(r"Listening on \S+ as \d")
WRONG = re.compile(r"^wshost: (.*)\n", re.MULTILINE)
#: How the line about a socket begins.
CAN_NOT = "can't listen on systemd:domain=INET:index=0: the socket"

Command = Literal["wshost", "twistd"]


@pytest.fixture
def path() -> Iterator[Path]:
    """One that is short enough for a socket."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "s"


def activated(path: Path, *hosts: str, names: str = "") -> tuple[str, ...]:
    """The program of systemd's that listens, waits for the first client, and becomes the command that follows.

    :param path: that of a Unix socket, which is the last one.
    :param hosts: the addresses of TCP sockets, which come first.
    """
    kept = [name for name in os.environ if name.startswith(("PYTHON", "WSHOST_"))]
    return (
        *((sys.executable, "-c", TCP, " ".join(hosts)) if hosts else ()),
        "systemd-socket-activate",
        *(f"--setenv={name}" for name in kept),
        *((f"--fdname={names}",) if names else ()),
        f"--listen={path}",
    )


def echoes(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether the server answers; the first client waits until it has started."""
    if url.startswith("unix:"):
        uri = "ws://localhost/" if context is None else "wss://localhost/"
        client = unix_connect(url.removeprefix("unix:"), uri, ssl=context, open_timeout=30)
    else:
        client = connect(url, proxy=None, ssl=context)
    with client:
        client.send("I am in")
        return client.recv(timeout=10) == "I am in"


@pytest.mark.parametrize(
    ("command", "reactor", "names"),
    [("wshost", None, ""), ("twistd", None, "chat:chat:chat"), ("twistd", "epoll", "")],
)
def test_all_sockets_are_served_and_are_still_systemds_when_the_server_has_stopped(
    path: Path, command: Command, reactor: str | None, names: str
) -> None:
    before = activated(path, "127.0.0.1", "::1", names=names)
    with running_server(before=before, command=command, reactor=reactor, ready=WAITS, port=()) as server:
        assert echoes(f"unix:{path}")
        urls = [server.wait_for(rf"wshost listening on ({start}\S+)")[1] for start in ("unix:", "ws://127", r"ws://\[")]
        assert urls[0] == f"unix:{path}"
        assert all(map(echoes, urls))
        server.stop()
    assert path.is_socket()


def test_sockets_are_served_over_tls(path: Path, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    options = ("--tls-cert", str(tmp_path / "server.pem"))
    before = activated(path, "127.0.0.1")
    with running_server(*options, before=before, command="wshost", ready=WAITS, port=()) as server:
        assert echoes(f"unix:{path}", context)
        assert echoes(server.wait_for(r"listening on (wss:\S+)")[1], context)


def test_a_socket_with_the_name_admin_is_for_operators(path: Path) -> None:
    before = activated(path, "127.0.0.1", names="admin:chat")
    with running_server(before=before, command="wshost", ready=WAITS, port=()) as server:
        assert echoes(f"unix:{path}")
        server.wait_for(r"admin listening on http://127\.0\.0\.1:")
        assert "wshost listening on ws" not in server.log


def test_a_socket_that_nothing_listens_on_is_named(path: Path) -> None:
    before = activated(path, "127.0.0.1", names="spare:chat")
    with running_server(
        "--listen", "systemd:domain=UNIX:name=chat", before=before, command="wshost", ready=WAITS
    ) as server:
        assert echoes(f"unix:{path}")
        server.wait_for(r"systemd has passed sockets that nothing listens on: 3 \(spare\)\n")


@pytest.mark.parametrize(
    ("kind", "count", "line"),
    [
        ("listening", "x", "LISTEN_FDS: 'x' is no number of sockets"),
        ("listening", "99999999999", "LISTEN_FDS: '99999999999' is no number of sockets"),
        (
            "datagrams",
            "1",
            f"{CAN_NOT} is for datagrams, not for connections: let systemd make it by ListenStream=",
        ),
        (
            "idle",
            "1",
            f"{CAN_NOT} does not listen: systemd must not accept its connections (Accept=no)",
        ),
        ("file", "1", "systemd has passed the descriptor 3 (unknown), which is no socket"),
    ],
)
@pytest.mark.parametrize("command", ["wshost", "twistd"])
def test_what_can_not_be_served_is_one_line(kind: str, count: str, line: str, command: Command) -> None:
    before = (sys.executable, "-c", PASSING, count, kind)
    with running_server(before=before, command=command, ready=WRONG, port=()) as server:
        status, log = server.wait()
    assert status == 1
    assert WRONG.findall(log) == [line]
    assert "Traceback" not in log
