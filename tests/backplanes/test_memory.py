from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wshost.backplanes.memory import SHARED, MemoryBackplane
from wshost.interfaces import IBackplane, ILocalTopics


@implementer(ILocalTopics)
class Local:
    """A host's topics: notes what it is brought."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.brought: list[tuple[str, str | bytes]] = []

    def publish_locally(self, topic: str, data: str | bytes) -> bool:
        self.brought.append((topic, data))
        return self.answer


def test_provides_the_interface() -> None:
    assert verifyObject(IBackplane, MemoryBackplane())
    assert verifyObject(IBackplane, SHARED)


def test_is_connected_and_closed_at_once() -> None:
    backplane: Any = MemoryBackplane()
    done: list[None] = []
    backplane.connect(Clock()).addCallback(done.append)
    backplane.close().addCallback(done.append)
    assert done == [None, None]


class TestPublishing:
    def test_reaches_each_who_has_subscribed(self) -> None:
        backplane, one, other, third = MemoryBackplane(), Local(), Local(), Local()
        backplane.subscribe("a", one)
        backplane.subscribe("a", other)
        backplane.subscribe("b", third)
        assert backplane.publish("a", "text") is True
        assert backplane.publish("b", b"binary") is True
        assert one.brought == other.brought == [("a", "text")]
        assert third.brought == [("b", b"binary")]

    def test_to_nobody_is_accepted(self) -> None:
        assert MemoryBackplane().publish("a", "text") is True

    def test_says_when_it_does_not_reach_all(self) -> None:
        backplane, one, other = MemoryBackplane(), Local(False), Local()
        backplane.subscribe("a", one)
        backplane.subscribe("a", other)
        assert backplane.publish("a", "text") is False
        assert one.brought == other.brought == [("a", "text")]

    def test_ends_for_who_unsubscribes(self) -> None:
        backplane, one, other = MemoryBackplane(), Local(), Local()
        for local in (one, other):
            backplane.subscribe("a", local)
        backplane.unsubscribe("a", one)
        backplane.publish("a", "text")
        backplane.unsubscribe("a", other)
        backplane.publish("a", "more")
        assert (one.brought, other.brought) == ([], [("a", "text")])
        assert not backplane._subscribed
