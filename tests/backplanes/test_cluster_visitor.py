from __future__ import annotations

from typing import Any

import pytest

from tests.backplanes.brokers_in_memory import Brokers
from tests.backplanes.redis_cluster_in_memory import LOADED, TWO, hello, said, slots, smessage, sunsubscribe
from tests.backplanes.surroundings import Notes
from wshost.backplanes.cluster_visitor import ClusterVisitor
from wshost.backplanes.link import HOLD
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.backplanes.shards import PARTS, channel, part_of
from wshost.results import ConfigurationError

GREETING = ["HELLO", "3", "SETNAME", "wshost"]
#: A subject of the first master, and one of the second.
FIRST = next(f"s.{number}" for number in range(40) if part_of(f"s.{number}") < PARTS // 2)
SECOND = next(f"s.{number}" for number in range(40) if part_of(f"s.{number}") >= PARTS // 2)


def own(subject: str) -> str:
    """The channel of a subject."""
    return channel(part_of(subject), subject)


class World:
    """A visitor whose link does what it says."""

    def __init__(self) -> None:
        self.brokers = Brokers()
        self.receiver = Notes()
        settings = BackplaneSettings(scheme="redis+cluster", brokers=(Broker("seed", 7000),))
        self.visitor = ClusterVisitor(settings, self._make_link)
        self.failed: list[Any] = []
        self.visitor.connect(self.brokers.clock, self.receiver).addErrback(self.failed.append)
        self.brokers.turn()

    def _make_link(self, *arguments: Any) -> Any:
        self.link = self.brokers.link(*arguments)
        return self.link

    def up(self) -> None:
        """Let the connection in."""
        self.brokers.last.answer(hello())
        self.brokers.last.answer(LOADED, TWO, hello())
        assert self.link.is_ready

    def go(self, subject: str) -> None:
        """Go to the master of a subject."""
        self.link.go_to(self.visitor.broker_of(subject))
        self.brokers.turn()


def test_any_server_says_where_to_go() -> None:
    world = World()
    world.brokers.last.answer(hello("replica"))
    assert said(world.brokers.last) == [GREETING, "LOAD", "QUESTION", "HELLO"]
    world.brokers.last.answer(LOADED, TWO, hello("replica"))
    assert [world.visitor.broker_of(subject) for subject in (FIRST, SECOND)] == [Broker("m", 1), Broker("m", 2)]


def test_a_payload_goes_to_the_server_that_is_connected() -> None:
    world = World()
    world.up()
    world.go(FIRST)
    world.up()
    said(world.brokers.last)
    assert world.visitor.publish(FIRST, b"hi")
    world.brokers.turn(HOLD)
    ((verb, _, _, where, _, payload),) = said(world.brokers.last)
    assert (verb, where, payload) == ("EVALSHA", own(FIRST), "hi")


def test_a_payload_that_is_too_large_is_refused() -> None:
    assert not World().visitor.publish(FIRST, bytes(ClusterVisitor.largest + 1))


def test_subscriptions_are_made_at_their_own_master_alone() -> None:
    world = World()
    world.visitor.subscribe(FIRST)
    world.up()
    world.go(FIRST)
    world.up()
    assert said(world.brokers.last) == [GREETING, "LOAD", "QUESTION", ["SSUBSCRIBE", own(FIRST)], "HELLO"]
    world.visitor.subscribe(SECOND)
    world.visitor.subscribe(f"{FIRST}.x" if part_of(f"{FIRST}.x") < PARTS // 2 else f"{FIRST}.y")
    world.brokers.turn()
    assert len(said(world.brokers.last)) == 1
    world.brokers.last.answer(smessage(own(FIRST), b"1"), smessage(own(SECOND), b"2"), smessage("x", b"3"))
    assert world.receiver.told == [(FIRST, b"1"), (SECOND, b"2")]


@pytest.mark.parametrize("reply", [b"-MOVED 1 m:2\r\n", b"-ERR Script: a non local key\r\n", sunsubscribe(own(FIRST))])
def test_a_slot_that_moves_ends_the_connection(reply: bytes) -> None:
    world = World()
    world.visitor.subscribe(FIRST)
    world.up()
    world.brokers.last.answer(reply)
    assert not world.brokers.last.open


def test_pings_ask_nothing_but_for_the_role() -> None:
    world = World()
    world.up()
    said(world.brokers.last)
    world.brokers.turn(1.5)
    assert said(world.brokers.last) == ["HELLO"]


def test_a_server_that_refuses_us_is_an_error_of_the_configuration() -> None:
    world = World()
    world.brokers.last.answer(b"-WRONGPASS no\r\n")
    (failure,) = world.failed
    assert isinstance(failure.value, ConfigurationError)


def test_a_cluster_that_is_not_whole_is_left() -> None:
    world = World()
    world.brokers.last.answer(hello())
    world.brokers.last.answer(LOADED, slots((0, 5, 1)), hello())
    assert not world.brokers.last.open


def test_two_subjects_of_one_part_share_a_broker() -> None:
    assert ClusterVisitor.share_broker("a.b.c.d", "a.b.c.d.e")
    assert not ClusterVisitor.share_broker(FIRST, SECOND)
