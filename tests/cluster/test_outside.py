from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from tests.cluster.bus import Backplane, Bus
from tests.connections.modules import in_threads
from tests.memory import MemoryReactor
from wshost.cluster import outside as module
from wshost.cluster.envelope import HEAD, TEXT_HEAD, Codec, MalformedError
from wshost.cluster.outside import Line, Outside
from wshost.cluster.subjects import Subjects
from wshost.interfaces import IBackplane, IBackplaneReceiver
from wshost.messages import CALL

BUFFER = 20_000


class Hubs:
    """Notes what it is brought."""

    def __init__(self) -> None:
        self.brought: list[tuple[str, str | bytes]] = []
        self.lost: list[tuple[str, int]] = []

    def publish_all(self, topic: str, messages: Sequence[str | bytes]) -> None:
        self.brought += [(topic, data) for data in messages]

    def lose(self, topic: str, messages: int) -> None:
        self.lost.append((topic, messages))


class Side:
    """One process of a cluster, without servers."""

    def __init__(self, *buses: Bus, machine: str = "m1", reactor: Any = None, local: int = 0, largest: int = 10_000):
        self.reactor: Any = reactor or MemoryReactor()
        self.hubs = Hubs()
        soon = partial(self.reactor.callLater, 0)
        self.outside = Outside(self.reactor, soon, self.hubs, Subjects(), machine=machine, buffer=BUFFER)
        self.done: list[tuple[str, Any]] = []
        self.outside.act = lambda boot, message: self.done.append((boot, message))
        self.backplanes: list[Backplane] = []
        for number, bus in enumerate(buses):
            backplane = bus.backplane(largest)
            self.backplanes.append(backplane)
            self.outside.add(backplane, local=number < local)
        for line in self.outside.lines:
            line.connected()

    @property
    def counts(self) -> dict[str, int]:
        """What is not zero."""
        return {name: count for name, count in vars(self.outside.counts).items() if count}

    def turn(self) -> None:
        self.reactor.advance(0)


def sides(number: int = 2, **how: Any) -> tuple[Bus, list[Side]]:
    bus = Bus()
    return bus, [Side(bus, **how) for _ in range(number)]


