from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.backplanes.brokers_in_memory import Brokers, Transport
from wshost.backplanes import redis, redis_speaker
from wshost.backplanes.connection import LOGIN
from wshost.backplanes.link import HOLD
from wshost.backplanes.redis import RedisBackplane
from wshost.backplanes.redis_speaker import LARGEST
from wshost.backplanes.resp import command
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.interfaces import IBackplaneReceiver, ITellingBackplane
from wshost.results import ConfigurationError

HELLO = ["HELLO", "3"]
GREETING = [*HELLO, "SETNAME", "wshost"]


def hello(role: str = "master", mode: str = "standalone") -> bytes:
    """A server's answer to HELLO."""
    facts = {"server": "redis", "proto": "3", "mode": mode, "role": role}
    words = [word for pair in facts.items() for word in pair]
    return b"%%%d" % len(facts) + command(*words).removeprefix(b"*%d" % len(words))


def message(channel: str, payload: bytes, pattern: str | None = None) -> bytes:
    words = ["message", channel] if pattern is None else ["pmessage", pattern, channel]
    return b">" + command(*words, payload)[1:]


def numbered(number: bytes) -> bytes:
    """A server's answer to PUBSUB NUMSUB."""
    return command(number, b"")[: -len(b"$0\r\n\r\n")] + b":0\r\n"


def replicas(count: int) -> bytes:
    """A server's answer to INFO."""
    text = b"txt:# Replication\r\nrole:master\r\nconnected_slaves:%d\r\nmaster_failover_state:x\r\n" % count
    return b"=%d\r\n%b\r\n" % (len(text), text)


ALONE = replicas(0)
ASKS_REPLICAS = ["INFO", "replication"]


@implementer(IBackplaneReceiver)
class Receiver:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def received(self, subject: str, payload: bytes) -> None:
        self.told.append((subject, payload))

    def connected(self) -> None:
        self.told.append("connected")

    def disconnected(self, reason: str) -> None:
        self.told.append(f"disconnected: {reason}")

    def dropped(self, payloads: int) -> None:
        self.told.append(payloads)


class World:
    """A backplane that connects to brokers in memory."""

    def __init__(self, *brokers: Broker, **settings: Any) -> None:
        self.brokers = Brokers()
        self.receiver = Receiver()
        given = {"scheme": "redis", "brokers": brokers or (Broker("r", 6379),), **settings}
        self.backplane = RedisBackplane(BackplaneSettings(**given), self.brokers.link)
        self.outcome: list[Any] = []
        self.connecting: Deferred[None] = self.backplane.connect(self.brokers.clock, self.receiver)
        self.connecting.addBoth(self.outcome.append)
        self.brokers.turn()

    @property
    def told(self) -> list[Any]:
        """What the receiver was told since this was asked last."""
        told, self.receiver.told = self.receiver.told, []
        return told

    def up(self, connection: Transport | None = None) -> Transport:
        """Let a server let us in, and forget what was said so far."""
        connection = connection or self.brokers.last
        connection.answer(hello())
        connection.answer(hello())
        assert self.told == ["connected"]
        connection.commands()
        return connection

    @property
    def error(self) -> str:
        """Why the backplane could never connect."""
        (failure,) = self.outcome
        assert isinstance(failure.value, ConfigurationError)
        return str(failure.value)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class TestPublishing:
    def test_payloads_leave_at_once_when_nothing_more_comes_in_the_turn(self) -> None:
        world = World()
        server = world.up()
        world.backplane.publish("a", b"1")
        world.backplane.publish("a", b"2")
        world.backplane.flush()
        assert server.commands() == [["PUBLISH", "a", "1"], ["PUBLISH", "a", "2"]]


