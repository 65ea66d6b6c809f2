from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs

from tests.cluster.processes import Pair, results
from tests.connections.modules import in_threads
from tests.handlers.surroundings import in_loop, turns
from tests.memory import Peer
from wshost.cluster import elsewhere
from wshost.cluster.elsewhere import ACTIONS
from wshost.connections.confirmation import MOST_SECONDS
from wshost.connections.home import Home
from wshost.connections.ref import Ref
from wshost.connections.registry import Registry
from wshost.connections.thread import ReactorThread
from wshost.messages import CALL
from wshost.results import Outcome, Sent

BOOT = "hD3kP0aQ9zE"


def met(handle: Any = None, **options: Any) -> tuple[Pair, Peer, Ref]:
    """Two processes, a client of one, and the other's reference to it."""
    pair = Pair(handle, **options)
    peer = pair.there.open()
    return pair, peer, pair.here.ref(peer)


def noting(said: list[Any]) -> Any:
    """A handler that writes down what it is told."""

    def handle(message: Any, state: Any) -> Any:
        said.append(message)
        return "noreply", state

    return handle


def telling(pair: Pair) -> list[tuple[str, Any]]:
    """Let the backplane tell who gets nothing; return a list of the subjects that were asked for, and what tells so."""
    asked: list[tuple[str, Any]] = []
    backplane: Any = pair.here.backplane

    def publish_or_tell(subject: str, payload: bytes, nobody: Any) -> Any:
        asked.append((subject, nobody))
        return backplane.publish(subject, payload)

    backplane.publish_or_tell = publish_or_tell
    return asked


class TestActions:
    def test_a_message_arrives_in_order(self) -> None:
        pair, peer, ref = met()
        assert [ref.send(data) for data in ("1", b"2", "3")] == [Sent.ACCEPTED] * 3
        assert ref.waiting == 0
        pair.turn()
        assert peer.messages() == ["1", b"2", "3"]

    def test_other_actions_arrive_too(self) -> None:
        said: list[Any] = []
        pair, peer, ref = met(noting(said))
        assert ref.ping(b"p")
        assert ref.info({"any": [1, (2, b"3")], 4: None})
        assert ref.subscribe("room")
        pair.turn()
        assert said == [{"any": [1, [2, b"3"]], 4: None}]
        pair.here.exchange.publish("room", "to all")
        pair.turn()
        assert ref.unsubscribe("room")
        pair.turn()
        pair.here.exchange.publish("room", "to nobody")
        assert ref.close(4000, "bye")
        pair.turn()
        assert peer.messages() == [("ping", b"p"), "to all", ("close", 4000, "bye")]
        assert pair.there.outside.counts.malformed == 0

    def test_what_other_threads_ask_arrives_too(self) -> None:
        pair, peer, ref = met()
        told: list[Any] = []
        in_threads(lambda: told.extend([ref.send("1"), ref.ping(b"2")]))
        pair.turn()
        assert told == [Sent.ACCEPTED, True]
        assert peer.messages() == ["1", ("ping", b"2")]

    @pytest.mark.parametrize("message", [object(), "\ud800", 1 << 64, {(1,): 2}])
    def test_an_info_that_can_not_go_to_another_process_is_an_error_at_once(self, message: Any) -> None:
        pair, _, ref = met()
        with pytest.raises((TypeError, ValueError)):
            ref.info(message)
        pair.turn()
        assert pair.bus.take() == []

    def test_an_info_is_as_it_was_when_it_was_sent(self) -> None:
        said: list[Any] = []
        pair, _, ref = met(noting(said))
        message = {"a": [1]}
        in_threads(lambda: ref.info(message))
        message["a"].append(2)
        pair.turn()
        assert said == [{"a": [1]}]

    def test_while_no_backplane_is_connected_messages_wait(self) -> None:
        pair, _, ref = met()
        with capturedLogs():
            pair.here.line.disconnected("on purpose")
        assert ref.send("x") is Sent.WAITING

    def test_what_is_too_large_is_dropped(self) -> None:
        pair, peer, ref = met()
        large = "x" * pair.here.backplane.largest
        assert ref.send(large) is Sent.DROPPED
        assert ref.info(large) is False
        assert results(ref.send(large, confirm=True)) == [Outcome.UNREACHABLE]
        peer.leave()
        assert pair.there.host.idle()

    def test_a_message_to_a_connection_that_is_gone_does_nothing(self) -> None:
        pair, peer, ref = met()
        peer.leave()
        assert ref.send("x") is Sent.ACCEPTED
        assert ref.close()
        pair.turn()
        assert pair.there.outside.counts.malformed == 0


