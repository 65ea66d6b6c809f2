from __future__ import annotations

import sys
from random import Random
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from tests.backplanes.surroundings import Attempt, Network, Transport, Turns, settings, turns
from wshost.backplanes import link as module
from wshost.backplanes.candidates import BROKERS
from wshost.backplanes.connection import FINISH, PING, BrokerError
from wshost.backplanes.link import CONNECT, HOLD, LONGEST, REASONS, SHORTEST, Link
from wshost.backplanes.output import COMMANDS
from wshost.backplanes.settings import Broker
from wshost.fastnet.client import ConnectingReactor
from wshost.results import ConfigurationError


class World:
    """A link in a network in memory; a speaker that greets with "hello", and is let in by "welcome"."""

    def __init__(self, *hosts: str, **more: Any) -> None:
        self.clock = Turns()
        self.network = Network(self.clock)
        self.happened: list[Any] = []
        speaker: Any = self
        brokers = more.pop("brokers", ())
        self.link = self.network.make_link(self.clock, settings(*hosts, **more), speaker, brokers)
        self.link.start()

    def begin(self) -> None:
        self.happened.append(f"begin {self.link.broker.host}")
        self.link.command(b"hello ")

    def read(self, data: bytes) -> None:
        if data == b"welcome":
            self.link.ready()
        elif data == b"pong":
            self.link.answered()
        else:
            raise BrokerError("bad bytes")

    def ping(self) -> None:
        self.link.command(b"ping ")

    def lost(self, reason: str) -> None:
        self.happened.append(reason)

    def dropped(self, payloads: int) -> None:
        self.happened.append(payloads)

    def let_in(self) -> Transport:
        """Accept the next attempt, and let us in."""
        transport = self.network.next().accept()
        self.clock.advance(0)
        assert transport.read() == b"hello "
        transport.protocol.dataReceived(b"welcome")
        return transport

    def come_back(self) -> Transport:
        """Accept the attempt that is made after a delay, and let us in."""
        transport = self.later().accept()
        transport.protocol.dataReceived(b"welcome")
        return transport

    def lose(self, transport: Transport) -> None:
        transport.protocol.dataReceived(b"?")
        self.clock.advance(0)

    def later(self) -> Attempt:
        """The attempt that is made after a delay."""
        count = len(self.network.attempts)
        self.clock.advance(LONGEST)
        assert len(self.network.attempts) == count + 1
        return self.network.attempts[-1]


@pytest.fixture
def world() -> World:
    return World()


class TestConnecting:
    def test_payloads_leave_when_the_broker_has_let_us_in(self, world: World) -> None:
        world.link.send(b"early ")
        transport = world.network.next().accept()
        world.link.send(b"later ")
        world.clock.advance(0)
        assert transport.read() == b"hello "
        transport.protocol.dataReceived(b"welcome")
        world.link.command(b"command ")
        world.link.send(b"now ")
        world.clock.advance(0)
        assert transport.read() == b"early later command now "
        assert world.link.is_ready

    def test_all_brokers_are_tried_in_some_order_before_a_delay(self) -> None:
        world = World("a", "b", "c")
        hosts = []
        for _ in range(3):
            attempt = world.network.next()
            hosts.append(attempt.broker.host)
            attempt.refuse()
        assert sorted(hosts) == ["a", "b", "c"]
        world.clock.advance(0)
        assert len(world.network.attempts) == 3
        world.clock.advance(SHORTEST)
        assert len(world.network.attempts) == 4

    def test_delays_grow_up_to_the_longest(self, world: World) -> None:
        world.network.next().refuse()
        delays = []
        for _ in range(10):
            (call,) = world.clock.getDelayedCalls()
            delays.append(call.getTime() - world.clock.seconds())
            world.later().refuse()
        for delay, most in zip(delays, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0], strict=True):
            assert most / 2 <= delay <= most

    def test_a_broker_that_does_not_answer_the_connection_is_given_up(self, world: World) -> None:
        with capturedLogs() as events:
            world.network.next()
            world.clock.advance(CONNECT)
        assert [event["about"] for event in events] == ["a:1: it did not answer within 2 seconds"]
        assert world.later().broker.host == "a"

    def test_a_reason_is_logged_once_until_a_broker_lets_us_in(self, world: World) -> None:
        with capturedLogs() as events:
            world.network.next().refuse()
            world.later().refuse()
            self_made = world.later().accept()
            self_made.protocol.dataReceived(b"?")
            world.clock.advance(0)
            turns(world.clock)
        reasons = ["a:1: An error occurred while connecting: no way", "a:1: bad bytes"]
        assert [event["about"] for event in events] == reasons
        world.clock.advance(LONGEST)
        transport = world.network.attempts[-1].accept()
        transport.protocol.dataReceived(b"welcome")
        world.lose(transport)
        with capturedLogs() as events:
            world.later().refuse()
        assert [event["about"] for event in events] == reasons[:1]

    def test_only_so_many_reasons_are_logged(self, world: World) -> None:
        with capturedLogs() as events:
            world.network.next().refuse()
            for number in range(2 * REASONS):
                world.later().refuse(ConnectionError(f"reason {number}\x1b"))
        assert len(events) == REASONS
        assert events[-1]["about"] == f"a:1: reason {REASONS - 2}\\x1b"

    def test_the_given_brokers_take_the_place_of_those_of_the_settings(self) -> None:
        clock, network = Turns(), Network(Turns())
        speaker: Any = Quiet()
        Link(clock, settings("a"), speaker, [Broker("b", 2)], random=Random(1), endpoint=network.endpoint).start()
        clock.advance(0)
        assert [attempt.broker.host for attempt in network.attempts] == ["b"]

    def test_a_wrong_file_is_told_before_anything_is_connected(self) -> None:
        with pytest.raises(ConfigurationError, match="missing: No such file"):
            World(ca="missing")


