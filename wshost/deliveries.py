"""What was published in this turn of the reactor, and to whom it is still due.

A message is encoded once, and at the end of the turn joined once with the others for all that have subscribed to the
same. Knows no protocol, and not how one subscribes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from wshost.interfaces import IEncoding
from wshost.publications import Batch, Publication, join

if TYPE_CHECKING:
    from wshost.connection import Connection
    from wshost.host import Host

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
    """A connection that has subscribed.

    :param deliveries: of its host.
    """

    __slots__ = ("_deliveries", "connection", "encoding", "held", "seen", "topics")

    def __init__(self, deliveries: Deliveries, connection: Connection) -> None:
        self._deliveries = deliveries
        self.connection = connection
        self.encoding: IEncoding | None = None
        self.topics: dict[Topic, None] = {}
        # The number of the last publication that was taken, or published before it counted.
        self.seen = 0
        # What was published before its topics last changed, and is still to be taken.
        self.held: list[Publication] = []

    def take(self) -> bytes:
        """Return what was published for it and is still to be sent: see `IContext.published`."""
        return self._deliveries.take(self)


class Deliveries:
    """What is pending for the subscribers of a host.

    :param host: whose turns of the reactor count, and whose limits.
    """

    __slots__ = ("_dirty", "_flushed", "_holding", "_host", "_number", "dropped")

    def __init__(self, host: Host) -> None:
        #: Deliveries that did not happen: to connections with too much output, or beyond what one turn may bring.
        self.dropped = 0
        self._host = host
        # The numbers of the last publication, and of the last that no turn's end is still to deliver.
        self._number = self._flushed = 0
        # The topics with something pending, and the subscribers that hold something.
        self._dirty: dict[Topic, None] = {}
        self._holding: dict[Subscriber, None] = {}

    @property
    def pending(self) -> bool:
        """Whether anything is."""
        return bool(self._dirty or self._holding)

    def publish(self, topic: Topic, data: str | bytes) -> bool:
        """Give a message to all subscribers of a topic; False when those who share miss it."""
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

    def hold(self, subscriber: Subscriber) -> None:
        """Its topics are about to change: what is due to it stays so."""
        if subscriber.encoding is not None and self._due(subscriber):
            self._holding[subscriber] = None
            self._host.turn_ends()

    def drop(self, subscriber: Subscriber) -> None:
        """Nothing of what is pending is due to it."""
        subscriber.seen = self._number
        if subscriber.held:
            subscriber.held = []
            self._holding.pop(subscriber, None)

    def take(self, subscriber: Subscriber) -> bytes:
        """Return what is due to a subscriber, which it is with that."""
        if subscriber.seen == self._number and not subscriber.held:
            return b""
        batch = self._batch(subscriber, self._due(subscriber))
        self.drop(subscriber)
        if subscriber.connection.takes_output:
            self.dropped += batch.cut
            return batch.data
        self.dropped += batch.messages + batch.cut
        return b""

    def flush(self) -> None:
        """The reactor's turn ends: what is pending goes to those to whom it is due."""
        for subscriber in list(self._holding):
            batch = self._batch(subscriber, self._due(subscriber))
            self.drop(subscriber)
            self._send(subscriber.connection, batch)
        number, dirty = self._number, self._dirty
        several = len(dirty) > 1
        # What is due to one is due to all that have the same topics and have seen the same.
        batches: dict[tuple[IEncoding | None, int, frozenset[Topic]], Batch] = {}
        for topic in dirty:
            first = topic.pending[0].number
            whole: dict[IEncoding | None, Batch] = {}
            for subscriber in topic.shared:
                seen = subscriber.seen
                if seen == number:
                    continue
                if seen < first and not (several and self._has_several(subscriber)):
                    # As with nearly all: everything that is pending here, and nothing else.
                    found = whole.get(subscriber.encoding)
                    if found is None:
                        found = whole[subscriber.encoding] = self._batch(subscriber, topic.pending)
                else:
                    key = (subscriber.encoding, max(seen, self._flushed), frozenset(self._dirty_of(subscriber)))
                    found = batches.get(key)
                    if found is None:
                        found = batches[key] = self._batch(subscriber, self._due(subscriber))
                        self.drop(subscriber)
                subscriber.seen = number
                self._send(subscriber.connection, found)
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

    def _has_several(self, subscriber: Subscriber) -> bool:
        """Say whether several of its topics have something pending."""
        return len(subscriber.topics) > 1 and len(self._dirty_of(subscriber)) > 1

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

    def _batch(self, subscriber: Subscriber, publications: Iterable[Publication]) -> Batch:
        def failed() -> None:
            self._host.failures.log(subscriber.connection.id, "what was published can't be encoded")

        # Whoever has something pending has an encoding.
        encoding: Any = subscriber.encoding
        return join(publications, encoding, self._host.max_output, failed)
