from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from zope.interface.verify import verifyObject

from tests.memory import MemoryReactor
from wshost.connections.ref import INFO, Ref
from wshost.connections.registry import Registry
from wshost.connections.thread import ReactorThread
from wshost.interfaces import IRef
from wshost.messages import CALL
from wshost.results import Outcome, Sent


class Connection:
    """A connection that notes what it is asked."""

    id = "c1"
    waiting = 7

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []
        self.asked_from_threads: list[tuple[Any, ...]] = []

    def ask(self, *what: Any) -> bool:
        self.asked.append(what)
        return self.answer

    def ask_later(self, *what: Any) -> bool:
        self.asked_from_threads.append(what)
        return self.answer

    def drain(self) -> None:
        """Nothing."""

    def send(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        self.asked.append((size, "send", data))
        return Sent.ACCEPTED if self.answer else Sent.DROPPED

    def send_later(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        self.asked_from_threads.append((size, "send", data))
        return Sent.WAITING if self.answer else Sent.DROPPED

    def send_confirmed(self, size: int, data: str | bytes, key: str | None, seconds: float) -> Deferred[Outcome]:
        self.asked.append((size, "send", data, key, seconds))
        return succeed(Outcome.WRITTEN if self.answer else Outcome.OVERFLOW)

    def drained(self) -> Deferred[bool]:
        return succeed(True)

    def shut_down(self) -> None:
        """Nothing."""

    def renew(self) -> bool:
        return False

    def abort(self, reason: str) -> None:
        """Nothing."""


@pytest.fixture
def registry() -> Registry:
    return Registry(ReactorThread(MemoryReactor()))


@pytest.fixture
def connection(registry: Registry) -> Connection:
    connection = Connection()
    registry.add(connection)
    return connection


@pytest.fixture
def ref(registry: Registry, connection: Connection) -> Ref:
    return Ref(registry, "c1")


def from_thread(call: Callable[[], Any]) -> Any:
    """Return what a call returns in another thread."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


ASK: list[Any] = [
    (lambda ref: ref.subscribe("room"), ("subscribe", "room"), CALL),
    (lambda ref: ref.unsubscribe("room"), ("unsubscribe", "room"), CALL),
    (lambda ref: ref.subscribe("rooms.*"), ("subscribe", "rooms.*"), CALL),
    (lambda ref: ref.send("schön"), ("send", "schön"), CALL + 6),
    (lambda ref: ref.send("plain"), ("send", "plain"), CALL + 5),
    (lambda ref: ref.send(b"\xff\x00"), ("send", b"\xff\x00"), CALL + 2),
    (lambda ref: ref.send(""), ("send", ""), CALL),
    (lambda ref: ref.ping(), ("ping", b""), CALL),
    (lambda ref: ref.ping(b"p"), ("ping", b"p"), CALL),
    (lambda ref: ref.ping("schön"), ("ping", "schön".encode()), CALL),
    (lambda ref: ref.close(), ("close", 1000, "Normal close"), CALL),
    (lambda ref: ref.close(4000), ("close", 4000, "Normal close"), CALL),
    (lambda ref: ref.close(None), ("close", None, ""), CALL),
    (lambda ref: ref.close(None, ""), ("close", None, ""), CALL),
    (lambda ref: ref.close(3000, "ü" * 100), ("close", 3000, "ü" * 61), CALL),
    (lambda ref: ref.info(["anything"]), ("info", ["anything"]), INFO),
]


@pytest.mark.parametrize(("ask", "asked", "size"), ASK)
class TestAsking:
    def test_a_ref_asks_its_connection_in_the_reactors_thread(
        self, ref: Ref, connection: Connection, ask: Any, asked: Any, size: int
    ) -> None:
        assert ask(ref)
        assert connection.asked == [(size, *asked)]
        assert connection.asked_from_threads == []

    def test_a_ref_asks_its_connection_later_from_another_thread(
        self, ref: Ref, connection: Connection, ask: Any, asked: Any, size: int
    ) -> None:
        assert from_thread(lambda: ask(ref))
        assert connection.asked_from_threads == [(size, *asked)]
        assert connection.asked == []

    def test_a_ref_returns_false_when_its_connection_refuses(
        self, ref: Ref, connection: Connection, ask: Any, asked: Any, size: int
    ) -> None:
        connection.answer = False
        assert not ask(ref)
        assert not from_thread(lambda: ask(ref))

    def test_a_ref_returns_false_when_its_connection_is_gone(
        self, ref: Ref, registry: Registry, ask: Any, asked: Any, size: int
    ) -> None:
        registry.remove(Connection())
        assert not ask(ref)
        assert not from_thread(lambda: ask(ref))


class TestMessages:
    def test_a_ref_copies_bytes_that_may_change(self, ref: Ref, connection: Connection) -> None:
        data: Any = bytearray(b"now")
        view: Any = memoryview(data)
        ref.send(data)
        ref.send(view)
        data[:] = b"and"
        assert connection.asked == [(CALL + 3, "send", b"now")] * 2
        assert all(type(message) is bytes for _, _, message in connection.asked)


class TestWhatBecomesOfASend:
    def test_a_send_says_what_has_become_of_the_message(
        self, ref: Ref, registry: Registry, connection: Connection
    ) -> None:
        assert ref.send("x") is Sent.ACCEPTED
        assert from_thread(lambda: ref.send("x")) is Sent.WAITING
        connection.answer = False
        assert ref.send("x") is Sent.DROPPED
        registry.remove(connection)
        assert ref.send("x") is Sent.DROPPED

    def test_a_ref_says_how_much_waits_in_any_thread(
        self, ref: Ref, registry: Registry, connection: Connection
    ) -> None:
        assert ref.waiting == from_thread(lambda: ref.waiting) == 7
        registry.remove(connection)
        assert ref.waiting == from_thread(lambda: ref.waiting) == 0

    def test_output_drains_only_while_the_connection_is_there(
        self, ref: Ref, registry: Registry, connection: Connection
    ) -> None:
        drained: list[bool] = []
        ref.drained().addCallback(drained.append)
        registry.remove(connection)
        ref.drained().addCallback(drained.append)
        assert drained == [True, False]

    def test_only_the_reactors_thread_can_wait_until_output_has_drained(self, ref: Ref) -> None:
        def wait() -> str:
            with pytest.raises(RuntimeError) as error:
                ref.drained()
            return str(error.value)

        assert from_thread(wait) == "drained() works in the reactor's thread only; in other threads, look at waiting"


WRONG: list[Any] = [
    (lambda ref: ref.subscribe(b"room"), TypeError, "^a topic is a str, not bytes$"),
    (lambda ref: ref.unsubscribe(b"room"), TypeError, "^a topic is a str, not bytes$"),
    (lambda ref: ref.subscribe(""), ValueError, "^a topic has 1 to 255 bytes, not 0$"),
    (lambda ref: ref.unsubscribe(""), ValueError, "^a topic has 1 to 255 bytes, not 0$"),
    (lambda ref: ref.subscribe("rooms.>.7"), ValueError, "'>' can only be the last token: 'rooms.>.7'$"),
    (lambda ref: ref.send(7), TypeError, "a message is a str or bytes, not int"),
    (lambda ref: ref.send(None), TypeError, "a message is a str or bytes, not NoneType"),
    (lambda ref: ref.send("\ud800"), UnicodeEncodeError, "surrogates not allowed"),
    (lambda ref: ref.ping(bytes(126)), ValueError, "at most 125 bytes, not 126"),
    (lambda ref: ref.ping(7), TypeError, "a str or bytes, not int"),
    (lambda ref: ref.ping("\ud800"), UnicodeEncodeError, "surrogates not allowed"),
    (lambda ref: ref.close(1005), ValueError, "1005 is not a close code to send"),
    (lambda ref: ref.close(None, "bye"), ValueError, "'bye' can't be the reason of a Close without a code"),
    (lambda ref: ref.close(1000, b"bytes"), ValueError, "b'bytes' is not a close reason"),
    (lambda ref: ref.close(1000, "\ud800"), UnicodeEncodeError, "surrogates not allowed"),
]


@pytest.mark.parametrize(("ask", "error", "text"), WRONG)
def test_a_wrong_argument_raises_in_the_caller(
    ref: Ref, registry: Registry, ask: Any, error: type[Exception], text: str
) -> None:
    """It raises at once, not later in the reactor, and whether or not the connection is still there."""
    with pytest.raises(error, match=text):
        ask(ref)
    registry.remove(Connection())
    with pytest.raises(error, match=text):
        ask(ref)


class TestRef:
    def test_a_ref_provides_iref(self, ref: Ref) -> None:
        verifyObject(IRef, ref)

    def test_refs_of_the_same_connection_are_equal(self, ref: Ref, registry: Registry) -> None:
        assert ref == Ref(registry, "c1")
        assert hash(ref) == hash(Ref(registry, "c1"))
        assert len({ref, Ref(registry, "c1"), Ref(registry, "c2")}) == 2

    def test_refs_of_different_connections_differ(self, ref: Ref, registry: Registry) -> None:
        assert ref != Ref(registry, "c2")
        assert ref != Ref(Registry(ReactorThread(MemoryReactor())), "c1")
        assert ref != "c1"

    def test_a_ref_names_its_connection(self, ref: Ref) -> None:
        assert repr(ref) == "<Ref c1>"
        assert ref.id == "c1"

    def test_a_ref_does_not_keep_its_connection_alive(self, registry: Registry) -> None:
        connection = Connection()
        registry.add(connection)
        ref = Ref(registry, "c1")
        ref.info("there")
        registry.remove(connection)
        gone = weakref.ref(connection)
        del connection
        gc.collect()
        assert gone() is None
        assert ref.info("not there") is False

    def test_a_ref_takes_no_further_attributes(self, ref: Ref) -> None:
        with pytest.raises(AttributeError):
            ref.room = 1