class TestConfirmedMessages:
    def test_a_message_that_was_written_is_confirmed(self) -> None:
        pair, peer, ref = met()
        fired = results(ref.send("x", confirm=True), ref.send("y", "key", confirm=True))
        assert fired == []
        pair.turn(1)
        assert fired == [Outcome.WRITTEN] * 2
        assert peer.messages() == ["x", "y"]

    def test_a_connection_that_is_gone_is_known_to_be(self) -> None:
        pair, peer, ref = met()
        peer.leave()
        fired = results(ref.send("x", confirm=True))
        pair.turn(1)
        assert fired == [Outcome.GONE]

    def test_a_peer_that_reads_nothing_is_told_of(self) -> None:
        pair, peer, ref = met(max_output=100_000)
        peer.transport.reading = False
        for _ in range(2):
            peer.connection.ref.send(bytes(70_000))
            peer.turn()
        fired = results(ref.send("x", confirm=True))
        pair.turn(1)
        assert fired == [Outcome.OVERFLOW]

    def test_the_other_process_gives_up_first_and_says_so(self) -> None:
        pair, peer, ref = met()
        peer.transport.reading = False
        fired = results(ref.send("x", confirm=True, timeout=1))
        pair.turn(0.7)
        assert fired == []
        pair.turn(0.2)
        assert fired == [Outcome.TIMEOUT]

    @pytest.mark.parametrize("timeout", [0.001, 1, 10_000])
    def test_without_an_answer_nothing_is_known(self, timeout: float) -> None:
        pair, _, ref = met()
        fired = results(ref.send("x", confirm=True, timeout=timeout))
        pair.bus.take()
        pair.reactor.advance(0)
        pair.bus.take()
        seconds = min(timeout, MOST_SECONDS)
        pair.reactor.advance(seconds * 0.9)
        assert fired == []
        pair.reactor.advance(seconds)
        assert fired == [Outcome.TIMEOUT]
        assert pair.here.elsewhere._awaited == {}

    def test_a_home_that_can_not_be_reached_is_told_of_at_once(self) -> None:
        pair, _, ref = met()
        with capturedLogs():
            pair.here.line.disconnected("on purpose")
        assert results(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]
        pair.turn()
        assert pair.bus.sent == []

    @pytest.mark.parametrize("tells", [True, False])
    def test_a_home_that_nobody_has_is_unreachable_if_the_backplane_knows_it(self, tells: bool) -> None:
        pair, _, ref = met()
        nobody = telling(pair)
        nowhere = Ref(pair.here.homes.find(Home("node", BOOT)), "c1")
        fired = results(*(one.send("x", confirm=True, timeout=1) for one in (nowhere, ref, nowhere, ref)))
        pair.turn()
        assert fired == [Outcome.WRITTEN] * 2
        for subject, tell in nobody:
            if tells and subject.endswith(BOOT):
                # Users' code may be running now.
                tell()
        assert fired == [Outcome.WRITTEN] * 2
        pair.turn()
        pair.turn(1)
        assert fired[2:] == ([Outcome.UNREACHABLE] if tells else [Outcome.TIMEOUT]) * 2
        assert pair.here.elsewhere._awaited == {}

    def test_only_confirmed_messages_ask_who_gets_them(self) -> None:
        pair, peer, ref = met()
        nobody = telling(pair)
        assert ref.send("plain")
        pair.turn()
        assert (nobody, peer.messages()) == ([], ["plain"])

    def test_a_confirmed_message_that_a_full_backplane_does_not_take_is_unreachable(self) -> None:
        pair, _, ref = met()
        pair.here.backplane.takes = False
        fired = results(ref.send("x", confirm=True))
        pair.turn()
        assert fired == [Outcome.UNREACHABLE]
        assert pair.here.outside.counts.dropped == 1

    def test_a_process_with_connections_of_the_same_home_says_nothing_of_one_that_it_does_not_have(self) -> None:
        pair, peer, ref = met()
        peer.leave()
        pair.there.registry.shares_home = True
        fired = results(ref.send("x", confirm=True, timeout=2))
        pair.turn(1)
        assert fired == []
        pair.turn(2)
        assert fired == [Outcome.TIMEOUT]

    def test_a_server_that_has_stopped_says_nothing(self) -> None:
        pair, _, ref = met()
        pair.there.homes._here.clear()
        fired = results(ref.send("x", confirm=True, timeout=1))
        pair.turn()
        assert (fired, pair.there.outside.counts.malformed) == ([], 0)
        pair.turn(1)
        assert fired == [Outcome.TIMEOUT]

    def test_the_connections_of_another_thread_get_the_message_but_nothing_is_known_of_it(self) -> None:
        pair, peer, ref = met()
        in_threads(pair.there.registry.thread.enter)
        fired = results(ref.send("x", confirm=True, timeout=1))
        pair.turn(1)
        assert fired == [Outcome.TIMEOUT]
        assert peer.messages() == ["x"]

    def test_only_the_reactors_thread_can_wait(self) -> None:
        pair, _, ref = met()
        told: list[str] = []

        def send() -> None:
            with pytest.raises(RuntimeError) as error:
                ref.send("x", confirm=True)
            told.append(str(error.value))

        in_threads(send)
        assert told == ["confirm works in the reactor's thread only"]
        pair.turn()
        assert pair.bus.sent == []

    def test_no_more_answers_are_waited_for_than_may_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(elsewhere, "MOST_AWAITED", 2)
        pair, peer, ref = met()
        fired = results(*(ref.send(str(number), confirm=True) for number in range(3)))
        assert fired == [Outcome.UNREACHABLE]
        pair.turn(1)
        assert fired[1:] == [Outcome.WRITTEN] * 2
        assert peer.messages() == ["0", "1"]

    def test_a_wait_that_was_cancelled_is_forgotten_and_the_answer_comes_too_late(self) -> None:
        pair, peer, ref = met()
        waiting = ref.send("x", confirm=True)
        fired = results(waiting)
        waiting.cancel()
        assert [failure.type for failure in fired] == [CancelledError]
        assert pair.here.elsewhere._awaited == {}
        pair.turn(1)
        assert peer.messages() == ["x"]
        assert len(fired) == 1

    def test_when_this_process_leaves_all_who_wait_are_told_but_not_by_who_has_closed(self) -> None:
        pair, _, ref = met()
        fired = results(ref.send("x", confirm=True), ref.send("y", confirm=True))
        pair.here.exchange.close()
        assert fired == []
        pair.reactor.advance(0)
        assert fired == [Outcome.TIMEOUT] * 2
        assert results(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]
        assert ref.send("x") is Sent.DROPPED

    def test_no_timer_is_left(self) -> None:
        pair, peer, ref = met()
        fired = results(ref.send("x", confirm=True, timeout=300))
        pair.turn(1)
        peer.leave()
        assert fired == [Outcome.WRITTEN]
        assert pair.there.host.idle()
        assert not pair.reactor.getDelayedCalls()

    @in_loop
    async def test_asyncios_own_tasks_may_wait(self) -> None:
        pair, _, ref = met()

        async def ask() -> Outcome:
            return await ref.send("x", confirm=True)

        tasks = [asyncio.create_task(ask()) for _ in range(2)]
        await turns()
        tasks[0].cancel()
        await turns()
        pair.turn(1)
        assert await asyncio.wait_for(tasks[1], 10) is Outcome.WRITTEN
        assert tasks[0].cancelled()
        assert pair.here.elsewhere._awaited == {}


