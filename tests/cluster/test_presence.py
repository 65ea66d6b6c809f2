from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.cluster.together import Process, Together
from tests.memory import MemoryReactor
from wshost.cluster.facts import MAX_OF_ONE, packed
from wshost.connections.ref import Ref

NOTHING = packed(None)


@pytest.fixture
def alone() -> Process:
    return Process(MemoryReactor())


@pytest.fixture
def together() -> Together:
    return Together(3)


def told(process: Process, ref: Ref) -> list[tuple[Any, ...]]:
    """What joined and left, as a watcher was told."""
    process.reactor.advance(0)
    process.reactor.advance(0)
    infos = process.infos(ref)
    assert all(info[:2] == ("presence", "room") for info in infos)
    return [info[2:] for info in infos]


class TestInOneProcess:
    def test_a_tracked_connection_is_present_with_what_is_said_of_it(self, alone: Process) -> None:
        ref, _ = alone.open()
        other, _ = alone.open()
        assert alone.directory.present("room") == {}
        assert alone.directory.track("room", ref, packed({"name": "Ann", 1: [2]})) is True
        assert alone.directory.track("room", other, NOTHING) is True
        assert alone.directory.present("room") == {ref: {"name": "Ann", 1: [2]}, other: None}

    def test_each_caller_gets_values_of_its_own(self, alone: Process) -> None:
        ref, _ = alone.open()
        alone.directory.track("room", ref, packed([1]))
        alone.directory.present("room")[ref].append(2)
        assert alone.directory.present("room") == {ref: [1]}

    def test_something_else_may_be_said_of_a_connection(self, alone: Process) -> None:
        ref, _ = alone.open()
        assert alone.directory.track("room", ref, packed(1)) is True
        assert alone.directory.track("room", ref, packed(2)) is True
        assert alone.directory.present("room") == {ref: 2}

    def test_an_untracked_connection_is_not_present(self, alone: Process) -> None:
        ref, _ = alone.open()
        other, _ = alone.open()
        assert alone.directory.untrack("room", ref) is False
        alone.directory.track("room", ref, NOTHING)
        alone.directory.track("room", other, NOTHING)
        assert alone.directory.untrack("room", ref) is True
        assert alone.directory.untrack("room", ref) is False
        assert alone.directory.present("room") == {other: None}

    def test_a_presence_goes_with_its_connection(self, alone: Process) -> None:
        ref, peer = alone.open()
        alone.directory.track("room", ref, NOTHING)
        peer.leave()
        assert alone.directory.present("room") == {}
        assert alone.directory.track("room", ref, NOTHING) is False

    def test_a_connection_may_be_present_at_a_limited_number_of_topics(self, alone: Process) -> None:
        ref, _ = alone.open()
        topics = [f"topic {number}" for number in range(MAX_OF_ONE + 1)]
        assert [alone.directory.track(topic, ref, NOTHING) for topic in topics] == [True] * MAX_OF_ONE + [False]
        assert alone.directory.track(topics[0], ref, packed(1)) is True

    def test_presences_are_used_in_any_thread(self, alone: Process) -> None:
        ref, _ = alone.open()
        watcher, _ = alone.open()
        assert watcher.watch("room")
        assert told(alone, watcher) == [({}, ())]
        thread = threading.Thread(target=alone.directory.track, args=("room", ref, NOTHING))
        thread.start()
        thread.join()
        alone.reactor.advance(1)
        assert told(alone, watcher) == [({ref: None}, ())]