class TestLosing:
    def test_another_broker_is_gone_to_and_what_waits_leaves_there(self) -> None:
        world = World("a", "b")
        transport = world.let_in()
        first = world.link.broker
        world.lose(transport)
        assert not world.link.is_ready
        world.link.send(b"waits ")
        world.clock.advance(SHORTEST)
        transport = world.network.attempts[-1].accept()
        assert world.link.broker != first
        transport.protocol.dataReceived(b"welcome")
        world.clock.advance(HOLD)
        assert transport.read() == b"hello waits "
        assert world.happened == [f"begin {first.host}", "bad bytes", f"begin {world.link.broker.host}"]

    def test_payloads_wait_from_the_end_on_not_from_the_loss(self, world: World) -> None:
        transport = world.let_in()
        world.link.lose("lost")
        world.link.send(b"waits ")
        turns(world.clock)
        assert transport.read() == b""
        world.later().accept().protocol.dataReceived(b"welcome")
        assert world.link.is_ready
        world.clock.advance(HOLD)
        assert world.link.output.waiting == 0

    def test_payloads_wait_for_receivers_that_have_lost_the_same_broker(self, world: World) -> None:
        world.lose(world.let_in())
        transport = world.come_back()
        world.link.send(b"waits ")
        world.link.command(b"command ")
        turns(world.clock)
        assert transport.read() == b"hello command "
        # The second delay would have been the next one.
        world.clock.advance(2 * SHORTEST)
        assert transport.read() == b"waits "

    def test_payloads_wait_so_long_at_the_most(self, world: World) -> None:
        transport = world.let_in()
        for _ in range(10):
            world.lose(transport)
            transport = world.come_back()
        world.link.send(b"waits ")
        turns(world.clock)
        transport.read()
        world.clock.advance(HOLD)
        assert transport.read() == b"waits "

    def test_payloads_are_not_dropped_while_they_wait_for_receivers(self) -> None:
        world = World("a", patience=0.1)
        world.lose(world.let_in())
        transport = world.come_back()
        world.link.send(b"waits ")
        turns(world.clock)
        transport.read()
        world.clock.advance(0.05)
        assert transport.read() == b"waits "

    def test_payloads_that_wait_for_receivers_wait_on_when_the_broker_is_lost_again(self, world: World) -> None:
        world.lose(world.let_in())
        transport = world.come_back()
        world.link.send(b"waits ")
        world.lose(transport)
        transport = world.come_back()
        turns(world.clock)
        assert transport.read() == b"hello "
        world.clock.advance(HOLD)
        assert transport.read() == b"waits "

    def test_a_broker_that_throws_us_out_at_once_does_not_shorten_the_delay(self, world: World) -> None:
        delays = []
        transport = world.let_in()
        for _ in range(6):
            world.lose(transport)
            (call,) = world.clock.getDelayedCalls()
            delays.append(call.getTime() - world.clock.seconds())
            transport = world.later().accept()
            transport.protocol.dataReceived(b"welcome")
        assert delays[-1] >= LONGEST / 4
        world.clock.advance(PING)
        transport.protocol.dataReceived(b"pong")
        world.clock.advance(PING)
        world.lose(transport)
        (call,) = world.clock.getDelayedCalls()
        assert call.getTime() - world.clock.seconds() <= SHORTEST

    def test_payloads_that_waited_too_long_are_told(self, world: World) -> None:
        world.link.send(b"a")
        world.clock.advance(0)
        world.clock.advance(5)
        assert world.happened == [1]

    def test_a_broker_that_takes_no_commands_is_lost(self, world: World) -> None:
        transport = world.let_in()
        transport.producer.pauseProducing()
        world.link.command(bytes(COMMANDS))
        world.link.command(b"a")
        world.clock.advance(0)
        assert world.happened == ["begin a", "it takes nothing"]

    def test_a_broker_that_takes_bytes_needs_no_answer(self, world: World) -> None:
        transport = world.let_in()
        for _ in range(10):
            world.clock.advance(PING)
            transport.producer.resumeProducing()
        turns(world.clock)
        assert not transport.ended

    def test_without_a_connection_nothing_can_be_lost_answered_left_or_secured(self, world: World) -> None:
        world.link.lose("lost")
        world.link.answered()
        world.link.ready()
        world.link.leave("left")
        world.link.start_tls()
        world.link.output.resumeProducing()
        assert world.happened == []
        assert not world.link.is_ready


