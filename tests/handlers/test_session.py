from __future__ import annotations

import asyncio
import gc
import sys
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.verify import verifyClass, verifyObject

from tests.handlers.surroundings import (
    CONNECTION,
    REF,
    Channel,
    Handler,
    begin,
    in_loop,
    open_session,
    quiet,
    turns,
    without_loop,
)
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.answers import WrongAnswer
from wshost.handlers.awaiting import MAX_NESTED
from wshost.handlers.session import INFOS_A_TURN, MAX_INFOS, HandlerSession
from wshost.interfaces import IAwaitingSession, IChannel, ISession
from wshost.results import Accept, Reject

pytestmark = pytest.mark.usefixtures(quiet.__name__)


@pytest.fixture
def channel() -> Channel:
    return Channel()


def returns(*answers: Any) -> Callable[[Any, Any], Any]:
    """A handle that gives one after the other."""
    rest = iter(answers)
    return lambda message, state: next(rest)


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any) -> Any:
        raise error

    return fail


def echo(message: Any, state: Any) -> Any:
    return ("noreply", state) if message == "connection_close" else ("reply", message[1], state)


class TestTheContract:
    def test_sessions_and_channels_provide_their_contracts(self, channel: Channel) -> None:
        verifyClass(ISession, HandlerSession)
        verifyObject(ISession, begin(Handler(), channel))
        verifyObject(IChannel, channel)


class TestInit:
    def test_init_gets_the_handlers_options_its_ref_and_its_connection(self, channel: Channel) -> None:
        given: list[Mapping[str, Any]] = []
        adapter = HandlerAdapter(Handler(init=given.append), {"room": "one", "worker": "mine", "connection": "mine"})
        adapter.session(channel, CONNECTION).open(REF)
        assert given == [{"room": "one", "worker": REF, "connection": CONNECTION}]

    @pytest.mark.parametrize("state", [None, "state", ("noreply", "state"), Accept(1, "chat", {"X-A": "b"})])
    @pytest.mark.parametrize("wrap", [lambda state: state, succeed])
    def test_init_accepts_by_returning_a_state(self, state: Any, wrap: Callable[[Any], Any], channel: Channel) -> None:
        session = begin(Handler(init=lambda options: wrap(state)), channel)
        assert channel.take() == [("accept", state if isinstance(state, Accept) else Accept(state))]
        assert not session.busy

    def test_the_state_of_init_is_the_first_that_handle_gets(self, channel: Channel) -> None:
        handler = Handler(init=lambda options: Accept("first"))
        begin(handler, channel).handle_message(("text", "hello"))
        assert handler.seen == [(("text", "hello"), "first")]

    @pytest.mark.parametrize("fails", [raises, lambda error: lambda options: fail(error)])
    def test_reject_is_answered_with_its_status_body_and_headers(self, fails: Any, channel: Channel) -> None:
        handler = Handler(init=fails(Reject(401, "who?", {"WWW-Authenticate": "Basic"})))
        session = begin(handler, channel)
        headers = {"WWW-Authenticate": "Basic", "Content-Type": "text/plain; charset=utf-8"}
        assert channel.take() == [("reject", 401, b"who?", headers)]
        assert channel.failures == []
        session.connection_lost()
        assert handler.seen == []

    def test_a_reject_that_can_not_be_sent_is_answered_with_500(self, channel: Channel) -> None:
        class Forgetful(Reject):
            def __init__(self) -> None:
                """Without what Reject's own does."""

        begin(Handler(init=raises(Forgetful())), channel)
        assert channel.take() == [("reject", 500, b"", {})]
        [(what, error)] = channel.failures
        assert (what, type(error)) == ("the handler's init failed", AttributeError)

    @pytest.mark.parametrize("fails", [raises, lambda error: lambda options: fail(error)])
    @pytest.mark.parametrize("error", [LookupError("no database"), asyncio.CancelledError(), defer.CancelledError()])
    def test_an_exception_of_init_is_logged_and_answered_with_500(
        self, fails: Any, error: BaseException, channel: Channel
    ) -> None:
        handler = Handler(init=fails(error))
        session = begin(handler, channel)
        assert channel.take() == [("reject", 500, b"", {})]
        assert channel.failures == [("the handler's init failed", error)]
        assert channel.crashes == [("handler", "init")]
        session.connection_lost()
        assert handler.seen == []

    def test_a_rejected_session_ignores_messages_and_infos(self, channel: Channel) -> None:
        handler = Handler(init=raises(Reject()))
        session = begin(handler, channel)
        channel.take()
        session.handle_message(("text", "hello"))
        assert session.handle_info("hello") is False
        assert (handler.seen, channel.calls, session.busy) == ([], [], False)

    def test_when_the_channel_fails_to_accept_the_connection_is_rejected_and_closed(self, channel: Channel) -> None:
        channel.then["accept"] = raises(ValueError())
        handler = Handler()
        session = begin(handler, channel)
        assert channel.take() == [("accept", Accept("state")), ("reject", 500, b"", {})]
        session.handle_message(("text", "hello"))
        session.connection_lost()
        assert handler.seen == [("connection_close", "state")]


