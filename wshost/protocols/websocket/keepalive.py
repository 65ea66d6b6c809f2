"""How long a peer is waited for, and how much it may ask of us: silence, slow messages, pings and pongs.

Knows the time; no states, and no frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from wshost.interfaces import IContext

if TYPE_CHECKING:
    from wshost.protocols.websocket.module import Options
    from wshost.protocols.websocket.reader import FrameReader

#: Pings and pongs a second from one peer, and how many at once, before its connection is failed.
CONTROL_RATE = 100
CONTROL_BURST = 1_000


class Driver(Protocol):
    """Whose peer it is."""

    #: When the peer's last bytes came, by the clock. What every message changes is where it is fastest changed.
    heard_at: float

    @property
    def is_open(self) -> bool:
        """False when the closing handshake has begun: that has a limit of its own."""

    @property
    def is_reading(self) -> bool:
        """False while the peer is not read: then its silence is our doing."""

    def beat(self) -> None:
        """Ping the peer."""

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection."""

    def drop(self, reason: str) -> None:
        """Drop the connection without a word."""


class Patience:
    """Ours with one peer, from the open connection on.

    :param driver: is told when it ends.
    :param frames: knows what has arrived.
    :param options: for `ping_interval`, `ping_timeout` and `message_timeout`.
    """

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_context",
        "_driver",
        "_frames",
        "_options",
        "_seconds",
        "watches_message",
    )

    def __init__(self, driver: Driver, frames: FrameReader, context: IContext, options: Options) -> None:
        self._driver = driver
        self._frames = frames
        self._context = context
        self._options = options
        self._seconds: Callable[[], float] = context.clock.seconds
        self._allowance = float(CONTROL_BURST)
        driver.heard_at = self._allowed_at = self._seconds()
        #: Whether what is arriving is watched; see `watch_message`.
        self.watches_message = False
        if options.ping_interval:
            context.call_later(options.ping_interval, self._look)

    def allow_control(self) -> bool:
        """Take one ping or pong from the peer's allowance; False when it is used up."""
        now = self._seconds()
        self._allowance = min(CONTROL_BURST, self._allowance + (now - self._allowed_at) * CONTROL_RATE)
        self._allowed_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def watch_message(self) -> None:
        """Fail the connection unless what is arriving, a message or a frame, is complete at the timeout.

        What begins to arrive meanwhile is looked at then, and has up to two timeouts.
        """
        self.watches_message = True
        arrived = self._frames.arrived
        self._context.call_later(self._options.message_timeout, lambda: self._check_message(arrived))

    def _check_message(self, arrived: int) -> None:
        self.watches_message = False
        if not self._driver.is_open or not self._frames.inside:
            return
        if self._frames.arrived == arrived and self._driver.is_reading:
            self._driver.fail(1008, "a message took too long")
        else:
            self.watch_message()

    def _look(self) -> None:
        """Ping a peer that was silent for an interval, to see whether it is still there (RFC 6455 §5.5.2)."""
        if not self._driver.is_open:
            return
        now = self._seconds()
        due = self._driver.heard_at + self._options.ping_interval
        if now < due:
            self._context.call_later(due - now, self._look)
        elif self._driver.is_reading and not self._context.blocked:
            self._driver.beat()
            self._context.call_later(self._options.ping_timeout, lambda: self._check_alive(now))
        elif self._context.broken:
            self._driver.drop("the peer has left")
        else:
            # Its silence is our doing, or it is busy with what we have sent. If it has left, it answers with a reset,
            # by which the connection is broken.
            self._driver.heard_at = now
            self._context.call_later(self._options.ping_interval, self._look)
            if not self._context.full:
                self._driver.beat()

    def _check_alive(self, asked_at: float) -> None:
        # Any byte is a sign of life: an upload may leave no room for a pong.
        # And while output waits, the ping may have, too: that it is taken is seen to elsewhere.
        if self._driver.heard_at >= asked_at or not self._driver.is_reading or self._context.blocked:
            self._look()
        elif self._driver.is_open:
            self._driver.drop("the peer is silent and answers no ping")
