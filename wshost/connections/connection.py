"""One connection: it gives the protocol modules of its chain what comes in, and does what they return.

It knows what modules may return, and nothing of what their protocols mean. Output and the end are `stream.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol, IReactorTime, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.connections.address import address
from wshost.connections.kernel import is_broken
from wshost.connections.ref import Ref
from wshost.connections.shared import Shared
from wshost.connections.stream import Stream
from wshost.connections.timers import ModuleTimer
from wshost.exact import seconds as exact_seconds
from wshost.interfaces import IContext, IEncoding, IPromptDriver, Timer
from wshost.messages import CALL
from wshost.request import TLS, Request
from wshost.results import Close, Refused, Result, Results, Stop, Switch
from wshost.topics.pending import Subscriber
from wshost.topics.subscriptions import Topics

#: Refs may not ask for these while output is full: they would bring more of it.
_BRINGS_OUTPUT = frozenset({"send", "ping", "info", "subscribe"})
#: These are the connection's to do, and no module's.
_TOPIC_ACTIONS = frozenset({"subscribe", "unsubscribe"})
#: The connection asks its module for these itself. They are never kept.
_OWN_ACTIONS = frozenset({"drained", "shutdown"})
#: As many actions are kept for a module that is not ready, and as many to close may wait in other threads.
MAX_KEPT = 1_024


def _transition(result: Any) -> Switch | Close | Stop:
    if isinstance(result, (Switch, Close, Stop)):
        return result
    raise TypeError(f"a module returned {result!r}, not bytes, Switch, Close, Stop or a list of them")


def _do_nothing() -> None:
    """Do nothing."""


class Connection:
    """One connection: the protocol of its transport, and the `IContext` of its modules.

    :param shared: what all connections of the hub share.
    :param topics: those of the hub.
    :param id: names it in refs and in the log.
    :param admitted: False when the server is full.
    """

    __slots__ = (
        "__weakref__",
        "_counted_address",
        "_driver",
        "_encoding",
        "_in_module",
        "_is_prompt",
        "_keeps_actions",
        "_kept",
        "_kept_size",
        "_position",
        "_reads_into",
        "_shared",
        "_subscriber",
        "_timers",
        "_topics",
        "_transition",
        "_unread",
        "admitted",
        "id",
        "ref",
        "request",
        "stream",
    )

    def __init__(self, shared: Shared, topics: Topics, id: str, admitted: bool) -> None:
        self.id = id
        self.admitted = admitted
        self.ref = Ref(shared.registry, id)
        self.request: Request | None = None
        #: Its output and its end.
        self.stream = Stream(shared, id, self._output_drained)
        self._shared = shared
        self._topics = topics
        # The current module's driver; None until it has started, and when it has left.
        self._driver: Any = None
        self._position = 0
        self._timers: set[ModuleTimer] = set()
        # The driver is an `IPromptDriver`.
        self._is_prompt = False
        # A module's code is running; what it has asked for, which happens when it returns.
        self._in_module = False
        self._transition: Switch | Close | Stop | None = None
        # The transport reads into a buffer of the module's.
        self._reads_into = False
        # The module before the current one did not read this; no other buffer can have it.
        self._unread = b""
        # What refs asked for while the module was not ready, and its size in bytes.
        self._keeps_actions = False
        self._kept: list[tuple[str, tuple[Any, ...]]] = []
        self._kept_size = 0
        # How the module has published messages encoded, and the subscriber, once it has subscribed.
        self._encoding: IEncoding | None = None
        self._subscriber: Subscriber | None = None
        # The IP address under which it is counted.
        self._counted_address: str | None = None

    # What modules see: `IContext`

    @property
    def clock(self) -> IReactorTime:
        clock: IReactorTime = self._shared.reactor
        return clock

    @property
    def peer_address(self) -> IAddress:
        peer: IAddress = self.stream.transport.getPeer()
        return peer

    @property
    def host_address(self) -> IAddress:
        host: IAddress = self.stream.transport.getHost()
        return host

    @property
    def peer(self) -> str:
        return address(self.peer_address)

    @property
    def tls(self) -> TLS | None:
        if not ISSLTransport.providedBy(self.stream.transport):
            return None
        certificate: Any = self.stream.transport.getPeerCertificate()
        return TLS(peer_certificate=certificate)

    @property
    def next_module(self) -> str | None:
        chain = self._shared.chain
        return chain[self._position + 1].name if self._position + 1 < len(chain) else None

    @property
    def reading(self) -> bool:
        return self.stream.reading

    @property
    def blocked(self) -> bool:
        return self.stream.blocked

    @property
    def output_full(self) -> bool:
        return self.stream.output_full

    @property
    def reset_by_peer(self) -> bool:
        return is_broken(self.stream.transport)

    def write(self, data: bytes) -> None:
        stream = self.stream
        if stream.closing or self._transition is not None:
            return
        if self._subscriber is not None and self._encoding is not None:
            # What was published before goes before.
            published = self._subscriber.drain()
            if published:
                stream.write(published)
        stream.write(data)
        if not self._in_module:
            stream.flush_later()

    def perform(self, results: Results) -> None:
        if results is None or self.stream.closing:
            return
        try:
            self._apply(results)
        except BaseException:  # whatever the results are
            self._fail_module("asked for something impossible")
        if self._in_module:
            return
        if isinstance(self._transition, Switch):
            # It enters a module's code, and whose code is running now is not known.
            self.call_soon(_do_nothing)
        else:
            self.run(_do_nothing)

    def pause_reading(self) -> None:
        self.stream.pause_reading()

    def resume_reading(self) -> None:
        self.stream.resume_reading()

    def receive_into(self, buffer: Any) -> bool:
        # A wrapping transport may not forward `buffer_updated`; so each transport checks its protocol.
        receive = getattr(self.stream.transport, "receive_into", None)
        received = receive is not None and bool(receive(buffer))
        self._reads_into = received and buffer is not None
        return received

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        # Something else than a number would stop all timers of the schedule.
        timer = ModuleTimer(self._shared.schedule, exact_seconds(seconds), call, self._timers, self._run_timer)
        if self.stream.closing and self._driver is None:
            timer.cancel()
        return timer

    def _run_timer(self, call: Callable[[], None]) -> None:
        self.run(call, "failed in a timer")

    def call_regardless(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._shared.schedule.call_later(seconds, call)

    def call_soon(self, call: Callable[[], None]) -> None:
        self._shared.turn.call_soon(self, call)

    def log_failure(self, what: str) -> None:
        self._shared.failures.log(self.id, what)

    def use_encoding(self, encoding: IEncoding | None) -> None:
        if encoding is self._encoding:
            return
        # One that can't be a key of a mapping is refused before anything has changed.
        hash(encoding)
        if self._subscriber is not None:
            if self._encoding is not None and not self.stream.closing:
                # What was published before goes before.
                self.write(b"")
            self._subscriber.use_encoding(encoding)
        self._encoding = encoding

    def keep_actions(self) -> None:
        self._keeps_actions = True

    def release_actions(self) -> None:
        self._keeps_actions = False
        kept, self._kept = self._kept, []
        self._kept_size = 0
        for action, args in kept:
            self._ask_module(action, *args)

    # Code of modules and handlers

    def run(self, call: Callable[[], None], what: str = "failed at a turn's end") -> None:
        """Call a module's code, or its handler's, when no other is running. Never raises.

        :param what: what failed when the call raises, as a clause.
        """
        self._in_module = True
        try:
            call()
            if self._transition is not None:
                self._make_transitions()
        except BaseException:  # whatever it raises, it ends this connection alone
            self._fail_module(what)
        finally:
            self._in_module = False
        self._continue()

    def _fail_module(self, what: str) -> None:
        """End at once for the exception being handled, which is the module's."""
        self._transition = None
        self.stream.fail(f"the module {self._shared.chain[self._position].name} {what}")

    def _continue(self) -> None:
        """Go on behind a call into a module: with bytes that it left unread, and with its output."""
        if self._in_module:
            return
        if self._unread and not self.stream.closing:
            data, self._unread = self._unread, b""
            self._receive(data)
        self.stream.flush_later()

    # What refs ask for

    def ask(self, size: int, action: str, *args: Any) -> bool:
        """Ask for something in the reactor's thread, maybe from within users' code.

        A module whose driver may call users' code for it is asked in a later turn.

        :param size: what it weighs while it waits, in bytes.
        :returns: whether it was accepted.
        """
        if action in _TOPIC_ACTIONS or self._is_prompt or self._driver is None:
            return self._ask_now(action, args)
        return self.ask_later(size, action, *args)

    def ask_later(self, size: int, action: str, *args: Any) -> bool:
        """Ask for something in a later turn, from any thread. What waits until then is bounded as output is.

        :param size: what it weighs while it waits, in bytes.
        :returns: whether it was accepted.
        """
        stream, most = self.stream, self._shared.limits.max_output
        if stream.closing or (stream.output_full and action in _BRINGS_OUTPUT):
            return False
        if action not in _BRINGS_OUTPUT:
            # To close, or to take something back, has room of its own.
            most = 2 * most + MAX_KEPT * CALL
        return self._shared.registry.thread.post(self.id, size, most, self._ask_now, action, args)

    def _ask_now(self, action: str, args: tuple[Any, ...]) -> bool:
        return self._ask_topics(action, *args) if action in _TOPIC_ACTIONS else self._ask_module(action, *args)

    def _ask_topics(self, action: str, name: str) -> bool:
        subscriber = self._subscriber
        if action == "unsubscribe":
            if subscriber is not None:
                self._topics.unsubscribe(subscriber, name)
            return True
        if not self.stream.takes_output:
            return False
        if subscriber is None:
            subscriber = self._subscriber = self._topics.subscriber(self.id, self.stream, self.ask)
            subscriber.use_encoding(self._encoding)
        return self._topics.subscribe(subscriber, name)

    def _ask_module(self, action: str, *args: Any) -> bool:
        driver = self._driver
        if self.stream.closing or (self.stream.output_full and action in _BRINGS_OUTPUT):
            return False
        if self._transition is not None and not isinstance(self._transition, Switch):
            return False
        if driver is None or self._transition is not None or (self._keeps_actions and action not in _OWN_ACTIONS):
            return self._keep(action, args)
        was_in_module, self._in_module = self._in_module, True
        try:
            results = driver.handle_action(action, *args)
            if results is not None and not isinstance(results, Refused) and not self.stream.closing:
                self._apply(results)
            if self._transition is not None and not was_in_module:
                self._make_transitions()
        except BaseException:  # whoever asks, maybe a handler, is not to blame
            self._fail_module(f"failed on the action {action}")
            return False
        finally:
            self._in_module = was_in_module
        self._continue()
        return not isinstance(results, Refused)

    def _keep(self, action: str, args: tuple[Any, ...]) -> bool:
        """Keep an action until the module is ready; False when too much is kept."""
        size = CALL + (len(args[0]) if action == "send" else 0)
        if len(self._kept) >= MAX_KEPT or self._kept_size + size > self._shared.limits.max_output:
            return False
        self._kept_size += size
        self._kept.append((action, args))
        return True

    def shut_down(self) -> None:
        """Say good-bye to the peer: the server stops."""
        if self._is_prompt or self._driver is None:
            self._say_good_bye()
        else:
            # Users' code may be what stops the server.
            self.call_soon(self._say_good_bye)

    def _say_good_bye(self) -> None:
        if not self._ask_module("shutdown"):
            self.perform(Close())

    def abort(self, reason: str) -> None:
        """End at once; output that waits is lost."""
        self.stream.abort(reason)

    def _output_drained(self) -> None:
        self._ask_module("drained")

    # From the transport

    def makeConnection(self, transport: Any) -> None:
        self.stream.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self._shared.registry.add(self)
        self.stream.connect(self.stream.transport)
        self._count_address()
        self.run(self._start, "failed to start")

    def dataReceived(self, data: bytes) -> None:
        if not self.stream.closing:
            self._receive(data)
            self.stream.flush()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were read into the buffer of `receive_into`; the name is that of asyncio's protocols."""
        if not self.stream.closing:
            self._receive(b"", nbytes)
            self.stream.flush()

    def readConnectionLost(self) -> None:
        self.stream.peer_ended()

    def writeConnectionLost(self) -> None:
        """Do nothing: we have closed our half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.stream.lost()
        shared = self._shared
        # Whatever the modules raise, the connection must not go on holding its place.
        try:
            self._leave(self.stream.reason or reason.getErrorMessage())
        finally:
            if self._counted_address is not None:
                shared.admission.discount_address(self._counted_address)
            shared.admission.forget(self.id)
            subscriber, self._subscriber = self._subscriber, None
            try:
                if subscriber is not None:
                    self._topics.forget(subscriber)
            finally:
                shared.registry.remove(self)

    # Admission

    def _count_address(self) -> None:
        host = getattr(self.stream.transport.getPeer(), "host", None)
        if self.admitted and host is not None:
            self.admitted = self._shared.admission.count_address(host)
            if self.admitted:
                self._counted_address = host

    def _start(self) -> None:
        if self.admitted or self._shared.admission.refuse(self.id):
            self._enter(0)
            self._make_transitions()
        if not self.admitted and not self.stream.closing:
            self.abort("it was not admitted")

    # The chain

    def _enter(self, position: int) -> None:
        link = self._shared.chain[position]
        self._position = position
        self._keeps_actions = False
        # The transport goes on as it is until the next module has had its say.
        self.stream.paused_by_module = False
        try:
            driver = link.module.init(link.options, self)
            if driver is None:
                raise TypeError(f"init of the module {link.name} returned no driver")
        except BaseException:  # whatever it raises
            self._fail_module("failed to start")
            self._leave(self.stream.reason)
            return
        self._driver = driver
        self._is_prompt = IPromptDriver.providedBy(driver)
        self.stream.regulate()
        if not self._keeps_actions:
            self.release_actions()

    def _leave(self, reason: str) -> None:
        driver, self._driver = self._driver, None
        self._is_prompt = False
        try:
            self.use_encoding(None)
            if self._reads_into:
                self.receive_into(None)
        finally:
            if driver is not None:
                self._dismiss(driver, reason)
            for timer in list(self._timers):
                timer.cancel()

    def _dismiss(self, driver: Any, reason: str) -> None:
        try:
            driver.handle_connection_close(reason)
        except BaseException:  # it must not raise, and the rest is to be done all the same
            self.log_failure("a module failed to close")

    def _receive(self, data: bytes, filled: int = 0) -> None:
        """Give the module bytes, and what it leaves unread to the next one. Never raises; no module's code is running.

        :param filled: how many bytes were read into the module's buffer instead.
        """
        unchanged = 0
        self._in_module = True
        try:
            if self._transition is not None:
                # The module was to be left at the end of the turn.
                self._make_transitions()
                if self.stream.closing:
                    return
                data, self._unread = self._unread + data, b""
            while True:
                driver = self._driver
                results = driver.handle_buffer_in(filled) if filled else driver.handle_connection_in(data)
                filled = 0
                if results is not None and not self.stream.closing:
                    self._apply(results)
                if self._transition is not None:
                    self._make_transitions()
                if not self._unread or self.stream.closing:
                    return
                unread, self._unread = self._unread, b""
                unchanged = 0 if len(unread) < len(data) else unchanged + 1
                if unchanged > len(self._shared.chain):
                    raise RuntimeError("the chain's modules switch in circles, and none reads anything")
                data = unread
        except BaseException:  # whatever it raises, it ends this connection alone
            self._fail_module("failed on what the peer sent")
        finally:
            self._in_module = False

    def _apply(self, results: Result | Sequence[Result]) -> None:
        """Write the bytes among these results; a transition waits until the module's code has returned."""
        if self._transition is not None:
            # Nothing follows a transition.
            return
        if isinstance(results, bytes):
            self.write(results)
        elif isinstance(results, (list, tuple)):
            for result in results:
                if not isinstance(result, bytes):
                    self._transition = _transition(result)
                    break
                self.write(result)
        else:
            self._transition = _transition(results)

    def _make_transitions(self) -> None:
        """Switch to other modules, or end; no module's code is running."""
        switches = 0
        while self._transition is not None and not self.stream.closing:
            result, self._transition = self._transition, None
            if isinstance(result, Switch):
                if switches > len(self._shared.chain):
                    raise RuntimeError("the chain's modules switch in circles, and none reads anything")
                switches += 1
                self._switch(result)
            elif isinstance(result, Close):
                self._close(result.data)
            else:
                self.abort(result.reason)

    def _close(self, data: bytes) -> None:
        # What was published before goes before.
        self.use_encoding(None)
        self.stream.close(data)

    def _switch(self, switch: Switch) -> None:
        names = [link.name for link in self._shared.chain]
        if switch.name not in names:
            raise LookupError(f"the chain has no module {switch.name!r} to switch to; it has {', '.join(names)}")
        self._leave(f"switched to {switch.name}")
        self.request = switch.request
        self._enter(names.index(switch.name))
        # Bytes that came meanwhile, and were given to no module, follow.
        self._unread = switch.unread + self._unread


# Not by a decorator: Cython's classes take none.
classImplements(Connection, IContext, IProtocol, IHalfCloseableProtocol)


class ProxiedConnection(Connection):
    """A connection through a proxy, which says the peer's address in a header before the peer's first bytes.

    The transport's `call_when_known` tells when the header has come. The address of a connection counts from then on.
    """

    __slots__ = ()

    def _count_address(self) -> None:
        self.stream.transport.call_when_known(self._count_known_address)

    def _count_known_address(self) -> None:
        super()._count_address()
        if not self.admitted and not self.stream.closing:
            self._leave("too many from one address")
            if not self.stream.closing:
                self.run(self._start, "failed to start")
