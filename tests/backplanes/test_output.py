from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from tests.backplanes.surroundings import Transport, Turns
from wshost.backplanes.output import COMMANDS, LARGEST_WRITE, Output


class World:
    """An output for 1 MiB, its clock, and what it says."""

    def __init__(self) -> None:
        self.clock = Turns()
        self.dropped: list[int] = []
        self.progress: list[None] = []
        self.output = Output(self.clock, 1 << 20, 5.0, self.dropped.append, lambda: self.progress.append(None))
        self.transport = Transport(self.clock)

    def ready(self) -> None:
        self.output.attach(self.transport)
        self.output.ready()


@pytest.fixture
def world() -> World:
    return World()


def test_the_output_is_a_push_producer(world: World) -> None:
    assert verifyObject(IPushProducer, world.output)


class TestReady:
    def test_what_is_sent_in_a_turn_leaves_in_one_write_in_order(self, world: World) -> None:
        world.ready()
        assert world.output.send(b"a")
        assert world.output.command(b"b")
        assert world.output.send(b"c")
        assert (world.transport.writes, world.output.waiting) == ([], 2)
        world.clock.advance(0)
        assert (world.transport.writes, world.output.waiting) == ([b"abc"], 0)

    def test_what_was_sent_leaves_at_once_when_nothing_more_comes_in_the_turn(self, world: World) -> None:
        world.ready()
        world.output.send(b"a")
        world.output.command(b"b")
        world.output.flush()
        assert (world.transport.writes, world.output.waiting) == ([b"ab"], 0)
        world.clock.advance(0)
        assert world.transport.writes == [b"ab"]

    def test_much_leaves_in_several_writes(self, world: World) -> None:
        world.ready()
        piece = bytes(LARGEST_WRITE // 2)
        for _ in range(3):
            world.output.send(piece)
        world.clock.advance(0)
        assert [len(write) for write in world.transport.writes] == [LARGEST_WRITE, LARGEST_WRITE // 2]
        assert world.output.waiting == 0

    def test_a_payload_larger_than_a_write_leaves_alone(self, world: World) -> None:
        world.ready()
        world.output.send(b"a")
        world.output.send(bytes(LARGEST_WRITE + 1))
        world.output.send(b"b")
        world.clock.advance(0)
        assert [len(write) for write in world.transport.writes] == [1, LARGEST_WRITE + 1, 1]

    def test_others_do_not_see_the_context_of_who_sent_first(self, world: World) -> None:
        user: ContextVar[str] = ContextVar("user", default="nobody")
        seen = []
        world.ready()
        world.transport.write = lambda data: seen.append(user.get())  # type: ignore[method-assign]
        token = user.set("somebody")
        world.output.send(b"a")
        world.clock.advance(0)
        user.reset(token)
        assert seen == ["nobody"]


class TestLimits:
    def test_more_than_the_limit_is_refused(self, world: World) -> None:
        world.ready()
        assert world.output.send(bytes(1 << 20))
        assert not world.output.send(b"a")
        world.clock.advance(0)
        assert world.output.send(b"a")

    def test_commands_for_a_broker_that_takes_nothing_are_refused_in_the_end(self, world: World) -> None:
        world.ready()
        world.output.pauseProducing()
        assert world.output.command(bytes(COMMANDS))
        assert not world.output.command(b"a")
        world.clock.advance(0)
        world.output.resumeProducing()
        assert world.output.command(b"a")

    def test_nothing_is_written_while_the_transport_is_full(self, world: World) -> None:
        world.ready()
        world.transport.room = 1
        world.output.send(b"a")
        world.clock.advance(0)
        world.output.send(b"b")
        world.clock.advance(0)
        world.output.send(b"c")
        world.clock.advance(0)
        assert (world.transport.writes, world.output.waiting, world.progress) == ([b"a"], 2, [])
        world.output.resumeProducing()
        assert (world.transport.writes, world.output.waiting, world.progress) == ([b"a", b"bc"], 0, [None])

    def test_a_transport_that_gets_full_takes_the_rest_later(self, world: World) -> None:
        world.ready()
        world.transport.room = 1
        for letter in (b"a", b"b"):
            world.output.send(letter * LARGEST_WRITE)
        world.clock.advance(0)
        assert [write[:1] for write in world.transport.writes] == [b"a"]
        assert world.output.waiting == LARGEST_WRITE

    def test_payloads_of_a_connected_broker_wait_longer_than_without_one(self, world: World) -> None:
        world.ready()
        world.output.pauseProducing()
        world.output.send(b"a")
        world.clock.advance(0)
        world.clock.advance(60)
        assert (world.dropped, world.output.waiting) == ([], 1)


class TestWithoutABroker:
    def test_payloads_wait_and_leave_in_order_before_those_that_follow(self, world: World) -> None:
        world.output.send(b"a")
        world.clock.advance(0)
        world.output.send(b"b")
        world.ready()
        world.output.send(b"c")
        world.clock.advance(0)
        assert world.transport.read() == b"abc"

    def test_payloads_that_wait_too_long_are_dropped_and_counted(self, world: World) -> None:
        for letter in (b"a", b"b"):
            world.output.send(letter)
        world.clock.advance(0)
        world.clock.advance(2)
        world.output.send(b"c")
        world.clock.advance(0)
        world.clock.advance(2.9)
        assert world.dropped == []
        world.clock.advance(0.1)
        assert (world.dropped, world.output.waiting) == ([2], 1)
        world.ready()
        world.clock.advance(60)
        assert (world.dropped, world.transport.read()) == ([2], b"c")

    def test_the_time_of_what_waited_for_a_full_transport_begins_with_its_loss(self, world: World) -> None:
        world.ready()
        world.output.pauseProducing()
        world.output.send(b"a")
        world.clock.advance(0)
        world.clock.advance(60)
        world.output.detach()
        world.clock.advance(4.9)
        assert world.dropped == []
        world.clock.advance(0.1)
        assert world.dropped == [1]

    def test_commands_mean_nothing_to_another_broker(self, world: World) -> None:
        world.output.command(b"before")
        world.ready()
        world.output.pauseProducing()
        world.output.command(b"kept")
        world.clock.advance(0)
        world.output.send(b"a")
        world.output.command(b"kept, too")
        world.clock.advance(0)
        world.output.send(b"b")
        world.output.command(b"of this turn")
        world.output.detach()
        world.ready()
        world.clock.advance(0)
        assert world.transport.read() == b"ab"

    def test_what_was_written_is_not_sent_again(self, world: World) -> None:
        world.ready()
        world.output.send(b"a")
        world.clock.advance(0)
        world.output.detach()
        world.transport.read()
        world.ready()
        world.clock.advance(0)
        assert world.transport.read() == b""

    def test_small_payloads_of_many_turns_wait_together(self, world: World) -> None:
        for _ in range(1000):
            world.output.send(b"a")
            world.clock.advance(0)
        assert len(world.output._kept) == 1
        world.clock.advance(5)
        assert world.dropped == [1000]


class TestGreeting:
    def test_only_commands_are_written_before_the_broker_is_ready(self, world: World) -> None:
        world.output.attach(world.transport)
        world.output.send(b"payload")
        world.output.command(b"hello ")
        world.output.command(b"there ")
        world.clock.advance(0)
        assert world.transport.writes == [b"hello there "]
        world.output.command(b"more ")
        world.output.ready()
        assert world.transport.read() == b"hello there more payload"

    def test_a_broker_that_got_its_greeting_needs_no_other_write(self, world: World) -> None:
        world.output.attach(world.transport)
        world.output.command(b"hello")
        world.output.ready()
        world.clock.advance(0)
        assert world.transport.writes == [b"hello"]

    def test_a_greeting_is_forgotten_with_its_broker(self, world: World) -> None:
        world.output.attach(world.transport)
        world.output.command(b"hello")
        world.output.detach()
        world.clock.advance(0)
        assert world.transport.writes == []


class TestTheEnd:
    def test_all_leaves_at_the_end_though_the_transport_is_full(self, world: World) -> None:
        world.ready()
        world.output.pauseProducing()
        world.output.send(b"a")
        world.clock.advance(0)
        world.output.send(b"b")
        world.output.finish()
        assert (world.transport.read(), world.transport.producer) == (b"ab", None)

    def test_payloads_after_the_end_wait_for_another_broker_and_commands_do_not(self, world: World) -> None:
        world.ready()
        world.output.finish()
        world.output.send(b"a")
        world.output.command(b"ping")
        world.clock.advance(0)
        assert world.transport.read() == b"ping"
        world.output.detach()
        world.ready()
        world.clock.advance(0)
        assert world.transport.read() == b"a"

    def test_what_waits_when_all_ends_is_dropped_and_counted(self, world: World) -> None:
        world.output.send(b"a")
        world.clock.advance(0)
        world.output.send(b"b")
        world.output.close()
        assert (world.dropped, world.output.waiting) == ([2], 0)
        assert not world.output.send(b"c")
        world.clock.advance(60)
        assert world.dropped == [2]

    def test_nothing_is_counted_when_nothing_waits(self, world: World) -> None:
        world.output.command(b"a")
        world.output.close()
        assert world.dropped == []

    def test_a_producer_that_is_stopped_does_nothing(self, world: World) -> None:
        world.ready()
        world.output.stopProducing()
        world.output.send(b"a")
        world.clock.advance(0)
        assert world.transport.read() == b"a"


class TestHandingOver:
    def test_what_waits_is_given_up_in_order_with_its_times(self, world: World) -> None:
        world.output.send(b"a")
        world.clock.advance(0)
        world.clock.advance(1)
        world.output.send(b"b")
        assert world.output.take() == [(5.0, [b"a"]), (6.0, [b"b"])]
        assert (world.output.waiting, world.output.take()) == (0, [])
        world.clock.advance(10)
        assert world.dropped == []

    def test_commands_are_not_given_up(self, world: World) -> None:
        world.ready()
        world.output.send(b"a")
        world.output.command(b"b")
        world.output.send(b"c")
        assert [payloads for _, payloads in world.output.take()] == [[b"a", b"c"]]
        world.clock.advance(0)
        assert (world.transport.writes, world.output.waiting) == ([b"b"], 0)
        world.output.command(b"d")
        assert world.output.take() == []
        world.clock.advance(0)
        assert world.transport.writes == [b"b", b"d"]

    def test_what_was_sent_earlier_elsewhere_leaves_earlier(self, world: World) -> None:
        world.clock.advance(1)
        world.output.send(b"c")
        world.output.adopt(5.0, [b"a", b"b"])
        assert world.output.waiting == 3
        world.ready()
        assert b"".join(world.transport.writes) == b"abc"
        assert world.output.waiting == 0

    def test_a_broker_that_is_connected_gets_it_at_once(self, world: World) -> None:
        world.ready()
        world.output.adopt(5.0, [b"a"])
        assert (world.transport.writes, world.output.waiting) == ([b"a"], 0)

    def test_it_waits_no_longer_than_it_would_have(self, world: World) -> None:
        world.clock.advance(1)
        world.output.send(b"c")
        world.clock.advance(0)
        world.output.adopt(2.0, [b"a", b"b"])
        world.clock.advance(1)
        assert (world.dropped, world.output.waiting) == ([2], 1)
        world.clock.advance(4)
        assert (world.dropped, world.output.waiting) == ([2, 1], 0)


def test_any_reactor_may_be_used(world: World) -> None:
    output: Any = Output(world.clock, 10, 1.0, world.dropped.append)
    output.attach(world.transport)
    output.resumeProducing()
    assert output.waiting == 0
