"""A session goes over to newer code of its handler: between two messages, with its state."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, in_loop, quiet, turns, without_loop
from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import IChangingHandler, IRenewableSession

pytestmark = pytest.mark.usefixtures(quiet.__name__)


@pytest.fixture
def channel() -> Channel:
    return Channel()


def code(name: str, **functions: Any) -> Any:
    """A handler that answers a message with its own name and the state, and adds the message to the state."""

    def handle(message: Any, state: Any) -> Any:
        if message == "connection_close":
            ended.append(state)
            return ("noreply", state)
        return ("reply", f"{name} {state}", f"{state},{message[1]}")

    ended: list[Any] = []
    return SimpleNamespace(**{"init": lambda options: "new", "handle": handle, "ended": ended, **functions})


class Changing:
    """A session whose handler's code can be changed."""

    def __init__(self, channel: Channel, handler: Any) -> None:
        self.adapter = HandlerAdapter(handler, {})
        self.session = self.adapter.session(channel, CONNECTION)
        self.session.open(REF)

    def change(self, handler: Any) -> bool:
        self.adapter.renew(handler)
        return self.session.renew()


def sent(channel: Channel) -> list[Any]:
    return [argument for name, *arguments in channel.take() for argument in arguments if name == "send"]


def test_a_session_is_renewable_and_a_handler_may_take_over_states(channel: Channel) -> None:
    verifyObject(IRenewableSession, Changing(channel, code("old")).session)
    assert IChangingHandler.extends(IChangingHandler, strict=False)


def test_messages_after_a_change_are_handled_by_the_new_code_with_the_same_state(channel: Channel) -> None:
    changing = Changing(channel, code("old"))
    changing.session.handle_message(("text", "a"))
    assert changing.change(code("new"))
    assert sent(channel) == ["old new"]
    changing.session.handle_message(("text", "b"))
    assert sent(channel) == ["new new,a"]


@pytest.mark.parametrize(
    ("versions", "told"),
    [({"version": 1, "__version__": 2}, 1), ({"__version__": "2"}, "2"), ({}, None)],
)
def test_code_change_gets_the_old_version_and_the_state_once(
    channel: Channel, versions: dict[str, Any], told: Any
) -> None:
    given: list[Any] = []

    def code_change(*args: Any) -> Any:
        given.append(args)
        return "changed"

    changing = Changing(channel, code("old", **versions))
    changing.change(code("new", code_change=code_change))
    assert given == []
    channel.turn()
    assert given == [(told, "new")]
    changing.session.handle_message(("text", "a"))
    changing.session.handle_message(("text", "b"))
    assert sent(channel) == ["new changed", "new changed,a"]
    assert len(given) == 1


def test_a_session_without_newer_code_has_nothing_to_go_over_to(channel: Channel) -> None:
    changing = Changing(channel, code("old"))
    assert not changing.session.renew()
    assert changing.change(code("new"))
    channel.take()
    assert not changing.session.renew()


def test_a_change_waits_for_messages_and_infos_that_are_queued_before(channel: Channel) -> None:
    changing = Changing(channel, code("old"))
    changing.session.handle_info("a")
    changing.change(code("new"))
    changing.session.handle_info("b")
    assert sent(channel) == ["old new", "new new,a"]


def test_several_changes_in_one_turn_skip_the_versions_between(channel: Channel) -> None:
    versions: list[Any] = []

    def note(old: Any, state: Any) -> Any:
        versions.append(old)
        return state

    changing = Changing(channel, code("one", version=1))
    changing.change(code("two", version=2, code_change=note))
    changing.change(code("three", version=3, code_change=note))
    changing.session.handle_message(("text", "a"))
    assert sent(channel) == ["three new"]
    assert versions == [1]


def test_code_that_no_connection_runs_is_not_kept_by_one_that_is_busy_for_ever() -> None:
    channel = Channel()
    answer: Deferred[Any] = Deferred()
    changing = Changing(channel, code("one", handle=lambda message, state: answer))
    changing.session.handle_message(("text", "a"))
    between = code("two")
    kept = weakref.ref(between.handle)
    changing.change(between)
    del between
    changing.change(code("three"))
    gc.collect()
    assert kept() is None


@without_loop
def test_a_change_waits_until_the_answer_is_there() -> None:
    channel = Channel()
    answer: Deferred[Any] = Deferred()
    changing = Changing(channel, code("old", handle=lambda message, state: answer))
    changing.session.handle_message(("text", "a"))
    changing.change(code("new", code_change=lambda version, state: f"changed {state}"))
    assert sent(channel) == []
    answer.callback(("reply", "done", "later"))
    assert sent(channel) == ["done"]
    changing.session.handle_message(("text", "b"))
    assert sent(channel) == ["new changed later"]


