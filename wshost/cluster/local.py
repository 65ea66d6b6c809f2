"""Brings published messages to the hubs of this process. Knows no other process, no connection and no thread."""

from __future__ import annotations

from threading import Lock

from wshost.interfaces import ILocalTopics


class LocalHubs:
    """The hubs that have subscribed to topics. When `publish` returns, each has the message."""

    def __init__(self) -> None:
        # The hubs that have subscribed, by topic. `publish` reads this in any thread, so it holds immutable tuples.
        self._subscribed: dict[str, tuple[ILocalTopics, ...]] = {}
        # Hubs may subscribe in several threads, each with its own reactor.
        self._lock = Lock()

    def publish(self, topic: str, data: str | bytes) -> bool:
        accepted = True
        for local in self._subscribed.get(topic, ()):
            accepted &= local.publish_locally(topic, data)
        return accepted

    def subscribe(self, topic: str, local: ILocalTopics) -> None:
        with self._lock:
            self._subscribed[topic] = (*self._subscribed.get(topic, ()), local)

    def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
        with self._lock:
            left = tuple(other for other in self._subscribed[topic] if other is not local)
            if left:
                self._subscribed[topic] = left
            else:
                del self._subscribed[topic]