class TestGreeting:
    def test_it_provides_the_interface_of_backplanes(self) -> None:
        assert verifyObject(ITellingBackplane, World().backplane)
        unconnected = RedisBackplane(BackplaneSettings(scheme="redis", brokers=(Broker("r", 6379),)))
        assert verifyObject(ITellingBackplane, unconnected)
        unconnected.flush()
        assert unconnected.waiting == 0

    @pytest.mark.parametrize(
        ("username", "password", "words"),
        [
            (None, None, []),
            (None, "secret", ["AUTH", "default", "secret"]),
            ("me", "secret", ["AUTH", "me", "secret"]),
            ("me", None, ["AUTH", "me", ""]),
        ],
    )
    def test_a_server_is_greeted_with_the_credentials_of_its_url(
        self, username: str | None, password: str | None, words: list[str]
    ) -> None:
        world = World(Broker("r", 6379, username, password))
        assert world.brokers.last.commands() == [[*HELLO, *words, "SETNAME", "wshost"]]

    @pytest.mark.parametrize(("name", "shown"), [("my app\n", "my-app-"), ("", "wshost")])
    def test_a_name_is_made_fit_for_the_list_of_clients(self, name: str, shown: str) -> None:
        assert World(name=name).brokers.last.commands() == [[*HELLO, "SETNAME", shown]]

    def test_it_is_connected_when_all_subscriptions_are_confirmed(self) -> None:
        world = World()
        world.backplane.subscribe("a.b")
        world.backplane.subscribe("c.>")
        assert world.backplane.publish("a.b", b"1")
        connection = world.brokers.last
        world.brokers.turn()
        assert connection.commands() == [GREETING]
        connection.answer(hello())
        assert connection.commands() == [["SUBSCRIBE", "a.b"], ["PSUBSCRIBE", "c.*"], HELLO]
        connection.answer(b">3\r\n$9\r\nsubscribe\r\n$3\r\na.b\r\n:1\r\n")
        world.brokers.turn()
        assert (world.told, world.outcome, connection.commands()) == ([], [], [])
        connection.answer(b">3\r\n$10\r\npsubscribe\r\n$3\r\nc.*\r\n:2\r\n", hello())
        assert (world.told, world.outcome) == (["connected"], [None])
        assert connection.commands() == [["PUBLISH", "a.b", "1"]]

    def test_what_is_subscribed_to_meanwhile_is_sent_before_payloads(self) -> None:
        world = World()
        connection = world.brokers.last
        connection.answer(hello())
        world.backplane.subscribe("a")
        world.brokers.turn()
        assert connection.commands() == [GREETING, HELLO, ["SUBSCRIBE", "a"]]

    def test_a_server_of_a_cluster_may_be_a_replica(self) -> None:
        world = World()
        world.brokers.last.answer(hello("replica", "cluster"), hello("replica", "cluster"))
        assert world.told == ["connected"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (b"-WRONGPASS invalid username-password pair\r\n", "WRONGPASS invalid username-password pair"),
            (b"-NOAUTH Authentication required.\r\n", "NOAUTH Authentication required."),
            (b"-NOPERM this user has no permissions\r\n", "NOPERM this user has no permissions"),
            (
                b"-ERR Client sent AUTH, but no password is set\r\n",
                "ERR Client sent AUTH, but no password is set",
            ),
            (b"-ERR AUTH fails " + b"x" * 900 + b"\x1b\r\n", f"ERR AUTH fails {'x' * 185}"),
            (
                b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `secret`\r\n",
                "it is older than Redis 6, or no Redis: it does not know HELLO 3",
            ),
            (b"-NOPROTO no\r\n", "it is older than Redis 6, or no Redis: it does not know HELLO 3"),
            (hello(mode="sentinel"), "it is a Sentinel, and its URL begins with redis+sentinel"),
        ],
    )
    def test_a_server_that_refuses_us_for_good_is_an_error_of_the_configuration(
        self, reply: bytes, reason: str
    ) -> None:
        world = World()
        world.brokers.last.answer(reply)
        assert world.error == f"the broker r:6379 refuses us: {reason}"
        assert not world.brokers.last.open
        world.brokers.turn(60)
        assert (len(world.brokers.connections), world.told) == (1, [])

    def test_a_subscription_that_is_not_permitted_is_one_too(self) -> None:
        world = World()
        world.backplane.subscribe("a")
        world.brokers.last.answer(hello())
        world.brokers.last.answer(b"-NOPERM no channel\r\n", hello())
        assert world.error == "the broker r:6379 refuses us: NOPERM no channel"
        assert world.told == []

    def test_a_server_that_let_us_in_once_is_tried_again(self) -> None:
        world = World()
        world.up().end()
        assert len(world.told) == 1
        world.brokers.again().answer(b"-WRONGPASS changed\r\n")
        world.up(world.brokers.again())

    @pytest.mark.parametrize(
        "reply",
        [
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-MASTERDOWN Link with MASTER is down\r\n",
            b"-ERR max number of clients reached\r\n",
            b"-DENIED Redis is running in protected mode\r\n",
            b"+OK\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            hello("replica"),
            b"*1\r\n:1\r\n",
        ],
    )
    def test_a_server_that_can_not_serve_us_now_is_tried_again(self, reply: bytes) -> None:
        world = World()
        world.brokers.last.answer(reply)
        assert not world.brokers.last.open
        world.up(world.brokers.again())
        assert world.outcome == [None]

    def test_another_scheme_is_an_error_of_the_configuration(self) -> None:
        with pytest.raises(ConfigurationError, match="redis\\+cluster is no scheme for Redis: redis, rediss, "):
            RedisBackplane(BackplaneSettings(scheme="redis+cluster", brokers=(Broker("r", 6379),)))

    def test_a_wrong_file_is_an_error_of_the_configuration(self) -> None:
        world = World(ca="/nowhere.pem")
        assert world.error.startswith("/nowhere.pem")
        closed: list[Any] = []
        world.backplane.close().addBoth(closed.append)
        assert closed == [None]


