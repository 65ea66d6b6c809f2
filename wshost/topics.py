"""The topics of one host: who has subscribed, and what was published in this turn of the reactor.

What is published is encoded once, and at the end of the turn joined once for all that have subscribed to the same.
Knows no protocol: a connection's module says how messages are encoded (`IContext.share`), or is given them one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from heapq import merge
from operator import attrgetter
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from wshost.interfaces import IBackplane, IEncoding, ILocalTopics
from wshost.publications import Batch, Publication, join

if TYPE_CHECKING:
    from wshost.connection import Connection
    from wshost.host import Host

#: A message that waits for the reactor's thread weighs that much beside its data, in bytes.
CALL = 256

_number = attrgetter("number")


class Topic:
    """One topic, while it has subscribers."""

    __slots__ = ("direct", "name", "pending", "shared", "size")

    def __init__(self, name: str) -> None:
        self.name = name
        # In the order in which they came: those whose modules share an encoding, and the others.
        self.shared: dict[Subscriber, None] = {}
        self.direct: dict[Subscriber, None] = {}
        # What was published in this turn for those who share, and the size of it.
        self.pending: list[Publication] = []
        self.size = 0


class Subscriber:
    """A connection that has subscribed."""

    __slots__ = ("connection", "encoding", "held", "owner", "seen", "topics")

    def __init__(self, owner: Topics, connection: Connection) -> None:
        self.owner = owner
        self.connection = connection
        self.encoding: IEncoding | None = None
        self.topics: dict[Topic, None] = {}
        # The number of the last publication that was taken, or published before it counted.
        self.seen = 0
        # What was published before its topics last changed, and is still to be taken.
        self.held: list[Publication] = []

    def take(self) -> bytes:
        """Return what was published for it and is still to be sent: see `IContext.published`."""
        return self.owner.take(self)


@implementer(ILocalTopics)
class Topics:
    """The topics of a host.

    :param host: whose connections subscribe.
    :param backplane: is told which topics have subscribers here; None where none is.
    :param max_subscriptions: of one connection.
    """

    def __init__(self, host: Host, backplane: IBackplane | None, max_subscriptions: int) -> None:
        #: Deliveries that did not happen: to connections with too much output, or beyond what one turn may bring.
        self.dropped = 0
        self._host = host
        self._backplane = backplane
        self._max_subscriptions = max_subscriptions
        self._topics: dict[str, Topic] = {}
        # By the ids of their connections.
        self._subscribers: dict[str, Subscriber] = {}
        # The numbers of the last publication, and of the last that no turn's end is still to deliver.
        self._number = self._flushed = 0
        # The topics with something pending, and the subscribers that hold something.
        self._dirty: dict[Topic, None] = {}
        self._holding: dict[Subscriber, None] = {}
        # What other threads have published and has not come here yet, in bytes.
        self._waiting = 0
        self._lock = Lock()

    # From connections and their refs

    def act(self, connection: Connection, action: str, name: str) -> bool:
        """Do what a ref asks for: "subscribe" or "unsubscribe"."""
        return self._subscribe(connection, name) if action == "subscribe" else self._unsubscribe(connection, name)

    def _subscribe(self, connection: Connection, name: str) -> bool:
        if not connection.takes_output:
            return False
        subscriber = self._subscribers.get(connection.id)
        if subscriber is None:
            subscriber = self._subscribers[connection.id] = Subscriber(self, connection)
            self._share(subscriber)
        topic = self._topics.get(name)
        if topic in subscriber.topics:
            return True
        if len(subscriber.topics) >= self._max_subscriptions:
            return False
        if topic is None:
            topic = self._topics[name] = Topic(name)
            if self._backplane is not None:
                self._backplane.subscribe(name, self)
        self._hold(subscriber)
        subscriber.topics[topic] = None
        (topic.direct if subscriber.encoding is None else topic.shared)[subscriber] = None
        return True

    def _unsubscribe(self, connection: Connection, name: str) -> bool:
        subscriber = self._subscribers.get(connection.id)
        topic = self._topics.get(name)
        if subscriber is not None and topic in subscriber.topics:
            self._hold(subscriber)
            self._part(subscriber, topic)
        return True

    def share(self, connection: Connection) -> None:
        """A connection's `encoding` has changed; what it has not taken by now, it will not get."""
        subscriber = self._subscribers.get(connection.id)
        if subscriber is not None:
            self._share(subscriber)

    def _share(self, subscriber: Subscriber) -> None:
        connection = subscriber.connection
        encoding = subscriber.encoding = connection.encoding
        connection.published = None if encoding is None else subscriber.take
        self._drop(subscriber)
        for topic in subscriber.topics:
            topic.shared.pop(subscriber, None)
            topic.direct.pop(subscriber, None)
            (topic.direct if encoding is None else topic.shared)[subscriber] = None

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        subscriber = self._subscribers.pop(connection.id, None)
        if subscriber is not None:
            connection.published = None
            self._drop(subscriber)
            for topic in list(subscriber.topics):
                self._part(subscriber, topic)

    def _part(self, subscriber: Subscriber, topic: Topic) -> None:
        del subscriber.topics[topic]
        topic.shared.pop(subscriber, None)
        topic.direct.pop(subscriber, None)
        if not topic.shared and not topic.direct:
            del self._topics[topic.name]
            if self._backplane is not None:
                self._backplane.unsubscribe(topic.name, self)

    # From the backplane

    def deliver(self, topic: str, data: str | bytes) -> bool:
        """Give a message to all subscribers; see `ILocalTopics`."""
        if get_ident() == self._host.thread:
            return self._publish(topic, data)
        size = CALL + len(data)
        with self._lock:
            if self._waiting >= self._host.max_output:
                return False
            self._waiting += size
        self._host.reactor.callFromThread(self._publish_waiting, size, topic, data)
        return True

    def _publish_waiting(self, size: int, name: str, data: str | bytes) -> None:
        with self._lock:
            self._waiting -= size
        self._publish(name, data)

    def _publish(self, name: str, data: str | bytes) -> bool:
        topic = self._topics.get(name)
        if topic is None:
            return True
        accepted = True
        if topic.shared:
            if topic.size < self._host.max_output:
                self._number += 1
                topic.pending.append(Publication(self._number, data))
                topic.size += len(data)
                self._dirty[topic] = None
                self._host.turn_ends()
            else:
                # No turn may bring a connection more, from whom ever.
                self.dropped += len(topic.shared)
                accepted = False
        for subscriber in list(topic.direct):
            if not subscriber.connection.act("send", data):
                self.dropped += 1
        return accepted

    # What is pending

    def take(self, subscriber: Subscriber) -> bytes:
        """Return what is due to a subscriber, which it is with that."""
        if subscriber.seen == self._number and not subscriber.held:
            return b""
        batch = self._batch(subscriber, self._due(subscriber))
        self._drop(subscriber)
        if subscriber.connection.takes_output:
            self.dropped += batch.cut
            return batch.data
        self.dropped += batch.messages + batch.cut
        return b""

    def flush(self) -> None:
        """The reactor's turn ends: what is pending goes to those to whom it is due."""
        for subscriber in list(self._holding):
            batch = self._batch(subscriber, self._due(subscriber))
            self._drop(subscriber)
            self._send(subscriber.connection, batch)
        number, dirty = self._number, self._dirty
        # What is due to one is due to all that have the same topics and have seen the same.
        batches: dict[tuple[IEncoding | None, int, frozenset[Topic]], Batch] = {}
        for topic in dirty:
            first = topic.pending[0].number
            whole: dict[IEncoding | None, Batch] = {}
            for subscriber in topic.shared:
                seen = subscriber.seen
                if seen == number:
                    continue
                topics = self._dirty_of(subscriber) if len(dirty) > 1 < len(subscriber.topics) else (topic,)
                if len(topics) == 1 and seen < first:
                    try:
                        batch = whole[subscriber.encoding]
                    except KeyError:
                        batch = whole[subscriber.encoding] = self._batch(subscriber, topic.pending)
                else:
                    key = (subscriber.encoding, max(seen, self._flushed), frozenset(topics))
                    try:
                        batch = batches[key]
                    except KeyError:
                        batch = batches[key] = self._batch(subscriber, self._due(subscriber))
                        self._drop(subscriber)
                subscriber.seen = number
                self._send(subscriber.connection, batch)
        for topic in dirty:
            topic.pending = []
            topic.size = 0
        dirty.clear()
        self._flushed = number

    def _send(self, connection: Connection, batch: Batch) -> None:
        data, messages, cut = batch
        try:
            if not data or connection.deliver(data):
                messages = 0
        except Exception:
            # The others wait for this turn's end, too.
            self._host.failures.log(connection.id, "its output failed")
            connection.abort("its output failed")
        if messages or cut:
            self.dropped += messages + cut

    def _dirty_of(self, subscriber: Subscriber) -> Sequence[Topic]:
        """Return its topics with something pending."""
        topics, dirty = subscriber.topics, self._dirty
        if len(dirty) < len(topics):
            return [topic for topic in dirty if topic in topics]
        return [topic for topic in topics if topic.pending]

    def _due(self, subscriber: Subscriber) -> list[Publication]:
        """Return what is due to a subscriber, in order."""
        if subscriber.seen != self._number:
            self._collect(subscriber)
        return subscriber.held

    def _collect(self, subscriber: Subscriber) -> None:
        seen = subscriber.seen
        new = [topic.pending[bisect_right(topic.pending, seen, key=_number) :] for topic in self._dirty_of(subscriber)]
        subscriber.held.extend(new[0] if len(new) == 1 else merge(*new, key=_number))
        subscriber.seen = self._number

    def _hold(self, subscriber: Subscriber) -> None:
        """Its topics are about to change: what is due to it stays so."""
        if subscriber.encoding is not None and self._due(subscriber):
            self._holding[subscriber] = None
            self._host.turn_ends()

    def _drop(self, subscriber: Subscriber) -> None:
        """Nothing of what is pending is due to it."""
        subscriber.seen = self._number
        if subscriber.held:
            subscriber.held = []
            self._holding.pop(subscriber, None)

    def _batch(self, subscriber: Subscriber, publications: Iterable[Publication]) -> Batch:
        def failed() -> None:
            self._host.failures.log(subscriber.connection.id, "what was published can't be encoded")

        # Whoever has something pending has an encoding.
        encoding: Any = subscriber.encoding
        return join(publications, encoding, self._host.max_output, failed)
