"""The floods are valid: a server that closes the connection does so for their amount, not for a mistake."""

from __future__ import annotations

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Event, Ping, TextMessage

from benchmarks.fairness import flood


def events(data: bytes) -> list[Event]:
    other = Connection(ConnectionType.SERVER)
    other.receive_data(data)
    return list(other.events())


def test_messages() -> None:
    found = events(flood("messages").data)
    assert len(found) == 1024
    assert all(isinstance(event, TextMessage) and len(event.data) == 64 for event in found)


def test_fragments_stay_below_the_limit_of_a_message() -> None:
    found = [event for event in events(flood("fragments").data) if isinstance(event, TextMessage)]
    assert {len(event.data) for event in found} == {1}
    assert sum(event.message_finished for event in found) == 10
    assert len(found) / 10 == 1002


def test_pings() -> None:
    assert all(isinstance(event, Ping) for event in events(flood("pings").data))


def test_large() -> None:
    assert sum(len(event.data) for event in events(flood("large").data) if isinstance(event, TextMessage)) == 1 << 20


def test_who_reads() -> None:
    assert flood("messages").reads
    assert not flood("unread").reads


def test_no_such_flood() -> None:
    with pytest.raises(ValueError, match="no flood of tears"):
        flood("tears")
