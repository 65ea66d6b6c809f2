from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest
from twisted.logger import capturedLogs

from tests.memory import MemoryReactor
from wshost.connections.failures import Failures
from wshost.connections.turn import Turn

#: Set in the context of users' code only.
user: ContextVar[str] = ContextVar("user", default="nobody")


class World:
    """A turn and its clock. It stands for each connection and each stream, too, and notes what happens."""

    def __init__(self) -> None:
        self.clock = MemoryReactor()
        self.turn = Turn(partial(self.clock.callLater, 0), Failures(self.clock))
        self.happened: list[Any] = []

    def end(self) -> None:
        """Let one turn end, and not the next."""
        (call,) = self.clock.calls
        self.clock.calls.clear()
        call.func(*call.args)

    def run(self, call: Callable[[], None]) -> None:
        call()

    def end_turn(self) -> None:
        self.happened.append("stream")

    def fail(self, what: str) -> None:
        self.happened.append(what)


@pytest.fixture
def world() -> World:
    return World()


class Broken(World):
    """A stream that can't write."""

    def end_turn(self) -> None:
        raise GeneratorExit


def test_calls_come_before_publications_and_these_before_streams(world: World) -> None:
    world.turn.flush_at_end(world)
    world.turn.deliver_at_end(lambda: world.happened.append("published"))
    world.turn.call_soon(world, lambda: world.happened.append("call"))
    assert world.happened == []
    world.clock.advance(0)
    assert world.happened == ["call", "published", "stream"]


def test_the_end_of_a_turn_sees_no_context_of_users_code(world: World) -> None:
    def users_code() -> None:
        user.set("somebody")
        world.turn.call_soon(world, lambda: world.happened.append(user.get()))

    copy_context().run(users_code)
    world.clock.advance(0)
    assert world.happened == ["nobody"]


def test_a_turn_ends_once_however_much_is_to_be_done(world: World) -> None:
    for _ in range(3):
        world.turn.flush_at_end(world)
        world.turn.deliver_at_end(lambda: world.happened.append("published"))
    assert len(world.clock.getDelayedCalls()) == 1
    world.clock.advance(0)
    assert world.happened == ["published"] * 3 + ["stream"] * 3
    assert world.clock.getDelayedCalls() == []


def test_calls_are_made_in_the_order_in_which_they_were_asked_for(world: World) -> None:
    for number in range(3):
        world.turn.call_soon(world, partial(world.happened.append, number))
    world.clock.advance(0)
    assert world.happened == [0, 1, 2]


def test_calls_that_calls_ask_for_are_made_in_the_next_turn(world: World) -> None:
    def call() -> None:
        world.happened.append(len(world.happened))
        world.turn.call_soon(world, call)

    world.turn.call_soon(world, call)
    for turns in range(1, 4):
        world.end()
        assert world.happened == list(range(turns))


def test_a_publication_at_the_end_of_a_turn_is_delivered_in_the_next(world: World) -> None:
    world.turn.deliver_at_end(lambda: world.turn.deliver_at_end(lambda: world.happened.append("late")))
    world.end()
    assert world.happened == []
    world.end()
    assert world.happened == ["late"]


def test_a_call_that_ends_the_process_leaves_the_others_for_the_next_turn(world: World) -> None:
    def leave() -> None:
        raise SystemExit

    world.turn.call_soon(world, leave)
    world.turn.call_soon(world, lambda: world.happened.append("call"))
    with pytest.raises(SystemExit):
        world.clock.advance(0)
    world.clock.advance(0)
    assert world.happened == ["call"]


def test_publications_that_fail_are_logged_and_streams_write_all_the_same(world: World) -> None:
    def fail() -> None:
        raise MemoryError

    world.turn.deliver_at_end(fail)
    world.turn.flush_at_end(world)
    with capturedLogs() as events:
        world.clock.advance(0)
    assert [event["what"] for event in events] == ["what was published could not be delivered to all"]
    assert world.happened == ["stream"]


def test_a_stream_that_fails_ends_and_the_others_write(world: World) -> None:
    broken = Broken()
    world.turn.flush_at_end(broken)
    world.turn.flush_at_end(world)
    world.clock.advance(0)
    assert broken.happened == ["its output failed"]
    assert world.happened == ["stream"]