class TestWhatOthersAsk:
    def asked(self, *message: Any, boot: str | None = None) -> tuple[Pair, Peer]:
        """What becomes of this message to a client's home, or to another one."""
        pair, peer, _ = met()
        home = pair.there.registry.home.boot if boot is None else boot
        with capturedLogs():
            pair.here.outside.tell(home, list(message), CALL)
            pair.turn(1)
        return pair, peer

    @pytest.mark.parametrize(
        "message",
        [
            (),
            ("send",),
            ("abort", "c1", "x"),
            ("answer", "c1"),
            ("__class__", "c1"),
            (["send"], "c1", "x"),
            ("send", 1, "x", None),
            ("send", "c1"),
            ("send", "c1", 7, None),
            ("send", "c1", "x", 7),
            ("send", "c1", "x", "k" * 256),
            ("send", "c1", "x", None, True),
            ("send", "c1", "x", None, BOOT, "1", 1),
            ("send", "c1", "x", None, 7, 1, 1),
            ("send", "c1", "x", None, "a.b", 1, 1),
            ("send", "c1", "x", None, "x\r\nPUB a 0\r\n", 1, 1),
            ("send", "c1", "x", None, BOOT, 1, "soon"),
            ("send", "c1", "x", None, BOOT, 1, 0),
            ("send", "c1", "x", None, BOOT, 1, float("nan")),
            ("send", "c1", "x", None, BOOT, 1, float("-inf")),
            ("ping", "c1", bytes(126)),
            ("ping", "c1", 1, 2),
            ("close", "c1", 1005, ""),
            ("close", "c1", [], ""),
            ("subscribe", "c1", ""),
            ("subscribe", "c1", {}),
            ("info", "c1"),
            ("info", "c1", 1, 2),
        ],
    )
    def test_a_request_that_means_nothing_is_counted(self, message: Any) -> None:
        pair, peer = self.asked(*message)
        if message[:1] == ("answer",):
            # Nobody waits for it.
            assert pair.there.outside.counts.malformed == 0
        else:
            assert pair.there.outside.counts.malformed == 1
        assert peer.messages() == []
        assert not peer.gone

    @pytest.mark.parametrize("message", [None, 7, "text", {"a": 1, "b": 2}])
    def test_a_request_is_a_list(self, message: Any) -> None:
        pair, _, _ = met()
        with capturedLogs():
            pair.here.outside.tell(pair.there.registry.home.boot, message, CALL)
            pair.turn()
        assert pair.there.outside.counts.malformed == 1

    @pytest.mark.parametrize(
        "answer",
        [(1, "written", 3), ("1", "written"), (1, "no outcome"), (1, None), (1, []), (9, "written"), (1 << 63, "gone")],
    )
    def test_an_answer_that_means_nothing_tells_nobody(self, answer: Any) -> None:
        pair, _, ref = met()
        fired = results(ref.send("x", confirm=True))
        pair.reactor.advance(0)
        pair.bus.take()
        with capturedLogs():
            pair.there.outside.tell(pair.here.outside.own.boot, ["answer", *answer], CALL)
            pair.turn()
        assert fired == []

    def test_an_answer_to_another_home_tells_nobody(self) -> None:
        pair, _, ref = met()
        fired = results(ref.send("x", confirm=True))
        pair.reactor.advance(0)
        pair.bus.take()
        pair.there.outside.tell(pair.here.registry.home.boot, ["answer", 1, "written"], CALL)
        pair.turn()
        assert fired == []

    @settings(derandomize=True, max_examples=60, deadline=None, database=None)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from([*sorted(ACTIONS), "answer", "c1", BOOT, None, 1, 0.5, 1000, "x", b"x"]),
                st.integers(-(2**63), 2**64 - 1),
                st.floats(),
                st.text(max_size=5),
                st.lists(st.none(), max_size=2),
            ),
            max_size=7,
        )
    )
    def test_any_list_is_done_or_malformed(self, message: list[Any]) -> None:
        pair = _PAIR
        try:
            pair.there.elsewhere.act(pair.there.registry.home.boot, message)
        except (TypeError, ValueError, LookupError):
            assert pair.there.registry.all() == []
        pair.turn(1)


