"""Lets each test log as if it were the first."""

from __future__ import annotations

import pytest
from twisted.logger import globalLogPublisher

from wshost.fastnet import port, transport
from wshost.log_limit import LogLimit


@pytest.fixture(autouse=True)
def _fresh_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (port, transport):
        monkeypatch.setattr(module._log, "observer", LogLimit(globalLogPublisher))
