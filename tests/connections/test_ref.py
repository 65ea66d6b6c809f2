from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.memory import MemoryReactor
from wshost.connections.hub import Host
from wshost.connections.ref import INFO, Ref
from wshost.interfaces import IRef
from wshost.messages import CALL


class Connection:
    """A connection that notes what it is asked."""

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


@pytest.fixture
def connections() -> dict[str, Any]:
    return {"c1": Connection()}


@pytest.fixture
def ref(connections: dict[str, Any]) -> Ref:
    host = Host(MemoryReactor(), [])
    host.connections = connections
    return Ref(host, "c1")


def from_thread(call: Callable[[], Any]) -> Any:
    """What it returns when another thread calls it."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


ASK: list[Any] = [
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
    def test_in_the_reactors_thread_the_connection_decides_when(
        self, ref: Ref, connections: dict[str, Any], ask: Any, asked: Any, size: int
    ) -> None:
        assert ask(ref) is True
        assert connections["c1"].asked == [(size, *asked)]
        assert connections["c1"].asked_from_threads == []

    def test_in_another_it_goes_there_with_its_weight(
        self, ref: Ref, connections: dict[str, Any], ask: Any, asked: Any, size: int
    ) -> None:
        assert from_thread(lambda: ask(ref)) is True
        assert connections["c1"].asked_from_threads == [(size, *asked)]
        assert connections["c1"].asked == []

    def test_it_says_when_it_was_not_accepted(
        self, ref: Ref, connections: dict[str, Any], ask: Any, asked: Any, size: int
    ) -> None:
        connections["c1"].answer = False
        assert ask(ref) is False
        assert from_thread(lambda: ask(ref)) is False

    def test_a_dead_one_is_harmless(
        self, ref: Ref, connections: dict[str, Any], ask: Any, asked: Any, size: int
    ) -> None:
        connections.clear()
        assert ask(ref) is False
        assert from_thread(lambda: ask(ref)) is False


class Topics:
    """The topics of a host: notes what they are asked."""

    def __init__(self) -> None:
        self.answer = True
        self.asked: list[tuple[Any, ...]] = []

    def act(self, *what: Any) -> bool:
        self.asked.append(what)
        return self.answer


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
class TestTopics:
    @pytest.fixture
    def topics(self, ref: Ref) -> Topics:
        topics = Topics()
        host: Any = ref._host
        host.topics = topics
        return topics

    @pytest.mark.parametrize("answer", [True, False])
    def test_are_asked_at_once_in_the_reactors_thread(
        self, ref: Ref, connections: dict[str, Any], topics: Topics, action: str, answer: bool
    ) -> None:
        topics.answer = answer
        assert getattr(ref, action)("room") is answer
        assert topics.asked == [(connections["c1"], action, "room")]

    def test_are_asked_by_the_connection_from_another(
        self, ref: Ref, connections: dict[str, Any], topics: Topics, action: str
    ) -> None:
        assert from_thread(lambda: getattr(ref, action)("room")) is True
        assert connections["c1"].asked_from_threads == [(CALL, action, "room")]
        assert topics.asked == []

    def test_of_a_dead_one_are_harmless(
        self, ref: Ref, connections: dict[str, Any], topics: Topics, action: str
    ) -> None:
        connections.clear()
        assert getattr(ref, action)("room") is False

    def test_have_names_that_are_checked_at_once(
        self, ref: Ref, connections: dict[str, Any], topics: Topics, action: str
    ) -> None:
        with pytest.raises(TypeError, match=r"^a topic is a str, not bytes$"):
            getattr(ref, action)(b"room")
        with pytest.raises(ValueError, match=r"^a topic has 1 to 255 bytes, not 0$"):
            getattr(ref, action)("")
        assert topics.asked == []


class TestMessages:
    def test_bytes_that_may_change_are_taken_as_they_are_now(self, ref: Ref, connections: dict[str, Any]) -> None:
        data: Any = bytearray(b"now")
        view: Any = memoryview(data)
        ref.send(data)
        ref.send(view)
        data[:] = b"and"
        assert connections["c1"].asked == [(CALL + 3, "send", b"now")] * 2
        assert all(type(message) is bytes for _, _, message in connections["c1"].asked)


WRONG: list[Any] = [
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
def test_a_wrong_argument_is_told_to_who_gives_it(
    ref: Ref, connections: dict[str, Any], ask: Any, error: type[Exception], text: str
) -> None:
    """Not to the reactor, later; and whether or not anybody is there."""
    for _ in range(2):
        with pytest.raises(error, match=text):
            ask(ref)
        assert connections.get("c1", Connection()).asked == []
        connections.clear()


class TestRef:
    def test_provides_the_interface(self, ref: Ref) -> None:
        verifyObject(IRef, ref)

    def test_is_equal_to_others_of_the_same_connection(self, ref: Ref) -> None:
        assert ref == Ref(ref._host, "c1")
        assert hash(ref) == hash(Ref(ref._host, "c1"))
        assert len({ref, Ref(ref._host, "c1"), Ref(ref._host, "c2")}) == 2

    def test_differs_from_those_of_others(self, ref: Ref) -> None:
        assert ref != Ref(ref._host, "c2")
        assert ref != Ref(Host(MemoryReactor(), []), "c1")
        assert ref != "c1"

    def test_says_whose_it_is(self, ref: Ref) -> None:
        assert repr(ref) == "<Ref c1>"
        assert ref.id == "c1"

    def test_keeps_no_connection_alive(self, ref: Ref, connections: dict[str, Any]) -> None:
        ref.info("there")
        connection = weakref.ref(connections.pop("c1"))
        gc.collect()
        assert connection() is None

    def test_is_small(self, ref: Ref) -> None:
        assert not hasattr(ref, "__dict__")
