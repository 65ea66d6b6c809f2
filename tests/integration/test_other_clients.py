"""Clients of other libraries talk to a real server: on both kinds of reactor, over TCP and TLS, deflated and not.

Each has one conversation with each server, of which every test looks at one part.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests import programs
from tests.integration.clients import BINARY, FRAGMENTS, LIBRARIES, TEXT, Report, run_autobahn, run_library, run_node
from tests.integration.server import Server, running_server

HANDLER = "tests.integration.interop_handler"
#: The version that these tests were written with; it is installed beside the environment's own packages.
NODE_WS = "ws@8.18.3"


class Endpoint(NamedTuple):
    """A server as its clients see it."""

    server: Server
    url: str
    #: In PEM, for TLS.
    ca: Path | None


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority's certificate and the server's."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        directory / "server.pem"
    )
    return directory


@pytest.fixture(scope="session", params=["default", "epoll", "default-tls", "epoll-tls"])
def endpoint(request: pytest.FixtureRequest, certificates: Path) -> Iterator[Endpoint]:
    """A server on a reactor, with TLS or not."""
    reactor, _, tls = request.param.partition("-")
    options = ["--handler", HANDLER, "--subprotocol", "v2", "--compress"]
    if tls:
        options += ["--tls-cert", str(certificates / "server.pem")]
    with running_server(*options, reactor=None if reactor == "default" else reactor) as server:
        yield Endpoint(
            server, f"{'wss' if tls else 'ws'}://localhost:{server.port}", certificates / "ca.pem" if tls else None
        )
        assert "Traceback" not in server.log


@cache
def node() -> tuple[str, Path]:
    """Return node, and where its modules are; install ws there, when that is not done."""
    program, npm = programs.find("node", package="nodejs"), programs.find("npm", package="npm")
    prefix = Path(sys.prefix) / "share" / "wshost-tests" / NODE_WS
    modules = prefix / "node_modules"
    if not (modules / "ws" / "package.json").exists():
        command = [npm, "install", "--prefix", str(prefix), "--no-audit", "--no-fund", "--no-save", NODE_WS]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
        if done.returncode:
            pytest.fail(f"npm could not install {NODE_WS}: {done.stderr.decode()[-500:]}")
    return program, modules


Run = Callable[[str, "Path | None", bool], Report]


def _client(name: str) -> Run:
    if name in LIBRARIES:
        return partial(run_library, name)
    return run_autobahn if name == "autobahn" else partial(run_node, *node())


#: picows leaves compression to those who use it.
CLIENTS = [(name, deflate) for name in (*LIBRARIES, "autobahn", "node-ws") for deflate in (False, True)]
CLIENTS.remove(("picows", True))


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda client: f"{client[0]}{'-deflate' * client[1]}")
def conversation(request: pytest.FixtureRequest, endpoint: Endpoint) -> tuple[Report, bool]:
    """What the client has seen, and whether it offered compression."""
    name, deflate = request.param
    return _client(name)(endpoint.url, endpoint.ca, deflate), deflate


@pytest.fixture
def report(conversation: tuple[Report, bool]) -> Report:
    """What the client has seen."""
    return conversation[0]


def test_text_is_echoed(report: Report) -> None:
    assert report["text"] == TEXT


def test_binary_is_echoed(report: Report) -> None:
    assert bytes.fromhex(report["binary"]) == BINARY


def test_empty_messages_are_echoed(report: Report) -> None:
    assert (report["empty text"], report["empty binary"]) == ("", "")


def test_a_message_of_a_mebibyte_is_echoed(report: Report) -> None:
    assert report["mebibyte"] is True


def test_a_fragmented_message_is_echoed_whole(report: Report) -> None:
    assert report["fragments"] == "".join(FRAGMENTS)


def test_a_clients_ping_gets_its_pong(report: Report) -> None:
    assert report["ping"] == "are you there"


def test_a_servers_ping_gets_its_pong(report: Report) -> None:
    assert report["ping from the server"] == "pong: server"


def test_a_client_sees_the_servers_close_code_and_reason(report: Report) -> None:
    assert report["close from the server"] == [4001, "enough"]


def test_the_handler_sees_the_clients_close_code_and_may_answer_with_its_own(report: Report) -> None:
    assert report["close to the server"] == [4002, "bye"]
    assert report["answer to a close"] == [4003, "you too"]


def test_the_servers_subprotocol_is_agreed_on(report: Report) -> None:
    assert report["subprotocol"] == "v2"


def test_compression_is_agreed_on_if_the_client_offers_it(conversation: tuple[Report, bool]) -> None:
    report, deflate = conversation
    assert report["compressed"] is deflate


def test_a_rejected_client_sees_status_403(report: Report) -> None:
    assert report["rejected"] == 403