class TestWatching:
    def test_a_watcher_is_first_told_of_all_who_are_present(self, alone: Process) -> None:
        watcher, _ = alone.open()
        ref, _ = alone.open()
        alone.directory.track("room", ref, packed("here"))
        alone.directory.track("other room", watcher, NOTHING)
        assert watcher.watch("room") is True
        assert told(alone, watcher) == [({ref: "here"}, ())]

    def test_a_watcher_is_told_of_those_who_come_and_change_and_go(self, alone: Process) -> None:
        watcher, _ = alone.open()
        ref, peer = alone.open()
        watcher.watch("room")
        assert told(alone, watcher) == [({}, ())]
        for data in (1, 2):
            alone.directory.track("room", ref, packed(data))
            alone.reactor.advance(1)
            assert told(alone, watcher) == [({ref: data}, ())]
        peer.leave()
        alone.reactor.advance(1)
        assert told(alone, watcher) == [({}, (ref,))]

    def test_what_changes_within_a_fifth_of_a_second_is_told_together(self, alone: Process) -> None:
        watcher, _ = alone.open()
        refs = [alone.open()[0] for _ in range(3)]
        watcher.watch("room")
        assert told(alone, watcher) == [({}, ())]
        for ref in refs:
            alone.directory.track("room", ref, NOTHING)
            alone.reactor.advance(0.05)
            assert told(alone, watcher) == []
        alone.directory.untrack("room", refs[0])
        alone.reactor.advance(0.06)
        assert told(alone, watcher) == [({refs[1]: None, refs[2]: None}, ())]

    def test_a_change_after_a_quiet_time_is_told_at_once(self, alone: Process) -> None:
        watcher, _ = alone.open()
        ref, _ = alone.open()
        watcher.watch("room")
        told(alone, watcher)
        alone.reactor.advance(1)
        alone.directory.track("room", ref, NOTHING)
        assert told(alone, watcher) == [({ref: None}, ())]

    def test_a_watcher_is_not_told_of_what_was_undone_or_is_the_same(self, alone: Process) -> None:
        watcher, _ = alone.open()
        ref, _ = alone.open()
        alone.directory.track("room", watcher, NOTHING)
        watcher.watch("room")
        told(alone, watcher)
        alone.directory.track("room", ref, NOTHING)
        alone.directory.untrack("room", ref)
        alone.directory.untrack("room", watcher)
        alone.directory.track("room", watcher, NOTHING)
        alone.reactor.advance(1)
        assert told(alone, watcher) == []

    def test_one_who_watches_already_is_not_told_again(self, alone: Process) -> None:
        watcher, _ = alone.open()
        assert watcher.watch("room") is True
        assert watcher.watch("room") is True
        assert told(alone, watcher) == [({}, ())]
        alone.reactor.advance(1)
        assert watcher.watch("room") is True
        assert told(alone, watcher) == []

    def test_a_new_watcher_is_told_of_all_and_the_others_of_what_is_new(self, alone: Process) -> None:
        watcher, _ = alone.open()
        second, _ = alone.open()
        watcher.watch("room")
        told(alone, watcher)
        alone.directory.track("room", watcher, NOTHING)
        second.watch("room")
        alone.reactor.advance(1)
        assert told(alone, watcher) == told(alone, second) == [({watcher: None}, ())]

    def test_handlers_get_values_of_their_own(self, alone: Process) -> None:
        watchers = [alone.open()[0] for _ in range(2)]
        alone.directory.track("room", watchers[0], packed([1]))
        for watcher in watchers:
            watcher.watch("room")
        [(joined, _)] = told(alone, watchers[0])
        joined[watchers[0]].append(2)
        assert told(alone, watchers[1]) == [({watchers[0]: [1]}, ())]

    def test_nothing_is_told_after_unwatch(self, alone: Process) -> None:
        watcher, _ = alone.open()
        second, _ = alone.open()
        for ref in (watcher, second):
            ref.watch("room")
            told(alone, ref)
        assert watcher.unwatch("room") is True
        assert watcher.unwatch("room") is True
        assert watcher.unwatch("other") is True
        alone.directory.track("room", watcher, NOTHING)
        alone.reactor.advance(1)
        assert told(alone, watcher) == []
        assert told(alone, second) == [({watcher: None}, ())]
        alone.directory.untrack("room", watcher)
        second.unwatch("room")
        alone.reactor.advance(1)
        assert told(alone, second) == []

    def test_a_watch_goes_with_its_connection(self, alone: Process) -> None:
        watcher, peer = alone.open()
        watcher.watch("room")
        assert told(alone, watcher) == [({}, ())]
        peer.leave()
        alone.reactor.advance(1)
        assert alone.host.idle()

    def test_a_connection_may_watch_a_limited_number_of_topics(self, alone: Process) -> None:
        watcher, _ = alone.open()
        topics = [f"topic {number}" for number in range(MAX_OF_ONE + 1)]
        assert [watcher.watch(topic) for topic in topics] == [True] * MAX_OF_ONE + [False]
        assert watcher.watch(topics[0]) is True

    def test_only_topics_can_be_watched(self, alone: Process) -> None:
        watcher, _ = alone.open()
        with pytest.raises(ValueError, match="not to a pattern"):
            watcher.watch("rooms.*")
        with pytest.raises(TypeError, match="a topic is a str"):
            watcher.unwatch(7)  # type: ignore[arg-type]

    def test_nothing_is_watched_when_the_last_server_has_stopped(self, alone: Process) -> None:
        watcher, peer = alone.open()
        watcher.watch("room")
        alone.exchange.close()
        assert watcher.watch("other room") is False
        assert told(alone, watcher) == []
        peer.leave()
        assert alone.host.idle()

    def test_a_stop_ends_the_wait_for_the_next_info(self, alone: Process) -> None:
        watcher, peer = alone.open()
        watcher.watch("room")
        told(alone, watcher)
        alone.directory.track("room", watcher, NOTHING)
        alone.exchange.close()
        alone.reactor.advance(1)
        assert told(alone, watcher) == []
        peer.leave()
        assert alone.host.idle()


