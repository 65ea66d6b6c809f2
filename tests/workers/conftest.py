from __future__ import annotations

from collections.abc import Iterator

import pytest

from wshost.cluster.exchange import SHARED, Exchange
from wshost.connections.homes import HOMES


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """The exchange of this process as in a process of its own: a worker meets others, which servers here must not."""
    vars(SHARED).update(vars(Exchange()))
    yield
    vars(SHARED).update(vars(Exchange()))
    HOMES.elsewhere = None
