"""What is said of messages that are to be confirmed, whatever becomes of them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from zope.interface import alsoProvides, implementer_only

from tests.connections.modules import Driver, Module, serve
from tests.connections.test_waiters import LIMIT, MUCH, read, results
from tests.memory import MemoryHost, Peer
from wshost.connections.context import MAX_KEPT
from wshost.connections.waiters import LOOK, MAX_WAITERS
from wshost.interfaces import IConfirmingDriver, IProtocolDriver
from wshost.messages import CALL
from wshost.results import REFUSED, Close, Outcome, Sent

pytestmark = pytest.mark.usefixtures("failures")


def act(driver: Any, action: str, *args: Any) -> Any:
    """Send what is to be sent, and confirm it; refuse what is "no"."""
    if action not in {"send", "confirm"} or args[0] == b"no":
        return None if action == "drained" else REFUSED
    driver.context.write(args[0])
    if action == "confirm":
        args[1](True)
    return None


def confirms(driver: Any) -> None:
    alsoProvides(driver, IConfirmingDriver)


def connected(start: Any = confirms, **limits: Any) -> Peer:
    return serve(Module(start=start, action=act), max_output=LIMIT, **limits).connect()


def blocked(policy: str = "close", start: Any = confirms) -> Peer:
    """A client that reads nothing, and has been sent more than its transport takes."""
    peer = connected(start)
    peer.connection.context.use_policy(policy)
    peer.transport.reading = False
    peer.connection.ref.send(MUCH)
    peer.turn()
    return peer


def send(peer: Peer, *messages: bytes, key: str | None = None, timeout: float = 5) -> list[Any]:
    """What becomes of these messages, once that is known."""
    return results(*(peer.connection.ref.send(data, key, confirm=True, timeout=timeout) for data in messages))


def dropped(peer: Peer) -> dict[str, int]:
    return dict(peer.hub.shared.account.dropped)


class TestWritten:
    def test_a_message_that_left_was_written_and_nobody_is_told_within_the_call(self) -> None:
        peer = connected()
        fired = send(peer, b"1", b"2")
        assert fired == []
        peer.turn(LOOK)
        assert (fired, peer.take()) == ([Outcome.WRITTEN] * 2, b"12")

    def test_a_message_behind_other_output_is_written_when_all_has_left(self) -> None:
        peer = blocked()
        fired = send(peer, b"x")
        peer.turn(1)
        assert fired == []
        read(peer)
        peer.turn(LOOK)
        assert fired == [Outcome.WRITTEN]

    @pytest.mark.parametrize("policy", ["drop_old", "conflate"])
    def test_a_message_that_has_waited_outside_is_written_when_it_has_left(self, policy: str) -> None:
        peer = blocked(policy)
        fired = send(peer, b"1", b"2")
        peer.turn(1)
        assert fired == []
        read(peer)
        peer.turn(LOOK)
        assert (fired, peer.take()) == ([Outcome.WRITTEN] * 2, MUCH + b"12")

    def test_nothing_is_left_of_it(self) -> None:
        host = serve(Module(start=confirms, action=act))
        peer = host.connect()
        fired = send(peer, b"x", timeout=300)
        peer.turn(LOOK)
        assert fired == [Outcome.WRITTEN]
        assert peer.connection._confirmations == {}
        peer.leave()
        assert host.idle()


class TestDropped:
    @pytest.mark.parametrize("policy", ["close", "drop_new"])
    def test_a_message_for_a_full_connection_is_dropped_and_counted(self, policy: str) -> None:
        peer = blocked(policy)
        peer.connection.ref.send(MUCH)
        fired = send(peer, b"x")
        assert fired == []
        peer.turn()
        assert (fired, dropped(peer)) == ([Outcome.OVERFLOW], {policy: 1})

    def test_a_message_that_makes_room_for_others_is_dropped(self) -> None:
        peer = blocked("drop_old")
        fired = send(peer, b"old", b"x" * LIMIT)
        peer.turn()
        assert (fired, dropped(peer)) == ([Outcome.OVERFLOW], {"drop_old": 1})
        read(peer)
        peer.turn(LOOK)
        assert fired == [Outcome.OVERFLOW, Outcome.WRITTEN]

    def test_a_message_whose_place_another_takes_is_dropped(self) -> None:
        peer = blocked("conflate")
        fired = send(peer, b"1", b"2", key="k")
        peer.connection.ref.send(b"3", "k")
        peer.turn()
        assert fired == [Outcome.OVERFLOW] * 2
        read(peer)
        assert peer.take() == MUCH + b"3"

    def test_a_message_that_the_module_refuses_is_not_written(self) -> None:
        peer = blocked("drop_old")
        fired = send(peer, b"no", b"yes")
        read(peer)
        peer.turn(LOOK)
        assert (fired, peer.take()) == ([Outcome.GONE, Outcome.WRITTEN], MUCH + b"yes")
        assert dropped(peer) == {"drop_old": 1}


class TestGone:
    @pytest.mark.parametrize("policy", ["close", "drop_old"])
    def test_a_message_that_waits_when_the_peer_leaves_was_not_written(self, policy: str) -> None:
        peer = blocked(policy)
        fired = send(peer, b"x")
        peer.turn()
        peer.leave()
        peer.turn()
        assert fired == [Outcome.GONE]
        assert send(peer, b"y") == [Outcome.GONE]

    def test_a_message_for_a_closing_connection_is_not_written(self) -> None:
        peer = connected()
        peer.connection.context.perform(Close())
        fired = send(peer, b"x")
        peer.turn()
        assert fired == [Outcome.GONE]

    def test_output_that_an_abort_has_thrown_away_was_not_written(self) -> None:
        peer = connected()
        peer.transport.reading = False
        fired = send(peer, b"x")
        peer.connection.stream.flush()
        peer.connection.abort("on purpose")
        peer.transport._buffer = b""
        peer.turn()
        peer.turn()
        assert fired == [Outcome.GONE]

    def test_nothing_is_left_of_it(self) -> None:
        host = serve(Module(start=confirms, action=act), max_output=LIMIT)
        peer = host.connect()
        peer.transport.reading = False
        peer.connection.ref.send(MUCH)
        fired = send(peer, b"1", b"2", timeout=300)
        peer.leave()
        peer.turn()
        assert fired == [Outcome.GONE] * 2
        assert host.idle()


class TestNotKnown:
    @pytest.mark.parametrize("policy", ["close", "drop_old"])
    def test_after_the_timeout_nothing_is_known(self, policy: str) -> None:
        peer = blocked(policy)
        fired = send(peer, b"x", timeout=1)
        peer.turn(0.9)
        assert fired == []
        peer.turn(0.2)
        assert fired == [Outcome.TIMEOUT]
        read(peer)
        assert (peer.take(), len(fired)) == (MUCH + b"x", 1)

    def test_of_too_many_that_wait_nothing_is_known(self) -> None:
        peer = blocked()
        fired = send(peer, *[b""] * MAX_WAITERS, b"x", b"y", timeout=300)
        peer.turn()
        peer.turn()
        assert fired == [Outcome.TIMEOUT] * 2
        read(peer)
        peer.turn(LOOK)
        assert fired[2:] == [Outcome.WRITTEN] * MAX_WAITERS

    @pytest.mark.parametrize("policy", ["close", "drop_old"])
    def test_of_a_module_that_says_nothing_nothing_is_known(self, policy: str) -> None:
        peer = blocked(policy, start=lambda driver: None)
        fired = send(peer, b"x")
        read(peer)
        assert (fired, peer.take()) == ([Outcome.TIMEOUT], MUCH + b"x")

    def test_a_message_that_such_a_module_refuses_is_not_written(self) -> None:
        peer = connected(start=lambda driver: None)
        fired = send(peer, b"no")
        peer.turn()
        assert fired == [Outcome.GONE]


class TestAModuleThatIsNotReady:
    def unready(self, start: Any = confirms, **limits: Any) -> Peer:
        peer = connected(start, **limits)
        peer.connection.context.keep_actions()
        return peer

    def test_a_message_is_written_once_the_module_is_ready(self) -> None:
        peer = self.unready()
        fired = send(peer, b"12345")
        assert peer.connection.ref.waiting == CALL + 5
        peer.turn(1)
        assert fired == []
        peer.connection.context.release_actions()
        peer.turn(LOOK)
        assert (fired, peer.take()) == ([Outcome.WRITTEN], b"12345")

    def test_a_module_that_says_nothing_sends_it_all_the_same(self) -> None:
        peer = self.unready(lambda driver: None)
        fired = send(peer, b"x", timeout=1)
        peer.connection.context.release_actions()
        assert (peer.take(), fired) == (b"x", [])
        peer.turn(1)
        assert fired == [Outcome.TIMEOUT]

    def test_too_much_is_not_kept(self) -> None:
        peer = self.unready()
        fired = send(peer, b"x" * LIMIT)
        peer.turn()
        assert fired == [Outcome.OVERFLOW]
        for _ in range(MAX_KEPT):
            peer.connection.ref.send(b"")
        fired = send(peer, b"x")
        peer.turn()
        assert fired == [Outcome.OVERFLOW]

    def test_it_may_never_be(self) -> None:
        peer = self.unready()
        fired = send(peer, b"x")
        peer.connection.context.perform(Close(b"no"))
        late = send(peer, b"y")
        assert peer.take() == b"no"
        assert late == [Outcome.GONE]
        peer.leave()
        assert fired == [Outcome.GONE]

    def test_a_message_behind_its_end_is_not_written(self) -> None:
        late: list[list[Any]] = []

        def end(driver: Any, action: str, *args: Any) -> Any:
            # This is carried out when the call has returned.
            driver.context.perform(Close(b"end"))
            late.append(results(driver.context.ref.send(b"x", confirm=True)))

        peer = serve(Module(start=confirms, action=end)).connect()
        peer.connection.ref.send(b"go")
        peer.turn(LOOK)
        assert (late, peer.take()) == ([[Outcome.GONE]], b"end")


@implementer_only(IProtocolDriver, IConfirmingDriver)
class Slow(Driver):
    """A driver that may not be asked from within users' code."""