class TestPublishing:
    def test_what_is_published_in_a_turn_leaves_as_one_payload_a_subject_and_arrives_in_order(self) -> None:
        bus, [here, there] = sides()
        for topic in ("a", "b"):
            there.outside.subscribe(topic)
        for topic, data in (("a", "1"), ("b", b"2"), ("a", "3")):
            assert here.outside.publish(topic, data) is True
        assert bus.sent == []
        here.turn()
        assert [subject for subject, _ in bus.sent] == ["wshost.t.a", "wshost.t.b"]
        bus.deliver()
        assert there.hubs.brought == [("a", "1"), ("a", "3"), ("b", b"2")]
        assert here.hubs.brought == []
        assert (here.counts, there.counts) == ({"published": 3}, {"received": 3})
        assert not here.reactor.getDelayedCalls()

    def test_what_two_subscriptions_match_comes_once(self) -> None:
        bus, [here, there] = sides()
        for topic in ("a.b", "a.*", ">"):
            there.outside.subscribe(topic)
        here.outside.publish("a.b", "once")
        here.turn()
        bus.deliver()
        assert there.hubs.brought == [("a.b", "once")]

    def test_nothing_comes_after_the_end_of_a_subscription_and_nothing_of_then_is_missed_later(self) -> None:
        bus, [here, there] = sides()
        for pattern in ("a", "*"):
            there.outside.subscribe(pattern)
            here.outside.publish("a", "1")
            here.turn()
            bus.deliver()
            there.outside.unsubscribe(pattern)
            here.outside.publish("a", "missed")
            here.turn()
            bus.deliver()
        assert there.hubs.brought == [("a", "1"), ("a", "1")]
        assert there.counts == {"received": 2}

    def test_what_comes_back_is_not_brought(self) -> None:
        bus, [here] = sides(1)
        here.outside.subscribe("a")
        here.outside.publish("a", "1")
        here.turn()
        bus.deliver()
        assert here.hubs.brought == []

    def test_a_payload_is_no_larger_than_its_backplane_takes(self) -> None:
        bus, [here, there] = sides()
        there.outside.subscribe("a")
        sent = [str(number) * 3_000 for number in range(6)]
        for data in sent:
            assert here.outside.publish("a", data)
        here.turn()
        assert len(bus.sent) == 2
        bus.deliver()
        assert [data for _, data in there.hubs.brought] == sent
        assert here.outside.waiting == 0

    def test_a_message_of_just_the_largest_size_is_sent_and_a_larger_one_is_dropped(self) -> None:
        bus, [here, there] = sides()
        there.outside.subscribe("a")
        room = here.backplanes[0].largest - HEAD - TEXT_HEAD
        assert here.outside.publish("a", "x" * room) is True
        assert here.outside.publish("a", "x" * (room + 1)) is False
        here.turn()
        bus.deliver()
        assert [len(data) for _, data in there.hubs.brought] == [room]
        assert here.counts == {"published": 1, "dropped": 1}

    def test_a_payload_has_no_more_messages_than_can_be_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ENTRIES", 3)
        bus, [here, there] = sides()
        there.outside.subscribe("a")
        for number in range(7):
            here.outside.publish("a", str(number))
        here.turn()
        assert len(bus.sent) == 3
        bus.deliver()
        assert "".join(str(data) for _, data in there.hubs.brought) == "0123456"

    def test_no_more_waits_in_a_turn_than_the_buffer_takes(self) -> None:
        _, [here] = sides(1)
        sent = [here.outside.publish(str(number % 5), bytes(1_000)) for number in range(30)]
        assert sent == [True] * 19 + [False] * 11
        assert 0 < here.outside.waiting <= BUFFER
        assert here.counts == {"dropped": 11}
        here.turn()
        assert here.outside.waiting == 0
        assert here.outside.publish("a", b"again") is True

    def test_nothing_is_added_to_what_a_backplane_keeps_beyond_the_buffer(self) -> None:
        _, [here] = sides(1)
        here.backplanes[0].waiting = BUFFER - 10
        here.outside.publish("a", b"")
        here.turn()
        assert here.outside.waiting == BUFFER - 10
        assert [here.outside.publish("a", bytes(50)), here.outside.publish("a", b"")] == [False, True]

    def test_there_is_room_again_when_what_a_backplane_kept_has_left(self) -> None:
        _, [here] = sides(1)
        here.outside.publish("a", b"")
        here.backplanes[0].waiting = BUFFER
        here.turn()
        assert here.outside.publish("a", b"") is False
        here.backplanes[0].waiting = 0
        assert here.outside.publish("a", b"") is True

    def test_what_a_backplane_does_not_take_is_dropped(self) -> None:
        _, [here] = sides(1)
        here.backplanes[0].takes = False
        for topic in ("a", "a", "b"):
            here.outside.publish(topic, "x")
        here.turn()
        assert here.counts == {"published": 3, "dropped": 3}

    def test_what_has_become_too_large_for_a_backplane_is_dropped(self) -> None:
        bus, [here] = sides(1)
        assert here.outside.publish("a", bytes(5_000)) is True
        here.backplanes[0].largest = 1_000
        here.turn()
        assert (bus.sent, here.counts) == ([], {"published": 1, "dropped": 1})

    def test_what_a_full_backplane_has_dropped_is_missed(self) -> None:
        bus, [here, there] = sides()
        there.outside.subscribe("a")
        for number, takes in enumerate((True, False, True)):
            here.backplanes[0].takes = takes
            for part in "xy":
                here.outside.publish("a", f"{number}{part}")
            here.turn()
        bus.deliver()
        assert [data for _, data in there.hubs.brought] == ["0x", "0y", "2x", "2y"]
        assert there.counts == {"received": 4, "lost": 2}

    def test_without_a_backplane_all_is_dropped(self) -> None:
        here = Side()
        assert here.outside.publish("a", "x") is False
        assert here.counts == {"dropped": 1}
        assert not here.outside.reaches("hD3kP0aQ9zE")


