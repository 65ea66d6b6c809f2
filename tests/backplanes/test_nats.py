from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from tests.backplanes.surroundings import Network, Notes, Transport, Turns, turns
from wshost.backplanes.link import HOLD, LONGEST
from wshost.backplanes.nats import NatsBackplane
from wshost.backplanes.nats_wire import MAX_PAYLOAD
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.interfaces import ITellingBackplane
from wshost.results import ConfigurationError

INFO = {"max_payload": 1000, "headers": True}


class World:
    """A backplane, its receiver, and the server that it connects to."""

    def __init__(self, *brokers: Broker, scheme: str = "nats", **more: Any) -> None:
        self.clock = Turns()
        self.network = Network(self.clock)
        used = BackplaneSettings(scheme=scheme, brokers=brokers or (Broker("a", 4222),), **more)
        self.backplane = NatsBackplane(used, self.network.make_link)
        self.receiver = Notes()
        self.outcome: list[Any] = []
        self.first = self.backplane.connect(self.clock, self.receiver)
        self.first.addCallbacks(self.outcome.append, lambda failure: self.outcome.append(failure.value))
        self.server: Any = None

    def meet(self, info: dict[str, Any] = INFO, later: bool = False) -> dict[str, Any]:
        """Accept the next attempt and send INFO; return what CONNECT says."""
        if later:
            self.clock.advance(LONGEST)
            attempt = self.network.attempts[-1]
        else:
            attempt = self.network.next()
        self.server = attempt.accept()
        self.say(b"INFO %b\r\n" % json.dumps(info).encode())
        self.clock.advance(0)
        if not self.server.writes:
            return {}
        self.written = self.server.read()
        connect, _, self.after = self.written.partition(b"\r\n")
        said: dict[str, Any] = json.loads(connect.removeprefix(b"CONNECT "))
        return said

    def say(self, data: bytes) -> None:
        self.server.protocol.dataReceived(data)

    def let_in(self, info: dict[str, Any] = INFO, later: bool = False) -> Transport:
        self.meet(info, later)
        self.say(b"PONG\r\n")
        server: Transport = self.server
        return server

    def written_now(self) -> bytes:
        self.clock.advance(0)
        written: bytes = self.server.read()
        return written


@pytest.fixture
def world() -> World:
    return World()


def test_the_backplane_provides_ibackplane(world: World) -> None:
    assert verifyObject(ITellingBackplane, world.backplane)


class TestConnecting:
    def test_connect_fires_when_the_server_has_let_us_in(self, world: World) -> None:
        said = world.meet()
        assert said == {
            "verbose": False,
            "pedantic": False,
            "echo": False,
            "tls_required": False,
            "name": "wshost",
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
        }
        assert world.after == b"PING\r\n"
        assert (world.outcome, world.receiver.told) == ([], [])
        world.say(b"PONG\r\n")
        assert (world.outcome, world.receiver.told) == ([None], ["connected"])
        assert (world.backplane.largest, world.backplane.waiting) == (1000, 0)

    def test_a_server_without_headers_and_a_largest_payload_is_used(self, world: World) -> None:
        said = world.meet({"max_payload": "many"})
        assert said["headers"] is said["no_responders"] is False
        assert world.backplane.largest == MAX_PAYLOAD

    def test_no_payload_is_larger_than_servers_can_be_made_to_take(self, world: World) -> None:
        world.let_in({"max_payload": 1 << 70})
        assert world.backplane.largest == 64 << 20

    def test_subscriptions_come_before_payloads_that_wait(self, world: World) -> None:
        for subject in ("a.b", "a.*", "c"):
            world.backplane.subscribe(subject)
        world.backplane.unsubscribe("a.*")
        world.backplane.publish("x", b"waits")
        assert world.backplane.waiting > 0
        world.meet()
        assert world.after == b"SUB a.b 1\r\nSUB c 3\r\nPING\r\n"
        world.say(b"PONG\r\n")
        world.backplane.subscribe("d")
        world.backplane.unsubscribe("c")
        assert world.written_now() == b"PUB x 5\r\nwaits\r\nSUB d 4\r\nUNSUB 3\r\n"

    def test_no_payload_is_taken_before_connect_is_called(self) -> None:
        backplane = NatsBackplane(BackplaneSettings(scheme="nats", brokers=(Broker("a", 1),)))
        assert backplane.publish("a", b"b") is False
        backplane.flush()
        assert backplane.waiting == 0

    def test_credentials_are_those_of_the_url(self) -> None:
        said = World(Broker("a", 1, "me", "secret")).meet()
        assert (said["user"], said["pass"]) == ("me", "secret")


