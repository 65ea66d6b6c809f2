from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.cluster.together import Process, Together
from tests.memory import MemoryHost, MemoryReactor, link
from wshost.cluster import holdings
from wshost.cluster.exchange import Exchange
from wshost.cluster.facts import MAX_OF_ONE
from wshost.connections.homes import Homes
from wshost.handlers.adapter import HandlerAdapter
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket


class Crashing:
    """A handler that registers a name at each start, and fails at each message."""

    def __init__(self, directory: Any) -> None:
        self.directory = directory
        #: Who had the name at each start.
        self.had: list[Any] = []

    def init(self, options: Any) -> Any:
        self.had.append(self.directory.whereis("ann"))
        assert self.directory.register("ann", options["worker"])

    def handle(self, message: Any, state: Any) -> Any:
        raise ValueError("on purpose")


@pytest.fixture
def alone() -> Process:
    return Process(MemoryReactor())


@pytest.fixture
def together() -> Together:
    return Together(3)


class TestInOneProcess:
    def test_a_connection_is_found_by_its_name(self, alone: Process) -> None:
        ref, _ = alone.open()
        assert alone.directory.register("ann", ref) is True
        assert alone.directory.whereis("ann") == ref
        assert alone.directory.whereis("bob") is None

    def test_a_name_that_another_connection_has_is_refused(self, alone: Process) -> None:
        ref, _ = alone.open()
        other, _ = alone.open()
        assert alone.directory.register("ann", ref)
        assert alone.directory.register("ann", other) is False
        assert alone.directory.register("ann", ref) is True
        assert alone.directory.whereis("ann") == ref

    def test_a_name_is_free_again_when_it_is_unregistered(self, alone: Process) -> None:
        ref, _ = alone.open()
        other, _ = alone.open()
        assert alone.directory.register("ann", ref)
        assert alone.directory.unregister("ann") is True
        assert alone.directory.unregister("ann") is False
        assert alone.directory.whereis("ann") is None
        assert alone.directory.register("ann", other) is True

    def test_a_name_goes_with_its_connection(self, alone: Process) -> None:
        ref, peer = alone.open()
        other, _ = alone.open()
        assert alone.directory.register("ann", ref)
        peer.leave()
        assert alone.directory.whereis("ann") is None
        assert alone.directory.register("ann", ref) is False
        assert alone.directory.register("ann", other) is True

    def test_a_connection_that_starts_over_has_and_wants_nothing(self, alone: Process) -> None:
        ref, peer = alone.open()
        other, others = alone.open()
        assert alone.directory.register("ann", ref)
        assert alone.directory.track("room", ref, b"\xc0")
        assert ref.watch("hall")
        assert ref.monitor(other)
        alone.reactor.advance(1)
        alone.infos(ref)
        peer.connection.context.start_over()
        assert alone.directory.whereis("ann") is None
        assert alone.directory.present("room") == {}
        alone.directory.track("hall", other, b"\xc0")
        others.leave()
        alone.reactor.advance(1)
        assert alone.infos(ref) == []
        assert alone.directory.register("ann", ref)
        assert alone.directory.whereis("ann") == ref

    def test_a_handler_that_starts_again_may_register_what_it_had_before(self) -> None:
        exchange = Exchange(Homes())
        exchange.connect(MemoryReactor())
        handler = Crashing(exchange.directory)
        chain = [
            link("http", http),
            link("websocket", websocket, {"handler": HandlerAdapter(handler, {}, restarts=True), "ping_interval": 0}),
        ]
        host = MemoryHost(chain=chain, exchange=exchange)
        exchange._homes.add(host.hub.shared.registry)
        exchange.open(host.hub.shared.registry.home.boot)
        peer = host.open()
        assert handler.had == [None]
        peer.text("crash")
        assert peer.messages() == []
        assert handler.had == [None, None]
        assert exchange.directory.whereis("ann") == peer.connection.ref

    def test_a_connection_that_starts_over_is_monitored_still(self, alone: Process) -> None:
        ref, peer = alone.open()
        watcher, _ = alone.open()
        assert watcher.monitor(ref)
        peer.connection.context.start_over()
        alone.reactor.advance(1)
        assert alone.infos(watcher) == []
        peer.leave()
        alone.reactor.advance(1)
        assert [info[:2] for info in alone.infos(watcher)] == [("down", ref)]

    def test_nothing_is_looked_for_when_a_connection_starts_over_that_nobody_has_named(self, alone: Process) -> None:
        _, peer = alone.open()
        peer.connection.context.start_over()
        assert alone.directory.whereis("ann") is None
        peer.leave()
        assert alone.host.idle()

    def test_a_connection_may_have_a_limited_number_of_names(self, alone: Process) -> None:
        ref, _ = alone.open()
        assert all(alone.directory.register(f"name {number}", ref) for number in range(MAX_OF_ONE))
        assert alone.directory.register("one more", ref) is False
        alone.directory.unregister("name 7")
        assert alone.directory.register("one more", ref) is True

    def test_a_process_may_have_a_limited_number_of_names(
        self, alone: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(holdings, "MAX_OF_PROCESS", 2)
        ref, peer = alone.open()
        other, _ = alone.open()
        assert [alone.directory.register(name, ref) for name in "abc"] == [True, True, False]
        assert alone.directory.track("room", other, b"\xc0") is False
        peer.leave()
        assert alone.directory.register("c", other) is True

    def test_names_are_registered_and_found_in_any_thread(self, alone: Process) -> None:
        ref, _ = alone.open()
        results: list[Any] = []

        def use() -> None:
            results.append(alone.directory.register("ann", ref))
            results.append(alone.directory.whereis("ann"))
            results.append(alone.directory.unregister("ann"))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert results == [True, ref, True]

    def test_nothing_is_left_of_a_process_alone_that_uses_names(self, alone: Process) -> None:
        ref, peer = alone.open()
        assert alone.directory.register("ann", ref)
        peer.leave()
        assert alone.host.idle()

    def test_a_connection_whose_server_has_not_opened_it_to_others_has_no_monitors(self, alone: Process) -> None:
        ref, _ = alone.open()
        alone.registry.directory = None
        assert ref.monitor(ref) is False


class TestInMany:
    def test_a_name_is_known_in_all_processes(self, together: Together) -> None:
        one, *others = together.all
        ref, _ = one.open()
        assert one.directory.register("ann", ref)
        together.turn()
        assert [other.directory.whereis("ann") for other in others] == [ref, ref]

    def test_a_found_connection_of_another_process_can_be_sent_to(self, together: Together) -> None:
        one, other, _ = together.all
        ref, peer = one.open()
        assert one.directory.register("ann", ref)
        together.turn()
        found: Any = other.directory.whereis("ann")
        assert found.send("hello")
        together.turn()
        assert peer.messages() == ["hello"]

    def test_a_name_that_is_registered_in_another_thread_is_known_in_all_processes(self, together: Together) -> None:
        one, other, _ = together.all
        ref, _ = one.open()
        thread = threading.Thread(target=one.directory.register, args=("ann", ref))
        thread.start()
        thread.join()
        together.turn(0.1)
        assert other.directory.whereis("ann") == ref

    def test_a_name_of_another_process_is_refused_here(self, together: Together) -> None:
        one, other, _ = together.all
        ref, _ = one.open()
        theirs, _ = other.open()
        assert one.directory.register("ann", ref)
        together.turn()
        assert other.directory.register("ann", theirs) is False
        assert other.directory.unregister("ann") is False

    def test_a_connection_of_another_process_gets_no_name_here(self, together: Together) -> None:
        one, other, _ = together.all
        ref, _ = one.open()
        assert other.directory.register("ann", other.of(ref)) is False

    def test_a_name_is_free_in_all_processes_when_its_connection_has_gone(self, together: Together) -> None:
        one, other, _ = together.all
        ref, peer = one.open()
        theirs, _ = other.open()
        assert one.directory.register("ann", ref)
        together.turn()
        peer.leave()
        together.turn()
        assert other.directory.whereis("ann") is None
        assert other.directory.register("ann", theirs) is True
        together.turn()
        assert one.directory.whereis("ann") == theirs

    def test_a_name_is_free_in_all_processes_when_its_connection_has_started_over(self, together: Together) -> None:
        one, other, _ = together.all
        ref, peer = one.open()
        theirs, _ = other.open()
        assert one.directory.register("ann", ref)
        together.turn()
        peer.connection.context.start_over()
        together.turn()
        assert other.directory.whereis("ann") is None
        assert other.directory.register("ann", theirs) is True
        together.turn()
        assert one.directory.whereis("ann") == theirs

    def test_of_two_that_register_a_name_at_once_the_earlier_keeps_it(self, together: Together) -> None:
        later, earlier, third = together.all
        later.wall, earlier.wall = 50.0, 40.0
        loser, _ = later.open()
        winner, _ = earlier.open()
        assert later.directory.register("ann", loser)
        assert earlier.directory.register("ann", winner)
        together.turn()
        assert {process.directory.whereis("ann") for process in together.all} == {winner}
        assert later.infos(loser) == [("unregistered", "ann")]
        assert earlier.infos(winner) == []
        together.turn(3)
        assert third.directory.whereis("ann") == winner
        assert later.infos(loser) == []

    def test_a_tie_is_decided_by_the_references_in_all_processes_alike(self, together: Together) -> None:
        one, other, _ = together.all
        one.wall = other.wall = 40.0
        refs = [process.open()[0] for process in (one, other)]
        assert one.directory.register("ann", refs[0])
        assert other.directory.register("ann", refs[1])
        together.turn()
        first, last = sorted(refs, key=str)
        assert {process.directory.whereis("ann") for process in together.all} == {first}
        assert one.infos(refs[0]) + other.infos(refs[1]) == [("unregistered", "ann")]
        assert (one if last is refs[0] else other).directory.unregister("ann") is False

    def test_the_third_claim_counts_when_the_first_ends_before_the_second_is_told(self, together: Together) -> None:
        one, other, third = together.all
        refs = [process.open()[0] for process in (one, other)]
        assert one.directory.register("ann", refs[0])
        together.turn()
        other.cut_off()
        together.turn(5)
        assert other.directory.whereis("ann") is None
        other.wall = 5_000.0
        assert other.directory.register("ann", refs[1])
        assert one.directory.unregister("ann")
        other.come_back()
        together.turn(3)
        assert {process.directory.whereis("ann") for process in together.all} == {refs[1]}
        assert third.directory.whereis("ann") == refs[1]

    def test_after_a_partition_the_earlier_registration_stays(self, together: Together) -> None:
        one, other, third = together.all
        one.cut_off()
        mine, _ = one.open()
        theirs, _ = other.open()
        one.wall, other.wall = 70.0, 60.0
        assert one.directory.register("ann", mine)
        assert other.directory.register("ann", theirs)
        together.turn(5)
        assert one.directory.whereis("ann") == mine
        assert third.directory.whereis("ann") == theirs
        one.come_back()
        together.turn(3)
        assert {process.directory.whereis("ann") for process in together.all} == {theirs}
        assert one.infos(mine) == [("unregistered", "ann")]
        assert other.infos(theirs) == []