class TestGoing:
    def test_a_broker_is_left_when_it_has_got_all(self) -> None:
        world = World("a", "b")
        transport = world.let_in()
        first = world.link.broker
        world.link.send(b"last ")
        world.link.leave("it goes")
        world.link.send(b"waits ")
        world.link.leave("twice")
        world.clock.advance(0)
        assert transport.read() == b"last ping "
        assert not transport.ended
        transport.protocol.dataReceived(b"pong")
        assert transport.ended == "closed"
        world.clock.advance(0)
        world.clock.advance(SHORTEST)
        transport = world.network.attempts[-1].accept()
        assert world.link.broker != first
        transport.protocol.dataReceived(b"welcome")
        world.clock.advance(HOLD)
        assert transport.read() == b"hello waits "

    def test_a_named_broker_is_tried_before_all_others_once(self) -> None:
        world = World("a", "b")
        world.network.next().accept()
        with capturedLogs() as events:
            world.link.go_to(Broker("c", 3))
            world.clock.advance(0)
        assert events == []
        attempt = world.network.next()
        assert attempt.broker == Broker("c", 3)
        attempt.refuse()
        assert world.network.next().broker.host in {"a", "b"}
        assert world.happened[1:] == ["it names c:3"]

    def test_brokers_that_are_named_later_are_tried_too(self, world: World) -> None:
        transport = world.let_in()
        world.link.know([Broker("a", 1), *(Broker(f"n{number}", 1) for number in range(BROKERS + 10))])
        world.lose(transport)
        hosts = set()
        attempt = world.later()
        for _ in range(BROKERS):
            hosts.add(attempt.broker.host)
            attempt.refuse()
            attempt = world.network.next()
        hosts.add(attempt.broker.host)
        assert hosts == {"a", *(f"n{number}" for number in range(BROKERS))}
        # The one that we had is the last.
        assert attempt.broker.host == "a"

    def test_named_brokers_are_forgotten_when_others_are_named(self, world: World) -> None:
        world.link.know([Broker("b", 1)])
        world.link.know([Broker("c", 1)])
        world.network.next().refuse()
        assert {world.later().broker.host, world.network.attempts[-1].broker.host} <= {"a", "c"}


class TestTLS:
    def test_tls_is_started_for_a_broker_that_begins_with_it(self) -> None:
        clock, network = Turns(), Network(Turns())
        speaker: Any = Quiet()
        link = Link(clock, settings(), speaker, [Broker("a", 1, tls=True)], random=Random(1), endpoint=network.endpoint)
        link.start()
        clock.advance(0)
        assert network.attempts[0].accept().tls._hostname == "a"

    @pytest.mark.parametrize(("host", "name"), [("192.0.2.1", "a"), ("::1", "a"), ("b", "b")])
    def test_the_certificate_of_a_named_address_is_for_the_name_of_who_named_it(
        self, world: World, host: str, name: str
    ) -> None:
        transport = world.let_in()
        world.link.know([Broker(host, 1)])
        world.lose(transport)
        attempt = world.later()
        assert attempt.broker.host == host
        transport = attempt.accept()
        world.link.start_tls()
        assert transport.tls._hostname == name


