from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs
from wsproto.events import CloseConnection
from zope.interface.verify import verifyClass, verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, Handler, open_session, quiet
from tests.memory import MemoryHost
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.restarting import PERIOD, RESTARTS, RestartingSession
from wshost.handlers.session import HandlerSession
from wshost.interfaces import ISession
from wshost.results import Accept, Reject

pytestmark = pytest.mark.usefixtures(quiet.__name__)

#: What a restart asks of the channel.
RESTARTED = [("start_over",), ("proceed",)]
CLOSED = ("close", 1011, "")
HANDLE, INIT = "the handler's handle failed", "the handler's init failed"


@pytest.fixture
def channel() -> Channel:
    return Channel()


class Crashing(Handler):
    """Crashes when it is told to; each init returns what is next."""

    def __init__(self, *states: Any, crash: Callable[[], Any] | None = None) -> None:
        super().__init__(self._react, self._begin)
        self.given: list[Any] = []
        self._states: Iterator[Any] = iter(states or range(100))
        self._crash = crash

    def _begin(self, options: Any) -> Any:
        self.given.append(dict(options))
        state = next(self._states)
        if isinstance(state, BaseException):
            raise state
        return state

    def _react(self, message: Any, state: Any) -> Any:
        if message == ("text", "crash"):
            if self._crash is None:
                raise LookupError("on purpose")
            return self._crash()
        return ("noreply", state) if message == "connection_close" else ("reply", f"{message[1]} {state}", state)


def start(handler: Handler, channel: Channel, **terms: Any) -> ISession:
    return open_session(handler, channel, restarts=True, **terms)


def crash(session: ISession) -> None:
    session.handle_message(("text", "crash"))


def what(channel: Channel) -> list[str]:
    return [text for text, _ in channel.failures]


def test_only_handlers_that_restart_have_this_kind_of_session(channel: Channel) -> None:
    verifyClass(ISession, RestartingSession)
    session = start(Crashing(), channel)
    verifyObject(ISession, session)
    assert type(session) is RestartingSession
    assert type(open_session(Crashing(), channel)) is HandlerSession


def raised() -> Any:
    raise OverflowError


@pytest.mark.parametrize("wrong", [None, raised, lambda: "nonsense", lambda: fail(LookupError())])
class TestACrash:
    def test_it_is_logged_and_init_runs_again_with_the_same_options(self, wrong: Any, channel: Channel) -> None:
        handler = Crashing(crash=wrong)
        session = start(handler, channel)
        crash(session)
        assert channel.take() == RESTARTED
        assert what(channel) == [HANDLE]
        assert handler.given == [{"worker": REF, "connection": CONNECTION}] * 2

    def test_the_next_message_gets_the_new_state(self, wrong: Any, channel: Channel) -> None:
        session = start(Crashing(crash=wrong), channel)
        session.handle_message(("text", "old"))
        crash(session)
        channel.turn()
        channel.turn()
        assert not session.busy
        session.handle_message(("text", "new"))
        assert channel.take() == [("send", "old 0"), *RESTARTED, ("send", "new 1")]

    def test_init_is_not_called_before_the_end_of_the_turn(self, wrong: Any, channel: Channel) -> None:
        handler = Crashing(crash=wrong)
        session = start(handler, channel)
        crash(session)
        assert session.busy
        assert len(handler.given) == 1

    def test_a_connection_that_is_lost_before_the_end_of_the_turn_is_told_so_once(
        self, wrong: Any, channel: Channel
    ) -> None:
        handler = Crashing(crash=wrong)
        session = start(handler, channel)
        crash(session)
        session.connection_lost()
        assert channel.take() == []
        assert handler.seen[1:] == [("connection_close", 0)]
        assert (len(handler.given), session.busy) == (1, False)
        assert channel.clock.getDelayedCalls() == []


def test_an_answer_that_fails_later_restarts_as_well(channel: Channel) -> None:
    gate: Deferred[Any] = Deferred()
    session = start(Crashing(crash=lambda: gate), channel)
    crash(session)
    assert channel.take() == []
    gate.errback(LookupError())
    assert session.busy
    assert channel.take() == RESTARTED
    session.handle_message(("text", "new"))
    assert channel.take() == [("send", "new 1")]


def test_what_was_queued_waits_for_the_new_init(channel: Channel) -> None:
    handler = Crashing()
    session = start(handler, channel)
    assert session.handle_info("first")
    crash(session)
    assert session.handle_info("second")
    assert channel.take()[-3:] == [("start_over",), ("send", "second 1"), ("proceed",)]
    assert [message for message, _ in handler.seen] == [("info", "first"), ("text", "crash"), ("info", "second")]


