"""What surrounds a handler's session in tests: its channel, its handler, an asyncio loop or none."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import IChannel, ISession, Timer
from wshost.request import ConnectionInfo, Headers
from wshost.results import Accept

CONNECTION = ConnectionInfo("127.0.0.1:50000", "example.com", "/", "", Headers())
REF: Any = object()
#: How long the reactor takes to come round, in seconds: a clock never does, while there is anything to do at once.
TURN = 0.001


class _Timer:
    def __init__(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


@implementer(IChannel)
class Channel:
    """Writes down what is asked of it. By `then`, something happens while a method of it is called."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.calls: list[tuple[Any, ...]] = []
        self.failures: list[tuple[str, BaseException | None]] = []
        #: The handler and the kind of each crash.
        self.crashes: list[tuple[str, str]] = []
        self.then: dict[str, Callable[[], object]] = {}
        self._soon: list[Callable[[], None]] = []

    def _called(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        self.then.pop(name, lambda: None)()

    def accept(self, accept: Accept) -> None:
        self._called("accept", accept)

    def reject(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._called("reject", status, body, headers)

    def send(self, data: str | bytes) -> None:
        self._called("send", data)

    def ping(self, data: bytes) -> None:
        self._called("ping", data)

    def pong(self, data: bytes) -> None:
        self._called("pong", data)

    def close(self, code: int | None, reason: str) -> None:
        self._called("close", code, reason)

    def proceed(self) -> None:
        self._called("proceed")

    def seconds(self) -> float:
        return self.clock.seconds()

    def unsubscribe_all(self) -> None:
        self._called("unsubscribe_all")

    def start_over(self) -> None:
        self._called("start_over")

    def use_policy(self, policy: str) -> None:
        self._called("use_policy", policy)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return _Timer(self.clock.callLater(max(seconds, TURN), call))

    def call_soon(self, call: Callable[[], None]) -> None:
        self._soon.append(call)

    def turn(self) -> None:
        """End the reactor's turn."""
        calls, self._soon = self._soon, []
        for call in calls:
            call()

    def count_crash(self, handler: str, kind: str) -> None:
        self.crashes.append((handler, kind))

    def log_failure(self, what: str) -> None:
        self.failures.append((what, sys.exception()))

    def take(self) -> list[tuple[Any, ...]]:
        """What was asked since the last time, and at the end of this turn and the next two."""
        for _ in range(3):
            self.turn()
        calls, self.calls = self.calls, []
        return calls


class Handler:
    """Writes down what it sees; does what it is given."""

    def __init__(
        self,
        handle: Callable[[Any, Any], Any] = lambda message, state: ("noreply", state),
        init: Callable[[Mapping[str, Any]], Any] = lambda options: "state",
    ) -> None:
        self.seen: list[tuple[Any, Any]] = []
        self._init = init
        self._handle = handle

    def init(self, options: Mapping[str, Any]) -> Any:
        return self._init(options)

    def handle(self, message: Any, state: Any) -> Any:
        self.seen.append((message, state))
        return self._handle(message, state)


def begin(handler: Any, channel: Channel, **terms: Any) -> ISession:
    """Open a session."""
    session = HandlerAdapter(handler, {}, **terms).session(channel, CONNECTION)
    session.open(REF)
    return session


def open_session(handler: Any, channel: Channel, **terms: Any) -> ISession:
    """Open one whose handler accepts at once."""
    session = begin(handler, channel, **terms)
    assert [name for name, *_ in channel.take()] == ["accept"]
    return session


def without_loop(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test where no asyncio loop runs: under pytest-twisted one does."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(test, *args, **kwargs).result()

    return run


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test as the main task of an asyncio loop of its own."""

    async def limited(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(20):
            await test(*args, **kwargs)

    @functools.wraps(test)
    @without_loop
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(limited(*args, **kwargs))

    return run


async def turns(count: int = 5) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is left unhandled: no failure of a Deferred or a task, no coroutine that was never awaited."""
    # All that is older is not looked at: this takes a fiftieth of the time.
    gc.freeze()
    with caplog.at_level(logging.ERROR, "asyncio"), capturedLogs() as events:
        yield
        gc.collect()
    gc.unfreeze()
    assert [event for event in events if "log_failure" in event] == []
    assert caplog.records == []
