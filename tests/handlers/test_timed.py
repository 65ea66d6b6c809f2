from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.handlers.surroundings import Channel, Handler, in_loop, open_session, quiet, turns
from wshost.handlers.timed import BOUNDS, Durations, Timed


class Watch:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def durations() -> Durations:
    return Durations()


def timed(handle: Any, durations: Durations, watch: Watch) -> Any:
    """A handler's handle, timed."""
    return Timed(handle, durations, watch)


def counted(durations: Durations) -> tuple[int, float]:
    return sum(durations.counts), durations.seconds


class TestDurations:
    def test_a_duration_falls_into_the_first_class_that_has_it(self, durations: Durations) -> None:
        for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1], BOUNDS[-1] + 1):
            durations.add(seconds)
        assert durations.counts == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
        assert durations.seconds == pytest.approx(BOUNDS[0] * 2.01 + 2 * BOUNDS[-1] + 1)


class TestHandle:
    def test_an_answer_ends_the_call(self, durations: Durations, watch: Watch) -> None:
        def handle(message: Any, state: Any) -> Any:
            watch.now += 2
            return ("reply", message, state)

        assert timed(handle, durations, watch)("hello", 7) == ("reply", "hello", 7)
        assert counted(durations) == (1, 2)

    def test_an_exception_ends_it_too(self, durations: Durations, watch: Watch) -> None:
        def handle(message: Any, state: Any) -> Any:
            watch.now += 2
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            timed(handle, durations, watch)("hello", 7)
        assert counted(durations) == (1, 2)

    def test_an_answer_that_is_no_tuple_goes_through(self, durations: Durations, watch: Watch) -> None:
        assert timed(lambda message, state: "wrong", durations, watch)("hello", 7) == "wrong"
        assert counted(durations) == (1, 0)

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_deferred_ends_it_when_it_fires(self, durations: Durations, watch: Watch, fails: bool) -> None:
        deferred: Deferred[Any] = Deferred()
        answer = timed(lambda message, state: deferred, durations, watch)("hello", 7)
        assert answer is deferred
        watch.now = 3
        assert counted(durations) == (0, 0)
        seen: list[Any] = []
        answer.addBoth(seen.append)
        result = Failure(LookupError()) if fails else ("noreply", 7)
        deferred.errback(result) if isinstance(result, Failure) else deferred.callback(result)
        assert seen == [result]
        assert counted(durations) == (1, 3)

    @in_loop
    async def test_a_future_ends_it_when_it_is_done(self) -> None:
        durations, watch = Durations(), Watch()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        assert timed(lambda message, state: future, durations, watch)("hello", 7) is future
        watch.now = 3
        future.set_result(("noreply", 7))
        await turns()
        assert counted(durations) == (1, 3)

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_coroutine_ends_it_when_it_returns(self, durations: Durations, watch: Watch, fails: bool) -> None:
        async def handle(message: Any, state: Any) -> Any:
            watch.now += 3
            if fails:
                raise LookupError
            return ("noreply", state)

        answer = timed(handle, durations, watch)("hello", 7)
        assert counted(durations) == (0, 0)
        if fails:
            with pytest.raises(LookupError):
                answer.send(None)
        else:
            with pytest.raises(StopIteration) as ended:
                answer.send(None)
            assert ended.value.value == ("noreply", 7)
        assert counted(durations) == (1, 3)


@pytest.mark.usefixtures(quiet.__name__)
def test_a_session_times_its_handler(durations: Durations) -> None:
    handler, channel = Handler(lambda message, state: ("reply", "hi", state)), Channel()
    session = open_session(handler, channel, durations=durations)
    session.handle_message(("text", "hello"))
    assert ("send", "hi") in channel.take()
    assert handler.seen == [(("text", "hello"), "state")]
    assert counted(durations)[0] == 1
