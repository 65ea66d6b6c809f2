"""One connection: drives it by the protocol modules of its chain, and does what they return.

It knows what modules may return, and nothing of what their protocols mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.exact import seconds as exact_seconds
from wshost.interfaces import IContext, IEncoding, IProtocolModule, Timer
from wshost.refs import Ref
from wshost.request import TLS, Request
from wshost.results import Close, Refused, Result, Results, Stop, Switch
from wshost.sockets import is_broken
from wshost.stream import Stream
from wshost.timers import ModuleTimer

if TYPE_CHECKING:
    from wshost.host import Host

#: What refs may not ask for while the connection is full: it would bring more output.
_BRINGS_OUTPUT = frozenset({"send", "ping", "info", "subscribe"})
#: What refs ask for that is no module's concern.
_TOPICS = frozenset({"subscribe", "unsubscribe"})

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


class Connection(Stream):
    """One connection; the `IContext` of its modules.

    :param host: counts it, and holds the limits.
    :param id: names it in refs and in the log.
    :param admitted: False when the host has too many.
    """

    __slots__ = (
        "_address",
        "_buffered",
        "_corked",
        "_driver",
        "_early",
        "_position",
        "_timers",
        "_unread",
        "_waiting",
        "admitted",
        "encoding",
        "published",
        "ref",
        "request",
    )

    def __init__(self, host: Host, id: str, admitted: bool) -> None:
        super().__init__(host, id)
        self.admitted = admitted
        self.ref = Ref(host, id)
        self.request: Request | None = None
        # How the module has messages encoded that are published to this connection's topics, if it leaves that to them.
        self.encoding: IEncoding | None = None
        self.published: Callable[[], bytes] | None = None
        # The current module's driver; None until it has started, and when it has left.
        self._driver: Any = None
        self._position = 0
        self._timers: set[ModuleTimer] = set()
        # The module is being called with bytes from the peer; when that is over, all leaves.
        self._corked = False
        # The module may have a buffer that is read into.
        self._buffered = False
        # What the module before the current one has left unread.
        self._unread = b""
        # What refs asked for while the module was starting.
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        # What refs of other threads have asked for that has not come here yet, in bytes.
        self._waiting = 0
        # The IP address it is counted under.
        self._address: str | None = None

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
    def broken(self) -> bool:
        """Whether the peer has reset the connection."""
        return is_broken(self.transport)

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
            self._crash("asked for something impossible")
        self._settle()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, unless the module has left before."""
        # What is no number at the head of the schedule would stop all timers of the host.
        timer = ModuleTimer(self._host.schedule, exact_seconds(seconds), call, self._timers, self._timer_failed)
        if self._closing and self._driver is None:
            timer.cancel()
        return timer

    def receive_into(self, buffer: Any) -> bool:
        """Have the transport read into this, if it can."""
        # Whoever wraps one of those that can may not hand on what they say then: a transport looks at its protocol.
        receive = getattr(self.transport, "receive_into", None)
        received = receive is not None and bool(receive(buffer))
        self._buffered = received and buffer is not None
        return received

    def log_failure(self, what: str) -> None:
        """Log the exception being handled."""
        self._host.failures.log(self.id, what)

    # Topics

    def share(self, encoding: IEncoding | None) -> None:
        """Let published messages be sent as this encoding has them."""
        if encoding is not self.encoding:
            self.encoding = encoding
            self._host.topics.share(self)

    # What refs ask for

    def act(self, action: str, *args: Any) -> bool:
        """Ask the current module, in the reactor's thread; return whether it accepted."""
        driver = self._driver
        if self._closing or (self.full and action in _BRINGS_OUTPUT):
            return False
        if driver is None:
            self._early.append((action, args))
            return True
        try:
            results = driver.handle_action(action, *args)
            if results is None:
                return True
            if isinstance(results, Refused):
                return False
            if driver is self._driver and not self._closing:
                self._do(results)
        except Exception:
            self._crash(f"failed on the action {action}")
            return False
        self._settle()
        return True

    def act_from_thread(self, size: int, action: str, *args: Any) -> bool:
        """Ask it from any other thread; what waits for the reactor's is bounded like output.

        :param size: what it weighs while it waits, in bytes.
        """
        with _waiting_lock:
            full = self.full or self._waiting >= self._host.max_output
            if self._closing or (full and action in _BRINGS_OUTPUT):
                return False
            self._waiting += size
        self._host.reactor.callFromThread(self._act_waiting, size, action, args)
        return True

    def _act_waiting(self, size: int, action: str, args: tuple[Any, ...]) -> None:
        with _waiting_lock:
            self._waiting -= size
        if action in _TOPICS:
            self._host.topics.act(self, action, *args)
        else:
            self.act(action, *args)

    def shut_down(self) -> None:
        """Say good-bye: the host stops."""
        if not self.act("shutdown"):
            self.perform(Close())

    # From the transport

    def connectionMade(self) -> None:
        self._host.made(self)
        super().connectionMade()
        self._count_address()
        self._start()

    def dataReceived(self, data: bytes) -> None:
        if not self._closing:
            self._corked = True
            self._receive(data)
            self._corked = False
            self._flush()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were read to where `receive_into` said; the name is that of asyncio's protocols."""
        if not self._closing:
            self._corked = True
            self._receive(b"", nbytes)
            self._corked = False
            self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._leave(self._reason or reason.getErrorMessage())
        if self._address is not None:
            self._host.discount_address(self._address)
        self._host.lost(self)

    def _drained(self) -> None:
        self.act("drained")

    def _count_address(self) -> None:
        host = getattr(self.transport.getPeer(), "host", None)
        if self.admitted and host is not None:
            self.admitted = self._host.count_address(host)
            if self.admitted:
                self._address = host

    # The chain

    def _start(self) -> None:
        if self.admitted or self._host.refuse(self):
            self._enter(0)
        if not self.admitted and not self._closing:
            self.abort("it was not admitted")

    def _enter(self, position: int) -> None:
        link = self._host.chain[position]
        self._position = position
        self._paused_by_module = False
        try:
            driver = link.module.init(link.options, self)
            if driver is None:
                raise TypeError(f"init of the module {link.name} returned no driver")
        except Exception:
            self._crash("failed to start")
            self._leave(self._reason)
            return
        if self._driver is not None:
            # It has switched before it was there.
            self._dismiss(driver, "switched away")
            return
        self._driver = driver
        self._regulate()
        early, self._early = self._early, []
        for action, args in early:
            self.act(action, *args)

    def _leave(self, reason: str) -> None:
        driver, self._driver = self._driver, None
        self.share(None)
        if self._buffered:
            self.receive_into(None)
        if driver is not None:
            self._dismiss(driver, reason)
        for timer in list(self._timers):
            timer.cancel()

    def _dismiss(self, driver: Any, reason: str) -> None:
        try:
            driver.handle_connection_close(reason)
        except Exception:
            self.log_failure("a module failed to close")

    def _receive(self, data: bytes, filled: int = 0) -> None:
        """Give these bytes, or those in its buffer, to the module, and what it leaves unread to the next."""
        idle = 0
        try:
            while True:
                driver = self._driver
                results = driver.handle_buffer_in(filled) if filled else driver.handle_connection_in(data)
                filled = 0
                if results is not None and driver is self._driver and not self._closing:
                    self._do(results)
                if not self._unread or self._closing:
                    return
                unread, self._unread = self._unread, b""
                idle = 0 if len(unread) < len(data) else idle + 1
                if idle > len(self._host.chain):
                    raise RuntimeError("the chain's modules switch in circles, and none reads anything")
                data = unread
        except Exception:
            self._crash("failed on what the peer sent")

    def _do(self, results: Result | Sequence[Result]) -> None:
        if isinstance(results, bytes):
            self._write(results)
        elif isinstance(results, (list, tuple)):
            for result in results:
                if not isinstance(result, bytes):
                    self._move_on(result)
                    break
                self._write(result)
        else:
            self._move_on(results)

    def _move_on(self, result: Any) -> None:
        if isinstance(result, Switch):
            self._switch(result)
        elif isinstance(result, Close):
            self._close(result.data)
        elif isinstance(result, Stop):
            self.abort(result.reason)
        else:
            raise TypeError(f"a module returned {result!r}, not bytes, Switch, Close, Stop or a list of them")

    def _switch(self, switch: Switch) -> None:
        names = [link.name for link in self._host.chain]
        if switch.name not in names:
            raise LookupError(f"the chain has no module {switch.name!r} to switch to; it has {', '.join(names)}")
        self._leave(f"switched to {switch.name}")
        self.request = switch.request
        self._enter(names.index(switch.name))
        self._unread += switch.unread

    def _settle(self) -> None:
        """Let go on what was done: of a call from the transport, that is the end."""
        if self._corked:
            return
        if self._unread and not self._closing:
            data, self._unread = self._unread, b""
            self._corked = True
            self._receive(data)
            self._corked = False
        self._flush_later()

    def _crash(self, what: str) -> None:
        """End the connection for the exception being handled."""
        what = f"the module {self._host.chain[self._position].name} {what}"
        self.log_failure(what)
        self.abort(what)

    def _timer_failed(self) -> None:
        self._crash("failed in a timer")


classImplements(Connection, IContext)


class Proxied(Connection):
    """A connection through a proxy that tells the peer's address ahead of the peer's first bytes."""

    __slots__ = ("_known",)

    def __init__(self, host: Host, id: str, admitted: bool) -> None:
        super().__init__(host, id, admitted)
        self._known = False

    def _count_address(self) -> None:
        """Not yet: it would be the proxy's."""

    def dataReceived(self, data: bytes) -> None:
        if not self._known:
            self._known = True
            super()._count_address()
            if not self.admitted and not self._closing:
                self._leave("too many from one address")
                self._start()
        super().dataReceived(data)
