"""What a connection tells the directory of its process: `tests/cluster` tests the directory itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.memory import MemoryHost, Peer
from wshost.connections.ref import Ref


class Quiet:
    """A handler that does nothing."""

    def init(self, options: Any) -> Any:
        return None

    def handle(self, message: Any, state: Any) -> Any:
        return ("noreply", state)


class Directory:
    """A directory that notes what it is asked and told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.told: list[tuple[str, Any]] = []

    def ask(self, ref: Any, action: str, what: Any) -> bool:
        self.asked.append((ref, action, what))
        return action != "unwatch"

    def release(self, ref: Any) -> None:
        self.asked.append((ref, "release"))

    def freeze(self, ref: Any) -> dict[str, Any]:
        return {"names": [["boss", 1.0]]}

    def thaw(self, ref: Any, held: Any) -> None:
        self.told.append((ref.id, held))

    def settle(self) -> None:
        """Do nothing."""

    def gone(self, registry: Any, id: str, reason: str | None) -> None:
        assert registry.find(id) is None
        self.told.append((id, reason))


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def peer(directory: Directory) -> Peer:
    host = MemoryHost(Quiet())
    host.hub.shared.registry.directory = directory
    return host.open()


def test_the_directory_does_what_a_ref_asks_for(peer: Peer, directory: Directory) -> None:
    ref: Ref = peer.connection.ref
    assert ref.monitor(ref) is True
    assert ref.demonitor(ref) is True
    assert ref.watch("room") is True
    assert ref.unwatch("room") is False
    assert directory.asked == [
        (ref, "monitor", ref),
        (ref, "demonitor", ref),
        (ref, "watch", "room"),
        (ref, "unwatch", "room"),
    ]


def test_the_directory_ends_what_a_connection_has_that_starts_over(peer: Peer, directory: Directory) -> None:
    ref: Ref = peer.connection.ref
    assert ref.subscribe("room")
    peer.connection.context.start_over()
    assert directory.asked == [(ref, "release")]
    subscriber: Any = peer.connection.context.subscriber
    assert subscriber.topics == {}


def test_a_connection_without_a_directory_refuses() -> None:
    ref: Ref = MemoryHost(Quiet()).open().connection.ref
    assert ref.monitor(ref) is False


def test_what_waits_for_a_connection_that_has_gone_is_not_asked_for(peer: Peer, directory: Directory) -> None:
    connection = peer.connection
    ref: Ref = connection.ref
    assert connection.ask_later(1, "monitor", ref) is True
    peer.leave()
    assert directory.asked == []


def test_the_directory_is_told_why_a_connection_has_ended(peer: Peer, directory: Directory) -> None:
    peer.leave()
    assert directory.told == [(peer.connection.id, "Connection was closed cleanly.")]


def test_the_directory_is_told_that_a_connection_goes_over(peer: Peer, directory: Directory) -> None:
    peer.connection.depart()
    assert directory.told == [(peer.connection.id, None)]
