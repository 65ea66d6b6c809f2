from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import capturedLogs

from tests.connections.modules import Failures

#: What a drain logs while it waits, and when it waits no more.
WAITING = {"waiting for {connections}", "aborting {left} still open after {timeout:g} s"}


@pytest.fixture
def failures() -> Iterator[Failures]:
    with capturedLogs() as events:
        yield Failures(events)
    # Whoever stops a hub may see what it waits for.
    assert not [event for event in events if event.get("log_format") not in WAITING]
