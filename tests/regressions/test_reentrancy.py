"""Users' code is never entered from users' code, actions keep their order, and no chain of them costs stack."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from wsproto.events import CloseConnection, Message, TextMessage
from zope.interface import implementer

from tests.handlers.surroundings import without_loop
from tests.memory import MemoryHost, Peer, request
from tests.rooms import CONTEXT, Rooms
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IProtocolDriver, IProtocolModule
from wshost.protocols.websocket.encodings import FRAMES
from wshost.results import REFUSED, Close, Switch


class Handler:
    """Does what the test says to a message; fails the test when it is entered while it runs."""

    def __init__(self, does: Callable[[Handler, Any, int], Any]) -> None:
        self.refs: list[Any] = []
        self.seen: list[tuple[int, Any]] = []
        self.running = 0
        self._does = does

    def init(self, options: Any) -> int:
        self.refs.append(options["worker"])
        return len(self.refs) - 1

    def handle(self, message: Any, number: int) -> Any:
        assert self.running == 0, "entered while running"
        self.running += 1
        try:
            self.seen.append((number, message))
            return self._does(self, message, number) or ("noreply", number)
        finally:
            self.running -= 1


def serve(does: Callable[[Handler, Any, int], Any], count: int, **limits: Any) -> tuple[Handler, list[Peer]]:
    handler = Handler(does)
    host = MemoryHost(handler, websocket_options={"ping_interval": 0}, **limits)
    return handler, [host.open() for _ in range(count)]


class TestAHandlerIsNotEnteredFromAnother:
    def test_an_info_to_another_handler_runs_after_the_senders_call(self) -> None:
        def does(handler: Handler, message: Any, number: int) -> None:
            if message == ("text", "go"):
                assert handler.refs[1].info("news")
                assert len(handler.seen) == 1

        handler, peers = serve(does, 2)
        peers[0].text("go")
        assert handler.seen == [(0, ("text", "go")), (1, ("info", "news"))]

    def test_an_info_to_itself_runs_after_the_handlers_call(self) -> None:
        def does(handler: Handler, message: Any, number: int) -> Any:
            if message == ("text", "go"):
                handler.refs[0].info("news")
                return ("reply", "first", number)
            return ("reply", "second", number)

        _, [peer] = serve(does, 1)
        peer.text("go")
        assert peer.messages() == ["first", "second"]

    @pytest.mark.parametrize("action", ["close", "send", "ping", "subscribe", "unsubscribe"])
    def test_any_action_on_another_handler_runs_after_the_senders_call(self, action: str) -> None:
        def does(handler: Handler, message: Any, number: int) -> None:
            if message == ("text", "go"):
                arguments = {"close": (1000, ""), "send": ("x",), "ping": (b"x",)}.get(action, ("topic",))
                assert getattr(handler.refs[1], action)(*arguments)

        handler, peers = serve(does, 2)
        peers[0].text("go")
        for peer in peers:
            peer.leave()
        assert [message for number, message in handler.seen if number == 1] == ["connection_close"]

    def test_firing_another_handlers_deferred_resumes_it_after_the_call(self) -> None:
        """What waits behind an answer is handled when he who let it come has returned."""
        gate: Deferred[Any] = Deferred()

        def does(handler: Handler, message: Any, number: int) -> Any:
            if message == ("text", "wait"):
                return gate
            if message == ("text", "fire"):
                gate.callback(("reply", "late", 0))
                assert len(handler.seen) == 2
            return None

        handler, peers = serve(does, 2)
        peers[0].text("wait")
        handler.refs[0].info("behind it")
        peers[0].text("and behind that")
        peers[1].text("fire")
        assert peers[0].messages() == ["late"]
        assert handler.seen[2:] == [(0, ("info", "behind it")), (0, ("text", "and behind that"))]

    def test_publishing_enters_no_other_handler(self) -> None:
        entered: list[str] = []

        def handle(data: Any, ref: Any) -> Any:
            entered.append(data)
            if data == "publish":
                rooms.publish("a", "news")
                assert entered == ["publish"]
            return ("noreply", ref)

        rooms = Rooms(handle)
        peers = [rooms.open("/a"), rooms.open("/a")]
        peers[0].text("publish")
        assert [peer.messages() for peer in peers] == [["news"], ["news"]]

    def test_stopping_the_server_enters_no_other_handler(self) -> None:
        stopped: list[Any] = []

        def does(handler: Handler, message: Any, number: int) -> None:
            if message == ("text", "stop"):
                stopped.append(host.hub.stop())
                assert len(handler.seen) == 1

        handler = Handler(does)
        host = MemoryHost(handler)
        peers = [host.open() for _ in range(2)]
        peers[0].text("stop")
        assert [peer.messages() for peer in peers] == [[("close", 1001, "going away")]] * 2
        for peer in peers:
            peer.leave()
        assert stopped[0].called

    @without_loop
    def test_the_end_of_an_init_that_was_given_up_enters_no_other_handler(self) -> None:
        gate: Deferred[Any] = Deferred()

        class Late(Handler):
            async def wait(self) -> int:
                try:
                    await Deferred()
                except CancelledError:
                    await gate
                return 7

            def init(self, options: Any) -> Any:
                return self.wait() if options["connection"].path == "/late" else super().init(options)

        def does(handler: Handler, message: Any, number: int) -> None:
            if message == ("text", "fire"):
                gate.callback(None)
                assert len(handler.seen) == 1

        handler = Late(does)
        host = MemoryHost(handler)
        late, other = host.connect(), host.open()
        late.send(request("/late"))
        late.leave()
        other.text("fire")
        assert handler.seen == [(0, ("text", "fire")), (7, "connection_close")]


class TestAChain:
    def test_a_chain_of_infos_of_any_length_costs_no_stack(self) -> None:
        length = 3 * sys.getrecursionlimit()
        depths: set[int] = set()

        def depth() -> int:
            frame, count = inspect.currentframe(), 0
            while frame is not None:
                frame, count = frame.f_back, count + 1
            return count

        def does(handler: Handler, message: Any, number: int) -> Any:
            if message[0] == "info":
                depths.add(depth())
                if message[1] == length:
                    return ("reply", "done", number)
            if message[0] in {"text", "info"}:
                hops = int(message[1])
                handler.refs[(number + 1) % len(handler.refs)].info(hops + 1)
            return None

        _, peers = serve(does, 3)
        peers[0].text("0")
        for _ in range(length // 3):
            peers[0].turn()
        assert [peer.messages() for peer in peers].count(["done"]) == 1
        assert len(depths) == 1


class TestOrder:
    def test_messages_sent_later_keep_their_order_behind_many_infos(self) -> None:
        def does(handler: Handler, message: Any, number: int) -> Any:
            if message == ("text", "go"):
                assert all(handler.refs[1].info(count) for count in range(600))
            return ("reply", str(message[1]), number) if message[0] == "info" else None

        handler, peers = serve(does, 2)
        peers[0].connection.dataReceived(peers[0].frames.send(Message("go")))
        call = peers[0].reactor.calls.pop(0)
        call.func(*call.args)
        assert handler.refs[1].send("end")
        assert peers[1].messages() == [*map(str, range(600)), "end"]

    def test_published_messages_keep_their_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def handle(data: Any, ref: Any) -> Any:
            if data == "go":
                other = rooms.handler.refs[1]
                assert other.info("1")
                assert other.send("2")
                rooms.publish("a", "3")
                assert other.send("4")
            return ("reply", data, ref) if data == "1" else ("noreply", ref)

        rooms = Rooms(handle)
        peers = [rooms.open("/"), rooms.open("/a")]
        peers[0].text("go")
        assert peers[1].messages() == ["1", "2", "3", "4"]
        # And from then on it is encoded once for all again.
        encoded: list[Any] = []
        encode = type(FRAMES).encode
        monkeypatch.setattr(type(FRAMES), "encode", lambda self, data: encoded.append(data) or encode(self, data))  # type: ignore[func-returns-value]
        rooms.publish("a", "5")
        assert peers[1].messages() == ["5"]
        assert encoded == ["5"]

    def test_a_handler_that_informs_itself_forever_still_hears_its_peer(self) -> None:
        def does(handler: Handler, message: Any, number: int) -> Any:
            if message[0] == "info" or message == ("text", "begin"):
                handler.refs[0].info("next")
            return ("reply", message[1], number) if message[0] == "text" else None

        handler, [peer] = serve(does, 1)

        def turns() -> None:
            for _ in range(6):
                calls, peer.reactor.calls = peer.reactor.calls, []
                for call in calls:
                    call.func(*call.args)

        for text in ("begin", "go on", "and on"):
            peer.connection.dataReceived(peer.frames.send(Message(text)))
            turns()
        peer.connection.dataReceived(peer.frames.send(CloseConnection(1000)))
        turns()
        peer.frames.receive_data(peer.transport.take() or b"".join(peer.transport.writes))
        said = [event.data for event in peer.frames.events() if isinstance(event, TextMessage)]
        assert said == ["begin", "go on", "and on"]
        assert ("close", (1000, "")) in [message for _, message in handler.seen]

    def test_actions_of_one_sender_keep_their_order(self) -> None:
        """As if each were done at once: what an info brings, what is sent, and the end."""

        def does(handler: Handler, message: Any, number: int) -> Any:
            other = handler.refs[1]
            if message == ("text", "go"):
                asked = [
                    other.send("1"),
                    other.info("2"),
                    other.send("3"),
                    other.ping(b"4"),
                    other.info("5"),
                    other.close(4000, "6"),
                ]
                assert all(asked)
            return ("reply", message[1], number) if message[0] == "info" else None

        _, peers = serve(does, 2)
        peers[0].text("go")
        assert peers[1].messages() == ["1", "2", "3", ("ping", b"4"), "5", ("close", 4000, "6")]

    @pytest.mark.parametrize("deflated", [False, True])
    def test_messages_keep_their_order_while_an_info_before_them_is_awaited(self, deflated: bool) -> None:
        def handle(data: Any, ref: Any) -> Any:
            return waiting.addCallback(lambda _: ("reply", data, ref)) if data == "info" else ("noreply", ref)

        waiting: Deferred[None] = Deferred()
        rooms = Rooms(handle, websocket_options={"compress": True})
        peer = rooms.open_deflated("/a", CONTEXT) if deflated else rooms.open("/a")
        [ref] = rooms.handler.refs
        assert ref.info("info")
        assert ref.send("1")
        peer.turn()
        rooms.publish("a", "2")
        assert ref.send("3")
        assert peer.messages() == ["1", "2", "3"]
        waiting.callback(None)
        assert peer.messages() == ["info"]

    def test_infos_come_before_a_message_of_the_same_turn(self) -> None:
        handler, [peer] = serve(lambda handler, message, number: None, 1)
        handler.refs[0].info("first")
        peer.connection.dataReceived(peer.frames.send(Message("second")))
        peer.turn()
        assert [message for _, message in handler.seen] == [("info", "first"), ("text", "second")]

    def test_input_behind_infos_is_bounded(self) -> None:
        def does(handler: Handler, message: Any, number: int) -> None:
            if message == ("text", "go"):
                other = handler.refs[1]
                other.info("first")
                while other.send("x" * 100_000):
                    sent.append(True)
                refused.append(other.close())

        sent: list[bool] = []
        refused: list[bool] = []
        _, peers = serve(does, 2)
        peers[0].text("go")
        assert 5 < len(sent) < 12
        assert len(peers[1].messages()) == len(sent) + refused.count(True)


@implementer(IProtocolModule, IProtocolDriver)
class Module:
    """A protocol module of the user's: its code is users' code, too."""

    def __init__(self, context: Any = None, modules: list[Module] | None = None) -> None:
        self.context = context
        self.modules: list[Module] = [] if modules is None else modules
        self.inside = False

    def init(self, options: Any, context: IContext) -> Module:
        self.modules.append(Module(context, self.modules))
        return self.modules[-1]

    def _next(self) -> Any:
        """Ask the one after us, while our code is running."""
        assert not any(module.inside for module in self.modules)
        self.inside = True
        following = self.modules.index(self) + 1
        if following < len(self.modules):
            assert self.modules[following].context.ref.send("on")
        self.inside = False

    def handle_connection_in(self, data: bytes) -> None:
        self._next()

    def handle_action(self, action: str, *args: Any) -> Any:
        if action != "send":
            return REFUSED
        self._next()
        return b"was asked"

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


class TestModules:
    def test_modules_are_asked_when_no_users_code_is_running(self) -> None:
        host = MemoryHost(chain=[Link("module", Module(), None)])
        peers = [host.connect() for _ in range(300)]
        peers[0].send(b"go")
        for _ in range(300):
            peers[0].turn()
        assert [peer.take() for peer in peers[1:]] == [b"was asked"] * 299
        assert not any(peer.gone for peer in peers)

    def test_modules_that_switch_in_circles_end_the_connection(self) -> None:
        class Circle(Module):
            def init(self, options: Any, context: Any) -> Module:
                context.perform(Switch(options))
                return super().init(options, context)

        host = MemoryHost(chain=[Link("a", Circle(), "b"), Link("b", Circle(), "a")])
        assert host.connect().gone
        assert host.idle()

    def test_a_switch_asked_from_within_users_code_happens_after_it(self) -> None:
        """Whoever performs what it is given may be in the middle of anything."""
        inside: list[str] = []

        class Switching(Module):
            def __init__(self, name: str, context: Any = None) -> None:
                super().__init__(context)
                self.name = name

            def init(self, options: Any, context: Any) -> Any:
                assert not inside
                self.modules.append(Switching(self.name, context))
                return self.modules[-1]

            def handle_connection_in(self, data: bytes) -> Any:
                assert not inside
                if data != b"switch the other":
                    return self.name.encode() + b":" + data
                inside.append("inside")
                first.modules[1].context.perform(Switch("b", b"unread "))
                inside.clear()
                return None

            def handle_connection_close(self, reason: str) -> None:
                assert not inside

        first, second = Switching("a"), Switching("b")
        host = MemoryHost(chain=[Link("a", first, None), Link("b", second, None)])
        peers = [host.connect() for _ in range(2)]
        peers[0].connection.dataReceived(b"switch the other")
        # What comes before the turn's end is for the next one, too.
        peers[1].connection.dataReceived(b"more")
        assert peers[1].take() == b"b:unread more"

    def test_modules_hear_of_a_stop_when_no_users_code_is_running(self) -> None:
        class Stopping(Module):
            def handle_connection_in(self, data: bytes) -> None:
                self.inside = True
                host.hub.stop()
                self.inside = False

            def handle_action(self, action: str, *args: Any) -> Any:
                assert not self.inside
                return Close(b"bye")

            def init(self, options: Any, context: IContext) -> Module:
                self.modules.append(Stopping(context))
                return self.modules[-1]

        host = MemoryHost(chain=[Link("stopping", Stopping(), None)])
        peer = host.connect()
        peer.send(b"stop")
        assert peer.take() == b"bye"

    def test_a_module_ends_after_its_own_code_has_returned(self) -> None:
        class Ends(Module):
            closed = 0

            def init(self, options: Any, context: Any) -> Module:
                self.context = context
                return self

            def handle_connection_in(self, data: bytes) -> None:
                self.context.perform([b"bye", Close()])
                assert self.closed == 0
                self.context.perform(b"never")

            def handle_connection_close(self, reason: str) -> None:
                Ends.closed += 1

        peer = MemoryHost(chain=[Link("ends", Ends(), None)]).connect()
        peer.send(b"go")
        assert peer.take() == b"bye"
        peer.leave()
        assert Ends.closed == 1


@without_loop
def test_a_coroutine_is_not_entered_from_another() -> None:
    running: list[int] = []

    class Coroutines(Handler):
        async def handle(self, message: Any, number: int) -> Any:
            assert not running
            running.append(number)
            if message == ("text", "go"):
                self.refs[1].info("news")
            running.clear()
            return ("reply", message[1], number)

    handler = Coroutines(lambda *_: None)
    host = MemoryHost(handler)
    peers = [host.open() for _ in range(2)]
    peers[0].text("go")
    assert [peer.messages() for peer in peers] == [["go"], ["news"]]
