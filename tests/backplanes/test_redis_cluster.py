from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.backplanes.brokers_in_memory import Brokers, Transport
from tests.backplanes.redis_cluster_in_memory import (
    HALF,
    LOADED,
    TWO,
    connection_to,
    hello,
    let_in,
    said,
    slots,
    smessage,
    sunsubscribe,
)
from tests.backplanes.surroundings import Notes
from wshost.backplanes import redis_cluster
from wshost.backplanes.redis_cluster import RedisClusterBackplane
from wshost.backplanes.redis_speaker import LARGEST
from wshost.backplanes.settings import BackplaneSettings, Broker
from wshost.backplanes.shards import PARTS, SLOT_OF_PART, channel, marker, part_of
from wshost.interfaces import IBackplane
from wshost.results import ConfigurationError

GREETING = ["HELLO", "3", "SETNAME", "wshost"]
#: Subjects that the first master has, and the second, at first.
FIRST = [f"s.{number}" for number in range(40) if part_of(f"s.{number}") < PARTS // 2]
SECOND = [f"s.{number}" for number in range(40) if part_of(f"s.{number}") >= PARTS // 2]
#: Both in one part, the last one of the first master.
LAST = [subject for number in range(400) if part_of(subject := f"l.{number}") == PARTS // 2 - 1]
MOVED = b"-ERR Script attempted to access a non local key in a cluster node script: x, on @user_script:2.\r\n"


def own(subject: str) -> str:
    """The channel of a subject."""
    return channel(part_of(subject), subject)


def published(connection: Transport) -> list[tuple[str, str]]:
    """The channels and payloads that were published since this was asked last."""
    return [(words[3], words[5]) for words in said(connection) if words[0] == "EVALSHA"]


class World:
    """A backplane that connects to a cluster in memory: its guide is at the port 7000, its masters at 1 and 2."""

    def __init__(self, **settings: Any) -> None:
        self.brokers = Brokers()
        self.receiver = Notes()
        given = {"scheme": "redis+cluster", "brokers": (Broker("seed", 7000),), **settings}
        self.backplane = RedisClusterBackplane(BackplaneSettings(**given), self.brokers.link)
        self.outcome: list[Any] = []
        self.connecting: Deferred[None] = self.backplane.connect(self.brokers.clock, self.receiver)
        self.connecting.addBoth(self.outcome.append)
        self.brokers.turn()

    @property
    def guide(self) -> Transport:
        return connection_to(self.brokers, 7000)

    def to(self, port: int) -> Transport:
        """The newest connection to a master."""
        return connection_to(self.brokers, port)

    @property
    def told(self) -> list[Any]:
        """What the receiver was told since this was asked last."""
        told, self.receiver.told = self.receiver.told, []
        return told

    @property
    def error(self) -> str:
        """Why the backplane could never connect."""
        (failure,) = self.outcome
        assert isinstance(failure.value, ConfigurationError)
        return str(failure.value)

    def shown(self) -> None:
        """Let the guide say who the masters are."""
        let_in(self.guide, TWO)
        self.brokers.turn()

    def up(self) -> None:
        """Let all let us in, and forget what was said so far."""
        self.shown()
        for port in (1, 2):
            let_in(self.to(port), LOADED)
        assert self.told == ["connected"]
        for connection in self.brokers.connections:
            connection.commands()

    def publish(self, *payloads: tuple[str, bytes]) -> None:
        for one in payloads:
            assert self.backplane.publish(*one)
        self.brokers.turn()

    def close(self) -> list[Any]:
        closed: list[Any] = []
        self.backplane.close().addBoth(closed.append)
        self.brokers.turn()
        return closed


class TestTLS:
    def test_it_is_spoken_with_all_servers_before_anything_is_said(self) -> None:
        world = World(scheme="rediss+cluster", brokers=(Broker("seed", 7000, "me", "secret", tls=True),))
        assert world.guide.secure_for == "seed"
        world.shown()
        assert [world.to(port).secure_for for port in (1, 2)] == ["m", "m"]
        assert all("secret" in said(one)[0] for one in world.brokers.connections)

    def test_its_files_are_read_once(self, tmp_path: Path) -> None:
        """Who may read them at the start may not be who runs later."""
        ca = tmp_path / "ca.pem"
        trustme.CA().cert_pem.write_to_path(ca)
        world = World(ca=str(ca))
        ca.unlink()
        world.up()


class TestGreeting:
    def test_it_provides_the_interface_of_backplanes(self) -> None:
        assert verifyObject(IBackplane, World().backplane)
        unconnected = RedisClusterBackplane(BackplaneSettings(scheme="redis+cluster", brokers=(Broker("a", 1),)))
        assert verifyObject(IBackplane, unconnected)
        assert unconnected.waiting == 0

    def test_any_server_shows_the_way_to_the_masters(self) -> None:
        world = World()
        assert said(world.guide) == [GREETING]
        world.guide.answer(hello("replica"))
        assert said(world.guide) == ["QUESTION", "HELLO"]
        world.guide.answer(TWO, hello("replica"))
        world.brokers.turn()
        assert [one.broker for one in world.brokers.connections[1:]] == [Broker("m", 1), Broker("m", 2)]
        assert world.told == []

    def test_it_is_connected_when_all_subscriptions_are_in_place_at_all_masters(self) -> None:
        world = World()
        for subject in (FIRST[0], SECOND[0]):
            world.backplane.subscribe(subject)
        world.shown()
        for port, subject in ((1, FIRST[0]), (2, SECOND[0])):
            assert (world.told, world.outcome) == ([], [])
            connection = world.to(port)
            assert said(connection) == [GREETING]
            connection.answer(hello())
            assert said(connection) == ["LOAD", ["SSUBSCRIBE", own(subject)], "HELLO"]
            connection.answer(LOADED, hello())
        assert (world.told, world.outcome) == (["connected"], [None])

    def test_credentials_of_the_url_are_those_for_all_servers(self) -> None:
        world = World(brokers=(Broker("seed", 7000, "me", "secret"),))
        world.shown()
        assert said(world.to(1)) == [["HELLO", "3", "AUTH", "me", "secret", "SETNAME", "wshost"]]

    def test_a_cluster_that_is_not_whole_is_awaited(self) -> None:
        world = World()
        let_in(world.guide, slots((0, HALF - 1, 1)))
        assert not world.guide.open
        world.brokers.again()
        world.up()


class TestRefusals:
    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (b"-WRONGPASS no\r\n", "WRONGPASS no"),
            (hello(mode="standalone"), "it is no server of a cluster, and its URL begins with redis+cluster"),
            (hello(version="6.2.1"), "it is older than Redis 7: it has no sharded publish and subscribe"),
        ],
    )
    def test_a_guide_that_refuses_us_is_an_error_of_the_configuration(self, reply: bytes, reason: str) -> None:
        world = World()
        world.guide.answer(reply)
        world.brokers.turn()
        assert world.error == f"the broker seed:7000 refuses us: {reason}"
        assert (world.told, [one.open for one in world.brokers.connections]) == ([], [False])

    def test_a_master_that_refuses_the_script_is_one_too(self) -> None:
        world = World()
        world.shown()
        world.to(1).answer(hello())
        world.to(1).answer(b"-NOPERM no script\r\n", hello())
        world.guide.answer(hello())
        world.brokers.turn()
        assert world.error == "the broker m:1 refuses us: NOPERM no script"
        assert not any(one.open for one in world.brokers.connections)

    def test_a_master_that_refuses_us_later_is_tried_again(self) -> None:
        world = World()
        world.up()
        world.guide.answer(slots((0, 16_383, 3)))
        world.brokers.turn()
        world.to(3).answer(b"-WRONGPASS no\r\n")
        count = len(world.brokers.connections)
        world.brokers.turn(2)
        assert [one.broker.port for one in world.brokers.connections[count:]] == [3]

    def test_a_server_without_a_version_is_not_too_old(self) -> None:
        world = World()
        world.guide.answer(hello(version="unstable"))
        assert world.guide.open

    def test_another_scheme_is_an_error_of_the_configuration(self) -> None:
        with pytest.raises(ConfigurationError, match="redis is no scheme for Redis Cluster: redis\\+cluster, "):
            RedisClusterBackplane(BackplaneSettings(scheme="redis", brokers=(Broker("a", 1),)))

    def test_a_wrong_file_is_an_error_of_the_configuration(self) -> None:
        world = World(ca="/nowhere.pem")
        assert world.error.startswith("/nowhere.pem")
        assert world.close() == [None]


class TestPayloads:
    def test_a_payload_goes_to_the_master_of_its_subject_alone(self) -> None:
        world = World()
        world.up()
        world.publish((FIRST[0], b"1"), (SECOND[0], b"2"), (FIRST[1], b"3"))
        assert published(world.to(1)) == [(own(FIRST[0]), "1"), (own(FIRST[1]), "3")]
        assert published(world.to(2)) == [(own(SECOND[0]), "2")]

    def test_what_was_published_leaves_at_once_when_nothing_more_comes_in_this_turn(self) -> None:
        world = World()
        world.backplane.flush()
        world.up()
        world.backplane.publish(FIRST[0], b"1")
        world.backplane.publish(SECOND[0], b"2")
        world.backplane.flush()
        assert [len(world.to(port).writes) for port in (1, 2)] == [1, 1]
        assert published(world.to(1)) == [(own(FIRST[0]), "1")]

    def test_payloads_wait_until_it_is_known_where_to(self) -> None:
        world = World()
        world.publish((FIRST[0], b"1"), (SECOND[0], b"2"), (FIRST[0], b"3"))
        waiting = world.backplane.waiting
        assert waiting > 0
        world.shown()
        assert world.backplane.waiting == waiting
        for port in (1, 2):
            let_in(world.to(port), LOADED)
        assert published(world.to(1)) == [(own(FIRST[0]), "1"), (own(FIRST[0]), "3")]
        assert published(world.to(2)) == [(own(SECOND[0]), "2")]
        assert world.backplane.waiting == 0

    def test_what_waits_for_all_masters_has_one_limit(self) -> None:
        world = World(buffer=70_000)
        world.shown()
        assert world.backplane.publish(FIRST[0], bytes(40_000))
        assert not world.backplane.publish(SECOND[0], bytes(40_000))
        assert world.backplane.publish(SECOND[0], bytes(20_000))

    def test_a_payload_that_is_too_large_is_refused(self) -> None:
        world = World(buffer=70_000)
        assert world.backplane.largest < 70_000
        assert not world.backplane.publish("a", bytes(world.backplane.largest + 1))
        assert world.backplane.publish("a" * 1_024, bytes(world.backplane.largest))
        assert World(buffer=LARGEST * 2).backplane.largest < LARGEST

    def test_commands_are_remembered_for_so_many_subjects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis_cluster, "KNOWN", 2)
        world = World()
        world.up()
        world.publish(*((FIRST[number], b"") for number in (0, 1, 2, 0)))
        assert [name for name, _ in published(world.to(1))] == [own(FIRST[number]) for number in (0, 1, 2, 0)]
        assert len(world.backplane._beginnings) == 2

    def test_payloads_that_were_subscribed_to_are_received(self) -> None:
        world = World()
        world.backplane.subscribe("a.b")
        world.backplane.subscribe("a.>")
        world.up()
        prefix = channel(part_of("a.b"), "a.*")
        came = [smessage(own("a.b"), b"1"), smessage(prefix, b"a.b 1"), b":0\r\n", smessage("{12}other", b"2")]
        world.to(1 if part_of("a.b") < PARTS // 2 else 2).answer(*came)
        assert world.told == [("a.b", b"1"), ("a.b", b"1")]

    def test_subscriptions_change_at_once(self) -> None:
        world = World()
        world.up()
        world.backplane.subscribe(FIRST[0])
        world.backplane.unsubscribe(FIRST[0])
        world.brokers.turn()
        assert said(world.to(1)) == [["SSUBSCRIBE", own(FIRST[0])], ["SUNSUBSCRIBE", own(FIRST[0])]]
        assert said(world.to(2)) == []

    def test_a_short_pattern_is_subscribed_to_in_all_parts(self) -> None:
        world = World()
        world.up()
        world.backplane.subscribe("s.*")
        world.brokers.turn()
        commands = said(world.to(1)) + said(world.to(2))
        assert commands == [["SSUBSCRIBE", channel(part, "s.*"), marker(part)] for part in range(PARTS)]

    def test_what_is_subscribed_to_and_not_any_more_before_masters_are_known_is_not_sent(self) -> None:
        world = World()
        world.backplane.subscribe(FIRST[0])
        world.backplane.unsubscribe(FIRST[0])
        world.shown()
        world.backplane.subscribe(FIRST[1])
        world.backplane.unsubscribe(FIRST[1])
        world.to(1).answer(hello())
        assert said(world.to(1)) == [GREETING, "LOAD", "HELLO"]


class TestFailures:
    def test_a_master_that_is_lost_lets_only_its_own_payloads_wait(self) -> None:
        world = World()
        world.backplane.subscribe(FIRST[0])
        world.up()
        world.to(1).end()
        (told,) = world.told
        assert told == "the server has closed the connection: it stops, or we read too slowly for it"
        assert (world.backplane.reaches(FIRST[0]), world.backplane.reaches(SECOND[0])) == (False, True)
        world.publish((FIRST[0], b"1"), (SECOND[0], b"2"))
        assert published(world.to(2)) == [(own(SECOND[0]), "2")]
        connection = world.brokers.again()
        connection.answer(hello())
        connection.answer(LOADED, hello())
        assert said(connection)[2:4] == [["SSUBSCRIBE", own(FIRST[0])], "HELLO"]
        assert world.told == ["connected"]
        assert world.backplane.reaches(FIRST[0])

    def test_before_masters_are_known_nobody_is_reached(self) -> None:
        assert not World().backplane.reaches("a")

    def test_the_guide_is_asked_at_once_and_with_each_ping_while_a_master_is_missing(self) -> None:
        world = World()
        world.up()
        world.brokers.gone.add(1)
        world.to(1).end()
        world.brokers.turn()
        assert said(world.guide) == ["QUESTION"]
        world.guide.answer(TWO)
        world.brokers.turn(1.5)
        assert said(world.guide) == ["QUESTION", "HELLO"]

    def test_the_guide_is_asked_now_and_then_while_all_is_well(self) -> None:
        world = World()
        world.up()
        asked = []
        for _ in range(20):
            world.brokers.turn(1.5)
            for connection in world.brokers.connections:
                asked += said(connection)
                connection.answer(hello())
        assert (asked.count("QUESTION"), asked.count("HELLO")) == (2, 60)
        assert world.told == []

    def test_what_waits_for_a_failed_master_goes_to_the_one_in_its_place(self) -> None:
        world = World()
        world.backplane.subscribe(FIRST[0])
        world.up()
        world.brokers.gone.add(1)
        world.to(1).end()
        world.publish((FIRST[0], b"1"), (FIRST[1], b"2"))
        world.guide.answer(slots((0, HALF - 1, 3), (HALF, 16_383, 2)))
        world.publish((FIRST[0], b"3"))
        connection = world.to(3)
        connection.answer(hello())
        assert said(connection) == [GREETING, "LOAD", ["SSUBSCRIBE", own(FIRST[0])], "HELLO"]
        connection.answer(LOADED, hello())
        assert published(connection) == [(own(FIRST[0]), "1"), (own(FIRST[1]), "2"), (own(FIRST[0]), "3")]
        assert world.told[1:] == ["connected"]
        count = len(world.brokers.connections)
        world.brokers.turn(60)
        assert 1 not in {one.broker.port for one in world.brokers.connections[count:]}

    def test_payloads_that_wait_too_long_are_dropped_wherever_they_wait(self) -> None:
        world = World(patience=5.0)
        world.publish((FIRST[0], b"1"))
        world.brokers.turn(2.0)
        world.shown()
        world.publish((SECOND[0], b"2"))
        world.brokers.turn(3.0)
        assert world.told == [1]
        world.brokers.turn(2.0)
        assert world.told == [1]

    def test_a_master_that_becomes_a_replica_is_left(self) -> None:
        world = World()
        world.up()
        world.to(1).answer(hello("replica"))
        assert not world.to(1).open
        assert world.told == ["it is a replica, and not the master"]

    def test_a_master_that_has_forgotten_the_script_is_told_it_again(self) -> None:
        world = World()
        world.up()
        world.to(1).answer(b"-NOSCRIPT No matching script.\r\n")
        assert world.told == ["it has forgotten the script that publishes"]
        connection = world.brokers.again()
        connection.answer(hello())
        assert said(connection)[1] == "LOAD"

    def test_an_answer_to_nothing_does_not_matter(self) -> None:
        world = World()
        world.up()
        world.to(1).answer(hello(), hello())
        assert (world.to(1).open, world.told) == (True, [])

    @pytest.mark.parametrize(
        "reply",
        [
            b"-CLUSTERDOWN The cluster is down\r\n",
            b"-ERR Script attempted to execute a command while the cluster is down script: x\r\n",
        ],
    )
    def test_a_master_that_says_that_the_cluster_is_down_is_left(self, reply: bytes) -> None:
        world = World()
        world.up()
        world.to(1).answer(reply)
        assert not world.to(1).open
        assert world.told == ["it says that the cluster is down"]

    def test_a_guide_that_was_asked_in_vain_again_and_again_is_left_for_another(self) -> None:
        world = World()
        world.up()
        world.brokers.gone.add(1)
        world.to(1).end()
        guide = world.guide
        count = len(world.brokers.connections)
        for _ in range(10):
            assert guide.open
            world.brokers.turn(1.5)
            questions = said(guide)
            world.to(2).answer(*[hello()] * len(said(world.to(2))))
            guide.answer(TWO, *[hello()] * questions.count("HELLO"))
        assert not guide.open
        world.brokers.turn(2)
        assert world.brokers.connections[count].broker == Broker("m", 2)

    def test_another_guide_is_found_among_all_servers(self) -> None:
        world = World()
        world.up()
        world.brokers.gone.add(7000)
        world.guide.end()
        connection = world.brokers.again()
        assert connection.broker.port in {1, 2}
        let_in(connection, TWO)
        assert world.told == []


class TestMoves:
    def moved(self, *, last: int = HALF - 2) -> bytes:
        """The last part of the first master is the second's."""
        return slots((0, last, 1), (last + 1, 16_383, 2))

    def world(self) -> World:
        world = World()
        world.backplane.subscribe(LAST[0])
        world.up()
        return world

    @property
    def elsewhere(self) -> bytes:
        last = SLOT_OF_PART[PARTS // 2 - 1]
        return slots((0, last - 1, 1), (last, 16_383, 2))

    def test_a_server_that_brings_nothing_of_a_slot_any_more_is_asked_who_has_it(self) -> None:
        world = self.world()
        world.to(1).answer(sunsubscribe(own(LAST[0])))
        assert said(world.to(1)) == ["QUESTION"]
        world.to(1).answer(self.elsewhere)
        assert said(world.to(2)) == [["SSUBSCRIBE", own(LAST[0])], "HELLO"]
        assert world.told == ["some slots have another master"]
        assert not world.backplane.reaches(LAST[0])
        world.to(2).answer(hello())
        assert world.told == ["connected"]
        world.publish((LAST[0], b"1"))
        assert (published(world.to(1)), published(world.to(2))) == ([], [(own(LAST[0]), "1")])

    def test_what_was_published_in_the_turn_of_the_move_goes_to_the_new_master(self) -> None:
        world = self.world()
        world.backplane.publish(LAST[0], b"1")
        world.backplane.publish(FIRST[0], b"2")
        world.to(1)._protocol.dataReceived(self.elsewhere)
        world.publish((LAST[0], b"3"))
        assert published(world.to(1)) == [(own(FIRST[0]), "2")]
        assert published(world.to(2)) == [(own(LAST[0]), "1"), (own(LAST[0]), "3")]

    def test_a_publication_that_is_refused_is_counted_and_the_server_is_asked(self) -> None:
        world = self.world()
        world.to(1).answer(MOVED)
        assert world.told == [1]
        assert said(world.to(1)) == ["QUESTION"]

    def test_a_subscription_that_is_refused_is_made_again_after_the_question(self) -> None:
        world = self.world()
        world.to(1).answer(b"-MOVED %d m:2\r\n" % SLOT_OF_PART[part_of(LAST[0])])
        assert said(world.to(1)) == ["QUESTION"]
        world.to(1).answer(TWO)
        assert said(world.to(1)) == [["SSUBSCRIBE", own(LAST[0])], "HELLO"]
        world.to(1).answer(hello())
        assert world.told == ["some slots have another master", "connected"]

    @pytest.mark.parametrize("reply", [b"-MOVED\r\n", b"-MOVED x m:2\r\n", b"-MOVED 1 m:2\r\n", b"-TRYAGAIN\r\n"])
    def test_a_refusal_that_names_no_slot_of_ours_is_a_question_only(self, reply: bytes) -> None:
        world = self.world()
        world.to(1).answer(reply)
        assert said(world.to(1)) == ["QUESTION"]
        world.to(1).answer(TWO)
        assert (said(world.to(1)), world.told) == ([], [])

    def test_a_slot_that_moves_while_we_subscribe_anew_is_asked_for(self) -> None:
        world = self.world()
        world.to(1).end()
        connection = world.brokers.again()
        connection.answer(hello())
        said(connection)
        connection.answer(LOADED, b"-MOVED %d m:2\r\n" % SLOT_OF_PART[part_of(LAST[0])], hello())
        assert "QUESTION" in said(connection)
        connection.answer(self.elsewhere)
        assert said(world.to(2))[-2:] == [["SSUBSCRIBE", own(LAST[0])], "HELLO"]

    def test_a_server_is_not_asked_more_often_than_ten_times_a_second(self) -> None:
        world = self.world()
        for _ in range(5):
            world.to(1).answer(MOVED)
        assert said(world.to(1)) == ["QUESTION"]
        world.brokers.turn(0.1)
        assert said(world.to(1)) == ["QUESTION"]
        world.brokers.turn(0.1)
        assert said(world.to(1)) == []

    def test_what_we_have_unsubscribed_from_is_no_move(self) -> None:
        world = self.world()
        for _ in range(2):
            world.backplane.unsubscribe(LAST[0])
            world.backplane.subscribe(LAST[0])
        world.brokers.turn()
        said(world.to(1))
        world.to(1).answer(sunsubscribe(own(LAST[0])), sunsubscribe(own(LAST[0])))
        assert said(world.to(1)) == []
        world.to(1).answer(sunsubscribe(own(LAST[0])))
        assert said(world.to(1)) == ["QUESTION"]

    @pytest.mark.parametrize(
        "push",
        [
            sunsubscribe(own(LAST[1])),
            sunsubscribe("other"),
            b">3\r\n$12\r\nsunsubscribe\r\n_\r\n:0\r\n",
            b">1\r\n$12\r\nsunsubscribe\r\n",
            b">0\r\n",
            b">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n",
        ],
    )
    def test_what_was_not_subscribed_to_does_not_matter(self, push: bytes) -> None:
        world = self.world()
        world.to(1).answer(push)
        assert (said(world.to(1)), world.to(1).open) == ([], True)

    def test_an_answer_that_is_not_whole_ends_the_connection(self) -> None:
        world = self.world()
        world.to(1).answer(slots((0, 5, 1)))
        assert not world.to(1).open

    def test_a_master_without_parts_is_left_when_it_has_got_all(self) -> None:
        world = self.world()
        world.to(1).answer(slots((0, 16_383, 2)))
        connection = world.to(1)
        assert said(connection) == ["HELLO"]
        assert said(world.to(2)) == [["SSUBSCRIBE", own(LAST[0])], "HELLO"]
        connection.answer(MOVED, sunsubscribe(own(LAST[0])), TWO, hello())
        assert not connection.open
        world.to(2).answer(hello())
        assert world.told == ["some slots have another master", 1, "connected"]
        world.brokers.turn(60)
        assert world.to(1) is connection

    def test_a_master_that_refuses_us_while_it_is_left_is_no_error(self) -> None:
        world = World()
        world.shown()
        world.guide.answer(slots((0, 16_383, 2)))
        world.to(1)._protocol.dataReceived(b"-WRONGPASS no\r\n")
        let_in(world.to(2), LOADED)
        assert (world.told, world.outcome) == (["connected"], [None])

    def test_other_errors_are_logged_as_for_any_server(self) -> None:
        world = self.world()
        world.to(1).answer(b"-NOPERM no channel\r\n")
        assert (said(world.to(1)), world.to(1).open, world.told) == ([], True, [])


class TestEnds:
    def test_a_close_sends_what_waits_first_to_each_master(self) -> None:
        world = World()
        world.up()
        world.backplane.publish(FIRST[0], b"1")
        world.backplane.publish(SECOND[0], b"2")
        closed = world.close()
        assert published(world.to(1)) == [(own(FIRST[0]), "1")]
        assert published(world.to(2)) == [(own(SECOND[0]), "2")]
        assert closed == []
        for connection in world.brokers.connections:
            connection.answer(hello())
        assert (closed, world.told) == ([None], [])
        assert not world.backplane.publish(FIRST[0], b"3")
        assert not world.backplane.publish(SECOND[0], b"3")

    def test_nothing_changes_any_more_after_a_close(self) -> None:
        world = World()
        world.up()
        world.backplane.close()
        world.guide.answer(slots((0, 16_383, 3)))
        world.to(1).end()
        world.brokers.turn(60)
        assert {one.broker.port for one in world.brokers.connections} == {7000, 1, 2}
        assert world.told == []

    def test_a_close_waits_for_a_master_that_is_being_left(self) -> None:
        world = World()
        world.up()
        world.to(1).answer(slots((0, 16_383, 2)))
        closed = world.close()
        for port in (7000, 2):
            world.to(port).answer(hello(), hello())
        assert closed == []
        world.to(1).answer(hello())
        assert closed == [None]

    def test_a_question_that_was_to_be_asked_is_not(self) -> None:
        world = World()
        world.up()
        world.to(1).answer(MOVED, MOVED)
        world.close()
        for connection in world.brokers.connections:
            connection.answer(hello())
        assert world.brokers.clock.getDelayedCalls() == []

    def test_a_close_ends_an_attempt_to_connect(self) -> None:
        world = World()
        world.publish(("a", b"1"))
        assert world.close() == [None]
        (failure,) = world.outcome
        assert isinstance(failure.value, CancelledError)
        assert world.told == [1]

    def test_a_close_while_we_are_refused_cancels_the_attempt(self) -> None:
        world = World()
        world.guide._protocol.dataReceived(b"-WRONGPASS no\r\n")
        world.close()
        (failure,) = world.outcome
        assert isinstance(failure.value, CancelledError)
