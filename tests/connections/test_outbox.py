from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from tests.connections.modules import Module, in_threads, serve
from tests.connections.test_waiters import LIMIT, MUCH, act, infos, read, results
from tests.memory import Peer
from wshost.connections import outbox
from wshost.connections.outbox import BATCH
from wshost.connections.waiters import LOOK
from wshost.messages import CALL
from wshost.results import REFUSED, Close, Sent

pytestmark = pytest.mark.usefixtures("failures")


def connected(policy: str, action: Any = act) -> Peer:
    """A client whose module sends what it is told, and has this policy."""
    peer = serve(Module(action=action), max_output=LIMIT).connect()
    peer.connection.context.use_policy(policy)
    return peer


def blocked(policy: str = "drop_old", action: Any = act) -> Peer:
    """A client that reads nothing, and has been sent more than its transport takes."""
    peer = connected(policy, action)
    peer.transport.reading = False
    assert peer.connection.ref.send(MUCH) is Sent.ACCEPTED
    peer.turn()
    return peer


def rest(peer: Peer) -> bytes:
    """What comes after the output that has blocked the transport, once all is read."""
    read(peer)
    return peer.take().removeprefix(MUCH)


def dropped(peer: Peer) -> dict[str, int]:
    return dict(peer.hub.shared.account.dropped)


