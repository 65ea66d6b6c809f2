"""One socket's output and its end: what is written leaves corked and bounded, and nothing stays open for ever.

The only caller of `transport.write`. It knows no modules, and nothing of what bytes mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.connections.kernel import taken
from wshost.connections.timers import Timer
from wshost.exact import octets

if TYPE_CHECKING:
    from wshost.connections.hub import Host

#: In how many parts of the stall timeout the peer's progress is looked at.
LOOKS = 10
#: A peer that takes less of what waits for it is dropped in the end, in bytes a second.
MIN_RATE = 2_048
#: How many stall timeouts a peer may have saved up by what it has taken. Its kernel tells by leaps that it reads: of a
#: receive buffer of 200 KB hundreds are free before a sender hears of it.
MOST_STALLS = 6
#: Of the sum of many times, in seconds.
_ROUNDING = 1e-6


class Stream:
    """A protocol of which subclasses say what comes in and what goes out.

    What goes out is corked: it leaves in one write when the call that brought it is over, or, where no bytes from the
    peer brought it, at the end of the reactor's turn.

    :param host: holds the limits.
    :param id: names it in the log.
    """

    __slots__ = (
        "__weakref__",
        "_blocked",
        "_closing",
        "_deadline",
        "_dirty",
        "_ended",
        "_handed",
        "_host",
        "_max_output",
        "_out",
        "_paused",
        "_paused_by_module",
        "_peer_ended",
        "_queued",
        "_reason",
        "_stall",
        "full",
        "id",
        "transport",
    )

    def __init__(self, host: Host, id: str) -> None:
        self.id = id
        #: What it must provide is more than one of Twisted's interfaces says.
        self.transport: Any = None
        #: True while as much output waits as the peer may let wait.
        self.full = False
        self._host = host
        self._max_output = host.max_output
        # What waits here, the size of what the transport was given last, and of all that waits here or there.
        self._out: list[bytes] = []
        self._handed = 0
        self._queued = 0
        # The transport has more than it can send.
        self._blocked = False
        # The host will flush it at the end of the turn.
        self._dirty = False
        # Who wants no input for now, and whether that is so.
        self._paused_by_module = False
        self._paused = False
        # When to look again whether the peer reads, and when a closing connection is aborted.
        self._stall: Timer | None = None
        self._deadline: Timer | None = None
        # Closing: no more input is looked at. Ended: nothing is written any more, either.
        self._closing = False
        self._ended = False
        self._peer_ended = False
        # Why it was aborted.
        self._reason = ""

    # From the transport

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def readConnectionLost(self) -> None:
        # The peer says no more, and may still listen: what is there for it leaves first.
        self._peer_ended = True
        if self._ended:
            self.transport.loseConnection()
        elif not self._closing:
            self._close()
            self._flush()

    def writeConnectionLost(self) -> None:
        """Nothing: it was us who closed our half."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came in: for subclasses."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = self._ended = True
        self._out.clear()
        if self._stall is not None:
            self._stall.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        # They know us, too: without a cut here all would wait for the collector.
        self._stall = self._deadline = None

    def pauseProducing(self) -> None:
        if self._blocked:
            return
        self._blocked = True
        self._queued += self._handed
        if self._queued >= self._max_output:
            self.full = True
            self._regulate()
        if not self._closing:
            self._watch_progress()

    def resumeProducing(self) -> None:
        self._blocked = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._flush()

    def stopProducing(self) -> None:
        """Nothing: `connectionLost` follows."""

    # Output

    def _write(self, data: bytes) -> None:
        if type(data) is not bytes:
            # A module's own kind, which may say anything of its size.
            data = octets(data)
        if data:
            self._out.append(data)
            self._queued += len(data)
            if self._queued >= self._max_output and not self.full:
                self.full = True
                # What is to leave at once, as the answer to a large message, may do so: no reason to pause for that.
                if self._blocked:
                    self._regulate()

    def _drained(self) -> None:
        """What had made it full has left: for subclasses."""

    @property
    def takes_output(self) -> bool:
        """Whether more may be brought to the peer."""
        return not (self._closing or self.full)

    def deliver(self, data: bytes, large: bool) -> bool:
        """Send what was published in this turn, which ends; return whether there was room.

        :param large: this alone is as much as the peer may let wait.
        """
        if self._closing or self.full:
            return False
        if self._queued or self._blocked or large:
            self._write(data)
            self._flush_later()
        else:
            # Nothing else waits, as with nearly all of a thousand: it can leave as it is.
            self._handed = len(data)
            self.transport.write(data)
        return True

    def _flush_later(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._host.uncork_later(self)
        if self.full:
            self._regulate()

    def uncork(self) -> None:
        """The reactor's turn ends: what was corked leaves."""
        self._dirty = False
        self._flush()

    def _flush(self) -> None:
        if self._blocked or self._ended:
            return
        self._queued = 0
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._handed = len(data)
            self.transport.write(data)
            if self._blocked:
                return
        if self._closing:
            self._finish()
        elif self.full:
            self.full = False
            self._regulate()
            self._drained()

    # Input

    def pause_reading(self) -> None:
        """Take no more bytes from the peer."""
        self._paused_by_module = True
        self._regulate()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._paused_by_module = False
        self._regulate()

    def _regulate(self) -> None:
        """Read from the peer, or don't: as the module, and the output that waits, have it."""
        paused = not self._closing and (self._paused_by_module or self.full)
        if paused is not self._paused and not self._ended:
            self._paused = paused
            if paused:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # The end

    def _close(self, data: bytes = b"") -> None:
        """Write no more than these last bytes, and end when they have left."""
        self._write(data)
        self._closing = True
        # The peer's end is what is read for now; the deadline is for peers that neither read nor end.
        self._regulate()
        self._deadline = self._host.schedule.call_later(self._host.close_timeout, self._overdue)

    def _overdue(self) -> None:
        self.abort("the peer did not let go in time")

    def _finish(self) -> None:
        """All is written: close our half, and await the peer's.

        Closed at once, a socket with unread input is reset, and the peer may lose what it has not read (RFC 9112 §9.6).
        """
        self._ended = True
        transport = self.transport
        transport.unregisterProducer()
        if self._peer_ended or ISSLTransport.providedBy(transport) or not ITCPTransport.providedBy(transport):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def abort(self, reason: str) -> None:
        """End it at once; what waits is lost.

        :param reason: for the log, and whoever asks why it ended. Of several the first counts.
        """
        self._reason = self._reason or reason
        self._closing = True
        if not self._ended:
            self._ended = True
            self.transport.unregisterProducer()
        self.transport.abortConnection()

    def fail(self, what: str) -> None:
        """End it at once for the exception being handled. Never raises.

        :param what: what failed, as a clause.
        """
        # First the end: to log it may fail, too.
        try:
            self.abort(what)
        except BaseException:  # of whatever transport it is
            what += ", and so did its end"
            self._host.failures.log(self.id, what)
        else:
            self._host.failures.log(self.id, what)

    # A peer that does not read

    def _watch_progress(self) -> None:
        """Abort when the peer takes too little of what waits for it.

        It has the stall timeout. What it takes, and has taken before, adds to that as much as it would need for it at
        `MIN_RATE`, up to `MOST_STALLS`.
        """
        took = taken(self.transport)
        # Where only what is left is known, that is negative.
        patience = self._host.stall_timeout + (max(0, took) / MIN_RATE if took is not None else 0.0)
        self._look_later(took, patience, self._host.schedule.seconds())

    def _look_later(self, took: int | None, patience: float, now: float) -> None:
        timeout = self._host.stall_timeout
        patience = min(patience, MOST_STALLS * timeout)
        self._stall = self._host.schedule.call_later(
            min(timeout / LOOKS, patience), lambda: self._check_progress(took, patience, now)
        )

    def _check_progress(self, took: int | None, patience: float, since: float) -> None:
        now = self._host.schedule.seconds()
        total = taken(self.transport)
        patience -= now - since
        if total is not None and took is not None:
            patience += max(0, total - took) / MIN_RATE
        if patience > _ROUNDING:
            self._look_later(total, patience, now)
        else:
            self.abort("the peer did not read what it was sent")


# Not by decorators: Cython's classes take none.
classImplements(Stream, IProtocol, IHalfCloseableProtocol, IPushProducer)
