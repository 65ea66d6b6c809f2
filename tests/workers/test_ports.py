from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import ILoggingContext, IProtocolFactory
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.fastnet.surroundings import turn
from wshost.results import ConfigurationError
from wshost.workers.ports import Nobody, Ports


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_accepted_sockets_are_passed_on_with_the_place_of_their_endpoint(
    loop: asyncio.AbstractEventLoop, folder: Path
) -> None:
    taken: list[Any] = []

    def take(place: int, accepted: deque[tuple[socket, Any]]) -> None:
        while accepted:
            connected, name = accepted.popleft()
            taken.append((place, name))
            connected.close()

    reactor = AsyncioSelectorReactor(loop)
    ports = Ports(reactor, [f"unix:{folder}/a", f"haproxy:unix:{folder}/b"], take, {})
    ports.bind(unix=False)
    assert not (folder / "a").exists()
    ports.bind()
    ports.bind()
    assert [one.getsockname() for one in ports.sockets] == [f"{folder}/a", f"{folder}/b"]
    assert isinstance(ports.host(0, ""), UNIXAddress)
    with socket(AF_UNIX) as client:
        client.connect(f"{folder}/b")
        turn(loop)
        assert taken == []
        for listener in ports.listeners:
            listener.resume()
        turn(loop)
        assert taken == [(1, "")]
    for listener in ports.listeners:
        listener.stop()
    reactor.runUntilCurrent()
    reactor.disconnectAll()


def test_if_one_can_not_be_listened_on_the_others_are_closed(loop: asyncio.AbstractEventLoop, folder: Path) -> None:
    (folder / "b").mkdir()
    reactor = AsyncioSelectorReactor(loop)
    ports = Ports(reactor, [f"unix:{folder}/a", f"unix:{folder}/b"], lambda *_: None, {})
    with pytest.raises(ConfigurationError, match="can't listen on"):
        ports.bind()
    reactor.runUntilCurrent()
    assert not (folder / "a").exists()


class Foreign(asyncio.SelectorEventLoop):
    """An event loop that workers don't know."""


def test_other_reactors_loops_and_endpoints_are_refused(loop: asyncio.AbstractEventLoop) -> None:
    foreign = Foreign()
    with pytest.raises(ConfigurationError, match="workers: they need asyncio's reactor"):
        Ports(Clock(), ["tcp:80"], lambda *_: None, {})
    with pytest.raises(ConfigurationError, match="workers: they run on uvloop or asyncio, not on tests"):
        Ports(AsyncioSelectorReactor(foreign), ["tcp:80"], lambda *_: None, {})
    with pytest.raises(ConfigurationError, match="listen: 'haproxy:ssl:80': workers can't serve ssl:, only tcp, "):
        Ports(AsyncioSelectorReactor(loop), ["haproxy:ssl:80"], lambda *_: None, {})
    foreign.close()


def test_nobody_speaks_with_clients_in_the_supervisor() -> None:
    nobody = Nobody()
    verifyObject(IProtocolFactory, nobody)
    verifyObject(ILoggingContext, nobody)
    nobody.doStart()
    assert nobody.buildProtocol(UNIXAddress(None)) is None
    nobody.doStop()
    assert nobody.logPrefix() == "wshost"
