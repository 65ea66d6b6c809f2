"""Users' code raises what is no `Exception`: connections close, places are freed, exits end the process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.logger import ILogObserver, LogEvent, capturedLogs, globalLogPublisher
from zope.interface import implementer

from tests.handlers.surroundings import without_loop
from tests.memory import MemoryHost, Peer


class PanicException(BaseException):
    """As PyO3's: no `Exception`."""


class Unspeakable(Exception):
    """Its parts raise when it is formatted."""

    def __str__(self) -> str:
        raise PanicException

    __repr__ = __str__

    def __getattribute__(self, name: str) -> object:
        if name == "__notes__":
            raise PanicException
        return super().__getattribute__(name)


RAISED: list[Callable[[], BaseException]] = [
    lambda: ValueError("on purpose"),
    lambda: PanicException("on purpose"),
    lambda: GeneratorExit("on purpose"),
    lambda: BaseExceptionGroup("several", [PanicException(), ValueError()]),
    lambda: asyncio.CancelledError("on purpose"),
    lambda: StopIteration("on purpose"),
    lambda: RecursionError("on purpose"),
    lambda: KeyboardInterrupt("on purpose"),
    lambda: SystemExit(3),
    Unspeakable,
]


def plainly(make: Callable[[], BaseException]) -> Any:
    raise make()


async def in_a_coroutine(make: Callable[[], BaseException]) -> Any:
    raise make()


def by_a_deferred(make: Callable[[], BaseException]) -> Any:
    return fail(make())


STYLES = [plainly, in_a_coroutine, by_a_deferred]


class Handler:
    """Raises where it is told to: in "init", at "text", "info" or "connection_close"."""

    def __init__(self, where: str, how: Callable[..., Any], make: Callable[[], BaseException]) -> None:
        self.where = where
        self.how = how
        self.make = make
        self.refs: list[Any] = []
        self.ended = 0

    def init(self, options: Any) -> Any:
        self.refs.append(options["worker"])
        return self.how(self.make) if self.where == "init" else None

    def handle(self, message: Any, state: Any) -> Any:
        kind = message if isinstance(message, str) else message[0]
        self.ended += kind == "connection_close"
        if kind == self.where and (kind != "text" or message[1] == "raise"):
            return self.how(self.make)
        if kind == "text" and message[1] == "inform the first":
            self.refs[0].info("news")
        return ("reply", message[1], state) if kind == "text" else ("noreply", state)


class Raising(MemoryHost):
    """A host whose handler raises; notes who asks the process to end."""

    def __init__(self, where: str, how: Callable[..., Any], make: Callable[[], BaseException], **limits: Any) -> None:
        self.left: list[BaseException] = []
        self.handler = Handler(where, how, make)
        super().__init__(self.handler, leave=self.left.append, **limits)

    def is_well(self) -> bool:
        """Whether others are served, places are free and nothing is left behind."""
        self.handler.where = "nowhere"
        peer = self.open()
        peer.text("hello")
        assert peer.messages() == ["hello"]
        peer.leave()
        return self.idle()


@pytest.fixture(autouse=True)
def logged() -> Iterator[Any]:
    with capturedLogs() as events:
        yield events


@pytest.mark.parametrize("how", STYLES)
@pytest.mark.parametrize("make", RAISED)
class TestWhateverIsRaised:
    @without_loop
    def test_whatever_init_raises_gets_500(self, make: Any, how: Any) -> None:
        host = Raising("init", how, make, max_connections=1)
        peer = host.connect()
        assert peer.upgrade().startswith(b"HTTP/1.1 500 ")
        peer.leave()
        assert host.handler.ended == 0
        assert host.is_well()

    @without_loop
    def test_whatever_is_raised_at_a_message_closes_with_1011(self, make: Any, how: Any) -> None:
        host = Raising("text", how, make, max_connections=1)
        peer = host.open()
        peer.text("raise")
        assert [message[:2] for message in peer.messages()] == [("close", 1011)]
        peer.leave()
        assert host.handler.ended == 1
        assert host.is_well()

    @without_loop
    def test_whatever_is_raised_at_an_info_from_a_thread_closes_with_1011(self, make: Any, how: Any) -> None:
        host = Raising("info", how, make)
        peer = host.open()
        assert peer.connection.ask_later(1, "info", "news")
        assert [message[:2] for message in peer.messages()] == [("close", 1011)]
        peer.leave()
        assert host.handler.ended == 1
        assert host.is_well()

    @without_loop
    def test_whatever_is_raised_at_an_info_does_not_end_its_sender(self, make: Any, how: Any) -> None:
        host = Raising("info", how, make)
        peer, sender = host.open(), host.open()
        sender.text("inform the first")
        assert sender.messages() == ["inform the first"]
        assert [message[:2] for message in peer.messages()] == [("close", 1011)]
        sender.text("still there")
        assert sender.messages() == ["still there"]
        sender.leave()
        peer.leave()
        assert host.is_well()

    @without_loop
    def test_whatever_is_raised_at_the_end_frees_the_place_and_lets_the_server_stop(self, make: Any, how: Any) -> None:
        host = Raising("connection_close", how, make, max_connections=1)
        host.open().leave()
        assert host.handler.ended == 1
        assert not host.hub.shared.registry.all()
        peer = host.open()
        stopped = host.hub.stop()
        peer.leave()
        assert stopped.called
        assert host.idle()

    @without_loop
    def test_an_exit_raised_anywhere_ends_the_process(self, make: Any, how: Any) -> None:
        host = Raising("text", how, make)
        host.open().text("raise")
        asks = isinstance(make(), (SystemExit, KeyboardInterrupt))
        assert [type(error) for error in host.left] == ([type(make())] if asks else [])


