"""Broadcasts to the clients of another library, with each kind of permessage-deflate and without (RFC 7692)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from tests.integration.server import Server, running_server

HANDLER = "benchmarks.servers.wshost_broadcast"
#: What a compressor with a context has seen before, and one without has not.
MESSAGES = [f"{number} " + "the same again and again, " * 40 for number in range(5)]


@pytest.fixture(scope="module", params=[False, True], ids=["asked by clients", "chosen by the server"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    options = ["--server-no-context-takeover"] if request.param else []
    with running_server("--handler", HANDLER, "--compress", *options) as server:
        yield server
        assert "Traceback" not in server.log


def test_a_broadcast_reaches_clients_whatever_compression_they_agreed_on(server: Server) -> None:
    ways = [ClientPerMessageDeflateFactory(server_no_context_takeover=True, server_max_window_bits=bits)
            for bits in (None, None, 12, 9)] + [ClientPerMessageDeflateFactory()]  # fmt: skip
    with ExitStack() as stack:
        clients = [
            stack.enter_context(connect(server.url, compression=None, extensions=extensions, proxy=None))
            for extensions in ([], *([way] for way in ways))
        ]
        assert [len(client.protocol.extensions) for client in clients] == [0, 1, 1, 1, 1, 1]
        for text in MESSAGES:
            clients[0].send(text)
        for client in clients:
            assert [client.recv(timeout=10) for _ in MESSAGES] == MESSAGES
