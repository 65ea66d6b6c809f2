"""Each call that wshost makes into others' code raises once: the server stays well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs
from wsproto.events import Message
from zope.interface import implementer

from tests.memory import MemoryHost, MemoryTransport, Peer
from wshost.cluster.exchange import Exchange
from wshost.interfaces import IExchange
from wshost.protocols.websocket.autobahn_engine import Engine
from wshost.protocols.websocket.driver import HEARTBEAT, STEPS
from wshost.settings.options import MODULES


class PanicException(BaseException):
    """As PyO3's: no `Exception`."""


class Handler:
    """Echoes, publishes, subscribes, waits; is one of those that are called out to."""

    def __init__(self) -> None:
        self.refs: list[Any] = []
        self.gates: list[Deferred[Any]] = []

    def init(self, options: Any) -> Any:
        self.refs.append(options["worker"])
        options["worker"].subscribe("topic")
        return options["worker"]

    def handle(self, message: Any, state: Any) -> Any:
        match message:
            case ("text", "wait"):
                self.gates.append(Deferred())
                return self.gates[-1]
            case ("text" | "binary", data):
                return ("reply", data, state)
            case ("info", data):
                return ("reply", data, state)
            case ("close", _):
                return ("close", 1000, "", state)
        return ("noreply", state)


@implementer(IExchange)
class Backplane(Exchange):
    """Anybody's."""

    def connect(self, reactor: Any, cluster: Any = None) -> Deferred[None]:
        return succeed(None)


# Without the lane nothing is read to where it belongs.
_LANES = ("receive_into",) if MODULES["websocket"]["fast_lane"].default else ()
#: What wshost calls that is not its own: the handler, the transport, Autobahn, the backplane.
CALLS = [
    (Handler, "init"),
    (Handler, "handle"),
    *((MemoryTransport, name) for name in ("write", "pauseProducing", "resumeProducing", "abortConnection")),
    *((MemoryTransport, name) for name in ("registerProducer", "unregisterProducer", "setTcpNoDelay", "getPeer")),
    *((MemoryTransport, name) for name in ("loseWriteConnection", *_LANES)),
    *((Engine, name) for name in ("step", "feed", "start_close", "answer_close", "fail", "__init__")),
    *((Backplane, name) for name in ("subscribe", "unsubscribe")),
]


class Faults:
    """Lets the call with this number raise."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, number: int, error: BaseException
    ) -> None:
        original = getattr(owner, name)
        self.left = number
        self.happened = False

        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.happened = True
                raise error
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)


def conversations(host: MemoryHost, handler: Handler) -> None:
    """Have everything happen once that may, on three connections, one after the other."""
    talk(
        host,
        lambda peer: peer.text("hello"),
        lambda peer: peer.send(
            peer.frames.send(Message("hel", message_finished=False)) + peer.frames.send(Message("lo"))
        ),
        lambda peer: peer.send(b"".join(peer.frames.send(Message("x")) for _ in range(3 * STEPS))),
        lambda peer: host.hub.topics.publish_locally("topic", "news"),
        lambda peer: handler.refs[-1].info("info"),
        lambda peer: peer.text("wait"),
        lambda peer: peer.text("held"),
        lambda peer: handler.gates.pop().callback(("reply", "late", None)),
        partial(in_pieces, "x" * 100_000),
        lambda peer: handler.refs[-1].subscribe("another"),
        lambda peer: handler.refs[-1].unsubscribe("another"),
        lambda peer: handler.refs[-1].close(4000, "bye"),
        lambda peer: peer.events(),
        lambda peer: peer.half_close(),
    )
    # A Close behind a fragment, so that the engine answers it; and an end that the peer does not await.
    talk(
        host,
        lambda peer: peer.send(
            peer.frames.send(Message("hel", message_finished=False)) + client_frame(0x88, b"\x03\xe8")
        ),
        lambda peer: peer.turn(30),
    )
    # What no peer may send.
    talk(host, lambda peer: peer.send(client_frame(0x83, b"")), lambda peer: peer.turn(30))


def talk(host: MemoryHost, *steps: Callable[[Peer], object]) -> None:
    peer = quietly(partial(host.connect, buffered=True))
    if peer is not None:
        for step in (Peer.upgrade, *steps):
            quietly(partial(step, peer))
        quietly(partial(peer.transport.lose, ConnectionError()))
        peer.turn()


def in_pieces(text: str, peer: Peer) -> None:
    data = peer.frames.send(Message(text))
    for at in range(0, len(data), 20_000):
        peer.send(data[at : at + 20_000])


def client_frame(first: int, payload: bytes) -> bytes:
    return bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def quietly(call: Callable[[], Any]) -> Any:
    """Do it; what the transport's part of the test lets through, Twisted or the loop would log."""
    try:
        return call()
    except (PanicException, Exception):
        return None


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    with capturedLogs():
        yield


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("owner", "name"), CALLS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_any_raising_callback_ends_its_own_connection_only(
    owner: type, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Handler()
    backplane = Backplane()
    host = MemoryHost(
        handler,
        websocket_options={"ping_interval": 5.0, "ping_timeout": 5.0},
        exchange=backplane,
        max_connections=2,
        stall_timeout=2.0,
        close_timeout=1.0,
    )
    other = host.open()
    with monkeypatch.context() as patch:
        faults = Faults(patch, owner, name, number, PanicException())
        conversations(host, handler)
        # Whoever it was, is gone by now or silent; so that the place is free, its socket is, too.
        for connection in host.hub.shared.registry.all():
            if connection is not other.connection:
                quietly(lambda one=connection: one.stream.transport.lose(ConnectionError()))  # type: ignore[misc]
    assert faults.happened or number > 1
    for _ in range(3):
        other.turn()
    assert host.hub.shared.registry.all() in ([other.connection], [])
    # The server is well: a new connection is admitted, hears, speaks, is told, and is watched by the clock.
    peer = host.open()
    peer.text("hello")
    assert peer.messages() == ["hello"]
    handler.refs[-1].info("info")
    host.hub.topics.publish_locally("topic", "news")
    assert sorted(peer.messages()) == ["info", "news"]
    peer.turn(5)
    assert peer.messages() == [("ping", HEARTBEAT)]
    peer.turn(5)
    assert peer.gone
    if not other.gone:
        other.leave()
    assert host.idle()


@pytest.mark.parametrize("error", [PanicException(), GeneratorExit(), KeyboardInterrupt(), SystemExit(3)])
def test_a_burst_that_ends_in_an_exception_leaves_the_timers_running(error: BaseException) -> None:
    """Where messages are left for a later turn, it is a timer in which the handler raises."""

    class Bursting(Handler):
        def handle(self, message: Any, state: Any) -> Any:
            if message == ("text", "raise"):
                raise error
            return super().handle(message, state)

    host = MemoryHost(Bursting(), websocket_options={"ping_interval": 5.0})
    peer: Peer = host.open()
    other = host.open()
    peer.send(b"".join(peer.frames.send(Message(text)) for text in ["x"] * (STEPS + 10) + ["raise"]))
    peer.turn()
    assert [message[:2] for message in peer.messages() if message != "x"] == [("close", 1011)]
    other.turn(5)
    assert other.messages() == [("ping", HEARTBEAT)]
