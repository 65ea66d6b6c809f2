"""A server in memory, as the admin endpoint sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.memory import MemoryHost
from wshost.admin.seen import READY, Seen
from wshost.handlers import echo
from wshost.handlers.timed import Timings
from wshost.process.watchdog import Watchdog

BUILD = {"version": "1.2.3", "form": "compiled"}

Look = Callable[..., Seen]


@pytest.fixture
def host() -> MemoryHost:
    return MemoryHost(echo, counts_ends=True)


@pytest.fixture
def watchdog(host: MemoryHost) -> Watchdog:
    """One that does not run."""
    return Watchdog(0.25, host.reactor, lambda frames: "")


@pytest.fixture
def look(host: MemoryHost, watchdog: Watchdog) -> Look:
    """Returns the server, in a state."""
    timings: Timings = {}

    def look(state: str = READY, watchdog: Watchdog | None = watchdog) -> Seen:
        return Seen(state, host.hub.shared, host.hub.topics, timings, watchdog, BUILD)

    return look