class TestPayloads:
    def test_payloads_of_one_turn_leave_in_one_write(self) -> None:
        world = World()
        connection = world.up()
        for payload in (b"1", b"", b"\r\n"):
            assert world.backplane.publish("a.b", payload)
        assert world.backplane.waiting > 0
        world.brokers.turn()
        assert len(connection.writes) == 1
        assert connection.commands() == [["PUBLISH", "a.b", payload] for payload in ("1", "", "\r\n")]
        assert world.backplane.waiting == 0

    def test_payloads_that_were_subscribed_to_are_received(self) -> None:
        world = World()
        world.backplane.subscribe("a.b")
        world.backplane.subscribe("c.*")
        connection = world.up()
        assert connection.commands() == []
        connection.answer(message("a.b", b"1"), b":2\r\n", message("c.d", b"2", "c.*"), message("c.d.e", b"3", "c.*"))
        assert world.told == [("a.b", b"1"), ("c.d", b"2")]

    def test_subscriptions_change_at_once(self) -> None:
        world = World()
        connection = world.up()
        world.backplane.subscribe("a.b")
        world.backplane.subscribe("c.*")
        world.backplane.subscribe("c.>")
        world.backplane.unsubscribe("c.*")
        world.backplane.unsubscribe("a.b")
        world.brokers.turn()
        assert connection.commands() == [["SUBSCRIBE", "a.b"], ["PSUBSCRIBE", "c.*"], ["UNSUBSCRIBE", "a.b"]]
        connection.answer(message("a.b", b"1"), message("c.d.e", b"2", "c.*"))
        assert world.told == [("c.d.e", b"2")]

    def test_the_largest_payload_fits_in_what_may_wait(self) -> None:
        world = World(buffer=10_000)
        assert world.backplane.largest < 10_000
        assert world.backplane.publish("a" * 1_024, b"x" * world.backplane.largest)
        assert World().backplane.largest < LARGEST
        assert World(buffer=LARGEST * 2).backplane.largest == LARGEST

    def test_a_payload_that_is_too_large_is_refused(self) -> None:
        world = World(buffer=10_000)
        assert not world.backplane.publish("a", b"x" * (world.backplane.largest + 1))

    def test_commands_are_remembered_for_so_many_subjects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis, "KNOWN", 2)
        world = World()
        connection = world.up()
        for number in (1, 2, 3, 1):
            world.backplane.publish(f"a.{number}", b"")
        world.brokers.turn()
        assert connection.commands() == [["PUBLISH", f"a.{number}", ""] for number in (1, 2, 3, 1)]
        assert len(world.backplane._beginnings) == 2


