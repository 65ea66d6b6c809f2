from __future__ import annotations

import threading
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost

from tests.cluster.together import Process, Together
from tests.memory import MemoryReactor
from wshost.cluster.facts import MAX_OF_ONE
from wshost.connections.ref import Ref

DONE = "Connection was closed cleanly."


@pytest.fixture
def alone() -> Process:
    return Process(MemoryReactor())


@pytest.fixture
def together() -> Together:
    return Together(3)


class TestInOneProcess:
    def test_a_handler_is_told_once_that_a_monitored_connection_has_ended(self, alone: Process) -> None:
        watcher, _ = alone.open()
        other, peer = alone.open()
        assert watcher.monitor(other) is True
        assert watcher.monitor(other) is True
        alone.reactor.advance(1)
        assert alone.infos(watcher) == []
        peer.leave()
        assert alone.infos(watcher) == [("down", other, DONE)]

    def test_the_reason_is_why_the_connection_was_lost(self, alone: Process) -> None:
        watcher, _ = alone.open()
        lost, peer = alone.open()
        stopped, _ = alone.open()
        assert watcher.monitor(lost)
        assert watcher.monitor(stopped)
        peer.leave(ConnectionLost())
        alone.host.hub.shared.registry.find(stopped.id).abort("it was tired")  # type: ignore[union-attr]
        peer.turn()
        assert [(ref, reason) for _, ref, reason in alone.infos(watcher)] == [
            (lost, "Connection to the other side was lost in a non-clean fashion."),
            (stopped, "it was tired"),
        ]

    def test_a_handler_is_told_at_once_of_a_connection_that_is_gone_already(self, alone: Process) -> None:
        watcher, one = alone.open()
        other, peer = alone.open()
        peer.leave()
        assert watcher.monitor(other) is True
        one.turn()
        assert alone.infos(watcher) == [("down", other, "gone")]

    def test_a_handler_is_not_told_after_demonitor(self, alone: Process) -> None:
        watcher, _ = alone.open()
        third, _ = alone.open()
        other, peer = alone.open()
        assert watcher.monitor(other)
        assert third.monitor(other)
        assert watcher.demonitor(other) is True
        assert watcher.demonitor(other) is True
        peer.leave()
        assert alone.infos(watcher) == []
        assert alone.infos(third) == [("down", other, DONE)]

    def test_a_connection_may_be_monitored_again_when_it_was_down(self, alone: Process) -> None:
        watcher, one = alone.open()
        other, peer = alone.open()
        assert watcher.monitor(other)
        peer.leave()
        assert watcher.monitor(other)
        one.turn()
        assert alone.infos(watcher) == [("down", other, DONE), ("down", other, "gone")]

    def test_a_monitor_goes_with_the_connection_that_monitors(self, alone: Process) -> None:
        watcher, one = alone.open()
        other, peer = alone.open()
        assert watcher.monitor(other)
        assert watcher.monitor(watcher)
        one.leave()
        assert watcher.monitor(other) is False
        peer.leave()
        assert alone.handler.infos[watcher] == []
        assert alone.host.idle()

    def test_a_connection_may_monitor_a_limited_number(self, alone: Process) -> None:
        watcher, _ = alone.open()
        refs = [Ref(alone.registry, watcher.id), *(alone.open()[0] for _ in range(MAX_OF_ONE))]
        assert [watcher.monitor(ref) for ref in refs] == [True] * MAX_OF_ONE + [False]

    def test_without_a_backplane_a_connection_elsewhere_is_unreachable(self, alone: Process) -> None:
        watcher, one = alone.open()
        elsewhere, _ = Process(MemoryReactor()).open()
        assert watcher.monitor(alone.of(elsewhere)) is True
        one.turn()
        assert alone.infos(watcher) == [("down", elsewhere, "unreachable")]

    def test_a_monitor_may_be_asked_for_in_any_thread(self, alone: Process) -> None:
        watcher, one = alone.open()
        other, peer = alone.open()
        thread = threading.Thread(target=watcher.monitor, args=(other,))
        thread.start()
        thread.join()
        one.turn()
        peer.leave()
        assert alone.infos(watcher) == [("down", other, DONE)]

    def test_nobody_is_told_of_a_connection_that_goes_over_to_another_process(self, alone: Process) -> None:
        watcher, _ = alone.open()
        other, peer = alone.open()
        assert watcher.monitor(other)
        peer.connection.depart()
        peer.turn()
        assert alone.infos(watcher) == []

    def test_only_a_reference_can_be_monitored(self, alone: Process) -> None:
        watcher, _ = alone.open()
        with pytest.raises(TypeError, match="a reference is wanted, not str"):
            watcher.monitor("c1")  # type: ignore[arg-type]


def down(process: Process, watcher: Ref) -> list[tuple[Any, ...]]:
    return [info[1:] for info in process.infos(watcher)]


