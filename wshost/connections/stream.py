"""One socket's output, its pauses and its end. Output is written in batches, is bounded, and never waits for ever.

This is the only place that calls `transport.write`. It knows no modules, and not what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Any

from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport, ITCPTransport
from zope.interface import classImplements

from wshost.connections.address import address
from wshost.connections.budget import STEP
from wshost.connections.kernel import taken, waiting
from wshost.connections.shared import Shared
from wshost.connections.timers import Timer
from wshost.exact import octets

#: The peer's progress is checked this many times within a stall timeout.
CHECKS = 10
#: A peer that takes less than this many bytes a second of its pending output is dropped in the end.
MIN_RATE = 2_048
#: A peer that reads can save up at most this many stall timeouts. Kernels report reading in leaps: more than 100 KB of
#: a receive buffer of 200 KB may be free before the sender hears of it.
MAX_SAVED_STALLS = 6
#: The rounding error of a sum of many times, in seconds.
_ROUNDING = 1e-6


class Stream:
    """The output and the end of one connection.

    Output leaves in one write: at the end of the transport's call that caused it, or else at the end of the reactor's
    turn.

    :param shared: limits, timers, the turn and the log.
    :param id: the connection's id, for the log.
    :param drained: called when the output that made `output_full` true has left.
    """

    def __init__(self, shared: Shared, id: str, drained: Callable[[], object]) -> None:
        #: None until `connect`. It must provide more than any single interface of Twisted has.
        self.transport: Any = None
        #: The address of the client, if a proxy has named it; else None.
        self.client: IAddress | None = None
        #: True while `max_output` bytes wait for the peer.
        self.output_full = False
        #: True once the connection closes: input is ignored, and nothing more may be written.
        self.closing = False
        #: False while the transport is paused; and whether the module wants it paused, whatever `output_full` is.
        self.reading = True
        self.paused_by_module = False
        #: Whether nothing is read, whatever the module wants: it is not known yet who is to have the peer's bytes.
        self.held = False
        #: Why it was aborted, "" when it was not.
        self.reason = ""
        self._id = id
        self._shared = shared
        self._max_output = shared.limits.max_output
        # At which size of its output the stream looks at the budget of all slow peers next, if there is one. It is not
        # kept here: beyond 29 attributes, each stream in Python would have a dict of its own.
        self._mark = self._max_output
        #: How many bytes wait for this stream in an outbox; and since when the peer of a blocked stream took nothing.
        self.kept = 0
        self.idle_since = 0.0
        self._drained = drained
        # Output that the transport was not given yet; the size of the last write to it; the size of all output that
        # waits, here or in the transport.
        self._out: list[bytes] = []
        self._handed_over = 0
        self._queued = 0
        #: How many bytes the transport was given; and how many messages of topics are in them.
        self.bytes_out = self.published = 0
        #: True while the transport's buffer is full: more output waits here.
        self.blocked = False
        #: Called when the transport takes more output again, after all that waited here was written; None for nothing.
        self.unblocked: Callable[[], object] | None = None
        #: Called before that, to write more, if there is no more to write here.
        self.refill: Callable[[], object] | None = None
        #: A peer that takes anything at all within the stall timeout stays, however little it is.
        self.patient = False
        self._flush_scheduled = False
        # When the peer's progress is checked next, and when a closing connection is aborted.
        self._stall: Timer | None = None
        self._deadline: Timer | None = None
        # Our half is closed: nothing is written any more.
        self._ended = False
        self._peer_ended = False

    # From the connection

    def connect(self, transport: Any) -> None:
        """Start with a transport: the connection is made."""
        self.transport = transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)

    def peer_ended(self) -> None:
        """The peer has closed its half, but may still read: send the pending output, then close."""
        self._peer_ended = True
        if self._ended:
            self.transport.loseConnection()
        elif not self.closing:
            self.close(b"")
            self.flush()

    def lost(self) -> None:
        """Stop everything: the connection is lost."""
        self.closing = self._ended = True
        self._out.clear()
        if self._shared.budget is not None:
            self._shared.budget.discount(self)
        if self._stall is not None:
            self._stall.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        # Break the reference cycles: nothing is flushed any more.
        self._stall = self._deadline = self.unblocked = self.refill = None
        self._drained = None  # type: ignore[assignment]

    # From the transport, to which this is a producer

    def pauseProducing(self) -> None:
        if self.blocked:
            return
        self.blocked = True
        self._queued += self._handed_over
        self.idle_since = self._shared.schedule.seconds()
        self._check_full()
        if not self.closing:
            self._watch_progress()

    def resumeProducing(self) -> None:
        self.blocked = False
        self._mark = self._max_output
        if self._shared.budget is not None:
            self._shared.budget.discount(self)
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self.flush()
        if self.refill is not None and not self.blocked:
            self.refill()
        if self.unblocked is not None and not self.blocked:
            self.unblocked()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    # Output

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer, here, in an outbox and in the transport. Safe in any thread."""
        handed_over = self._handed_over if self.blocked else 0
        inside = waiting(self.transport)
        return self.kept + max(0, self._queued - handed_over) + (handed_over if inside is None else inside)

    @property
    def takes_output(self) -> bool:
        """Whether more may be written for the peer."""
        return not (self.closing or self.output_full)

    def write(self, data: bytes) -> None:
        """Queue output.

        It leaves at the next flush. When `max_output` bytes wait, it leaves at once: else reading would have to pause.
        """
        if type(data) is not bytes:
            # A module's own subclass of bytes may lie about its length.
            data = octets(data)
        if data:
            self._out.append(data)
            self._queued += len(data)
            if self._queued >= self._mark:
                if self.blocked:
                    self._check_full()
                else:
                    self.flush()

    def send_published(self, data: bytes, messages: int) -> bool:
        """Send messages that were published in this turn, at its end; return whether there was room.

        :param messages: how many they are.
        """
        if self.closing or self.output_full:
            return False
        self.published += messages
        if self._queued or self.blocked:
            self.write(data)
            self.flush_later()
        else:
            # Nothing else waits, as for nearly all of a thousand subscribers: write without queueing.
            self._handed_over = len(data)
            self.bytes_out += len(data)
            self.transport.write(data)
        return True

    def flush_later(self) -> None:
        """Flush at the end of the turn, if there is something to write or to end."""
        if not self._flush_scheduled and (self._out or (self.closing and not self._ended)):
            self._flush_scheduled = True
            self._shared.turn.flush_at_end(self)

    def end_turn(self) -> None:
        """Flush at the end of the reactor's turn."""
        self._flush_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Give the transport all pending output, in one write, unless it is blocked."""
        if self.blocked or self._ended:
            return
        self._queued = 0
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._handed_over = len(data)
            self.bytes_out += len(data)
            # Our transports send the last bytes and the end, which follows, in one packet. Ask the class: wrappers
            # such as TLS forward all attributes, and would return the method of the transport below.
            last = getattr(type(self.transport), "write_last", None) if self.closing else None
            if last is None:
                self.transport.write(data)
            else:
                last(self.transport, data)
            if self.blocked:
                return
        if self.closing:
            self._close_half()
        elif self.output_full:
            self.output_full = False
            self.regulate()
            self._drained()

    def _check_full(self) -> None:
        if self._queued >= self._max_output:
            self.output_full = True
            self.regulate()
        if self._shared.budget is not None and not self._ended:
            self._mark = self._queued + STEP
            if not self.output_full:
                self._mark = min(self._mark, self._max_output)
            self._shared.budget.count(self, self._queued + self.kept)

    def keep(self, size: int) -> None:
        """Count so many bytes in an outbox as output that waits."""
        self.kept = size
        if self._shared.budget is not None and self.blocked and not self._ended:
            self._shared.budget.count(self, self._queued + size)

    # Input

    def regulate(self) -> None:
        """Pause or resume the transport, as the module, the pending output and `held` demand."""
        # A closing connection reads, to notice the peer's FIN.
        reading = self.closing or not (self.paused_by_module or self.output_full or self.held)
        if reading != self.reading and not self._ended:
            self.reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # The end

    def close(self, data: bytes) -> None:
        """Write these last bytes, and end when all output has left; abort when `close_timeout` is over before."""
        self.write(data)
        self.closing = True
        self.regulate()
        self._deadline = self._shared.schedule.call_later(self._shared.limits.close_timeout, self._abort_overdue)

    def _abort_overdue(self) -> None:
        self.abort("the peer did not end the connection in time")

    def _close_half(self) -> None:
        """All is written: close our half of the connection, and wait until the peer closes its half.

        A socket that is closed with unread input is reset, and the peer may lose unread output (RFC 9112 §9.6).
        """
        self._ended = True
        transport = self.transport
        transport.unregisterProducer()
        if self._peer_ended or ISSLTransport.providedBy(transport) or not ITCPTransport.providedBy(transport):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def abort(self, reason: str) -> None:
        """End at once; pending output is lost.

        :param reason: for the log, and for the modules. Only the first reason counts.
        """
        self.reason = self.reason or reason
        self.closing = True
        if not self._ended:
            self._ended = True
            self.transport.unregisterProducer()
        self.transport.abortConnection()

    def fail(self, what: str) -> None:
        """End at once because of the exception being handled, and log it. Never raises.

        :param what: what failed, as a clause.
        """
        # Abort first: logging may fail, too.
        try:
            self.abort(what)
        except BaseException:  # any kind of transport may fail
            what += ", and so did the abort"
            self._shared.failures.log(self._id, what, self.peer)
        else:
            self._shared.failures.log(self._id, what, self.peer)

    def peer(self) -> str:
        """Return the peer's address as text."""
        return address(self.client or self.transport.getPeer())

    # Another process

    @property
    def quiet(self) -> bool:
        """Whether nothing waits here in either direction, and nothing is paused or ends."""
        busy = self.blocked or self.output_full or self.closing or self._peer_ended or self._flush_scheduled
        return self.reading and not (busy or self._out or self.kept)

    def detach(self) -> tuple[socket, Any] | None:
        """Give the socket away; see `wshost.fastnet`'s `Transport.detach`. None if the transport has no such way.

        :returns: the socket, and the peer's name as `accept` has returned it.
        """
        # Ask the class: wrappers such as TLS forward all attributes.
        detach = getattr(type(self.transport), "detach", None)
        detached: tuple[socket, Any] | None = None if detach is None else detach(self.transport)
        return detached

    # A peer that does not read

    def _watch_progress(self) -> None:
        """Abort the connection if the peer takes too little of its output.

        The time that is left starts at the stall timeout. Each byte that the peer takes, or took before, adds
        1 / `MIN_RATE` seconds. No more than `MAX_SAVED_STALLS` timeouts are ever left. If the stream is patient, each
        byte leaves one timeout at least.
        """
        total = taken(self.transport)
        # It is negative where only the bytes still to be taken are known.
        left = self._shared.limits.stall_timeout + (max(0, total) / MIN_RATE if total is not None else 0.0)
        self._check_later(total, left, self._shared.schedule.seconds())

    def _check_later(self, total: int | None, left: float, now: float) -> None:
        timeout = self._shared.limits.stall_timeout
        left = min(left, MAX_SAVED_STALLS * timeout)
        self._stall = self._shared.schedule.call_later(
            min(timeout / CHECKS, left), lambda: self._check_progress(total, left, now)
        )

    def _check_progress(self, before: int | None, left: float, since: float) -> None:
        now = self._shared.schedule.seconds()
        total = taken(self.transport)
        left -= now - since
        if total is not None and before is not None:
            left += max(0, total - before) / MIN_RATE
            if total > before:
                self.idle_since = now
            if self.patient and total > before:
                left = max(left, self._shared.limits.stall_timeout)
        if left > _ROUNDING:
            self._check_later(total, left, now)
        else:
            self.abort("the peer did not read what it was sent")


# Not a decorator: Cython's extension types can't have one.
classImplements(Stream, IPushProducer)