class TestWhoGetsIt:
    def ask(self, world: World, *subjects: str) -> list[str]:
        """Publish to these, and return the list of those that nobody gets."""
        told: list[str] = []
        for subject in subjects:
            assert world.backplane.publish_or_tell(subject, b"1", partial(told.append, subject))
        world.brokers.turn()
        return told

    def test_the_server_says_that_nobody_gets_a_payload(self) -> None:
        world = World()
        connection = world.up()
        told = self.ask(world, "a", "b", "c")
        asked = [
            (["PUBLISH", subject, "1"], ASKS_REPLICAS, ["PUBSUB", "NUMSUB", str(number)])
            for number, subject in enumerate("abc", 1)
        ]
        assert connection.commands() == [word for words in asked for word in words]
        connection.answer(b":1\r\n", ALONE, numbered(b"1"), b":0\r\n", ALONE, numbered(b"2"))
        assert told == ["b"]
        # What nobody has asked for, or what was answered, means nothing.
        connection.answer(b":0\r\n", ALONE, numbered(b"2"), numbered(b"\xff"))
        assert told == ["b"]
        connection.answer(b":2\r\n:0\r\n", ALONE, numbered(b"3"))
        assert told == ["b", "c"]

    def test_a_server_that_refuses_to_repeat_a_number_says_nothing(self, logged: list[str]) -> None:
        world = World()
        connection = world.up()
        told = self.ask(world, "a")
        connection.answer(b":0\r\n", ALONE, b"-NOPERM no pubsub\r\n")
        assert told == []
        assert connection.open

    @pytest.mark.parametrize("answer", [replicas(1), b"-NOPERM no info\r\n"])
    def test_a_server_that_may_have_replicas_says_nothing(self, answer: bytes, logged: list[str]) -> None:
        """Subscribers may be there still: what was one address may have gone over to another server."""
        world = World()
        connection = world.up()
        told = self.ask(world, "a", "b")
        connection.answer(b":0\r\n", ALONE, numbered(b"1"), b":0\r\n", answer, numbered(b"2"))
        assert told == ["a"]
        assert connection.open

    def test_that_there_were_no_replicas_is_not_believed_of_the_next_connection(self) -> None:
        world = World()
        connection = world.up()
        told = self.ask(world, "a")
        connection.answer(b":0\r\n", ALONE)
        connection.end()
        after = world.brokers.again()
        after.answer(hello())
        after.answer(hello())
        after.answer(b":0\r\n", numbered(b"1"))
        assert told == []

    def test_a_number_behind_no_publication_says_nothing(self) -> None:
        world = World()
        connection = world.up()
        told = self.ask(world, "a")
        connection.answer(ALONE, numbered(b"1"))
        assert told == []

    def test_a_server_of_a_cluster_is_not_asked(self) -> None:
        world = World()
        connection = world.brokers.last
        for _ in range(2):
            connection.answer(hello("replica", "cluster"))
        connection.commands()
        self.ask(world, "a")
        assert connection.commands() == [["PUBLISH", "a", "1"]]

    def test_a_master_is_not_asked_that_another_may_replace_without_sentinels(self) -> None:
        world = World(Broker("r", 6379), Broker("s", 6379))
        connection = world.up()
        self.ask(world, "a")
        assert connection.commands() == [["PUBLISH", "a", "1"]]

    def test_no_payload_that_is_refused_is_asked_for(self) -> None:
        world = World(buffer=5_000)
        world.up()
        assert world.backplane.publish_or_tell("a", bytes(3_701), list) is False
        assert world.backplane.publish_or_tell("a", bytes(3_700), list) is True
        assert world.backplane.publish_or_tell("a", bytes(3_700), list) is False


