"""SIGHUP while clients are connected: certificates and handlers are read again, in the foreground and by twistd."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Literal

import pytest
import trustme
from cryptography import x509
from websockets.sync.client import ClientConnection, connect

from tests.integration.server import Server, running_server
from tests.memory import request
from tests.regressions import wire

#: For an answer that is on its way, in seconds.
SOON = 10


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """For a client that trusts the server."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def issue(authority: trustme.CA, path: Path, *names: str) -> int:
    """Write a new certificate, with its key, to a file; return its number."""
    issued = authority.issue_cert(*names)
    # As operators do it: the server never finds half a file.
    issued.private_key_and_cert_chain_pem.write_to_path(str(path.with_suffix(".new")))
    path.with_suffix(".new").replace(path)
    return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number


def secure(server: Server, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """Connect, and ask for this name."""
    return context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), SOON), server_hostname=name)


def serial(client: ssl.SSLSocket) -> int:
    """Return the number of the server's certificate."""
    encoded = client.getpeercert(True)
    assert encoded is not None
    return x509.load_der_x509_certificate(encoded).serial_number


def presented(server: Server, context: ssl.SSLContext, name: str) -> int:
    with secure(server, context, name) as client:
        return serial(client)


def echoes(client: ssl.SSLSocket) -> bool:
    client.sendall(wire.frame(wire.TEXT, b"hello"))
    return client.recv(65_536) == b"\x81\x05hello"


def reload(server: Server, answer: str) -> None:
    """Send SIGHUP, and wait until the log says this once more."""
    before = len(re.findall(answer, server.log))
    os.kill(server.pid, signal.SIGHUP)
    server.wait_for(rf"(?s)({answer}.*){{{before + 1}}}")


