"""A WebSocket connection whose peer may send only so many messages and bytes a second. Knows no frames.

`driver.py` has all that holds without such a limit, and pays nothing for this.
"""

from __future__ import annotations

from collections.abc import Callable

from wshost.interfaces import IContext, Timer
from wshost.protocols.websocket.driver import STEPS, State, WebSocket
from wshost.protocols.websocket.options import BURST, MAX_PAUSED, Options
from wshost.results import Results

#: A pause takes this many seconds at least: what is left out then is taken at once after it.
PAUSE = 0.05
#: The peer has kept to the rate if nothing of it comes for this many seconds after a pause.
QUIET = 0.1
# The rounding error of tokens.
_ROUNDING = 1e-6


class Bucket:
    """The tokens of one peer: it may save up those of `BURST` seconds, and may be in debt.

    :param rate: tokens a second.
    :param seconds: returns the time.
    """

    def __init__(self, rate: int, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._seconds = seconds
        self._most = float(BURST * rate)
        self._tokens = self._most
        self._since = seconds()

    def left(self) -> float:
        """Return how many tokens there are; less than 0 for a debt."""
        now = self._seconds()
        # Twisted's own reactors have the machine's clock, which may be set back.
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._since) * self._rate)
        self._since = now
        return self._tokens

    def charge(self, tokens: int) -> None:
        """Take tokens, whether there are so many or not."""
        self._tokens = self.left() - tokens

    def wait(self, least: int) -> float:
        """Return after how many seconds there are so many tokens."""
        missing = least - self.left()
        return missing / self._rate if missing > _ROUNDING else 0.0


class LimitedWebSocket(WebSocket):
    """A driver that pauses reading while its peer is over a rate, and fails the connection of one that stays over it.

    Pings and pongs count as messages. Bytes count as they are read, before decompression.
    """

    def __init__(self, options: Options, context: IContext) -> None:
        super().__init__(options, context)
        rate = options.message_rate
        self._messages = Bucket(rate, self._seconds) if rate else None
        self._bytes = Bucket(options.byte_rate, self._seconds) if options.byte_rate else None
        # The end of the current pause; the time at which the last one ended; and how long all have been since the peer
        # last kept to the rate, in seconds.
        self._pause: Timer | None = None
        self._paused_at = 0.0
        self._paused = 0.0

    def handle_connection_in(self, data: bytes) -> Results:
        self._count_bytes(len(data))
        return super().handle_connection_in(data)

    def handle_buffer_in(self, size: int) -> Results:
        self._count_bytes(size)
        return super().handle_buffer_in(size)

    def _count_bytes(self, size: int) -> None:
        if self._pause is None and self._seconds() - self._paused_at > QUIET:
            self._paused = 0.0
        if self._bytes is not None:
            self._bytes.charge(size)

    def on_message(self, message: tuple[str, str | bytes], size: int) -> None:
        self._count_message()
        super().on_message(message, size)

    def on_ping(self, payload: bytes) -> None:
        self._count_message()
        super().on_ping(payload)

    def on_pong(self, payload: bytes) -> None:
        self._count_message()
        super().on_pong(payload)

    def _count_message(self) -> None:
        if self._messages is not None:
            self._messages.charge(1)

    def handle_connection_close(self, reason: str) -> None:
        self._pause = None
        super().handle_connection_close(reason)

    def _advance(self) -> None:
        if self._state is not State.OPEN or self._advancing or self._going_away or self._session.busy:
            # The last number of steps may be 0: the peer's Close would never be read.
            self._steps = STEPS
            super()._advance()
            return
        if self._pause is not None:
            return
        messages, sent = self._messages, self._bytes
        wait = 0.0 if sent is None else sent.wait(0)
        if messages is not None and self._reader.waits:
            wait = max(wait, messages.wait(1))
        if wait:
            self._pause_for(max(PAUSE, wait))
            return
        if messages is not None:
            self._steps = max(0, min(STEPS, int(messages.left() + _ROUNDING)))
        super()._advance()

    def _pause_for(self, seconds: float) -> None:
        if self._paused >= MAX_PAUSED:
            self.fail(1008, "too many messages")
            return
        # Not the time by the clock: when our process stands still, it is no fault of the peer's.
        self._paused += seconds
        self._context.pause_reading()
        self._pause = self._context.call_later(seconds, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        self._paused_at = self._seconds()
        self._advance()