class TestPayloads:
    def test_payloads_leave_at_once_when_nothing_more_comes_in_the_turn(self, world: World) -> None:
        server = world.let_in()
        world.backplane.publish("a", b"1")
        world.backplane.publish("a", b"2")
        world.backplane.flush()
        assert server.read() == b"PUB a 1\r\n1\r\nPUB a 1\r\n2\r\n"

    def test_payloads_come_with_their_subject(self, world: World) -> None:
        server = world.let_in()
        world.backplane.subscribe("a.*")
        server.protocol.dataReceived(b"MSG a.b 1 2\r\nhi\r\n")
        assert world.receiver.told == ["connected", ("a.b", b"hi")]

    def test_the_server_says_that_nobody_gets_a_payload(self, world: World) -> None:
        world.let_in(INFO | {"headers": True})
        told: list[str] = []
        for number in range(3):
            assert world.backplane.publish_or_tell("w.h.x", b"hi", partial(told.append, str(number))) is True
        subscribed, *published = world.written_now().split(b"\r\n")[:-1]
        inbox = subscribed.split()[1].decode()
        assert re.fullmatch(r"w\.nobody\.[0-9a-f]{16}\.\*", inbox)
        replies = [line.split()[2].decode() for line in published[::2]]
        assert published[::2] == [f"PUB w.h.x {reply} 2".encode() for reply in replies]
        assert published[1::2] == [b"hi"] * 3
        for reply in (replies[1], replies[1], inbox.replace("*", "no")):
            world.say(f"HMSG {reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n".encode())
        assert told == ["1"]
        world.say(b"MSG w.t 2 0\r\n\r\n")
        assert world.receiver.told == ["connected", ("w.t", b"")]

    def test_a_new_server_is_told_where_to_say_that_nobody_gets_a_payload(self, world: World) -> None:
        world.let_in(INFO | {"headers": True})
        world.backplane.publish_or_tell("w.h.x", b"hi", list)
        asked = world.written_now().split(b"\r\n")[0]
        world.say(b"nonsense\r\n")
        world.clock.advance(0)
        world.meet(INFO | {"headers": True}, later=True)
        assert asked in world.after

    def test_a_server_without_headers_says_nothing_of_who_gets_a_payload(self, world: World) -> None:
        world.let_in(INFO | {"headers": False})
        assert world.backplane.publish_or_tell("w.h.x", b"hi", list) is True
        assert world.written_now() == b"PUB w.h.x 2\r\nhi\r\n"

    def test_no_payload_that_is_refused_is_asked_for(self) -> None:
        world = World(buffer=100)
        world.let_in(INFO | {"headers": True})
        told: list[str] = []
        assert world.backplane.publish_or_tell("a", bytes(1001), partial(told.append, "x")) is False
        assert world.backplane.publish_or_tell("a", bytes(101), partial(told.append, "x")) is False
        assert told == []

    def test_payloads_of_one_turn_leave_in_one_write(self, world: World) -> None:
        server = world.let_in()
        assert world.backplane.publish("a", b"1") is True
        assert world.backplane.publish("b", b"2") is True
        world.clock.advance(0)
        assert server.writes == [b"PUB a 1\r\n1\r\nPUB b 1\r\n2\r\n"]

    def test_a_payload_that_is_too_large_is_dropped(self, world: World) -> None:
        world.let_in()
        assert world.backplane.publish("a", bytes(1000)) is True
        assert world.backplane.publish("a", bytes(1001)) is False

    def test_payloads_that_waited_too_long_are_told(self, world: World) -> None:
        world.backplane.publish("a", b"1")
        world.clock.advance(0)
        world.clock.advance(5)
        assert world.receiver.told == [1]

    def test_a_ping_is_answered(self, world: World) -> None:
        world.let_in()
        world.say(b"PING\r\n")
        assert world.written_now() == b"PONG\r\n"

    def test_we_ping_too(self, world: World) -> None:
        server = world.let_in()
        for _ in range(10):
            world.clock.advance(2)
            assert b"PING\r\n" in world.written_now()
            world.say(b"PONG\r\n+OK\r\n")
        assert not server.ended