@pytest.mark.parametrize(("command", "reactor"), [("wshost", None), ("twistd", None), ("twistd", "epoll")])
def test_new_connections_get_new_certificates_and_open_ones_stay(
    command: Literal["wshost", "twistd"],
    reactor: str | None,
    authority: trustme.CA,
    context: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    paths = {name: tmp_path / f"{name}.pem" for name in ("a.example", "b.example")}
    old = {name: issue(authority, path, name) for name, path in paths.items()}
    options = [f"--tls-cert={path}" for path in paths.values()]
    with running_server(*options, command=command, reactor=reactor) as server:
        assert {name: presented(server, context, name) for name in paths} == old
        with secure(server, context, "b.example") as client:
            client.sendall(request())
            assert wire.status(client.recv(65_536)) == 101
            new = {name: issue(authority, path, name) for name, path in paths.items()}
            reload(server, "reloaded: 2 certificates")
            assert {name: presented(server, context, name) for name in paths} == new
            assert serial(client) == old["b.example"]
            assert echoes(client)
            issue(authority, paths["a.example"], "a.example")
            paths["b.example"].write_text("broken")
            reload(server, "the certificates stay as they are: .*b.example.pem: no certificate in PEM")
            assert {name: presented(server, context, name) for name in paths} == new
            assert echoes(client)
        assert "Traceback" not in server.log


def test_a_ticket_of_before_is_not_taken_for_a_session(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Or a client could go on whose certificate is not accepted any more."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    issue(authority, tmp_path / "a.pem", "a.example")
    with running_server(f"--tls-cert={tmp_path / 'a.pem'}", command="wshost") as server:

        def resumed(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
            raw = socket.create_connection(("127.0.0.1", server.port), SOON)
            with context.wrap_socket(raw, server_hostname="a.example", session=session) as client:
                return client.session_reused, client.session

        _, session = resumed(None)
        assert resumed(session)[0]
        reload(server, "reloaded: 1 certificate")
        assert not resumed(session)[0]


def test_a_name_beyond_ascii_gets_the_first_certificate_and_no_line_of_the_log(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.pem" for name in ("a.example", "b.example")}
    for name, path in paths.items():
        issue(authority, path, name)
    options = [f"--tls-cert={path}" for path in paths.values()]
    with running_server(*options, command="wshost") as server:
        before = server.log
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="b.example")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        with socket.create_connection(("127.0.0.1", server.port), SOON) as raw:
            raw.sendall(outgoing.read().replace(b"b.example", b"b.ex\xe4mple"))
            # The record of a ServerHello.
            assert raw.recv(65_536)[0] == 22
        assert server.log == before


#: Counts messages; the number of the version tells which code has answered.
COUNTING = """
import asyncio

version = {version}


def init(options):
    return 0


async def code_change(old, count):
    await asyncio.sleep(0)
    return count


async def handle(message, count):
    if message[0] != "text":
        return ("noreply", count)
    await asyncio.sleep(0)
    return ("reply", f"{{version}} {{count}} {{message[1]}}", count + 1)
"""


def write(path: Path, source: str) -> None:
    """Replace a file, as a deployment does it."""
    path.with_suffix(".new").write_text(source, encoding="utf-8")
    path.with_suffix(".new").replace(path)


def says(client: ClientConnection) -> str | bytes:
    return client.recv(timeout=SOON)


@pytest.mark.parametrize("command", ["wshost", "twistd"])
def test_no_message_is_lost_or_handled_twice_while_the_code_changes(
    command: Literal["wshost", "twistd"], tmp_path: Path
) -> None:
    """Nor while a broken file is among the changes. The files have the same size, and change within a second."""
    write(tmp_path / "counting.py", COUNTING.format(version=0))
    answers: list[list[str]] = [[] for _ in range(8)]
    with running_server("--handler=counting", command=command, cwd=tmp_path) as server:
        stop, begun = threading.Event(), threading.Barrier(len(answers) + 1)

        def talk(mine: list[str]) -> None:
            with connect(server.url) as client:
                begun.wait(SOON)
                while not stop.is_set():
                    for _ in range(16):
                        client.send("hello")
                    mine += [str(says(client)) for _ in range(16)]
                client.send("last")
                mine.append(str(says(client)))

        threads = [threading.Thread(target=talk, args=(mine,)) for mine in answers]
        for thread in threads:
            thread.start()
        try:
            begun.wait(SOON)
            for version in range(1, 9):
                broken = version == 4
                write(tmp_path / "counting.py", "1 / 0" if broken else COUNTING.format(version=version))
                reload(server, "handlers stay as they are" if broken else r"reloaded: handler counting \(8 connections")
        finally:
            stop.set()
            for thread in threads:
                thread.join(SOON)
        with connect(server.url) as client:
            client.send("new")
            assert says(client) == "8 0 new"
        assert server.log.count("ZeroDivisionError") == 2
    for mine in answers:
        versions, counts, texts = zip(*(answer.split(" ") for answer in mine), strict=True)
        assert [int(count) for count in counts] == list(range(len(mine)))
        assert sorted(versions) == list(versions)
        assert (versions[-1], texts[-1]) == ("8", "last")


@pytest.mark.parametrize("reactor", [None, "epoll"])
def test_the_example_takes_over_the_states_of_its_first_version(reactor: str | None, tmp_path: Path) -> None:
    write(
        tmp_path / "tally.py",
        "version = 1\n\n\ndef init(options):\n    return 0\n\n\ndef handle(message, count):\n"
        "    return ('reply', f'{count + 1}', count + 1) if message[0] == 'text' else ('noreply', count)\n",
    )
    example = Path(__file__).parents[2] / "docs" / "examples" / "tally.py"
    with running_server("--handler=tally", cwd=tmp_path, reactor=reactor) as server, connect(server.url) as client:
        client.send("a")
        assert says(client) == "1"
        write(tmp_path / "tally.py", example.read_text(encoding="utf-8"))
        reload(server, r"reloaded: handler tally \(1 connection goes over\)")
        client.send("b")
        assert says(client) == "2: b, after None"
        reload(server, r"reloaded: handler tally \(1 connection goes over\)")
        client.send("c")
        assert says(client) == "3: c, after b"
