from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from wshost.backplanes.conformity import Receiver, check_backplane
from wshost.interfaces import IBackplane, IBackplaneReceiver, ITellingBackplane


def matches(pattern: str, subject: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(expression, subject) is not None


@implementer(IBackplane)
class Right:
    """A backplane whose broker is a list: what is published comes at once. The classes below it do one thing wrong."""

    largest = 1000
    waiting = 0

    def __init__(self, broker: list[Right]) -> None:
        self.broker = broker
        self.subjects: list[str] = []
        self.receiver: Any = None
        self.closed = False

    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        self.receiver = receiver
        self.broker.append(self)
        done = Deferred[None]()

        def connected() -> None:
            receiver.connected()
            done.callback(None)

        reactor.callLater(0, connected)
        return done

    def close(self) -> Deferred[None]:
        assert not self.closed
        self.closed = True
        if self in self.broker:
            self.broker.remove(self)
        return succeed(None)

    def publish(self, subject: str, payload: bytes) -> bool:
        if self.closed:
            return False
        self.bring(subject, payload)
        return True

    def bring(self, subject: str, payload: bytes) -> None:
        for other in self.broker:
            if other is not self and any(self.matches(pattern, subject) for pattern in other.subjects):
                other.receiver.received(subject, payload)

    def matches(self, pattern: str, subject: str) -> bool:
        return matches(pattern, subject)

    def subscribe(self, subject: str) -> None:
        self.subjects.append(subject)

    def unsubscribe(self, subject: str) -> None:
        self.subjects.remove(subject)


class CallsAtOnce(Right):
    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        receiver.connected()
        return succeed(None)


class NeverSaysConnected(Right):
    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        return succeed(None)


class HasNoSize(Right):
    largest = 0


class Refuses(Right):
    def publish(self, subject: str, payload: bytes) -> bool:
        return payload != b"7" and super().publish(subject, payload)


class Loses(Right):
    def bring(self, subject: str, payload: bytes) -> None:
        if payload != b"7":
            super().bring(subject, payload)


class Reorders(Right):
    held: tuple[str, bytes] | None = None

    def bring(self, subject: str, payload: bytes) -> None:
        if payload == b"7":
            self.held = (subject, payload)
            return
        super().bring(subject, payload)
        if self.held is not None:
            held, self.held = self.held, None
            super().bring(*held)


class LosesAll(Right):
    def bring(self, subject: str, payload: bytes) -> None:
        """Nothing comes."""


class HasWideStars(Right):
    def matches(self, pattern: str, subject: str) -> bool:
        return matches(pattern.replace("*", ">"), subject)


class Keeps(Right):
    def unsubscribe(self, subject: str) -> None:
        """Go on with it."""


class Cuts(Right):
    def bring(self, subject: str, payload: bytes) -> None:
        super().bring(subject, payload[:900])


class LosesLongSubjects(Right):
    def bring(self, subject: str, payload: bytes) -> None:
        if len(subject) < 1024:
            super().bring(subject, payload)


class DisconnectsForSize(Right):
    def bring(self, subject: str, payload: bytes) -> None:
        if len(payload) > self.largest:
            self.receiver.disconnected("too large")
        else:
            super().bring(subject, payload)


class TakesWhenClosed(Right):
    def publish(self, subject: str, payload: bytes) -> bool:
        self.bring(subject, payload)
        return True


class Drops(Right):
    def close(self) -> Deferred[None]:
        self.receiver.dropped(3)
        return super().close()


class LosesAtTheEnd(Right):
    def bring(self, subject: str, payload: bytes) -> None:
        if not (subject.endswith(".z") and payload == b"50"):
            super().bring(subject, payload)


class Tells(Right):
    """Knows who gets what, and tells it in a later turn."""

    def __init__(self, broker: list[Right]) -> None:
        super().__init__(broker)
        self.reactor: Any = None

    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        self.reactor = reactor
        return super().connect(reactor, receiver)

    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        if not any(other.matches(pattern, subject) for other in self.broker for pattern in other.subjects):
            self.tell(nobody)
        return self.publish(subject, payload)

    def tell(self, nobody: Callable[[], object]) -> None:
        self.reactor.callLater(0, nobody)


class TellsNothing(Tells):
    def tell(self, nobody: Callable[[], object]) -> None:
        """It is no duty."""


class TellsAtOnce(Tells):
    def tell(self, nobody: Callable[[], object]) -> None:
        nobody()


class TellsTwice(Tells):
    def tell(self, nobody: Callable[[], object]) -> None:
        super().tell(nobody)
        super().tell(nobody)


class TellsWrongly(Tells):
    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        self.tell(nobody)
        return self.publish(subject, payload)


class AsksAndRefuses(Tells):
    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        return False


class AsksAndReorders(Tells):
    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        return payload == b"7" or self.publish(subject, payload)


class AsksInAnotherWay(Right):
    def publish_or_tell(self, subject: str) -> bool:
        return False


def outcome(make: Callable[[list[Right]], Any]) -> tuple[list[Any], list[Right]]:
    """What the check says of these backplanes; and those that are still connected."""
    clock, said, broker = Clock(), [], list[Right]()
    check = check_backplane(lambda: make(broker), clock)
    check.addCallbacks(said.append, lambda failure: said.append(failure.value))
    while not said:
        clock.advance(1)
    return said, broker


def test_the_receiver_of_the_check_is_one() -> None:
    assert verifyObject(IBackplaneReceiver, Receiver(Clock()))


@pytest.mark.parametrize("make", [Right, implementer(ITellingBackplane)(Tells), TellsNothing])
def test_a_right_backplane_passes(make: Any) -> None:
    assert outcome(make) == ([None], [])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda broker: object(), "it does not provide IBackplane: The object <object object at"),
        (CallsAtOnce, "the receiver was called before `connect` had returned"),
        (NeverSaysConnected, "`connect` fires, and `connected` was not called, once"),
        (HasNoSize, "`largest` is no size once connected"),
        (Refuses, "`publish` refuses a payload"),
        (Loses, "payloads on one subject are lost, or changed, or come in another order"),
        (Reorders, "payloads on one subject are lost, or changed, or come in another order"),
        (LosesAll, "not within 30 s: a payload for a new subscription"),
        (HasWideStars, "a subscription to b.* brings other subjects"),
        (Keeps, "payloads come after the end of the subscription to b"),
        (Cuts, "payloads of extreme sizes are lost, or changed, or come in another order"),
        (LosesLongSubjects, "not within 30 s: a payload that is due"),
        (DisconnectsForSize, "a payload that is too large disconnects: ['too large']"),
        (AsksInAnotherWay, "it does not provide ITellingBackplane: The object"),
        (AsksAndRefuses, "`publish_or_tell` refuses a payload"),
        (TellsAtOnce, "`publish_or_tell` calls `nobody` before it has returned"),
        (AsksAndReorders, "payloads of `publish_or_tell` are lost, or changed, or come in another order"),
        (TellsWrongly, "`nobody` is called for a payload that comes"),
        (TellsTwice, "`nobody` is called more than once for a payload"),
        (TakesWhenClosed, "a closed backplane takes a payload"),
        (Drops, "payloads were dropped while connected: [3, 0]"),
        (LosesAtTheEnd, "payloads that were published before `close` are lost, or come in another order"),
    ],
)
def test_a_wrong_backplane_is_told_in_one_line_and_closed(make: Any, error: str) -> None:
    (said,), broker = outcome(make)
    assert isinstance(said, AssertionError)
    assert str(said).startswith(error)
    assert "\n" not in str(said)
    assert broker == []