class TestOtherThreads:
    def test_their_messages_and_subscriptions_come_in_order(self) -> None:
        bus, [here, there] = sides()
        in_threads(lambda: there.outside.subscribe("a"))
        there.turn()
        in_threads(lambda: [here.outside.publish("a", str(number)) for number in range(3)])
        assert bus.sent == []
        here.turn()
        here.turn()
        bus.deliver()
        in_threads(lambda: there.outside.unsubscribe("a"))
        there.turn()
        assert [data for _, data in there.hubs.brought] == ["0", "1", "2"]
        assert there.backplanes[0].subscriptions.keys() == {f"wshost.h.{there.outside.own.boot}"}

    def test_so_many_of_their_bytes_wait_at_the_most(self) -> None:
        _, [here] = sides(1)
        told: list[bool] = []
        in_threads(lambda: told.extend(here.outside.publish("a", bytes(1_000)) for _ in range(50)))
        taken = told.count(True)
        assert told == [True] * taken + [False] * (50 - taken)
        assert BUFFER <= taken * (CALL + 1_000) < BUFFER + CALL + 1_000


class TestHomes:
    def test_a_home_gets_what_it_is_sent_and_no_other(self) -> None:
        bus, [here, there, third] = sides(3)
        there.outside.open("hD3kP0aQ9zE")
        assert here.outside.tell("hD3kP0aQ9zE", ("ping", "c1", b"x"), CALL)
        here.turn()
        bus.deliver()
        assert there.done == [("hD3kP0aQ9zE", ["ping", "c1", b"x"])]
        there.outside.shut("hD3kP0aQ9zE")
        here.outside.tell("hD3kP0aQ9zE", ("ping", "c1", b"x"), CALL)
        here.turn()
        bus.deliver()
        assert (len(there.done), third.done) == (1, [])

    def test_each_process_has_a_home_of_its_own(self) -> None:
        bus, [here, there] = sides()
        here.outside.tell(there.outside.own.boot, ("answer", 1, "written"), CALL)
        here.turn()
        bus.deliver()
        assert there.done == [(there.outside.own.boot, ["answer", 1, "written"])]

    def test_a_home_may_be_reached_while_there_is_a_connection_unless_the_backplane_knows_better(self) -> None:
        _, [here] = sides(1)
        assert here.outside.reaches("hD3kP0aQ9zE")
        backplane: Any = here.backplanes[0]
        backplane.reaches = {"wshost.h.hD3kP0aQ9zE"}.__contains__
        assert (here.outside.reaches("hD3kP0aQ9zE"), here.outside.reaches("hD3kP0aQ9zF")) == (True, False)
        del backplane.reaches
        with capturedLogs():
            here.outside.lines[0].disconnected("on purpose")
        assert not here.outside.reaches("hD3kP0aQ9zE")


class TestTwoLines:
    """A way to the processes of the machine, and one to other machines."""

    def lines(self) -> tuple[Bus, Bus, Side, Side, Side]:
        """Two neighbours, and one on another machine."""
        near, far = Bus(), Bus()
        one, other = (Side(near, far, local=1) for _ in range(2))
        return near, far, one, other, Side(far, machine="m2")

    def test_a_neighbours_message_comes_once_and_so_does_one_from_afar(self) -> None:
        near, far, one, other, third = self.lines()
        for side in (other, third):
            side.outside.subscribe("a")
        one.outside.publish("a", "x")
        one.turn()
        for bus in (far, near, far):
            bus.deliver()
        assert other.hubs.brought == third.hubs.brought == [("a", "x")]
        third.outside.publish("a", "y")
        third.turn()
        far.deliver()
        assert other.hubs.brought == [("a", "x"), ("a", "y")]

    def test_what_a_neighbours_home_gets_goes_only_to_the_machine(self) -> None:
        near, far, one, other, third = self.lines()
        backplane: Any = one.backplanes[0]
        backplane.reaches = {f"wshost.h.{other.outside.own.boot}"}.__contains__
        for side in (other, third):
            one.outside.tell(side.outside.own.boot, ("info", "c1", 7), CALL)
        one.turn()
        assert [subject for subject, _ in far.sent] == [f"wshost.h.{third.outside.own.boot}"]
        for bus in (near, far):
            bus.deliver()
        assert [len(side.done) for side in (other, third)] == [1, 1]

    def test_what_is_too_large_for_one_is_dropped(self) -> None:
        near, far = Bus(), Bus()
        one, other = (Side(near, far, local=1) for _ in range(2))
        for side in (one, other):
            side.backplanes[1].largest = 1_000
            side.outside.measure()
        other.outside.subscribe("a")
        assert [one.outside.publish("a", data) for data in (b"1", bytes(2_000), b"2")] == [True, False, True]
        one.turn()
        for bus in (far, near):
            bus.deliver()
        assert [len(data) for _, data in other.hubs.brought] == [1, 1]
        assert one.counts == {"published": 2, "dropped": 1}