class TestLosing:
    def test_a_loss_is_told_and_all_is_subscribed_again(self, world: World) -> None:
        world.let_in()
        world.backplane.subscribe("a")
        world.say(b"nonsense\r\n")
        world.clock.advance(0)
        assert world.receiver.told[1:] == ["a:4222: b'nonsense' is nothing that NATS sends"]
        world.backplane.publish("x", b"waits")
        world.meet(later=True)
        assert world.after == b"SUB a 1\r\nPING\r\n"
        world.say(b"PONG\r\n")
        assert world.receiver.told[2:] == ["connected"]
        world.clock.advance(HOLD)
        assert world.written_now() == b"PUB x 5\r\nwaits\r\n"

    def test_an_error_of_the_server_is_part_of_the_reason(self, world: World) -> None:
        server = world.let_in()
        with capturedLogs() as events:
            world.say(b"-ERR 'Stale\x1b Connection'\r\n")
        server.loseConnection()
        world.clock.advance(0)
        assert [event["text"] for event in events] == ["Stale\\x1b Connection"]
        assert world.receiver.told[1:] == ["a:4222: Connection was closed cleanly (Stale\\x1b Connection)"]

    def test_many_errors_do_not_fill_the_log(self, world: World) -> None:
        server = world.let_in()
        with capturedLogs() as events:
            world.say(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n" * 1000)
        assert len(events) == 20
        assert not server.ended

    def test_what_we_may_not_do_is_not_said_to_be_why_a_connection_ends(self, world: World) -> None:
        server = world.let_in()
        with capturedLogs() as events:
            world.say(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n")
        assert len(events) == 1
        server.loseConnection()
        world.clock.advance(0)
        assert world.receiver.told == ["connected", "a:4222: Connection was closed cleanly"]

    def test_a_pong_without_a_ping_ends_the_connection(self, world: World) -> None:
        server = world.let_in()
        world.say(b"PONG\r\n")
        assert server.ended == "aborted"

    def test_a_loss_before_we_are_let_in_is_not_told(self, world: World) -> None:
        world.meet()
        world.say(b"nonsense\r\n")
        world.clock.advance(0)
        assert (world.receiver.told, world.outcome) == ([], [])
        world.let_in(later=True)
        assert (world.receiver.told, world.outcome) == (["connected"], [None])


class TestRefusals:
    def test_a_refusal_at_first_is_told_in_one_line(self, world: World) -> None:
        world.meet()
        world.say(b"-ERR 'Authorization Violation'\r\n")
        (error,) = world.outcome
        assert isinstance(error, ConfigurationError)
        assert str(error) == "the NATS server a:4222 does not let us in: Authorization Violation"
        assert world.backplane.publish("a", b"b") is False
        done: list[None] = []
        world.backplane.close().addCallback(done.append)
        turns(world.clock)
        assert (done, world.receiver.told) == ([None], [])

    def test_a_server_that_waited_too_long_for_us_is_tried_again(self, world: World) -> None:
        world.meet()
        world.say(b"-ERR 'Authentication Timeout'\r\n")
        world.server.loseConnection()
        world.clock.advance(0)
        world.let_in(later=True)
        assert world.outcome == [None]

    def test_a_refusal_later_is_logged_and_tried_again(self, world: World) -> None:
        server = world.let_in()
        server.loseConnection()
        world.clock.advance(0)
        world.meet(later=True)
        with capturedLogs() as events:
            world.say(b"-ERR 'Authorization Violation'\r\n")
        assert [event["text"] for event in events] == ["Authorization Violation"]
        world.server.loseConnection()
        world.clock.advance(0)
        world.let_in(later=True)
        assert world.receiver.told[2:] == ["connected"]

    def test_a_wrong_file_of_credentials_is_told_in_one_line(self) -> None:
        world = World(credentials="/missing")
        (error,) = world.outcome
        assert isinstance(error, ConfigurationError)
        assert str(error) == "/missing: No such file or directory"
        assert world.backplane.close().called

    def test_a_wrong_file_for_tls_is_told_in_one_line(self) -> None:
        (error,) = World(ca="/missing").outcome
        assert str(error) == "/missing: No such file or directory"

    def test_a_file_of_credentials_that_is_gone_later_is_waited_for(self, tmp_path: Any) -> None:
        file = tmp_path / "user.nk"
        seed = "SUAHK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5LVOV2XK5MT74"
        file.write_text(seed)
        world = World(credentials=str(file))
        assert {"nkey", "sig"} <= world.meet({"nonce": "abc"}).keys()
        file.unlink()
        world.server.loseConnection()
        world.clock.advance(0)
        assert world.meet(later=True) == {}
        assert world.server.ended == "aborted"
        file.write_text(seed)
        world.clock.advance(0)
        world.let_in({"nonce": "abc"}, later=True)
        assert world.receiver.told == ["connected"]


class TestTLS:
    def test_tls_follows_on_info_where_the_server_demands_it(self, world: World) -> None:
        said = world.meet({"tls_required": True})
        assert said["tls_required"] is True
        assert world.server.tls._hostname == "a"

    @pytest.mark.parametrize(("scheme", "tls"), [("nats", True), ("tls", False)])
    def test_tls_follows_on_info_where_the_url_demands_it(self, scheme: str, tls: bool) -> None:
        world = World(Broker("a", 1, tls=tls), scheme=scheme)
        said = world.meet({"tls_available": True})
        assert said["tls_required"] is True
        assert world.server.tls._hostname == "a"

    @pytest.mark.parametrize("cut", [10, 1_000])
    def test_nothing_is_read_that_comes_in_the_clear_behind_info(self, cut: int) -> None:
        world = World(Broker("a", 1, "me", "secret"), scheme="tls")
        world.backplane.subscribe("x")
        world.server = world.network.next().accept()
        data = b'INFO {"tls_required": true, "max_payload": 1000}\r\nPONG\r\nMSG x 1 2\r\nhi\r\nMSG x 1 9\r\nab'
        world.say(data[:cut])
        world.say(data[cut:])
        assert world.receiver.told == []

    def test_what_comes_by_tls_is_read_afresh(self, world: World) -> None:
        world.server = world.network.next().accept()
        world.say(b'INFO {"tls_required": true, "max_payload": 20000000}\r\nMSG x 1 9\r\nab')
        world.say(b"PONG\r\nMSG x 1 10000000\r\n%b\r\n" % bytes(10_000_000))
        assert world.receiver.told == ["connected", ("x", bytes(10_000_000))]

    def test_a_server_that_speaks_no_tls_gets_no_password(self) -> None:
        world = World(Broker("a", 1, "me", "secret", tls=True))
        assert world.meet() == {}
        assert world.server.ended == "aborted"

    def test_the_connection_begins_with_tls_where_the_url_says_so(self) -> None:
        world = World(Broker("a", 1, tls=True, query=(("tls", "first"),)))
        world.server = world.network.next().accept()
        options, world.server.tls = world.server.tls, None
        assert options._hostname == "a"
        world.say(b'INFO {"tls_required": true}\r\n')
        world.clock.advance(0)
        assert b"CONNECT" in world.server.read()
        assert world.server.tls is None


class TestClusters:
    def test_other_servers_of_the_cluster_are_used_with_the_same_credentials(self) -> None:
        world = World(Broker("a", 1, "me", "secret", tls=True))
        urls = ["192.0.2.1:4222", "[::1]:4223", "nonsense", ":1", "b:", "b:0", "b:99999", "b\x1b:1", "b:\u0661", 7]
        world.meet({"tls_required": True, "connect_urls": urls})
        world.say(b"PONG\r\n")
        for known in (("192.0.2.1", 4222), ("::1", 4223)):
            assert known in {(broker.host, broker.port) for broker in world.backplane._link._candidates.brokers}
        assert len(world.backplane._link._candidates.brokers) == 3
        world.server.loseConnection()
        world.clock.advance(0)
        said = world.meet({"tls_available": True}, later=True)
        assert (said["user"], said["pass"], said["tls_required"]) == ("me", "secret", True)
        assert world.network.attempts[-1].broker.host != "a"
        assert world.server.tls._hostname == "a"

    def test_a_server_that_names_none_is_used_alone(self, world: World) -> None:
        world.let_in({"connect_urls": None})
        world.say(b'INFO {"connect_urls": ["b:1"]}\r\n')
        assert [broker.host for broker in world.backplane._link._candidates.brokers] == ["a", "b"]

    def test_a_server_that_goes_out_of_service_is_left_when_it_has_got_all(self) -> None:
        world = World(Broker("a", 1), Broker("b", 1))
        server = world.let_in()
        world.backplane.publish("x", b"1")
        world.say(b'INFO {"ldm": true}\r\n')
        assert world.written_now() == b"PUB x 1\r\n1\r\nPING\r\n"
        world.say(b"PONG\r\n")
        assert server.ended == "closed"
        first = world.network.attempts[-1].broker
        world.clock.advance(0)
        world.let_in(later=True)
        assert world.network.attempts[-1].broker != first
        assert world.receiver.told[0] == world.receiver.told[2] == "connected"


class TestClosing:
    def test_what_waits_is_sent_and_the_receiver_is_not_told(self, world: World) -> None:
        server = world.let_in()
        world.backplane.publish("a", b"1")
        done: list[None] = []
        world.backplane.close().addCallback(done.append)
        assert world.written_now() == b"PUB a 1\r\n1\r\nPING\r\n"
        world.say(b"PONG\r\n")
        turns(world.clock)
        assert (done, server.ended) == ([None], "closed")
        assert world.receiver.told == ["connected"]
        assert world.backplane.publish("a", b"late") is False

    def test_connect_that_is_cancelled_ends_the_attempt(self, world: World) -> None:
        world.network.next()
        world.first.cancel()
        assert [type(error) for error in world.outcome] == [CancelledError]
        assert world.backplane.close().called
        assert world.clock.getDelayedCalls() == []

    def test_a_close_before_we_are_let_in_cancels_connect(self, world: World) -> None:
        world.meet()
        done: list[None] = []
        world.backplane.close().addCallback(done.append)
        world.backplane._let_in()
        turns(world.clock)
        assert [type(error) for error in world.outcome] == [CancelledError]
        assert (done, world.receiver.told) == ([None], [])

    def test_nothing_is_read_before_a_connection_is_made(self, world: World) -> None:
        world.backplane.read(b"MSG a 1 1\r\nx\r\n")
        assert world.receiver.told == []
