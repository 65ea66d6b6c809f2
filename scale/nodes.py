"""Starts servers that know each other, and asks them for their metrics. Does not know what is measured."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.building import UnavailableError
from scale.brokers import Broker
from scale.machines import Machine
from torture.peers import PATIENCE, ask, connected, handshake, read_answer
from torture.server import Server, Target
from wshost.settings.options import Settings

#: Options of all servers. Clients that only count must not be asked whether they are there.
OPTIONS = ("--max-connections=20000", "--ping-interval=0")
#: So many connections are made until two are found that different workers have.
_TRIES = 64


def needs_workers() -> None:
    """:raises UnavailableError: when this wshost has no workers."""
    if not hasattr(Settings, "workers"):
        raise UnavailableError("this wshost has no option --workers")


@contextmanager
def node(
    target: Target,
    *brokers: Broker,
    admin: str = "",
    listens: str = "",
    machine: Machine | None = None,
) -> Iterator[Server]:
    """Start a server with the handler of these rows.

    :param brokers: those of one cluster, by which it meets others.
    :param admin: the path of the socket for operators; empty for none.
    :param listens: the path of a Unix socket where clients connect, too; empty for none.
    :param machine: where it runs; None: as all others.
    """
    options = [f"--backplane={broker.url}" for broker in brokers]
    options += [f"--admin=unix:{admin}"] if admin else []
    listen = ("--listen=tcp:0:interface=127.0.0.1", f"--listen=unix:{listens}") if listens else ("--port=0",)
    command = machine.enter if machine is not None else ()
    with target.start(*options, *OPTIONS, handler="scale.handler", listen=listen, command=command) as server:
        yield server


def by_socket(path: str) -> socket.socket:
    """Return a client that is connected by a Unix socket."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    try:
        made.connect(path)
        made.sendall(handshake())
        read_answer(made)
    except BaseException:
        made.close()
        raise
    return made


def metric(path: str, name: str) -> float:
    """Return a metric of a server, without labels.

    :param path: the socket for operators.
    """
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(PATIENCE)
        made.connect(path)
        made.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = b""
        while some := made.recv(1 << 16):
            said += some
    found = re.search(rf"^{name} (\S+)", said.decode(errors="replace"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"there is no metric {name}: {said[:200]!r}")
    return float(found[1])


def apart(port: int, stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return two connections to different workers of a server."""
    first = stack.enter_context(connected(port))
    own = ask(first, "!pid")
    for _ in range(_TRIES):
        other = stack.enter_context(connected(port))
        if ask(other, "!pid") != own:
            return first, other
    raise RuntimeError("one worker has all connections")


@contextmanager
def operators() -> Iterator[str]:
    """Give a directory for sockets of operators."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o700)
        yield directory