@implementer(ILogObserver)
class Failing:
    """A log that fails."""

    def __call__(self, event: LogEvent) -> None:
        raise PanicException


class TestALogThatFails:
    """Failing while telling of a failure."""

    @pytest.fixture(autouse=True)
    def failing(self) -> Iterator[None]:
        observer = Failing()
        globalLogPublisher.addObserver(observer)
        yield
        globalLogPublisher.removeObserver(observer)

    @pytest.mark.parametrize("where", ["init", "text", "info", "connection_close"])
    @without_loop
    def test_a_log_observer_that_fails_costs_a_log_line_only(self, where: str) -> None:
        host = Raising(where, plainly, ValueError)
        peer = host.connect()
        assert peer.upgrade().startswith(b"HTTP/1.1 500 " if where == "init" else b"HTTP/1.1 101 ")
        if where != "init":
            peer.connection.ref.info("news")
            peer.text("raise")
        seen = [message[:2] for message in peer.messages()]
        assert seen == ([("close", 1011)] if where in {"text", "info"} else seen)
        peer.leave()
        assert not host.hub.shared.registry.all()


def test_an_exception_that_cannot_be_formatted_is_named(logged: Any) -> None:
    host = Raising("text", plainly, Unspeakable)
    peer = host.open()
    peer.text("raise")
    assert [message[:2] for message in peer.messages()] == [("close", 1011)]
    [event] = [event for event in logged if event.get("what") == "the handler's handle failed"]
    assert "in plainly" in event["traceback"]
    assert event["traceback"].endswith("Unspeakable, which can't be formatted")


def test_an_exception_group_with_an_exit_ends_the_process() -> None:
    inner = SystemExit(3)
    host = Raising("text", plainly, lambda: BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [inner])]))
    host.open().text("raise")
    assert host.left == [inner]


def waiting(gates: list[Deferred[Any]]) -> Callable[..., Any]:
    def wait(make: Callable[[], BaseException]) -> Any:
        gates.append(Deferred())
        return gates[-1].addCallback(lambda _: plainly(make))

    return wait


@pytest.mark.parametrize("make", RAISED)
def test_an_exception_raised_late_closes_with_1011(make: Any) -> None:
    gates: list[Deferred[Any]] = []
    host = Raising("text", waiting(gates), make)
    peer: Peer = host.open()
    peer.text("raise")
    assert peer.messages() == []
    gates[0].callback(None)
    assert [message[:2] for message in peer.messages()] == [("close", 1011)]
    peer.leave()
    assert host.handler.ended == 1
    assert host.is_well()
    assert sys.exception() is None


def deep() -> BaseException:
    error: BaseException = PanicException()
    for _ in range(2_000):
        error = BaseExceptionGroup("one in another", [error])
    return error


class Bottomless(BaseExceptionGroup[BaseException]):
    """Its parts raise when they are looked for."""

    @property
    def exceptions(self) -> Any:
        raise PanicException


class Shapeless(Exception):
    """It does not say what it is, while a test runs that wants it so; others look at all objects that there are."""

    silent = False

    @property
    def __class__(self) -> Any:
        return 1 / 0 if Shapeless.silent else Shapeless

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError


@pytest.fixture
def silent() -> Iterator[None]:
    Shapeless.silent = True
    yield
    Shapeless.silent = False


@pytest.mark.usefixtures(silent.__name__)
@pytest.mark.parametrize("make", [deep, lambda: Bottomless("", [PanicException()]), Shapeless])
@pytest.mark.parametrize("how", STYLES)
@pytest.mark.parametrize("where", ["init", "text", "info"])
@without_loop
def test_an_exception_whose_attributes_raise_closes_with_1011(where: str, how: Any, make: Any) -> None:
    host = Raising(where, how, make)
    other = host.hub
    peer = host.connect()
    head = peer.upgrade()
    if where == "init":
        assert head.startswith(b"HTTP/1.1 500 ")
    else:
        peer.connection.ref.info("news")
        peer.text("raise")
        assert [message[:2] for message in peer.messages()] == [("close", 1011)]
    peer.leave()
    assert not other.shared.registry.all()
    assert host.is_well()


def test_a_handler_whose_attributes_raise_gets_500() -> None:
    class Broken:
        def init(self, options: Any) -> None:
            """Accept."""

        @property
        def handle(self) -> Any:
            raise PanicException

    peer = MemoryHost(Broken()).connect()
    assert peer.upgrade().startswith(b"HTTP/1.1 500 ")
