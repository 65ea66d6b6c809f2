from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost
from tests.rooms import Backplane, Handler, Loud, Plain, Rooms, logged, serve
from wshost.cluster.exchange import Exchange
from wshost.connections.shared import Link
from wshost.interfaces import IContext, ILocalTopics
from wshost.messages import CALL
from wshost.results import Reject, Switch


def from_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def test_topics_provide_ilocaltopics() -> None:
    assert verifyObject(ILocalTopics, Rooms().topics)


class Name(str, Enum):  # noqa: UP042 - what is formatted otherwise
    A = "a"


class TestPublishing:
    def test_publish_locally_takes_subclasses_of_str_and_bytes_that_may_change(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a")
        assert [rooms.topics.publish_locally(Name.A, data) for data in (Name.A, bytearray(b"binary"))] == [True, True]
        assert peer.messages() == ["a", b"binary"]

    def test_a_publication_reaches_the_subscribers_of_its_topic(self) -> None:
        rooms = Rooms()
        one, other, third = rooms.open("/a"), rooms.open("/a/b"), rooms.open("/b")
        assert rooms.publish("a", "text", b"binary") == [True, True]
        assert rooms.publish("nobody", "text") == [True]
        assert one.messages() == other.messages() == ["text", b"binary"]
        assert third.messages() == []

    def test_an_unsubscribed_connection_gets_no_more_publications(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a/b")
        (ref,) = rooms.handler.refs
        assert [ref.unsubscribe("a"), ref.unsubscribe("a"), ref.unsubscribe("never")] == [True, True, True]
        rooms.publish("a", "not for it")
        rooms.publish("b", "for it")
        assert peer.messages() == ["for it"]

    def test_unsubscribing_without_a_subscription_changes_nothing(self) -> None:
        rooms = Rooms()
        rooms.open("/a"), rooms.open("/")
        assert rooms.handler.refs[1].unsubscribe("a") is True
        assert rooms.topics.names == ["a"]

    def test_a_topic_subscribed_twice_delivers_each_message_once(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a/a")
        rooms.publish("a", "once")
        assert peer.messages() == ["once"]
        rooms.handler.refs[0].unsubscribe("a")
        assert rooms.topics.names == []

    def test_a_connection_has_at_most_max_subscriptions(self) -> None:
        rooms = Rooms(max_subscriptions=2)
        rooms.open("/a/b")
        (ref,) = rooms.handler.refs
        assert [ref.subscribe("c"), ref.subscribe("b")] == [False, True]
        ref.unsubscribe("a")
        assert ref.subscribe("c") is True
        assert rooms.topics.names == ["b", "c"]

    def test_subscriptions_are_counted(self) -> None:
        rooms = Rooms()
        one, other = rooms.open("/a/b"), rooms.open("/b")
        assert rooms.topics.subscriptions == 3
        for ref in rooms.handler.refs:
            ref.subscribe("b")
            ref.unsubscribe("a")
        assert rooms.topics.subscriptions == 2
        one.leave()
        other.leave()
        assert rooms.topics.subscriptions == 0

    def test_topics_work_without_a_backplane(self) -> None:
        host = MemoryHost(Handler())
        peer = host.open("/a")
        assert host.hub.topics.publish_locally("a", "text") is True
        assert peer.messages() == ["text"]
        peer.leave()
        assert host.hub.topics.names == []

    def test_a_publication_at_a_turns_end_is_delivered_in_the_next(self) -> None:
        """An observer of the log publishes it, when another message can't be encoded."""
        host, peer = serve(Loud())

        def publish(event: LogEvent) -> None:
            host.hub.topics.publish_locally("a", "Late")

        observer: Any = publish
        globalLogPublisher.addObserver(observer)
        try:
            host.hub.topics.publish_locally("a", "Bad")
            peer.turn()
        finally:
            globalLogPublisher.removeObserver(observer)
        assert peer.take() == b"LATE"


class TestPatterns:
    def test_a_publication_reaches_the_subscribers_of_each_pattern_that_matches(self) -> None:
        rooms = Rooms()
        peers = [rooms.open(path) for path in ("/rooms.7", "/rooms.*", "/*.7", "/rooms", "/users.*")]
        everything = rooms.open("/")
        assert rooms.handler.refs[-1].subscribe(">")
        rooms.publish("rooms.7", "seven")
        rooms.publish("rooms.8", "eight")
        rooms.publish("users", "none")
        assert [peer.messages() for peer in peers] == [["seven"], ["seven", "eight"], ["seven"], [], []]
        assert everything.messages() == ["seven", "eight", "none"]

    def test_a_pattern_is_one_subscription(self) -> None:
        rooms = Rooms(max_subscriptions=2)
        rooms.open("/rooms.*/rooms.7")
        (ref,) = rooms.handler.refs
        assert [ref.subscribe("users.*"), ref.subscribe("rooms.*")] == [False, True]
        assert rooms.topics.names == ["rooms.7", "rooms.*"]
        assert rooms.topics.subscriptions == 2

    def test_unsubscribing_from_a_pattern_leaves_the_other_subscriptions(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/rooms.*/*.7/rooms.7")
        (ref,) = rooms.handler.refs
        for topic in ("rooms.7", "rooms.*"):
            assert ref.unsubscribe(topic) is True
            rooms.publish("rooms.7", f"not by {topic}")
        assert rooms.topics.names == ["*.7"]
        assert ref.unsubscribe("*.7") is True
        rooms.publish("rooms.7", "by none")
        assert peer.messages() == ["not by rooms.7", "not by rooms.*"]
        assert rooms.empty()

    def test_nothing_is_left_of_the_patterns_of_an_ended_connection(self) -> None:
        rooms = Rooms()
        peers = [rooms.open("/rooms.*/rooms.7") for _ in range(2)]
        rooms.publish("rooms.7", "text")
        peers[0].leave()
        assert not rooms.topics.empty
        peers[1].leave()
        assert rooms.idle()
        assert rooms.empty()

    def test_a_host_without_other_topics_is_not_empty_while_it_has_a_pattern(self) -> None:
        rooms = Rooms()
        rooms.open("/rooms.*")
        assert not rooms.topics.empty

    def test_the_backplane_is_told_of_patterns_as_of_topics(self) -> None:
        rooms = Rooms()
        peers = [rooms.open("/rooms.*/rooms.7") for _ in range(2)]
        assert rooms.backplane.subscribed == [("rooms.*", rooms.topics), ("rooms.7", rooms.topics)]
        for peer in peers:
            peer.leave()
        assert rooms.backplane.subscribed == []


class TestBackplane:
    def test_the_backplane_is_told_of_a_topics_first_and_last_subscriber(self) -> None:
        told: list[Any] = []

        class Backplane(Exchange):
            def subscribe(self, topic: str, local: ILocalTopics) -> None:
                told.append(("subscribe", topic, local))

            def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
                told.append(("unsubscribe", topic, local))

        host = MemoryHost(Handler(), exchange=Backplane())
        topics = host.hub.topics
        one, other = host.open("/a"), host.open("/a")
        assert told == [("subscribe", "a", topics)]
        one.leave()
        assert told == [("subscribe", "a", topics)]
        other.leave()
        assert told == [("subscribe", "a", topics), ("unsubscribe", "a", topics)]

    def test_a_backplane_that_fails_to_subscribe_refuses_the_subscription(self) -> None:
        """Nothing is kept of what failed: the backplane is told of the next subscription again."""

        class Backplane(Exchange):
            broken = True

            def subscribe(self, topic: str, local: ILocalTopics) -> None:
                if self.broken:
                    raise GeneratorExit
                super().subscribe(topic, local)

            def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
                raise GeneratorExit

        backplane = Backplane()
        rooms = MemoryHost(Handler(), exchange=backplane)
        peer = rooms.open()
        ref = peer.connection.ref
        with logged() as lines:
            assert ref.subscribe("a") is False
            backplane.broken = False
            assert ref.subscribe("a") is True
            backplane.publish("a", "text")
            assert peer.messages() == ["text"]
            assert ref.unsubscribe("a") is True
        assert lines == ["c1: the backplane failed to subscribe", "c1: the backplane failed to unsubscribe"]
        peer.leave()
        assert rooms.idle()

    def test_a_backplane_reaches_all_hosts_that_share_it(self) -> None:
        backplane = Exchange()
        hosts = [MemoryHost(Handler(), exchange=backplane) for _ in range(2)]
        peers = [host.open("/a") for host in hosts]
        backplane.publish("a", "text")
        assert [peer.messages() for peer in peers] == [["text"], ["text"]]


class TestModules:
    """Modules other than websocket."""

    def test_a_module_without_an_encoding_is_asked_to_send_each_message(self) -> None:
        host, peer = serve(None)
        for data in ("One", "no", "Two"):
            host.hub.topics.publish_locally("a", data)
        assert peer.take() == b"onetwo"
        assert host.hub.topics.dropped == 1

    def test_a_module_may_change_between_an_encoding_and_none(self) -> None:
        host, peer = serve(None)
        topics = host.hub.topics
        topics.publish_locally("a", "One")
        peer.connection.context.use_encoding(Loud())
        topics.publish_locally("a", "Two")
        assert peer.take() == b"oneTWO"
        topics.publish_locally("a", "Three")
        peer.connection.context.use_encoding(None)
        topics.publish_locally("a", "Four")
        assert peer.take() == b"THREEfour"

    def test_nothing_is_published_to_a_connection_after_its_end(self) -> None:
        host, peer = serve(Loud())
        host.hub.topics.publish_locally("a", "One")
        peer.send(b"the end")
        host.hub.topics.publish_locally("a", "Two")
        assert peer.take() == b"ONEthe end"
        assert host.hub.topics.dropped == 1
        assert peer.connection.ref.subscribe("b") is False


class TestThreads:
    def test_another_thread_subscribes_and_publishes_in_order(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/")
        (ref,) = rooms.handler.refs

        def work() -> list[Any]:
            return [
                ref.subscribe("a"),
                *rooms.publish("a", "one"),
                ref.unsubscribe("a"),
                *rooms.publish("a", "two"),
            ]

        # The backplane brings nothing before the first subscription has arrived.
        assert peer.connection.ask(0, "subscribe", "a")
        assert from_thread(work) == [True] * 4
        assert peer.messages() == ["one"]
        assert rooms.topics.names == []

    def test_publications_that_wait_for_the_reactors_thread_are_bounded(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a")
        size = 500 - CALL
        assert from_thread(lambda: rooms.publish("a", *["x" * size] * 3)) == [True, True, False]
        assert len(peer.messages()) == 2
        assert from_thread(lambda: rooms.publish("a", "again")) == [True]
        assert peer.messages() == ["again"]


class TestHandshake:
    def test_publications_before_the_end_of_the_handshake_are_kept(self) -> None:
        accept: Deferred[None] = Deferred()

        class Slow(Handler):
            def init(self, options: Any) -> Any:
                state = super().init(options)
                return accept.addCallback(lambda _: state)

        rooms = Rooms()
        host = MemoryHost(Slow(), exchange=rooms.backplane)
        peer = host.connect()
        assert peer.upgrade("/a") == b"\r\n\r\n"
        rooms.publish("a", "early")
        peer.turn()
        rooms.publish("a", "and more")
        accept.callback(None)
        rooms.publish("a", "late")
        head, _, rest = peer.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        peer.frames.receive_data(rest)
        assert peer.messages() == ["early", "and more", "late"]

    def test_a_rejected_connection_loses_its_subscriptions(self) -> None:
        class No(Handler):
            def init(self, options: Any) -> Any:
                super().init(options)
                raise Reject

        backplane = Backplane()
        host = MemoryHost(No(), exchange=backplane)
        peer = host.connect()
        assert peer.upgrade("/a").startswith(b"HTTP/1.1 403 ")
        backplane.publish("a", "text")
        assert peer.take() == b""
        peer.leave()
        assert host.hub.topics.names == []
        assert backplane.subscribed == []


class TestEnd:
    def test_nothing_is_left_of_the_subscriptions_of_an_ended_connection(self) -> None:
        rooms = Rooms()
        peers = [rooms.open(path) for path in ("/a/b", "/a/b", "/b", "/")]
        connection = weakref.ref(peers[0].connection)
        rooms.publish("a", "text")
        rooms.handler.refs[0].subscribe("c")
        rooms.publish("c", "text")
        for peer in peers:
            peer.leave()
        assert rooms.idle()
        assert rooms.empty()
        del peer, peers
        gc.collect()
        assert connection() is None

    def test_a_handler_may_publish_that_its_connection_has_ended(self) -> None:
        rooms = Rooms()

        class Leaving(Handler):
            def handle(self, message: Any, state: Any) -> Any:
                if message == "connection_close":
                    assert state.subscribe("b") is False
                    rooms.publish("a", "it left")
                return ("noreply", state)

        host = MemoryHost(Leaving(), exchange=rooms.backplane)
        stays, leaves = host.open("/a"), host.open("/a")
        leaves.leave()
        assert stays.messages() == ["it left"]


class Switching(Plain):
    """A module that begins like `Plain`, and switches as soon as anything comes in."""

    def init(self, options: Any, context: IContext) -> Switching:
        context.use_encoding(self.encoding)
        return self

    def handle_connection_in(self, data: bytes) -> Any:
        return Switch("plain")


class TestSwitch:
    def test_a_switch_ends_the_encoding_and_keeps_the_subscriptions(self) -> None:
        host = MemoryHost(chain=[Link("switching", Switching(Loud()), None), Link("plain", Plain(), None)])
        peer = host.connect()
        peer.connection.ref.subscribe("a")
        host.hub.topics.publish_locally("a", "One")
        assert peer.take() == b"ONE"
        peer.send(b"switch")
        host.hub.topics.publish_locally("a", "Two")
        assert peer.take() == b"two"