def test_of_an_acceptance_only_the_state_counts(channel: Channel) -> None:
    session = start(Crashing("old", Accept("new", "chat", {"X-A": "b"})), channel)
    crash(session)
    assert channel.take() == RESTARTED
    session.handle_message(("text", "hello"))
    assert channel.take() == [("send", "hello new")]


class TestTheLimit:
    def test_one_crash_too_many_closes_with_1011(self, channel: Channel) -> None:
        handler = Crashing()
        session = start(handler, channel)
        for _ in range(RESTARTS):
            crash(session)
            assert channel.take() == RESTARTED
        crash(session)
        assert channel.take() == [CLOSED]
        assert what(channel) == [HANDLE] * (RESTARTS + 1)
        session.connection_lost()
        assert handler.seen[-1] == ("connection_close", RESTARTS)

    def test_a_restart_counts_for_five_seconds(self, channel: Channel) -> None:
        session = start(Crashing(), channel)
        for _ in range(RESTARTS):
            crash(session)
            channel.take()
            channel.clock.advance(1)
        channel.clock.advance(PERIOD - RESTARTS)
        crash(session)
        assert channel.take() == RESTARTED
        channel.clock.advance(0.9)
        crash(session)
        assert channel.take() == [CLOSED]

    def test_each_connection_has_its_own(self, channel: Channel) -> None:
        handler = Crashing()
        sessions = [start(handler, channel) for _ in range(2)]
        for _ in range(RESTARTS):
            for session in sessions:
                crash(session)
        assert ("close", 1011, "") not in channel.take()


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("", [ValueError(), SystemExit()])]
)
def test_an_exception_that_ends_the_process_restarts_nothing(error: BaseException, channel: Channel) -> None:
    def leave() -> Any:
        raise error

    session = start(Crashing(crash=leave), channel)
    crash(session)
    assert channel.take() == [CLOSED]
    assert channel.failures == [(HANDLE, error)]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), ExceptionGroup("", [ValueError()])])
def test_any_other_exception_restarts(error: BaseException, channel: Channel) -> None:
    def stop() -> Any:
        raise error

    session = start(Crashing(crash=stop), channel)
    crash(session)
    assert channel.take() == RESTARTED


def test_a_connection_that_is_closing_or_gone_is_not_restarted(channel: Channel) -> None:
    gate: Deferred[Any] = Deferred()
    handler = Crashing(crash=lambda: gate)
    session = start(handler, channel)
    crash(session)
    session.connection_lost()
    gate.errback(LookupError())
    assert channel.take() == []
    assert (what(channel), len(handler.given)) == ([HANDLE], 1)
    assert handler.seen[-1] == ("connection_close", 0)


def test_a_channel_that_fails_is_not_called_again(channel: Channel) -> None:
    gate: Deferred[Any] = Deferred()

    def log_failure(what: str) -> None:
        raise RuntimeError(what)

    channel.log_failure = log_failure  # type: ignore[method-assign]
    handler = Crashing(crash=lambda: gate)
    session = start(handler, channel)
    crash(session)
    gate.errback(LookupError())
    with pytest.raises(RuntimeError):
        channel.turn()
    assert (len(handler.given), session.busy) == (1, False)


