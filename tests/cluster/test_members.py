from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.together import Process, Together
from tests.memory import MemoryReactor
from wshost.cluster import members as members_module
from wshost.cluster.envelope import Codec
from wshost.cluster.exchange import Cluster, Way
from wshost.cluster.facts import packed
from wshost.connections.ref import Ref

REF = "vm.hD3kP0aQ9zE.c17"
SENDER = "hD3kP0aQ9zE"


@pytest.fixture
def together() -> Together:
    return Together(3)


def fill(process: Process, count: int, size: int = 500) -> Ref:
    """Make many presences of one connection."""
    ref, _ = process.open()
    for number in range(count):
        assert process.directory.track(f"topic {number}", ref, packed(bytes(size)))
    return ref


def known(process: Process, count: int) -> int:
    return sum(len(process.directory.present(f"topic {number}")) for number in range(count))


def until_a_piece(together: Together) -> None:
    """Let time pass until a piece of a copy is under way."""
    while not any(b"piece" in payload for _, payload in together.bus.sent):
        together.bus.deliver()
        together.reactor.advance(0.002)


class Stranger:
    """A process that tells others what the test says."""

    def __init__(self, together: Together) -> None:
        self._together = together
        self._number = 0

    def tell(self, *messages: Any, sender: str = SENDER, subject: str = "wshost.all") -> None:
        codec = Codec()
        made = [codec.pack(message) for message in messages]
        envelope = codec.enclose("machine", sender, 0, self._number, made)
        self._number += len(made)
        self._together.bus.sent.append((subject, envelope))
        self._together.turn()


@pytest.fixture
def stranger(together: Together) -> Stranger:
    return Stranger(together)


class Between:
    """Stands for the other processes, and has a say in what is spread.

    :param spread: gets the real one's method, and the message.
    """

    def __init__(self, outside: Any, spread: Callable[[Callable[[Any], bool], Any], bool]) -> None:
        self._outside = outside
        self._spread = spread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outside, name)

    def spread(self, message: Any) -> bool:
        return self._spread(self._outside.spread, message)


class TestBeats:
    def test_processes_that_use_nothing_of_this_are_silent(self, together: Together) -> None:
        together.turn(5)
        assert [process.counts.published for process in together.all] == [0, 0, 0]
        assert together.reactor.getDelayedCalls() == []

    def test_a_process_alone_has_no_timer(self) -> None:
        process = Process(MemoryReactor())
        ref, peer = process.open()
        process.directory.register("ann", ref)
        process.reactor.advance(0)
        assert process.reactor.getDelayedCalls() == Process(process.reactor).reactor.getDelayedCalls()
        peer.leave()
        assert process.host.idle()

    def test_a_process_with_facts_beats_once_a_second(self, together: Together) -> None:
        one = together.all[0]
        one.directory.register("ann", one.open()[0])
        together.turn(0.5)
        before = one.counts.published
        together.turn(10)
        assert one.counts.published - before == 10

    def test_while_it_is_not_connected_a_process_does_not_beat(self, together: Together) -> None:
        one = together.all[0]
        one.directory.register("ann", one.open()[0])
        together.turn(0.5)
        one.backplane.receiver.disconnected("it is down")  # type: ignore[union-attr]
        before = one.counts.published
        together.turn(5)
        assert one.counts.published == before

    def test_a_process_that_does_not_beat_is_forgotten_within_five_seconds(self, together: Together) -> None:
        one, other, _ = together.all
        one.directory.register("ann", one.open()[0])
        together.turn(2)
        one.cut_off()
        together.turn(2)
        assert other.directory.whereis("ann") is not None
        together.turn(3)
        assert other.directory.whereis("ann") is None

    def test_a_process_that_stops_is_forgotten_at_once(self, together: Together) -> None:
        one, other, _ = together.all
        one.directory.register("ann", one.open()[0])
        together.turn(2)
        one.exchange.close()
        together.turn()
        assert other.directory.whereis("ann") is None

    def test_a_stall_of_this_process_is_not_held_against_others(self, together: Together) -> None:
        one, other, _ = together.all
        one.directory.register("ann", one.open()[0])
        together.turn(2)
        together.reactor.stall(60)
        together.turn(5)
        assert other.directory.whereis("ann") is not None
        one.cut_off()
        together.turn(5)
        assert other.directory.whereis("ann") is None


