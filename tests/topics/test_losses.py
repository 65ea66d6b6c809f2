"""Handlers that ask for it are told what was lost."""

from __future__ import annotations

import threading
from typing import Any

from tests.cluster.processes import Pair
from tests.rooms import Rooms


def noting() -> tuple[Rooms, list[Any]]:
    """A host, and what its handlers are told."""
    told: list[Any] = []

    def handle(message: Any, ref: Any) -> Any:
        told.append((ref.id, *message) if type(message) is tuple else message)
        return ("noreply", ref)

    return Rooms(handle), told


def opened(rooms: Rooms, *topics: str, tell_lost: bool = True) -> Any:
    """Return the reference of a new connection that has subscribed to these topics."""
    rooms.open("/")
    ref = rooms.handler.refs[-1]
    assert all(ref.subscribe(topic, tell_lost=tell_lost) for topic in topics)
    return ref


def test_a_handler_that_asks_is_told_once_a_turn_how_many_messages_were_lost() -> None:
    rooms, told = noting()
    ref = opened(rooms, "a", "b")
    opened(rooms, "a", "b", tell_lost=False)
    for topic, messages in (("a", 2), ("b", 1), ("a", 3), ("nobody", 9)):
        rooms.topics.lose_locally(topic, messages)
    assert told == []
    rooms.reactor.advance(0)
    rooms.reactor.advance(0)
    assert told == [(ref.id, "lost", "a", 5), (ref.id, "lost", "b", 1)]
    rooms.topics.lose_locally("a", 4)
    rooms.reactor.advance(0)
    rooms.reactor.advance(0)
    assert told[2:] == [(ref.id, "lost", "a", 4)]


def test_a_connection_knows_of_which_topics_its_handler_is_told() -> None:
    rooms, _ = noting()
    opened(rooms, "a", tell_lost=False)
    opened(rooms, "a", "b")
    connections: list[Any] = rooms.hub.shared.registry.all()
    quiet, told = connections
    assert (quiet.told_of_losses, told.told_of_losses) == ([], ["a", "b"])


def test_a_handler_is_told_once_of_a_topic_that_several_of_its_patterns_match() -> None:
    rooms, told = noting()
    ref = opened(rooms, "rooms.7", "rooms.*", ">")
    rooms.topics.lose_locally("rooms.7", 2)
    rooms.reactor.advance(0)
    rooms.reactor.advance(0)
    assert told == [(ref.id, "lost", "rooms.7", 2)]


def test_a_second_subscription_may_ask_for_it_and_none_takes_it_back() -> None:
    rooms, told = noting()
    ref = opened(rooms, "a", tell_lost=False)
    assert ref.subscribe("a", tell_lost=True)
    assert ref.subscribe("a")
    rooms.topics.lose_locally("a", 1)
    rooms.reactor.advance(0)
    rooms.reactor.advance(0)
    assert told == [(ref.id, "lost", "a", 1)]


def test_nothing_is_told_after_the_end_of_a_subscription() -> None:
    rooms, told = noting()
    one, other = opened(rooms, "a"), opened(rooms, "a")
    for ref in (one, other):
        assert ref.unsubscribe("a")
        assert ref.subscribe("a")
        rooms.topics.lose_locally("a", 1)
        rooms.reactor.advance(0)
        rooms.reactor.advance(0)
    assert told == [(other.id, "lost", "a", 1)]


def test_another_thread_may_tell_of_a_loss() -> None:
    rooms, told = noting()
    ref = opened(rooms, "a")
    thread = threading.Thread(target=rooms.topics.lose_locally, args=("a", 1))
    thread.start()
    thread.join()
    for _ in range(3):
        rooms.reactor.advance(0)
    assert told == [(ref.id, "lost", "a", 1)]


def test_what_a_backplane_loses_is_told_in_the_other_process() -> None:
    told: list[Any] = []

    def handle(message: Any, state: Any) -> Any:
        told.append(message)
        return ("noreply", state)

    pair = Pair(handle)
    ref = pair.here.ref(pair.there.open())
    # It is asked for from another process.
    assert ref.subscribe("rooms.*", tell_lost=True)
    pair.turn()
    for number in range(4):
        pair.here.exchange.publish("rooms.7", str(number))
        pair.reactor.advance(0)
        if number in (1, 2):
            pair.bus.take()
        pair.turn()
    assert told == [("lost", "rooms.7", 2)]
