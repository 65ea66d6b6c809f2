from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from tests.backplanes.loop import Loop
from wshost.backplanes import workers
from wshost.backplanes.workers import LARGEST, PATIENCE, WorkersBackplane
from wshost.interfaces import ITellingBackplane


class Receiver:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.told: list[str] = []

    def received(self, subject: str, payload: bytes) -> None:
        self.got.append((subject, payload))

    def connected(self) -> None:
        self.told.append("connected")


class Machine:
    """Some processes in one, each with a backplane, all connected with each other."""

    def __init__(self, count: int = 2, buffer: int = 1 << 20) -> None:
        self.loop: Any = Loop()
        self.clock = Clock()
        self.backplanes: list[WorkersBackplane] = []
        self.receivers: list[Receiver] = []
        self.buffer = buffer
        for _ in range(count):
            self.join()

    def join(self) -> list[Any]:
        """Start one more process; return a list that has an entry once it has connected."""
        backplane, receiver = WorkersBackplane(self.loop, self.buffer), Receiver()
        for other in self.backplanes:
            ours, theirs = socket.socketpair()
            backplane.add(ours)
            other.add(theirs)
        done: list[Any] = []
        backplane.connect(self.clock, receiver).addCallback(done.append)
        backplane.complete()
        self.loop.run()
        self.backplanes.append(backplane)
        self.receivers.append(receiver)
        return done

    def close(self) -> None:
        for backplane in self.backplanes:
            backplane.close()
        self.loop.run()
        assert not self.loop.readers
        assert not self.loop.writers
        assert not self.clock.getDelayedCalls()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


def test_the_backplane_of_workers_provides_its_interface() -> None:
    loop: Any = Loop()
    assert verifyObject(ITellingBackplane, WorkersBackplane(loop))


class TestConnecting:
    def test_a_process_alone_connects_at_once(self) -> None:
        machine = Machine(0)
        assert machine.join() == [None]
        assert machine.receivers[0].told == ["connected"]
        machine.close()

    def test_a_process_has_connected_when_it_knows_what_its_neighbours_want(self, machine: Machine) -> None:
        machine.backplanes[0].subscribe("a")
        machine.backplanes[1].subscribe("a")
        assert machine.join() == [None]
        machine.backplanes[2].publish("a", b"hello")
        machine.loop.run()
        assert machine.receivers[0].got == machine.receivers[1].got == [("a", b"hello")]
        assert machine.receivers[2].got == []

    def test_payloads_leave_at_once_when_nothing_more_comes_in_the_turn(self) -> None:
        machine = Machine(0)
        neighbour, theirs = socket.socketpair()
        backplane = WorkersBackplane(machine.loop)
        machine.backplanes.append(backplane)
        backplane.add(theirs)
        backplane.connect(machine.clock, Receiver())
        neighbour.sendall(workers._frame(workers._SUBSCRIBE, "a"))
        machine.loop.run()
        neighbour.setblocking(False)
        neighbour.recv(1_000)
        backplane.publish("a", b"1")
        backplane.publish("a", b"2")
        with pytest.raises(BlockingIOError):
            neighbour.recv(1_000)
        backplane.flush()
        assert neighbour.recv(1_000).endswith(b"2")
        neighbour.close()
        machine.close()

    def test_a_neighbour_that_says_nothing_is_waited_for_a_limited_time(self) -> None:
        machine = Machine(0)
        silent, theirs = socket.socketpair()
        backplane, receiver = WorkersBackplane(machine.loop), Receiver()
        machine.backplanes.append(backplane)
        backplane.add(theirs)
        done: list[Any] = []
        backplane.connect(machine.clock, receiver).addCallback(done.append)
        backplane.complete()
        machine.loop.run()
        machine.clock.advance(PATIENCE - 0.1)
        assert done == []
        machine.clock.advance(0.1)
        assert done == [None]
        silent.close()
        machine.close()

    def test_a_neighbour_that_ends_is_not_waited_for(self) -> None:
        machine = Machine(0)
        silent, theirs = socket.socketpair()
        backplane = WorkersBackplane(machine.loop)
        machine.backplanes.append(backplane)
        backplane.add(theirs)
        done: list[Any] = []
        backplane.connect(machine.clock, Receiver()).addCallback(done.append)
        backplane.complete()
        silent.close()
        machine.loop.run()
        assert done == [None]
        machine.close()

    def test_a_start_that_was_given_up_is_left_alone(self) -> None:
        machine = Machine(0)
        backplane, receiver = WorkersBackplane(machine.loop), Receiver()
        machine.backplanes.append(backplane)
        connecting = backplane.connect(machine.clock, receiver)
        connecting.addErrback(lambda _: None)
        connecting.cancel()
        backplane.complete()
        assert receiver.told == ["connected"]
        machine.close()

    def test_a_backplane_that_is_closed_while_it_connects_waits_no_more(self) -> None:
        machine = Machine(0)
        backplane, receiver = WorkersBackplane(machine.loop), Receiver()
        backplane.connect(machine.clock, receiver)
        backplane.close()
        backplane.complete()
        assert not machine.clock.getDelayedCalls()
        assert receiver.told == []

    def test_neighbours_that_come_when_it_is_closed_are_closed(self, machine: Machine) -> None:
        early, late = socket.socketpair(), socket.socketpair()
        backplane = WorkersBackplane(machine.loop)
        backplane.add(early[0])
        backplane.close()
        backplane.add(late[0])
        for _, other in (early, late):
            assert other.recv(1) == b""
            other.close()


