"""Backplanes in memory: what one publishes, the others of its bus receive when the test says so."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from wshost.interfaces import IBackplane

#: What may be published on: tokens that no broker takes for anything else.
PUBLISHED = re.compile(r"[A-Za-z0-9_=~%-]+(\.[A-Za-z0-9_=~%-]+)*")


def matches(subscription: str, subject: str) -> bool:
    """Whether a subject is meant by a subscription."""
    wanted, tokens = subscription.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or token not in {"*", tokens[position]}:
            return False
    return len(wanted) == len(tokens)


class Bus:
    """Carries payloads between its backplanes, in order, when `deliver` is called."""

    def __init__(self) -> None:
        self.backplanes: list[Backplane] = []
        self.sent: list[tuple[str, bytes]] = []

    def backplane(self, largest: int = 10_000) -> Backplane:
        """Return one more."""
        return Backplane(self, largest)

    def take(self) -> list[tuple[str, bytes]]:
        """Return what was published, which will not be brought."""
        sent, self.sent = self.sent, []
        return sent

    def deliver(self) -> None:
        """Bring what was published, and what is published for that."""
        while self.sent:
            subject, payload = self.sent.pop(0)
            for backplane in self.backplanes:
                for subscription in list(backplane.subscriptions):
                    if matches(subscription, subject):
                        backplane.receiver.received(subject, payload)


@implementer(IBackplane)
class Backplane:
    """One process's end of a bus."""

    def __init__(self, bus: Bus, largest: int = 10_000) -> None:
        self.largest = largest
        self.waiting = 0
        self.bus = bus
        self.receiver: Any = None
        self.subscriptions: dict[str, None] = {}
        #: What `connect` and `publish` return.
        self.connecting: Deferred[None] = succeed(None)
        self.takes = True
        self.closed = False

    def connect(self, reactor: Any, receiver: Any) -> Deferred[None]:
        self.receiver = receiver
        self.bus.backplanes.append(self)
        return self.connecting

    def close(self) -> Deferred[None]:
        self.closed = True
        self.bus.backplanes.remove(self)
        return succeed(None)

    def publish(self, subject: str, payload: bytes) -> bool:
        assert len(payload) <= self.largest
        assert PUBLISHED.fullmatch(subject)
        if self.takes:
            self.bus.sent.append((subject, payload))
        return self.takes

    def subscribe(self, subject: str) -> None:
        assert subject not in self.subscriptions
        self.subscriptions[subject] = None

    def unsubscribe(self, subject: str) -> None:
        del self.subscriptions[subject]
