from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.memory import MemoryHost, Peer
from wshost.connections.admission import MAX_REFUSED
from wshost.connections.connection import MAX_KEPT
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IEncoding, IPromptDriver, IProtocolDriver, IProtocolModule
from wshost.messages import CALL
from wshost.request import TLS, Headers, Request
from wshost.results import REFUSED, Close, Refused, Results, Stop, Switch

Receive = Callable[["Driver", bytes], Any]

REQUEST = Request("GET", "/", "/", "", "example.com", Headers())


def echo(driver: Driver, data: bytes) -> Results:
    return data


def do_as_told(driver: Driver, action: str, *args: Any) -> Any:
    """Send what is sent, `Close` on "close", and do not know the rest."""
    if action == "send":
        return args[0]
    return Close(b"bye") if action == "close" else REFUSED


def nothing(*args: Any) -> None:
    """Do nothing."""


@implementer(IProtocolModule)
class Module:
    """A module that does what it is given: on its start, on what comes in, on an action, when it has to go.

    It notes all of it.
    """

    def __init__(
        self,
        receive: Receive = echo,
        *,
        start: Callable[[Driver], object] = nothing,
        action: Callable[..., Any] = do_as_told,
        close: Callable[[Driver], object] = nothing,
    ) -> None:
        self.start = start
        self.receive = receive
        self.action = action
        self.close = close
        self.drivers: list[Driver] = []
        self.options: list[Any] = []

    def init(self, options: Any, context: IContext) -> Any:
        driver = Driver(self, context)
        self.drivers.append(driver)
        self.options.append(options)
        self.start(driver)
        return driver

    @property
    def driver(self) -> Driver:
        """The one."""
        [driver] = self.drivers
        return driver

    @property
    def received(self) -> list[bytes]:
        return [data for driver in self.drivers for data in driver.received]

    @property
    def closed(self) -> list[list[str]]:
        """With what reasons each driver was told that it is over."""
        return [driver.closed for driver in self.drivers]


@implementer(IPromptDriver)
class Driver:
    def __init__(self, module: Module, context: Any) -> None:
        self.context = context
        self.received: list[bytes] = []
        self.actions: list[tuple[Any, ...]] = []
        self.closed: list[str] = []
        self._module = module

    def handle_connection_in(self, data: bytes) -> Any:
        self.received.append(data)
        return self._module.receive(self, data)

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        self.actions.append((action, *args))
        result: Results | Refused = self._module.action(self, action, *args)
        return result

    def handle_connection_close(self, reason: str) -> None:
        self.closed.append(reason)
        self._module.close(self)


class Failures:
    """What was logged. A test that expects something takes it."""

    def __init__(self, events: Any) -> None:
        self._events = events

    def take(self) -> str:
        """Return the one."""
        [event] = self._events
        self._events.clear()
        return f"{event['what']}\n{event['text']}"


@pytest.fixture(autouse=True)
def failures() -> Iterator[Failures]:
    with capturedLogs() as events:
        yield Failures(events)
    assert not events


def serve(*modules: Module, **limits: Any) -> MemoryHost:
    """A host of a chain of these modules: a, b, c ..."""
    return MemoryHost(
        chain=[Link(name, one, name.upper()) for name, one in zip("abcde", modules, strict=False)], **limits
    )


def raises(*args: Any) -> Any:
    raise ValueError("on purpose")


def lines(on_line: Callable[[Driver, bytes, bytes], Any]) -> Receive:
    """Take one line from the bytes; what is behind it is unread."""

    def receive(driver: Driver, data: bytes) -> Any:
        line, _, rest = data.partition(b"\n")
        return on_line(driver, line, rest)

    return receive


class TestContext:
    """What a module sees of its connection."""

    def test_provides_the_interface(self) -> None:
        host = serve(Module())
        verifyObject(IContext, host.connect().connection)

    def test_the_module_gets_its_options(self) -> None:
        module = Module()
        serve(module).connect()
        assert module.options == ["A"]

    def test_says_who_is_there(self) -> None:
        module = Module()
        host = serve(module)
        host.connect("192.0.2.1", 4711)
        context = module.driver.context
        assert context.peer == "192.0.2.1:4711"
        assert context.peer_address == IPv4Address("TCP", "192.0.2.1", 4711)
        assert context.host_address == IPv4Address("TCP", "192.0.2.1", 8080)
        assert context.ref.id == context.id == "c1"
        assert context.clock is host.reactor
        assert context.request is None
        assert context.admitted
        assert context.tls is None
        assert not context.output_full

    def test_says_that_it_is_tls(self) -> None:
        module = Module()
        serve(module).connect(secure=True)
        assert module.driver.context.tls == TLS(peer_certificate=None)

    def test_says_what_follows(self) -> None:
        following: list[str | None] = []

        def note(driver: Driver) -> None:
            following.append(driver.context.next_module)

        first = Module(lambda driver, data: Switch("b", data), start=note)
        second = Module(lambda driver, data: Switch("c", data), start=note)
        serve(first, second, Module(start=note)).connect().send(b"go")
        assert following == ["b", "c", None]

    def test_is_the_same_for_all(self) -> None:
        first, second = Module(lambda driver, data: Switch("b")), Module()
        serve(first, second).connect().send(b"go")
        assert first.driver.context is second.driver.context


