"""One connection: drives it by the protocol modules of its chain, and does what they return.

It knows what modules may return, and nothing of what their protocols mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.connections.address import address
from wshost.connections.kernel import is_broken
from wshost.connections.ref import Ref
from wshost.connections.stream import Stream
from wshost.connections.timers import ModuleTimer
from wshost.exact import seconds as exact_seconds
from wshost.interfaces import IContext, IEncoding, IPromptDriver, IProtocolModule, Timer
from wshost.messages import CALL
from wshost.request import TLS, Request
from wshost.results import Close, Refused, Result, Results, Stop, Switch

if TYPE_CHECKING:
    from wshost.connections.hub import Host

#: What refs may not ask for while the connection is full: it would bring more output.
_BRINGS_OUTPUT = frozenset({"send", "ping", "info", "subscribe"})
#: So often may refs ask while a module is starting, and to close from other threads.
EARLY = 1_024
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


def _checked(result: Any) -> Switch | Close | Stop:
    if isinstance(result, (Switch, Close, Stop)):
        return result
    raise TypeError(f"a module returned {result!r}, not bytes, Switch, Close, Stop or a list of them")


def _nothing() -> None:
    """Nothing: what there is to do was said before."""


class Connection(Stream):
    """One connection; the `IContext` of its modules.

    :param host: counts it, and holds the limits.
    :param id: names it in refs and in the log.
    :param admitted: False when the host has too many.
    """

    __slots__ = (
        "_address",
        "_buffered",
        "_driver",
        "_early",
        "_early_size",
        "_inside",
        "_next",
        "_position",
        "_prompt",
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
        # Its driver calls no code but wshost's when it is asked for something.
        self._prompt = False
        # A module's code is running; what comes when it has returned, if it is not to be called any more.
        self._inside = False
        self._next: Switch | Close | Stop | None = None
        # The module may have a buffer that is read into.
        self._buffered = False
        # What the module before the current one has left unread.
        self._unread = b""
        # What refs asked for while the module was starting, and what it weighs, in bytes.
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        self._early_size = 0
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
    def blocked(self) -> bool:
        """Whether output waits for the peer to take what went before."""
        return self._blocked

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
        """Do what a module wants done; when its code is running, a switch or an end waits until that has returned."""
        if results is None or self._closing:
            return
        try:
            self._do(results)
        except BaseException:  # of whatever they are made
            self._crash("asked for something impossible")
        if self._inside:
            return
        if isinstance(self._next, Switch):
            # Whose code is running is not known, and modules are to be called.
            self.call_soon(_nothing)
        else:
            self.run(_nothing)

    def run(self, call: Callable[[], None], what: str = "failed at a turn's end") -> None:
        """Call a module's code, or its handler's, when no other is running. Never raises.

        :param what: what has happened when it raises.
        """
        self._inside = True
        try:
            call()
            if self._next is not None:
                self._move_on()
        except BaseException:  # whatever it raises, it is over for this connection alone
            self._crash(what)
        finally:
            self._inside = False
        self._settle()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, unless the module has left before."""
        # What is no number at the head of the schedule would stop all timers of the host.
        timer = ModuleTimer(self._host.schedule, exact_seconds(seconds), call, self._timers, self._run_timer)
        if self._closing and self._driver is None:
            timer.cancel()
        return timer

    def _run_timer(self, call: Callable[[], None]) -> None:
        self.run(call, "failed in a timer")

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call at the end of the reactor's turn, when nobody's code is running."""
        self._host.call_soon(self, call)

    def call_regardless(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call once, also when the module has left."""
        return self._host.schedule.call_later(seconds, call)

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
            # What can't be the key of a mapping is refused before anything has changed.
            hash(encoding)
            self.encoding = encoding
            self._host.topics.share(self)

    # What refs ask for

    def ask(self, size: int, action: str, *args: Any) -> bool:
        """Ask the current module, in the reactor's thread, and maybe from within users' code.

        A module that may call users' code when it is asked is asked in a later turn.

        :param size: what it weighs while it waits, in bytes.
        :returns: whether it was accepted.
        """
        if self._prompt or self._driver is None:
            return self.act(action, *args)
        return self.ask_later(size, action, *args)

    def act(self, action: str, *args: Any) -> bool:
        """Ask the current module, in the reactor's thread; return whether it accepted."""
        driver = self._driver
        if self._closing or (self.full and action in _BRINGS_OUTPUT):
            return False
        if self._next is not None and not isinstance(self._next, Switch):
            return False
        if driver is None or self._next is not None:
            return self._keep(action, args)
        inside, self._inside = self._inside, True
        try:
            results = driver.handle_action(action, *args)
            if results is not None and not isinstance(results, Refused) and not self._closing:
                self._do(results)
            if self._next is not None and not inside:
                self._move_on()
        except BaseException:  # who asks, maybe a handler, is not to blame
            self._crash(f"failed on the action {action}")
            return False
        finally:
            self._inside = inside
        self._settle()
        return not isinstance(results, Refused)

    def _keep(self, action: str, args: tuple[Any, ...]) -> bool:
        """Keep what is asked until a module has started; False when it is too much."""
        size = CALL + (len(args[0]) if action == "send" else 0)
        if len(self._early) >= EARLY or self._early_size + size > self._max_output:
            return False
        self._early_size += size
        self._early.append((action, args))
        return True

    def ask_later(self, size: int, action: str, *args: Any) -> bool:
        """Ask the current module in a later turn, from any thread; what waits until then is bounded like output.

        :param size: what it weighs while it waits, in bytes.
        :returns: whether it was accepted.
        """
        with _waiting_lock:
            full = self.full or self._waiting >= self._max_output
            # To close, and what takes things back, has room of its own.
            most = 2 * self._max_output + EARLY * CALL
            if self._closing or (full and action in _BRINGS_OUTPUT) or self._waiting >= most:
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
        if self._prompt or self._driver is None:
            self._say_good_bye()
        else:
            # It may be users' code that stops it.
            self.call_soon(self._say_good_bye)

    def _say_good_bye(self) -> None:
        if not self.act("shutdown"):
            self.perform(Close())

    # From the transport

    def connectionMade(self) -> None:
        self._host.made(self)
        super().connectionMade()
        self._count_address()
        self.run(self._start, "failed to start")

    def dataReceived(self, data: bytes) -> None:
        if not self._closing:
            self._inside = True
            try:
                self._receive(data)
            finally:
                self._inside = False
            self._flush()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were read to where `receive_into` said; the name is that of asyncio's protocols."""
        if not self._closing:
            self._inside = True
            try:
                self._receive(b"", nbytes)
            finally:
                self._inside = False
            self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        # Whatever its modules raise, nobody may hold its place any more.
        try:
            self._leave(self._reason or reason.getErrorMessage())
        finally:
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
            self._move_on()
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
        except BaseException:  # whatever it raises
            self._crash("failed to start")
            self._leave(self._reason)
            return
        self._driver = driver
        self._prompt = IPromptDriver.providedBy(driver)
        self._regulate()
        early, self._early = self._early, []
        self._early_size = 0
        for action, args in early:
            self.act(action, *args)

    def _leave(self, reason: str) -> None:
        driver, self._driver = self._driver, None
        self._prompt = False
        try:
            self.share(None)
            if self._buffered:
                self.receive_into(None)
        finally:
            if driver is not None:
                self._dismiss(driver, reason)
            for timer in list(self._timers):
                timer.cancel()

    def _dismiss(self, driver: Any, reason: str) -> None:
        try:
            driver.handle_connection_close(reason)
        except BaseException:  # it must not, and yet the rest is to be done
            self.log_failure("a module failed to close")

    def _receive(self, data: bytes, filled: int = 0) -> None:
        """Give these bytes, or those in its buffer, to the module, and what it leaves unread to the next."""
        idle = 0
        try:
            if self._next is not None:
                # The module was to be left at the end of the turn.
                self._move_on()
                if self._closing:
                    return
                data, self._unread = self._unread + data, b""
            while True:
                driver = self._driver
                results = driver.handle_buffer_in(filled) if filled else driver.handle_connection_in(data)
                filled = 0
                if results is not None and not self._closing:
                    self._do(results)
                if self._next is not None:
                    self._move_on()
                if not self._unread or self._closing:
                    return
                unread, self._unread = self._unread, b""
                idle = 0 if len(unread) < len(data) else idle + 1
                if idle > len(self._host.chain):
                    raise RuntimeError("the chain's modules switch in circles, and none reads anything")
                data = unread
        except BaseException:  # whatever it raises, it is over for this connection alone
            self._crash("failed on what the peer sent")

    def _do(self, results: Result | Sequence[Result]) -> None:
        if self._next is not None:
            # Behind a switch or an end comes nothing.
            return
        if isinstance(results, bytes):
            self._write(results)
        elif isinstance(results, (list, tuple)):
            for result in results:
                if not isinstance(result, bytes):
                    self._next = _checked(result)
                    break
                self._write(result)
        else:
            self._next = _checked(results)

    def _move_on(self) -> None:
        """Switch to another module, or end; no module's code is running."""
        moves = 0
        while self._next is not None and not self._closing:
            result, self._next = self._next, None
            if isinstance(result, Switch):
                if moves > len(self._host.chain):
                    raise RuntimeError("the chain's modules switch in circles, and none reads anything")
                moves += 1
                self._switch(result)
            elif isinstance(result, Close):
                self._close(result.data)
            else:
                self.abort(result.reason)

    def _switch(self, switch: Switch) -> None:
        names = [link.name for link in self._host.chain]
        if switch.name not in names:
            raise LookupError(f"the chain has no module {switch.name!r} to switch to; it has {', '.join(names)}")
        self._leave(f"switched to {switch.name}")
        self.request = switch.request
        self._enter(names.index(switch.name))
        # What it was not even given follows.
        self._unread = switch.unread + self._unread

    def _settle(self) -> None:
        """Let go on what was done: when the module was called by the transport, that does."""
        if self._inside:
            return
        if self._unread and not self._closing:
            data, self._unread = self._unread, b""
            self._inside = True
            try:
                self._receive(data)
            finally:
                self._inside = False
        if self._out or (self._closing and not self._ended):
            self._flush_later()

    def _crash(self, what: str) -> None:
        """End the connection for the exception being handled."""
        self._next = None
        self.fail(f"the module {self._host.chain[self._position].name} {what}")


classImplements(Connection, IContext)


class Proxied(Connection):
    """A connection through a proxy that tells the peer's address ahead of the peer's first bytes.

    The transport's `call_when_known` says when that has come.
    """

    __slots__ = ()

    def _count_address(self) -> None:
        # Not yet: it would be the proxy's.
        self.transport.call_when_known(self._count_known)

    def _count_known(self) -> None:
        super()._count_address()
        if not self.admitted and not self._closing:
            self._leave("too many from one address")
            if not self._closing:
                self.run(self._start, "failed to start")