class TestInMany:
    def test_a_handler_is_told_once_that_a_connection_elsewhere_has_ended(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, peer = there.open()
        assert watcher.monitor(here.of(other)) is True
        together.turn(10)
        assert down(here, watcher) == []
        peer.leave()
        together.turn()
        assert down(here, watcher) == [(other, DONE)]
        together.turn(10)
        assert down(here, watcher) == []

    def test_a_second_monitor_of_a_connection_that_is_known_asks_nobody(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, one = here.open()
        second, _ = here.open()
        other, peer = there.open()
        assert watcher.monitor(here.of(other))
        together.turn()
        published = here.counts.published
        assert second.monitor(here.of(other))
        one.turn()
        assert here.counts.published == published
        peer.leave()
        together.turn()
        assert down(here, watcher) == down(here, second) == [(other, DONE)]

    def test_a_handler_is_told_soon_that_a_connection_elsewhere_is_gone_already(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, peer = there.open()
        peer.leave()
        assert watcher.monitor(here.of(other))
        together.turn()
        assert down(here, watcher) == [(other, "gone")]

    def test_a_connection_of_a_process_that_never_was_is_unreachable(self, together: Together) -> None:
        here = together.all[0]
        watcher, _ = here.open()
        elsewhere, _ = Process(MemoryReactor()).open()
        assert watcher.monitor(here.of(elsewhere))
        together.turn(2.9)
        assert down(here, watcher) == []
        together.turn(2)
        assert down(here, watcher) == [(elsewhere, "unreachable")]

    def test_all_connections_of_a_process_that_is_cut_off_are_unreachable(self, together: Together) -> None:
        here, there, third = together.all
        watcher, _ = here.open()
        others = [there.open()[0] for _ in range(3)]
        safe, _ = third.open()
        for other in [*others, safe]:
            assert watcher.monitor(here.of(other))
        together.turn(3)
        there.cut_off()
        together.turn(5)
        assert sorted(down(here, watcher), key=str) == [(other, "unreachable") for other in others]

    def test_nothing_is_told_twice_when_a_partition_has_healed(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, peer = there.open()
        assert watcher.monitor(here.of(other))
        together.turn(3)
        there.cut_off()
        together.turn(5)
        assert down(here, watcher) == [(other, "unreachable")]
        there.come_back()
        together.turn(5)
        assert watcher.monitor(here.of(other))
        together.turn(5)
        assert down(here, watcher) == []
        peer.leave()
        together.turn()
        assert down(here, watcher) == [(other, DONE)]

    def test_a_handler_is_told_of_a_connection_that_has_ended_while_its_end_was_lost(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, peer = there.open()
        assert watcher.monitor(here.of(other))
        together.turn(3)
        there.cut_off()
        peer.leave()
        together.turn(0.5)
        there.come_back()
        together.turn(3)
        assert down(here, watcher) == [(other, "gone")]

    def test_a_lost_request_is_repeated(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, peer = there.open()
        peer.leave()
        here.cut_off()
        assert watcher.monitor(here.of(other))
        together.turn(0.5)
        here.come_back()
        together.turn(2)
        assert down(here, watcher) == [(other, "gone")]

    def test_a_process_that_stops_says_so(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, _ = there.open()
        assert watcher.monitor(here.of(other))
        together.turn(3)
        there.exchange.close()
        together.turn()
        assert down(here, watcher) == [(other, "unreachable")]

    def test_connections_elsewhere_are_unreachable_when_this_process_leaves(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        known, _ = there.open()
        unknown, _ = there.open()
        assert watcher.monitor(here.of(known))
        together.turn(3)
        assert watcher.monitor(here.of(unknown))
        here.exchange.close()
        together.turn()
        assert sorted(down(here, watcher), key=str) == [(known, "unreachable"), (unknown, "unreachable")]

    def test_a_connection_elsewhere_may_be_made_to_monitor(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = there.open()
        other, peer = here.open()
        assert here.of(watcher).monitor(other) is True
        together.turn()
        peer.leave()
        together.turn()
        assert there.infos(watcher) == [("down", other, DONE)]
        again, peer = here.open()
        assert here.of(watcher).monitor(again) is True
        assert here.of(watcher).demonitor(again) is True
        together.turn()
        peer.leave()
        together.turn()
        assert there.infos(watcher) == []

    def test_a_monitor_that_is_undone_is_not_asked_for_again(self, together: Together) -> None:
        here = together.all[0]
        watcher, _ = here.open()
        elsewhere, _ = Process(MemoryReactor()).open()
        assert watcher.monitor(here.of(elsewhere))
        assert watcher.demonitor(here.of(elsewhere))
        together.turn(10)
        assert down(here, watcher) == []

    def test_a_stall_of_this_process_is_not_held_against_others(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        known, _ = there.open()
        assert watcher.monitor(here.of(known))
        together.turn(3)
        elsewhere, _ = Process(MemoryReactor()).open()
        assert watcher.monitor(here.of(elsewhere))
        together.reactor.stall(30)
        together.turn(0.5)
        assert down(here, watcher) == []
        together.turn(5)
        assert down(here, watcher) == [(elsewhere, "unreachable")]

    def test_a_connection_that_goes_over_is_monitored_in_the_other_process(self, together: Together) -> None:
        here, there, _ = together.all
        watcher, _ = here.open()
        other, _ = there.open()
        third, _ = there.open()
        assert watcher.monitor(here.of(other))
        assert watcher.monitor(here.of(third))
        together.turn(1)
        assert watcher.demonitor(here.of(third))
        there.registry.shares_home = True
        for one in (other, third):
            there.registry.find(one.id).depart()  # type: ignore[union-attr]
        together.turn(1)
        assert down(here, watcher) == []
        # Nobody has it.
        together.turn(5)
        assert down(here, watcher) == [(other, "unreachable")]

    def test_a_connection_of_a_shared_home_is_looked_for_in_other_processes(self, together: Together) -> None:
        here = together.all[0]
        watcher, _ = here.open()
        here.registry.shares_home = True
        gone = Ref(here.registry, "c99")
        assert watcher.monitor(gone)
        together.turn(2)
        assert down(here, watcher) == []
        together.turn(3)
        assert down(here, watcher) == [(gone, "unreachable")]