class TestInitThatTakesItsTime:
    def test_a_session_is_busy_until_init_is_done(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session = begin(Handler(init=lambda options: gate), channel)
        assert session.busy
        assert channel.take() == []
        gate.callback("late")
        assert session.busy
        channel.turn()
        assert not session.busy
        assert channel.take() == [("accept", Accept("late")), ("proceed",)]
        assert channel.clock.getDelayedCalls() == []

    def test_a_late_reject_is_answered(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        begin(Handler(init=lambda options: gate), channel)
        gate.errback(Reject(404))
        assert channel.take() == [("reject", 404, b"", {})]
        assert channel.clock.getDelayedCalls() == []

    def test_infos_that_wait_for_init_are_dropped_when_it_rejects(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel)
        assert session.handle_info("dropped")
        gate.errback(Reject())
        channel.turn()
        assert (handler.seen, session.busy) == ([], False)

    def test_a_late_exception_is_answered_with_500(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        begin(Handler(init=lambda options: gate), channel)
        gate.errback(LookupError())
        assert channel.take() == [("reject", 500, b"", {})]
        assert channel.clock.getDelayedCalls() == []

    def test_init_that_takes_too_long_is_answered_with_503(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel, init_timeout=2.0)
        channel.clock.advance(1.9)
        assert channel.take() == []
        channel.clock.advance(0.1)
        assert channel.take() == [("reject", 503, b"", {})]
        session.connection_lost()
        assert channel.clock.getDelayedCalls() == []
        assert (channel.calls, channel.failures, handler.seen) == ([], [], [])

    @pytest.mark.parametrize(
        ("end", "calls"),
        [
            (partial(Deferred.callback, result="late"), [("accept", Accept("late")), ("proceed",)]),
            (partial(Deferred.errback, fail=Reject(404)), [("reject", 404, b"", {})]),
        ],
    )
    def test_init_that_is_done_is_in_time_however_long_the_turn_takes(
        self, end: Any, calls: Any, channel: Channel
    ) -> None:
        gate: Deferred[Any] = Deferred()
        begin(Handler(init=lambda options: gate), channel, init_timeout=2.0)
        end(gate)
        channel.clock.advance(2.0)
        assert channel.take() == calls

    def test_init_that_takes_too_long_is_cancelled(self, channel: Channel) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred(cancelled.append)
        begin(Handler(init=lambda options: gate), channel)
        channel.clock.advance(5.0)
        assert cancelled == [gate]

    def test_init_is_cancelled_when_the_connection_is_lost(self, channel: Channel) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred(cancelled.append)
        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel)
        session.connection_lost()
        assert cancelled == [gate]
        assert channel.clock.getDelayedCalls() == []
        assert (channel.calls, channel.failures, handler.seen) == ([], [], [])

    def test_a_cancelled_init_that_goes_on_sets_no_timer(self, channel: Channel) -> None:
        immortal: Deferred[Any] = Deferred()
        begin(Handler(init=lambda options: immortal.addErrback(lambda _: Deferred())), channel).connection_lost()
        assert (channel.calls, channel.clock.getDelayedCalls()) == ([], [])

    def test_an_error_of_the_channel_while_rejecting_is_raised_at_the_end_of_the_turn(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        channel.then["reject"] = raises(ValueError("of the channel"))
        session = begin(Handler(init=lambda options: gate), channel)
        gate.errback(LookupError())
        with pytest.raises(ValueError, match="of the channel"):
            channel.turn()
        assert not session.busy

    def test_an_error_of_the_channel_while_rejecting_what_has_failed_already_is_raised_at_once(
        self, channel: Channel
    ) -> None:
        channel.then["reject"] = raises(ValueError("of the channel"))
        with pytest.raises(ValueError, match="of the channel"):
            begin(Handler(init=lambda options: fail(LookupError())), channel)

    def test_a_cancelled_init_that_still_returns_a_state_gets_one_connection_close(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred(lambda deferred: deferred.callback(Accept("state")))
        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel)
        session.connection_lost()
        session.connection_lost()
        channel.turn()
        assert handler.seen == [("connection_close", "state")]
        assert channel.calls == []

    def test_a_state_that_comes_after_the_503_gets_a_connection_close(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        immortal: Deferred[Any] = Deferred()
        handler = Handler(init=lambda options: immortal.addErrback(lambda _: gate))
        session = begin(handler, channel)
        channel.clock.advance(5.0)
        session.connection_lost()
        assert channel.take() == [("reject", 503, b"", {})]
        gate.callback("state")
        channel.turn()
        assert handler.seen == [("connection_close", "state")]
        assert channel.calls == []

    @pytest.mark.parametrize("error", [Reject(), LookupError()])
    def test_a_late_exception_of_a_cancelled_init_is_logged(self, error: Exception, channel: Channel) -> None:
        handler = Handler(init=lambda options: Deferred(lambda deferred: deferred.errback(error)))
        begin(handler, channel).connection_lost()
        channel.turn()
        expected = (
            [] if isinstance(error, Reject) else [("the handler's init failed after it had been given up", error)]
        )
        assert channel.failures == expected
        assert (channel.calls, handler.seen) == ([], [])

    @pytest.mark.parametrize("turns", [0, 1])
    @without_loop
    def test_what_a_cancelled_init_awaits_in_the_end_is_cancelled_too(self, turns: int, channel: Channel) -> None:
        cancelled: list[Deferred[Any]] = []
        gate: Deferred[Any] = Deferred()
        then: Deferred[Any] = Deferred(cancelled.append)

        class Later:
            def __await__(self) -> Generator[Any, Any, Any]:
                return (yield from then.__await__())

        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel)
        gate.callback(Later())
        for _ in range(turns):
            channel.turn()
        session.connection_lost()
        channel.turn()
        assert cancelled == [then]

    def test_init_is_cancelled_at_once_if_it_has_lost_its_connection_itself(self, channel: Channel) -> None:
        cancelled: list[Deferred[Any]] = []
        sessions: list[ISession] = []

        def init(options: Mapping[str, Any]) -> Deferred[Any]:
            sessions[0].connection_lost()
            return Deferred(cancelled.append)

        sessions.append(HandlerAdapter(Handler(init=init), {}).session(channel, CONNECTION))
        sessions[0].open(REF)
        assert len(cancelled) == 1
        assert (channel.calls, channel.clock.getDelayedCalls()) == ([], [])

    def test_init_that_has_lost_its_connection_itself_and_returns_a_state_gets_a_connection_close(
        self, channel: Channel
    ) -> None:
        sessions: list[ISession] = []

        def init(options: Mapping[str, Any]) -> str:
            sessions[0].connection_lost()
            return "state"

        handler = Handler(init=init)
        sessions.append(HandlerAdapter(handler, {}).session(channel, CONNECTION))
        sessions[0].open(REF)
        assert handler.seen == [("connection_close", "state")]
        assert channel.calls == []


class TestHandle:
    @pytest.mark.parametrize(
        "message",
        [
            ("text", "hello"),
            ("binary", b"hello"),
            ("ping", b""),
            ("pong", b"data"),
            ("close", (1000, "bye")),
            ("close", (None, "")),
        ],
    )
    def test_handle_gets_every_message_and_the_state(self, message: Any, channel: Channel) -> None:
        handler = Handler()
        open_session(handler, channel).handle_message(message)
        assert handler.seen == [(message, "state")]
        assert channel.calls == []

    @pytest.mark.parametrize("wrap", [lambda answer: answer, succeed])
    @pytest.mark.parametrize(
        ("answer", "calls"),
        [
            (("noreply", "new"), []),
            (("reply", "text", "new"), [("send", "text")]),
            (("reply", b"binary", "new"), [("send", b"binary")]),
            (("reply", ["a", b"b"], "new"), [("send", "a"), ("send", b"b")]),
            (("reply", bytearray(b"a"), "new"), [("send", b"a")]),
            (("ping", "new"), [("ping", b"")]),
            (("ping", "data", "new"), [("ping", b"data")]),
            (("pong", "new"), [("pong", b"")]),
            (("pong", b"data", "new"), [("pong", b"data")]),
            (("close", "new"), [("close", 1000, "Normal close")]),
            (("close", 4000, "bye", "new"), [("close", 4000, "bye")]),
        ],
    )
    def test_every_answer_is_asked_of_the_channel_and_sets_the_state(
        self, answer: Any, calls: list[Any], wrap: Callable[[Any], Any], channel: Channel
    ) -> None:
        handler = Handler(returns(wrap(answer), ("noreply", "last")))
        session = open_session(handler, channel)
        session.handle_message(("text", "hello"))
        assert channel.take() == calls
        assert not session.busy
        session.connection_lost()
        assert handler.seen[1:] == [("connection_close", "new")]
        assert channel.failures == []

    def test_handle_gets_nothing_after_it_has_closed(self, channel: Channel) -> None:
        handler = Handler(lambda message, state: ("close", state))
        session = open_session(handler, channel)
        session.handle_message(("text", "hello"))
        session.handle_message(("close", (1000, "")))
        assert not session.handle_info("hello")
        assert channel.take() == [("close", 1000, "Normal close")]
        session.connection_lost()
        assert handler.seen == [(("text", "hello"), "state"), ("connection_close", "state")]
        assert channel.calls == []

    def test_each_call_of_handle_gets_the_state_of_the_one_before(self, channel: Channel) -> None:
        handler = Handler(lambda message, state: ("reply", str(state), state + 1), lambda options: 0)
        session = open_session(handler, channel)
        for _ in range(1_000):
            session.handle_message(("text", ""))
        assert channel.calls == [("send", str(number)) for number in range(1_000)]


class TestHandleThatFails:
    @pytest.mark.parametrize("fails", [raises, lambda error: lambda message, state: fail(error)])
    @pytest.mark.parametrize("error", [LookupError("gone"), asyncio.CancelledError(), defer.CancelledError(), Reject()])
    def test_an_exception_of_handle_is_logged_and_closes_with_1011(
        self, fails: Any, error: BaseException, channel: Channel
    ) -> None:
        """RFC 6455 §7.4.1."""
        answers = iter([lambda *_: ("noreply", "good"), fails(error), lambda *_: ("noreply", "worse")])

        def handle(message: Any, state: Any) -> Any:
            return next(answers)(message, state)

        handler = Handler(handle)
        session = open_session(handler, channel)
        session.handle_message(("text", "one"))
        session.handle_message(("text", "two"))
        assert channel.take() == [("close", 1011, "")]
        assert channel.failures == [("the handler's handle failed", error)]
        assert channel.crashes == [("handler", "handle")]
        session.handle_message(("text", "three"))
        assert not session.handle_info("four")
        assert not session.busy
        session.connection_lost()
        assert [message for message, _ in handler.seen] == [("text", "one"), ("text", "two"), "connection_close"]
        assert handler.seen[-1] == ("connection_close", "good")

    @pytest.mark.parametrize("wrap", [lambda answer: answer, succeed])
    @pytest.mark.parametrize("answer", [None, ("reply", 5, "worse"), ("reply", ["a", 5], "worse"), "reply"])
    def test_a_wrong_answer_is_logged_and_closes_with_1011(self, wrap: Any, answer: Any, channel: Channel) -> None:
        handler = Handler(returns(wrap(answer), ("noreply", "state")))
        session = open_session(handler, channel)
        session.handle_message(("text", "hello"))
        assert channel.take() == [("close", 1011, "")]
        ((_, error),) = channel.failures
        assert isinstance(error, WrongAnswer)
        assert str(error).startswith(f"handle returned {answer!r}: ")
        session.connection_lost()
        assert handler.seen[-1] == ("connection_close", "state")

    def test_a_message_that_the_channel_can_not_send_closes_with_1011(self, channel: Channel) -> None:
        error = UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        channel.then["send"] = raises(error)
        session = open_session(Handler(returns(("reply", "\ud800", None))), channel)
        session.handle_message(("text", "hello"))
        assert channel.take() == [("send", "\ud800"), ("close", 1011, "")]
        assert channel.failures == [("the handler's handle failed", error)]

    def test_an_exception_is_logged_with_the_traceback_of_where_it_was_raised(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session = open_session(Handler(lambda message, state: gate.addCallback(raises(LookupError()))), channel)
        names: list[str] = []

        def log_failure(what: str) -> None:
            error = sys.exception()
            names.extend(frame.name for frame in traceback.extract_tb(error.__traceback__ if error else None))

        channel.log_failure = log_failure  # type: ignore[method-assign]
        session.handle_message(("text", "hello"))
        gate.callback(None)
        channel.turn()
        assert names[-1] == "fail"


class TestHandleThatTakesItsTime:
    def test_a_session_is_busy_until_handle_is_done(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session = open_session(Handler(returns(gate)), channel)
        session.handle_message(("text", "hello"))
        assert session.busy
        assert channel.take() == []
        gate.callback(("reply", "done", "new"))
        assert session.busy
        assert channel.take() == [("send", "done"), ("proceed",)]
        assert not session.busy

    @pytest.mark.parametrize("answer", [("close", None), LookupError(), "wrong"])
    def test_the_channel_may_proceed_after_a_late_close(self, answer: Any, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session = open_session(Handler(returns(gate)), channel)
        session.handle_message(("text", "hello"))
        if isinstance(answer, Exception):
            gate.errback(answer)
        else:
            gate.callback(answer)
        assert [name for name, *_ in channel.take()] == ["close", "proceed"]
        assert not session.busy

    def test_handle_may_take_for_ever_while_its_connection_lasts(self, channel: Channel) -> None:
        session = open_session(Handler(returns(Deferred())), channel)
        session.handle_message(("text", "hello"))
        assert channel.clock.getDelayedCalls() == []
        assert session.busy


class TestInfo:
    def test_an_info_is_handled_at_the_end_of_the_turn(self, channel: Channel) -> None:
        handler = Handler(echo)
        session = open_session(handler, channel)
        assert session.handle_info("hello")
        assert handler.seen == []
        assert channel.take() == [("send", "hello"), ("proceed",)]
        assert handler.seen == [(("info", "hello"), "state")]
        assert not session.busy

    def test_infos_wait_for_init(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session = begin(Handler(echo, lambda options: gate), channel)
        assert session.handle_info("a")
        assert session.handle_info("b")
        gate.callback("state")
        assert channel.take() == [("accept", Accept("state")), ("send", "a"), ("send", "b"), ("proceed",)]

    def test_init_can_send_itself_an_info(self, channel: Channel) -> None:
        sessions: list[ISession] = []
        sessions.append(
            HandlerAdapter(Handler(echo, lambda options: sessions[0].handle_info("first")), {}).session(
                channel, CONNECTION
            )
        )
        sessions[0].open(REF)
        assert channel.take() == [("accept", Accept(True)), ("send", "first")]

    def test_infos_wait_for_the_message_being_handled(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(lambda message, state: gate if message[0] == "text" else echo(message, state))
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        assert session.handle_info("a")
        assert session.handle_info("b")
        assert channel.take() == []
        gate.callback(("reply", "done", "new"))
        assert channel.take() == [("send", "done"), ("send", "a"), ("send", "b"), ("proceed",)]
        assert handler.seen[1:] == [(("info", "a"), "new"), (("info", "b"), "new")]

    def test_the_answer_before_a_slow_info_is_not_held_up_by_it(self, channel: Channel) -> None:
        gates: list[Deferred[Any]] = [Deferred(), Deferred()]
        session = open_session(Handler(returns(*gates)), channel)
        session.handle_message(("text", ""))
        session.handle_info("a")
        gates[0].callback(("reply", "done", None))
        assert channel.take() == [("send", "done"), ("proceed",)]
        assert session.busy
        gates[1].callback(("reply", "info done", None))
        assert channel.take() == [("send", "info done"), ("proceed",)]
        assert not session.busy

    def test_an_info_sent_by_handle_is_handled_after_it(self, channel: Channel) -> None:
        """`options["worker"].info()` in `handle` comes back here at once."""
        order: list[str] = []
        sessions: list[ISession] = []

        def handle(message: Any, state: Any) -> Any:
            order.append(f"begin {message[1]}")
            if message[0] == "text":
                sessions[0].handle_info("inner")
            order.append(f"end {message[1]}")
            return ("reply", message[1], state)

        sessions.append(open_session(Handler(handle), channel))
        sessions[0].handle_message(("text", "outer"))
        assert order == ["begin outer", "end outer", "begin inner", "end inner"]
        assert channel.take() == [("send", "outer"), ("send", "inner")]

    def test_infos_are_not_taken_when_too_many_wait(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel)
        assert all(session.handle_info(number) for number in range(MAX_INFOS))
        assert not session.handle_info("one too many")
        gate.callback(None)
        channel.turn()
        while session.has_infos:
            channel.turn()
        assert [message[1] for message, _ in handler.seen] == list(range(MAX_INFOS))
        assert session.handle_info("there is room again")

    def test_there_is_always_room_for_the_info_that_the_server_stops(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(init=lambda options: gate)
        session = begin(handler, channel)
        assert all(session.handle_info(number) for number in range(MAX_INFOS))
        assert session.handle_info("drain")
        assert not session.handle_info("drain")
        gate.callback(None)
        channel.turn()
        while session.has_infos:
            channel.turn()
        assert [message[1] for message, _ in handler.seen] == [*range(MAX_INFOS), "drain"]

    def test_infos_of_users_types_are_not_compared(self, channel: Channel) -> None:
        class Info(str):
            def __eq__(self, other: object) -> bool:
                raise AssertionError

            __hash__ = str.__hash__

        gate: Deferred[Any] = Deferred()
        session = begin(Handler(init=lambda options: gate), channel)
        assert all(session.handle_info(number) for number in range(MAX_INFOS))
        assert not session.handle_info(Info("drain"))

    def test_a_handler_that_sends_itself_infos_without_end_lets_others_have_their_turn(self, channel: Channel) -> None:
        sessions: list[ISession] = []
        handler = Handler(lambda message, state: ("noreply", sessions[0].handle_info("next") and state))
        sessions.append(open_session(handler, channel))
        assert sessions[0].handle_info("first")
        channel.turn()
        assert len(handler.seen) == INFOS_A_TURN + 1
        assert not sessions[0].busy
        # A message of the peer's has its turn, too.
        sessions[0].handle_message(("text", "hello"))
        assert sessions[0].busy
        channel.turn()
        assert len(handler.seen) == 2 * (INFOS_A_TURN + 1)
        assert handler.seen[INFOS_A_TURN + 2][0] == ("text", "hello")
        assert not sessions[0].busy
        assert channel.calls == [("proceed",)] * 2
        sessions[0].connection_lost()
        channel.turn()
        assert handler.seen[-1] == ("connection_close", "state")
        assert channel.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("answer", [("close", None), "wrong"])
    def test_infos_are_dropped_when_the_handler_closes(self, answer: Any, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(returns(gate, ("noreply", None)))
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.handle_info("dropped")
        gate.callback(answer)
        session.connection_lost()
        channel.turn()
        assert [message for message, _ in handler.seen] == [("text", ""), "connection_close"]

    def test_an_info_is_handled_before_a_message_that_comes_later_in_the_turn(self, channel: Channel) -> None:
        handler = Handler(echo)
        session = open_session(handler, channel)
        assert session.handle_info("first")
        session.handle_message(("text", "second"))
        # And no other is to be delivered until then.
        assert session.busy
        assert channel.take() == [("send", "first"), ("send", "second"), ("proceed",)]
        assert not session.busy
        assert [message for message, _ in handler.seen] == [("info", "first"), ("text", "second")]

    def test_a_call_after_infos_is_made_between_those_before_and_those_after(self, channel: Channel) -> None:
        session = open_session(Handler(echo), channel)
        session.handle_info("a")
        assert session.has_infos
        session.after_infos(lambda: channel.send("between"))
        session.handle_info("b")
        assert channel.take() == [("send", "a"), ("send", "between"), ("send", "b"), ("proceed",)]
        assert not session.has_infos

    def test_a_call_after_infos_is_made_after_the_message_that_was_queued_too(self, channel: Channel) -> None:
        session = open_session(Handler(echo), channel)
        session.handle_info("a")
        session.handle_message(("text", "b"))
        session.after_infos(lambda: channel.send("behind"))
        assert channel.take() == [("send", "a"), ("send", "b"), ("send", "behind"), ("proceed",)]

    def test_a_call_after_infos_is_dropped_with_them(self, channel: Channel) -> None:
        session = open_session(Handler(echo), channel)
        session.handle_info("a")
        session.connection_lost()
        session.after_infos(lambda: channel.send("never"))
        assert channel.take() == []

    def test_it_says_whether_an_answer_is_awaited(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session: Any = open_session(Handler(lambda message, state: gate), channel)
        assert verifyObject(IAwaitingSession, session)
        assert not session.awaits
        session.handle_message(("text", "a"))
        assert session.awaits
        gate.callback(("noreply", None))
        channel.turn()
        assert not session.awaits

    def test_an_info_waits_for_the_slow_answer_to_a_message_before_it(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(lambda message, state: gate if message[0] == "text" else echo(message, state))
        session = open_session(handler, channel)
        session.handle_info("a")
        session.handle_message(("text", "slow"))
        session.handle_info("b")
        assert channel.take() == [("send", "a"), ("proceed",)]
        gate.callback(("reply", "done", "new"))
        assert channel.take() == [("send", "done"), ("send", "b"), ("proceed",)]

    def test_an_error_of_a_call_after_infos_is_raised_to_the_channel(self, channel: Channel) -> None:
        handler = Handler(echo)
        session = open_session(handler, channel)
        session.handle_info("a")
        session.after_infos(raises(LookupError("of the channel")))
        with pytest.raises(LookupError, match="of the channel"):
            channel.turn()
        assert not session.busy
        session.connection_lost()
        assert handler.seen[-1] == ("connection_close", "state")

    def test_infos_are_not_taken_while_the_channel_closes(self, channel: Channel) -> None:
        accepted: list[bool] = []
        session = open_session(Handler(lambda message, state: ("close", state)), channel)
        channel.then["close"] = lambda: accepted.append(session.handle_info("late"))
        session.handle_message(("text", ""))
        assert accepted == [False]


class TestConnectionClose:
    """Exactly once, last, however the connection ended."""

    def test_connection_close_comes_once_when_the_connection_is_lost(self, channel: Channel) -> None:
        handler = Handler(echo)
        session = open_session(handler, channel)
        session.handle_message(("text", "hello"))
        session.connection_lost()
        session.connection_lost()
        assert [message for message, _ in handler.seen] == [("text", "hello"), "connection_close"]

    @pytest.mark.parametrize(
        "answer", [("reply", "to whom?", None), ("close", None), ("noreply", None), None, 5, succeed(None)]
    )
    def test_the_answer_to_connection_close_is_ignored(self, answer: Any, channel: Channel) -> None:
        open_session(Handler(returns(answer)), channel).connection_lost()
        assert (channel.calls, channel.failures) == ([], [])

    def test_nothing_is_handled_after_connection_close(self, channel: Channel) -> None:
        handler = Handler()
        session = open_session(handler, channel)
        session.connection_lost()
        session.handle_message(("text", "hello"))
        assert session.handle_info("hello") is False
        assert handler.seen == [("connection_close", "state")]

    @pytest.mark.parametrize("fails", [raises, lambda error: lambda message, state: fail(error)])
    def test_an_exception_at_connection_close_is_logged(self, fails: Any, channel: Channel) -> None:
        error = LookupError()
        open_session(Handler(fails(error)), channel, name="chat").connection_lost()
        assert channel.failures == [("the handler's handle failed", error)]
        assert channel.crashes == [("chat", "connection_close")]
        assert channel.calls == []

    def test_what_is_cancelled_at_connection_close_is_not_logged(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        open_session(Handler(lambda message, state: gate), channel).connection_lost()
        gate.cancel()
        channel.turn()
        assert (channel.failures, channel.crashes) == ([], [])

    def test_a_late_exception_at_connection_close_is_logged(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        open_session(Handler(lambda message, state: gate), channel).connection_lost()
        error = LookupError()
        gate.errback(error)
        channel.turn()
        assert channel.failures == [("the handler's handle failed", error)]
        assert channel.calls == []

    @pytest.mark.parametrize("answer", [("reply", "to whom?", "new"), ("pong", "new"), ("close", "new")])
    def test_connection_close_comes_after_the_message_being_handled(self, answer: Any, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(returns(gate, ("noreply", None)))
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.handle_info("dropped")
        session.connection_lost()
        session.connection_lost()
        assert len(handler.seen) == 1
        assert session.handle_info("late") is False
        gate.callback(answer)
        channel.turn()
        assert handler.seen[1:] == [("connection_close", "new")]
        assert (channel.calls, channel.failures, channel.clock.getDelayedCalls()) == ([], [], [])

    @pytest.mark.parametrize("answer", [LookupError(), "wrong"])
    def test_connection_close_comes_after_an_answer_that_fails(self, answer: Any, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Handler(returns(gate, ("noreply", None)))
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.connection_lost()
        if isinstance(answer, Exception):
            gate.errback(answer)
        else:
            gate.callback(answer)
        channel.turn()
        assert handler.seen[1:] == [("connection_close", "state")]
        assert len(channel.failures) == 1
        assert channel.calls == []

    def test_connection_close_comes_after_the_grace_and_handle_is_cancelled(self, channel: Channel) -> None:
        cancelled: list[Deferred[Any]] = []
        handler = Handler(returns(Deferred(cancelled.append), ("noreply", None)))
        session = open_session(handler, channel, close_grace=3.0)
        session.handle_message(("text", ""))
        session.connection_lost()
        channel.clock.advance(2.9)
        assert (len(handler.seen), cancelled) == (1, [])
        channel.clock.advance(0.1)
        assert len(cancelled) == 1
        assert handler.seen[1:] == [("connection_close", "state")]
        assert (channel.calls, channel.failures, channel.clock.getDelayedCalls()) == ([], [], [])

    def test_connection_close_comes_after_the_grace_even_if_handle_goes_on(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        immortal: Deferred[Any] = Deferred()
        handler = Handler(returns(immortal.addErrback(lambda _: gate), ("noreply", None)))
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.connection_lost()
        channel.clock.advance(10.0)
        assert handler.seen[1:] == [("connection_close", "state")]
        gate.callback(("reply", "at last", "too late"))
        assert len(handler.seen) == 2
        assert (channel.calls, channel.failures, channel.clock.getDelayedCalls()) == ([], [], [])

    def test_connection_close_comes_even_if_cancelling_fails(self, channel: Channel) -> None:
        error = LookupError()
        handler = Handler(returns(Deferred(raises(error)), ("noreply", None)))
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.connection_lost()
        channel.clock.advance(10.0)
        assert handler.seen[1:] == [("connection_close", "state")]
        assert channel.failures == [("what the handler waits for can't be cancelled", error)]

    def test_connection_close_comes_after_a_handle_that_loses_the_connection(self, channel: Channel) -> None:
        sessions: list[ISession] = []

        def handle(message: Any, state: Any) -> Any:
            if message != "connection_close":
                sessions[0].connection_lost()
            return ("reply", "to whom?", "new")

        handler = Handler(handle)
        sessions.append(open_session(handler, channel))
        sessions[0].handle_message(("text", ""))
        assert handler.seen == [(("text", ""), "state"), ("connection_close", "new")]
        assert channel.calls == []

    def test_connection_close_comes_after_the_grace_of_a_handle_that_loses_the_connection_and_waits(
        self, channel: Channel
    ) -> None:
        sessions: list[ISession] = []

        def handle(message: Any, state: Any) -> Any:
            if message == "connection_close":
                return None
            sessions[0].connection_lost()
            return Deferred()

        handler = Handler(handle)
        sessions.append(open_session(handler, channel))
        sessions[0].handle_message(("text", ""))
        assert len(handler.seen) == 1
        channel.clock.advance(10.0)
        assert handler.seen[1:] == [("connection_close", "state")]
        assert channel.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("answer", [("reply", ["a", "b", "c"], "new"), ("close", "new")])
    def test_connection_close_comes_after_an_answer_that_loses_the_connection(
        self, answer: Any, channel: Channel
    ) -> None:
        handler = Handler(returns(answer, ("noreply", None)))
        session = open_session(handler, channel)
        channel.then["send"] = channel.then["close"] = session.connection_lost
        session.handle_message(("text", ""))
        assert len(channel.calls) == 1
        assert handler.seen[1:] == [("connection_close", "new")]

    def test_connection_close_comes_if_the_connection_is_lost_while_it_is_accepted(self, channel: Channel) -> None:
        handler = Handler()
        session = HandlerAdapter(handler, {}).session(channel, CONNECTION)
        channel.then["accept"] = session.connection_lost
        session.open(REF)
        assert handler.seen == [("connection_close", "state")]


class TestCoroutines:
    @without_loop
    def test_coroutines_await_deferreds_where_there_is_no_loop(self) -> None:
        channel = Channel()
        gate: Deferred[str] = Deferred()

        class Chat:
            async def init(self, options: Mapping[str, Any]) -> list[Any]:
                return []

            async def handle(self, message: Any, state: list[Any]) -> Any:
                return ("reply", await gate, [*state, message])

        session = open_session(Chat(), channel)
        session.handle_message(("text", "hello"))
        assert session.busy
        gate.callback("done")
        assert channel.take() == [("send", "done"), ("proceed",)]

    @in_loop
    async def test_handle_may_return_a_future(self) -> None:
        channel = Channel()
        gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        session = open_session(Handler(returns(gate)), channel)
        session.handle_message(("text", "hello"))
        assert channel.take() == []
        gate.set_result(("reply", "done", "new"))
        await turns()
        assert channel.take() == [("send", "done"), ("proceed",)]

    @without_loop
    def test_a_coroutine_that_a_deferred_fires_with_is_awaited_at_the_end_of_the_turn(self) -> None:
        channel = Channel()
        gate: Deferred[Any] = Deferred()
        begun: list[str] = []

        class Later:
            def __await__(self) -> Generator[Any, Any, Any]:
                begun.append("begun")
                yield from ()
                return ("reply", "done", "new")

        session = open_session(Handler(returns(gate)), channel)
        session.handle_message(("text", "hello"))
        gate.callback(Later())
        assert begun == []
        assert channel.take() == [("send", "done"), ("proceed",)]

    @without_loop
    def test_an_awaitable_that_is_its_own_result_closes_with_1011(self) -> None:
        channel = Channel()
        gate: Deferred[Any] = Deferred()

        class Own:
            def __await__(self) -> Generator[Any, Any, Any]:
                yield from ()
                return self

        session = open_session(Handler(returns(gate)), channel)
        session.handle_message(("text", "hello"))
        gate.callback(Own())
        assert channel.take() == [("close", 1011, ""), ("proceed",)]
        assert [type(error) for _, error in channel.failures] == [TypeError]

    @in_loop
    async def test_a_task_that_is_its_own_result_closes_with_1011(self) -> None:
        channel = Channel()

        async def own(*_: Any) -> Any:
            await asyncio.sleep(0)
            return asyncio.current_task()

        session = open_session(Handler(own), channel)
        session.handle_message(("text", "hello"))
        await turns()
        assert channel.take() == [("close", 1011, ""), ("proceed",)]
        assert [type(error) for _, error in channel.failures] == [TypeError]

    @in_loop
    async def test_an_awaitable_that_waits_and_is_its_own_result_closes_with_1011(self) -> None:
        channel = Channel()

        class Own:
            def __await__(self) -> Generator[Any, Any, Any]:
                yield from asyncio.sleep(0).__await__()
                return self

        session = open_session(Handler(returns(Own())), channel)
        session.handle_message(("text", "hello"))
        for _ in range(MAX_NESTED):
            await turns(2)
            channel.turn()
        assert channel.take() == [("close", 1011, ""), ("proceed",)]
        assert [type(error) for _, error in channel.failures] == [TypeError]

    @in_loop
    async def test_two_connections_can_wait_for_one_task(self) -> None:
        flights: list[Any] = []

        async def fly() -> Any:
            flights.append(asyncio.current_task())
            await asyncio.sleep(0)
            return ("reply", "landed", "state")

        handler = Handler(lambda message, state: flights[0] if flights else fly())
        channels = [Channel(), Channel()]
        for channel in channels:
            open_session(handler, channel).handle_message(("text", "fly"))
        await turns()
        assert [channel.take() for channel in channels] == [[("send", "landed"), ("proceed",)]] * 2

    @without_loop
    def test_an_exception_of_what_a_deferred_fires_with_closes_with_1011(self) -> None:
        channel = Channel()
        gate: Deferred[Any] = Deferred()
        error = LookupError()

        class Later:
            def __await__(self) -> Generator[Any, Any, Any]:
                yield from ()
                raise error

        session = open_session(Handler(returns(gate)), channel)
        session.handle_message(("text", "hello"))
        gate.callback(Later())
        assert channel.take() == [("close", 1011, ""), ("proceed",)]
        assert channel.failures == [("the handler's handle failed", error)]

    @in_loop
    async def test_coroutines_run_as_tasks_where_there_is_a_loop(self) -> None:
        channel = Channel()
        ended = asyncio.Event()

        class Chat:
            async def init(self, options: Mapping[str, Any]) -> int:
                await asyncio.sleep(0)
                return 1

            async def handle(self, message: Any, state: int) -> Any:
                async with asyncio.timeout(10):
                    await asyncio.sleep(0)
                if message == "connection_close":
                    ended.set()
                return ("reply", str(state), state + 1)

        session = begin(Chat(), channel)
        await turns()
        channel.turn()
        for _ in range(3):
            session.handle_message(("text", ""))
            session.handle_info("")
            while session.busy:
                await turns()
                channel.turn()
        assert [call[1] for call in channel.take() if call[0] == "send"] == ["1", "2", "3", "4", "5", "6"]
        session.connection_lost()
        await ended.wait()
        assert channel.failures == []

    @in_loop
    async def test_a_coroutine_that_ignores_its_cancelling_does_not_hold_up_connection_close(self) -> None:
        channel = Channel()
        gate: Deferred[Any] = Deferred()
        seen: list[Any] = []

        async def handle(message: Any, state: Any) -> Any:
            seen.append(message)
            while message != "connection_close":
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    await gate
                    raise LookupError("at last") from None

        session = open_session(Handler(handle), channel)
        session.handle_message(("text", ""))
        await turns()
        session.connection_lost()
        channel.clock.advance(10.0)
        await turns()
        assert seen == [("text", ""), "connection_close"]
        gate.callback(None)
        await turns()
        channel.turn()
        assert [repr(error) for _, error in channel.failures] == ["LookupError('at last')"]
        assert channel.calls == []

    @in_loop
    async def test_a_coroutine_of_connection_close_outlives_its_session(self) -> None:
        """asyncio itself refers to its tasks weakly."""
        done: list[str] = []
        gates: list[weakref.ref[Deferred[Any]]] = []

        async def handle(message: Any, state: Any) -> None:
            gate: Deferred[str] = Deferred()
            gates.append(weakref.ref(gate))
            done.append(await gate)

        open_session(Handler(handle), Channel()).connection_lost()
        await turns()
        gc.collect()
        gate = gates[0]()
        assert gate is not None
        gate.callback("saved")
        del gate
        await turns()
        assert done == ["saved"]
        gc.collect()
        assert gates[0]() is None

    @in_loop
    async def test_a_coroutine_that_ends_when_it_is_cancelled_is_not_logged(self) -> None:
        channel = Channel()
        seen: list[Any] = []

        async def handle(message: Any, state: Any) -> None:
            try:
                if message != "connection_close":
                    await asyncio.sleep(60)
            finally:
                seen.append(message)

        session = open_session(Handler(handle), channel)
        session.handle_message(("text", ""))
        await turns()
        session.connection_lost()
        channel.clock.advance(10.0)
        await turns()
        assert sorted(seen, key=str) == [("text", ""), "connection_close"]
        assert (channel.calls, channel.failures) == ([], [])

    @in_loop
    async def test_a_coroutine_of_init_is_cancelled_when_the_connection_is_lost(self) -> None:
        channel = Channel()
        log: list[str] = []

        async def init(options: Mapping[str, Any]) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                log.append("cancelled")

        session = begin(Handler(init=init), channel)
        await turns()
        session.connection_lost()
        await turns()
        assert log == ["cancelled"]
        assert (channel.calls, channel.failures) == ([], [])


class State:
    """Lives as long as its session, when nobody else knows it."""


class Forgetful:
    """A handler that keeps nothing of what it sees but its state's address."""

    def __init__(self, answer: Callable[[State], Any]) -> None:
        self._answer = answer

    def init(self, options: Mapping[str, Any]) -> State:
        state = State()
        self.state = weakref.ref(state)
        return state

    def handle(self, message: Any, state: State) -> Any:
        return self._answer(state)


def crash(state: State) -> Any:
    raise LookupError


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures(no_collector.__name__)
class TestADeadSession:
    """It goes with its connection, not when the collector comes round."""

    @pytest.mark.parametrize(
        "answer",
        [
            lambda state: ("noreply", state),
            lambda state: ("reply", "text", state),
            lambda state: ("close", state),
            lambda state: ("wrong", state),
            lambda state: succeed(("reply", ["a", "b"], state)),
            lambda state: succeed(("wrong", state)),
            lambda state: succeed(state).addCallback(crash),
            crash,
        ],
    )
    def test_a_session_is_freed_without_the_collector(self, answer: Callable[[State], Any], channel: Channel) -> None:
        handler = Forgetful(answer)
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        assert handler.state() is not None
        session.connection_lost()
        del session
        # The exceptions hold the frames they have been through.
        channel.failures.clear()
        channel.calls.clear()
        assert handler.state() is None

    @pytest.mark.parametrize("answer", [lambda state: ("noreply", state), lambda state: "wrong", crash])
    def test_a_session_is_freed_when_the_last_it_waits_for_is_done(
        self, answer: Callable[[State], Any], channel: Channel
    ) -> None:
        gates: list[Deferred[Any]] = []

        def wait(state: State) -> Deferred[Any]:
            gates.append(Deferred())
            return gates[-1].addCallback(lambda _: state).addCallback(answer)

        handler = Forgetful(wait)
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.connection_lost()
        del session
        while gates:
            assert handler.state() is not None
            gates.pop().callback(None)
            channel.turn()
        channel.failures.clear()
        assert handler.state() is None

    @pytest.mark.parametrize("how", ["fails", "is cancelled"])
    def test_a_session_is_freed_when_what_it_waits_for_ends_otherwise(self, how: str, channel: Channel) -> None:
        gates: list[Deferred[Any]] = []

        def wait(state: State) -> Deferred[Any]:
            gates.append(Deferred())
            return gates[-1].addBoth(lambda result: (state, result)[1])

        handler = Forgetful(wait)
        session = open_session(handler, channel)
        session.handle_message(("text", ""))
        session.connection_lost()
        del session
        assert handler.state() is not None
        if how == "fails":
            gates.pop().errback(LookupError())
            channel.turn()
        else:
            channel.clock.advance(10.0)
        while gates:
            gates.pop().callback(None)
        channel.turn()
        channel.failures.clear()
        channel.clock.calls.clear()
        assert handler.state() is None
