"""Tells subscribers that ask for it how many messages of their topics were lost on the way here. Knows no message.

Each is told once a turn, when no users' code is running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from wshost.connections.ref import INFO
from wshost.connections.shared import Shared
from wshost.topics.pending import Subscriber, Topic


class Losses:
    """The losses of one hub.

    :param shared: has the turn.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        # Who asks, by topic or pattern.
        self._asking: dict[Topic, dict[Subscriber, None]] = {}
        # What is to be told in this turn: topics, and how many of their messages.
        self._due: dict[Subscriber, Counter[str]] = {}

    def ask(self, topic: Topic, subscriber: Subscriber) -> None:
        """Tell a subscriber from now on."""
        self._asking.setdefault(topic, {})[subscriber] = None

    def asks(self, topic: Topic, subscriber: Subscriber) -> bool:
        """Return whether a subscriber is told."""
        return subscriber in self._asking.get(topic, ())

    def forget(self, topic: Topic, subscriber: Subscriber) -> None:
        """Undo `ask`, if it was called."""
        asking = self._asking.get(topic)
        if asking is not None:
            asking.pop(subscriber, None)
            if not asking:
                del self._asking[topic]

    def note(self, topics: Iterable[Topic], name: str, messages: int) -> None:
        """Note that messages were lost.

        :param topics: the topic and the patterns to which they would have come.
        :param name: the topic to which they were published.
        """
        asking = dict.fromkeys(subscriber for topic in topics for subscriber in self._asking.get(topic, ()))
        if asking and not self._due:
            self._shared.turn.deliver_at_end(self._tell)
        for subscriber in asking:
            self._due.setdefault(subscriber, Counter())[name] += messages

    def _tell(self) -> None:
        due, self._due = self._due, {}
        for subscriber, lost in due.items():
            for name, messages in lost.items():
                subscriber.ask(INFO, "info", ("lost", name, messages))