#: Two processes without a client.
_PAIR = Pair()


class TestSharedHomes:
    """Two processes have connections of a home whose own process has ended."""

    HOME = Home("web-1", BOOT)

    def met(self) -> tuple[Pair, Peer]:
        pair = Pair()
        peer = pair.there.open()
        for process, id in ((pair.there, peer.connection.id), (pair.here, "c99")):
            process.homes.add(process.registry.lodge(id, self.HOME))
            process.exchange.open(BOOT)
        return pair, peer

    def test_references_find_those_of_the_other_process(self) -> None:
        pair, peer = self.met()
        ref = Ref(pair.here.homes.find(self.HOME), peer.connection.id)
        assert ref.send("1") is Sent.ACCEPTED
        assert ref.ping(b"p")
        confirmed = results(ref.send("2", confirm=True))
        pair.turn()
        assert peer.messages() == ["1", ("ping", b"p"), "2"]
        assert confirmed == [Outcome.WRITTEN]
        with pytest.raises(RuntimeError, match="of this process only"):
            ref.drained()

    def test_of_one_that_nobody_has_nothing_is_known_and_nobody_asks_again(self) -> None:
        pair, _ = self.met()
        ref = Ref(pair.here.homes.find(self.HOME), "c5")
        confirmed = results(ref.send("x", confirm=True))
        ref.send("y")
        pair.turn()
        published = pair.there.outside.counts.published
        pair.turn(10)
        assert confirmed == [Outcome.TIMEOUT]
        assert pair.there.outside.counts.published == published == 0


def test_a_home_of_a_process_that_has_not_joined_is_gone() -> None:
    pair, _, _ = met()
    ref = Ref(pair.here.homes.find(Home("web", BOOT)), "c1")
    pair.here.homes.elsewhere = None
    assert ref.send("x") is Sent.DROPPED
    assert results(ref.send("x", confirm=True)) == [Outcome.UNREACHABLE]


def test_a_home_is_found_here_as_soon_as_it_is_here() -> None:
    pair = Pair()
    home = Home("web", BOOT)
    lookup = pair.here.homes.find(home)
    registry = Registry(ReactorThread(pair.reactor), home)
    pair.here.homes.add(registry)
    assert Ref(lookup, "c1").send("x") is Sent.DROPPED
    assert results(Ref(lookup, "c1").send("x", confirm=True)) == [Outcome.GONE]
