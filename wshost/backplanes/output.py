"""Owns the bytes that wait for a broker: joins those of a turn, limits them, drops the old. Knows no protocol."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import classImplements

from wshost.process import reactors

#: The most bytes of one write, but for a larger payload: a transport that is full holds no more than this above its own
#: limit.
LARGEST_WRITE = 256 << 10
#: Payloads of so many seconds wait together: a batch for each turn would take more memory than its payloads.
TOGETHER = 0.02
#: So many bytes of commands may wait for a broker that takes nothing.
COMMANDS = 16 << 20


class _Command(bytes):
    """Bytes that mean something to one connection only: they are forgotten when it is lost."""


@dataclass(slots=True)
class _Batch:
    """Pieces that leave in one write."""

    #: Until then they wait for a broker, in the reactor's time.
    due: float
    pieces: list[bytes] = field(default_factory=list)
    #: How many bytes they are; and the payloads among them.
    length: int = 0
    size: int = 0


class Output:
    """What waits for a broker. It outlives the connections.

    :param reactor: provides `IReactorTime`.
    :param limit: so many bytes of payloads may wait.
    :param patience: while there is no broker, a payload waits for so many seconds.
    :param dropped: called with the number of payloads that waited too long, in the reactor's thread.
    :param progress: called when a transport that was full takes bytes again.
    """

    def __init__(
        self,
        reactor: Any,
        limit: int,
        patience: float,
        dropped: Callable[[int], None],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._limit = limit
        self._patience = patience
        self._dropped = dropped
        self._progress = progress
        self._context = copy_context()
        self._soon = reactors.soon(reactor) or partial(reactor.callLater, 0)
        #: How many bytes of payloads wait here.
        self.waiting = 0
        # The bytes of commands that were given since all was written.
        self._commands = 0
        # What was given in this turn; and what waits longer.
        self._turn: list[bytes] = []
        self._kept: deque[_Batch] = deque()
        # What is said to a broker before it may get payloads.
        self._greeting: list[bytes] = []
        self._transport: Any = None
        # Payloads may be written; the transport is full; `close` was called.
        self._ready = self._blocked = self._closed = False
        # `_end_turn` is scheduled; the timer that drops payloads.
        self._scheduled = False
        self._timer: Any = None

    def send(self, payload: bytes) -> bool:
        """Send a payload, as the broker's protocol writes it, at the end of the turn, or when there is a broker.

        :returns: False if too much waits already.
        """
        waiting = self.waiting + len(payload)
        if waiting > self._limit or self._closed:
            return False
        self.waiting = waiting
        self._turn.append(payload)
        if not self._scheduled:
            self._schedule()
        return True

    def command(self, data: bytes) -> bool:
        """Send bytes to the current broker alone. Payloads that were sent before leave before, once it is ready.

        :returns: False if too many wait already: the broker takes nothing.
        """
        if self._transport is None:
            return True
        if not self._ready:
            self._greeting.append(data)
        elif self._commands + len(data) > COMMANDS:
            return False
        else:
            self._commands += len(data)
            self._turn.append(_Command(data))
        if not self._scheduled:
            self._schedule()
        return True

    def attach(self, transport: Any) -> None:
        """Write commands to this transport from now on."""
        self._transport = transport
        self._blocked = False
        transport.registerProducer(self, True)

    def ready(self) -> None:
        """Write what waits, and payloads from now on."""
        self._ready = True
        self._stop_timer()
        self._write_greeting()
        self._write_kept()

    def detach(self) -> None:
        """Let payloads wait for the next broker: this one is lost, or will soon get the last bytes by `finish`."""
        self._transport = None
        self._ready = self._blocked = False
        self._commands = 0
        self._greeting.clear()
        self._turn = _payloads(self._turn)
        due = self._reactor.seconds() + self._patience
        for batch in self._kept:
            batch.pieces, batch.due = _payloads(batch.pieces), due
        self._kept = deque(batch for batch in self._kept if batch.pieces)
        self._start_timer()

    def finish(self) -> None:
        """Write all that waits, as the connection will be closed; after this, only commands are written to it."""
        transport, self._blocked = self._transport, False
        self._write_greeting()
        self._keep_turn()
        while self._kept:
            self._write(self._kept.popleft())
        self._ready = False
        transport.unregisterProducer()

    def close(self) -> None:
        """Drop what waits."""
        self._closed = True
        self._keep_turn()
        self._stop_timer()
        self._drop(len(self._kept))

    def take(self) -> list[tuple[float, list[bytes]]]:
        """Give up all payloads that wait, in order, for another `Output`: see `adopt`. Commands stay.

        :returns: payloads, and until when they may wait.
        """
        self._keep_turn()
        taken = []
        for batch in self._kept:
            payloads = _payloads(batch.pieces)
            if payloads:
                taken.append((batch.due, payloads))
            batch.pieces = [piece for piece in batch.pieces if type(piece) is _Command]
            batch.length, batch.size = sum(map(len, batch.pieces)), 0
        self._kept = deque(batch for batch in self._kept if batch.pieces)
        self.waiting = 0
        return taken

    def adopt(self, due: float, payloads: list[bytes]) -> None:
        """Let payloads wait here that another `Output` has had: before all that was sent later than they.

        :param due: until then they wait for a broker, in the reactor's time.
        """
        self._keep_turn()
        size = sum(map(len, payloads))
        self.waiting += size
        self._kept = deque(sorted([_Batch(due, payloads, size, size), *self._kept], key=lambda batch: batch.due))
        self._write_kept()
        if not self._ready:
            self._stop_timer()
            self._start_timer()

    def pauseProducing(self) -> None:
        """Write no more: the transport is full."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """Go on: the transport is empty."""
        self._blocked = False
        self._progress()
        self._write_kept()

    def stopProducing(self) -> None:
        """Nothing: the connection's end is told by `detach`."""

    def _schedule(self) -> None:
        self._scheduled = True
        # The context of the code that is running now may be some user's.
        self._soon(self._context.copy().run, self._end_turn)

    def _end_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write what was given in this turn now: nothing more comes in it. By itself, that is done in the next turn."""
        self._write_greeting()
        size = self.waiting + self._commands
        if self._ready and not self._kept and not self._blocked and size <= LARGEST_WRITE:
            # Nearly always.
            pieces, self._turn = self._turn, []
            self.waiting = self._commands = 0
            if pieces:
                self._transport.write(b"".join(pieces))
            return
        self._keep_turn()
        self._write_kept()
        if not self._ready:
            self._start_timer()

    def _write_greeting(self) -> None:
        greeting, self._greeting = self._greeting, []
        if greeting:
            self._transport.write(b"".join(greeting))

    def _keep_turn(self) -> None:
        """Make batches of what was given in this turn, or add it to the last one."""
        due = self._reactor.seconds() + self._patience
        pieces, self._turn = self._turn, []
        batch = self._kept[-1] if self._kept else None
        for piece in pieces:
            length = len(piece)
            if batch is None or due - batch.due > TOGETHER or batch.length + length > LARGEST_WRITE:
                batch = _Batch(due)
                self._kept.append(batch)
            batch.length += length
            batch.size += 0 if type(piece) is _Command else length
            batch.pieces.append(piece)

    def _write_kept(self) -> None:
        while self._kept and self._ready and not self._blocked:
            self._write(self._kept.popleft())

    def _write(self, batch: _Batch) -> None:
        self.waiting -= batch.size
        if not self._kept:
            self._commands = 0
        self._transport.write(b"".join(batch.pieces))

    def _start_timer(self) -> None:
        if self._timer is None and self._kept:
            delay = max(0.0, self._kept[0].due - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._drop_old)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_old(self) -> None:
        self._timer = None
        # A sum of times may be off by a rounding error.
        now = self._reactor.seconds() + 1e-6
        self._drop(sum(batch.due <= now for batch in self._kept))
        self._start_timer()

    def _drop(self, batches: int) -> None:
        """Drop so many batches, the oldest."""
        payloads = 0
        for _ in range(batches):
            batch = self._kept.popleft()
            self.waiting -= batch.size
            payloads += len(_payloads(batch.pieces))
        if payloads:
            self._dropped(payloads)


classImplements(Output, IPushProducer)


def _payloads(pieces: list[bytes]) -> list[bytes]:
    return [piece for piece in pieces if type(piece) is not _Command]
