from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from wsproto.events import Message
from zope.interface import implementer

from tests.memory import MemoryHost
from tests.rooms import CONTEXT, NO_CONTEXT, Loud, Rooms, logged, matches, serve, writes
from wshost.handlers import echo
from wshost.protocols.websocket.encodings import FRAMES, DeflatedFrameEncoding


class TestBursts:
    """Many messages that are published in one turn."""

    def test_messages_of_one_turn_are_one_write_and_are_encoded_and_joined_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded: list[str | bytes] = []
        encode = type(FRAMES).encode

        def counting_encode(self: Any, data: str | bytes) -> bytes:
            encoded.append(data)
            return encode(self, data)

        rooms = Rooms()
        peers = [rooms.open("/a") for _ in range(50)]
        for peer in peers:
            writes(peer)
        monkeypatch.setattr(type(FRAMES), "encode", counting_encode)
        burst = [f"message {number}" for number in range(16)]
        rooms.publish("a", *burst)
        left = [writes(peer) for peer in peers]
        assert [len(one) for one in left] == [1] * 50
        assert len({id(one[0]) for one in left}) == 1
        assert encoded == burst
        assert peers[-1].messages() == burst

    def test_messages_to_several_topics_are_joined_once_for_each_combination(self) -> None:
        rooms = Rooms()
        peers = {path: [rooms.open(path) for _ in range(5)] for path in ("/a", "/b", "/a/b", "/b/a/c", "/a/c/d")}
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
        sent = {path: {id(peer.transport.writes[0]) for peer in group} for path, group in peers.items()}
        assert sent["/a"] == sent["/a/c/d"]
        assert sent["/a/b"] == sent["/b/a/c"]
        assert [len(pieces) for pieces in sent.values()] == [1] * 5

    def test_each_turn_delivers_its_own_messages(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a")
        for turn in ("one", "two"):
            rooms.publish("a", turn)
            assert peer.messages() == [turn]


class TestCompression:
    """RFC 7692."""

    def test_a_message_is_deflated_once_for_all_without_context_and_with_the_same_window(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded: list[str | bytes] = []
        encode = DeflatedFrameEncoding.encode

        def counting_encode(self: DeflatedFrameEncoding, data: str | bytes) -> bytes:
            encoded.append(data)
            return encode(self, data)

        rooms = Rooms(websocket_options={"compress": True})
        same = [rooms.open_deflated("/a", NO_CONTEXT) for _ in range(50)]
        others = [rooms.open_deflated("/a", f"{NO_CONTEXT}; server_max_window_bits=9") for _ in range(50)]
        for peer in same + others:
            writes(peer)
        monkeypatch.setattr(DeflatedFrameEncoding, "encode", counting_encode)
        burst: list[str | bytes] = ["message" * 100, b"message" * 100]
        rooms.publish("a", *burst)
        for group in (same, others):
            left = [writes(peer) for peer in group]
            assert [len(one) for one in left] == [1] * 50
            assert len({id(one[0]) for one in left}) == 1
            assert len(left[0][0]) < 100
            assert [peer.messages() for peer in group] == [burst] * 50
        assert encoded == burst * 2

    def test_a_message_deflated_for_many_equals_one_deflated_for_one(self) -> None:
        rooms = Rooms(websocket_options={"compress": True})
        shares, alone = [rooms.open_deflated("/a", NO_CONTEXT) for _ in range(2)]
        alone.connection.context.use_encoding(None)
        for one in (shares, alone):
            one.take()
        for _ in range(2):
            rooms.publish("a", "message" * 100, b"message" * 100, "")
        assert shares.take() == alone.take() != b""

    def test_messages_reach_peers_with_context_without_context_and_without_compression(self) -> None:
        rooms = Rooms(websocket_options={"compress": True})
        peers = [rooms.open("/a"), *(rooms.open_deflated("/a", offer) for offer in (CONTEXT, NO_CONTEXT))]
        for peer in peers:
            writes(peer)
        burst = ["message" * 100] * 3
        rooms.publish("a", *burst)
        plain, context, no_context = [len(b"".join(writes(peer))) for peer in peers]
        assert [peer.messages() for peer in peers] == [burst] * 3
        assert context < no_context < plain


class TestOutput:
    def test_a_connection_with_full_output_misses_publications(self) -> None:
        rooms = Rooms(max_output=1_000)
        slow, quick = rooms.open("/a"), rooms.open("/a")
        slow.transport.reading = False
        for _ in range(70):
            rooms.publish("a", "x" * 999)
            quick.turn()
        assert slow.connection.context.output_full
        assert len(quick.messages()) == 70
        dropped = rooms.topics.dropped
        assert dropped > 0
        assert rooms.handler.refs[0].subscribe("b") is False
        slow.transport.reading = True
        slow.transport.drain()
        assert len(slow.messages()) == 70 - dropped
        rooms.publish("a", "again")
        assert slow.messages() == ["again"]

    def test_a_turn_delivers_a_limited_amount_of_one_topic(self) -> None:
        rooms = Rooms(max_output=1_000)
        peers = [rooms.open("/a") for _ in range(2)]
        assert rooms.publish("a", *["x" * 400] * 4) == [True, True, True, False]
        assert [len(peer.messages()) for peer in peers] == [3, 3]
        assert rooms.topics.dropped == 2

    def test_a_turn_delivers_a_limited_amount_of_several_topics(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a/b")
        for _ in range(2):
            rooms.publish("a", "x" * 400)
            rooms.publish("b", "x" * 400)
        assert len(peer.messages()) == 3
        assert rooms.topics.dropped == 1

    def test_a_connection_with_full_output_gets_no_publication_before_its_close(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a")
        (ref,) = rooms.handler.refs
        peer.transport.reading = False
        while not peer.connection.context.output_full:
            rooms.publish("a", "x" * 999)
            peer.turn()
        dropped = rooms.topics.dropped
        rooms.publish("a", "one too many")
        assert ref.close(1000, "")
        peer.transport.reading = True
        peer.transport.drain()
        *before, last = peer.messages()
        assert set(before) == {"x" * 999}
        assert last == ("close", 1000, "")
        assert rooms.topics.dropped == dropped + 1

    def test_messages_dropped_before_a_connections_own_output_are_counted(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a/b")
        (ref,) = rooms.handler.refs
        for _ in range(2):
            rooms.publish("a", "x" * 400)
            rooms.publish("b", "x" * 400)
        ref.ping(b"p")
        assert peer.messages() == ["x" * 400] * 3 + [("ping", b"p")]
        assert rooms.topics.dropped == 1

    def test_a_connection_that_fails_to_write_does_not_affect_others(self) -> None:
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

    @pytest.mark.parametrize("paths", [("/a", "/a", "/b"), ("/a", "/b", "/a/b")])
    def test_publications_and_subscriptions_made_at_a_turns_end_are_the_next_turns(
        self, paths: tuple[str, ...]
    ) -> None:
        """An observer of the log makes them, while the turn ends."""
        rooms = Rooms()
        broken, sound, other = [rooms.open(path) for path in paths]

        def fail(data: bytes) -> None:
            raise RuntimeError("no more")

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("what") == "its output failed":
                rooms.handler.refs[1].subscribe("c")
                rooms.handler.refs[2].subscribe("a")
                rooms.publish("b", "somebody failed")

        broken.transport.write = fail  # type: ignore[method-assign]
        globalLogPublisher.addObserver(observe)
        try:
            rooms.publish("a", "text")
            rooms.publish("b", "more")
            sound.turn()
            sound.turn()
        finally:
            globalLogPublisher.removeObserver(observe)
        told = {"/a": ["text"], "/b": ["more", "somebody failed"]}
        assert sound.messages() == told[paths[1]]
        assert other.messages()[-1] == "somebody failed"
        rooms.publish("b", "later")
        assert other.messages() == ["later"]


class TestPatterns:
    def test_a_message_reaches_a_connection_once_however_many_of_its_topics_match(self) -> None:
        rooms = Rooms(websocket_options={"compress": True})
        peers = [rooms.open_deflated("/a.b/a.*/*.b/c", offer) for offer in (CONTEXT, NO_CONTEXT)]
        peers += [rooms.open(path) for path in ("/a.b/a.*/*.b/c", "/*.b/c", "/a.b/c")]
        burst: list[str | bytes] = ["one", b"two", "three"]
        rooms.publish("a.b", *burst)
        rooms.publish("c", "four")
        rooms.publish("a.b", "five")
        assert [peer.messages() for peer in peers] == [[*burst, "four", "five"]] * 5

    def test_a_message_to_a_topic_and_its_patterns_is_encoded_once_and_joined_once_for_each_combination(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded: list[str | bytes] = []
        encode = type(FRAMES).encode

        def counting_encode(self: Any, data: str | bytes) -> bytes:
            encoded.append(data)
            return encode(self, data)

        rooms = Rooms()
        groups = [[rooms.open(path) for _ in range(5)] for path in ("/a.b", "/a.*", "/a.b/a.*", "/a.*/a.b/c")]
        for group in groups:
            for peer in group:
                writes(peer)
        monkeypatch.setattr(type(FRAMES), "encode", counting_encode)
        rooms.publish("a.b", "one", "two")
        left = [[writes(peer) for peer in group] for group in groups]
        assert [len(one) for group in left for one in group] == [1] * 20
        assert [len({id(one[0]) for one in group}) for group in left] == [1] * 4
        assert left[2][0][0] is left[3][0][0]
        assert encoded == ["one", "two"]
        assert [peer.messages() for group in groups for peer in group] == [["one", "two"]] * 20

    def test_a_connection_without_an_encoding_is_asked_to_send_a_message_once(self) -> None:
        host, peer = serve(None)
        ref = peer.connection.ref
        assert [ref.subscribe(pattern) for pattern in ("*", ">")] == [True, True]
        for data in ("One", "no", "Two"):
            assert host.hub.topics.publish_locally("a", data)
        assert peer.take() == b"onetwo"
        assert host.hub.topics.dropped == 1

    def test_a_message_that_several_subscriptions_of_a_slow_connection_miss_is_dropped_once(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a/*")
        peer.transport.reading = False
        sent = 0
        while not peer.connection.context.output_full:
            rooms.publish("a", "x" * 999)
            peer.turn()
            sent += 1
        rooms.publish("a", "one too many")
        peer.turn()
        peer.transport.reading = True
        peer.transport.drain()
        assert rooms.topics.dropped == 1
        assert peer.messages() == ["x" * 999] * sent

    def test_a_turn_delivers_a_limited_amount_of_one_pattern(self) -> None:
        """Whoever has subscribed to the topic, too, gets the message by it."""
        rooms = Rooms(max_output=1_000)
        exact, pattern, both = rooms.open("/a.b"), rooms.open("/a.*"), rooms.open("/a.b")
        assert rooms.publish("a.c", *["x" * 400] * 3) == [True] * 3
        assert rooms.handler.refs[2].subscribe("a.*")
        assert rooms.publish("a.b", "last") == [False]
        assert rooms.topics.dropped == 1
        assert [peer.messages() for peer in (exact, pattern, both)] == [["last"], ["x" * 400] * 3, ["last"]]
        assert rooms.publish("a.b", "next") == [True]
        assert [peer.messages() for peer in (exact, pattern, both)] == [["next"]] * 3

    def test_a_message_that_all_subscriptions_of_a_connection_miss_in_one_turn_is_dropped_once(self) -> None:
        rooms = Rooms(max_output=1_000)
        peer = rooms.open("/a.b/a.*/*.b")
        assert rooms.publish("a.b", *["x" * 400] * 4) == [True, True, True, False]
        assert peer.messages() == ["x" * 400] * 3
        assert rooms.topics.dropped == 1


class TestEncodings:
    """Modules other than websocket have encodings, too."""

    def test_a_message_that_can_not_be_encoded_is_lost_to_all_with_that_encoding(self) -> None:
        host, peer = serve(Loud())
        other, third = host.connect(), host.connect()
        third.connection.context.use_encoding(None)
        for one in (other, third):
            one.connection.ref.subscribe("a")
        with logged() as texts:
            for data in ("One", "Bad", "Two"):
                host.hub.topics.publish_locally("a", data)
            assert [one.take() for one in (peer, other, third)] == [b"ONETWO", b"ONETWO", b"onebadtwo"]
        assert texts == ["c1: what was published can't be encoded"]
        assert host.hub.topics.dropped == 2

    def test_nothing_is_written_when_no_message_can_be_encoded(self) -> None:
        host, peer = serve(Loud())
        host.hub.topics.publish_locally("a", "Bad")
        with logged():
            assert peer.take() == b""
        assert peer.transport.writes == []


class Conversation:
    """Connections, and for each what a naive server would have sent: one that delivers each message at once."""

    def __init__(self, paths: list[str], *, compress: bool) -> None:
        self.rooms = Rooms(self.handle, websocket_options={"compress": True})
        self.scripts: deque[Any] = deque()
        self.waiting: dict[Any, Deferred[Any]] = {}
        if compress:
            # The first is asked for each message.
            offers = [CONTEXT] + [NO_CONTEXT] * 2
            self.peers = [self.rooms.open_deflated(*one) for one in zip(paths, offers, strict=False)]
        else:
            self.peers = []
        self.peers += [self.rooms.open(path) for path in paths[len(self.peers) :]]
        self.refs = self.rooms.handler.refs
        self.numbers = {ref: number for number, ref in enumerate(self.refs)}
        self.expected: list[list[Any]] = [[] for _ in paths]
        self.subscribed = [set(filter(None, path.split("/"))) for path in paths]
        self.count = 0

    def word(self) -> str:
        self.count += 1
        return f"{self.count}"

    def do(self, action: str, connection: int, topic: str) -> None:
        word = self.word()
        ref = self.refs[connection]
        if action == "publish":
            self.rooms.publish(topic, word)
            for expected, topics in zip(self.expected, self.subscribed, strict=True):
                if any(matches(one, topic) for one in topics):
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
        """Let one read bring as many messages as there are scripts."""
        if self.refs[connection] in self.waiting:
            return
        # Behind one that is waited for, others would be.
        scripts = [(*steps, last if number + 1 == len(scripts) or last != "wait" else "reply")
                   for number, (*steps, last) in enumerate(scripts)]  # fmt: skip
        self.scripts.extend(scripts)
        peer = self.peers[connection]
        peer.transport.receive(b"".join(peer.frames.send(Message("go")) for _ in scripts))
        if self.scripts:
            # What was awaited has come in this turn: the next message is for the next.
            peer.turn()
        assert not self.scripts


CONNECTIONS = 4
TOPICS = ["a", "b", "c", "a.b"]
STEP = st.one_of(
    st.tuples(
        st.sampled_from(["publish", "publish", "send", "ping"]),
        st.integers(0, CONNECTIONS - 1),
        st.sampled_from(TOPICS),
    ),
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe"]),
        st.integers(0, CONNECTIONS - 1),
        st.sampled_from([*TOPICS, "*", ">", "a.*"]),
    ),
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
        st.lists(
            st.sampled_from(["/", "/a", "/a/b", "/c/b/a", "/*/a", "/*/a.*/a.b"]),
            min_size=CONNECTIONS,
            max_size=CONNECTIONS,
        ),
        st.lists(OPERATION, max_size=30),
        st.booleans(),
    )
    @settings(max_examples=150, deadline=None)
    def test_messages_leave_in_the_order_of_a_naive_server(
        self, paths: list[str], operations: list[Any], compress: bool
    ) -> None:
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

    def test_a_message_that_an_info_publishes_leaves_between_two_answers(self) -> None:
        """The answers wait in the driver; nothing has called the connection."""
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

    def test_publications_leave_before_a_later_close_and_none_after_it(self) -> None:
        rooms = Rooms()
        peer = rooms.open("/a")
        rooms.publish("a", "before")
        rooms.handler.refs[0].close()
        rooms.publish("a", "after")
        assert peer.messages() == ["before", ("close", 1000, "Normal close")]


def test_a_subscriber_says_whether_messages_wait_for_it() -> None:
    host = MemoryHost(echo)
    peer = host.open()
    peer.connection.ref.subscribe("a")
    subscriber = peer.connection.context.subscriber
    assert subscriber is not None
    assert not subscriber.due
    host.hub.topics.publish_locally("a", "x")
    assert subscriber.due
    peer.turn()
    assert not subscriber.due
    assert peer.messages() == ["x"]
