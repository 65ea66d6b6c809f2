from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.connections.modules import (
    REQUEST,
    Driver,
    Failures,
    Module,
    Receive,
    in_threads,
    lines,
    nothing,
    raises,
    serve,
)
from tests.memory import MemoryHost, Peer
from wshost.connections.context import MAX_KEPT
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IEncoding, IHoldingDriver
from wshost.request import TLS
from wshost.results import Close, Results, Stop, Switch

pytestmark = pytest.mark.usefixtures("failures")


class TestContext:
    """What a module sees of its connection."""

    def test_a_connection_provides_icontext(self) -> None:
        host = serve(Module())
        verifyObject(IContext, host.connect().connection.context)

    def test_a_module_gets_its_options(self) -> None:
        module = Module()
        serve(module).connect()
        assert module.options == ["A"]

    def test_the_context_tells_the_peer_the_host_and_the_ref(self) -> None:
        module = Module()
        host = serve(module)
        host.connect("192.0.2.1", 4711)
        context = module.driver.context
        assert context.peer == "192.0.2.1:4711"
        assert context.peer_address == IPv4Address("TCP", "192.0.2.1", 4711)
        assert context.host_address == IPv4Address("TCP", "192.0.2.1", 8080)
        assert context.ref.id == "c1"
        assert context.clock is host.reactor
        assert context.request is None
        assert context.admitted
        assert context.tls is None
        assert not context.output_full

    def test_the_context_tells_that_the_connection_has_tls(self) -> None:
        module = Module()
        serve(module).connect(secure=True)
        assert module.driver.context.tls == TLS(peer_certificate=None)

    def test_the_context_names_the_next_module(self) -> None:
        following: list[str | None] = []

        def note(driver: Driver) -> None:
            following.append(driver.context.next_module)

        first = Module(lambda driver, data: Switch("b", data), start=note)
        second = Module(lambda driver, data: Switch("c", data), start=note)
        serve(first, second, Module(start=note)).connect().send(b"go")
        assert following == ["b", "c", None]

    def test_all_modules_of_a_connection_have_the_same_context(self) -> None:
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

    def test_what_a_module_performs_leaves_before_what_it_then_returns(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.perform(b"at once ")
            return b"and then"

        peer = serve(Module(receive)).connect()
        peer.send(b"x")
        assert peer.transport.writes == [b"at once and then"]

    def test_performing_nothing_does_nothing(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        module.driver.context.perform(None)
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []
        assert peer.transport.writes == []

    @pytest.mark.parametrize("results", ["text", 7, [b"one", 7], [b"one", None], object(), {b"one"}, bytearray(b"one")])
    @pytest.mark.parametrize("by", ["receive", "perform", "action"])
    def test_a_result_of_a_wrong_type_ends_the_connection(self, results: Any, by: str, failures: Failures) -> None:
        module = Module(lambda driver, data: results, action=lambda *args: results)
        peer = serve(module).connect()
        if by == "receive":
            peer.send(b"x")
        elif by == "perform":
            module.driver.context.perform(results)
        else:
            assert not peer.connection.ref.send("x")
        peer.turn()
        assert peer.transport.writes == []
        assert peer.transport.aborted
        what, _, text = failures.take().partition("\n")
        assert what.startswith("the module a ")
        assert text.endswith("not bytes, Switch, Close, Stop or a list of them")
        assert module.closed == [[what]]


@implementer(IEncoding)
class Quoted:
    """An encoding that puts messages in angle brackets."""

    def encode(self, data: str | bytes) -> bytes:
        return b"<%s>" % (data if isinstance(data, bytes) else data.encode())


class TestTopics:
    def test_published_messages_are_encoded_as_the_module_wants(self) -> None:
        module = Module()
        host = serve(module)
        peer = host.connect()
        peer.connection.ref.subscribe("a")
        peer.connection.context.use_encoding(Quoted())
        host.hub.topics.publish_locally("a", b"data")
        assert peer.take() == b"<data>"
        assert module.driver.actions == []

    def test_a_module_without_an_encoding_is_asked_to_send_each_message(self) -> None:
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
        peer.connection.context.use_encoding(Quoted())
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
        peer.connection.context.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        host.hub.topics.publish_locally("a", b"published")
        peer.connection.context.use_encoding(encoding)
        assert peer.take() == b"<published>"

    def test_what_was_published_before_an_end_leaves_before_it(self) -> None:
        host = serve(Module())
        peer = host.connect()
        peer.connection.context.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        host.hub.topics.publish_locally("a", b"published")
        peer.connection.context.perform(Close(b"bye"))
        assert peer.take() == b"<published>bye"

    def test_the_next_module_is_asked_until_it_has_an_encoding_of_its_own(self) -> None:
        second = Module()
        host = serve(Module(lambda driver, data: Switch("b")), second)
        peer = host.connect()
        peer.connection.context.use_encoding(Quoted())
        peer.connection.ref.subscribe("a")
        peer.send(b"go on")
        host.hub.topics.publish_locally("a", b"data")
        assert peer.take() == b"data"
        assert second.driver.actions == [("send", b"data")]

    def test_a_module_is_not_asked_to_subscribe_or_unsubscribe(self) -> None:
        module = Module()
        host = MemoryHost(chain=[Link("one", module, None)])
        peer = host.connect()
        accepted: list[int] = []
        in_threads(lambda: accepted.append(peer.connection.ref.subscribe("a")))
        in_threads(lambda: accepted.append(peer.connection.ref.send(b"x")))
        peer.turn()
        assert host.hub.topics.names == ["a"]
        in_threads(lambda: accepted.append(peer.connection.ref.unsubscribe("a")))
        peer.turn()
        assert host.hub.topics.names == []
        assert accepted == [True] * 3
        assert module.driver.actions == [("send", b"x")]

    def test_a_connection_may_subscribe_to_several_topics(self) -> None:
        host = serve(Module())
        peer = host.connect()
        ref = peer.connection.ref
        assert [ref.subscribe("a"), ref.subscribe("b"), ref.unsubscribe("a")] == [True] * 3
        assert host.hub.topics.names == ["b"]
        peer.leave()
        assert host.hub.topics.names == []

    def test_a_module_may_end_all_subscriptions_and_later_ones_count(self) -> None:
        module = Module()
        host = serve(module)
        ref = host.connect().connection.ref
        module.driver.context.unsubscribe_all()
        assert [ref.subscribe("a"), ref.subscribe("b")] == [True] * 2
        module.driver.context.unsubscribe_all()
        assert host.hub.topics.names == []
        assert ref.subscribe("c")
        assert host.hub.topics.names == ["c"]

    def test_a_module_that_starts_over_without_a_directory_has_no_subscription(self) -> None:
        module = Module()
        host = serve(module)
        assert host.connect().connection.ref.subscribe("a")
        module.driver.context.start_over()
        assert host.hub.topics.names == []

    def test_unsubscribing_without_a_subscription_is_accepted(self) -> None:
        assert serve(Module()).connect().connection.ref.unsubscribe("a")

    def test_a_closing_connection_can_not_subscribe(self) -> None:
        host = serve(Module())
        peer = host.connect()
        peer.connection.context.perform(Close(b"bye"))
        assert not peer.connection.ref.subscribe("a")
        assert host.hub.topics.names == []


@implementer(IHoldingDriver)
class Holding(Driver):
    """A driver that holds messages back until it is asked to let them go."""

    held = 5

    def handle_action(self, action: str, *args: Any) -> Any:
        if action == "let_go":
            self.held = 0
            self.actions.append((action,))
            return None
        return super().handle_action(action, *args)


class HoldingModule(Module):
    def init(self, options: Any, context: IContext) -> Any:
        self.drivers.append(Holding(self, context))
        return self.driver


class TestWhatIsHeldBack:
    def test_who_waits_until_all_has_left_has_it_let_go_once(self) -> None:
        module = HoldingModule()
        ref = serve(module).connect().connection.ref
        assert ref.waiting == 5
        done: list[bool] = []
        for _ in range(2):
            ref.drained().addCallback(done.append)
        assert module.driver.actions.count(("let_go",)) == 1
        assert (ref.waiting, done) == (0, [True, True])


class Buffered(Driver):
    """A driver into whose buffer the transport reads."""

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

    def test_received_bytes_are_in_the_modules_buffer(self) -> None:
        module, peer = self.connect()
        room = bytearray(10)
        assert module.driver.context.receive_into(memoryview(room))
        peer.send(b"abc")
        peer.send(b"de")
        assert room == b"abcde" + bytes(5)
        assert module.received == [b"\x03", b"\x02"]
        # What is returned leaves in the same call.
        assert peer.transport.writes == [bytes(3), bytes(2)]

    def test_bytes_that_do_not_fit_the_buffer_are_passed_on_as_usual(self) -> None:
        module, peer = self.connect()
        room = bytearray(3)
        module.driver.context.receive_into(memoryview(room))
        peer.send(b"abcdef")
        assert room == b"abc"
        assert module.received == [b"\x03", b"def"]

    def test_a_module_may_take_its_buffer_back(self) -> None:
        module, peer = self.connect()
        module.driver.context.receive_into(memoryview(bytearray(10)))
        assert module.driver.context.receive_into(None)
        peer.send(b"abc")
        assert module.received == [b"abc"]

    def test_a_transport_may_refuse_to_read_into_a_buffer(self) -> None:
        module, peer = self.connect(buffered=False)
        assert not module.driver.context.receive_into(memoryview(bytearray(10)))
        peer.send(b"abc")
        assert module.received == [b"abc"]

    def test_a_transport_without_receive_into_does_not_read_into_a_buffer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module, _peer = self.connect()
        monkeypatch.delattr("tests.memory.MemoryTransport.receive_into")
        assert not module.driver.context.receive_into(memoryview(bytearray(10)))

    def test_a_switch_ends_the_use_of_the_buffer(self) -> None:
        following = Module()
        module, peer = self.connect(True, following)
        room = bytearray(100)
        module.driver.context.receive_into(memoryview(room))
        peer.send(b"abcde")
        peer.send(b"next")
        assert module.received == [b"\x05"]
        assert following.received == [b"unread", b"next"]
        assert room == b"abcde" + bytes(95)

    def test_a_module_that_fails_on_its_buffer_ends_the_connection(self, failures: Failures) -> None:
        module, peer = self.connect()
        module.driver.context.receive_into(memoryview(bytearray(10)))
        peer.send(b"abcd")
        assert peer.gone
        assert "failed on what the peer sent" in failures.take()

    def test_a_closing_connection_does_not_pass_buffered_bytes_on(self) -> None:
        module, peer = self.connect()
        module.driver.context.receive_into(memoryview(bytearray(10)))
        module.driver.context.perform(Close())
        peer.send(b"abc")
        assert module.received == []


class TestOneWritePerTurn:
    """Each connection writes once per turn."""

    def test_all_replies_to_one_read_are_one_write(self) -> None:
        """There may be any number of replies, returned, performed or sent by a ref."""

        def receive(driver: Driver, data: bytes) -> Results:
            for _ in range(3):
                driver.context.perform(b"p")
                driver.context.ref.send(b"s")
            return [b"r"] * 10

        peer = serve(Module(receive)).connect()
        peer.send(b"x")
        assert peer.transport.writes == [b"pspsps" + b"r" * 10]

    def test_a_reply_is_written_before_the_read_returns(self) -> None:
        peer = serve(Module()).connect()
        peer.connection.dataReceived(b"x")
        assert peer.transport.writes == [b"x"]

    def test_messages_of_refs_in_one_turn_are_one_write_per_connection(self) -> None:
        host = serve(Module())
        peers = [host.connect() for _ in range(3)]
        for n in range(4):
            for peer in peers:
                assert peer.connection.ref.send(b"%d" % n)
        assert [peer.transport.writes for peer in peers] == [[], [], []]
        host.reactor.advance(0)
        assert [peer.transport.writes for peer in peers] == [[b"0123"]] * 3

    def test_messages_of_one_connection_to_others_are_one_write_each(self) -> None:
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

    def test_what_a_timer_sends_is_one_write(self) -> None:
        module = Module()
        peer = serve(module).connect()
        context = module.driver.context
        context.call_later(1, lambda: [context.perform(b"one "), context.perform([b"two ", b"three"])])
        peer.turn(1)
        assert peer.transport.writes == [b"one two three"]

    def test_what_a_module_sends_at_its_start_is_one_write(self) -> None:
        module = Module(start=lambda driver: [driver.context.perform(b"hello "), driver.context.perform(b"there")])
        assert serve(module).connect().transport.writes == [b"hello there"]


class TestSwitch:
    @pytest.mark.parametrize("size", range(1, 13))
    def test_a_switch_loses_no_byte(self, size: int) -> None:
        """Three modules share the bytes, which come in chunks of any size."""

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

    def test_a_switch_closes_the_module_and_hands_bytes_and_request_to_the_next(self) -> None:
        first, second = Module(lambda driver, data: Switch("b", b"rest", REQUEST)), Module()
        serve(first, second).connect().send(b"all")
        assert first.closed == [["switched to b"]]
        assert second.received == [b"rest"]
        assert second.options == ["B"]
        assert second.driver.context.request is REQUEST

    def test_a_switch_without_unread_bytes_does_not_call_the_next_module(self) -> None:
        second = Module()
        serve(Module(lambda driver, data: Switch("b")), second).connect().send(b"all")
        assert second.received == []

    def test_bytes_that_come_after_a_switch_go_to_the_next_module(self) -> None:
        first, second = Module(lambda driver, data: Switch("b")), Module()
        peer = serve(first, second).connect()
        peer.send(b"one")
        peer.send(b"two")
        assert (first.received, second.received) == ([b"one"], [b"two"])

    def test_results_behind_a_switch_are_ignored(self) -> None:
        first = Module(lambda driver, data: [b"one", Switch("b", b"two"), b"never", Close(), Stop("never")])
        peer = serve(first, Module()).connect()
        peer.send(b"x")
        assert peer.transport.writes == [b"onetwo"]
        assert not peer.transport.half_closed

    def test_a_module_may_switch_back_and_to_itself(self) -> None:
        first = Module(lines(lambda driver, line, rest: [b"a", Switch(line.decode(), rest)]))
        second = Module(lines(lambda driver, line, rest: [b"b", Switch(line.decode(), rest)]))
        peer = serve(first, second).connect()
        peer.send(b"b\nb\na\na\nb")
        assert peer.take() == b"abbaa"
        assert [len(reasons) for reasons in first.closed] == [1, 1, 1]
        assert [len(reasons) for reasons in second.closed] == [1, 1, 0]

    def test_modules_may_switch_for_every_byte_of_a_read(self) -> None:
        """A peer must not decide how deep our calls nest."""

        def other(name: str) -> Receive:
            return lambda driver, data: [data[:1], Switch(name, data[1:])]

        peer = serve(Module(other("b")), Module(other("a"))).connect()
        data = bytes(range(256)) * 20
        peer.send(data)
        assert peer.transport.writes == [data]

    def test_modules_that_perform_may_switch_for_every_byte_of_a_read(self) -> None:
        def other(name: str) -> Receive:
            return lambda driver, data: driver.context.perform([data[:1], Switch(name, data[1:])])

        peer = serve(Module(other("b")), Module(other("a"))).connect()
        data = bytes(range(256)) * 20
        peer.send(data)
        assert peer.transport.writes == [data]

    def test_modules_may_switch_for_every_byte_that_a_timer_hands_over(self) -> None:
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

    def test_modules_that_switch_in_circles_end_the_connection(self, failures: Failures) -> None:
        """Such modules must not stop the server."""
        peer = serve(
            Module(lambda driver, data: Switch("b", data)), Module(lambda driver, data: Switch("a", data))
        ).connect()
        peer.send(b"x")
        assert peer.gone
        assert "the chain's modules switch in circles" in failures.take()

    def test_every_module_of_the_chain_may_hand_everything_on(self) -> None:
        """Modules that all hand everything on do not switch in circles."""
        modules = [Module(lambda driver, data, name=name: Switch(name, data)) for name in "bcde"]  # type: ignore[misc]
        peer = serve(*modules, Module()).connect()
        peer.send(b"x")
        assert peer.take() == b"x"

    def test_results_of_a_module_that_has_performed_a_switch_are_ignored(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.perform(Switch("b", b"unread"))
            return b"never"

        second = Module()
        peer = serve(Module(receive), second).connect()
        peer.send(b"x")
        assert peer.take() == b"unread"

    def test_a_timer_may_switch(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        context = first.driver.context
        context.call_later(1, lambda: context.perform([b"now ", Switch("b", b"unread")]))
        peer.turn(1)
        assert peer.transport.writes == [b"now unread"]
        assert first.closed == [["switched to b"]]

    def test_an_action_may_return_a_switch(self) -> None:
        first, second = Module(action=lambda driver, action, *args: Switch("b", *args)), Module()
        peer = serve(first, second).connect()
        assert peer.connection.ref.send(b"unread")
        assert peer.take() == b"unread"

    def test_an_action_may_perform_a_switch(self) -> None:
        def action(driver: Driver, action: str, *args: Any) -> Results:
            driver.context.perform(Switch("b", b"unread"))
            return b"never"

        peer = serve(Module(action=action), Module()).connect()
        assert peer.connection.ref.send(b"x")
        assert peer.take() == b"unread"

    def test_a_module_may_switch_at_its_start(self) -> None:
        first = Module(start=lambda driver: driver.context.perform([b"hello ", Switch("b", b"unread")]))
        second = Module()
        peer = serve(first, second).connect()
        assert peer.take() == b"hello unread"
        assert first.closed == [["switched to b"]]
        peer.send(b"more")
        assert second.received == [b"unread", b"more"]
        peer.leave()
        assert [len(first.closed[0]), len(second.closed[0])] == [1, 1]

    def test_a_second_module_may_switch_at_its_start(self) -> None:
        """The bytes that the first module left unread come behind those that the second hands over itself."""
        second = Module(start=lambda driver: driver.context.perform(Switch("c", b"own ")))
        third = Module()
        peer = serve(Module(lambda driver, data: Switch("b", data)), second, third).connect()
        peer.send(b"unread")
        assert b"".join(third.received) == b"own unread"
        assert second.closed == [["switched to c"]]

    def test_a_switch_performed_at_the_close_ends_each_driver_once(self) -> None:
        """Such a switch comes too late, but must not break anything."""
        first = Module(
            lambda driver, data: Switch("b", b"unread"), close=lambda driver: driver.context.perform(Switch("c"))
        )
        second, third = Module(), Module()
        peer = serve(first, second, third).connect()
        peer.send(b"x")
        peer.leave()
        assert [len(reasons) for one in (first, second, third) for reasons in one.closed] == [1, 1, 1]

    def test_a_switch_to_an_unknown_module_aborts_the_connection(self, failures: Failures) -> None:
        module = Module(lambda driver, data: [b"lost", Switch("z")])
        peer = serve(module, Module()).connect()
        peer.send(b"x")
        assert peer.transport.aborted
        assert peer.transport.writes == []
        assert "the chain has no module 'z' to switch to; it has a, b" in failures.take()
        assert len(module.closed[0]) == 1

    def test_a_switch_resumes_reading_that_the_module_has_paused(self) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.pause_reading()
            return Switch("b")

        peer = serve(Module(receive), Module()).connect()
        peer.send(b"x")
        assert peer.transport.producing

    def test_a_module_may_pause_reading_at_its_start(self) -> None:
        second = Module(start=lambda driver: driver.context.pause_reading())
        peer = serve(Module(lambda driver, data: Switch("b")), second).connect()
        peer.send(b"x")
        assert not peer.transport.producing
        second.driver.context.resume_reading()
        assert peer.transport.producing

    def test_a_switch_cancels_the_timers_of_the_module(self) -> None:
        first = Module(lambda driver, data: Switch("b"), start=lambda driver: driver.context.call_later(1, raises))
        host = serve(first, Module())
        peer = host.connect()
        peer.send(b"x")
        host.hub.shared.schedule.release_if_idle()
        assert host.reactor.getDelayedCalls() == []


class TestFailingModules:
    """A module that fails is logged and ends its connection. Other connections go on."""

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
    def test_a_module_that_raises_aborts_its_connection_and_no_other(
        self, make: Callable[[], Module], what: str, secure: bool, failures: Failures
    ) -> None:
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
        assert host.hub.shared.account.crashes == {("b", "module"): 1}

    def test_a_module_that_fails_to_close_is_logged(self, failures: Failures) -> None:
        module = Module(close=raises)
        host = serve(module)
        host.connect().leave()
        assert "a module failed to close\n" in failures.take()
        assert host.hub.shared.account.crashes == {("a", "module"): 1}
        assert host.idle()

    def test_a_module_that_fails_to_close_does_not_stop_the_switch(self, failures: Failures) -> None:
        second = Module()
        peer = serve(Module(lambda driver, data: Switch("b", data), close=raises), second).connect()
        peer.send(b"x")
        assert "a module failed to close\n" in failures.take()
        assert second.received == [b"x"]

    def test_a_module_that_fails_after_it_has_performed_a_switch_hands_nothing_on(self, failures: Failures) -> None:
        def receive(driver: Driver, data: bytes) -> Results:
            driver.context.perform(Switch("b", b"unread"))
            raise ValueError("on purpose")

        second = Module()
        peer = serve(Module(receive), second).connect()
        peer.send(b"x")
        failures.take()
        assert peer.gone
        assert second.drivers == []

    def test_a_module_that_returns_no_driver_ends_the_connection(self, failures: Failures) -> None:
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

    def test_a_module_that_performs_a_switch_and_fails_to_start_does_not_switch(self, failures: Failures) -> None:
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
    def test_call_regardless_calls_after_the_connection_has_ended(self) -> None:
        calls: list[int] = []
        peer = serve(Module(start=lambda driver: driver.context.call_regardless(1, lambda: calls.append(1)))).connect()
        peer.leave()
        peer.turn(1)
        assert calls == [1]

    def test_call_later_calls_once(self) -> None:
        calls: list[int] = []
        module = Module(start=lambda driver: driver.context.call_later(1, lambda: calls.append(1)))
        peer = serve(module).connect()
        peer.turn(1)
        peer.turn(1)
        assert calls == [1]

    @pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
    def test_call_later_takes_only_a_finite_number_of_seconds(self, seconds: float) -> None:
        """A time that is no number would come first among the timers of the host, and keep the others from firing."""
        calls: list[int] = []
        module = Module()
        peer = serve(module).connect()
        with pytest.raises(ValueError, match=r"is no number of seconds$"):
            module.driver.context.call_later(seconds, lambda: calls.append(0))
        module.driver.context.call_later(1, lambda: calls.append(1))
        peer.turn(1)
        assert calls == [1]

    def test_a_connections_timers_end_with_it(self) -> None:
        module = Module(start=lambda driver: driver.context.call_later(1, raises))
        host = serve(module)
        host.connect().leave()
        assert host.idle()

    @pytest.mark.parametrize("when", ["at the end", "after it"])
    def test_no_timer_starts_when_the_connection_has_ended(self, when: str) -> None:
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


class TestASwitchFromOutside:
    """It is not known whose code is running then, so the next module starts at the end of the turn."""

    def test_a_switch_from_outside_waits_for_the_end_of_the_turn(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        first.driver.context.perform([b"last ", Switch("b", b"unread")])
        assert second.drivers == []
        assert peer.take() == b"last unread"

    def test_a_switch_from_outside_comes_before_what_comes_in_meanwhile(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        first.driver.context.perform(Switch("b", b"unread "))
        peer.connection.dataReceived(b"more")
        assert (first.received, second.received) == ([], [b"unread more"])

    def test_bytes_behind_a_switch_to_a_module_that_closes_at_once_are_discarded(self) -> None:
        first, second = Module(), Module(start=lambda driver: driver.context.perform(Close(b"bye")))
        peer = serve(first, second).connect()
        first.driver.context.perform(Switch("b", b"unread "))
        peer.connection.dataReceived(b"more")
        assert peer.take() == b"bye"
        assert second.received == []

    def test_a_limited_number_of_actions_waits_for_a_switch_from_outside(self) -> None:
        first, second = Module(), Module()
        peer = serve(first, second).connect()
        first.driver.context.perform(Switch("b"))
        accepted = [bool(peer.connection.ref.send(b"x")) for _ in range(MAX_KEPT + 10)]
        assert accepted.count(True) == MAX_KEPT
        assert peer.take() == b"x" * MAX_KEPT
        assert first.driver.actions == []
        assert len(second.driver.actions) == MAX_KEPT

    def test_actions_are_refused_once_a_close_was_performed(self) -> None:
        accepted: list[int] = []

        def receive(driver: Driver, data: bytes) -> None:
            driver.context.perform(Close(b"bye"))
            accepted.append(driver.context.ref.send(b"never"))

        peer = serve(Module(receive)).connect()
        peer.send(b"x")
        assert (accepted, peer.take()) == ([False], b"bye")


class TestUseEncoding:
    def test_an_encoding_that_can_not_be_hashed_is_refused_and_changes_nothing(self) -> None:
        class Unhashable:
            __hash__ = None  # type: ignore[assignment]

            def encode(self, data: Any) -> bytes:
                return b""

        host = serve(Module())
        connection = host.connect().connection
        connection.ref.subscribe("a")
        encoding: Any = Unhashable()
        with pytest.raises(TypeError, match="unhashable"):
            connection.context.use_encoding(encoding)
        assert host.hub.topics.publish_locally("a", b"bytes")


class TestPerformedAtTheStart:
    def test_switches_in_circles_performed_at_the_start_end_the_connection(self, failures: Failures) -> None:
        first = Module(start=lambda driver: driver.context.perform(Switch("b")))
        second = Module(start=lambda driver: driver.context.perform(Switch("a")))
        assert serve(first, second).connect().gone
        assert "switch in circles" in failures.take()

    def test_what_is_performed_after_a_close_is_ignored(self) -> None:
        module = Module(start=lambda driver: [driver.context.perform(Close(b"bye")), driver.context.perform(b"never")])
        assert serve(module).connect().take() == b"bye"
