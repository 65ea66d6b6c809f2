"""When the server stops, pending answers still leave, within the drain timeout."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from wsproto.events import CloseConnection

from tests.memory import MemoryHost, Peer

BYE = ("close", 1001, "going away")


class Handler:
    """Answers when its gate is opened; echoes what begins with "echo"; notes the end."""

    def __init__(self) -> None:
        self.gates: list[Deferred[Any]] = []
        self.seen: list[Any] = []
        self.refs: list[Any] = []
        #: The gates that nobody waits for any more.
        self.cancelled: list[Deferred[Any]] = []

    def init(self, options: Any) -> None:
        self.refs.append(options["worker"])

    def handle(self, message: Any, state: Any) -> Any:
        self.seen.append(message)
        if message == ("info", "drain"):
            return ("noreply", state)
        if message[0] in {"text", "info"} and not message[1].startswith("echo"):
            self.gates.append(Deferred(self.cancelled.append))
            return self.gates[-1]
        return ("reply", message[1], state) if message[0] in {"text", "info"} else ("noreply", state)


class Stopping:
    """A host of such handlers with one client, which has asked for an answer."""

    def __init__(self, **limits: Any) -> None:
        self.handler = Handler()
        self.host = MemoryHost(self.handler, websocket_options={"ping_interval": 0}, **limits)
        self.peer: Peer = self.host.open()
        self.peer.text("slow")

    def answer(self) -> None:
        self.handler.gates.pop(0).callback(("reply", "the answer", None))


@pytest.fixture
def stopping() -> Stopping:
    return Stopping(drain_timeout=10.0)


def test_a_pending_answer_leaves_before_the_close_with_1001(stopping: Stopping) -> None:
    stopped = stopping.host.hub.stop()
    assert stopping.peer.messages() == []
    stopping.answer()
    assert stopping.peer.messages() == ["the answer", BYE]
    stopping.peer.leave()
    assert stopped.called
    assert stopping.host.idle()


def test_a_peer_without_a_pending_answer_gets_1001_at_once(stopping: Stopping) -> None:
    other = stopping.host.open()
    stopping.host.hub.stop()
    assert other.messages() == [BYE]


def test_messages_behind_a_pending_one_are_not_handled(stopping: Stopping) -> None:
    stopping.peer.text("slow, too")
    stopping.host.hub.stop()
    stopping.answer()
    assert stopping.peer.messages() == ["the answer", BYE]
    assert ("text", "slow, too") not in stopping.handler.seen


def test_infos_asked_before_the_stop_are_handled(stopping: Stopping) -> None:
    assert stopping.handler.refs[0].info("echoed info")
    stopping.host.hub.stop()
    stopping.answer()
    assert stopping.peer.messages() == ["the answer", "echoed info", BYE]


def test_refs_may_send_while_an_answer_is_pending(stopping: Stopping) -> None:
    stopping.host.hub.stop()
    assert stopping.handler.refs[0].send("progress")
    assert stopping.peer.messages() == ["progress"]


@pytest.mark.parametrize("result", [ValueError("on purpose"), "wrong"])
def test_a_pending_answer_that_fails_closes_with_1011(stopping: Stopping, result: Any) -> None:
    stopping.host.hub.stop()
    gate = stopping.handler.gates.pop()
    if isinstance(result, Exception):
        gate.errback(result)
    else:
        gate.callback(result)
    assert [message[:2] for message in stopping.peer.messages()] == [("close", 1011)]


def test_an_answer_that_never_comes_is_given_up_and_1001_sent(stopping: Stopping) -> None:
    stopping.host.hub.stop()
    stopping.peer.turn(8.9)
    assert stopping.peer.messages() == []
    stopping.peer.turn(0.1)
    assert stopping.peer.messages() == [BYE]
    stopping.peer.turn(1.0)
    assert stopping.peer.gone


def test_a_peers_close_is_answered_while_an_answer_is_pending(stopping: Stopping) -> None:
    stopping.host.hub.stop()
    stopping.answer()
    stopping.peer.leave()
    assert stopping.handler.seen[-1] == "connection_close"


def test_a_handler_that_stops_the_server_still_answers() -> None:
    """Who ends the server from a message still answers that."""

    class Ending(Handler):
        def handle(self, message: Any, state: Any) -> Any:
            if message == ("text", "end"):
                host.hub.stop()
                return ("reply", "ending", state)
            return ("noreply", state)

    host = MemoryHost(Ending())
    peer = host.open()
    peer.text("end")
    assert peer.messages() == ["ending", BYE]


def test_what_was_asked_of_a_ref_before_the_stop_is_done() -> None:
    handler = Handler()
    host = MemoryHost(handler)
    peer = host.open()
    assert handler.refs[0].info("echo the info")
    assert handler.refs[0].send("last")
    host.hub.stop()
    assert peer.messages() == ["echo the info", "last", BYE]


def test_a_peers_close_that_is_being_handled_is_answered_in_time() -> None:
    """Where the time for that ends behind the drain's."""

    class Slow(Handler):
        def handle(self, message: Any, state: Any) -> Any:
            return Deferred() if message[0] == "close" else super().handle(message, state)

    host = MemoryHost(Slow(), drain_timeout=2.0)
    peer = host.open()
    peer.send_event(CloseConnection(4000, "bye"))
    host.hub.stop()
    assert peer.messages() == []
    peer.turn(1.9)
    assert peer.messages() == [("close", 4000, "bye")]