class TestPublishing:
    def test_a_payload_reaches_those_who_subscribe_and_no_others(self, machine: Machine) -> None:
        machine.join()
        one, two, three = machine.backplanes
        one.subscribe("room")
        two.subscribe("other")
        two.subscribe("other.*")
        machine.loop.run()
        assert three.publish("room", b"1") is True
        assert three.publish("nothing", b"2") is True
        machine.loop.run()
        assert [receiver.got for receiver in machine.receivers] == [[("room", b"1")], [], []]

    def test_payloads_keep_their_order_and_come_whole_whatever_their_size(self, machine: Machine) -> None:
        machine.backplanes[0].subscribe("a.*")
        machine.loop.run()
        sent = [(f"a.{number}", bytes([number]) * size) for number, size in enumerate((0, 1, 70_000, 300_000, 2, 999))]
        for subject, payload in sent:
            assert machine.backplanes[1].publish(subject, payload)
        machine.loop.run()
        assert machine.receivers[0].got == sent

    def test_a_neighbour_gets_a_payload_once_however_many_subscriptions_match(self, machine: Machine) -> None:
        for subject in ("a.b", "a.*", ">"):
            machine.backplanes[0].subscribe(subject)
        machine.loop.run()
        machine.backplanes[1].publish("a.b", b"x")
        machine.loop.run()
        assert machine.receivers[0].got == [("a.b", b"x")]

    def test_after_unsubscribe_nothing_comes(self, machine: Machine) -> None:
        first, second = machine.backplanes
        for subject in ("a", "b.>"):
            first.subscribe(subject)
        machine.loop.run()
        assert second.reaches("a") is True
        for subject in ("a", "b.>"):
            first.unsubscribe(subject)
        machine.loop.run()
        assert second.reaches("a") is False
        second.publish("a", b"x")
        second.publish("b.c", b"x")
        machine.loop.run()
        assert machine.receivers[0].got == []

    def test_what_a_neighbour_does_not_take_waits_up_to_the_limit(self) -> None:
        machine = Machine(2, buffer=600_000)
        first, second = machine.backplanes
        first.subscribe("a")
        machine.loop.run()
        ours = [
            second.publish("a", bytes(200_000)),
            second.publish("a", bytes(200_000)),
            second.publish("a", bytes(200_000)),
        ]
        assert ours == [True, True, False]
        assert 400_000 < second.waiting < 401_000
        machine.loop.run()
        assert second.waiting == 0
        assert [len(payload) for _, payload in machine.receivers[0].got] == [200_000] * 2
        machine.close()

    def test_a_neighbour_that_has_ended_wants_nothing_any_more(self, machine: Machine) -> None:
        first, second = machine.backplanes
        for subject in ("a", "b.*"):
            first.subscribe(subject)
        machine.loop.run()
        first.close()
        machine.loop.run()
        assert second.reaches("a") is False
        assert second.publish("a", b"x") is True
        assert second.publish("b.c", b"x") is True
        assert machine.receivers[0].got == []

    def test_a_neighbour_that_ends_before_it_is_written_to_is_forgotten(self, machine: Machine) -> None:
        first, second = machine.backplanes
        first.subscribe("a")
        machine.loop.run()
        first.close()
        second.publish("a", b"x")
        machine.loop.run()
        assert second.reaches("a") is False

    def test_nothing_is_received_after_the_end(self, machine: Machine) -> None:
        first, second = machine.backplanes
        first.subscribe("a")
        machine.loop.run()
        second.publish("a", b"x")
        second.close()
        first.close()
        machine.loop.run()
        assert machine.receivers[0].got == []


