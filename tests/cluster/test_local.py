from __future__ import annotations

import tracemalloc

from twisted.logger import capturedLogs
from zope.interface import implementer

from wshost.cluster.local import LocalHubs
from wshost.interfaces import ILocalTopics


@implementer(ILocalTopics)
class Local:
    """The topics of a host, which note what the backplane brings."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.brought: list[tuple[str, str | bytes]] = []

    def lose_locally(self, topic: str, messages: int) -> None:
        self.brought.append((topic, f"{messages} lost"))

    def publish_locally(self, topic: str, data: str | bytes) -> bool:
        self.brought.append((topic, data))
        return self.answer


@implementer(ILocalTopics)
class Failing:
    """The topics of a host that does what it must not."""

    def lose_locally(self, topic: str, messages: int) -> None:
        raise RuntimeError("it can't")

    def publish_locally(self, topic: str, data: str | bytes) -> bool:
        raise RuntimeError("it can't")


class TestFailures:
    def test_a_host_that_fails_takes_nothing_from_the_others(self) -> None:
        backplane, other = LocalHubs(), Local()
        backplane.subscribe("a", Failing())
        backplane.subscribe("a", other)
        with capturedLogs() as events:
            assert backplane.publish("a", "1") is False
            backplane.publish_all("a", ["2", "3"])
            backplane.lose("a", 4)
        assert other.brought == [("a", "1"), ("a", "2"), ("a", "3"), ("a", "4 lost")]
        assert [str(event["log_failure"].value) for event in events] == ["it can't"] * 3


class TestPublishing:
    def test_a_publication_reaches_each_subscriber_of_its_topic(self) -> None:
        backplane, one, other, third = LocalHubs(), Local(), Local(), Local()
        backplane.subscribe("a", one)
        backplane.subscribe("a", other)
        backplane.subscribe("b", third)
        assert backplane.publish("a", "text") is True
        assert backplane.publish("b", b"binary") is True
        assert one.brought == other.brought == [("a", "text")]
        assert third.brought == [("b", b"binary")]

    def test_a_loss_is_told_to_each_subscriber_of_its_topic_once(self) -> None:
        backplane, one, other, third = LocalHubs(), Local(), Local(), Local()
        for topic in ("rooms.7", "rooms.*"):
            backplane.subscribe(topic, one)
        backplane.subscribe("rooms.7", other)
        backplane.subscribe("users.*", third)
        backplane.lose("rooms.7", 3)
        backplane.lose("nobody", 3)
        assert one.brought == other.brought == [("rooms.7", "3 lost")]
        assert third.brought == []

    def test_a_publication_without_subscribers_is_accepted(self) -> None:
        assert LocalHubs().publish("a", "text") is True

    def test_publish_returns_false_when_a_subscriber_refuses(self) -> None:
        backplane, one, other = LocalHubs(), Local(False), Local()
        backplane.subscribe("a", one)
        backplane.subscribe("a", other)
        assert backplane.publish("a", "text") is False
        assert one.brought == other.brought == [("a", "text")]

    def test_an_unsubscribed_host_gets_no_more_publications(self) -> None:
        backplane, one, other = LocalHubs(), Local(), Local()
        for local in (one, other):
            backplane.subscribe("a", local)
        backplane.unsubscribe("a", one)
        backplane.publish("a", "text")
        backplane.unsubscribe("a", other)
        backplane.publish("a", "more")
        assert (one.brought, other.brought) == ([], [("a", "text")])

    def test_a_publication_reaches_a_host_once_however_many_of_its_subscriptions_match(self) -> None:
        backplane, one, other, third = LocalHubs(), Local(), Local(), Local()
        for topic in ("rooms.7", "rooms.*", "*.7", "users.*"):
            backplane.subscribe(topic, one)
        backplane.subscribe("rooms.*", other)
        backplane.subscribe("users.>", third)
        assert backplane.publish("rooms.7", "seven") is True
        assert backplane.publish("rooms.8", "eight") is True
        assert backplane.publish("rooms", "none") is True
        assert one.brought == other.brought == [("rooms.7", "seven"), ("rooms.8", "eight")]
        assert third.brought == []

    def test_publish_returns_false_when_a_subscriber_of_a_pattern_refuses(self) -> None:
        backplane, one, other = LocalHubs(), Local(), Local(False)
        backplane.subscribe("a", one)
        backplane.subscribe("*", other)
        assert backplane.publish("a", "text") is False
        assert one.brought == other.brought == [("a", "text")]

    def test_a_host_that_has_unsubscribed_from_a_pattern_gets_no_more_by_it(self) -> None:
        backplane, one, other = LocalHubs(), Local(), Local()
        for local in (one, other):
            backplane.subscribe("*", local)
        backplane.subscribe("a", one)
        backplane.unsubscribe("*", one)
        for topic in ("a", "b"):
            backplane.publish(topic, topic)
        backplane.unsubscribe("*", other)
        backplane.publish("a", "more")
        assert (one.brought, other.brought) == ([("a", "a"), ("a", "more")], [("a", "a"), ("b", "b")])

    def test_nothing_is_kept_of_topics_without_subscribers(self) -> None:
        backplane, local = LocalHubs(), Local()
        tracemalloc.start()
        for number in range(10_000):
            for topic in (f"topic {number}", f"topic.{number}.*"):
                backplane.subscribe(topic, local)
                backplane.unsubscribe(topic, local)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 10_000