def part(name: bytes) -> bytes:
    """A message of which nine wait at the most."""
    return name * (LIMIT // 9 - CALL)


class TestDropOld:
    def test_messages_wait_behind_a_slow_peer_and_leave_in_order(self) -> None:
        peer = blocked()
        assert [peer.connection.ref.send(data) for data in (b"1", b"2", b"3")] == [Sent.WAITING] * 3
        assert rest(peer) == b"123"
        assert peer.connection.ref.send(b"4") is Sent.ACCEPTED
        assert (peer.take(), dropped(peer)) == (b"4", {})

    def test_the_oldest_make_room_and_are_counted(self) -> None:
        peer = blocked()
        for name in b"0123456789a":
            assert peer.connection.ref.send(part(bytes([name]))) is Sent.WAITING
        assert rest(peer) == b"".join(part(bytes([name])) for name in b"23456789a")
        assert dropped(peer) == {"drop_old": 2}

    def test_the_newest_message_waits_however_large_it_is(self) -> None:
        peer = blocked()
        peer.connection.ref.send(b"old")
        assert peer.connection.ref.send(b"x" * 2 * LIMIT) is Sent.WAITING
        assert rest(peer) == b"x" * 2 * LIMIT
        assert dropped(peer) == {"drop_old": 1}

    def test_a_number_of_messages_waits_at_the_most(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox, "MAX_MESSAGES", 3)
        peer = blocked()
        for name in (b"1", b"2", b"3", b"4"):
            peer.connection.ref.send(name)
        assert rest(peer) == b"234"

    def test_a_key_means_nothing(self) -> None:
        peer = blocked()
        peer.connection.ref.send(b"1", key="a")
        peer.connection.ref.send(b"2", "a")
        assert rest(peer) == b"12"


class TestConflate:
    def test_the_last_message_of_a_key_keeps_the_place_of_the_first(self) -> None:
        peer = blocked("conflate")
        for data, key in ((b"a1", "a"), (b"b1", "b"), (b"x", None), (b"a2", "a"), (b"y", None)):
            assert peer.connection.ref.send(data, key) is Sent.WAITING
        assert rest(peer) == b"a2b1xy"
        assert dropped(peer) == {"conflate": 1}

    def test_a_message_that_has_left_is_not_replaced(self) -> None:
        peer = connected("conflate")
        for data in (b"1", b"2"):
            assert peer.connection.ref.send(data, key="a") is Sent.ACCEPTED
        assert peer.take() == b"12"

    def test_others_make_room_even_for_one_in_the_oldest_place(self) -> None:
        peer = blocked("conflate")
        peer.connection.ref.send(b"small", key="a")
        for name in b"12345678":
            peer.connection.ref.send(part(bytes([name])))
        peer.connection.ref.send(part(b"a") * 2, key="a")
        assert rest(peer) == b"".join(part(bytes([name])) for name in b"2345678") + part(b"a") * 2
        assert dropped(peer) == {"conflate": 2}

    def test_what_waits_is_no_more_than_the_sizes_of_the_last_messages(self) -> None:
        peer = blocked("conflate")
        for size in (50, 10, 30):
            peer.connection.ref.send(bytes(size), key="a")
        assert peer.connection.ref.waiting == len(MUCH) + CALL + 30


class TestDropNew:
    def test_messages_beyond_the_limit_are_dropped_and_counted(self) -> None:
        peer = blocked("drop_new")
        ref = peer.connection.ref
        assert [ref.send(MUCH), ref.send(b"x"), ref.send(b"y")] == [Sent.WAITING, Sent.DROPPED, Sent.DROPPED]
        assert rest(peer) == MUCH
        assert dropped(peer) == {"drop_new": 2}
        assert infos(peer) == [["drained"]]


def test_without_a_policy_refused_messages_are_counted_too() -> None:
    peer = blocked("close")
    for _ in range(2):
        peer.connection.ref.send(MUCH)
    in_threads(lambda: peer.connection.ref.send(b"x"))
    peer.turn()
    assert dropped(peer) == {"close": 2}


class TestLeaving:
    def test_messages_leave_a_part_at_a_time_so_that_the_rest_may_still_be_dropped(self) -> None:
        peer = blocked()
        for _ in range(6):
            peer.connection.ref.send(b"x" * 16_000)
        peer.transport.drain()
        # Without a reader, the transport is blocked again by the first part.
        assert peer.transport.get_write_buffer_size() == 5 * 16_000
        assert peer.connection.ref.waiting == 5 * 16_000 + 16_000 + CALL
        assert BATCH < 5 * 16_000

    def test_a_message_that_is_sent_while_others_leave_stays_behind_them(self) -> None:
        def send(driver: Any, action: str, *args: Any) -> Any:
            if action == "drained":
                driver.context.ref.send(b"3")
            return act(driver, action, *args)

        peer = blocked(action=send)
        # The module's own output fills the buffer, so it is told when that has left.
        peer.connection.context.write(MUCH)
        for data in (b"1", b"2"):
            peer.connection.ref.send(data)
        assert rest(peer) == MUCH + b"123"

    def test_a_message_that_the_module_refuses_is_dropped(self) -> None:
        peer = blocked(action=lambda driver, action, *args: REFUSED if args == (b"no",) else act(driver, action, *args))
        for data in (b"1", b"no", b"2"):
            peer.connection.ref.send(data)
        assert rest(peer) == b"12"
        assert dropped(peer) == {"drop_old": 1}

    def test_nothing_more_leaves_when_the_module_ends_the_connection(self) -> None:
        peer = blocked(
            action=lambda driver, action, *args: Close(b"end") if args == (b"2",) else act(driver, action, *args)
        )
        for data in (b"1", b"2", b"3"):
            peer.connection.ref.send(data)
        assert rest(peer) == b"1end"

    def test_those_who_wait_for_the_peer_wait_for_these_messages_too(self) -> None:
        peer = blocked()
        for _ in range(6):
            peer.connection.ref.send(b"x" * 16_000)
        fired = results(peer.connection.ref.drained())
        peer.transport.drain()
        peer.turn()
        assert fired == []
        read(peer)
        peer.turn(LOOK)
        assert fired == [True]


class TestTheEndOfThePolicy:
    def test_a_module_gets_what_waits_and_then_none_does(self) -> None:
        peer = blocked()
        peer.connection.ref.send(b"1")
        context = peer.connection.context
        assert list(context.take_waiting()) == [b"1"]
        assert list(context.take_waiting()) == []
        peer.connection.ref.send(b"2")
        assert rest(peer) == b"2"

    def test_nothing_is_left_of_it_when_the_module_leaves(self) -> None:
        peer = blocked()
        peer.connection.ref.send(b"1")
        context = peer.connection.context
        context.leave("it switches")
        assert (context.outbox, context.policy, peer.connection.stream.patient) == (None, "close", False)
        assert rest(peer) == b""

    def test_a_closing_connection_takes_no_more(self) -> None:
        peer = blocked()
        peer.connection.context.perform(Close())
        told = [peer.connection.ref.send(b"x")]
        in_threads(lambda: told.append(peer.connection.ref.send(b"x")))
        assert told == [Sent.DROPPED] * 2
        assert dropped(peer) == {}

    def test_nothing_keeps_a_connection_that_is_gone(self) -> None:
        peer = blocked()
        peer.connection.ref.send(b"1")
        gone = weakref.ref(peer.connection)
        peer.leave()
        del peer
        gc.collect()
        assert gone() is None


class TestOtherThreads:
    def test_their_messages_wait_too(self) -> None:
        peer, told = blocked("conflate"), []
        for data in (b"1", b"2"):
            in_threads(lambda data=data: told.append(peer.connection.ref.send(data, key="a")))  # type: ignore[misc]
        peer.turn()
        assert told == [Sent.WAITING] * 2
        assert rest(peer) == b"2"

    def test_too_many_of_their_calls_are_refused(self) -> None:
        peer, told = connected("drop_old"), []
        for _ in range(3):
            in_threads(lambda: told.append(peer.connection.ref.send(MUCH)))
        assert told == [Sent.ACCEPTED, Sent.ACCEPTED, Sent.DROPPED]
        peer.turn()
        assert dropped(peer) == {"drop_old": 1}


class TestKeys:
    def test_a_key_is_checked_whatever_the_policy(self) -> None:
        ref = connected("close").connection.ref
        with pytest.raises(TypeError, match="a key is a str, not int"):
            ref.send(b"x", key=1)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="a key has 1 to 255 bytes, not 256"):
            ref.send(b"x", key="x" * 256)
        assert ref.send(b"x", key="x" * 255) is Sent.ACCEPTED
