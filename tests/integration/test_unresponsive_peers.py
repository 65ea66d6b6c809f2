"""Peers that read nothing, answer nothing or leave unnoticed: on real sockets, over TCP and TLS."""

from __future__ import annotations

import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.integration.server import Server, running_server
from tests.memory import request
from tests.regressions import wire
from tests.regressions.test_end_at_every_byte import assert_rests, sockets

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

#: What one peer may make a server hold, in KiB: the output that it may let wait, a message, and what allocators round.
BOUND = 8_192


class Endpoint(NamedTuple):
    server: Server
    #: For TLS.
    context: ssl.SSLContext | None


@pytest.fixture(scope="module", params=["default", "epoll", "default-tls", "epoll-tls"])
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A server with timeouts of a second."""
    reactor, _, tls = request.param.partition("-")
    options = ["--stall-timeout=1", "--close-timeout=1", "--ping-interval=1", "--ping-timeout=1"]
    context = None
    if tls:
        authority = trustme.CA()
        context = ssl.create_default_context()
        authority.configure_trust(context)
        path = tmp_path_factory.mktemp("tls") / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        options.append(f"--tls-cert={path}")
    with running_server(*options, reactor=None if reactor == "default" else reactor) as server:
        yield Endpoint(server, context)
        assert "Traceback" not in server.log


def memory(server: Server) -> int:
    """The resident memory of a server, in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
    assert found
    return int(found[1])


def upgraded(endpoint: Endpoint) -> socket.socket:
    """Connect, with as little buffer as the kernel gives."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(5)
    client.connect(("127.0.0.1", endpoint.server.port))
    if endpoint.context:
        client = endpoint.context.wrap_socket(client, server_hostname="localhost")
    client.sendall(request())
    assert wire.status(client.recv(4_096)) == 101
    return client


def assert_well(endpoint: Endpoint) -> None:
    """Somebody else is served, and at once."""
    start = time.monotonic()
    with upgraded(endpoint) as client:
        client.sendall(wire.frame(wire.TEXT, b"hello"))
        assert list(wire.frames(client.recv(4_096))) == [wire.Frame(wire.TEXT, b"hello")]
    assert time.monotonic() - start < 3


@pytest.mark.uninstrumented
def test_a_peer_that_never_reads_costs_bounded_memory_and_is_dropped(endpoint: Endpoint) -> None:
    """When 1 MiB of output waits for it, the server stops reading from it, and drops it later."""
    assert_well(endpoint)
    before = memory(endpoint.server)
    data = wire.frame(wire.BINARY, b"x" * 100_000)
    with upgraded(endpoint) as client, pytest.raises((ConnectionResetError, BrokenPipeError, ssl.SSLError)):
        # More than all the kernel's buffers; it times out when the server does not drop it.
        client.sendall(data * 1_000)
    assert memory(endpoint.server) - before < BOUND
    assert_well(endpoint)


@pytest.mark.parametrize("endpoint", ["default-tls", "epoll"], indirect=True)
def test_a_peer_that_answers_no_ping_is_dropped(endpoint: Endpoint) -> None:
    """The peer reads, but sends no pong."""
    with upgraded(endpoint) as client:
        start = time.monotonic()
        data = b""
        try:
            while more := client.recv(4_096):
                data += more
        except (ConnectionResetError, ssl.SSLError):
            pass
        assert 1.5 < time.monotonic() - start < 5
    assert [one.opcode for one in wire.frames(data)] == [wire.PING]


HANGING = """
from twisted.internet.defer import Deferred

def init(options):
    return None

def handle(message, state):
    return Deferred()
"""


@pytest.mark.parametrize("reactor", [None, "epoll"], ids=["default", "epoll"])
def test_a_peer_that_leaves_while_its_handler_hangs_is_noticed_by_a_ping(reactor: str | None, tmp_path: Path) -> None:
    """While reading is paused, no reactor reports the peer's end. A ping makes its kernel answer with a reset."""
    (tmp_path / "hanging.py").write_text(HANGING)
    with running_server(f"--handler={tmp_path / 'hanging.py'}", "--ping-interval=1", reactor=reactor) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(request() + wire.frame(wire.TEXT, b"a") + wire.frame(wire.TEXT, b"b"))
            assert wire.status(client.recv(4_096)) == 101
            there = sockets(server)
        assert_rests(server, there - 1, 10)
