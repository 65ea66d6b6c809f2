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
from wshost.messages import CALL
from wshost.topics.publication import Batch, Publication, join

if TYPE_CHECKING:
    from wshost.connections.connection import Connection
    from wshost.connections.hub import Host

_number = attrgetter("number")


class Topic:
    """One topic, while it has subscribers."""

    __slots__ = ("direct", "name", "pending", "shared", "size")

    def __init__(self, name: str) -> None:
        self.name = name
        # Those whose modules share an encoding, by that, with their connections; and the others.
        self.shared: dict[IEncoding, dict[Subscriber, Connection]] = {}
        self.direct: dict[Subscriber, None] = {}
        # What was published in this turn for those who share, and the size of it.
        self.pending: list[Publication] = []
        self.size = 0

    def add(self, subscriber: Subscriber) -> None:
        """One more has subscribed, or has another encoding now."""
        if subscriber.encoding is None:
            self.direct[subscriber] = None
        else:
            self.shared.setdefault(subscriber.encoding, {})[subscriber] = subscriber.connection

    def remove(self, subscriber: Subscriber) -> None:
        """Undo `add`; its encoding is still the same."""
        if subscriber.encoding is None:
            del self.direct[subscriber]
        else:
            group = self.shared[subscriber.encoding]
            del group[subscriber]
            if not group:
                del self.shared[subscriber.encoding]


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
        # The number of the last publication that was taken, or published before it counted. Those of turns that have
        # ended everybody has seen.
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

    __slots__ = ("_ahead", "_dirty", "_flushed", "_holding", "_host", "_number", "dropped", "flushing")

    def __init__(self, host: Host) -> None:
        #: Deliveries that did not happen: to connections with too much output, or beyond what one turn may bring.
        self.dropped = 0
        #: The turn ends: what is published now, by somebody who hears of a failure or by a finalizer, has to wait.
        self.flushing = False
        self._host = host
        # The numbers of the last publication, and of the last that no turn's end is still to deliver.
        self._number = self._flushed = 0
        # Some have seen what others are still to see.
        self._ahead = False
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
                self.dropped += sum(map(len, topic.shared.values()))
                accepted = False
        for subscriber in list(topic.direct):
            if not subscriber.connection.ask(CALL + len(data), "send", data):
                self.dropped += 1
        return accepted

    def hold(self, subscriber: Subscriber) -> None:
        """Its topics are about to change: what is due to it stays so."""
        if subscriber.encoding is not None and self._due(subscriber):
            self._holding[subscriber] = None
            self._host.turn_ends()

    def drop(self, subscriber: Subscriber) -> None:
        """Nothing of what is pending is due to it."""
        self._pass(subscriber)
        if subscriber.held:
            subscriber.held = []
            self._holding.pop(subscriber, None)

    def take(self, subscriber: Subscriber) -> bytes:
        """Return what is due to a subscriber, which it is with that."""
        due = self._due(subscriber)
        if not due:
            return b""
        batch = self._join(due, subscriber)
        self.drop(subscriber)
        if subscriber.connection.takes_output:
            self.dropped += batch.cut
            return batch.data
        self.dropped += batch.messages + batch.cut
        return b""

    def flush(self) -> None:
        """The reactor's turn ends: what is pending goes to those to whom it is due."""
        self.flushing = True
        try:
            for subscriber in list(self._holding):
                batch = self._join(self._due(subscriber), subscriber)
                self.drop(subscriber)
                self._send([subscriber.connection], batch)
            if self._ahead or len(self._dirty) > 1:
                self._flush_apart()
            else:
                # As nearly always: what is pending is the same for all.
                for topic in self._dirty:
                    for group in list(topic.shared.values()):
                        self._send(list(group.values()), self._join(topic.pending, next(iter(group))))
        finally:
            for topic in self._dirty:
                topic.pending = []
                topic.size = 0
            self._dirty.clear()
            self._flushed = self._number
            self._ahead = False
            self.flushing = False

    def _flush_apart(self) -> None:
        """Send what is pending where it is not the same for all."""
        several = len(self._dirty) > 1
        # What is due to one is due to all that have the same topics and have seen the same.
        apart: dict[tuple[Any, int, frozenset[Topic]], tuple[Batch, list[Connection]]] = {}
        for topic in self._dirty:
            first = topic.pending[0].number
            for encoding, group in list(topic.shared.items()):
                whole: list[Connection] = []
                for subscriber, connection in list(group.items()):
                    seen = subscriber.seen
                    if seen == self._number:
                        continue
                    if seen < first and not (several and self._has_several(subscriber)):
                        # Everything that is pending here, and nothing else.
                        subscriber.seen = self._number
                        whole.append(connection)
                        continue
                    key = (encoding, max(seen, self._flushed), frozenset(self._dirty_of(subscriber)))
                    if key not in apart:
                        apart[key] = self._join(self._due(subscriber), subscriber), []
                        self.drop(subscriber)
                    subscriber.seen = self._number
                    apart[key][1].append(connection)
                if whole:
                    self._send(whole, self._join(topic.pending, next(iter(group))))
        for batch, connections in apart.values():
            self._send(connections, batch)

    def _send(self, connections: list[Connection], batch: Batch) -> None:
        data, messages, cut = batch
        missed = 0
        if data:
            large = len(data) >= self._host.max_output
            for connection in connections:
                try:
                    if not connection.deliver(data, large):
                        missed += 1
                except BaseException:  # the others wait for this turn's end, too
                    connection.fail("its output failed")
                    missed += 1
        self.dropped += missed * messages + len(connections) * cut

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
        if self._flushed != self._number != subscriber.seen:
            self._collect(subscriber)
        return subscriber.held

    def _collect(self, subscriber: Subscriber) -> None:
        seen = subscriber.seen
        new = [topic.pending[bisect_right(topic.pending, seen, key=_number) :] for topic in self._dirty_of(subscriber)]
        subscriber.held.extend(new[0] if len(new) == 1 else merge(*new, key=_number))
        self._pass(subscriber)

    def _pass(self, subscriber: Subscriber) -> None:
        """Let it be past all that has been published."""
        subscriber.seen = self._number
        self._ahead = self._ahead or self._flushed != self._number

    def _join(self, publications: Iterable[Publication], subscriber: Subscriber) -> Batch:
        """Return what goes to a subscriber, and to whoever has the same encoding."""

        def failed() -> None:
            self._host.failures.log(subscriber.connection.id, "what was published can't be encoded")

        # Whoever has something pending has an encoding.
        encoding: Any = subscriber.encoding
        return join(publications, encoding, self._host.max_output, failed)