class TestNeighbours:
    @pytest.mark.parametrize(
        "bad",
        [b"\xff\xff\xff\xff\x00\x00\x01", b"\x00\x00\x00\x03\x00\x00\x01a", b"\x00\x00\x00\x04\x00\x00\x01\xff"],
        ids=["too large", "too small", "no text"],
    )
    def test_a_neighbour_that_is_not_understood_is_left(self, machine: Machine, bad: bytes) -> None:
        ours, theirs = socket.socketpair()
        machine.backplanes[0].add(theirs)
        machine.loop.run()
        with capturedLogs() as events:
            ours.sendall(bad)
            machine.loop.run()
        assert len(events) == 1
        assert formatEvent(events[0]).startswith("another process of this server can't be understood: ")
        while ours.recv(4_096):
            pass
        ours.close()

    def test_an_unsubscribe_of_what_was_not_subscribed_changes_nothing(self, machine: Machine) -> None:
        ours, theirs = socket.socketpair()
        machine.backplanes[0].add(theirs)
        ours.sendall(b"\x00\x00\x00\x04\x02\x00\x01a")
        machine.loop.run()
        assert machine.backplanes[0].reaches("a") is False
        ours.close()

    def test_a_reset_connection_is_an_end(self, machine: Machine) -> None:
        """Unread bytes at the other end make it a reset."""
        ours, theirs = socket.socketpair()
        machine.backplanes[0].add(theirs)
        machine.loop.run()
        ours.close()
        machine.loop.run()
        assert len(machine.loop.readers) == 2

    def test_output_waits_while_the_neighbour_takes_nothing(self, machine: Machine) -> None:
        ours, theirs = socket.socketpair()
        backplane = machine.backplanes[0]
        backplane.add(theirs)
        machine.loop.run()
        ours.sendall(b"\x00\x00\x00\x04\x01\x00\x01a")
        machine.loop.run()
        assert backplane.publish("a", bytes(1_000_000))
        backplane._flush()
        waiting = backplane.waiting
        assert 0 < waiting < 1_000_000
        backplane._flush()
        for call in list(machine.loop.writers.values()):
            # It is called in vain.
            call()
        assert backplane.waiting == waiting
        ours.close()

    def test_a_backplane_may_be_closed_while_a_payload_is_received(self, machine: Machine) -> None:
        first, second = machine.backplanes
        first.subscribe("a")
        machine.loop.run()
        receiver = machine.receivers[0]
        receiver.received = lambda *_: first.close()  # type: ignore[assignment]
        (neighbour,) = second._neighbours
        second.publish("a", b"x")
        second.publish("a", b"not received")
        neighbour.write(b"\xff\xff\xff\xff\x00\x00\x01")
        with capturedLogs() as events:
            machine.loop.run()
        assert len(events) == 1

    def test_a_ready_socket_that_has_nothing_is_left_alone(self, machine: Machine) -> None:
        for call in list(machine.loop.readers.values()):
            call()
        assert len(machine.loop.readers) == 2

    def test_the_largest_payload_is_taken(self, machine: Machine) -> None:
        machine.backplanes[0].subscribe("a")
        machine.loop.run()
        assert WorkersBackplane.largest == LARGEST


def test_a_process_knows_that_no_neighbour_gets_a_payload(machine: Machine) -> None:
    one, other = machine.backplanes
    other.subscribe("a")
    machine.loop.run()
    told: list[str] = []
    for subject in ("a", "b"):
        assert one.publish_or_tell(subject, b"x", partial(told.append, subject)) is True
    assert told == []
    machine.loop.run()
    assert told == ["b"]
    assert machine.receivers[1].got == [("a", b"x")]
