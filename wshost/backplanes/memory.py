"""Carries published messages between the hosts of this process. Knows no connection and no thread."""

from __future__ import annotations

from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from wshost.interfaces import IBackplane, ILocalTopics


@implementer(IBackplane)
class MemoryBackplane:
    """See `wshost.interfaces.IBackplane`; what is published has arrived when `publish` returns."""

    def __init__(self) -> None:
        # Who wants a topic; never changed in place: `publish` looks from any thread.
        self._subscribed: dict[str, tuple[ILocalTopics, ...]] = {}
        # Reactors of several threads may subscribe.
        self._lock = Lock()

    def connect(self, reactor: Any) -> Deferred[None]:
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)

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


#: That of all servers of this process, unless they are given another.
SHARED = MemoryBackplane()
