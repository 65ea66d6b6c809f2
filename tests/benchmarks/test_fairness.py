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


def test_a_flood_of_messages_has_1024_of_64_bytes() -> None:
    found = events(flood("messages").data)
    assert len(found) == 1024
    assert all(isinstance(event, TextMessage) and len(event.data) == 64 for event in found)


def test_a_flood_of_fragments_has_ten_messages_of_1002_bytes_each_in_a_fragment() -> None:
    found = [event for event in events(flood("fragments").data) if isinstance(event, TextMessage)]
    assert {len(event.data) for event in found} == {1}
    assert sum(event.message_finished for event in found) == 10
    assert len(found) / 10 == 1002


def test_a_flood_of_pings_has_nothing_but_pings() -> None:
    assert all(isinstance(event, Ping) for event in events(flood("pings").data))


def test_a_large_flood_is_a_mebibyte_of_text() -> None:
    assert sum(len(event.data) for event in events(flood("large").data) if isinstance(event, TextMessage)) == 1 << 20


def test_only_the_flood_unread_does_not_read() -> None:
    assert flood("messages").reads
    assert not flood("unread").reads


def test_an_unknown_flood_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no flood of tears"):
        flood("tears")