class TestReplicas:
    def test_a_new_process_gets_all_facts_of_the_others(self, together: Together) -> None:
        one, other, _ = together.all
        one.directory.register("ann", one.open()[0])
        other.directory.register("bob", other.open()[0])
        together.turn(2)
        new = Process(together.reactor, together.bus)
        together.turn(2)
        assert new.directory.whereis("ann") == one.directory.whereis("ann")
        assert new.directory.whereis("bob") == other.directory.whereis("bob")

    def test_a_process_that_had_names_before_it_joined_tells_them(self, together: Together) -> None:
        one = together.all[0]
        late = Process(together.reactor)
        late.directory.register("ann", late.open()[0])
        late.exchange.close()
        bus_end = together.bus.backplane()
        late.exchange.connect(together.reactor, Cluster(ways=[Way("bus", lambda: bus_end)]))
        bus_end.receiver.connected()
        together.turn(3)
        assert one.directory.whereis("ann") == late.directory.whereis("ann") is not None

    def test_a_copy_of_many_facts_comes_in_pieces(self, together: Together) -> None:
        one = together.all[0]
        ref = fill(one, 400)
        together.turn(2)
        new = Process(together.reactor, together.bus)
        together.turn(3)
        assert known(new, 400) == 400
        assert new.counts.malformed == 0
        assert new.directory.present("topic 7") == {ref: bytes(500)}

    def test_what_changes_while_a_copy_is_sent_is_in_the_replica(self, together: Together) -> None:
        one = together.all[0]
        ref = fill(one, 400)
        together.turn(2)
        new = Process(together.reactor, together.bus)
        until_a_piece(together)
        one.directory.untrack("topic 0", ref)
        one.directory.untrack("topic 399", ref)
        one.directory.track("topic 1", ref, packed("changed"))
        one.directory.track("topic 400", ref, packed("new"))
        together.turn(0.5)
        assert known(new, 401) == 399
        assert new.directory.present("topic 1") == {ref: "changed"}
        assert new.directory.present("topic 400") == {ref: "new"}

    def test_a_process_that_joins_while_a_copy_is_sent_gets_another_one(self, together: Together) -> None:
        one = together.all[0]
        fill(one, 400)
        together.turn(2)
        new = [Process(together.reactor, together.bus)]
        until_a_piece(together)
        new.append(Process(together.reactor, together.bus))
        second = Stranger(together)
        second.tell(["copy", SENDER], subject=f"wshost.h.{one.exchange.outside.own.boot}")  # type: ignore[union-attr]
        together.turn(3)
        assert [known(process, 400) for process in new] == [400, 400]

    def test_a_process_that_has_missed_something_gets_it(self, together: Together) -> None:
        one, other, _ = together.all
        ann, _ = one.open()
        bob, _ = one.open()
        one.directory.register("ann", ann)
        one.directory.track("room", ann, packed(1))
        together.turn(2)
        other.cut_off()
        one.directory.unregister("ann")
        one.directory.register("bob", bob)
        one.directory.track("room", ann, packed(2))
        together.turn(1)
        other.come_back()
        one.directory.register("cid", bob)
        together.turn(2)
        assert [other.directory.whereis(name) for name in ("ann", "bob", "cid")] == [None, bob, bob]
        assert other.directory.present("room") == {ann: 2}

    def test_processes_that_miss_the_same_do_not_all_ask_at_once(self) -> None:
        together = Together(8)
        one, *others = together.all
        ref, _ = one.open()
        one.directory.register("ann", ref)
        together.turn(2)
        for other in others:
            other.cut_off()
        one.directory.register("bob", ref)
        together.turn(0.1)
        for other in others:
            other.come_back()
        before = [other.counts.published for other in others]
        together.turn(2)
        assert [other.directory.whereis("bob") for other in others] == [ref] * 7
        asked = sum(other.counts.published for other in others) - sum(before)
        assert 1 <= asked < 7

    def test_a_copy_of_which_a_part_is_lost_is_asked_for_again(self, together: Together) -> None:
        one = together.all[0]
        fill(one, 400)
        together.turn(2)
        new = Process(together.reactor, together.bus)
        until_a_piece(together)
        together.bus.deliver()
        new.cut_off()
        together.turn(0.3)
        new.come_back()
        assert known(new, 400) == 0
        together.turn(4)
        assert known(new, 400) == 400

    def test_a_copy_for_which_there_is_no_room_is_given_up_until_it_is_asked_for_again(
        self, together: Together
    ) -> None:
        one, other, _ = together.all
        fill(one, 200)
        other.cut_off()
        together.turn(2)
        members: Any = one.directory._members
        full = [True]
        members._outside = Between(
            members._outside, lambda spread, message: not (full[0] and message[0] == "piece") and spread(message)
        )
        other.come_back()
        together.turn(2)
        assert known(other, 200) == 0
        full[0] = False
        together.turn(3)
        assert known(other, 200) == 200

    def test_a_process_leaves_while_it_sends_a_copy(self, together: Together) -> None:
        one, *others = together.all
        fill(one, 400)
        together.turn(2)
        new = Process(together.reactor, together.bus)
        until_a_piece(together)
        one.exchange.close()
        together.turn(5)
        assert [known(process, 400) for process in (new, *others)] == [0, 0, 0]

    def test_a_process_leaves_before_it_asks(self, together: Together) -> None:
        one = together.all[0]
        one.directory.register("ann", one.open()[0])
        together.turn(2)
        new = Process(together.reactor, together.bus)
        together.reactor.advance(1)
        together.bus.deliver()
        new.exchange.close()
        together.turn(2)
        assert new.directory.whereis("ann") is None


