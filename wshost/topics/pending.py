"""Messages that were published in this turn of the reactor, and which subscribers have not got them yet.

A message is encoded once. At the end of the turn, the messages of a topic are joined once for all subscribers that
get the same messages. Knows no protocol, and not how a connection subscribes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from itertools import chain
from operator import attrgetter
from typing import Any

from wshost.connections.shared import Shared
from wshost.connections.stream import Stream
from wshost.interfaces import IEncoding
from wshost.messages import CALL
from wshost.topics.publication import Batch, Publication, join

_number = attrgetter("number")


class Topic:
    """One topic, or one pattern of topics, while it has subscribers."""

    def __init__(self, name: str) -> None:
        self.name = name
        # The subscribers whose modules use an encoding, by encoding, each with its stream; and the other subscribers.
        self.encoded: dict[IEncoding, dict[Subscriber, Stream]] = {}
        self.others: dict[Subscriber, None] = {}
        # The messages published in this turn for subscribers with an encoding, and their size.
        self.pending: list[Publication] = []
        self.size = 0

    @property
    def subscribers(self) -> Iterable[Subscriber]:
        """The subscribers with an encoding."""
        return chain.from_iterable(self.encoded.values())

    def add(self, subscriber: Subscriber) -> None:
        """Add a connection that has subscribed, or that has another encoding now."""
        if subscriber.encoding is None:
            self.others[subscriber] = None
        else:
            self.encoded.setdefault(subscriber.encoding, {})[subscriber] = subscriber.stream

    def remove(self, subscriber: Subscriber) -> None:
        """Undo `add`. The subscriber must still have the same encoding."""
        if subscriber.encoding is None:
            del self.others[subscriber]
        else:
            group = self.encoded[subscriber.encoding]
            del group[subscriber]
            if not group:
                del self.encoded[subscriber.encoding]


class Subscriber:
    """A connection that subscribes.

    :param pending: the hub's `Pending`.
    :param id: the connection's id, for the log.
    :param stream: the connection's output.
    :param ask: asks the connection's module to send a message, if the module uses no encoding: `Connection.ask`.
    """

    def __init__(self, pending: Pending, id: str, stream: Stream, ask: Callable[..., bool]) -> None:
        self._pending = pending
        self.id = id
        self.stream = stream
        self.ask = ask
        self.encoding: IEncoding | None = None
        self.topics: dict[Topic, None] = {}
        # The number of the last publication that the subscriber has got, or that was made before it subscribed. It has
        # got all publications of earlier turns.
        self.last_seen = 0
        # Publications from before its topics last changed that are still to be sent.
        self.snapshot: list[Publication] = []

    @property
    def due(self) -> bool:
        """Whether messages may wait for it that were published in this turn. Changes nothing."""
        return self.encoding is not None and not self._pending.empty

    def drain(self) -> bytes:
        """Remove and return the pending messages, encoded and joined."""
        return self._pending.drain(self)

    def use_encoding(self, encoding: IEncoding | None) -> None:
        """Encode messages like this from now on; None: ask the module to send each. Pending messages are dropped."""
        self._pending.discard(self)
        for topic in self.topics:
            topic.remove(self)
        self.encoding = encoding
        for topic in self.topics:
            topic.add(self)


class Pending:
    """The pending messages of all subscribers of a hub.

    :param shared: has the turn, the log and the limit.
    """

    def __init__(self, shared: Shared) -> None:
        #: How often a subscriber did not get a message: it had too much output, or too much was published in one turn.
        self.dropped = 0
        #: True while `flush` runs. Messages that are published meanwhile, by a log observer or a finalizer, must wait.
        self.flushing = False
        self._shared = shared
        # The numbers of the last publication, and of the last one of earlier turns.
        self._number = self._flushed = 0
        # Some subscriber was drained before the end of this turn.
        self._some_drained = False
        # Some publication of this turn is in several topics.
        self._some_shared = False
        # The topics with pending messages, and the subscribers with a snapshot.
        self._published: dict[Topic, None] = {}
        self._snapshots: dict[Subscriber, None] = {}
        # `flush` will be called at the end of the turn.
        self._scheduled = False

    @property
    def empty(self) -> bool:
        """Whether nothing is pending."""
        return not (self._published or self._snapshots)

    def publish(self, topic: Topic, data: str | bytes) -> bool:
        """Send a message to all subscribers of a topic; return False when those with an encoding will not get it."""
        accepted = True
        if topic.encoded:
            if topic.size < self._shared.limits.max_output:
                self._number += 1
                topic.pending.append(Publication(self._number, data))
                topic.size += len(data)
                self._published[topic] = None
                self._flush_later()
            else:
                # One turn may queue at most `max_output` per topic.
                self.dropped += sum(map(len, topic.encoded.values()))
                accepted = False
        if topic.others:
            self._ask(topic.others, data)
        return accepted

    def publish_to_several(self, topics: Sequence[Topic], data: str | bytes) -> bool:
        """Send a message once to each subscriber of some topics; return False when some with an encoding miss it."""
        most = self._shared.limits.max_output
        taking = [topic for topic in topics if topic.encoded and topic.size < most]
        missed = {subscriber for topic in topics if topic.size >= most for subscriber in topic.subscribers}
        if missed:
            missed.difference_update(*(topic.subscribers for topic in taking))
        if taking:
            self._number += 1
            publication = Publication(self._number, data)
            for topic in taking:
                topic.pending.append(publication)
                topic.size += len(data)
                self._published[topic] = None
            self._some_shared = True
            self._flush_later()
        self.dropped += len(missed)
        self._ask({subscriber: None for topic in topics for subscriber in topic.others}, data)
        return not missed

    def _ask(self, subscribers: Iterable[Subscriber], data: str | bytes) -> None:
        """Let the modules of subscribers without an encoding send a message."""
        for subscriber in list(subscribers):
            if not subscriber.ask(CALL + len(data), "send", data):
                self.dropped += 1

    def keep(self, subscriber: Subscriber) -> None:
        """Take a snapshot of a subscriber's pending messages, as its topics are about to change."""
        if subscriber.encoding is not None and self._pending_for(subscriber):
            self._snapshots[subscriber] = None
            self._flush_later()

    def discard(self, subscriber: Subscriber) -> None:
        """Drop a subscriber's pending messages."""
        self._mark_seen(subscriber)
        if subscriber.snapshot:
            subscriber.snapshot = []
            self._snapshots.pop(subscriber, None)

    def drain(self, subscriber: Subscriber) -> bytes:
        """Remove and return a subscriber's pending messages, encoded and joined."""
        publications = self._pending_for(subscriber)
        if not publications:
            return b""
        batch = self._join(publications, subscriber)
        self.discard(subscriber)
        if subscriber.stream.takes_output:
            self.dropped += batch.cut
            subscriber.stream.published += batch.messages
            return batch.data
        self.dropped += batch.messages + batch.cut
        return b""

    def _flush_later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._shared.turn.deliver_at_end(self.flush)

    def flush(self) -> None:
        """Send all pending messages, at the end of the reactor's turn."""
        self._scheduled = False
        self.flushing = True
        try:
            for subscriber in list(self._snapshots):
                batch = self._join(self._pending_for(subscriber), subscriber)
                self.discard(subscriber)
                self._send([subscriber.stream], batch)
            if self._some_drained or len(self._published) > 1:
                self._flush_by_need()
            else:
                # The usual case: all subscribers with the same encoding get the same messages.
                for topic in self._published:
                    for group in list(topic.encoded.values()):
                        self._send(list(group.values()), self._join(topic.pending, next(iter(group))))
        finally:
            for topic in self._published:
                topic.pending = []
                topic.size = 0
            self._published.clear()
            self._flushed = self._number
            self._some_drained = self._some_shared = False
            self.flushing = False

    def _flush_by_need(self) -> None:
        """Send all pending messages, where subscribers do not all get the same messages."""
        several = len(self._published) > 1
        # Subscribers that have the same topics and were drained at the same time get the same messages.
        apart: dict[tuple[Any, int, frozenset[Topic]], tuple[Batch, list[Stream]]] = {}
        for topic in self._published:
            first = topic.pending[0].number
            for encoding, group in list(topic.encoded.items()):
                whole: list[Stream] = []
                for subscriber, stream in list(group.items()):
                    last_seen = subscriber.last_seen
                    if last_seen == self._number:
                        continue
                    if last_seen < first and not (several and self._has_several(subscriber)):
                        # It gets all pending messages of this topic, and no others.
                        subscriber.last_seen = self._number
                        whole.append(stream)
                        continue
                    key = (encoding, max(last_seen, self._flushed), frozenset(self._published_to(subscriber)))
                    if key not in apart:
                        apart[key] = self._join(self._pending_for(subscriber), subscriber), []
                        self.discard(subscriber)
                    subscriber.last_seen = self._number
                    apart[key][1].append(stream)
                if whole:
                    self._send(whole, self._join(topic.pending, next(iter(group))))
        for batch, streams in apart.values():
            self._send(streams, batch)

    def _send(self, streams: list[Stream], batch: Batch) -> None:
        data, messages, cut = batch
        missed = 0
        if data:
            for stream in streams:
                try:
                    if not stream.send_published(data, messages):
                        missed += 1
                except BaseException:  # the other subscribers must get the messages all the same
                    stream.fail("its output failed")
                    missed += 1
        self.dropped += missed * messages + len(streams) * cut

    def _has_several(self, subscriber: Subscriber) -> bool:
        """Say whether several of a subscriber's topics have pending messages."""
        return len(subscriber.topics) > 1 and len(self._published_to(subscriber)) > 1

    def _published_to(self, subscriber: Subscriber) -> Sequence[Topic]:
        """Return those of a subscriber's topics that have pending messages."""
        topics, published = subscriber.topics, self._published
        if len(published) < len(topics):
            return [topic for topic in published if topic in topics]
        return [topic for topic in topics if topic.pending]

    def _pending_for(self, subscriber: Subscriber) -> list[Publication]:
        """Return a subscriber's pending messages, in order."""
        if self._flushed != self._number != subscriber.last_seen:
            self._take_snapshot(subscriber)
        return subscriber.snapshot

    def _take_snapshot(self, subscriber: Subscriber) -> None:
        last_seen = subscriber.last_seen
        new = [
            topic.pending[bisect_right(topic.pending, last_seen, key=_number) :]
            for topic in self._published_to(subscriber)
        ]
        publications = new[0] if len(new) == 1 else merge(*new, key=_number)
        subscriber.snapshot.extend(dict.fromkeys(publications) if self._some_shared else publications)
        self._mark_seen(subscriber)

    def _mark_seen(self, subscriber: Subscriber) -> None:
        """Note that a subscriber has got all messages that were published until now."""
        subscriber.last_seen = self._number
        self._some_drained = self._some_drained or self._flushed != self._number

    def _join(self, publications: Iterable[Publication], subscriber: Subscriber) -> Batch:
        """Encode and join messages for a subscriber; the result is valid for all with the same encoding."""

        def failed() -> None:
            self._shared.failures.log(subscriber.id, "what was published can't be encoded")

        # A subscriber with pending messages has an encoding.
        encoding: Any = subscriber.encoding
        return join(publications, encoding, self._shared.limits.max_output, failed)