class TestTheNextInit:
    def test_an_exception_closes_with_1011_and_the_old_state_is_the_last(self, channel: Channel) -> None:
        error = LookupError("no database")
        handler = Crashing("old", error)
        session = start(handler, channel)
        crash(session)
        assert channel.take() == [("start_over",), CLOSED, ("proceed",)]
        assert what(channel) == [HANDLE, INIT]
        session.connection_lost()
        assert handler.seen[1:] == [("connection_close", "old")]

    def test_a_reject_closes_with_1011_and_is_not_logged(self, channel: Channel) -> None:
        session = start(Crashing("old", Reject(404)), channel)
        crash(session)
        assert channel.take() == [("start_over",), CLOSED, ("proceed",)]
        assert what(channel) == [HANDLE]

    def test_messages_and_infos_wait_for_one_that_takes_its_time(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        session = start(Crashing("old", gate), channel)
        crash(session)
        channel.take()
        assert session.busy
        assert session.handle_info("later")
        gate.callback("new")
        assert channel.take() == [("send", "later new"), ("proceed",)]
        assert not session.busy
        assert channel.clock.getDelayedCalls() == []

    def test_one_that_takes_too_long_closes_with_1011(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Crashing("old", gate)
        session = start(handler, channel, init_timeout=2.0)
        crash(session)
        channel.take()
        channel.clock.advance(1.9)
        assert channel.take() == []
        channel.clock.advance(0.1)
        assert channel.take() == [CLOSED, ("proceed",)]
        assert what(channel) == [HANDLE]
        session.connection_lost()
        assert handler.seen[1:] == [("connection_close", "old")]
        assert channel.clock.getDelayedCalls() == []

    def test_one_that_can_not_be_cancelled_gives_the_last_state_when_it_is_done(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred(lambda gate: None)
        gate.cancel = lambda: None  # type: ignore[method-assign]
        handler = Crashing("old", gate)
        session = start(handler, channel, init_timeout=2.0)
        crash(session)
        channel.take()
        channel.clock.advance(2)
        assert channel.take() == [CLOSED]
        gate.callback("late")
        session.connection_lost()
        channel.take()
        assert handler.seen[1:] == [("connection_close", "late")]

    def test_a_connection_that_is_lost_cancels_it(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        handler = Crashing("old", gate)
        session = start(handler, channel)
        crash(session)
        channel.take()
        session.connection_lost()
        assert channel.take() == []
        assert handler.seen[1:] == [("connection_close", "old")]
        assert what(channel) == [HANDLE]
        assert channel.clock.getDelayedCalls() == []

    def test_one_that_goes_on_after_the_connection_is_waited_for_as_long_as_handle_is(self, channel: Channel) -> None:
        gate: Deferred[Any] = Deferred()
        gate.cancel = lambda: None  # type: ignore[method-assign]
        handler = Crashing("old", gate)
        session = start(handler, channel, close_grace=3.0)
        crash(session)
        channel.take()
        session.connection_lost()
        channel.clock.advance(2.9)
        assert len(handler.seen) == 1
        channel.clock.advance(0.1)
        assert handler.seen[1:] == [("connection_close", "old")]
        gate.errback(LookupError())
        assert channel.take() == []
        assert len(handler.seen) == 2
        assert what(channel) == [HANDLE, "the handler's init failed after it had been given up"]


class TestTheFirstInit:
    """It is that of any other handler."""

    def begin(self, state: Any, channel: Channel) -> tuple[Crashing, ISession]:
        handler = Crashing(state)
        session = HandlerAdapter(handler, {}, init_timeout=2.0, restarts=True).session(channel, CONNECTION)
        session.open(REF)
        return handler, session

    def test_an_exception_is_answered_with_500(self, channel: Channel) -> None:
        self.begin(LookupError(), channel)
        assert channel.take() == [("reject", 500, b"", {})]

    def test_too_long_a_time_is_answered_with_503(self, channel: Channel) -> None:
        self.begin(Deferred(), channel)
        channel.clock.advance(2)
        assert channel.take() == [("reject", 503, b"", {})]

    def test_it_is_given_up_when_the_connection_is_lost(self, channel: Channel) -> None:
        handler, session = self.begin(Deferred(), channel)
        session.connection_lost()
        assert (channel.take(), handler.seen) == ([], [])


class TestCounts:
    """Each crash is counted, by the handler's name and the kind of call."""

    def test_crashes_of_handle_are_counted_whether_the_handler_is_started_again_or_not(self, channel: Channel) -> None:
        session = start(Crashing(), channel, name="chat")
        for _ in range(RESTARTS + 1):
            crash(session)
            channel.take()
        assert channel.crashes == [("chat", "handle")] * (RESTARTS + 1)

    def test_a_crash_of_the_next_init_is_counted_and_a_reject_is_not(self, channel: Channel) -> None:
        crash(start(Crashing("old", LookupError()), channel, name="chat"))
        channel.take()
        assert channel.crashes == [("chat", "handle"), ("chat", "init")]
        other = Channel()
        crash(start(Crashing("old", Reject()), other, name="chat"))
        other.take()
        assert other.crashes == [("chat", "handle")]


@pytest.mark.parametrize("crashes", [lambda: dict[str, Any]()["on purpose"], lambda: fail(LookupError())])
def test_a_crash_at_the_peers_close_leaves_it_answered(crashes: Callable[[], Any]) -> None:
    """By the websocket module, with the peer's own code, as if the handler had said nothing."""

    def handle(message: Any, state: Any) -> Any:
        seen.append((message, state))
        return crashes() if message[0] == "close" else ("noreply", state)

    seen: list[Any] = []
    states = iter(["old", "new"])
    handler = HandlerAdapter(Handler(handle, lambda options: next(states)), {}, restarts=True, name="chat")
    host = MemoryHost(websocket_options={"handler": handler})
    with capturedLogs():
        peer = host.open()
        peer.send_event(CloseConnection(4000, "bye"))
        assert peer.messages() == [("close", 4000, "bye")]
        peer.leave()
    assert seen == [(("close", (4000, "bye")), "old"), ("connection_close", "new")]
    assert host.hub.shared.account.crashes == {("chat", "handle"): 1}
    assert host.idle()