class TestLine:
    def test_a_line_and_the_bus_are_what_they_say(self) -> None:
        _, [here] = sides(1)
        assert verifyObject(IBackplaneReceiver, here.outside.lines[0])
        assert verifyObject(IBackplane, here.backplanes[0])

    def test_a_line_is_connected_from_the_first_word_to_the_last(self) -> None:
        _, [here] = sides(1)
        line = Line(here.outside, here.backplanes[0], local=False)
        here.outside.lines = [line]
        states = [(here.outside.is_connected, here.outside.reason)]
        with capturedLogs() as events:
            line.connected()
            states.append((here.outside.is_connected, here.outside.reason))
            line.disconnected("it went away")
            states.append((here.outside.is_connected, here.outside.reason))
            line.connected()
        assert states == [(False, "it has not connected yet"), (True, ""), (False, "it went away")]
        assert [event["log_format"] for event in events] == [
            "the backplane is not connected: {reason}",
            "the backplane is connected again",
        ]

    def test_once_connected_again_receivers_are_told_what_they_have_lost(self) -> None:
        bus, [here, there] = sides()
        there.outside.subscribe("a")
        for data in ("1", "lost", "lost"):
            here.outside.publish("a", data)
            here.turn()
            if data == "1":
                bus.deliver()
        bus.take()
        line = here.outside.lines[0]
        with capturedLogs():
            line.disconnected("on purpose")
            line.connected()
        assert len(bus.sent) == 1
        bus.deliver()
        assert there.counts == {"received": 1, "lost": 2}
        assert there.hubs.lost == [("a", 2)]

    def test_what_was_lost_on_its_way_to_a_home_is_counted_alone(self) -> None:
        bus, [here, there] = sides()
        there.outside.open("hD3kP0aQ9zE")
        for number in range(3):
            here.outside.tell("hD3kP0aQ9zE", number, CALL)
            here.turn()
            if number == 1:
                bus.take()
            bus.deliver()
        assert (there.done, there.counts) == ([("hD3kP0aQ9zE", 0), ("hD3kP0aQ9zE", 2)], {"received": 2, "lost": 1})
        assert there.hubs.lost == []

    def test_what_a_backplane_has_dropped_is_counted_in_payloads_and_logged(self) -> None:
        _, [here] = sides(1)
        with capturedLogs() as events:
            here.outside.lines[0].dropped(3)
        assert here.counts == {"payloads_dropped": 3}
        assert [event["payloads"] for event in events] == [3]


class TestTheEnd:
    def test_what_waits_leaves_first_and_nothing_after(self) -> None:
        bus, [here, there] = sides()
        there.outside.subscribe("a")
        here.outside.publish("a", "last")
        ended: list[Any] = []
        here.outside.ended = lambda: ended.append("ended")
        here.outside.close().addCallback(lambda _: ended.append("closed"))
        bus.deliver()
        assert there.hubs.brought == [("a", "last")]
        assert ended == ["ended", "closed"]
        assert here.backplanes[0].closed
        assert here.outside.publish("a", "late") is False
        here.turn()
        assert not here.reactor.getDelayedCalls()

    def test_it_has_no_other_part_unless_it_is_given_one(self) -> None:
        reactor = MemoryReactor()
        outside = Outside(reactor, reactor.callFromThread, Hubs(), Subjects(), machine="m", buffer=BUFFER)
        bus = Bus()
        outside.add(bus.backplane())
        outside.receive(outside.lines[0], outside._subjects.of_home("x"), Codec().enclose("m2", "s", 1, 0, [b"\xc0"]))
        assert outside.close().called


