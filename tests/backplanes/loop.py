"""An event loop that calls what is ready when a test says so. The sockets are real, and never waited for."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any


class Loop:
    """What an event loop of asyncio has, of which backplanes make use."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], Any]] = {}
        self.writers: dict[int, Callable[[], Any]] = {}
        self.soon: list[Callable[[], Any]] = []

    def add_reader(self, descriptor: int, call: Callable[[], Any]) -> None:
        self.readers[descriptor] = call

    def remove_reader(self, descriptor: int) -> bool:
        return self.readers.pop(descriptor, None) is not None

    def add_writer(self, descriptor: int, call: Callable[[], Any]) -> None:
        self.writers[descriptor] = call

    def remove_writer(self, descriptor: int) -> bool:
        return self.writers.pop(descriptor, None) is not None

    def call_soon(self, call: Callable[[], Any]) -> None:
        self.soon.append(call)

    def turn(self) -> bool:
        """Make the calls that are due, once; return whether there were any."""
        calls, self.soon = self.soon, []
        readable, writable, _ = select.select(list(self.readers), list(self.writers), [], 0)
        for call in calls:
            call()
        for descriptor in readable:
            # An earlier call may have closed it.
            if descriptor in self.readers:
                self.readers[descriptor]()
        for descriptor in writable:
            if descriptor in self.writers:
                self.writers[descriptor]()
        return bool(calls or readable or writable)

    def run(self) -> None:
        """Make calls until none is due."""
        while self.turn():
            pass
