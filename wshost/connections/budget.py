"""A limit on the output that waits for all slow peers of a hub together: beyond it, the slowest are dropped.

Knows streams, and not what waits in them. Streams that are not blocked are not counted, and pay nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

#: A stream says that its output has grown when it has grown by this many bytes.
STEP = 16_384
#: One line is logged for the peers that were dropped in so many seconds.
PERIOD = 10.0

_log = Logger("wshost")


class Blocked(Protocol):
    """A stream whose transport is full."""

    #: Since when its peer has taken nothing, in seconds of the schedule.
    idle_since: float

    @property
    def waiting(self) -> int:
        """How many bytes wait, here and in the transport."""

    def abort(self, reason: str) -> None:
        """End at once; pending output is lost."""

    def fail(self, what: str) -> None:
        """End because of the exception being handled. Never raises."""


class OutputBudget:
    """The output of all blocked streams.

    :param most: so many bytes may wait for their peers in all.
    :param seconds: returns the time.
    :param at_end: makes a call at the end of the reactor's turn: streams can't end while they write.
    """

    def __init__(self, most: int, seconds: Callable[[], float], at_end: Callable[[Callable[[], None]], object]) -> None:
        self._most = most
        self._seconds = seconds
        self._at_end = at_end
        self._scheduled = False
        # What each stream has said last; and the sum, at least what waits.
        self._sizes: dict[Blocked, int] = {}
        self._sum = 0
        self._logged_at: float | None = None
        #: How many connections were dropped.
        self.dropped = 0

    def count(self, stream: Blocked, size: int) -> None:
        """Note how much waits in a blocked stream. If it is too much in all, the slowest are dropped in this turn."""
        self._sum += size - self._sizes.get(stream, 0)
        self._sizes[stream] = size
        if self._sum > self._most and not self._scheduled:
            self._scheduled = True
            self._at_end(self._look)

    def discount(self, stream: Blocked) -> None:
        """Forget a stream that is not blocked any more, or is lost."""
        self._sum -= self._sizes.pop(stream, 0)

    def _look(self) -> None:
        """Ask each stream what waits by now, as peers may have taken some. Drop the slowest if it is still too much."""
        self._scheduled = False
        self._sizes = {stream: stream.waiting for stream in self._sizes}
        self._sum = sum(self._sizes.values())
        if self._sum <= self._most:
            return
        now = self._seconds()
        dropped = 0
        # A second more: streams that have become blocked just now differ by their size.
        for stream in sorted(self._sizes, key=lambda one: (1 + now - one.idle_since) * self._sizes[one], reverse=True):
            if self._sum <= self._most:
                break
            self.discount(stream)
            try:
                stream.abort("too much output waited in all, and its peer took little")
            except BaseException:  # any kind of transport may fail, and the others must be dropped all the same
                stream.fail("its abort failed")
            dropped += 1
        self.dropped += dropped
        if self._logged_at is None or now - self._logged_at >= PERIOD:
            self._logged_at = now
            _log.warn(
                "more than {most} bytes of output waited in all: the slowest peers are dropped, {dropped} so far",
                most=self._most,
                dropped=self.dropped,
            )
