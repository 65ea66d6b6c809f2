"""The reactor's current turn, and what is done at its end. Knows connections only as something to call.

At the end of a turn, first the calls into users' code are made, then published messages are delivered, and then streams
are flushed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Protocol

from wshost.connections.failures import Failures


class Runner(Protocol):
    """A connection, as what makes calls into its users' code."""

    def run(self, call: Callable[[], None]) -> None:
        """Make the call. Never raises."""


class Flushable(Protocol):
    """A stream, which writes at the end of the turn."""

    def end_turn(self) -> None:
        """Write pending output."""

    def fail(self, what: str) -> None:
        """End the connection because of the exception being handled. Never raises."""


class Turn:
    """The current turn.

    :param soon: makes a call, with its arguments, in the reactor's next turn.
    """

    def __init__(self, soon: Callable[..., object], failures: Failures) -> None:
        self._soon = soon
        self._context = copy_context()
        self._failures = failures
        self._calls: list[tuple[Runner, Callable[[], None]]] = []
        self._deliveries: list[Callable[[], None]] = []
        self._streams: list[Flushable] = []
        # `_end` is scheduled.
        self._scheduled = False

    def call_soon(self, connection: Runner, call: Callable[[], None]) -> None:
        """Call into users' code at the end of the turn, when no other users' code is running.

        This is the only way from users' code into users' code.

        :param connection: makes the call, and ends when it raises.
        """
        self._calls.append((connection, call))
        self._schedule()

    def deliver_at_end(self, deliver: Callable[[], None]) -> None:
        """Call this at the end of the turn, after the calls into users' code and before the streams write."""
        self._deliveries.append(deliver)
        self._schedule()

    def flush_at_end(self, stream: Flushable) -> None:
        """Let a stream write at the end of the turn."""
        self._streams.append(stream)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            # The context of the code that is running now may be some user's, which other connections must not see.
            self._soon(self._context.copy().run, self._end)

    def _end(self) -> None:
        # Reversed, so that `pop` takes the first. If a call ends the process, those that are left stay in order.
        calls, self._calls = self._calls[::-1], []
        try:
            while calls:
                connection, call = calls.pop()
                connection.run(call)
        finally:
            # Calls that were asked for during these calls are made at the end of the next turn.
            self._scheduled = False
            self._calls[:0] = calls[::-1]
            if self._calls:
                self._schedule()
        deliveries, self._deliveries = self._deliveries, []
        for deliver in deliveries:
            try:
                deliver()
            except BaseException:  # the streams must be flushed all the same
                self._failures.log("-", "what was published could not be delivered to all")
        streams, self._streams = self._streams, []
        for stream in streams:
            try:
                stream.end_turn()
            except BaseException:  # the other streams must be flushed all the same
                stream.fail("its output failed")
