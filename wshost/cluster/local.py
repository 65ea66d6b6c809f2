"""Brings published messages to the hubs of this process. Knows no other process, no connection and no thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from threading import Lock

from twisted.logger import Logger

from wshost.interfaces import ILocalTopics
from wshost.topics.patterns import Patterns, is_pattern

_log = Logger("wshost")


class LocalHubs:
    """The hubs that have subscribed to topics. When `publish` returns, each has the message.

    One that raises, which it must not, takes nothing from the others, nor from the broker's connection.
    """

    def __init__(self) -> None:
        # The hubs that have subscribed, by topic. `publish` reads this in any thread, so it holds immutable tuples.
        self._subscribed: dict[str, tuple[ILocalTopics, ...]] = {}
        self._patterns: Patterns[tuple[ILocalTopics, ...]] = Patterns()
        # Hubs may subscribe in several threads, each with its own reactor.
        self._lock = Lock()

    def publish(self, topic: str, data: str | bytes) -> bool:
        accepted = True
        for local in self._hubs(topic):
            try:
                accepted &= local.publish_locally(topic, data)
            except Exception:
                _log.failure("a hub has failed to take a message")
                accepted = False
        return accepted

    def publish_all(self, topic: str, messages: Sequence[str | bytes]) -> None:
        """Publish messages, the first one first."""
        for local in self._hubs(topic):
            try:
                for data in messages:
                    local.publish_locally(topic, data)
            except Exception:
                _log.failure("a hub has failed to take messages")

    def _hubs(self, topic: str) -> Iterable[ILocalTopics]:
        hubs: Iterable[ILocalTopics] = self._subscribed.get(topic, ())
        if self._patterns.values and (matching := self._patterns.matching(topic)):
            # A hub that has subscribed to several of them gets the message once.
            hubs = dict.fromkeys(chain(hubs, *matching))
        return hubs

    def lose(self, topic: str, messages: int) -> None:
        """Tell the hubs that messages of others to a topic were lost. Called in any thread."""
        for local in self._hubs(topic):
            try:
                local.lose_locally(topic, messages)
            except Exception:
                _log.failure("a hub has failed to tell of losses")

    def subscribe(self, topic: str, local: ILocalTopics) -> None:
        with self._lock:
            if is_pattern(topic):
                self._patterns.put(topic, (*self._patterns.values.get(topic, ()), local))
            else:
                self._subscribed[topic] = (*self._subscribed.get(topic, ()), local)

    def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
        with self._lock:
            if is_pattern(topic):
                if left := _without(local, self._patterns.values[topic]):
                    self._patterns.put(topic, left)
                else:
                    self._patterns.remove(topic)
            elif left := _without(local, self._subscribed[topic]):
                self._subscribed[topic] = left
            else:
                del self._subscribed[topic]


def _without(local: ILocalTopics, subscribed: tuple[ILocalTopics, ...]) -> tuple[ILocalTopics, ...]:
    return tuple(other for other in subscribed if other is not local)
