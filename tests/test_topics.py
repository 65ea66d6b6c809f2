from __future__ import annotations

import gc
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from wsproto.events import Message
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost, Peer
from wshost import publications
from wshost.backplanes.memory import MemoryBackplane
from wshost.connection import Link
from wshost.interfaces import IContext, IEncoding, ILocalTopics, IProtocolDriver, IProtocolModule
from wshost.protocols._published import FRAMES
from wshost.results import REFUSED, Close, Reject, Switch
from wshost.topics import CALL


class Handler:
    """Subscribes each connection to what its path says, `/a/b`; does what the test's function says to a message."""

    def __init__(self, handle: Callable[[Any, Any], Any] | None = None) -> None:
        self.refs: list[Any] = []
        self._handle = handle

    def init(self, options: Any) -> Any:
        ref = options["worker"]
        self.refs.append(ref)
        for topic in filter(None, options["connection"].path.split("/")):
            assert ref.subscribe(topic)
        return ref

    def handle(self, message: Any, ref: Any) -> Any:
        if self._handle is not None and message[0] in ("text", "info"):
            return self._handle(message[1], ref)
        return ("noreply", ref)


class Rooms(MemoryHost):
    """A host with a backplane of its own."""

    def __init__(self, handle: Callable[[Any, Any], Any] | None = None, **options: Any) -> None:
        self.backplane = MemoryBackplane()
        self.handler = Handler(handle)
        websocket_options = {"ping_interval": 0, **options.pop("websocket_options", {})}
        super().__init__(self.handler, websocket_options=websocket_options, backplane=self.backplane, **options)

    @property
    def topics(self) -> Any:
        return self.host.topics

    def publish(self, topic: str, *messages: str | bytes) -> list[bool]:
        return [self.backplane.publish(topic, message) for message in messages]

    def empty(self) -> bool:
        """Whether nothing is left of any topic."""
        topics = self.topics
        return not (
            topics._topics or topics._subscribers or topics._deliveries.pending or self.backplane._subscribed
        )


def from_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def writes(peer: Peer) -> list[bytes]:
    """The writes since the last time."""
    peer.turn()
    found, peer.transport.writes = peer.transport.writes, []
    return found


def test_provides_the_interface() -> None:
    assert verifyObject(ILocalTopics, Rooms().topics)