class SlowModule(Module):
    def init(self, options: Any, context: Any) -> Any:
        return Slow(self, context)


class TestAModuleThatIsAskedLater:
    def test_a_message_is_written_after_the_call(self) -> None:
        peer = serve(SlowModule(action=act), max_output=LIMIT).connect()
        fired = send(peer, b"x")
        assert peer.connection.ref.waiting == CALL + 1
        peer.turn(LOOK)
        assert (fired, peer.take()) == ([Outcome.WRITTEN], b"x")

    def test_too_much_does_not_wait(self) -> None:
        peer = serve(SlowModule(action=act), max_output=LIMIT).connect()
        fired = send(peer, b"x" * LIMIT, b"y")
        peer.turn(LOOK)
        assert sorted(fired, key=str) == [Outcome.OVERFLOW, Outcome.WRITTEN]

    def test_a_message_that_it_refuses_is_not_written(self) -> None:
        peer = serve(SlowModule(action=act), max_output=LIMIT).connect()
        fired = send(peer, b"no")
        peer.turn(LOOK)
        assert fired == [Outcome.GONE]

    def test_a_connection_may_end_before(self) -> None:
        peer = serve(SlowModule(action=act), max_output=LIMIT).connect()
        fired = send(peer, b"x")
        peer.transport.lose(ConnectionError())
        peer.turn()
        peer.turn()
        assert (fired, peer.take()) == ([Outcome.GONE], b"")


