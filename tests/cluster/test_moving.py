from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.together import Process, Together
from tests.memory import MemoryReactor, Peer
from wshost.cluster.facts import packed
from wshost.cluster.moving import LINGER
from wshost.connections.ref import Ref
from wshost.connections.registry import Registry


@pytest.fixture
def together() -> Together:
    return Together(3)


def come(process: Process, moved: Ref) -> tuple[Ref, Peer]:
    """A connection of this process that has the home of another one, as a handler's reference names it."""
    own, peer = process.open()
    registry = process.registry
    guests = registry.lodge(own.id, Process.of(process, moved)._registry.home)
    process.homes.add(guests)
    process.exchange.open(moved.boot)
    return Ref(guests, own.id), peer


def go(process: Process, ref: Ref) -> Any:
    """A connection goes over; what goes with it."""
    held = json.loads(json.dumps(process.directory.freeze(ref)))
    registry: Any = process.registry
    registry.remove(registry.find(ref.id), None)
    return held


class TestGoingOver:
    def test_a_name_and_a_presence_are_never_lost_to_others(self, together: Together) -> None:
        old, new, other = together.all
        ref, _ = old.open()
        watcher, _ = other.open()
        assert old.directory.register("boss", ref)
        assert old.directory.track("room", ref, packed({"at": 1}))
        together.turn(1)
        assert watcher.watch("room")
        together.turn(1)
        assert other.infos(watcher) == [("presence", "room", {ref: {"at": 1}}, ())]
        held = go(old, ref)
        # Its handler says nothing again.
        together.turn(LINGER / 2)
        assert other.directory.whereis("boss") == ref
        here, _ = come(new, ref)
        assert here == ref
        new.directory.thaw(here, held)
        together.turn(3 * LINGER)
        old.exchange.close()
        together.turn(5)
        for process in (new, other):
            assert process.directory.whereis("boss") == ref
            assert process.directory.present("room") == {ref: {"at": 1}}
        assert other.infos(watcher) == []
        assert new.directory.register("boss", here)
        assert new.directory.unregister("boss")
        assert new.directory.untrack("room", here)
        together.turn(1)
        assert other.directory.whereis("boss") is None
        assert other.infos(watcher) == [("presence", "room", {}, (ref,))]

    def test_what_nobody_goes_on_with_ends_soon(self, together: Together) -> None:
        old, _, other = together.all
        first, _ = old.open()
        second, _ = old.open()
        for name, ref in (("boss", first), ("clerk", second)):
            assert old.directory.register(name, ref)
        together.turn(1)
        go(old, first)
        together.turn(1.5 * LINGER)
        assert not old.directory.register("boss", second)
        go(old, second)
        together.turn(LINGER / 4)
        assert [other.directory.whereis(name) for name in ("boss", "clerk")] == [first, second]
        together.turn(LINGER)
        assert [other.directory.whereis(name) for name in ("boss", "clerk")] == [None, second]
        together.turn(LINGER)
        assert other.directory.whereis("clerk") is None

    def test_a_process_that_leaves_has_nothing_left(self, together: Together) -> None:
        old, _, other = together.all
        ref, _ = old.open()
        assert old.directory.register("boss", ref)
        together.turn(1)
        go(old, ref)
        old.exchange.close()
        together.turn(0.5)
        assert other.directory.whereis("boss") is None
        assert old.directory.freeze(ref) == {}

    def test_one_that_has_nothing_takes_nothing_along(self, together: Together) -> None:
        old, *_ = together.all
        idle, _ = old.open()
        watcher, _ = old.open()
        assert watcher.watch("room")
        assert watcher.monitor(idle)
        assert go(old, idle) == {}
        assert go(old, watcher) == {"watched": ["room"], "monitored": [str(idle)]}
        assert old.infos(watcher) == []

    def test_without_other_processes_nothing_stays(self) -> None:
        alone = Process(MemoryReactor())
        ref, _ = alone.open()
        assert alone.directory.register("boss", ref)
        go(alone, ref)
        assert alone.directory.whereis("boss") is None


class TestComing:
    def test_what_is_monitored_and_watched_is_known_when_all_have_come(self) -> None:
        old, new = Process(MemoryReactor()), Process(MemoryReactor())
        refs = [old.open()[0] for _ in range(3)]
        watcher, target, gone = refs
        for other in (target, gone):
            assert watcher.monitor(other)
        assert watcher.watch("room")
        assert old.directory.track("room", target, packed(None))
        held = [go(old, ref) for ref in refs]
        here, peer = come(new, watcher)
        new.directory.thaw(here, held[0])
        there, other_peer = come(new, target)
        new.directory.thaw(there, held[1])
        peer.turn()
        assert new.handler.infos[new.handler.refs[0]] == []
        new.directory.settle()
        new.directory.settle()
        peer.turn()
        peer.turn()
        infos = new.handler.infos[new.handler.refs[0]]
        assert ("presence", "room", {target: None}, ()) in infos
        assert ("down", gone, "unreachable") in infos
        assert len(infos) == 2
        other_peer.leave()
        peer.turn()
        assert infos[2][:2] == ("down", target)

    def test_one_that_ends_before_is_told_nothing(self) -> None:
        old, new = Process(MemoryReactor()), Process(MemoryReactor())
        watcher, _ = old.open()
        assert watcher.watch("room")
        held = go(old, watcher)
        here, peer = come(new, watcher)
        new.directory.thaw(here, held)
        peer.leave()
        new.directory.settle()
        peer.turn()
        assert new.handler.infos[new.handler.refs[0]] == []

    @pytest.mark.parametrize(("since", "has"), [(500.0, "carried"), (2_000.0, "own")])
    def test_of_two_with_the_same_name_the_earlier_one_keeps_it(self, since: float, has: str) -> None:
        old, new = Process(MemoryReactor(), wall=since), Process(MemoryReactor())
        moved, _ = old.open()
        assert old.directory.register("boss", moved)
        own, peer = new.open()
        assert new.directory.register("boss", own)
        here, _ = come(new, moved)
        new.directory.thaw(here, go(old, moved))
        peer.turn()
        both = {"carried": here, "own": own}
        loser = {"carried": own, "own": here}[has]
        assert new.directory.whereis("boss") == both[has]
        noted = new.handler.refs[0 if loser == own else 1]
        assert new.handler.infos[noted] == [("unregistered", "boss")]
        assert isinstance(new.registry, Registry)