class TestInMany:
    def test_a_presence_is_known_in_all_processes(self, together: Together) -> None:
        one, *others = together.all
        ref, peer = one.open()
        one.directory.track("room", ref, packed("Ann"))
        together.turn()
        assert [other.directory.present("room") for other in others] == [{ref: "Ann"}] * 2
        one.directory.track("room", ref, packed("Bob"))
        together.turn()
        assert [other.directory.present("room") for other in others] == [{ref: "Bob"}] * 2
        peer.leave()
        together.turn()
        assert [other.directory.present("room") for other in others] == [{}, {}]

    def test_watchers_are_told_of_all_processes(self, together: Together) -> None:
        one, other, _ = together.all
        watcher, _ = other.open()
        mine, _ = one.open()
        watcher.watch("room")
        together.turn(1)
        assert told(other, watcher) == [({}, ())]
        one.directory.track("room", mine, packed({"a": None}))
        other.directory.track("room", watcher, NOTHING)
        together.turn(1)
        assert sum((len(joined) for joined, _ in told(other, watcher)), 0) == 2

    def test_a_connection_elsewhere_may_be_made_to_watch(self, together: Together) -> None:
        one, other, _ = together.all
        watcher, _ = other.open()
        assert one.of(watcher).watch("room") is True
        together.turn(1)
        assert told(other, watcher) == [({}, ())]
        assert one.of(watcher).unwatch("room") is True
        together.turn()
        other.directory.track("room", watcher, NOTHING)
        together.turn(1)
        assert told(other, watcher) == []

    def test_a_connection_of_another_process_can_not_be_tracked_here(self, together: Together) -> None:
        one, other, _ = together.all
        ref, _ = one.open()
        assert other.directory.track("room", other.of(ref), NOTHING) is False

    def test_presences_of_a_process_that_is_cut_off_end_and_come_back_with_it(self, together: Together) -> None:
        one, other, _ = together.all
        watcher, _ = other.open()
        refs = [one.open()[0] for _ in range(2)]
        for ref in refs:
            one.directory.track("room", ref, packed("here"))
        together.turn(2)
        watcher.watch("room")
        together.turn(1)
        assert told(other, watcher) == [(dict.fromkeys(refs, "here"), ())]
        one.cut_off()
        together.turn(5)
        [(joined, left)] = told(other, watcher)
        assert (joined, set(left)) == ({}, set(refs))
        assert other.directory.present("room") == {}
        one.come_back()
        together.turn(3)
        assert told(other, watcher) == [(dict.fromkeys(refs, "here"), ())]