class Telling:
    """Answers ("info", "drain") as the test says, and echoes texts."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[Any] = []

    def init(self, options: Any) -> Any:
        return options["worker"]

    def handle(self, message: Any, ref: Any) -> Any:
        self.seen.append(message)
        if message == ("info", "drain"):
            return self.answer(ref)
        return ("reply", message[1], ref) if message[0] == "text" else ("noreply", ref)


def raise_it(ref: Any) -> Any:
    raise ValueError("on purpose")


class TestInfoOfTheDrain:
    """Handlers of open connections get ("info", "drain") before the Close."""

    @pytest.mark.parametrize(
        ("answer", "sent"),
        [
            (lambda ref: ("noreply", ref), [BYE]),
            (lambda ref: ("reply", ["save", "soon"], ref), ["save", "soon", BYE]),
            (lambda ref: ("close", 4000, "moved", ref), [("close", 4000, "moved")]),
            (lambda ref: ("noreply", ref, ref.send("by ref"))[:2], ["by ref", BYE]),
            (lambda ref: ("noreply", ref, ref.info("one more"))[:2], [BYE]),
        ],
    )
    def test_the_answer_leaves_before_the_close(self, answer: Any, sent: list[Any]) -> None:
        handler = Telling(answer)
        host = MemoryHost(handler)
        peer = host.open()
        stopped = host.hub.stop()
        assert peer.messages() == sent
        peer.leave()
        assert stopped.called
        assert handler.seen[0] == ("info", "drain")
        assert handler.seen[-1] == "connection_close"

    def test_an_answer_that_is_awaited_leaves_before_the_close(self) -> None:
        gate: Deferred[Any] = Deferred()
        host = MemoryHost(Telling(lambda ref: gate), drain_timeout=10.0)
        peer = host.open()
        host.hub.stop()
        peer.turn(8.0)
        assert peer.messages() == []
        gate.callback(("reply", "saved", None))
        assert peer.messages() == ["saved", BYE]

    def test_an_answer_that_takes_too_long_is_not_waited_for(self) -> None:
        host = MemoryHost(Telling(lambda ref: Deferred()), drain_timeout=10.0)
        peer = host.open()
        host.hub.stop()
        peer.turn(9.0)
        assert peer.messages() == [BYE]

    def test_a_handler_that_raises_has_its_connection_closed_with_1011(self) -> None:
        host = MemoryHost(Telling(raise_it))
        peer = host.open()
        host.hub.stop()
        assert peer.messages() == [("close", 1011, "")]

    def test_the_message_that_is_being_handled_is_answered_first(self) -> None:
        gate: Deferred[Any] = Deferred()

        class Slow(Telling):
            def handle(self, message: Any, ref: Any) -> Any:
                answer = super().handle(message, ref)
                return gate if message == ("text", "slow") else answer

        handler = Slow(lambda ref: ("reply", "draining", ref))
        host = MemoryHost(handler)
        peer = host.open()
        peer.text("slow")
        host.hub.stop()
        assert handler.seen == [("text", "slow")]
        gate.callback(("reply", "the answer", None))
        assert peer.messages() == ["the answer", "draining", BYE]

    def test_a_handler_whose_client_has_closed_is_not_told(self) -> None:
        handler = Telling(raise_it)
        host = MemoryHost(handler)
        peer = host.open()
        peer.send_event(CloseConnection(1000))
        host.hub.stop()
        assert handler.seen == [("close", (1000, ""))]

    def test_a_full_queue_of_infos_does_not_keep_the_drain_out(self) -> None:
        host = MemoryHost(Telling(lambda ref: ("reply", "draining", ref)))
        peer = host.open()
        while peer.connection.ref.info("more"):
            pass
        host.hub.stop()
        said: list[Any] = []
        while not peer.gone:
            said += peer.messages()
            peer.turn(0.1)
        assert said == ["draining", BYE]


def test_a_handler_whose_answer_never_comes_is_cancelled_and_told_of_the_end(stopping: Stopping) -> None:
    stopped = stopping.host.hub.stop()
    stopping.peer.turn(10.0)
    assert stopping.peer.gone
    assert stopped.called
    assert stopping.handler.cancelled == stopping.handler.gates
    assert stopping.handler.seen[-1] == "connection_close"


def test_the_code_of_the_close_may_say_that_the_service_restarts() -> None:
    """IANA's registry of close codes has 1012 for it."""
    host = MemoryHost(Handler(), websocket_options={"drain_code": "1012"})
    peers = [host.open(), host.open()]
    peers[0].text("slow")
    host.hub.stop()
    assert peers[1].messages() == [("close", 1012, "service restart")]
    peers[0].turn(9.0)
    assert peers[0].messages() == [("close", 1012, "service restart")]


def test_a_handler_is_asked_until_its_connections_turn_to_close_comes() -> None:
    handler = Telling(lambda ref: ("reply", "move", ref))
    host = MemoryHost(handler, websocket_options={"ping_interval": 0}, drain_spread=4.0)
    peers = [host.open(), host.open()]
    host.hub.stop()
    [later] = [peer for peer in peers if peer.messages() == ["move"]]
    later.text("hello")
    assert later.messages() == ["hello"]
    later.turn(2.1)
    assert later.messages() == [BYE]
