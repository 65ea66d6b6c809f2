from __future__ import annotations

from tests.admin.conftest import Look
from tests.memory import MemoryHost


def test_the_connections_of_a_server_are_those_that_are_open(look: Look, host: MemoryHost) -> None:
    first, second = host.open(), host.connect()
    assert look().connections() == [first.connection, second.connection]
    first.leave()
    assert look().connections() == [second.connection]