class TestCancelled:
    @pytest.mark.parametrize("policy", ["close", "drop_old"])
    def test_a_message_whose_outcome_nobody_waits_for_is_sent(self, policy: str) -> None:
        peer = blocked(policy)
        waiting = peer.connection.ref.send(b"x", confirm=True)
        fired = results(waiting)
        waiting.cancel()
        assert [failure.type for failure in fired] == [CancelledError]
        assert peer.connection._confirmations == {}
        read(peer)
        assert (peer.take(), len(fired)) == (MUCH + b"x", 1)


class TestAnotherProcess:
    def test_a_connection_stays_while_an_outcome_is_waited_for(self) -> None:
        peer = connected()
        assert peer.connection.quiet
        fired = send(peer, b"x")
        peer.connection.stream.flush()
        assert not peer.connection.quiet
        peer.turn(LOOK)
        assert fired == [Outcome.WRITTEN]
        assert peer.connection.quiet


class Handler:
    """Sends to its own connection, and notes what is said of it, and whether a call of it was running then."""

    def __init__(self, begins: bool = False) -> None:
        self.begins = begins
        self.running = False
        self.ref: Any = None
        self.said: list[tuple[Any, bool]] = []

    def init(self, options: Any) -> None:
        self.ref = options["worker"]
        if self.begins:
            self.say("from init")

    def say(self, data: str) -> None:
        self.running = True
        self.ref.send(data, confirm=True).addCallback(lambda outcome: self.said.append((outcome, self.running)))
        self.running = False

    def handle(self, message: Any, state: Any) -> Any:
        if message[0] == "text":
            self.say(message[1])
        return ("noreply", state)


class TestAHandler:
    def test_it_is_told_when_it_is_not_running(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        peer.text("hello")
        peer.turn(LOOK)
        assert (handler.said, peer.messages()) == ([(Outcome.WRITTEN, False)], ["hello"])

    def test_it_may_send_while_it_begins(self) -> None:
        handler = Handler(begins=True)
        peer = MemoryHost(handler).open()
        peer.turn(LOOK)
        assert (handler.said, peer.messages()) == ([(Outcome.WRITTEN, False)], ["from init"])

    def test_after_the_peers_close_nothing_is_written(self) -> None:
        handler = Handler()
        peer = MemoryHost(handler).open()
        assert handler.ref.close()
        handler.say("x")
        peer.turn()
        assert handler.said == [(Outcome.GONE, False)]
        assert handler.ref.send("x") is Sent.DROPPED