class TestLosses:
    def test_a_new_connection_subscribes_again_before_it_sends_what_waits(self) -> None:
        world = World()
        world.backplane.subscribe("a")
        world.up().end()
        (told,) = world.told
        assert told == "disconnected: the server has closed the connection: it stops, or we read too slowly for it"
        world.backplane.subscribe("b")
        assert world.backplane.publish("a", b"1")
        connection = world.brokers.again()
        connection.answer(hello())
        connection.answer(hello())
        assert world.told == ["connected"]
        world.brokers.turn(HOLD)
        assert connection.commands() == [GREETING, ["SUBSCRIBE", "a", "b"], HELLO, ["PUBLISH", "a", "1"]]

    def test_payloads_that_wait_too_long_are_dropped(self) -> None:
        world = World(patience=5.0)
        world.up().end()
        world.brokers.gone.add(6379)
        assert world.backplane.publish("a", b"1")
        assert world.backplane.publish("a", b"2")
        world.brokers.turn()
        world.brokers.turn(5.0)
        assert world.told[1:] == [2]

    def test_a_server_is_asked_for_its_role_again_and_again(self) -> None:
        world = World()
        connection = world.up()
        for _ in range(10):
            world.brokers.turn(1.5)
            assert connection.commands() == [HELLO]
            connection.answer(hello())
        assert world.told == []

    def test_a_server_that_does_not_answer_is_left(self) -> None:
        world = World()
        connection = world.up()
        for _ in range(3):
            world.brokers.turn(1.5)
        assert not connection.open
        assert world.told == ["disconnected: it answers no pings"]

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (hello("replica"), "it is a replica, and not the master"),
            (b"-READONLY You can't write against a read only replica.\r\n", "READONLY You can't write"),
            (b"-LOADING Redis is loading\r\n", "LOADING Redis is loading"),
            (b"nonsense\r\n", "b'nonsense' is not RESP3"),
        ],
    )
    def test_a_server_that_can_serve_us_no_more_is_left(self, reply: bytes, reason: str) -> None:
        world = World()
        connection = world.up()
        connection.answer(reply)
        assert not connection.open
        (told,) = world.told
        assert told.startswith(f"disconnected: {reason}")

    def test_other_errors_are_logged_once_each(self, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_speaker, "ERRORS", 2)
        world = World()
        connection = world.up()
        logged.clear()
        connection.answer(*(b"-NOPERM no channel %d\r\n" % number for number in (1, 1, 2, 3)))
        assert connection.open
        assert logged == [
            f"the backplane was refused something by the broker r:6379: NOPERM no channel {number}" for number in (1, 2)
        ]

    def test_the_log_does_not_repeat_what_was_published(self, logged: list[str]) -> None:
        world = World()
        connection = world.up()
        logged.clear()
        connection.answer(b"-ERR unknown command 'PUBLISH', with args beginning with: 'a' 'private' \r\n")
        assert logged == ["the backplane was refused something by the broker r:6379: ERR unknown command 'PUBLISH'"]


class TestEnds:
    def test_a_close_sends_what_waits_first(self) -> None:
        world = World()
        connection = world.up()
        world.backplane.publish("a", b"1")
        closed: list[Any] = []
        world.backplane.close().addBoth(closed.append)
        world.brokers.turn()
        assert connection.commands() == [["PUBLISH", "a", "1"], HELLO]
        assert closed == []
        connection.answer(b":0\r\n", hello())
        assert (closed, connection.open, world.told) == ([None], False, [])
        assert not world.backplane.publish("a", b"2")

    def test_a_close_ends_an_attempt_to_connect(self) -> None:
        world = World()
        closed: list[Any] = []
        world.backplane.close().addBoth(closed.append)
        assert closed == []
        world.brokers.turn()
        (failure,) = world.outcome
        assert isinstance(failure.value, CancelledError)
        assert (closed, world.brokers.last.open) == ([None], False)

    def test_an_attempt_to_connect_may_be_cancelled(self) -> None:
        world = World()
        world.connecting.cancel()
        assert not world.brokers.last.open
        closed: list[Any] = []
        world.backplane.close().addBoth(closed.append)
        world.brokers.turn(60)
        assert closed == [None]
        assert len(world.brokers.connections) == 1

    def test_a_close_while_we_are_refused_cancels_the_attempt(self) -> None:
        world = World()
        world.brokers.last._protocol.dataReceived(b"-WRONGPASS no\r\n")
        world.backplane.close()
        world.brokers.turn()
        (failure,) = world.outcome
        assert isinstance(failure.value, CancelledError)


#: The question to a Sentinel, and an answer.
ASKED = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]
NAMED = b"*2\r\n$1\r\nm\r\n$4\r\n6390\r\n"


