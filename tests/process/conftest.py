from __future__ import annotations

from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet.task import deferLater


@pytest.fixture(scope="session", autouse=True)
def running_reactor(twisted_greenlet: Any) -> None:
    """Start pytest-twisted's reactor before the tests: it sets signal handlers, and some tests replace these calls."""
    from twisted.internet import reactor

    blockon(deferLater(reactor, 0, lambda: None))