class TestStrangers:
    """What comes from the wire is checked."""

    def test_facts_of_a_stranger_are_known(self, together: Together, stranger: Stranger) -> None:
        stranger.tell(["change", 0, [[True, "n", "ann", [1.0, REF]]]])
        assert [str(process.directory.whereis("ann")) for process in together.all] == [REF] * 3

    @pytest.mark.parametrize(
        "message",
        [
            None,
            [],
            "text",
            [7],
            [["beat"], 1],
            ["nothing", 1],
            ["beat"],
            ["beat", "1"],
            ["beat", True],
            ["beat", 1, 2],
            ["change", 0],
            ["change", None, []],
            ["change", 0, None],
            ["piece", 0, "0", []],
            ["piece", 1, 0, None],
            ["copied", 1, None],
            ["copied", 1],
            ["change", 0, [None]],
            ["change", 0, [[True, "n", "", None]]],
        ],
    )
    def test_what_means_nothing_is_counted_and_ignored(
        self, together: Together, stranger: Stranger, message: Any
    ) -> None:
        one = together.all[0]
        stranger.tell(message)
        assert one.counts.malformed == 1
        stranger.tell(["change", 1, []], ["piece", 9, 0, [[True, "n", "ann", [1.0, REF]]]], ["copied", 9, 1])
        assert str(one.directory.whereis("ann")) == REF

    @pytest.mark.parametrize("sender", ["", "a.b", "*" * 11, "x" * 12])
    def test_what_comes_from_no_process_is_ignored(self, together: Together, stranger: Stranger, sender: str) -> None:
        stranger.tell(["change", 0, [[True, "n", "ann", [1.0, REF]]]], sender=sender)
        assert together.all[0].counts.malformed == 1
        assert together.all[0].directory.whereis("ann") is None

    def test_of_facts_only_those_that_mean_nothing_are_ignored(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        stranger.tell(["change", 0, [None, [True, "n", "ann", [1.0, REF]], [True, "n", "bob", None]]])
        assert str(one.directory.whereis("ann")) == REF
        assert one.counts.malformed == 1
        stranger.tell(["piece", 2, 0, [None, [True, "n", "bob", [1.0, REF]]]], ["copied", 2, 1])
        assert str(one.directory.whereis("bob")) == REF
        assert one.counts.malformed == 2

    def test_late_and_early_steps_change_nothing(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        stranger.tell(["change", 0, [[True, "n", "ann", [1.0, REF]]]], ["beat", 1])
        stranger.tell(["change", 0, [[False, "n", "ann", None]]], ["change", 2, [[False, "n", "ann", None]]])
        assert one.directory.whereis("ann") is not None

    def test_a_fact_that_is_no_fact_ends_without_a_change(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        stranger.tell(["change", 0, [[False, "n", "ann", None], [False, "p", f"{REF} room", None]]])
        stranger.tell(["change", 1, [[False, "c", REF, None]]])
        assert one.counts.malformed == 0

    @pytest.mark.parametrize(
        "pieces",
        [
            [["copied", 5, 1]],
            [["piece", 5, 1, []], ["copied", 5, 1]],
            [["piece", 5, 0, []], ["piece", 5, 2, []], ["copied", 5, 3]],
            [["piece", 5, 0, []], ["piece", 6, 1, []], ["copied", 6, 2]],
            [["piece", 5, 0, []], ["copied", 5, 2]],
            [["piece", 5, 0, []], ["copied", 6, 1]],
            [["piece", 5, 0, []], ["change", 7, []], ["copied", 5, 1]],
        ],
    )
    def test_a_copy_that_is_not_whole_is_not_taken(
        self, together: Together, stranger: Stranger, pieces: list[Any]
    ) -> None:
        one = together.all[0]
        stranger.tell(["change", 0, [[True, "n", "ann", [1.0, REF]]]])
        stranger.tell(*pieces)
        assert str(one.directory.whereis("ann")) == REF
        assert one.counts.malformed == 0

    def test_a_copy_of_the_version_that_is_known_changes_nothing(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        stranger.tell(["change", 0, [[True, "n", "ann", [1.0, REF]]]])
        stranger.tell(["piece", 1, 0, []], ["copied", 1, 1])
        assert str(one.directory.whereis("ann")) == REF

    def test_a_whole_copy_takes_the_place_of_all_that_was_known(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        facts = [[True, "n", name, [1.0, REF]] for name in ("ann", "bob")]
        stranger.tell(["change", 0, facts])
        stranger.tell(["piece", 4, 0, facts[1:]], ["change", 4, [[True, "n", "cid", [1.0, REF]]]], ["copied", 5, 1])
        assert one.directory.whereis("ann") is None
        assert [str(one.directory.whereis(name)) for name in ("bob", "cid")] == [REF] * 2

    def test_a_copy_that_does_not_grow_between_two_beats_is_given_up(
        self, together: Together, stranger: Stranger
    ) -> None:
        one = together.all[0]
        fact = [True, "n", "ann", [1.0, REF]]
        stranger.tell(["beat", 5], ["piece", 5, 0, [fact]], ["beat", 5], ["beat", 5], ["copied", 5, 1])
        assert one.directory.whereis("ann") is None

    def test_the_good_bye_of_a_process_that_is_not_known_changes_nothing(
        self, together: Together, stranger: Stranger
    ) -> None:
        one = together.all[0]
        stranger.tell(["bye"], ["beat", 1], ["bye"])
        together.turn(2)
        assert (one.counts.malformed, one.counts.published) == (0, 0)

    def test_only_who_has_told_a_fact_last_may_end_it(self, together: Together, stranger: Stranger) -> None:
        """A connection goes over to another process, which tells its facts before the first one ends them."""
        one = together.all[0]
        watcher, _ = one.open()
        new = Stranger(together)
        facts = [[True, "c", REF, None], [True, "p", f"{REF} room", b"\x01"]]
        ends = [[False, "c", REF, "it ended"], [False, "p", f"{REF} room", None]]
        stranger.tell(["change", 0, facts])
        [ref] = one.directory.present("room")
        assert watcher.monitor(ref)
        new.tell(["change", 0, facts], sender="x" * 11)
        stranger.tell(["change", 1, ends])
        assert (one.directory.present("room"), one.infos(watcher)) == ({ref: 1}, [])
        new.tell(["change", 1, ends], sender="x" * 11)
        assert (one.directory.present("room"), one.infos(watcher)) == ({}, [("down", ref, "it ended")])

    def test_a_name_may_be_asked_for_while_changes_are_told(self, together: Together) -> None:
        """What comes of an output may be logged, and a log's observer may be users' code."""
        one, other, _ = together.all
        ref, _ = one.open()
        members: Any = one.directory._members

        def observed(spread: Callable[[Any], bool], message: Any) -> bool:
            one.directory.register("observer", ref)
            return spread(message)

        members._outside = Between(members._outside, observed)
        one.directory.register("ann", ref)
        together.turn(1)
        assert [other.directory.whereis(name) for name in ("ann", "observer")] == [ref, ref]

    def test_so_many_processes_are_known(
        self, together: Together, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(members_module, "MOST", 1)
        one = together.all[0]
        stranger.tell(["beat", 0])
        Stranger(together).tell(["change", 0, [[True, "n", "ann", [1.0, REF]]]], sender="x" * 11)
        assert one.directory.whereis("ann") is None
        assert one.counts.malformed == 1

    def test_so_many_facts_of_a_process_are_kept(
        self, together: Together, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(members_module, "MAX_OF_OTHER", 1)
        one = together.all[0]
        stranger.tell(["change", 0, [[True, "n", name, [1.0, REF]] for name in ("ann", "bob")]])
        assert (str(one.directory.whereis("ann")), one.directory.whereis("bob")) == (REF, None)
        stranger.tell(["change", 1, [[True, "n", "ann", [2.0, REF]]]])
        assert one.counts.malformed == 0

    @pytest.mark.parametrize(
        "message",
        [
            ["exists", 7, SENDER],
            ["exists", "c1", None],
            ["exists", "c1", "*"],
            ["exists", "c1"],
            ["exists", "nonsense", SENDER],
            ["not here", "nonsense"],
            ["not here", None],
            ["monitor", "c1", "nonsense"],
            ["monitor", "c1"],
        ],
    )
    def test_requests_that_mean_nothing_are_counted(self, together: Together, stranger: Stranger, message: Any) -> None:
        one = together.all[0]
        stranger.tell(message, subject=f"wshost.h.{one.registry.home.boot}")
        assert one.counts.malformed == 1

    def test_a_connection_of_no_home_is_not_answered_for(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        boot = one.exchange.outside.own.boot  # type: ignore[union-attr]
        stranger.tell(["exists", "c1", SENDER], subject=f"wshost.h.{boot}")
        assert (one.counts.malformed, one.counts.published) == (0, 0)

    def test_a_monitored_connection_is_told_of_once(self, together: Together, stranger: Stranger) -> None:
        one = together.all[0]
        ref, _ = one.open()
        for _ in range(2):
            stranger.tell(["exists", ref.id, SENDER], subject=f"wshost.h.{one.registry.home.boot}")
        # The change, and a beat.
        assert one.counts.published == 2

    def test_what_comes_after_the_end_is_ignored(self, together: Together) -> None:
        one = together.all[0]
        outside: Any = one.exchange.outside
        one.exchange.close()
        outside.tells_all(SENDER, ["change", 0, [[True, "n", "ann", [1.0, REF]]]])
        assert outside.asks(one.registry.home.boot, ["exists", "c1", SENDER]) is True
        assert outside.asks(one.registry.home.boot, ["copy", SENDER]) is True
        assert one.directory.whereis("ann") is None