@without_loop
def test_an_init_that_is_pending_ends_with_the_old_code_and_then_the_state_changes() -> None:
    channel = Channel()
    state: Deferred[Any] = Deferred()
    changing = Changing(channel, code("old", init=lambda options: state))
    assert changing.change(code("new", code_change=lambda version, state: f"changed {state}"))
    assert channel.take() == []
    state.callback("first")
    assert channel.take()[0][0] == "accept"
    changing.session.handle_message(("text", "a"))
    assert sent(channel) == ["new changed first"]


@in_loop
async def test_a_change_may_be_awaited_and_messages_wait_for_it() -> None:
    channel = Channel()
    go = asyncio.Event()

    async def code_change(version: Any, state: Any) -> str:
        await go.wait()
        return f"changed {state}"

    changing = Changing(channel, code("one"))
    changing.change(code("two", code_change=code_change))
    channel.turn()
    assert changing.session.busy
    # One more version, and the news of it twice.
    changing.change(code("three", version=3))
    changing.session.renew()
    changing.session.handle_info("a")
    assert sent(channel) == []
    go.set()
    await turns()
    assert sent(channel) == ["three changed new"]


@without_loop
def test_news_of_code_that_is_on_its_way_changes_nothing() -> None:
    channel = Channel()
    state: Deferred[Any] = Deferred()
    calls: list[Any] = []

    def code_change(*args: Any) -> Any:
        calls.append(args)
        return state

    changing = Changing(channel, code("old"))
    changing.change(code("new", code_change=code_change))
    channel.turn()
    assert changing.session.renew()
    state.callback("changed")
    changing.session.handle_info("a")
    assert sent(channel) == ["new changed"]
    assert len(calls) == 1


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(), KeyboardInterrupt()])
def test_a_code_change_that_raises_closes_and_the_old_code_gets_the_end(channel: Channel, error: BaseException) -> None:
    def code_change(version: Any, state: Any) -> Any:
        raise error

    old, new = code("old"), code("new", code_change=code_change)
    changing = Changing(channel, old)
    changing.change(new)
    assert ("close", 1011, "") in channel.take()
    assert channel.failures == [("the handler's code_change failed", error)]
    assert channel.crashes == [("handler", "code_change")]
    changing.session.connection_lost()
    assert (old.ended, new.ended) == (["new"], [])


@without_loop
def test_a_code_change_whose_deferred_fails_closes() -> None:
    channel = Channel()
    state: Deferred[Any] = Deferred()
    changing = Changing(channel, code("old"))
    changing.change(code("new", code_change=lambda *args: state))
    channel.turn()
    state.errback(ValueError("no"))
    assert ("close", 1011, "") in channel.take()
    assert [what for what, _ in channel.failures] == ["the handler's code_change failed"]


@pytest.mark.parametrize("changed", [True, False])
@without_loop
def test_a_connection_that_is_lost_during_a_change_ends_with_the_code_that_has_its_state(changed: bool) -> None:
    channel = Channel()
    state: Deferred[Any] = Deferred()
    old, new = code("old"), code("new", code_change=lambda *args: state)
    changing = Changing(channel, old)
    changing.change(new)
    channel.turn()
    changing.session.connection_lost()
    if changed:
        state.callback("changed")
    else:
        channel.clock.advance(10)
    channel.take()
    assert (old.ended, new.ended) == (([], ["changed"]) if changed else (["new"], []))
    assert channel.failures == []


@without_loop
def test_a_change_that_fails_after_the_connection_is_lost_is_logged() -> None:
    channel = Channel()
    state: Deferred[Any] = Deferred()
    old = code("old")
    changing = Changing(channel, old)
    changing.change(code("new", code_change=lambda *args: state))
    channel.turn()
    changing.session.connection_lost()
    state.errback(ValueError("no"))
    assert "close" not in [name for name, *_ in channel.take()]
    assert [what for what, _ in channel.failures] == ["the handler's code_change failed"]
    assert old.ended == ["new"]


def test_a_connection_that_is_lost_before_the_change_ends_with_the_old_code(channel: Channel) -> None:
    old, new = code("old"), code("new")
    changing = Changing(channel, old)
    changing.change(new)
    changing.session.connection_lost()
    channel.take()
    assert (old.ended, new.ended) == (["new"], [])
    assert not changing.session.renew()


def test_new_sessions_get_the_new_code_at_once(channel: Channel) -> None:
    changing = Changing(channel, code("old"))
    changing.adapter.renew(code("new", init=lambda options: "begun"))
    later = Channel()
    session = changing.adapter.session(later, CONNECTION)
    session.open(REF)
    session.handle_message(("text", "a"))
    assert sent(later) == ["new begun"]
    assert not session.renew()
