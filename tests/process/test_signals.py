from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from wshost.process import signals


class Reactor:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def callFromThread(self, call: Any, *args: Any) -> None:
        self.asked.append((call, args))


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.HANGUP}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_reactor_is_asked_to_make_the_call_with_the_signal() -> None:
    reactor = Reactor()
    signals.call_at(signals.HANGUP, reactor, print)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGHUP)
    assert reactor.asked == [(print, (signal.SIGUSR1,)), (print, (signal.SIGHUP,))]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_further_call_is_made_after_the_earlier_one(earlier: bool) -> None:
    reactor = Reactor()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if earlier:
        signals.call_at(signals.HANGUP, reactor, print)
    signals.call_after(signals.RELOAD, reactor, repr)
    os.kill(os.getpid(), signal.SIGHUP)
    assert [call for call, _ in reactor.asked] == [*([print] if earlier else []), repr]


@pytest.mark.parametrize("call", [signals.call_at, signals.call_after])
def test_only_the_main_thread_sets_handlers(call: Any) -> None:
    before = [signal.getsignal(number) for number in signals.HANGUP]
    thread = Thread(target=call, args=(signals.HANGUP, Reactor(), print))
    thread.start()
    thread.join()
    assert [signal.getsignal(number) for number in signals.HANGUP] == before