class TestPublishing:
    def test_reaches_who_has_subscribed(self) -> None:
        rooms = Rooms()
        one, other, third = rooms.open("/a"), rooms.open("/a/b"), rooms.open("/b")
        assert rooms.publish("a", "text", b"binary") == [True, True]
        assert rooms.publish("nobody", "text") == [True]
        assert one.messages() == other.messages() == ["text", b"binary"]
        assert third.messages() == []

    def test_ends_with_unsubscribing(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a/b")
        (ref,) = rooms.handler.refs
        assert [ref.unsubscribe("a"), ref.unsubscribe("a"), ref.unsubscribe("never")] == [True, True, True]
        rooms.publish("a", "not for it")
        rooms.publish("b", "for it")
        assert peer.messages() == ["for it"]

    def test_unsubscribing_is_harmless_for_who_never_has(self) -> None:
        rooms = Rooms()
        rooms.open("/a"), rooms.open("/")
        assert rooms.handler.refs[1].unsubscribe("a") is True
        assert list(rooms.topics._topics) == ["a"]

    def test_subscribing_twice_is_subscribing_once(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a/a")
        rooms.publish("a", "once")
        assert peer.messages() == ["once"]
        rooms.handler.refs[0].unsubscribe("a")
        assert not rooms.topics._topics

    def test_a_connection_has_only_so_many(self) -> None:
        rooms = Rooms(max_subscriptions=2)
        rooms.open("/a/b")
        (ref,) = rooms.handler.refs
        assert [ref.subscribe("c"), ref.subscribe("b")] == [False, True]
        ref.unsubscribe("a")
        assert ref.subscribe("c") is True
        assert list(rooms.topics._topics) == ["b", "c"]

    def test_works_without_a_backplane(self) -> None:
        host = MemoryHost(Handler())
        peer = host.open("/a")
        assert host.host.topics.deliver("a", "text") is True
        assert peer.messages() == ["text"]
        peer.leave()
        assert not host.host.topics._topics


class TestBackplane:
    def test_is_told_of_the_first_and_the_last_subscriber(self) -> None:
        told: list[Any] = []

        class Backplane(MemoryBackplane):
            def subscribe(self, topic: str, local: ILocalTopics) -> None:
                told.append(("subscribe", topic, local))

            def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
                told.append(("unsubscribe", topic, local))

        host = MemoryHost(Handler(), backplane=Backplane())
        topics = host.host.topics
        one, other = host.open("/a"), host.open("/a")
        assert told == [("subscribe", "a", topics)]
        one.leave()
        assert told == [("subscribe", "a", topics)]
        other.leave()
        assert told == [("subscribe", "a", topics), ("unsubscribe", "a", topics)]

    def test_reaches_all_hosts_that_share_it(self) -> None:
        backplane = MemoryBackplane()
        hosts = [MemoryHost(Handler(), backplane=backplane) for _ in range(2)]
        peers = [host.open("/a") for host in hosts]
        backplane.publish("a", "text")
        assert [peer.messages() for peer in peers] == [["text"], ["text"]]


class TestBursts:
    """What all this is for."""

    def test_leave_in_one_write_each_encoded_and_joined_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encoded: list[str | bytes] = []
        joined: list[int] = []
        encode, join = type(FRAMES).encode, publications.join

        def counting_encode(self: Any, data: str | bytes) -> bytes:
            encoded.append(data)
            return encode(self, data)

        def counting_join(publications: Any, *args: Any) -> Any:
            joined.append(len(publications))
            return join(publications, *args)

        rooms = Rooms()
        peers = [rooms.open("/a") for _ in range(50)]
        for peer in peers:
            writes(peer)
        monkeypatch.setattr(type(FRAMES), "encode", counting_encode)
        monkeypatch.setattr("wshost.deliveries.join", counting_join)
        burst = [f"message {number}" for number in range(16)]
        rooms.publish("a", *burst)
        left = [writes(peer) for peer in peers]
        assert [len(one) for one in left] == [1] * 50
        assert len({id(one[0]) for one in left}) == 1
        assert encoded == burst
        assert joined == [16]
        assert peers[-1].messages() == burst

    def test_to_several_topics_are_joined_once_for_each_combination(self, monkeypatch: pytest.MonkeyPatch) -> None:
        joined: list[int] = []
        join = publications.join

        def counting_join(publications: Any, *args: Any) -> Any:
            joined.append(len(publications))
            return join(publications, *args)

        rooms = Rooms()
        peers = {path: [rooms.open(path) for _ in range(5)] for path in ("/a", "/b", "/a/b", "/b/a/c", "/a/c/d")}
        monkeypatch.setattr("wshost.deliveries.join", counting_join)
        for one in "12":
            rooms.publish("a", f"a{one}")
            rooms.publish("b", f"b{one}")
        for group in peers.values():
            for peer in group:
                peer.transport.writes.clear()
        got = {path: [(peer.messages(), len(peer.transport.writes)) for peer in group] for path, group in peers.items()}
        both = ["a1", "b1", "a2", "b2"]
        assert got["/a"] == got["/a/c/d"] == [(["a1", "a2"], 1)] * 5
        assert got["/b"] == [(["b1", "b2"], 1)] * 5
        assert got["/a/b"] == got["/b/a/c"] == [(both, 1)] * 5
        assert sorted(joined) == [2, 2, 4]

    def test_of_another_turn_are_others(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a")
        for turn in ("one", "two"):
            rooms.publish("a", turn)
            assert peer.messages() == [turn]


class TestOutput:
    def test_who_is_full_misses_what_is_published(self) -> None:
        rooms = Rooms(max_output=1_000)
        slow, quick = rooms.open("/a"), rooms.open("/a")
        slow.transport.reading = False
        for _ in range(70):
            rooms.publish("a", "x" * 999)
            quick.turn()
        assert slow.connection.full
        assert len(quick.messages()) == 70
        dropped = rooms.topics.dropped
        assert dropped > 0
        assert rooms.handler.refs[0].subscribe("b") is False
        slow.transport.reading = True
        slow.transport.drain()
        assert len(slow.messages()) == 70 - dropped
        rooms.publish("a", "again")
        assert slow.messages() == ["again"]

    def test_a_turn_brings_only_so_much_of_a_topic(self) -> None:
        rooms = Rooms(max_output=1_000)
        peers = [rooms.open("/a") for _ in range(2)]
        assert rooms.publish("a", *["x" * 400] * 4) == [True, True, True, False]
        assert [len(peer.messages()) for peer in peers] == [3, 3]
        assert rooms.topics.dropped == 2

    def test_nor_of_several(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a/b")
        for _ in range(2):
            rooms.publish("a", "x" * 400)
            rooms.publish("b", "x" * 400)
        assert len(peer.messages()) == 3
        assert rooms.topics.dropped == 1

    def test_who_is_full_takes_nothing_before_its_own_words(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a")
        (ref,) = rooms.handler.refs
        rooms.publish("a", "dropped")
        peer.connection.full = True
        peer.connection.perform(peer.connection._driver.close(1000, ""))
        peer.connection.perform(peer.connection._driver._take())
        peer.connection.full = False
        assert peer.messages() == [("close", 1000, "")]
        assert rooms.topics.dropped == 1
        assert ref.subscribe("b") is True

    def test_what_is_cut_before_its_own_words_is_counted(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a/b")
        (ref,) = rooms.handler.refs
        for _ in range(2):
            rooms.publish("a", "x" * 400)
            rooms.publish("b", "x" * 400)
        ref.ping(b"p")
        assert peer.messages() == ["x" * 400] * 3 + [("ping", b"p")]
        assert rooms.topics.dropped == 1

    def test_one_that_fails_hits_nobody_else(self) -> None:
        rooms = Rooms()
        broken, sound = rooms.open("/a"), rooms.open("/a")

        def fail(data: bytes) -> None:
            raise RuntimeError("no more")

        broken.transport.write = fail  # type: ignore[method-assign]
        with logged() as texts:
            rooms.publish("a", "text")
            assert sound.messages() == ["text"]
        assert broken.gone
        assert [text for text in texts if "its output failed" in text]
        assert rooms.topics.dropped == 1


@implementer(ILogObserver)
class logged:  # noqa: N801 - as a context it reads like a function
    """The lines that failures leave in the log."""

    def __enter__(self) -> list[str]:
        self.texts: list[str] = []
        globalLogPublisher.addObserver(self)
        return self.texts

    def __call__(self, event: LogEvent) -> None:
        if "what" in event:
            self.texts.append(f"{event['id']}: {event['what']}")

    def __exit__(self, *exc: object) -> None:
        globalLogPublisher.removeObserver(self)


@implementer(IProtocolModule, IProtocolDriver)
class Plain:
    """A module, and its driver, with an encoding or none; what it is asked to send it says in lower case."""

    def __init__(self, encoding: Any = None, context: Any = None) -> None:
        self.encoding = encoding
        self.context = context

    def init(self, options: Any, context: IContext) -> Plain:
        context.share(self.encoding)
        return Plain(self.encoding, context)

    def handle_connection_in(self, data: bytes) -> Any:
        return Close(data)

    def handle_action(self, action: str, *args: Any) -> Any:
        if action == "send" and args[0] != "no":
            return args[0].lower().encode()
        return REFUSED

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


@implementer(IEncoding)
class Loud:
    """An encoding in upper case; fails on "bad"."""

    def encode(self, data: str | bytes) -> bytes:
        assert isinstance(data, str)
        if data == "Bad":
            raise ValueError(data)
        return data.upper().encode()


class TestModules:
    """Others than websocket."""

    @staticmethod
    def serve(encoding: Any) -> tuple[MemoryHost, Peer]:
        host = MemoryHost(chain=[Link("plain", Plain(encoding), None)])
        peer = host.connect()
        assert peer.connection.ref.subscribe("a")
        return host, peer

    def test_are_asked_for_each_message_unless_they_share(self) -> None:
        host, peer = self.serve(None)
        for data in ("One", "no", "Two"):
            host.host.topics.deliver("a", data)
        assert peer.take() == b"onetwo"
        assert host.host.topics.dropped == 1

    def test_may_begin_to_share_and_end(self) -> None:
        host, peer = self.serve(None)
        topics = host.host.topics
        topics.deliver("a", "One")
        peer.connection.share(Loud())
        topics.deliver("a", "Two")
        assert peer.take() == b"oneTWO"
        topics.deliver("a", "Dropped")
        peer.connection.share(None)
        topics.deliver("a", "Three")
        assert peer.take() == b"three"

    def test_what_can_not_be_encoded_is_lost_to_those_who_share_that(self) -> None:
        host, peer = self.serve(Loud())
        other, third = host.connect(), host.connect()
        third.connection.share(None)
        for one in (other, third):
            one.connection.ref.subscribe("a")
        with logged() as texts:
            for data in ("One", "Bad", "Two"):
                host.host.topics.deliver("a", data)
            assert [one.take() for one in (peer, other, third)] == [b"ONETWO", b"ONETWO", b"onebadtwo"]
        assert texts == ["c1: what was published can't be encoded"]
        assert host.host.topics.dropped == 2

    def test_what_leaves_nothing_leaves_nothing(self) -> None:
        host, peer = self.serve(Loud())
        host.host.topics.deliver("a", "Bad")
        with logged():
            assert peer.take() == b""
        assert peer.transport.writes == []

    def test_nothing_follows_the_end(self) -> None:
        host, peer = self.serve(Loud())
        host.host.topics.deliver("a", "One")
        peer.send(b"the end")
        host.host.topics.deliver("a", "Two")
        assert peer.take() == b"the end"
        assert host.host.topics.dropped == 2
        assert peer.connection.ref.subscribe("b") is False


class TestThreads:
    def test_subscribe_and_publish_in_order(self) -> None:
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
        rooms.topics.act(peer.connection, "subscribe", "a")
        assert from_thread(work) == [True] * 4
        assert peer.messages() == ["one"]
        assert not rooms.topics._topics

    def test_what_waits_is_bounded(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a")
        size = 500 - CALL
        assert from_thread(lambda: rooms.publish("a", *["x" * size] * 3)) == [True, True, False]
        assert len(peer.messages()) == 2
        assert from_thread(lambda: rooms.publish("a", "again")) == [True]
        assert peer.messages() == ["again"]


class TestHandshake:
    def test_what_is_published_before_it_is_done_is_kept(self) -> None:
        accept: Deferred[None] = Deferred()

        class Slow(Handler):
            def init(self, options: Any) -> Any:
                state = super().init(options)
                return accept.addCallback(lambda _: state)

        rooms = Rooms()
        host = MemoryHost(Slow(), backplane=rooms.backplane)
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

    def test_who_is_rejected_is_forgotten(self) -> None:
        class No(Handler):
            def init(self, options: Any) -> Any:
                super().init(options)
                raise Reject

        backplane = MemoryBackplane()
        host = MemoryHost(No(), backplane=backplane)
        peer = host.connect()
        assert peer.upgrade("/a").startswith(b"HTTP/1.1 403 ")
        backplane.publish("a", "text")
        assert peer.take() == b""
        peer.leave()
        assert not host.host.topics._topics
        assert not backplane._subscribed


class TestEnd:
    def test_nothing_is_left_of_a_connection(self) -> None:
        rooms = Rooms()
        peers = [rooms.open("/a/b") for _ in range(3)]
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

    def test_its_handler_may_publish_it(self) -> None:
        rooms = Rooms()

        class Leaving(Handler):
            def handle(self, message: Any, state: Any) -> Any:
                if message == "connection_close":
                    assert state.subscribe("b") is False
                    rooms.publish("a", "it left")
                return ("noreply", state)

        host = MemoryHost(Leaving(), backplane=rooms.backplane)
        stays, leaves = host.open("/a"), host.open("/a")
        leaves.leave()
        assert stays.messages() == ["it left"]

    def test_what_was_published_before_a_close_goes_before_it_and_nothing_after(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a")
        rooms.publish("a", "before")
        rooms.handler.refs[0].close()
        rooms.publish("a", "after")
        assert peer.messages() == ["before", ("close", 1000, "Normal close")]


class Conversation:
    """Connections, and beside each what a naive server, which delivers everything at once, would have sent."""

    def __init__(self, paths: list[str], *, compress: bool) -> None:
        self.rooms = Rooms(self.handle)
        self.scripts: deque[Any] = deque()
        self.waiting: dict[Any, Deferred[Any]] = {}
        self.peers = [self.rooms.open(path) for path in paths]
        self.refs = self.rooms.handler.refs
        self.numbers = {ref: number for number, ref in enumerate(self.refs)}
        self.expected: list[list[Any]] = [[] for _ in paths]
        self.subscribed = [set(filter(None, path.split("/"))) for path in paths]
        self.count = 0
        if compress:
            # As if it had to be asked for each message.
            self.peers[0].connection.share(None)

    def word(self) -> str:
        self.count += 1
        return f"{self.count}"

    def do(self, action: str, connection: int, topic: str) -> None:
        word = self.word()
        ref = self.refs[connection]
        if action == "publish":
            self.rooms.publish(topic, word)
            for expected, topics in zip(self.expected, self.subscribed, strict=True):
                if topic in topics:
                    expected.append(word)
        elif action == "send":
            assert ref.send(word)
            self.expected[connection].append(word)
        elif action == "ping":
            assert ref.ping(word)
            self.expected[connection].append(("ping", word.encode()))
        elif action == "subscribe":
            assert ref.subscribe(topic)
            self.subscribed[connection].add(topic)
        else:
            assert ref.unsubscribe(topic)
            self.subscribed[connection].discard(topic)

    def handle(self, message: str, ref: Any) -> Any:
        *script, last = self.scripts.popleft()
        for step in script:
            self.do(*step)
        if last == "noreply":
            return ("noreply", ref)
        if last == "wait":
            self.waiting[ref] = Deferred()
            return self.waiting[ref]
        return self.reply(ref)

    def reply(self, ref: Any) -> Any:
        words = [self.word(), self.word()]
        self.expected[self.numbers[ref]] += words
        return ("reply", words, ref)

    def answer(self, ref: Any) -> None:
        self.waiting.pop(ref).callback(self.reply(ref))

    def read(self, connection: int, scripts: list[Any]) -> None:
        """These messages come in, in one read."""
        if self.refs[connection] in self.waiting:
            return
        # Behind one that is waited for, others would be.
        scripts = [(*steps, last if number + 1 == len(scripts) or last != "wait" else "reply")
                   for number, (*steps, last) in enumerate(scripts)]  # fmt: skip
        self.scripts.extend(scripts)
        peer = self.peers[connection]
        peer.transport.receive(b"".join(peer.frames.send(Message("go")) for _ in scripts))
        assert not self.scripts


CONNECTIONS = 4
STEP = st.tuples(
    st.sampled_from(["publish", "publish", "send", "ping", "subscribe", "unsubscribe"]),
    st.integers(0, CONNECTIONS - 1),
    st.sampled_from("abc"),
)
SCRIPT = st.tuples(st.lists(STEP, max_size=4), st.sampled_from(["reply", "noreply", "wait"])).map(
    lambda script: (*script[0], script[1])
)
OPERATION = st.one_of(
    STEP.map(lambda step: ("do", *step)),
    st.tuples(st.just("read"), st.integers(0, CONNECTIONS - 1), st.lists(SCRIPT, min_size=1, max_size=3)),
    st.just(("turn",)),
    st.just(("answer",)),
)


class TestOrder:
    @given(
        st.lists(st.sampled_from(["/", "/a", "/a/b", "/c/b/a"]), min_size=CONNECTIONS, max_size=CONNECTIONS),
        st.lists(OPERATION, max_size=30),
        st.booleans(),
    )
    @settings(max_examples=150, deadline=None)
    def test_is_that_of_a_naive_server(self, paths: list[str], operations: list[Any], compress: bool) -> None:
        talk = Conversation(paths, compress=compress)
        for name, *arguments in operations:
            if name == "turn":
                talk.peers[0].turn()
            elif name == "answer":
                for ref in list(talk.waiting):
                    talk.answer(ref)
            else:
                getattr(talk, name)(*arguments)
        assert [peer.messages() for peer in talk.peers] == talk.expected
        assert talk.rooms.topics.dropped == 0
        for peer in talk.peers:
            peer.leave()
        assert talk.rooms.empty()

    def test_what_an_info_publishes_stands_between_two_answers(self) -> None:
        """The answers wait in the driver; nobody has called the connection."""
        waiting: list[Deferred[Any]] = []

        def handle(message: str, ref: Any) -> Any:
            if message == "publish":
                rooms.publish("a", "published")
                return ("reply", "second", ref)
            waiting.append(Deferred())
            return waiting[-1]

        rooms = Rooms(handle)
        peer = rooms.open("/a")
        peer.text("go")
        (ref,) = rooms.handler.refs
        ref.info("publish")
        waiting[0].callback(("reply", "first", ref))
        assert peer.messages() == ["first", "published", "second"]


class TestCompression:
    def test_messages_are_compressed_for_who_has_agreed(self) -> None:
        rooms = Rooms(websocket_options={"compress": True})
        plain = rooms.open("/a")
        packed = rooms.connect()
        head = packed.upgrade("/a", {"Sec-WebSocket-Extensions": "permessage-deflate"})
        assert b"permessage-deflate" in head
        rooms.publish("a", "x" * 100)
        assert plain.messages() == ["x" * 100]
        frame = packed.take()
        assert frame[0] == 0xC1
        assert len(frame) < 20


class Switching(Plain):
    """Begins like `Plain`, and switches as soon as anything comes in."""

    def init(self, options: Any, context: IContext) -> Switching:
        context.share(self.encoding)
        return self

    def handle_connection_in(self, data: bytes) -> Any:
        return Switch("plain")


class TestSwitch:
    def test_ends_the_sharing_and_no_subscription(self) -> None:
        host = MemoryHost(chain=[Link("switching", Switching(Loud()), None), Link("plain", Plain(), None)])
        peer = host.connect()
        peer.connection.ref.subscribe("a")
        host.host.topics.deliver("a", "One")
        assert peer.take() == b"ONE"
        peer.send(b"switch")
        host.host.topics.deliver("a", "Two")
        assert peer.take() == b"two"
