"""The topics of one hub and their subscribers. The backplane brings messages for them.

`pending.py` keeps messages that are still to be sent. Knows no protocol: a connection's module says how messages are
encoded (`IContext.use_encoding`), or is asked to send each.
"""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import classImplements

from wshost.connections.shared import Shared
from wshost.connections.stream import Stream
from wshost.exact import message, text
from wshost.interfaces import IExchange, ILocalTopics
from wshost.messages import CALL
from wshost.topics.losses import Losses
from wshost.topics.patterns import Patterns, is_pattern
from wshost.topics.pending import Pending, Subscriber, Topic


class Topics:
    """The topics of a hub.

    :param shared: has the turn, the log, the thread and the limits.
    :param backplane: is told which topics have subscribers here; None: there is no backplane.
    """

    def __init__(self, shared: Shared, backplane: IExchange | None) -> None:
        self._shared = shared
        self._backplane = backplane
        # The topics by name, and those that are patterns.
        self._topics: dict[str, Topic] = {}
        self._patterns: Patterns[Topic] = Patterns()
        #: How many subscriptions there are, to all topics.
        self.subscriptions = 0
        self._pending = Pending(shared)
        #: Who is told of messages that were lost.
        self.losses = Losses(shared)

    @property
    def dropped(self) -> int:
        """How often a subscriber did not get a message: it had too much output, or too much was published in a turn."""
        return self._pending.dropped

    @property
    def names(self) -> list[str]:
        """The topics and patterns that have subscribers."""
        return [*self._topics, *self._patterns.values]

    @property
    def empty(self) -> bool:
        """Whether there is no subscriber, and no pending message."""
        return not self._topics and not self._patterns.values and self._pending.empty

    # From connections

    def subscriber(self, id: str, stream: Stream, ask: Callable[..., bool]) -> Subscriber:
        """Return a subscriber without topics; see `Subscriber`."""
        return Subscriber(self._pending, id, stream, ask)

    def subscribe(self, subscriber: Subscriber, name: str, tell_lost: bool = False) -> bool:
        """Send a subscriber a topic's messages from now on; return False when it has too many topics, or on failure.

        :param name: it may be a pattern.
        :param tell_lost: see `IRef.subscribe`.
        """
        topic = self._find(name)
        if topic is not None and topic in subscriber.topics:
            if tell_lost:
                self.losses.ask(topic, subscriber)
            return True
        if len(subscriber.topics) >= self._shared.limits.max_subscriptions:
            return False
        if topic is None:
            # First the backplane, which may be a plugin: if it fails, nothing must have changed.
            if self._backplane is not None:
                try:
                    self._backplane.subscribe(name, self)
                except BaseException:
                    self._shared.failures.log(subscriber.id, "the backplane failed to subscribe")
                    return False
            topic = Topic(name)
            if is_pattern(name):
                self._patterns.put(name, topic)
            else:
                self._topics[name] = topic
        self._pending.keep(subscriber)
        subscriber.topics[topic] = None
        topic.add(subscriber)
        self.subscriptions += 1
        if tell_lost:
            self.losses.ask(topic, subscriber)
        return True

    def unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        """Undo a `subscribe`, if there was one."""
        topic = self._find(name)
        if topic is not None and topic in subscriber.topics:
            self._pending.keep(subscriber)
            self._part(subscriber, topic)

    def forget(self, subscriber: Subscriber) -> None:
        """Remove a subscriber whose connection is lost."""
        self._pending.discard(subscriber)
        for topic in list(subscriber.topics):
            self._part(subscriber, topic)

    def _find(self, name: str) -> Topic | None:
        return self._topics.get(name) or self._patterns.values.get(name)

    def _part(self, subscriber: Subscriber, topic: Topic) -> None:
        del subscriber.topics[topic]
        topic.remove(subscriber)
        self.losses.forget(topic, subscriber)
        self.subscriptions -= 1
        if not topic.encoded and not topic.others:
            if is_pattern(topic.name):
                self._patterns.remove(topic.name)
            else:
                del self._topics[topic.name]
            if self._backplane is not None:
                try:
                    self._backplane.unsubscribe(topic.name, self)
                except BaseException:
                    self._shared.failures.log(subscriber.id, "the backplane failed to unsubscribe")

    # From the backplane

    def publish_locally(self, topic: str, data: str | bytes) -> bool:
        """Send a message to all subscribers of this hub; see `ILocalTopics`."""
        if type(data) is not str and type(data) is not bytes:
            data = message(data)
        topic = text(topic)
        thread = self._shared.registry.thread
        if thread.is_current():
            return self._publish(topic, data)
        return thread.post(self, CALL + len(data), self._shared.limits.max_output, self._publish, topic, data)

    def lose_locally(self, topic: str, messages: int) -> None:
        """Tell subscribers of this hub that messages were lost; see `ILocalTopics`."""
        thread = self._shared.registry.thread
        if thread.is_current():
            self._lose(topic, messages)
        else:
            thread.post(self, CALL, self._shared.limits.max_output, self._lose, topic, messages)

    def _lose(self, name: str, messages: int) -> None:
        topic = self._topics.get(name)
        self.losses.note([*([] if topic is None else [topic]), *self._patterns.matching(name)], name, messages)

    def _publish(self, name: str, data: str | bytes) -> bool:
        if self._pending.flushing:
            self._shared.reactor.callLater(0, self._publish, name, data)
            return True
        topic = self._topics.get(name)
        if self._patterns.values and (matching := self._patterns.matching(name)):
            topics = matching if topic is None else (topic, *matching)
            return self._pending.publish_to_several(topics, data)
        return topic is None or self._pending.publish(topic, data)


classImplements(Topics, ILocalTopics)