class TestReplies:
    @pytest.mark.parametrize(
        ("results", "sent"),
        [
            (None, []),
            (b"", []),
            (b"one", [b"one"]),
            ([b"one", b"two", b"three"], [b"onetwothree"]),
            ((b"one", b"two"), [b"onetwo"]),
            ([], []),
            ([b"one", Close(b"bye")], [b"onebye"]),
            ([b"one", Close(b"bye"), b"never"], [b"onebye"]),
            ([b"one", Close(), Stop("never")], [b"one"]),
            ([b"one", Close(), Switch("a")], [b"one"]),
            ([b"one", Stop("enough"), b"never"], []),
        ],
    )
    def test_what_a_module_returns_is_done(self, results: Any, sent: list[bytes]) -> None:
        module = Module(lambda driver, data: results)
        peer = serve(module).connect()
        peer.send(b"x")
        assert peer.transport.writes == sent

    def test_what_a_module_does_meanwhile_comes_before(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.perform(b"at once ")
            return b"and then"

        peer = serve(Module(receive)).connect()
        peer.send(b"x")
        assert peer.transport.writes == [b"at once and then"]

    def test_nothing_may_be_done(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        module.driver.context.perform(None)
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []
        assert peer.transport.writes == []

    @pytest.mark.parametrize("results", ["text", 7, [b"one", 7], [b"one", None], object(), {b"one"}, bytearray(b"one")])
    @pytest.mark.parametrize("by", ["receive", "perform", "action"])
    def test_nonsense_ends_the_connection(self, results: Any, by: str, failures: Failures) -> None:
        module = Module(lambda driver, data: results, action=lambda *args: results)
        peer = serve(module).connect()
        if by == "receive":
            peer.send(b"x")
        elif by == "perform":
            module.driver.context.perform(results)
        else:
            assert peer.connection.ref.send("x") is False
        peer.turn()
        assert peer.transport.writes == []
        assert peer.transport.aborted
        what, _, text = failures.take().partition("\n")
        assert what.startswith("the module a ")
        assert text.endswith("not bytes, Switch, Close, Stop or a list of them")
        assert module.closed == [[what]]


@implementer(IEncoding)
class Quoted:
    """An encoding."""

    def encode(self, data: str | bytes) -> bytes:
        return b"<%s>" % (data if isinstance(data, bytes) else data.encode())


class TestTopics:
    def test_published_messages_are_encoded_as_the_module_wants(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        peer.connection.ref.subscribe("a")
        peer.connection.use_encoding(Quoted())
        host.hub.topics.publish_locally("a", b"data")
        assert peer.take() == b"<data>"
        assert module.driver.actions == []

    def test_without_an_encoding_the_module_is_asked_to_send_each_message(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        peer.connection.ref.subscribe("a")
        host.hub.topics.publish_locally("a", b"data")
        assert peer.take() == b"data"
        assert module.driver.actions == [("send", b"data")]

    def test_what_was_published_before_a_write_leaves_before_it(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        peer.connection.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        module.driver.context.write(b"one")
        host.hub.topics.publish_locally("a", b"two")
        module.driver.context.write(b"three")
        host.hub.topics.publish_locally("a", b"four")
        peer.turn()
        assert peer.transport.writes == [b"one<two>three<four>"]

    @pytest.mark.parametrize("encoding", [None, Quoted()])
    def test_what_was_published_before_the_encoding_changes_leaves_as_it_was(self, encoding: Any) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        peer.connection.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        host.hub.topics.publish_locally("a", b"published")
        peer.connection.use_encoding(encoding)
        assert peer.take() == b"<published>"

    def test_what_was_published_before_an_end_leaves_before_it(self) -> None:
        host = serve(Module())
        peer = host.connect()
        peer.connection.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        host.hub.topics.publish_locally("a", b"published")
        peer.connection.perform(Close(b"bye"))
        assert peer.take() == b"<published>bye"

    def test_the_next_module_is_asked_until_it_has_an_encoding_of_its_own(self) -> None:
        second = Module()
        host = serve(Module(lambda driver, data: Switch("b")), second)
        peer = host.connect()
        peer.connection.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        peer.send(b"go on")
        host.hub.topics.publish_locally("a", b"data")
        assert peer.take() == b"data"
        assert second.driver.actions == [("send", b"data")]

    def test_cost_a_connection_that_has_none_nothing(self) -> None:
        """There are ten thousand: none has a dict."""
        peer = MemoryHost(chain=[Link("one", Module(), None)]).connect()
        assert not hasattr(peer.connection, "__dict__")

    def test_are_no_concern_of_modules(self) -> None:
        module = Module()
        host = MemoryHost(chain=[Link("one", module, None)])
        peer = host.connect()
        accepted: list[bool] = []
        in_threads(lambda: accepted.append(peer.connection.ref.subscribe("a")))
        in_threads(lambda: accepted.append(peer.connection.ref.send(b"x")))
        peer.turn()
        assert host.hub.topics.names == ["a"]
        in_threads(lambda: accepted.append(peer.connection.ref.unsubscribe("a")))
        peer.turn()
        assert host.hub.topics.names == []
        assert accepted == [True] * 3
        assert module.driver.actions == [("send", b"x")]


class Buffered(Driver):
    """A driver that has what comes read into a buffer."""

    def handle_buffer_in(self, size: int) -> Results:
        self.received.append(bytes((size,)))
        if size == 4:
            raise ZeroDivisionError
        return Switch("b", b"unread") if size == 5 else bytes(size)


class BufferedModule(Module):
    def init(self, options: Any, context: IContext) -> Any:
        self.drivers.append(Buffered(self, context))
        return self.driver


class TestReceivingIntoABuffer:
    def connect(self, buffered: bool = True, *modules: Module) -> tuple[Module, Peer]:
        module = BufferedModule()
        return module, serve(module, *modules).connect(buffered=buffered)

    def test_what_comes_is_there(self) -> None:
        module, peer = self.connect()
        room = bytearray(10)
        assert module.driver.context.receive_into(memoryview(room))
        peer.send(b"abc")
        peer.send(b"de")
        assert room == b"abcde" + bytes(5)
        assert module.received == [b"\x03", b"\x02"]
        # What is returned leaves in the same call.
        assert peer.transport.writes == [bytes(3), bytes(2)]

    def test_until_it_is_full(self) -> None:
        module, peer = self.connect()
        room = bytearray(3)
        module.driver.context.receive_into(memoryview(room))
        peer.send(b"abcdef")
        assert room == b"abc"
        assert module.received == [b"\x03", b"def"]

    def test_until_there_is_none(self) -> None:
        module, peer = self.connect()
        module.driver.context.receive_into(memoryview(bytearray(10)))
        assert module.driver.context.receive_into(None)
        peer.send(b"abc")
        assert module.received == [b"abc"]

    def test_not_where_the_transport_can_not(self) -> None:
        module, peer = self.connect(buffered=False)
        assert not module.driver.context.receive_into(memoryview(bytearray(10)))
        peer.send(b"abc")
        assert module.received == [b"abc"]

    def test_not_where_the_transport_does_not_know_of_that(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, _peer = self.connect()
        monkeypatch.delattr("tests.memory.MemoryTransport.receive_into")
        assert not module.driver.context.receive_into(memoryview(bytearray(10)))

    def test_until_the_module_leaves(self) -> None:
        following = Module()
        module, peer = self.connect(True, following)
        room = bytearray(100)
        module.driver.context.receive_into(memoryview(room))
        peer.send(b"abcde")
        peer.send(b"next")
        assert module.received == [b"\x05"]
        assert following.received == [b"unread", b"next"]
        assert room == b"abcde" + bytes(95)

    def test_a_failure_ends_the_connection(self, failures: Failures) -> None:
        module, peer = self.connect()
        module.driver.context.receive_into(memoryview(bytearray(10)))
        peer.send(b"abcd")
        assert peer.gone
        assert "failed on what the peer sent" in failures.take()

    def test_a_connection_that_closes_looks_at_nothing(self) -> None:
        module, peer = self.connect()
        module.driver.context.receive_into(memoryview(bytearray(10)))
        module.driver.context.perform(Close())
        peer.send(b"abc")
        assert module.received == []


class TestCork:
    """One write per connection and turn."""

    def test_of_one_read(self) -> None:
        """N replies, however they come about."""

        def receive(driver: Driver, data: bytes) -> Results:
            for _ in range(3):
                driver.context.perform(b"p")
                driver.context.ref.send(b"s")
            return [b"r"] * 10

        peer = serve(Module(receive)).connect()
        peer.send(b"x")
        assert peer.transport.writes == [b"pspsps" + b"r" * 10]

    def test_it_leaves_before_the_read_is_over(self) -> None:
        peer = serve(Module()).connect()
        peer.connection.dataReceived(b"x")
        assert peer.transport.writes == [b"x"]

    def test_of_refs(self) -> None:
        host = serve(Module())
        peers = [host.connect() for _ in range(3)]
        for n in range(4):
            for peer in peers:
                assert peer.connection.ref.send(b"%d" % n)
        assert [peer.transport.writes for peer in peers] == [[], [], []]
        host.reactor.advance(0)
        assert [peer.transport.writes for peer in peers] == [[b"0123"]] * 3

    def test_of_what_one_connection_sends_to_others(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            for peer in peers:
                peer.connection.ref.send(data)
                peer.connection.ref.send(data)
            return None

        host = serve(Module(receive))
        peers = [host.connect() for _ in range(3)]
        peers[0].connection.dataReceived(b"x")
        assert [peer.transport.writes for peer in peers] == [[b"xx"], [], []]
        host.reactor.advance(0)
        assert [peer.transport.writes for peer in peers] == [[b"xx"]] * 3

    def test_of_timers(self) -> None:
        module = Module()
        peer = serve(module).connect()
        context = module.driver.context
        context.call_later(1, lambda: [context.perform(b"one "), context.perform([b"two ", b"three"])])
        peer.turn(1)
        assert peer.transport.writes == [b"one two three"]

    def test_of_the_start(self) -> None:
        module = Module(start=lambda driver: [driver.context.perform(b"hello "), driver.context.perform(b"there")])
        assert serve(module).connect().transport.writes == [b"hello there"]


class TestSwitch:
    @pytest.mark.parametrize("size", range(1, 13))
    def test_no_byte_is_lost(self, size: int) -> None:
        """A module first, in the middle and last, in chunks of any size."""

        def until_line(follower: str) -> Receive:
            buffer = bytearray()

            def receive(driver: Driver, data: bytes) -> Results:
                buffer.extend(data)
                line, end, rest = buffer.partition(b"\n")
                if not end:
                    return None
                buffer.clear()
                return [bytes(line) + b";", Switch(follower, bytes(rest))]

            return receive

        peer = serve(Module(until_line("b")), Module(until_line("c")), Module()).connect()
        data = b"one\ntwo\nthree\nfour"
        for start in range(0, len(data), size):
            peer.send(data[start : start + size])
        assert peer.take() == b"one;two;three\nfour"

    def test_the_one_before_leaves_and_the_next_gets_what_it_hands_over(self) -> None:
        first, second = Module(lambda driver, data: Switch("b", b"rest", REQUEST)), Module()
        serve(first, second).connect().send(b"all")
        assert first.closed == [["switched to b"]]
        assert second.received == [b"rest"]
        assert second.options == ["B"]
        assert second.driver.context.request is REQUEST

    def test_with_nothing_unread_the_next_is_not_called(self) -> None:
        second = Module()
        serve(Module(lambda driver, data: Switch("b")), second).connect().send(b"all")
        assert second.received == []

    def test_what_comes_later_is_the_nexts(self) -> None:
        first, second = Module(lambda driver, data: Switch("b")), Module()
        peer = serve(first, second).connect()
        peer.send(b"one")
        peer.send(b"two")
        assert (first.received, second.received) == ([b"one"], [b"two"])

    def test_nothing_is_done_after_it(self) -> None:
        first = Module(lambda driver, data: [b"one", Switch("b", b"two"), b"never", Close(), Stop("never")])
        peer = serve(first, Module()).connect()
        peer.send(b"x")
        assert peer.transport.writes == [b"onetwo"]
        assert not peer.transport.half_closed

    def test_back_and_to_itself(self) -> None:
        first = Module(lines(lambda driver, line, rest: [b"a", Switch(line.decode(), rest)]))
        second = Module(lines(lambda driver, line, rest: [b"b", Switch(line.decode(), rest)]))
        peer = serve(first, second).connect()
        peer.send(b"b\nb\na\na\nb")
        assert peer.take() == b"abbaa"
        assert [len(reasons) for reasons in first.closed] == [1, 1, 1]
        assert [len(reasons) for reasons in second.closed] == [1, 1, 0]

    def test_as_often_as_there_are_bytes(self) -> None:
        """A peer must not choose how deep we call."""

        def other(name: str) -> Receive:
            return lambda driver, data: [data[:1], Switch(name, data[1:])]

        peer = serve(Module(other("b")), Module(other("a"))).connect()
        data = bytes(range(256)) * 20
        peer.send(data)
        assert peer.transport.writes == [data]

    def test_as_often_from_within(self) -> None:
        def other(name: str) -> Receive:
            return lambda driver, data: driver.context.perform([data[:1], Switch(name, data[1:])])

        peer = serve(Module(other("b")), Module(other("a"))).connect()
        data = bytes(range(256)) * 20
        peer.send(data)
        assert peer.transport.writes == [data]

    def test_as_often_from_within_a_timer(self) -> None:
        def other(name: str) -> Receive:
            return lambda driver, data: driver.context.perform([data[:1], Switch(name, data[1:])])

        first = Module(other("b"))
        peer = serve(first, Module(other("a"))).connect()
        data = bytes(range(256)) * 20
        context = first.driver.context
        context.call_later(1, lambda: context.perform(Switch("b", data)))
        peer.turn(1)
        assert peer.transport.writes == [data]
        context.perform(b"more")
        assert peer.take() == data + b"more"

    def test_in_circles(self, failures: Failures) -> None:
        """It must not stop the server."""
        peer = serve(
            Module(lambda driver, data: Switch("b", data)), Module(lambda driver, data: Switch("a", data))
        ).connect()
        peer.send(b"x")
        assert peer.gone
        assert "the chain's modules switch in circles" in failures.take()

    def test_all_the_way(self) -> None:
        """To hand everything on is no circle."""
        modules = [Module(lambda driver, data, name=name: Switch(name, data)) for name in "bcde"]  # type: ignore[misc]
        peer = serve(*modules, Module()).connect()
        peer.send(b"x")
        assert peer.take() == b"x"

    def test_what_a_module_returns_that_has_switched_meanwhile_is_not_done(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.perform(Switch("b", b"unread"))
            return b"never"

        second = Module()
        peer = serve(Module(receive), second).connect()
        peer.send(b"x")
        assert peer.take() == b"unread"

    def test_by_a_timer(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        context = first.driver.context
        context.call_later(1, lambda: context.perform([b"now ", Switch("b", b"unread")]))
        peer.turn(1)
        assert peer.transport.writes == [b"now unread"]
        assert first.closed == [["switched to b"]]

    def test_by_an_action(self) -> None:
        first, second = Module(action=lambda driver, action, *args: Switch("b", *args)), Module()
        peer = serve(first, second).connect()
        assert peer.connection.ref.send(b"unread")
        assert peer.take() == b"unread"

    def test_by_an_action_and_from_within(self) -> None:
        def action(driver: Driver, action: str, *args: Any) -> Results:
            driver.context.perform(Switch("b", b"unread"))
            return b"never"

        peer = serve(Module(action=action), Module()).connect()
        assert peer.connection.ref.send(b"x")
        assert peer.take() == b"unread"

    def test_at_the_start(self) -> None:
        first = Module(start=lambda driver: driver.context.perform([b"hello ", Switch("b", b"unread")]))
        second = Module()
        peer = serve(first, second).connect()
        assert peer.take() == b"hello unread"
        assert first.closed == [["switched to b"]]
        peer.send(b"more")
        assert second.received == [b"unread", b"more"]
        peer.leave()
        assert [len(first.closed[0]), len(second.closed[0])] == [1, 1]

    def test_at_the_start_behind_another(self) -> None:
        """What the one before left comes behind what the one in between made up."""
        second = Module(start=lambda driver: driver.context.perform(Switch("c", b"own ")))
        third = Module()
        peer = serve(Module(lambda driver, data: Switch("b", data)), second, third).connect()
        peer.send(b"unread")
        assert b"".join(third.received) == b"own unread"
        assert second.closed == [["switched to c"]]

    def test_with_the_last_word(self) -> None:
        """Too late, but nothing may break by it: each driver has its one end."""
        first = Module(
            lambda driver, data: Switch("b", b"unread"), close=lambda driver: driver.context.perform(Switch("c"))
        )
        second, third = Module(), Module()
        peer = serve(first, second, third).connect()
        peer.send(b"x")
        peer.leave()
        assert [len(reasons) for one in (first, second, third) for reasons in one.closed] == [1, 1, 1]

    def test_to_an_unknown_name(self, failures: Failures) -> None:
        module = Module(lambda driver, data: [b"lost", Switch("z")])
        peer = serve(module, Module()).connect()
        peer.send(b"x")
        assert peer.transport.aborted
        assert peer.transport.writes == []
        assert "the chain has no module 'z' to switch to; it has a, b" in failures.take()
        assert len(module.closed[0]) == 1

    def test_reading_that_the_one_before_has_paused_goes_on(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.pause_reading()
            return Switch("b")

        peer = serve(Module(receive), Module()).connect()
        peer.send(b"x")
        assert peer.transport.producing

    def test_reading_may_pause_at_the_start(self) -> None:
        second = Module(start=lambda driver: driver.context.pause_reading())
        peer = serve(Module(lambda driver, data: Switch("b")), second).connect()
        peer.send(b"x")
        assert not peer.transport.producing
        second.driver.context.resume_reading()
        assert peer.transport.producing

    def test_timers_die_with_their_module(self) -> None:
        first = Module(lambda driver, data: Switch("b"), start=lambda driver: driver.context.call_later(1, raises))
        host = serve(first, Module())
        peer = host.connect()
        peer.send(b"x")
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []


def test_it_is_blocked_while_output_waits_for_the_peer() -> None:
    module = Module(lambda driver, data: bytes(70_000))
    peer = serve(module).connect()
    context = peer.connection
    peer.transport.reading = False
    assert not context.blocked
    peer.send(b"x")
    assert context.blocked
    peer.transport.drain()
    assert not context.blocked


class TestCrash:
    """It is logged, ends this connection, and touches no other."""

    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (lambda: Module(start=raises), "failed to start"),
            (lambda: Module(raises), "failed on what the peer sent"),
            (lambda: Module(action=raises), "failed on the action send"),
            (lambda: Module(start=lambda driver: driver.context.call_later(0, raises)), "failed in a timer"),
        ],
    )
    @pytest.mark.parametrize("secure", [False, True])
    def test_of_a_module(self, make: Callable[[], Module], what: str, secure: bool, failures: Failures) -> None:
        module = make()
        host = serve(Module(lambda driver, data: Switch("b")), module)
        bystander, peer = host.connect(), host.connect(secure=secure)
        peer.send(b"on to b")
        peer.connection.ref.send(b"x")
        peer.send(b"x")
        text = failures.take()
        assert text.startswith(f"the module b {what}\n")
        assert "ValueError: on purpose" in text
        assert peer.transport.aborted
        assert peer.gone
        assert peer.transport.writes == []
        assert [reasons for reasons in module.closed if reasons] == (
            [] if "start" in what else [[f"the module b {what}"]]
        )
        assert not bystander.gone
        assert [one.id for one in host.hub.shared.registry.all()] == ["c1"]

    def test_at_the_end(self, failures: Failures) -> None:
        module = Module(close=raises)
        host = serve(module)
        host.connect().leave()
        assert "a module failed to close\n" in failures.take()
        assert host.idle()

    def test_in_a_switch(self, failures: Failures) -> None:
        second = Module()
        peer = serve(Module(lambda driver, data: Switch("b", data), close=raises), second).connect()
        peer.send(b"x")
        assert "a module failed to close\n" in failures.take()
        assert second.received == [b"x"]

    def test_what_was_unread_has_no_reader_any_more(self, failures: Failures) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.perform(Switch("b", b"unread"))
            raise ValueError("on purpose")

        second = Module()
        peer = serve(Module(receive), second).connect()
        peer.send(b"x")
        failures.take()
        assert peer.gone
        assert second.drivers == []

    def test_a_module_without_driver(self, failures: Failures) -> None:
        class Forgetful(Module):
            def init(self, options: Any, context: IContext) -> Any:
                super().init(options, context)

        peer = serve(Forgetful()).connect()
        assert peer.gone
        assert "TypeError: init of the module a returned no driver" in failures.take()

    def test_a_module_that_fails_to_start_leaves_no_timer(self, failures: Failures) -> None:
        def start(driver: Driver) -> None:
            driver.context.call_later(0, raises)
            raise ValueError("on purpose")

        host = serve(Module(start=start))
        host.connect()
        failures.take()
        assert host.idle()

    def test_a_module_that_fails_when_it_has_asked_to_switch(self, failures: Failures) -> None:
        def start(driver: Driver) -> None:
            driver.context.perform(Switch("b"))
            raise ValueError("on purpose")

        second = Module()
        host = serve(Module(start=start), second)
        host.connect()
        failures.take()
        assert second.drivers == []
        assert host.idle()

    def test_a_module_may_have_its_own_failures_logged(self, failures: Failures) -> None:
        module = Module()
        peer = serve(module).connect()
        try:
            raises()
        except ValueError:
            module.driver.context.log_failure("it went wrong")
        assert failures.take().startswith("it went wrong\n")
        assert not peer.gone


class TestTimers:
    def test_call_also_when_the_module_has_left_if_they_are_asked_to(self) -> None:
        calls: list[int] = []
        peer = serve(Module(start=lambda driver: driver.context.call_regardless(1, lambda: calls.append(1)))).connect()
        peer.leave()
        peer.turn(1)
        assert calls == [1]

    def test_call_once(self) -> None:
        calls: list[int] = []
        module = Module(start=lambda driver: driver.context.call_later(1, lambda: calls.append(1)))
        peer = serve(module).connect()
        peer.turn(1)
        peer.turn(1)
        assert calls == [1]

    @pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
    def test_are_for_a_finite_time(self, seconds: float) -> None:
        """What is no number, at the head of all timers of a host, would keep the others from firing."""
        calls: list[int] = []
        module = Module()
        peer = serve(module).connect()
        with pytest.raises(ValueError, match=r"is no number of seconds$"):
            module.driver.context.call_later(seconds, lambda: calls.append(0))
        module.driver.context.call_later(1, lambda: calls.append(1))
        peer.turn(1)
        assert calls == [1]

    def test_end_with_the_connection(self) -> None:
        module = Module(start=lambda driver: driver.context.call_later(1, raises))
        host = serve(module)
        host.connect().leave()
        assert host.idle()

    @pytest.mark.parametrize("when", ["at the end", "after it"])
    def test_do_not_start_any_more(self, when: str) -> None:
        def start(driver: Driver) -> None:
            timer = driver.context.call_later(0, raises)
            timer.cancel()
            driver.context.call_later(0, raises)

        module = Module(close=start if when == "at the end" else nothing)
        host = serve(module)
        host.connect().leave()
        if when == "after it":
            start(module.driver)
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []


def close_and(peer: Peer, then: Callable[[Peer], None]) -> None:
    """The module closes, then the peer does something."""
    peer.connection.perform(Close(b"bye"))
    peer.turn()
    then(peer)


def stay(peer: Peer) -> None:
    peer.turn(5)


def close_by_ref(peer: Peer) -> None:
    peer.connection.ref.close()
    stay(peer)


def stop_host(peer: Peer) -> None:
    peer.hub.stop()
    stay(peer)


def crash(peer: Peer) -> None:
    nonsense: Any = 7
    peer.connection.perform(nonsense)


ENDINGS: dict[str, Callable[[Peer], None]] = {
    "the peer leaves": lambda peer: peer.leave(),
    "the peer resets": lambda peer: peer.leave(ConnectionLost()),
    "the peer half-closes": lambda peer: peer.half_close(),
    "the module closes, the peer ends": lambda peer: close_and(peer, Peer.half_close),
    "the module closes, the peer leaves": lambda peer: close_and(peer, Peer.leave),
    "the module closes, the peer stays": lambda peer: close_and(peer, stay),
    "the module stops": lambda peer: peer.connection.perform(Stop("enough")),
    "the module crashes": crash,
    "a ref closes": close_by_ref,
    "the host stops": stop_host,
    "it is aborted": lambda peer: peer.connection.abort("enough"),
}


class TestEveryEnding:
    """However it ends, each driver is told so once, and nothing is left."""

    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("depth", [0, 1, 2])
    @pytest.mark.parametrize("secure", [False, True])
    def test_each_driver_is_told_once(self, ending: str, depth: int, secure: bool, failures: Failures) -> None:
        def start(driver: Driver) -> None:
            driver.context.call_later(3600, raises)

        first = Module(lambda driver, data: Switch("b"), start=start)
        second = Module(lambda driver, data: Switch("c"), start=start)
        third = Module(start=start)
        host = serve(first, second, third, max_connections_per_address=1)
        peer = host.connect(secure=secure)
        for _ in range(depth):
            peer.send(b"on")
        ENDINGS[ending](peer)
        peer.turn()
        if "crashes" in ending:
            failures.take()
        assert peer.gone
        assert [len(reasons) for one in (first, second, third) for reasons in one.closed] == [1] * (depth + 1)
        assert host.idle()
        assert host.hub.shared.admission.empty

    @pytest.mark.parametrize(
        ("ending", "reason"),
        [
            ("the peer leaves", "Connection was closed cleanly."),
            ("the peer half-closes", "Connection was closed cleanly."),
            ("the peer resets", "Connection to the other side was lost in a non-clean fashion."),
            ("the module closes, the peer stays", "the peer did not let go in time"),
            ("the module stops", "enough"),
        ],
    )
    def test_the_module_is_told_why(self, ending: str, reason: str) -> None:
        module = Module()
        ENDINGS[ending](peer := serve(module).connect())
        peer.turn()
        assert module.closed == [[reason]]

    def test_what_comes_in_while_closing_is_discarded(self) -> None:
        module = Module()
        peer = serve(module).connect()
        module.driver.context.pause_reading()
        peer.connection.perform(Close(b"bye"))
        peer.send(b"more")
        peer.send(b"and more")
        assert module.received == []
        assert peer.take() == b"bye"

    def test_nothing_is_done_while_closing(self) -> None:
        module = Module()
        peer = serve(module).connect()
        peer.connection.perform(Close(b"bye"))
        for results in (b"more", Switch("a"), Close(b"again"), Stop("no")):
            peer.connection.perform(results)
        assert peer.take() == b"bye"
        assert peer.transport.half_closed
        assert not peer.transport.aborted
        assert len(module.drivers) == 1

    @pytest.mark.parametrize("results", [b"more", Switch("a"), Close(b"again"), [b"more", Close()]])
    @pytest.mark.parametrize("by", ["receive", "action"])
    def test_nor_is_what_the_module_returns_that_has_closed_meanwhile(self, results: Results, by: str) -> None:
        def close(driver: Driver, *args: Any) -> Results:
            driver.context.perform(Close(b"bye"))
            return results

        module = Module(close, action=close)
        host = serve(module)
        peer = host.connect()
        if by == "receive":
            peer.send(b"x")
        else:
            peer.connection.ref.send(b"x")
        assert peer.take() == b"bye"
        peer.half_close()
        assert host.idle()

    def test_nothing_is_asked_of_the_transport_after_it(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        context = module.driver.context
        context.perform(b"corked")
        peer.transport.lose(ConnectionDone())
        peer.connection.stream.transport = None
        for results in (b"more", Switch("a"), Close(b"again"), Stop("no")):
            context.perform(results)
        context.pause_reading()
        context.resume_reading()
        context.call_later(0, raises)
        assert not peer.connection.ask(0, "send", b"x")
        peer.connection.shut_down()
        peer.turn(100)
        assert host.idle()


class TestHalfClose:
    def test_what_was_asked_is_answered(self) -> None:
        peer = serve(Module()).connect()
        peer.connection.dataReceived(b"question")
        peer.connection.readConnectionLost()
        assert peer.take() == b"question"
        assert peer.gone


class TestFull:
    """Backpressure: `max_output`."""

    def full(self, **limits: Any) -> tuple[MemoryHost, Peer, Module]:
        module = Module()
        host = serve(module, max_output=100_000, **limits)
        peer = host.connect()
        peer.transport.reading = False
        peer.send(bytes(70_000))
        assert not module.driver.context.output_full
        peer.send(bytes(70_000))
        assert module.driver.context.output_full
        return host, peer, module

    def test_stops_reading(self) -> None:
        _, peer, module = self.full()
        peer.send(b"unheard")
        assert b"unheard" not in module.received
        peer.transport.drain()
        peer.transport.drain()
        peer.turn()
        assert b"unheard" in module.received

    @pytest.mark.parametrize("ask", [lambda ref: ref.send(b"x"), lambda ref: ref.ping(b"x"), lambda ref: ref.info("x")])
    def test_refuses_what_brings_more(self, ask: Callable[[Any], bool]) -> None:
        _, peer, module = self.full()
        assert not ask(peer.connection.ref)
        assert module.driver.actions == []

    def test_does_not_refuse_to_close(self) -> None:
        _, peer, _ = self.full()
        assert peer.connection.ref.close()
        peer.transport.drain()
        peer.transport.drain()
        assert peer.transport.sent == bytes(140_000) + b"bye"

    def test_tells_the_module_when_all_has_left(self) -> None:
        _, peer, module = self.full()
        peer.transport.drain()
        assert module.driver.actions == []
        peer.transport.drain()
        assert module.driver.actions == [("drained",)]
        assert not module.driver.context.output_full
        assert peer.connection.ref.send(b"x")

    def test_what_the_module_then_does_leaves(self) -> None:
        _, peer, module = self.full()
        module.action = lambda driver, action: action.encode()
        peer.transport.drain()
        peer.transport.drain()
        peer.turn()
        assert peer.transport.writes[-1] == b"drained"

    def test_a_module_may_find_out_itself(self) -> None:
        def receive(driver: Driver, data: bytes) -> None:
            while not driver.context.output_full:
                driver.context.perform(bytes(30_000))

        peer = serve(Module(receive), max_output=100_000).connect()
        peer.send(b"x")
        assert peer.transport.writes == [bytes(120_000)]

    def test_a_peer_that_does_not_read_is_dropped(self) -> None:
        host, peer, module = self.full()
        for _ in range(11):
            peer.turn(1)
        assert peer.gone
        assert module.closed == [["the peer did not read what it was sent"]]
        assert host.idle()


#: They stay: on CPython 3.11, two that end at once can hang a main thread that is traced for coverage, as greenlet asks
#: it to clean up after each (a pending call, which finds another waiting).
THREADS = ThreadPoolExecutor(8)


def in_threads(call: Callable[[], object], number: int = 1) -> None:
    """Let threads do it, to the end."""
    for done in [THREADS.submit(call) for _ in range(number)]:
        done.result()


class TestActions:
    """What refs ask of a connection."""

    def test_the_module_accepts_or_refuses(self) -> None:
        module = Module()
        connection = serve(module).connect().connection
        assert connection.ask(0, "send", b"x")
        assert not connection.ask(0, "ping", b"x")
        assert module.driver.actions == [("send", b"x"), ("ping", b"x")]

    def test_a_module_may_do_nothing(self) -> None:
        module = Module(action=nothing)
        host = serve(module)
        assert host.connect().connection.ask(0, "info", 7)
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []

    def test_a_crash_is_no_acceptance(self, failures: Failures) -> None:
        connection = serve(Module(action=raises)).connect().connection
        assert not connection.ask(0, "info", 7)
        failures.take()

    def test_while_a_module_starts_they_wait_for_it(self) -> None:
        """A handler's init may well send a first message."""

        def start(driver: Driver) -> None:
            assert driver.context.ref.send(b"a ")
            assert driver.context.ref.send(b"b ")
            driver.context.perform(b"first ")

        module = Module(start=start)
        assert serve(module).connect().transport.writes == [b"first a b "]
        assert module.driver.actions == [("send", b"a "), ("send", b"b ")]

    def test_and_for_what_the_module_before_has_left_unread_they_do_not(self) -> None:
        second = Module(start=lambda driver: driver.context.ref.send(b"early "))
        peer = serve(Module(lambda driver, data: Switch("b", b"unread")), second).connect()
        peer.send(b"x")
        assert peer.take() == b"early unread"

    def test_for_one_that_does_not_start_they_do_not_wait(self, failures: Failures) -> None:
        def start(driver: Driver) -> None:
            assert driver.context.ref.send(b"x")
            raise ValueError("on purpose")

        module = Module(start=start)
        assert serve(module).connect().gone
        assert module.driver.actions == []
        failures.take()

    def test_for_one_that_closes_at_once_neither(self) -> None:
        def start(driver: Driver) -> None:
            assert driver.context.ref.send(b"x")
            driver.context.perform(Close(b"bye"))
            assert not driver.context.ref.send(b"x")

        module = Module(start=start)
        assert serve(module).connect().take() == b"bye"
        assert module.driver.actions == []

    def test_at_the_end_there_is_nobody_to_ask(self) -> None:
        accepted: list[bool] = []
        module = Module(close=lambda driver: accepted.append(driver.context.ref.send(b"x")))
        serve(module).connect().leave()
        assert accepted == [False]


class TestActionsOfOtherThreads:
    def test_are_done_in_the_reactors(self) -> None:
        module = Module()
        peer = serve(module).connect()
        accepted: list[bool] = []
        in_threads(lambda: accepted.append(peer.connection.ref.send(b"x")))
        assert accepted == [True]
        assert module.driver.actions == []
        peer.turn()
        assert module.driver.actions == [("send", b"x")]
        assert peer.transport.writes == [b"x"]

    def test_in_order_and_in_one_write(self) -> None:
        peer = serve(Module()).connect()
        in_threads(lambda: [peer.connection.ref.send(b"%d " % n) for n in range(5)])
        peer.turn()
        assert peer.transport.writes == [b"0 1 2 3 4 "]

    def test_what_waits_is_bounded(self) -> None:
        peer = serve(Module(), max_output=10_000).connect()
        accepted: list[bool] = []
        in_threads(lambda: accepted.extend(peer.connection.ref.send(bytes(1_000)) for _ in range(20)))
        assert accepted == [True] * 8 + [False] * 12
        peer.turn()
        assert sum(map(len, peer.transport.writes)) == 8_000
        assert peer.hub.shared.registry.thread.idle

    def test_it_is_full_to_the_byte(self) -> None:
        peer = serve(Module(), max_output=10_000).connect()
        accepted: list[bool] = []
        sizes = (10_000 - CALL - 1, 0, 0)
        in_threads(lambda: accepted.extend(peer.connection.ref.send(bytes(size)) for size in sizes))
        assert accepted == [True, True, False]
        peer.turn()
        in_threads(lambda: accepted.extend(peer.connection.ref.send(bytes(10_000 - CALL)) for _ in range(2)))
        assert accepted[3:] == [True, False]

    def test_a_message_of_any_size_goes_when_nothing_waits(self) -> None:
        """As in the reactor's thread."""
        peer = serve(Module(), max_output=10_000).connect()
        accepted: list[bool] = []
        in_threads(lambda: accepted.extend(peer.connection.ref.send(bytes(20_000)) for _ in range(2)))
        assert accepted == [True, False]

    def test_to_close_is_never_too_much(self) -> None:
        peer = serve(Module(), max_output=1).connect()
        accepted: list[bool] = []
        in_threads(lambda: accepted.extend([peer.connection.ref.send(b"x"), peer.connection.ref.close()]))
        peer.turn()
        assert accepted == [True, True]
        assert peer.take() == b"xbye"

    def test_and_yet_not_without_end(self) -> None:
        peer = serve(Module(), max_output=1).connect()
        accepted: list[bool] = []
        in_threads(lambda: accepted.extend(peer.connection.ref.close() for _ in range(MAX_KEPT + 10)))
        assert accepted.count(True) == MAX_KEPT + 1

    def test_a_full_connection_refuses(self) -> None:
        _, peer, _ = TestFull().full()
        accepted: list[bool] = []
        in_threads(lambda: accepted.append(peer.connection.ref.send(b"x")))
        assert accepted == [False]

    def test_a_closing_connection_refuses(self) -> None:
        peer = serve(Module()).connect()
        peer.connection.perform(Close())
        accepted: list[bool] = []
        in_threads(lambda: accepted.extend([peer.connection.ref.send(b"x"), peer.connection.ref.close()]))
        assert accepted == [False, False]

    def test_come_to_nothing_when_it_has_gone_meanwhile(self) -> None:
        module = Module()
        peer = serve(module).connect()
        in_threads(lambda: peer.connection.ref.send(b"x"))
        peer.transport.lose(ConnectionDone())
        peer.turn()
        assert module.driver.actions == []
        assert peer.hub.shared.registry.thread.idle

    def test_may_come_by_the_thousand_while_it_ends(self) -> None:
        """8 threads, and nobody is hurt."""
        host = serve(Module(), max_output=100_000)
        peer = host.connect()
        errors: list[BaseException] = []
        accepted: list[bool] = []

        def hammer() -> None:
            try:
                accepted.extend(peer.connection.ref.send(b"x") for _ in range(1_000))
            except BaseException as error:
                errors.append(error)

        hammering = [THREADS.submit(hammer) for _ in range(8)]
        host.reactor.advance(0)
        peer.connection.perform(Close(b"bye"))
        host.reactor.advance(0)
        peer.leave()
        for done in hammering:
            done.result()
        peer.turn()
        assert errors == []
        assert len(accepted) == 8_000
        assert not accepted[-1]
        assert peer.hub.shared.registry.thread.idle
        assert host.idle()


class TestShutDown:
    def test_a_module_may_say_good_bye(self) -> None:
        module = Module(action=lambda driver, action, *args: [b"one ", b"moment"])
        peer = serve(module).connect()
        peer.connection.shut_down()
        assert module.driver.actions == [("shutdown",)]
        assert peer.take() == b"one moment"
        assert not peer.transport.half_closed

    def test_refused_it_closes_without_a_word(self) -> None:
        peer = serve(Module()).connect()
        peer.connection.shut_down()
        assert peer.take() == b""
        assert peer.transport.half_closed

    def test_a_crash_ends_it(self, failures: Failures) -> None:
        peer = serve(Module(action=raises)).connect()
        peer.connection.shut_down()
        peer.turn()
        assert peer.gone
        failures.take()

    def test_a_closing_connection_is_left_alone(self) -> None:
        module = Module()
        peer = serve(module).connect()
        peer.connection.perform(Close(b"bye"))
        peer.connection.shut_down()
        assert module.driver.actions == []
        assert peer.take() == b"bye"


class TestAdmission:
    def refuse(self, driver: Driver) -> None:
        if not driver.context.admitted:
            driver.context.perform(Close(b"full"))

    def test_a_module_may_say_that_the_server_is_full(self) -> None:
        host = serve(Module(start=self.refuse), max_connections=1)
        assert host.connect().take() == b""
        peer = host.connect()
        assert peer.take() == b"full"
        assert peer.transport.half_closed

    def test_or_else_the_connection_is_aborted(self) -> None:
        module = Module()
        host = serve(module, max_connections=1)
        host.connect()
        assert host.connect().gone
        assert module.closed == [[], ["it was not admitted"]]

    def test_of_many_only_some_are_told(self) -> None:
        module = Module(start=self.refuse)
        host = serve(module, max_connections_per_address=1)
        peers = [host.connect() for _ in range(1 + MAX_REFUSED + 1)]
        assert [peer.take() for peer in peers[1:]] == [b"full"] * MAX_REFUSED + [b""]
        assert peers[-1].gone
        assert len(module.drivers) == 1 + MAX_REFUSED

    def test_what_it_sends_is_not_heard(self) -> None:
        module = Module(start=self.refuse)
        host = serve(module, max_connections=1)
        host.connect()
        host.connect().send(b"let me in")
        assert module.received == []

    def test_an_address_has_its_limit(self) -> None:
        host = serve(Module(start=self.refuse), max_connections_per_address=1)
        one = host.connect("192.0.2.1")
        assert host.connect("192.0.2.1").take() == b"full"
        assert host.connect("192.0.2.2").take() == b""
        one.leave()
        assert host.connect("192.0.2.1").take() == b""

    def test_who_has_no_ip_address_is_not_counted(self) -> None:
        host = serve(Module(), max_connections_per_address=1)
        for _ in range(2):
            assert not Peer(host, UNIXAddress(None)).gone
        assert host.hub.shared.admission.empty


class TestProxied:
    """Behind a proxy that tells the peer's address ahead of the peer's first bytes."""

    def connect(self, host: MemoryHost) -> Peer:
        return host.connect("10.0.0.1", proxied=True)

    def become(self, peer: Peer, address: str) -> None:
        """The proxy's header has come."""
        peer.transport.become(IPv4Address("TCP", address, 4711))

    def test_the_proxy_is_not_counted(self) -> None:
        host = serve(Module(), max_connections_per_address=1)
        assert not any(self.connect(host).gone for _ in range(3))
        assert host.hub.shared.admission.empty

    def test_the_peer_is_once_it_is_known(self) -> None:
        host = serve(module := Module(start=TestAdmission().refuse), max_connections_per_address=1)
        peers = [self.connect(host) for _ in range(3)]
        for peer, host_part in zip(peers, ["192.0.2.1", "192.0.2.1", "192.0.2.2"], strict=True):
            self.become(peer, host_part)
            peer.send(b"one")
            peer.send(b"two")
        assert [peer.take() for peer in peers] == [b"onetwo", b"full", b"onetwo"]
        assert not host.hub.shared.admission.count_address("192.0.2.1")
        assert not host.hub.shared.admission.count_address("192.0.2.2")
        assert [reasons[:1] for reasons in module.closed] == [[], ["too many from one address"], [], []]
        for peer in peers:
            peer.leave()
        assert host.hub.shared.admission.empty
        assert [len(reasons) for reasons in module.closed] == [1, 1, 1, 1]

    def test_whose_module_has_closed_meanwhile_starts_no_other(self) -> None:
        def refuse(driver: Driver) -> None:
            if not driver.context.admitted:
                started.append("late")

        started: list[str] = []
        module = Module(start=refuse, close=lambda driver: driver.context.perform(Close(b"bye")))
        host = serve(module, max_connections_per_address=1)
        peers = [self.connect(host) for _ in range(2)]
        for peer in peers:
            self.become(peer, "192.0.2.1")
        assert (started, peers[1].take()) == ([], b"bye")

    def test_without_a_word_it_is_aborted(self) -> None:
        """The address of one that sends nothing counts, too."""
        host = serve(Module(), max_connections_per_address=1)
        for end in (False, True):
            peer = self.connect(host)
            self.become(peer, "192.0.2.1")
            peer.turn()
            assert peer.gone is end

    def test_the_host_may_be_full_before(self) -> None:
        host = serve(Module(start=TestAdmission().refuse), max_connections=1, max_connections_per_address=1)
        self.connect(host)
        peer = self.connect(host)
        self.become(peer, "192.0.2.1")
        peer.send(b"x")
        assert peer.take() == b"full"
        assert host.hub.shared.admission.count_address("192.0.2.1")

    def test_it_may_go_before(self) -> None:
        host = serve(Module(), max_connections_per_address=1)
        self.connect(host).leave()
        assert host.idle()


class TestMemory:
    def test_nothing_waits_for_the_collector(self) -> None:
        first, second = Module(lambda driver, data: Switch("b", data)), Module()
        host = serve(first, second)
        peer = host.connect()
        peer.send(b"x")
        peer.connection.perform(Close(b"bye"))
        peer.turn()
        peer.half_close()
        references: list[weakref.ref[Any]] = [weakref.ref(peer.connection), weakref.ref(second.drivers.pop())]
        gc.disable()
        try:
            first.drivers.clear()
            del peer.connection
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()


@implementer(IProtocolModule, IProtocolDriver)
class Slow:
    """A module that may call users' code when it is asked; and its driver."""

    def __init__(self, context: Any = None) -> None:
        self.context = context
        self.drivers: list[Slow] = []
        self.asked: list[tuple[Any, ...]] = []

    def init(self, options: Any, context: IContext) -> Any:
        self.drivers.append(Slow(context))
        return self.drivers[-1]

    def handle_connection_in(self, data: bytes) -> Results:
        return None

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        self.asked.append((action, *args))
        return REFUSED if action == "ping" else None

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


class TestAModuleThatMayCallUsersCode:
    """It is asked when nobody's code is running: in a later turn."""

    def test_is_asked_later_and_in_order(self) -> None:
        module = Slow()
        peer = MemoryHost(chain=[Link("slow", module, None)]).connect()
        ref = peer.connection.ref
        assert [ref.send("x"), ref.ping(), ref.info(7), ref.close()] == [True] * 4
        assert module.drivers[0].asked == []
        peer.turn()
        assert [action for action, *_ in module.drivers[0].asked] == ["send", "ping", "info", "close"]

    def test_what_waits_for_it_is_bounded(self) -> None:
        module = Slow()
        peer = MemoryHost(chain=[Link("slow", module, None)], max_output=10_000).connect()
        accepted = [peer.connection.ref.send(b"x" * 1_000) for _ in range(20)]
        assert 5 < accepted.count(True) < 10
        peer.turn()
        assert len(module.drivers[0].asked) == accepted.count(True)
        assert peer.connection.ref.send(b"x")

    def test_may_itself_call_when_nobodys_code_is_running(self) -> None:
        module = Slow()
        host = MemoryHost(chain=[Link("slow", module, None)])
        peer = host.connect()
        called: list[str] = []
        module.drivers[0].context.call_soon(lambda: called.append("now"))
        assert called == []
        peer.turn()
        assert called == ["now"]

    def test_is_told_later_that_the_host_stops(self) -> None:
        module = Slow()
        host = MemoryHost(chain=[Link("slow", module, None)])
        peer = host.connect()
        host.hub.stop()
        assert module.drivers[0].asked == []
        peer.turn()
        assert module.drivers[0].asked == [("shutdown",)]

    def test_that_fails_then_ends(self, failures: Failures) -> None:
        module = Slow()
        peer = MemoryHost(chain=[Link("slow", module, None)]).connect()
        module.drivers[0].context.call_soon(raises)
        peer.turn()
        assert peer.gone
        assert failures.take().startswith("the module slow failed at a turn's end\n")


class TestASwitchFromOutside:
    """Whose code is running is not known then: the next module is called at the end of the turn."""

    def test_waits_for_the_turns_end(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        first.driver.context.perform([b"last ", Switch("b", b"unread")])
        assert second.drivers == []
        assert peer.take() == b"last unread"

    def test_comes_before_what_comes_in_meanwhile(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        first.driver.context.perform(Switch("b", b"unread "))
        peer.connection.dataReceived(b"more")
        assert (first.received, second.received) == ([], [b"unread more"])

    def test_to_one_that_closes_at_once_leaves_nobody_to_read(self) -> None:
        first, second = Module(), Module(start=lambda driver: driver.context.perform(Close(b"bye")))
        peer = serve(first, second).connect()
        first.driver.context.perform(Switch("b", b"unread "))
        peer.connection.dataReceived(b"more")
        assert peer.take() == b"bye"
        assert second.received == []

    def test_takes_with_it_what_refs_ask_for_meanwhile_up_to_a_limit(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        first.driver.context.perform(Switch("b"))
        accepted = [peer.connection.ref.send(b"x") for _ in range(MAX_KEPT + 10)]
        assert accepted.count(True) == MAX_KEPT
        assert peer.take() == b"x" * MAX_KEPT
        assert first.driver.actions == []
        assert len(second.driver.actions) == MAX_KEPT

    def test_leaves_nobody_to_ask_behind_an_end(self) -> None:
        accepted: list[bool] = []

        def receive(driver: Driver, data: bytes) -> None:
            driver.context.perform(Close(b"bye"))
            accepted.append(driver.context.ref.send(b"never"))

        peer = serve(Module(receive)).connect()
        peer.send(b"x")
        assert (accepted, peer.take()) == ([False], b"bye")


class TestSharing:
    def test_what_can_not_be_hashed_changes_nothing(self) -> None:
        class Unhashable:
            __hash__ = None  # type: ignore[assignment]

            def encode(self, data: Any) -> bytes:
                return b""

        host = serve(Module())
        connection = host.connect().connection
        connection.ref.subscribe("a")
        encoding: Any = Unhashable()
        with pytest.raises(TypeError, match="unhashable"):
            connection.use_encoding(encoding)
        assert host.hub.topics.publish_locally("a", b"bytes")


class TestCircles:
    def test_of_switches_that_are_performed_end(self, failures: Failures) -> None:
        first = Module(start=lambda driver: driver.context.perform(Switch("b")))
        second = Module(start=lambda driver: driver.context.perform(Switch("a")))
        assert serve(first, second).connect().gone
        assert "switch in circles" in failures.take()

    def test_behind_an_end_comes_nothing(self) -> None:
        module = Module(start=lambda driver: [driver.context.perform(Close(b"bye")), driver.context.perform(b"never")])
        assert serve(module).connect().take() == b"bye"