class TestSentinels:
    def sentinel(self, port: int = 26379, password: str | None = None, username: str | None = None) -> Broker:
        return Broker("s", port, username, password, path="main")

    def world(self, *brokers: Broker) -> World:
        return World(*(brokers or (self.sentinel(),)), scheme="redis+sentinel")

    def test_the_master_that_a_sentinel_names_is_connected_to(self, logged: list[str]) -> None:
        world = self.world()
        asked = world.brokers.last
        assert (asked.broker.port, asked.commands()) == (26379, [ASKED])
        asked.answer(NAMED)
        assert not asked.open
        world.brokers.turn()
        assert (world.brokers.last.broker.host, world.brokers.last.broker.port) == ("m", 6390)
        assert world.brokers.last.commands() == [GREETING]
        world.up()
        assert logged == []

    def test_a_sentinel_is_asked_again_for_each_connection(self) -> None:
        world = self.world()
        world.brokers.last.answer(NAMED)
        world.up().end()
        asked = world.brokers.again()
        assert asked.commands() == [ASKED]
        asked.answer(b"*2\r\n$1\r\nn\r\n$4\r\n6391\r\n")
        world.brokers.turn()
        assert world.brokers.last.broker.port == 6391

    def test_a_master_that_is_none_any_more_is_left(self) -> None:
        world = self.world(self.sentinel(1), self.sentinel(2))
        first = world.brokers.last.broker.port
        world.brokers.last.answer(NAMED)
        world.brokers.last.answer(hello("replica"))
        world.brokers.turn()
        assert world.brokers.last.broker.port == 3 - first

    def test_the_master_is_believed_whatever_its_replicas(self) -> None:
        """Sentinels disconnect the clients of a master that becomes a replica."""
        world = self.world()
        world.brokers.last.answer(command("127.0.0.1", "7000"))
        connection = world.brokers.last
        for _ in range(2):
            connection.answer(hello())
        connection.commands()
        told: list[str] = []
        world.backplane.publish_or_tell("a", b"1", partial(told.append, "a"))
        world.brokers.turn()
        assert connection.commands() == [["PUBLISH", "a", "1"], ["PUBSUB", "NUMSUB", "1"]]
        connection.answer(b":0\r\n", numbered(b"1"))
        assert told == ["a"]

    def test_a_sentinel_that_knows_no_master_is_left(self, logged: list[str]) -> None:
        world = self.world()
        world.brokers.last.answer(b"*-1\r\n")
        assert not world.brokers.last.open
        assert "this Sentinel knows no master main" in logged[-1]
        assert world.brokers.again().commands() == [ASKED]

    @pytest.mark.parametrize("port", ["0", "65536", "9" * 5_000])
    def test_a_sentinel_that_names_no_port_is_left(self, port: str, logged: list[str]) -> None:
        world = self.world()
        asked = world.brokers.last
        asked.answer(command("m", port))
        world.brokers.turn(LOGIN)
        assert not asked.open
        assert len(logged) == 1
        assert world.brokers.again().commands() == [ASKED]

    @pytest.mark.parametrize(("username", "words"), [(None, ["secret"]), ("me", ["me", "secret"])])
    def test_a_sentinel_that_demands_credentials_gets_them(self, username: str | None, words: list[str]) -> None:
        world = self.world(self.sentinel(26379, "secret", username))
        asked = world.brokers.last
        assert asked.commands() == [ASKED]
        asked.answer(b"-NOAUTH Authentication required.\r\n")
        world.brokers.turn()
        assert asked.commands() == [["AUTH", *words], ASKED]
        asked.answer(b"+OK\r\n", NAMED)
        assert world.brokers.last.commands() == [[*HELLO, "AUTH", username or "default", "secret", *GREETING[2:]]]

    @pytest.mark.parametrize("password", [None, "wrong"])
    def test_wrong_credentials_for_a_sentinel_are_an_error_of_the_configuration(self, password: str | None) -> None:
        world = self.world(self.sentinel(26379, password))
        world.brokers.last.answer(b"-NOAUTH Authentication required.\r\n", b"-WRONGPASS no\r\n")
        assert world.error.startswith("the broker s:26379 refuses us: ")

    def test_a_server_that_is_no_sentinel_is_an_error_of_the_configuration(self) -> None:
        world = self.world()
        world.brokers.last.answer(b"-ERR unknown command 'SENTINEL', with args beginning with: 'main' \r\n")
        assert world.error == "the broker s:26379 refuses us: it is no Sentinel, and its URL begins with redis"

    def test_the_path_must_name_the_master(self) -> None:
        with pytest.raises(ConfigurationError, match="redis\\+sentinel: the path must name the master"):
            RedisBackplane(BackplaneSettings(scheme="redis+sentinel", brokers=(Broker("s", 26379),)))