class TestTransports:
    """On an asyncio reactor, those without TLS are faster, and can't begin to speak it."""

    @pytest.fixture
    def reactors(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The reactors with which endpoints were made."""
        made: list[Any] = []
        endpoint = Network.endpoint

        def noting(self: Network, reactor: Any, broker: Broker) -> Attempt:
            made.append(reactor)
            return endpoint(self, reactor, broker)

        monkeypatch.setattr(Network, "endpoint", noting)
        return made

    @pytest.fixture
    def asyncios(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Let the clocks of these tests count as reactors of asyncio."""
        monkeypatch.setattr(module, "AsyncioSelectorReactor", Turns)

    @pytest.mark.usefixtures("asyncios")
    @pytest.mark.parametrize(
        ("broker", "faster"),
        [(Broker("a", 1), True), (Broker("a", 1, upgrades=True), False), (Broker("a", 1, tls=True), False)],
    )
    def test_only_brokers_without_tls_are_reached_by_the_faster_one(
        self, reactors: list[Any], broker: Broker, faster: bool
    ) -> None:
        world = World(brokers=(broker,))
        world.network.next()
        assert [type(reactor) for reactor in reactors] == [ConnectingReactor if faster else Turns]

    @pytest.mark.usefixtures("asyncios")
    def test_where_there_is_no_faster_one_twisteds_is_used(
        self, reactors: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On Windows."""
        monkeypatch.setitem(sys.modules, "wshost.fastnet.client", None)
        world = World()
        world.network.next()
        assert [type(reactor) for reactor in reactors] == [Turns]

    @pytest.mark.usefixtures("asyncios")
    def test_a_broker_that_demands_tls_unexpectedly_is_met_again_by_twisteds(
        self, reactors: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World()
        first = world.network.next().accept()
        monkeypatch.delattr(Transport, "startTLS")
        with capturedLogs() as events:
            world.link.start_tls()
            world.link.command(b"secret")
            turns(world.clock)
        assert (first.ended, first.read(), events) == ("aborted", b"", [])
        assert [type(reactor) for reactor in reactors] == [ConnectingReactor, Turns]


class Quiet:
    """A speaker that says nothing."""

    def begin(self) -> None:
        """Nothing."""

    def dropped(self, payloads: int) -> None:
        """Nothing."""


class TestClosing:
    def close(self, world: World) -> list[None]:
        done: list[None] = []
        world.link.close().addCallback(done.append)
        return done

    def test_what_waits_is_sent_and_answered_first(self, world: World) -> None:
        transport = world.let_in()
        world.link.send(b"last ")
        done = self.close(world)
        assert not world.link.send(b"late ")
        world.clock.advance(0)
        assert (transport.read(), transport.ended, done) == (b"last ping ", "", [])
        transport.protocol.dataReceived(b"pong")
        world.clock.advance(0)
        assert (transport.ended, done) == ("closed", [None])
        assert world.clock.getDelayedCalls() == []

    def test_a_broker_that_does_not_answer_is_not_waited_for(self, world: World) -> None:
        transport = world.let_in()
        done = self.close(world)
        world.clock.advance(FINISH)
        world.clock.advance(0)
        assert (transport.ended, done) == ("aborted", [None])

    def test_an_attempt_is_cancelled(self, world: World) -> None:
        world.network.next()
        with capturedLogs() as events:
            done = self.close(world)
        assert (done, events) == ([None], [])
        assert world.clock.getDelayedCalls() == []

    def test_a_delay_is_cancelled(self, world: World) -> None:
        world.network.next().refuse()
        done = self.close(world)
        assert done == [None]
        assert world.clock.getDelayedCalls() == []

    def test_a_broker_that_has_not_let_us_in_is_left_at_once(self, world: World) -> None:
        transport = world.network.next().accept()
        done = self.close(world)
        transport.protocol.dataReceived(b"welcome")
        world.link.ready()
        turns(world.clock)
        assert (transport.ended, done, world.link.is_ready) == ("aborted", [None], False)

    def test_what_waits_for_receivers_is_sent_first(self, world: World) -> None:
        world.lose(world.let_in())
        transport = world.come_back()
        world.link.send(b"waits ")
        self.close(world)
        world.clock.advance(0)
        assert transport.read() == b"hello waits ping "
        transport.protocol.dataReceived(b"pong")
        world.clock.advance(0)
        assert world.clock.getDelayedCalls() == []

    def test_a_broker_that_is_being_left_gets_all(self, world: World) -> None:
        transport = world.let_in()
        world.link.leave("it goes")
        done = self.close(world)
        world.clock.advance(0)
        assert (transport.ended, done) == ("", [])
        transport.protocol.dataReceived(b"pong")
        world.clock.advance(0)
        assert (transport.ended, done) == ("closed", [None])

    def test_a_broker_that_is_lost_already_is_waited_for(self, world: World) -> None:
        transport = world.let_in()
        world.link.lose("lost")
        done = self.close(world)
        assert done == []
        world.clock.advance(0)
        assert (transport.ended, done) == ("aborted", [None])

    def test_what_can_not_be_sent_is_dropped(self, world: World) -> None:
        world.link.send(b"a")
        assert self.close(world) == [None]
        assert world.happened == [1]


def test_brokers_are_connected_to_by_name_or_address() -> None:
    reactor: Any = MemoryReactorClock()
    speaker: Any = Quiet()
    link = Link(reactor, settings("127.0.0.1"), speaker)
    link.start()
    reactor.advance(0)
    assert [client[:2] for client in reactor.tcpClients] == [("127.0.0.1", 1)]
    assert link.close().called
