from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from zope.interface.verify import verifyObject

from tests.memory import MemoryReactor
from wshost.connections.confirmation import SECONDS
from wshost.connections.homes import HOMES
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


#: Another connection, of a server that is none of these tests'.
OTHER = Ref(Registry(ReactorThread(MemoryReactor())), "c2")

ASK: list[Any] = [
    (lambda ref: ref.subscribe("room"), ("subscribe", "room"), CALL),
    (lambda ref: ref.subscribe("room", tell_lost=True), ("subscribe", "room", True), CALL),
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
    (lambda ref: ref.monitor(OTHER), ("monitor", OTHER), CALL),
    (lambda ref: ref.demonitor(OTHER), ("demonitor", OTHER), CALL),
    (lambda ref: ref.watch("room"), ("watch", "room"), CALL),
    (lambda ref: ref.unwatch("room"), ("unwatch", "room"), CALL),
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
    (lambda ref: ref.subscribe("room", 1), TypeError, "^tell_lost is True or False, not int$"),
    (lambda ref: ref.unsubscribe(b"room"), TypeError, "^a topic is a str, not bytes$"),
    (lambda ref: ref.subscribe(""), ValueError, "^a topic has 1 to 255 bytes, not 0$"),
    (lambda ref: ref.unsubscribe(""), ValueError, "^a topic has 1 to 255 bytes, not 0$"),
    (lambda ref: ref.subscribe("rooms.>.7"), ValueError, "'>' can only be the last token: 'rooms.>.7'$"),
    (lambda ref: ref.monitor("c1"), TypeError, "^a reference is wanted, not str$"),
    (lambda ref: ref.demonitor(None), TypeError, "^a reference is wanted, not NoneType$"),
    (lambda ref: ref.watch(7), TypeError, "^a topic is a str, not int$"),
    (lambda ref: ref.watch("rooms.*"), ValueError, "to a topic, not to a pattern"),
    (lambda ref: ref.unwatch(""), ValueError, "^a topic has 1 to 255 bytes, not 0$"),
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

    def test_a_ref_knows_the_run_of_the_server_in_which_its_connection_lives(self, ref: Ref) -> None:
        assert str(ref).split(".")[1] == ref.boot

    def test_refs_of_different_connections_differ(self, ref: Ref, registry: Registry) -> None:
        assert ref != Ref(registry, "c2")
        assert ref != Ref(Registry(ReactorThread(MemoryReactor())), "c1")
        assert ref != "c1"

    def test_a_ref_names_its_connection(self, ref: Ref) -> None:
        home = ref._registry.home
        assert ref.id == "c1"
        assert str(ref) == f"{home.node}.{home.boot}.c1"
        assert repr(ref) == f"<Ref {ref}>"

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

    def test_a_ref_never_changes(self, ref: Ref) -> None:
        with pytest.raises(AttributeError, match=r"^a reference never changes: id can't be set$"):
            ref.id = "c2"
        with pytest.raises(AttributeError, match=r"^a reference never changes: id can't be deleted$"):
            del ref.id
        assert ref.id == "c1"


#: Texts that are nearly references, and some that are.
ALMOST = r"[a-zü.]{1,3}\.[\w-]{10,12}\.w?[0-9]?c[0-9]{0,3}\n?"
KEY = b"sixteen or more bytes"


class TestText:
    """A ref goes to other processes, and comes back, as text."""

    @pytest.fixture(autouse=True)
    def known(self, registry: Registry) -> None:
        HOMES.add(registry)

    def test_a_text_names_the_same_connection(self, ref: Ref, connection: Connection) -> None:
        parsed = Ref.parse(str(ref))
        assert (parsed, hash(parsed)) == (ref, hash(ref))
        assert parsed.send("x") is Sent.ACCEPTED
        assert connection.asked == [(CALL + 1, "send", "x")]

    @pytest.mark.parametrize(
        "again", [copy.copy, copy.deepcopy, *(lambda ref, p=p: pickle.loads(pickle.dumps(ref, p)) for p in range(6))]
    )
    def test_a_copy_or_a_pickle_is_equal(self, ref: Ref, again: Any) -> None:
        # twistd imports it, and it changes how methods are pickled.
        import_module("twisted.persisted.styles")
        assert again(ref) == ref
        assert type(again(ref)) is Ref

    def test_a_signed_text_is_parsed_with_its_key_only(self, ref: Ref) -> None:
        signed = ref.signed(KEY)
        assert Ref.parse(signed, KEY) == ref
        for text, key in ((signed, None), (str(ref), KEY), (signed, KEY + b"x"), (signed, b"another key of more")):
            with pytest.raises(ValueError, match="reference"):
                Ref.parse(text, key)

    def test_a_client_can_make_no_other_ref_of_a_signed_one(self, ref: Ref) -> None:
        signed = ref.signed(KEY)
        for position in range(len(signed)):
            for changed in ("A", "B", ".", ""):
                text = signed[:position] + changed + signed[position + 1 :]
                if text != signed:
                    with pytest.raises(ValueError, match="was not signed"):
                        Ref.parse(text, KEY)

    def test_a_key_is_of_enough_bytes(self, ref: Ref) -> None:
        with pytest.raises(ValueError, match="at least 16 bytes, not 15"):
            ref.signed(bytes(15))
        text: Any = "x" * 16
        with pytest.raises(TypeError):
            ref.signed(text)
        with pytest.raises(TypeError):
            Ref.parse(ref.signed(KEY), text)

    @pytest.mark.parametrize("text", [None, 7, b"web-1.hD3kP0aQ9zE.c17", ["c1"]])
    def test_a_reference_is_a_str(self, text: Any) -> None:
        for key in (None, KEY):
            with pytest.raises(TypeError):
                Ref.parse(text, key)

    @settings(derandomize=True, max_examples=150, deadline=None, database=None)
    @given(st.text() | st.from_regex(ALMOST, fullmatch=True), st.booleans())
    @example("\ud800", True)
    @example("\ud800", False)
    @example("web-1.hD3kP0aQ9zE.c17\n", False)
    @example("web-1.hD3kP0aQ9zE.c١", False)
    def test_any_text_is_a_reference_or_a_value_error(self, text: str, signed: bool) -> None:
        try:
            parsed = Ref.parse(text, KEY if signed else None)
        except ValueError:
            return
        assert str(parsed) == text
        assert parsed.send("x") is Sent.DROPPED

    def test_a_ref_of_another_run_is_another(self, ref: Ref) -> None:
        other = Ref.parse(f"{ref._registry.home.node}.hD3kP0aQ9zE.c1")
        assert other != ref
        assert results_of(other.send("x", confirm=True)) == [Outcome.UNREACHABLE]


def results_of(waiter: Any) -> list[Any]:
    """What a Deferred has fired with."""
    fired: list[Any] = []
    waiter.addBoth(fired.append)
    return fired


class TestConfirmed:
    def test_a_connection_is_asked_for_what_becomes_of_a_message(self, ref: Ref, connection: Connection) -> None:
        assert results_of(ref.send("x", "key", confirm=True, timeout=2)) == [Outcome.WRITTEN]
        assert results_of(ref.send("y", confirm=True)) == [Outcome.WRITTEN]
        assert connection.asked == [(CALL + 1, "send", "x", "key", 2.0), (CALL + 1, "send", "y", None, SECONDS)]

    def test_a_connection_that_is_not_found_is_gone_unless_another_process_may_have_it(
        self, registry: Registry
    ) -> None:
        ref = Ref(registry, "c2")
        assert results_of(ref.send("x", confirm=True)) == [Outcome.GONE]
        registry.shares_home = True
        assert results_of(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]

    def test_only_the_reactors_thread_can_wait(self, ref: Ref, connection: Connection) -> None:
        def wait() -> str:
            with pytest.raises(RuntimeError) as error:
                ref.send("x", confirm=True)
            return str(error.value)

        assert from_thread(wait) == "confirm works in the reactor's thread only"
        assert connection.asked == []

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
    def test_a_timeout_is_positive_and_finite(self, ref: Ref, connection: Connection, timeout: float) -> None:
        with pytest.raises(ValueError, match="is no "):
            ref.send("x", confirm=True, timeout=timeout)
        assert connection.asked == []