def envelope(*messages: Any, machine: Any = "m2", sender: Any = "s", epoch: Any = 1, before: Any = 0) -> bytes:
    packed: bytes = msgpack.packb((1, machine, sender, epoch, before, messages))
    return packed


class TestFailures:
    def test_what_can_not_be_done_takes_nothing_from_what_comes_behind_it(self) -> None:
        _, [here] = sides(1)
        done: list[Any] = []

        def act(boot: str, message: Any) -> None:
            if message == "first":
                raise AssertionError("it can't")
            done.append(message)

        here.outside.act = act
        subject = f"wshost.h.{here.outside.own.boot}"
        with capturedLogs() as events:
            here.outside.lines[0].received(subject, envelope("first", "second"))
        assert done == ["second"]
        assert [str(event["log_failure"].value) for event in events] == ["it can't"]


class TestWhatIsNotUnderstood:
    @pytest.mark.parametrize("message", [7, None, ["x"], {"a": 1}, True, 1.5])
    def test_a_published_message_is_a_str_or_bytes(self, message: Any) -> None:
        _, [here] = sides(1)
        with capturedLogs() as events:
            here.outside.lines[0].received("wshost.t.a", envelope("before", message, b"after"))
        assert here.hubs.brought == [("a", "before"), ("a", b"after")]
        assert here.counts == {"received": 3, "malformed": 1}
        assert "a published message is a str or bytes" in events[0]["why"]

    @pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, UnicodeError])
    def test_what_means_nothing_to_a_home_is_counted_and_the_next_is_done(self, error: type[Exception]) -> None:
        _, [here] = sides(1)
        done: list[Any] = []

        def act(boot: str, message: Any) -> None:
            done.append(message)
            raise error("on purpose")

        here.outside.act = act
        with capturedLogs() as events:
            here.outside.lines[0].received("wshost.h.hD3kP0aQ9zE", envelope(1, 2))
        assert done == [1, 2]
        assert here.counts == {"received": 2, "malformed": 2}
        assert len(events) == 2

    def test_the_log_has_only_some_of_many(self) -> None:
        _, [here] = sides(1)
        with capturedLogs() as events:
            for _ in range(1_000):
                here.outside.lines[0].received("wshost.t.a", b"")
        assert here.counts == {"malformed": 1_000}
        assert len(events) < 100


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=10,
)
SUBJECT = st.sampled_from(["wshost.t.a", "wshost.t.", "wshost.h.hD3kP0aQ9zE", "wshost.h.", "", "x", "wshost.t.%FF"])


@settings(derandomize=True, max_examples=80, deadline=None, database=None)
@given(
    SUBJECT,
    st.binary()
    | ANY.map(partial(msgpack.packb, default=str)).filter(bool)
    | st.builds(envelope, ANY, ANY, sender=ANY, epoch=ANY, before=ANY)
    | st.builds(envelope, ANY, epoch=st.integers(0, 2**64 - 1), before=st.integers(0, 2**64 - 1)),
)
def test_whatever_comes_is_brought_or_counted(subject: str, payload: bytes) -> None:
    _, [here] = sides(1)
    here.outside.subscribe(">")
    with capturedLogs():
        here.outside.lines[0].received(subject, payload)
    counts = here.outside.counts
    brought = len(here.hubs.brought) + len(here.done)
    try:
        messages = Codec().read(payload).messages
    except MalformedError:
        assert (counts.malformed, counts.received, brought) == (1, 0, 0)
    else:
        assert counts.malformed + brought == counts.received == len(messages)
