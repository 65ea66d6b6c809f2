from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.workers.supervised import Endpoint, Notifier, Scene
from wshost.cluster.exchange import SHARED, Exchange
from wshost.connections.homes import HOMES
from wshost.process import ending, signals
from wshost.settings.options import Settings
from wshost.workers import supervisor


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """The exchange of this process as in a process of its own: a worker meets others, which servers here must not."""
    vars(SHARED).update(vars(Exchange()))
    yield
    vars(SHARED).update(vars(Exchange()))
    HOMES.elsewhere = None


@pytest.fixture
def notifier(monkeypatch: pytest.MonkeyPatch) -> Notifier:
    notifier = Notifier()
    monkeypatch.setattr(supervisor, "Notifier", lambda: notifier)
    monkeypatch.setattr(supervisor, "adopt_orphans", lambda: None)
    return notifier


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called at signals."""
    handled: list[Any] = []
    monkeypatch.setattr(signals, "call_after", lambda numbers, _, call: handled.append((numbers, call)))
    return handled


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why the process is to end."""
    left: list[str] = []
    monkeypatch.setattr(ending, "leave", lambda _, error: left.append(str(error)))
    return left


@pytest.fixture
def made(notifier: Notifier, handled: list[Any], left: list[str]) -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(**given: Any) -> Scene:
        scenes.append(Scene(**given))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def scene(made: Callable[..., Scene]) -> Scene:
    return made()


@pytest.fixture
def path() -> Iterator[str]:
    # A path that is short enough for a socket.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield f"{folder}/takeover"


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Endpoint]]:
    endpoints: list[Endpoint] = []

    def make(settings: Settings, served: Callable[[], Any]) -> Endpoint:
        endpoints.append(Endpoint(served()))
        return endpoints[-1]

    monkeypatch.setattr(supervisor, "admin_endpoint", make)
    yield endpoints
    for one in endpoints:
        if one.listener is not None:
            one.listener.socket.close()


@pytest.fixture
def watched(endpoints: list[Endpoint], made: Callable[..., Scene]) -> Scene:
    return made(admin="tcp:9090")
