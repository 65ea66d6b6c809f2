from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.backplanes.surroundings import Transport, Turns, turns
from wshost.backplanes.connection import FINISH, LOGIN, PING, BrokerError, Connection, explain


class World:
    """A connection, and a speaker that notes what it is told."""

    def __init__(self) -> None:
        self.clock = Turns()
        self.happened: list[Any] = []
        self.ends: list[None] = []
        self.error: Exception | None = None
        speaker: Any = self
        self.connection: Any = Connection(
            self.clock,
            speaker,
            lambda connection: self.happened.append("made"),
            lambda: self.ends.append(None),
            self.happened.append,
        )
        self.transport = Transport(self.clock)
        self.transport.protocol = self.connection

    def make(self) -> None:
        self.connection.makeConnection(self.transport)

    def ready(self) -> None:
        self.make()
        self.connection.ready()
        self.happened.clear()

    def begin(self) -> None:
        self.say("begin")

    def read(self, data: bytes) -> None:
        self.say(data)

    def ping(self) -> None:
        self.happened.append("ping")

    def say(self, what: Any) -> None:
        self.happened.append(what)
        if self.error is not None:
            raise self.error


@pytest.fixture
def world() -> World:
    return World()


def test_a_connection_is_made_before_the_speaker_begins(world: World) -> None:
    world.make()
    assert world.happened == ["made", "begin"]


def test_bytes_reach_the_speaker(world: World) -> None:
    world.make()
    world.connection.dataReceived(b"abc")
    assert world.happened[2:] == [b"abc"]


def test_tls_is_spoken_by_the_transport(world: World) -> None:
    world.make()
    world.connection.start_tls("options")
    assert world.transport.tls == "options"


class TestErrors:
    def test_an_error_of_the_broker_ends_the_connection_with_its_reason(self, world: World) -> None:
        world.make()
        world.error = BrokerError("it is wrong")
        world.connection.dataReceived(b"abc")
        world.connection.dataReceived(b"never read")
        world.clock.advance(0)
        assert world.transport.ended == "aborted"
        assert world.happened[2:] == [b"abc", "it is wrong"]

    def test_an_error_at_the_begin_ends_the_connection(self, world: World) -> None:
        world.error = BrokerError("it is wrong")
        world.make()
        world.clock.advance(0)
        assert world.happened == ["made", "begin", "it is wrong"]

    def test_another_exception_is_logged_and_ends_the_connection(self, world: World) -> None:
        world.make()
        world.error = LookupError()
        with capturedLogs() as events:
            world.connection.dataReceived(b"abc")
        world.clock.advance(0)
        assert [event["log_failure"].type for event in events] == [LookupError]
        assert world.happened[2:] == [b"abc", "speaking with it failed"]

    def test_the_first_reason_is_told(self, world: World) -> None:
        world.make()
        world.connection.end("first")
        world.connection.end("second")
        assert world.ends == [None]
        world.clock.advance(0)
        assert world.happened[2:] == ["first"]

    def test_an_end_by_the_broker_is_told_with_the_transports_reason(self, world: World) -> None:
        world.make()
        world.transport.end("lost", ConnectionLost("gone."))
        world.clock.advance(0)
        assert world.happened[2:] == ["Connection to the other side was lost in a non-clean fashion: gone"]
        assert world.clock.getDelayedCalls() == []


class TestLogin:
    def test_a_broker_that_does_not_let_us_in_is_given_up(self, world: World) -> None:
        world.make()
        world.clock.advance(LOGIN - 0.1)
        assert not world.transport.ended
        world.clock.advance(0.1)
        turns(world.clock)
        assert world.happened[2:] == ["it did not let us in within 4 seconds"]

    def test_a_broker_that_was_slow_because_we_stood_still_is_not(self, world: World) -> None:
        world.make()
        world.clock.advance(60)
        world.connection.ready()
        turns(world.clock)
        assert not world.transport.ended


class TestPings:
    def test_a_broker_is_sent_pings_and_lives_while_it_sends_anything(self, world: World) -> None:
        world.ready()
        for _ in range(10):
            world.clock.advance(PING)
            world.connection.dataReceived(b"x")
        assert world.happened == ["ping", b"x"] * 10
        assert not world.transport.ended

    def test_a_broker_that_answers_no_pings_is_dead_after_five_seconds_at_most(self, world: World) -> None:
        world.ready()
        world.clock.advance(PING)
        world.connection.dataReceived(b"x")
        for _ in range(3):
            assert not world.transport.ended
            world.clock.advance(PING)
        turns(world.clock)
        assert world.happened[-1] == "it answers no pings"
        assert world.clock.seconds() <= PING + 5

    def test_a_broker_lives_while_it_takes_bytes(self, world: World) -> None:
        world.ready()
        for _ in range(10):
            world.clock.advance(PING)
            world.connection.progress()
        turns(world.clock)
        assert not world.transport.ended

    def test_an_answer_that_is_read_after_we_stood_still_counts(self, world: World) -> None:
        world.ready()
        for _ in range(2):
            world.clock.advance(PING)
        world.connection.dataReceived(b"x")
        turns(world.clock)
        world.clock.advance(PING)
        for _ in range(3):
            world.clock.advance(60)
            world.clock.advance(0)
            world.connection.dataReceived(b"x")
            turns(world.clock)
        assert not world.transport.ended


class TestFinishing:
    def test_a_connection_ends_when_all_pings_are_answered(self, world: World) -> None:
        world.ready()
        world.clock.advance(PING)
        world.connection.finish("finished")
        assert world.happened == ["ping", "ping"]
        world.connection.answered()
        assert not world.transport.ended
        world.connection.answered()
        assert world.transport.ended == "closed"
        world.clock.advance(0)
        assert world.clock.getDelayedCalls() == []

    def test_a_broker_that_does_not_answer_is_not_waited_for(self, world: World) -> None:
        world.ready()
        world.connection.finish("finished")
        world.clock.advance(FINISH)
        world.clock.advance(0)
        assert world.transport.ended == "aborted"
        assert world.happened == ["ping", "finished"]

    def test_an_answer_before_the_end_ends_nothing(self, world: World) -> None:
        world.ready()
        world.clock.advance(PING)
        world.connection.answered()
        assert not world.transport.ended


class TestReasons:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ConnectError(string="no\n route."), "An error occurred while connecting: no route"),
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), "TLS failed: certificate verify failed"),
            (SSL.Error([("SSL routines", "", "")]), "TLS failed: no reason given"),
            (SSL.Error(), "Error"),
            (LookupError(), "LookupError"),
        ],
    )
    def test_a_reason_is_one_line(self, error: Exception, reason: str) -> None:
        assert explain(Failure(error)) == reason

    def test_a_certificate_for_another_host_is_told(self) -> None:
        error: Any = ValueError()
        error.errors = ["mismatch"]
        assert explain(Failure(error)) == "its certificate is not for this host"
