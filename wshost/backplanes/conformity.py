"""Checks an `IBackplane` with a real broker, for whoever writes one. Knows no broker, and no framework for tests."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from wshost.interfaces import IBackplane, IBackplaneReceiver, ITellingBackplane

#: How many payloads are sent in order, so that they take several writes and reads.
MANY = 2_000
#: So many characters may a subject have.
LONGEST_SUBJECT = 1_024
#: Seconds in which a backplane may say something wrong.
MOMENT = 0.1

Steps = Generator[Deferred[Any], Any, None]


@implementer(IBackplaneReceiver)
class Receiver:
    """Keeps what a backplane tells, and waits for it.

    :param reactor: provides `IReactorTime`.
    :param patience: how many seconds to wait.
    """

    def __init__(self, reactor: Any, patience: float = 30.0) -> None:
        self._reactor = reactor
        self._patience = patience
        #: Subjects and payloads, as they came.
        self.got: list[tuple[str, bytes]] = []
        #: ``connected``, and the reasons of `disconnected`.
        self.changes: list[str] = []
        #: How many payloads were dropped.
        self.lost = 0
        self._waits: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def received(self, subject: str, payload: bytes) -> None:
        """See `IBackplaneReceiver`, as for the next three."""
        self.got.append((subject, payload))
        self._look()

    def connected(self) -> None:
        """Keep it."""
        self.changes.append("connected")
        self._look()

    def disconnected(self, reason: str) -> None:
        """Keep it."""
        self.changes.append(reason)
        self._look()

    def dropped(self, payloads: int) -> None:
        """Keep it."""
        self.lost += payloads
        self._look()

    def until(self, what: str, is_so: Callable[[], bool]) -> Deferred[None]:
        """Wait until this is so; it is asked whenever the backplane has told something.

        :param what: for the `AssertionError` with which the Deferred fails when patience ends.
        """
        wait = Deferred[None]()
        wait.addTimeout(self._patience, self._reactor, lambda _, seconds: _fail(f"not within {seconds:g} s: {what}"))
        self._waits.append((is_so, wait))
        self._look()
        return wait

    def _look(self) -> None:
        for one in [wait for wait in self._waits if wait[0]()]:
            self._waits.remove(one)
            one[1].callback(None)


class _Pair:
    """Two backplanes, as two processes have them: one publishes, the other receives."""

    def __init__(self, make: Callable[[], Any], reactor: Any, prefix: str, patience: float) -> None:
        self.one, self.other = make(), make()
        self.receivers = Receiver(reactor, patience), Receiver(reactor, patience)
        self.prefix = prefix
        self._reactor = reactor
        self._marks = 0
        # Those that must be closed.
        self._open: list[Any] = []

    @inlineCallbacks
    def connect(self) -> Steps:
        for backplane, receiver in zip((self.one, self.other), self.receivers, strict=True):
            _verify(IBackplane, backplane)
            self._open.append(backplane)
            done = backplane.connect(self._reactor, receiver)
            _demand(not receiver.changes, "the receiver was called before `connect` had returned")
            yield done
            _demand(receiver.changes == ["connected"], "`connect` fires, and `connected` was not called, once")
            _demand(isinstance(backplane.largest, int) and backplane.largest > 0, "`largest` is no size once connected")

    @inlineCallbacks
    def close(self) -> Steps:
        while self._open:
            yield self._open.pop(0).close()

    @inlineCallbacks
    def close_first(self) -> Steps:
        yield self._open.pop(0).close()

    @inlineCallbacks
    def settle(self) -> Steps:
        """Wait until all subscriptions of the other are in place; forget what has come."""
        self._marks += 1
        mark = (f"{self.prefix}.mark.{self._marks}", b"mark")
        self.other.subscribe(mark[0])
        receiver = self.receivers[1]
        # Nothing says when a new subscription is in place: publish until something comes.
        repeated = _Repeated(self._reactor, lambda: self.one.publish(*mark))
        try:
            yield receiver.until("a payload for a new subscription", lambda: mark in receiver.got)
        finally:
            repeated.stop()
        self.other.unsubscribe(mark[0])

    @inlineCallbacks
    def bring(self, sent: list[tuple[str, bytes]], due: list[tuple[str, bytes]], otherwise: str) -> Steps:
        """Publish payloads. Demand that those come that are due, and no others; in order, if they have one subject."""
        self.receivers[1].got.clear()
        for subject, payload in sent:
            _demand(self.one.publish(f"{self.prefix}.{subject}", payload), "`publish` refuses a payload")
        yield self.come(due)
        yield self.settle()
        one_subject = len({subject for subject, _ in due}) == 1
        _demand(self.came() == due if one_subject else sorted(self.came()) == sorted(due), otherwise)

    def wait(self) -> Deferred[None]:
        """Let a moment pass."""
        return deferLater(self._reactor, MOMENT)

    def come(self, due: list[tuple[str, bytes]]) -> Deferred[None]:
        """Wait until the last payloads of all subjects have come."""
        missing = {(f"{self.prefix}.{subject}", payload) for subject, payload in dict(due).items()}
        got = self.receivers[1].got
        looked_at = 0

        def all_came() -> bool:
            nonlocal looked_at
            missing.difference_update(got[looked_at:])
            looked_at = len(got)
            return not missing

        return self.receivers[1].until("a payload that is due", all_came)

    def came(self) -> list[tuple[str, bytes]]:
        """What has come to the other: subjects without the prefix."""
        cut = len(self.prefix) + 1
        came = [(subject[cut:], payload) for subject, payload in self.receivers[1].got]
        return [one for one in came if not one[0].startswith("mark.")]


class _Repeated:
    """Makes a call every 20 ms."""

    def __init__(self, reactor: Any, call: Callable[[], object]) -> None:
        self._reactor = reactor
        self._call = call
        self._again()

    def _again(self) -> None:
        self._call()
        self._timer = self._reactor.callLater(0.02, self._again)

    def stop(self) -> None:
        self._timer.cancel()


@inlineCallbacks
def _order(pair: _Pair) -> Steps:
    """Payloads of one process on one subject come in order, and none is lost while connected."""
    pair.other.subscribe(f"{pair.prefix}.a")
    yield pair.settle()
    sent = [("a", b"%d" % number) for number in range(MANY)]
    yield pair.bring(sent, sent, "payloads on one subject are lost, or changed, or come in another order")


@inlineCallbacks
def _subjects(pair: _Pair) -> Steps:
    """``*`` stands for one token, ``>`` for one or more; an unsubscribed subject brings nothing."""
    sent = [(name, name.encode()) for name in ("b", "b.c", "b.c.d", "b.x.d", "b.c.d.e", "e-_=~%0.1", "c")]
    matching = {
        "b": ["b"],
        "b.*": ["b.c"],
        "b.*.d": ["b.c.d", "b.x.d"],
        "b.>": ["b.c", "b.c.d", "b.x.d", "b.c.d.e"],
        "e-_=~%0.*": ["e-_=~%0.1"],
    }
    for subject, names in matching.items():
        pair.other.subscribe(f"{pair.prefix}.{subject}")
        yield pair.settle()
        due = [one for one in sent if one[0] in names]
        yield pair.bring(sent, due, f"a subscription to {subject} brings other subjects than {', '.join(names)}")
        pair.other.unsubscribe(f"{pair.prefix}.{subject}")
        yield pair.settle()
        yield pair.bring(sent, [], f"payloads come after the end of the subscription to {subject}")


@inlineCallbacks
def _sizes(pair: _Pair) -> Steps:
    """The largest payload comes, and so does an empty one. One that is too large harms no other."""
    pair.other.subscribe(f"{pair.prefix}.d")
    yield pair.settle()
    largest = bytes(range(256)) * (pair.one.largest // 256) + bytes(pair.one.largest % 256)
    sent = [("d", payload) for payload in (largest, b"", b"\r\n\x00\xff", b"end")]
    yield pair.bring(sent, sent, "payloads of extreme sizes are lost, or changed, or come in another order")
    pair.one.publish(f"{pair.prefix}.d", largest + b"!")
    pair.one.publish(f"{pair.prefix}.d", b"after")
    yield pair.come([("d", b"after")])
    for one in pair.receivers:
        _demand(one.changes == ["connected"], f"a payload that is too large disconnects: {one.changes[1:]}")


@inlineCallbacks
def _longest(pair: _Pair) -> Steps:
    """A subject may have 1,024 characters."""
    name = "l" * (LONGEST_SUBJECT - len(pair.prefix) - 1)
    pair.other.subscribe(f"{pair.prefix}.{name}")
    yield pair.settle()
    yield pair.bring([(name, b"long")], [(name, b"long")], "a subject of 1,024 characters does not come as it was")


@inlineCallbacks
def _nobody(pair: _Pair) -> Steps:
    """A backplane that may tell that nobody gets a payload says so of no other, at most once, and not at once."""
    if not hasattr(pair.one, "publish_or_tell"):
        return
    _verify(ITellingBackplane, pair.one)
    told: list[str] = []

    def ask(subject: str, payload: bytes) -> bool:
        taken: bool = pair.one.publish_or_tell(f"{pair.prefix}.{subject}", payload, lambda: told.append(subject))
        return taken

    pair.other.subscribe(f"{pair.prefix}.s")
    yield pair.settle()
    pair.receivers[1].got.clear()
    sent = [("s", b"%d" % number) for number in range(100)]
    for one in sent:
        _demand(ask(*one) and ask("nobody", b"x"), "`publish_or_tell` refuses a payload")
    _demand(not told, "`publish_or_tell` calls `nobody` before it has returned")
    yield pair.come(sent)
    yield pair.settle()
    # What it says may come later than the payloads.
    yield pair.wait()
    _demand(pair.came() == sent, "payloads of `publish_or_tell` are lost, or changed, or come in another order")
    _demand("s" not in told, "`nobody` is called for a payload that comes")
    _demand(len(told) <= len(sent), "`nobody` is called more than once for a payload")


@inlineCallbacks
def _end(pair: _Pair) -> Steps:
    """What was published before `close` comes. A closed backplane takes nothing."""
    pair.other.subscribe(f"{pair.prefix}.z")
    yield pair.settle()
    pair.receivers[1].got.clear()
    sent = [("z", b"%d" % number) for number in range(100)]
    for subject, payload in sent:
        pair.one.publish(f"{pair.prefix}.{subject}", payload)
    yield pair.close_first()
    yield pair.come(sent)
    _demand(pair.came() == sent, "payloads that were published before `close` are lost, or come in another order")
    _demand(pair.one.publish(f"{pair.prefix}.z", b"late") is False, "a closed backplane takes a payload")
    lost = [one.lost for one in pair.receivers]
    _demand(lost == [0, 0], f"payloads were dropped while connected: {lost}")


@inlineCallbacks
def check_backplane(make: Callable[[], Any], reactor: Any, prefix: str = "conformity", patience: float = 30.0) -> Steps:
    """Check that backplanes do what `IBackplane` says, with a broker that runs.

    :param make: makes a backplane; called twice, for two processes. Both use one broker, or one cluster.
    :param reactor: a running one.
    :param prefix: the first token of all subjects that are used. Nobody else may use it.
    :param patience: what must come is awaited for so many seconds.
    :returns: fires with None; fails with an `AssertionError` that says in one line what is wrong.
    """
    pair = _Pair(make, reactor, prefix, patience)
    try:
        yield pair.connect()
        for check in (_order, _subjects, _sizes, _longest, _nobody, _end):
            yield check(pair)
    finally:
        yield pair.close()


def _verify(contract: Any, backplane: Any) -> None:
    try:
        verifyObject(contract, backplane)
    except Invalid as error:
        _fail(f"it does not provide {contract.__name__}: {' '.join(str(error).split())}")


def _demand(is_so: bool, otherwise: str) -> None:
    if not is_so:
        _fail(otherwise)


def _fail(what: str) -> None:
    raise AssertionError(what)
