from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import Reactor
from wshost.commands import foreground, twistd
from wshost.process import ending, reactors, signals


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[bool]:
    """For which kinds of process a reactor was installed: daemons or not."""
    kinds: list[bool] = []
    monkeypatch.setattr(reactors, "choose", lambda *, daemon: kinds.append(daemon))
    monkeypatch.setattr(ending, "interrupt_quietly", lambda _: None)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    return kinds


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What a command changes is changed for the process."""
    threshold = gc.get_threshold()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handled = {number: signal.getsignal(number) for number in signals.HANGUP}
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in handled.items():
        signal.signal(number, handler)


class Beginner:
    """Begins to log."""

    def __init__(self) -> None:
        self.observers: list[Any] = []
        self.redirected = True

    def beginLoggingTo(self, observers: Any, redirectStandardIO: bool = True) -> None:
        self.observers += observers
        self.redirected = redirectStandardIO


@pytest.fixture(autouse=True)
def beginner(monkeypatch: pytest.MonkeyPatch) -> Beginner:
    beginner = Beginner()
    monkeypatch.setattr(twistd, "globalLogBeginner", beginner)
    monkeypatch.setattr(foreground, "globalLogBeginner", beginner)
    return beginner


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> Reactor:
    reactor = Reactor()
    monkeypatch.setattr(reactors, "installed", lambda: reactor)
    return reactor
