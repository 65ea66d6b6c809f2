from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import capturedLogs

from tests.connections.modules import Failures


@pytest.fixture
def failures() -> Iterator[Failures]:
    with capturedLogs() as events:
        yield Failures(events)
    assert not events
