from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
import twisted.internet
import uvloop
from twisted.application.reactors import installReactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from wshost.process import ending, reactors


def close(reactor: Any) -> None:
    for reader in reactor.getReaders():
        reactor.removeReader(reader)
        reader.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[asyncio.AbstractEventLoop]]:
    """No reactor is installed yet, and no event loop set. What a test installs is closed, and the tests' own put back.

    :returns: the loops that are set.
    """
    loops: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr(asyncio, "set_event_loop", loops.append)
    monkeypatch.delitem(sys.modules, "twisted.internet.reactor")
    monkeypatch.delattr(twisted.internet, "reactor")
    yield loops
    if "twisted.internet.reactor" in sys.modules:
        close(sys.modules["twisted.internet.reactor"])
    for loop in loops:
        loop.close()


@pytest.fixture
def epoll() -> Iterator[EPollReactor]:
    """A reactor that is not the installed one."""
    reactor = EPollReactor()
    yield reactor
    close(reactor)


class TestInstall:
    """`twistd --reactor uvloop`"""

    def test_install_makes_our_reactor_on_uvloop(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        reactors.install()
        assert isinstance(reactors.installed(), reactors.AsyncioReactor)
        assert [type(loop) for loop in loops] == [uvloop.Loop]

    def test_twisted_finds_our_reactor_as_uvloop(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        installReactor("uvloop")
        assert [type(loop) for loop in loops] == [uvloop.Loop]

    def test_a_missing_uvloop_is_an_import_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        with pytest.raises(ImportError, match="uvloop"):
            reactors.install()


class Recorder(Protocol):
    """Keeps what its transport tells."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.received = b""
        self.lost: asyncio.Future[Failure] = loop.create_future()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.set_result(reason)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize(("unread", "expected"), [(b"never read", ConnectionLost), (b"", ConnectionDone)])
def test_a_reset_right_behind_data_is_noticed_as_an_end_is(
    new_loop: Callable[[], asyncio.AbstractEventLoop], unread: bytes, expected: type[Exception]
) -> None:
    """A Unix socket that is closed with unread input resets its peer, as TCP does."""

    def run() -> tuple[bytes, Failure]:
        loop = new_loop()
        reactor = reactors.AsyncioReactor(loop)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        recorder = Recorder(loop)
        connection: Any = Connection(ours, recorder, reactor)
        connection.protocol = recorder
        ours.send(unread)
        theirs.send(b"data")
        theirs.close()
        connection.startReading()
        reason = loop.run_until_complete(asyncio.wait_for(recorder.lost, 10))
        close(reactor)
        loop.close()
        return recorder.received, reason

    # The tests themselves run in a loop, and a thread has one at most.
    with ThreadPoolExecutor(1) as thread:
        received, reason = thread.submit(run).result()
    assert received == b"data"
    assert reason.check(expected)


class TestSoon:
    def test_a_call_is_made_in_the_loops_next_turn_without_a_timer(self) -> None:
        called: list[Any] = []

        def run() -> None:
            loop = asyncio.new_event_loop()
            reactor = reactors.AsyncioReactor(loop)
            soon = reactors.soon(reactor)

            def call() -> None:
                assert soon is not None
                soon(lambda: called.append("next turn"))
                called.append(reactor.getDelayedCalls())
                loop.call_soon(loop.stop)

            loop.call_soon(call)
            loop.run_forever()
            close(reactor)
            loop.close()

        # The tests themselves run in a loop, and a thread has one at most.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run).result()
        assert called == [[], "next turn"]

    def test_other_reactors_have_timers_only(self, epoll: EPollReactor) -> None:
        assert reactors.soon(epoll) is None


def test_a_reactor_on_asyncio_has_its_event_loop() -> None:
    loop = asyncio.new_event_loop()
    assert reactors.event_loop(AsyncioSelectorReactor(loop)) is loop
    loop.close()


class TestFromThreads:
    def test_a_call_is_made_in_the_loops_next_turn_without_a_timer(self) -> None:
        called: list[Any] = []

        def run() -> None:
            loop = asyncio.new_event_loop()
            reactor = reactors.AsyncioReactor(loop)
            loop.call_soon(loop.stop)
            reactors.from_threads(reactor)(lambda: called.append(reactor.getDelayedCalls()))
            loop.run_forever()
            close(reactor)
            loop.close()

        # The tests themselves run in a loop, and a thread has one at most.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run).result()
        assert called == [[]]

    def test_other_reactors_have_a_method_for_it(self, epoll: EPollReactor) -> None:
        assert reactors.from_threads(epoll) == epoll.callFromThread


def test_every_reactor_runs_in_a_function_that_is_known(epoll: EPollReactor) -> None:
    """So the frames below it are those of a turn."""
    seen: list[bool] = []

    def look() -> None:
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code not in reactors.LOOPS:
            frame = frame.f_back
        seen.append(frame is not None)

    def run() -> None:
        loops = [asyncio.new_event_loop() for _ in range(2)]
        asyncios = [reactors.AsyncioReactor(loops[0]), twisteds_reactor(loops[1])]
        for reactor in (*asyncios, epoll):
            reactor.callLater(0, look)
            reactor.callLater(0, reactor.stop)
            reactor.run(installSignalHandlers=False)
        for reactor, loop in zip(asyncios, loops, strict=True):
            close(reactor)
            loop.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result(20)
    assert seen == [True] * 3


def twisteds_reactor(loop: asyncio.AbstractEventLoop) -> AsyncioSelectorReactor:
    """One that Twisted has made, and that we have told what to do when a task exits."""
    reactor = AsyncioSelectorReactor(loop)
    reactors.let_tasks_exit(reactor)
    return reactor


def test_only_asyncios_own_reactor_has_to_be_told_of_tasks_that_exit(epoll: EPollReactor) -> None:
    loop = asyncio.new_event_loop()
    ours = reactors.AsyncioReactor(loop)
    for reactor in (ours, epoll):
        run = reactor.run
        reactors.let_tasks_exit(reactor)
        assert reactor.run == run
    close(ours)
    loop.close()


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
class TestATaskThatExits:
    """asyncio lets SystemExit and KeyboardInterrupt out of the loop, and forgets what else the loop was doing."""

    def run(
        self,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        begin: Callable[[Any], object],
        prepare: Any = None,
        new_reactor: Callable[[asyncio.AbstractEventLoop], Any] = reactors.AsyncioReactor,
    ) -> tuple[list[BaseException], Any]:
        """Run a reactor on this loop that begins by this call.

        :returns: what was left for, and the reactor when it has ended.
        """
        left: list[BaseException] = []

        def leave(reactor: Any, error: BaseException) -> None:
            left.append(error)
            if len(left) == 1:
                reactor.callLater(0, reactor.stop)

        def run() -> Any:
            loop = new_loop()
            asyncio.set_event_loop(loop)
            reactor = new_reactor(loop)
            if prepare is not None:
                prepare(loop)
            reactor.callWhenRunning(begin, reactor)
            reactor.run(installSignalHandlers=False)
            close(reactor)
            loop.close()
            return reactor

        # The tests themselves run in a loop, and a thread has one at most.
        with ThreadPoolExecutor(1) as thread, pytest.MonkeyPatch.context() as patch:
            patch.setattr(ending, "leave", leave)
            return left, thread.submit(run).result(20)

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
    @pytest.mark.parametrize("new_reactor", [reactors.AsyncioReactor, twisteds_reactor])
    def test_a_task_that_exits_drains_the_server_in_the_same_loop(
        self,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        new_reactor: Callable[[asyncio.AbstractEventLoop], Any],
        error: BaseException,
    ) -> None:
        events: list[str] = []

        async def leave() -> None:
            raise error

        def begin(reactor: Any) -> None:
            reactor.addSystemEventTrigger("before", "shutdown", events.append, "drained")
            asyncio.get_event_loop().create_task(leave())
            asyncio.get_event_loop().call_soon(events.append, "next in turn")

        left, reactor = self.run(new_loop, begin, new_reactor=new_reactor)
        assert left == [error]
        assert events == ["next in turn", "drained"]
        assert not reactor.running

    def test_an_exit_when_the_loop_was_stopped_already_ends_the_reactor(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """A loop that is left has forgotten that it was told to stop."""
        error = SystemExit(4)

        def begin(reactor: Any) -> None:
            def end() -> None:
                reactor.crash()
                raise error

            asyncio.get_event_loop().call_soon(end)

        left, reactor = self.run(new_loop, begin)
        assert left == [error]
        assert not reactor.running

    @pytest.mark.parametrize(
        ("error", "is_task", "expected"),
        [
            (SystemExit(3), True, False),
            (KeyboardInterrupt(), True, False),
            (SystemExit(3), False, True),
            (ValueError(), True, True),
            (None, True, True),
        ],
        ids=repr,
    )
    def test_only_a_tasks_exit_is_not_logged_by_asyncio(
        self,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
        error: BaseException | None,
        is_task: bool,
        expected: bool,
    ) -> None:
        """asyncio says "Task exception was never retrieved", though all the world knows of it."""
        logged: list[Any] = []

        def begin(reactor: Any) -> None:
            loop = asyncio.get_event_loop()
            context: dict[str, Any] = {"message": "Task exception was never retrieved"}
            context |= {"exception": error} if error is not None else {}
            context |= {"future": loop.create_task(asyncio.sleep(0))} if is_task else {}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(logging.getLogger("asyncio"), "error", lambda *args, **_: logged.append(args))
                loop.call_exception_handler(context)
            reactor.callLater(0.01, reactor.stop)

        self.run(new_loop, begin)
        assert bool(logged) is expected

    def test_an_exception_handler_of_the_users_is_left_alone(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        theirs: list[Any] = []

        def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            theirs.append(context["message"])

        def begin(reactor: Any) -> None:
            asyncio.get_event_loop().call_exception_handler({"message": "theirs"})
            reactor.callLater(0, reactor.stop)

        self.run(new_loop, begin, lambda loop: loop.set_exception_handler(handler))
        assert theirs == ["theirs"]


class TestName:
    def test_a_reactor_on_asyncio_is_named_after_its_loop(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        reactors.choose(daemon=False)
        assert reactors.name(reactors.installed()) == "uvloop"

    def test_a_reactor_on_asyncios_own_loop_is_named_asyncio(
        self, monkeypatch: pytest.MonkeyPatch, loops: list[asyncio.AbstractEventLoop]
    ) -> None:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        reactors.choose(daemon=False)
        assert reactors.name(reactors.installed()) == "asyncio"

    def test_another_reactor_has_the_name_by_which_twistd_knows_it(self, epoll: EPollReactor) -> None:
        assert reactors.name(epoll) == "epoll"

    def test_a_reactor_with_a_plain_name_is_a_reactor(self) -> None:
        assert reactors.name(type("Reactor", (), {})()) == "reactor"


@pytest.mark.usefixtures("loops")
class TestChoose:
    @pytest.mark.parametrize("daemon", [False, True])
    def test_asyncio_on_uvloop_is_chosen(self, loops: list[asyncio.AbstractEventLoop], daemon: bool) -> None:
        reactors.choose(daemon=daemon)
        assert isinstance(reactors.installed(), AsyncioSelectorReactor)
        assert [type(loop) for loop in loops] == [uvloop.Loop]

    def test_asyncios_own_loop_is_chosen_where_uvloop_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, loops: list[asyncio.AbstractEventLoop]
    ) -> None:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        reactors.choose(daemon=False)
        assert isinstance(reactors.installed(), AsyncioSelectorReactor)
        [loop] = loops
        assert isinstance(loop, asyncio.SelectorEventLoop)

    def test_asyncios_own_loop_can_be_asked_for(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        reactors.choose(daemon=False, loop="asyncio")
        [loop] = loops
        assert isinstance(loop, asyncio.SelectorEventLoop)

    @pytest.mark.parametrize(("platform", "daemon"), [("win32", False), ("darwin", True)])
    def test_twisteds_default_is_chosen_on_windows_and_in_daemons_elsewhere_than_on_linux(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, daemon: bool
    ) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        reactors.choose(daemon=daemon)
        assert isinstance(reactors.installed(), EPollReactor)

    def test_asyncio_is_chosen_in_the_foreground_on_macos(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        reactors.choose(daemon=False)
        assert isinstance(reactors.installed(), AsyncioSelectorReactor)

    def test_the_reactor_that_the_user_has_chosen_stays(
        self, monkeypatch: pytest.MonkeyPatch, epoll: EPollReactor
    ) -> None:
        monkeypatch.setitem(sys.modules, "twisted.internet.reactor", epoll)
        monkeypatch.setattr(twisted.internet, "reactor", epoll, raising=False)
        reactors.choose(daemon=False)
        assert reactors.installed() is epoll

    def test_the_reactors_clock_only_goes_forward(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reactors.choose(daemon=False)
        before = reactors.installed().seconds()
        monkeypatch.setattr(time, "time", lambda: 0.0)
        assert 0.0 <= reactors.installed().seconds() - before < 60


class TestMonotonicTime:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The time of day, and since the machine started."""
        now = {"time": 1_800_000_000.0, "monotonic": 5_000.0}
        monkeypatch.setattr(time, "time", lambda: now["time"])
        monkeypatch.setattr(time, "monotonic", lambda: now["monotonic"])
        return now

    def test_the_reactors_time_starts_at_the_time_of_day(self, epoll: EPollReactor, now: dict[str, float]) -> None:
        reactors.use_monotonic_time(epoll)
        now["time"] += 10
        now["monotonic"] += 10
        assert epoll.seconds() == 1_800_000_010.0

    @pytest.mark.parametrize("jump", [-86_400, 86_400])
    def test_timers_are_not_moved_when_somebody_sets_the_clock(
        self, epoll: EPollReactor, now: dict[str, float], jump: float
    ) -> None:
        """Twisted's issue 2424."""
        reactors.use_monotonic_time(epoll)
        calls: list[str] = []
        epoll.callLater(5, calls.append, "called")
        now["time"] += jump
        epoll.runUntilCurrent()
        assert (calls, epoll.timeout()) == ([], 5)
        now["monotonic"] += 5
        epoll.runUntilCurrent()
        assert calls == ["called"]

    def test_calls_that_are_scheduled_already_keep_their_time(self, epoll: EPollReactor, now: dict[str, float]) -> None:
        epoll.seconds = time.time
        call = epoll.callLater(5, lambda: None)
        reactors.use_monotonic_time(epoll)
        epoll.runUntilCurrent()
        assert (call.active(), epoll.timeout()) == (True, 5)
        call.cancel()
