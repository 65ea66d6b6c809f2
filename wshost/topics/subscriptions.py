"""The topics of one host: who has subscribed, and what comes from the backplane for them.

What of that is pending, `deliveries.py` knows. Knows no protocol: a connection's module says how messages are encoded
(`IContext.share`), or is given them one by one.
"""

from __future__ import annotations

from threading import Lock, get_ident
from typing import TYPE_CHECKING

from zope.interface import implementer

from wshost.exact import message, text
from wshost.interfaces import IBackplane, ILocalTopics
from wshost.messages import CALL
from wshost.topics.pending import Deliveries, Subscriber, Topic

if TYPE_CHECKING:
    from wshost.connections.connection import Connection
    from wshost.connections.hub import Host


@implementer(ILocalTopics)
class Topics:
    """The topics of a host.

    :param host: whose connections subscribe.
    :param backplane: is told which topics have subscribers here; None where none is.
    :param max_subscriptions: of one connection.
    """

    def __init__(self, host: Host, backplane: IBackplane | None, max_subscriptions: int) -> None:
        self._host = host
        self._backplane = backplane
        self._max_subscriptions = max_subscriptions
        self._topics: dict[str, Topic] = {}
        # By the ids of their connections.
        self._subscribers: dict[str, Subscriber] = {}
        self._deliveries = Deliveries(host)
        # What other threads have published and has not come here yet, in bytes.
        self._waiting = 0
        self._lock = Lock()

    @property
    def dropped(self) -> int:
        """Deliveries that did not happen: to connections with too much output, or beyond what one turn may bring."""
        return self._deliveries.dropped

    def flush(self) -> None:
        """The reactor's turn ends: what is pending goes to those to whom it is due."""
        self._deliveries.flush()

    # From connections and their refs

    def act(self, connection: Connection, action: str, name: str) -> bool:
        """Do what a ref asks for: "subscribe" or "unsubscribe"."""
        return self._subscribe(connection, name) if action == "subscribe" else self._unsubscribe(connection, name)

    def _subscribe(self, connection: Connection, name: str) -> bool:
        if not connection.takes_output:
            return False
        subscriber = self._subscribers.get(connection.id)
        if subscriber is None:
            subscriber = self._subscribers[connection.id] = Subscriber(self._deliveries, connection)
            self._share(subscriber)
        topic = self._topics.get(name)
        if topic in subscriber.topics:
            return True
        if len(subscriber.topics) >= self._max_subscriptions:
            return False
        if topic is None:
            # First the backplane, which may be anybody's: nothing is kept of what fails.
            if self._backplane is not None:
                try:
                    self._backplane.subscribe(name, self)
                except BaseException:
                    self._host.failures.log(connection.id, "the backplane failed to subscribe")
                    return False
            topic = self._topics[name] = Topic(name)
        self._deliveries.hold(subscriber)
        subscriber.topics[topic] = None
        topic.add(subscriber)
        return True

    def _unsubscribe(self, connection: Connection, name: str) -> bool:
        subscriber = self._subscribers.get(connection.id)
        topic = self._topics.get(name)
        if subscriber is not None and topic in subscriber.topics:
            self._deliveries.hold(subscriber)
            self._part(subscriber, topic)
        return True

    def share(self, connection: Connection) -> None:
        """A connection's `encoding` has changed; what it has not taken by now, it will not get."""
        subscriber = self._subscribers.get(connection.id)
        if subscriber is not None:
            self._share(subscriber)

    def _share(self, subscriber: Subscriber) -> None:
        connection = subscriber.connection
        connection.published = None if connection.encoding is None else subscriber.take
        self._deliveries.drop(subscriber)
        for topic in subscriber.topics:
            topic.remove(subscriber)
        subscriber.encoding = connection.encoding
        for topic in subscriber.topics:
            topic.add(subscriber)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        subscriber = self._subscribers.pop(connection.id, None)
        if subscriber is not None:
            connection.published = None
            self._deliveries.drop(subscriber)
            for topic in list(subscriber.topics):
                self._part(subscriber, topic)

    def _part(self, subscriber: Subscriber, topic: Topic) -> None:
        del subscriber.topics[topic]
        topic.remove(subscriber)
        if not topic.shared and not topic.direct:
            del self._topics[topic.name]
            if self._backplane is not None:
                try:
                    self._backplane.unsubscribe(topic.name, self)
                except BaseException:
                    self._host.failures.log(subscriber.connection.id, "the backplane failed to unsubscribe")

    # From the backplane

    def deliver(self, topic: str, data: str | bytes) -> bool:
        """Give a message to all subscribers; see `ILocalTopics`."""
        if type(data) is not str and type(data) is not bytes:
            data = message(data)
        topic = text(topic)
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
        if self._deliveries.flushing:
            self._host.reactor.callLater(0, self._publish, name, data)
            return True
        topic = self._topics.get(name)
        return topic is None or self._deliveries.publish(topic, data)
