"""Starts the processes of a run, and ends them all, whenever it is interrupted. Knows no server and no load."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

from benchmarks.accounting import descendants

_P = TypeVar("_P", bound="subprocess.Popen[Any]")


class Children:
    """The processes that were started.

    A signal between the start of a process and the assignment to a variable would leave a process that nobody knows.
    So it waits until the process is noted here.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[Any]] = []
        self._starting = False
        self._interrupted = False

    def watch_signals(self) -> None:
        """Let SIGINT and SIGTERM raise a KeyboardInterrupt, but not while a process is being started."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        if not self._starting:
            raise KeyboardInterrupt

    def start(self, make: Callable[[], _P]) -> _P:
        """Start a process.

        :param make: starts and returns it.
        :raises KeyboardInterrupt: when a signal came meanwhile. `end_all` ends the process.
        """
        self._starting = True
        self._interrupted = False
        try:
            process = make()
            self._started.append(process)
        finally:
            self._starting = False
        self._started = [one for one in self._started if one.returncode is None]
        if self._interrupted:
            raise KeyboardInterrupt
        return process

    def end_all(self) -> None:
        """Kill those that still run, with all their descendants, and wait for them."""
        for process in self._started:
            end(process)
        self._started = []


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process, if it still runs, and its descendants, and wait for it."""
    send(process, signal.SIGKILL)
    process.wait()


def send(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    """Send a signal to a process, if it still runs, and to all its descendants."""
    if process.poll() is None:
        for one in descendants(process.pid):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(one, number)


#: Those of this run.
CHILDREN = Children()
