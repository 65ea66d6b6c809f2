"""Limits how long a peer may be silent or take for one message, and how many pings and pongs it may send.

Knows the time. Knows no states, and no frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wshost.interfaces import IContext

#: One peer may send this many pings and pongs a second, and this many at once, before the connection is failed.
CONTROL_RATE = 100
CONTROL_BURST = 1_000


class Driver(Protocol):
    """The connection, as the limits here see it."""

    #: When the peer's last bytes arrived, by the clock. It is kept on the driver, as every read updates it.
    heard_at: float

    @property
    def is_open(self) -> bool:
        """False once the closing handshake has begun, which has a deadline of its own."""

    def ping_peer(self) -> None:
        """Send a heartbeat ping, which handlers do not see."""

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection."""

    def drop(self, reason: str) -> None:
        """Abort the connection without a Close."""


class Incoming(Protocol):
    """The reader of the peer's frames, as the limits here see it."""

    @property
    def inside(self) -> bool:
        """True in the middle of a message or a frame."""

    @property
    def arrived(self) -> int:
        """How many messages, and control frames between messages, have arrived."""


class Keepalive:
    """Pings a silent peer, and drops it when it stays silent (RFC 6455 §5.5.2).

    :param interval: seconds of silence before a ping.
    :param timeout: seconds that the peer has to send something after a ping.
    """

    __slots__ = ("_context", "_driver", "_interval", "_seconds", "_timeout")

    def __init__(self, driver: Driver, context: IContext, interval: float, timeout: float) -> None:
        self._driver = driver
        self._context = context
        self._interval = interval
        self._timeout = timeout
        self._seconds: Callable[[], float] = context.clock.seconds
        context.call_later(interval, self._check_silence)

    def _check_silence(self) -> None:
        if not self._driver.is_open:
            return
        now = self._seconds()
        due = self._driver.heard_at + self._interval
        if now < due:
            self._context.call_later(due - now, self._check_silence)
        elif self._context.reading and not self._context.blocked:
            self._driver.ping_peer()
            self._context.call_later(self._timeout, lambda: self._check_alive(now))
        elif self._context.reset_by_peer:
            self._driver.drop("the peer has left")
        else:
            # Reading is paused, or output waits, so silence means nothing. If the peer has left, a ping gets a reset.
            self._driver.heard_at = now
            self._context.call_later(self._interval, self._check_silence)
            if not self._context.output_full:
                self._driver.ping_peer()

    def _check_alive(self, asked_at: float) -> None:
        # Any byte is a sign of life: an upload may leave no room for a pong. While output waits, the ping may wait,
        # too; `connections/stream.py` checks that the peer takes its output.
        if self._driver.heard_at >= asked_at or not self._context.reading or self._context.blocked:
            self._check_silence()
        elif self._driver.is_open:
            self._driver.drop("the peer is silent and answers no ping")


class MessageDeadline:
    """Fails the connection when a message, or a frame, takes too long to arrive.

    A message that begins while this deadline runs gets a deadline of its own when this one ends. So it has up to two
    timeouts.

    :param timeout: in seconds.
    """

    __slots__ = ("_context", "_driver", "_incoming", "_timeout", "running")

    def __init__(self, driver: Driver, incoming: Incoming, context: IContext, timeout: float) -> None:
        self._driver = driver
        self._incoming = incoming
        self._context = context
        self._timeout = timeout
        #: Whether it has started and not ended.
        self.running = False

    def start(self) -> None:
        """Start the deadline: a message or frame has begun to arrive."""
        self.running = True
        arrived = self._incoming.arrived
        self._context.call_later(self._timeout, lambda: self._check(arrived))

    def _check(self, arrived: int) -> None:
        self.running = False
        if not self._driver.is_open or not self._incoming.inside:
            return
        if self._incoming.arrived == arrived and self._context.reading:
            self._driver.fail(1008, "a message took too long")
        else:
            self.start()


class ControlRate:
    """Counts how many more pings and pongs a peer may send.

    :param seconds: returns the time.
    """

    __slots__ = ("_allowance", "_seconds", "_since")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._since = seconds()
        self._allowance = float(CONTROL_BURST)

    def take(self) -> bool:
        """Take one ping or pong from the allowance; False when it is used up."""
        now = self._seconds()
        self._allowance = min(CONTROL_BURST, self._allowance + (now - self._since) * CONTROL_RATE)
        self._since = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
