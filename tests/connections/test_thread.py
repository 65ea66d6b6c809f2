from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.memory import MemoryReactor
from wshost.connections.thread import ReactorThread


@pytest.fixture
def reactor() -> MemoryReactor:
    return MemoryReactor()


@pytest.fixture
def thread(reactor: MemoryReactor) -> ReactorThread:
    return ReactorThread(reactor)


def elsewhere(call: Callable[[], Any]) -> Any:
    """Return what a call returns in another thread."""
    results: list[Any] = []
    other = threading.Thread(target=lambda: results.append(call()))
    other.start()
    other.join()
    return results[0]


def test_the_reactors_thread_is_the_one_that_made_it_until_another_enters(thread: ReactorThread) -> None:
    assert thread.is_current()
    assert not elsewhere(thread.is_current)
    elsewhere(thread.enter)
    assert not thread.is_current()


def test_posted_calls_are_made_in_order_in_a_later_turn(thread: ReactorThread, reactor: MemoryReactor) -> None:
    made: list[int] = []
    assert [elsewhere(lambda n=n: thread.post("me", 1, 10, made.append, n)) for n in range(3)] == [True] * 3  # type: ignore[misc]
    assert made == []
    reactor.advance(0)
    assert made == [0, 1, 2]


def test_a_posted_call_is_refused_when_too_much_waits(thread: ReactorThread, reactor: MemoryReactor) -> None:
    made: list[str] = []
    assert [thread.post("me", 6, 10, made.append, "x") for _ in range(3)] == [True, True, False]
    reactor.advance(0)
    assert made == ["x", "x"]
    assert thread.post("me", 6, 10, made.append, "again")


def test_the_bytes_of_each_poster_that_wait_are_counted(thread: ReactorThread, reactor: MemoryReactor) -> None:
    assert thread.post("me", 6, 10, list)
    assert thread.post("me", 3, 10, list)
    assert elsewhere(lambda: (thread.waiting("me"), thread.waiting("you"))) == (9, 0)
    reactor.advance(0)
    assert thread.waiting("me") == 0


def test_each_poster_has_a_limit_of_its_own(thread: ReactorThread) -> None:
    assert thread.post("me", 10, 10, list)
    assert not thread.post("me", 10, 10, list)
    assert thread.post("you", 10, 10, list)


def test_nothing_is_kept_of_posters_whose_calls_were_made(thread: ReactorThread, reactor: MemoryReactor) -> None:
    for whose in "ab":
        thread.post(whose, 10, 10, list)
    assert not thread.idle
    reactor.advance(0)
    assert thread.idle
