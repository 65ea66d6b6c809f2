"""One socket: drives it by the protocol modules of its chain, and is the only caller of `transport.write`.

It knows what modules may return, and nothing of what their protocols mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wshost.interfaces import IContext, IProtocolDriver, IProtocolModule, Timer
from wshost.refs import Ref
from wshost.request import TLS, Request
from wshost.results import Close, Refused, Result, Results, Stop, Switch
from wshost.sockets import unacknowledged

if TYPE_CHECKING:
    from wshost.host import Host

#: In how many parts of the stall timeout the peer's progress is looked at.
LOOKS = 10

# Refs are asked from any thread; what waits for the reactor's is counted under this.
_waiting_lock = Lock()


class Link(NamedTuple):
    """One link of a chain."""

    #: By which `Switch` finds it.
    name: str
    module: IProtocolModule
    #: What the module's `prepare` returned.
    options: Any


def address(peer: IAddress) -> str:
    """Return an address as text: ``127.0.0.1:50000``, ``[::1]:50000``, ``unix:/path``."""
    if isinstance(peer, IPv4Address):
        return f"{peer.host}:{peer.port}"
    if isinstance(peer, IPv6Address):
        return f"[{peer.host}]:{peer.port}"
    name = getattr(peer, "name", None) or b""
    return "unix:" + (name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name))


@implementer(IContext, IHalfCloseableProtocol, IPushProducer)
class Connection(Protocol):
    """One connection; the `IContext` of its modules.

    What modules return is corked: it leaves in one write when the call that brought it is over, or, where no bytes
    from the peer brought it, at the end of the reactor's turn.

    :param host: counts it, and holds the limits.
    :param id: names it in refs and in the log.
    :param admitted: False when the host is full.
    """

    # What it must provide is more than one of Twisted's interfaces says.
    transport: Any

    def __init__(self, host: Host, id: str, admitted: bool) -> None:
        self.id = id
        self.admitted = admitted
        self.ref = Ref(host, id)
        self.request: Request | None = None
        #: True while as much output waits as the peer may let wait.
        self.full = False
        self._host = host
        self._driver: IProtocolDriver | None = None
        self._position = 0
        self._timers: set[_Call] = set()
        # The IP address it is counted under.
        self._address: str | None = None
        # Output: what waits here, its size, and the size of what the transport has been given and could not send.
        self._out: list[bytes] = []
        self._queued = 0
        self._handed = 0
        self._blocked = False
        self._corked = False
        self._dirty = False
        # When to look again whether the peer reads, and when a closing connection is aborted.
        self._stall: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        # What refs of other threads have asked for that has not come here yet, in bytes.
        self._waiting = 0
        # Who wants no input for now.
        self._paused_by_module = False
        self._paused = False
        # Closing: no more input is looked at. Ended: nothing is written any more, either.
        self._closing = False
        self._ended = False
        self._reason = ""

    # What modules see of it

    @property
    def clock(self) -> IReactorTime:
        """The reactor's time."""
        clock: IReactorTime = self._host.reactor
        return clock

    @property
    def peer_address(self) -> IAddress:
        """The peer's address."""
        peer: IAddress = self.transport.getPeer()
        return peer

    @property
    def host_address(self) -> IAddress:
        """Our address."""
        host: IAddress = self.transport.getHost()
        return host

    @property
    def peer(self) -> str:
        """The peer's address as text."""
        return address(self.peer_address)

    @property
    def tls(self) -> TLS | None:
        """The TLS session, None on a plain connection."""
        if not ISSLTransport.providedBy(self.transport):
            return None
        transport: Any = self.transport
        return TLS(peer_certificate=transport.getPeerCertificate())

    @property
    def following(self) -> str | None:
        """The name of the next module in the chain."""
        chain = self._host.chain
        return chain[self._position + 1].name if self._position + 1 < len(chain) else None

    def perform(self, results: Results) -> None:
        """Do what a module wants done."""
        if results is None or self._closing:
            return
        try:
            self._do(results)
        except Exception:
            self._crash("the module asked for something impossible")
        self._uncork_later()

    def pause_reading(self) -> None:
        """Take no more bytes from the peer."""
        self._paused_by_module = True
        self._regulate()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._paused_by_module = False
        self._regulate()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, unless the module has left before."""
        return _Call(self._host.reactor, seconds, call, self._timers, self._crash)

    def log_failure(self, what: str) -> None:
        """Log the exception being handled."""
        self._host.failures.log(self.id, what)

    # What refs ask for

    def act(self, action: str, *args: Any) -> bool:
        """Ask the current module, in the reactor's thread; return whether it accepted."""
        if self._closing or self._driver is None or (self.full and action == "send"):
            return False
        try:
            results = self._driver.handle_action(action, *args)
        except Exception:
            self._crash(f"the module failed to {action}")
            return False
        if isinstance(results, Refused):
            return False
        self.perform(results)
        return True

    def act_from_thread(self, size: int, action: str, *args: Any) -> bool:
        """The same from any other thread; what waits for the reactor counts as output."""
        with _waiting_lock:
            if self._closing or self.full or self._waiting + size > self._host.max_output:
                return False
            self._waiting += size
        self._host.reactor.callFromThread(self._act_waiting, size, action, args)
        return True

    def _act_waiting(self, size: int, action: str, args: tuple[Any, ...]) -> None:
        with _waiting_lock:
            self._waiting -= size
        self.act(action, *args)

    def shut_down(self) -> None:
        """Say good-bye: the host stops."""
        if not self._closing and not self.act("shutdown"):
            self.perform(Close())

    def abort(self, reason: str) -> None:
        """End it at once."""
        self._stop(reason)

    # From the transport

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._host.made(self)
        self.transport.registerProducer(self, True)
        self._start()

    def _start(self) -> None:
        self._count_address()
        self._corked = True
        self._enter(0)
        if not self.admitted and not self._closing:
            self._stop("the server is full")
        self._uncork()

    def _count_address(self) -> None:
        host = getattr(self.transport.getPeer(), "host", None)
        if self.admitted and host is not None:
            self.admitted = self._host.count_address(host)
            if self.admitted:
                self._address = host

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._corked = True
        self._receive(data)
        self._uncork()

    def readConnectionLost(self) -> None:
        # The peer says no more, and may still listen: what is there for it leaves first.
        if self._closing:
            self.transport.loseConnection()
        else:
            self.perform(Close())

    def writeConnectionLost(self) -> None:
        """Nothing: it was us who closed our half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closing = self._ended = True
        self._leave(self._reason or reason.getErrorMessage())
        self._forget_output()
        self._cancel_deadlines()
        if self._address is not None:
            self._host.discount_address(self._address)
        self._host.lost(self)

    def pauseProducing(self) -> None:
        # The transport has more than it can send.
        self._blocked = True
        if self._stall is None and not self._closing:
            self._watch_progress(unacknowledged(self.transport), self._host.reactor.seconds())

    def resumeProducing(self) -> None:
        self._blocked = False
        self._handed = 0
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._uncork()

    def stopProducing(self) -> None:
        """Nothing: `connectionLost` follows."""

    # The chain

    def _enter(self, position: int) -> None:
        link = self._host.chain[position]
        self._position = position
        try:
            self._driver = link.module.init(link.options, self)
        except Exception:
            self._crash(f"the module {link.name} failed to start")

    def _leave(self, reason: str) -> None:
        driver, self._driver = self._driver, None
        for timer in list(self._timers):
            timer.cancel()
        if driver is not None:
            try:
                driver.handle_connection_close(reason)
            except Exception:
                self.log_failure("the module failed to close")

    def _receive(self, data: bytes) -> None:
        driver = self._driver
        if driver is None:
            return
        try:
            results = driver.handle_connection_in(data)
            if results is not None and driver is self._driver:
                self._do(results)
        except Exception:
            self._crash("the module failed on what the peer sent")

    def _do(self, results: Result | Sequence[Result]) -> None:
        if isinstance(results, bytes):
            self._write(results)
        elif isinstance(results, Switch):
            self._switch(results)
        elif isinstance(results, Close):
            self._close(results.data)
        elif isinstance(results, Stop):
            self._stop(results.reason)
        elif isinstance(results, list | tuple):
            driver = self._driver
            for result in results:
                self._do(result)
                if self._closing or driver is not self._driver:
                    break
        else:
            raise TypeError(f"a module returned {results!r}, not bytes, Switch, Close, Stop or a list of them")

    def _switch(self, switch: Switch) -> None:
        names = [link.name for link in self._host.chain]
        if switch.name not in names:
            raise LookupError(f"the chain has no module {switch.name!r} to switch to; it has {', '.join(names)}")
        self._leave(f"switched to {switch.name}")
        self.request = switch.request
        self._paused_by_module = False
        self._enter(names.index(switch.name))
        self._regulate()
        if switch.unread and not self._closing:
            self._receive(switch.unread)

    def _crash(self, what: str) -> None:
        self.log_failure(what)
        self._stop(what)

    # Output

    def _write(self, data: bytes) -> None:
        if self._closing or not data:
            return
        self._out.append(data)
        self._queued += len(data)
        if not self.full and self._queued + self._handed >= self._host.max_output:
            self.full = True
            self._regulate()

    def _uncork_later(self) -> None:
        if not self._corked and not self._dirty:
            self._dirty = True
            self._host.uncork_later(self)

    def uncork(self) -> None:
        """The reactor's turn ends: what was corked leaves."""
        self._dirty = False
        self._uncork()

    def _uncork(self) -> None:
        self._corked = False
        if self._blocked or self._ended:
            return
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._handed, self._queued = len(data), 0
            self.transport.write(data)
            if self._blocked:
                return
            self._handed = 0
        if self._closing:
            self._finish()
        elif self.full:
            self.full = False
            self._regulate()
            self.act("drained")

    def _regulate(self) -> None:
        """Read from the peer, or don't: as the module, and the output that waits, have it."""
        paused = not self._closing and (self._paused_by_module or self.full)
        if paused is not self._paused and not self._ended:
            self._paused = paused
            if paused:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _forget_output(self) -> None:
        self._out.clear()
        self._queued = self._handed = 0

    # The end

    def _close(self, data: bytes) -> None:
        self._write(data)
        self._closing = True
        # The peer's end is what is read for now; the deadline is for peers that neither read nor end.
        self._regulate()
        self._deadline = self._host.reactor.callLater(
            self._host.close_timeout, self._stop, "the peer did not let go in time"
        )
        self._uncork_later()

    def _finish(self) -> None:
        """All is written: close our half, and await the peer's.

        Closed at once, a socket with unread input is reset, and the peer may lose what it has not read (RFC 9112 §9.6).
        """
        self._ended = True
        self.transport.unregisterProducer()
        if ITCPTransport.providedBy(self.transport) and not ISSLTransport.providedBy(self.transport):
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def _stop(self, reason: str) -> None:
        self._closing = True
        self._reason = self._reason or reason
        self._forget_output()
        self._cancel_deadlines()
        if not self._ended:
            self._ended = True
            self.transport.unregisterProducer()
        self.transport.abortConnection()

    # A peer that does not read

    def _watch_progress(self, mark: int | None, since: float) -> None:
        self._stall = self._host.reactor.callLater(self._host.stall_timeout / LOOKS, self._check_progress, mark, since)

    def _check_progress(self, mark: int | None, since: float) -> None:
        now = self._host.reactor.seconds()
        left = unacknowledged(self.transport)
        if left != mark:
            self._watch_progress(left, now)
        elif now - since < self._host.stall_timeout:
            self._watch_progress(mark, since)
        else:
            self._stop("the peer did not read what it was sent")

    def _cancel_deadlines(self) -> None:
        for call in (self._stall, self._deadline):
            if call is not None and call.active():
                call.cancel()
        self._stall = self._deadline = None


class Proxied(Connection):
    """A connection through a proxy that tells the peer's address ahead of the peer's first bytes."""

    _counted = False

    def _count_address(self) -> None:
        """Not yet."""

    def dataReceived(self, data: bytes) -> None:
        if not self._counted:
            self._counted = True
            super()._count_address()
            if not self.admitted and not self._closing:
                self._leave("too many from one address")
                self._start()
        super().dataReceived(data)


class _Call:
    """A module's timer, one of its connection's: gone with the module."""

    __slots__ = ("_call", "_crash", "_delayed", "_timers")

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        call: Callable[[], None],
        timers: set[_Call],
        crash: Callable[[str], None],
    ) -> None:
        self._call = call
        self._timers = timers
        self._crash = crash
        self._delayed = clock.callLater(seconds, self._fire)
        timers.add(self)

    def cancel(self) -> None:
        """Forget the call."""
        self._timers.discard(self)
        if self._delayed.active():
            self._delayed.cancel()

    def _fire(self) -> None:
        self._timers.discard(self)
        try:
            self._call()
        except Exception:
            self._crash("the module's timer failed")
