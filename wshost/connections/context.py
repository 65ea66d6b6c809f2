"""A connection as its protocol modules see it: runs the modules of the chain, and does what they ask for.

It knows what modules may return, but not what their protocols mean. `stream.py` has the output and the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from zope.interface import classImplements

from wshost.connections.kernel import is_broken
from wshost.connections.outbox import CLOSE, CONFLATE, OUTBOX_POLICIES, Outbox
from wshost.connections.ref import Ref
from wshost.connections.shared import Shared
from wshost.connections.stream import Stream
from wshost.connections.timers import ModuleTimer
from wshost.exact import octets
from wshost.exact import seconds as exact_seconds
from wshost.interfaces import (
    IConfirmingDriver,
    IContext,
    ICountingDriver,
    IEncoding,
    IHoldingDriver,
    IMovableDriver,
    IPromptDriver,
    IRenewableDriver,
    Timer,
)
from wshost.messages import CALL
from wshost.networks import Networks
from wshost.request import TLS, Proxy, Request
from wshost.results import Close, Refused, Result, Results, Stop, Switch
from wshost.topics.pending import Subscriber

#: Actions that bring more output. Refs may not ask for them while output is full.
BRINGS_OUTPUT = frozenset({"send", "confirm", "ping", "info", "subscribe"})
#: Actions with a message.
_MESSAGES = frozenset({"send", "confirm"})
#: Actions that the connection itself asks its module for. They are never kept.
_OWN_ACTIONS = frozenset({"drain", "drained", "let_go", "reload", "shutdown"})
#: At most this many actions are kept for a module that is not ready.
MAX_KEPT = 1_024


def _transition(result: Any) -> Switch | Close | Stop:
    if isinstance(result, (Switch, Close, Stop)):
        return result
    raise TypeError(f"a module returned {result!r}, not bytes, Switch, Close, Stop or a list of them")


def _do_nothing() -> None:
    """Do nothing."""


class Context:
    """The `IContext` of one connection's modules.

    :param shared: what all connections of the hub share.
    :param id: the connection's id, for refs and for the log.
    :param admitted: False when the server is full.
    """

    def __init__(self, shared: Shared, id: str, admitted: bool) -> None:
        self.admitted = admitted
        self.retry_after = 0
        self.ref = Ref(shared.registry, id)
        self.request: Request | None = None
        # The route of the request, for the log: it stays when the request is not needed any more.
        self._route: str | None = None
        #: The connection's output and its end.
        self.stream = Stream(shared, id, self._output_drained)
        #: The connection as a subscriber of topics; None until it subscribes to one.
        self.subscriber: Subscriber | None = None
        #: What happens to messages of refs when the peer is slow; and where they wait, if the policy drops them there.
        self.policy = CLOSE
        self.outbox: Outbox | None = None
        #: What a trusted proxy has said; None until it has.
        self.proxy: Proxy | None = None
        #: The IP address for which the connection is counted.
        self.counted_address: str | None = None
        self._shared = shared
        self.notes: dict[str, Any] | None = {} if shared.account.takes_notes else None
        #: How published messages are encoded; None: the module is asked to send each.
        self.encoding: IEncoding | None = None
        # The current module's driver; None before the module has started, and after it has left.
        self._driver: Any = None
        self._position = 0
        #: The first of the module's timers, and with it the others; see `ModuleTimer`.
        self.timers: ModuleTimer | None = None
        # The driver is an `IPromptDriver`.
        self._is_prompt = False
        # A module's code is running; the transition that it has asked for, which is made when it returns.
        self._in_module = False
        self._transition: Switch | Close | Stop | None = None
        # The transport reads into a buffer of the module's.
        self._reads_into = False
        # Bytes that the module before the current one left unread. No other buffer can hold them.
        self._unread = b""
        # The module is not ready; the actions that refs asked for meanwhile.
        self._keeps_actions = False
        self._kept: list[tuple[str, tuple[Any, ...]]] | None = None
        #: Their size in bytes.
        self.kept_size = 0

    # What modules see: `IContext`

    @property
    def clock(self) -> IReactorTime:
        clock: IReactorTime = self._shared.reactor
        return clock

    @property
    def peer_address(self) -> IAddress:
        peer: IAddress = self.stream.client or self.stream.transport.getPeer()
        return peer

    @property
    def host_address(self) -> IAddress:
        host: IAddress = self.stream.transport.getHost()
        return host

    @property
    def peer(self) -> str:
        return self.stream.peer()

    @property
    def tls(self) -> TLS | None:
        if not ISSLTransport.providedBy(self.stream.transport):
            return None
        certificate: Any = self.stream.transport.getPeerCertificate()
        return TLS(peer_certificate=certificate)

    @property
    def trusted(self) -> Networks | None:
        trusted, transport = self._shared.trusted, self.stream.transport
        if trusted is None or not trusted.have(transport.getPeer()):
            return None
        # A PROXY header may come from a trusted proxy, and not say whose bytes follow.
        return None if getattr(transport, "anonymous", False) else trusted

    def use_client(self, client: IAddress | None, secure: bool, decided: Callable[[], None] | None = None) -> bool:
        self.proxy = Proxy(self.peer, secure)
        self.stream.client = client
        driver = self._driver
        if decided is not None and driver is not None and self.ask_address(partial(self._decided, driver, decided)):
            return False
        self.count_address()
        self._limit_refusals()
        return True

    def _decided(self, driver: Any, decided: Callable[[], None]) -> None:
        """Another process has decided whether the client is admitted."""
        self._limit_refusals()
        if self._driver is driver:
            self.run(decided, "failed to go on")

    def _limit_refusals(self) -> None:
        if not self.admitted and not self._shared.admission.refuse(self.ref.id):
            self.perform(Stop("it was not admitted"))

    @property
    def next_module(self) -> str | None:
        chain = self._shared.chain
        return chain[self._position + 1].name if self._position + 1 < len(chain) else None

    @property
    def module(self) -> str:
        """The name of the current module."""
        return self._shared.chain[self._position].name

    @property
    def route(self) -> str | None:
        """The route of the request; None when there is none, or none is known yet."""
        return self._route

    def messages(self) -> tuple[int, int]:
        """Return how many messages have come and gone, without published ones. Known only if notes are taken."""
        driver = self._driver
        if ICountingDriver.providedBy(driver):
            return driver.messages_in, driver.messages_out
        # Modules may have noted anything.
        notes = self.notes or {}
        come, gone = notes.get("messages_in"), notes.get("messages_out")
        return (come if type(come) is int else 0), (gone if type(gone) is int else 0)

    @property
    def reading(self) -> bool:
        return self.stream.reading

    @property
    def blocked(self) -> bool:
        return self.stream.blocked

    @property
    def max_output(self) -> int:
        return self._shared.limits.max_output

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
        if self.subscriber is not None and self.encoding is not None:
            # Messages that were published earlier leave first.
            published = self.subscriber.drain()
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
        except BaseException:  # the results may be anything
            self._fail_module("asked for something impossible")
        if self._in_module:
            return
        if isinstance(self._transition, Switch):
            # A switch enters a module's code, and users' code may be running now.
            self.call_soon(_do_nothing)
        else:
            self.run(_do_nothing)

    def pause_reading(self) -> None:
        self.stream.paused_by_module = True
        self.stream.regulate()

    def resume_reading(self) -> None:
        self.stream.paused_by_module = False
        self.stream.regulate()

    def receive_into(self, buffer: Any) -> bool:
        # A wrapping transport may not forward `buffer_updated`. So each transport checks its protocol.
        receive = getattr(self.stream.transport, "receive_into", None)
        received = receive is not None and bool(receive(buffer))
        self._reads_into = received and buffer is not None
        return received

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        # Convert first: a value that is no number would stop all timers of the schedule.
        timer = ModuleTimer(self._shared.schedule, exact_seconds(seconds), call, self)
        if self.stream.closing and self._driver is None:
            timer.cancel()
        return timer

    def run_timer(self, call: Callable[[], None]) -> None:
        """Make a timer's call."""
        self.run(call, "failed in a timer")

    def call_regardless(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._shared.schedule.call_later(seconds, call)

    def call_soon(self, call: Callable[[], None]) -> None:
        self._shared.turn.call_soon(self, call)

    def count_refusal(self, status: int, reason: str) -> None:
        self._shared.account.count_refusal(status, reason)
        if self.notes is not None:
            self.notes.update(status=status or None, reason=reason)

    def count_crash(self, handler: str, kind: str) -> None:
        self._shared.account.count_crash(handler, kind)

    def log_failure(self, what: str) -> None:
        if self.notes is not None:
            self.notes["errors"] = self.notes.get("errors", 0) + 1
        self._shared.failures.log(self.ref.id, what, self.stream.peer, self._route)

    def unsubscribe_all(self) -> None:
        if self.subscriber is not None:
            for topic in list(self.subscriber.topics):
                self.ref.unsubscribe(topic.name)

    def start_over(self) -> None:
        self.unsubscribe_all()
        directory = self._shared.registry.directory
        if directory is not None:
            directory.release(self.ref)

    def use_encoding(self, encoding: IEncoding | None) -> None:
        if encoding is self.encoding:
            return
        # Refuse an encoding that is not hashable before anything has changed.
        hash(encoding)
        if self.subscriber is not None:
            if self.encoding is not None and not self.stream.closing:
                # Messages that were published earlier leave first.
                self.write(b"")
            self.subscriber.use_encoding(encoding)
        self.encoding = encoding

    def use_policy(self, policy: str) -> None:
        self.take_waiting()
        self.policy = policy
        self.stream.patient = policy != CLOSE
        if policy in OUTBOX_POLICIES:
            shared = self._shared
            self.outbox = Outbox(
                self.stream,
                partial(self.ask, "send"),
                shared.limits.max_output,
                policy == CONFLATE,
                partial(shared.account.count_dropped, policy),
            )

    def take_waiting(self) -> Sequence[str | bytes]:
        outbox, self.outbox = self.outbox, None
        return () if outbox is None else outbox.take()

    def keep_actions(self) -> None:
        self._keeps_actions = True

    def release_actions(self) -> None:
        self._keeps_actions = False
        kept, self._kept = self._kept, None
        self.kept_size = 0
        for action, args in kept or ():
            if action == "confirm" and self._driver is not None and not self.confirms:
                self.ask("send", args[0])
            else:
                self.ask(action, *args)

    # Code of modules and handlers

    def run(self, call: Callable[[], None], what: str = "failed at a turn's end") -> None:
        """Call a module's code, or its handler's, while no other such code is running. Never raises.

        :param what: what failed when the call raises, as a clause.
        """
        self._in_module = True
        try:
            call()
            if self._transition is not None:
                self._make_transitions()
        except BaseException:  # any error ends this connection, and no other
            self._fail_module(what)
        finally:
            self._in_module = False
        self._continue()

    def _fail_module(self, what: str) -> None:
        """End at once: the module has raised the exception being handled."""
        self._transition = None
        name = self._shared.chain[self._position].name
        self.count_crash(name, "module")
        self.stream.fail(f"the module {name} {what}")

    def _continue(self) -> None:
        """Continue after a call into a module: process the bytes that it left unread, and schedule a flush."""
        if self._in_module:
            return
        if self._unread and not self.stream.closing:
            data, self._unread = self._unread, b""
            self.receive(data)
        self.stream.flush_later()

    # For the connection

    @property
    def is_prompt(self) -> bool:
        """Whether the module may be asked from within users' code."""
        return self._is_prompt or self._driver is None

    def ask(self, action: str, *args: Any) -> bool:
        """Ask the current module for something; return whether it was accepted. Never raises."""
        driver = self._driver
        if self.stream.closing or (self.stream.output_full and action in BRINGS_OUTPUT):
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
        except BaseException:  # the caller, maybe a handler, is not to blame
            self._fail_module(f"failed on the action {action}")
            return False
        finally:
            self._in_module = was_in_module
        self._continue()
        return not isinstance(results, Refused)

    @property
    def confirms(self) -> bool:
        """Whether the module says when a message is in the output."""
        return IConfirmingDriver.providedBy(self._driver)

    @property
    def held(self) -> int:
        """How many bytes of refs' messages the module holds back. Safe in any thread."""
        driver: Any = self._driver
        return driver.held if IHoldingDriver.providedBy(driver) else 0

    def let_go(self) -> None:
        """Have the module send what it need not hold back."""
        if self.held:
            self.ask("let_go")

    @property
    def keeps(self) -> bool:
        """Whether actions are kept now, until the module is ready."""
        transition = self._transition
        if self.stream.closing or not (transition is None or isinstance(transition, Switch)):
            return False
        return self._driver is None or transition is not None or self._keeps_actions

    def renew(self) -> bool:
        """Ask the module to go over to newer code of its handler; return whether it does.

        One that has not begun yet begins with that.
        """
        return self._transition is None and IRenewableDriver.providedBy(self._driver) and self.ask("reload")

    def _keep(self, action: str, args: tuple[Any, ...]) -> bool:
        """Keep an action until the module is ready; False when too much is kept."""
        size = CALL + (len(args[0]) if action in _MESSAGES else 0)
        if self._kept is None:
            self._kept = []
        if len(self._kept) >= MAX_KEPT or self.kept_size + size > self._shared.limits.max_output:
            return False
        self.kept_size += size
        self._kept.append((action, args))
        return True

    def _output_drained(self) -> None:
        self.ask("drained")

    def count_address(self) -> None:
        """Count the connection for its peer's IP address, if it has one. It is not admitted if that has too many."""
        host, admission = getattr(self.peer_address, "host", None), self._shared.admission
        if host is None or self.counted_address is not None:
            return
        if admission.rate is not None:
            self.retry_after = admission.rate.take(host)
        self.admitted = not self.retry_after and admission.count_address(host)
        if self.admitted:
            self.counted_address = host

    def ask_address(self, then: Callable[[], None]) -> bool:
        """Let another process say whether the peer's IP address has room, if there is one to ask.

        :param then: called later, when `count_address` has done what that says.
        :returns: False when there is none, and `count_address` is to be called.
        """
        host = getattr(self.peer_address, "host", None)
        if host is None or self.counted_address is not None:
            return False
        return self._shared.admission.ask(self.ref.id, host, self.count_address, then)

    # The chain

    def start(self) -> None:
        """Start the first module."""
        self._enter(0)
        self._make_transitions()

    def _enter(self, position: int) -> None:
        link = self._shared.chain[position]
        self._position = position
        self._keeps_actions = False
        # The transport stays as it is until the next module has started, which may pause reading itself.
        self.stream.paused_by_module = False
        try:
            driver = link.module.init(link.options, self)
            if driver is None:
                raise TypeError(f"init of the module {link.name} returned no driver")
        except BaseException:  # users' code may raise anything
            self._fail_module("failed to start")
            self.leave(self.stream.reason)
            return
        self._driver = driver
        self._is_prompt = IPromptDriver.providedBy(driver)
        self.stream.regulate()
        if not self._keeps_actions:
            self.release_actions()

    def leave(self, reason: str) -> None:
        """Tell the current module that the connection is gone, or switches to another module."""
        driver, self._driver = self._driver, None
        self._is_prompt = False
        try:
            self.use_encoding(None)
            if self.stream.patient:
                self.use_policy(CLOSE)
            if self._reads_into:
                self.receive_into(None)
        finally:
            if driver is not None:
                self._dismiss(driver, reason)
            while self.timers is not None:
                self.timers.cancel()

    # Another process

    def freeze(self) -> bytes | None:
        """Ask the module for what another process needs to go on; None when it can't go on now, or never.

        Called while no users' code is running.
        """
        driver = self._driver
        if self._transition is not None or self._unread or self._kept or self._reads_into or self.stream.closing:
            return None
        if not IMovableDriver.providedBy(driver) or not hasattr(self._shared.chain[self._position].module, "thaw"):
            return None
        self._in_module = True
        try:
            frozen = driver.freeze()
            return None if frozen is None else octets(frozen)
        except BaseException:  # a module's own driver may raise anything
            self.log_failure("a module failed to freeze")
            return None
        finally:
            self._in_module = False
            self._continue()

    def thaw(self, module: str, route: str | None, data: bytes, messages_in: int, messages_out: int) -> None:
        """Go on with a connection of another process, in the module that has frozen it there.

        :param messages_in: how many messages have come before, and `messages_out`, how many have gone.
        :raises LookupError: when the chain has no such module, or it can't go on.
        """
        for position, link in enumerate(self._shared.chain):
            if link.name == module and hasattr(link.module, "thaw"):
                self._position = position
                self._route = route
                self._driver = link.module.thaw(link.options, self, data)
                self._is_prompt = IPromptDriver.providedBy(self._driver)
                if ICountingDriver.providedBy(self._driver):
                    self._driver.messages_in += messages_in
                    self._driver.messages_out += messages_out
                return
        raise LookupError(f"no module {module} of this chain can go on with it")

    def depart(self) -> None:
        """Forget the module and its timers, without a word to it: another process has the connection."""
        if self.notes is not None:
            # A scrape that has begun may still ask for them.
            self.notes["messages_in"], self.notes["messages_out"] = self.messages()
        self._driver = None
        self._is_prompt = False
        self.use_encoding(None)
        if self.stream.patient:
            self.use_policy(CLOSE)
        while self.timers is not None:
            self.timers.cancel()

    def _dismiss(self, driver: Any, reason: str) -> None:
        try:
            driver.handle_connection_close(reason)
        except BaseException:  # it must not raise; if it does, the rest must still be done
            self.count_crash(self._shared.chain[self._position].name, "module")
            self.log_failure("a module failed to close")

    def receive(self, data: bytes, filled: int = 0) -> None:
        """Give bytes to the module, and those that it leaves unread to the next one. Never raises.

        Called while no module's code is running.

        :param filled: how many bytes were read into the module's buffer instead.
        """
        unchanged = 0
        self._in_module = True
        try:
            if self._transition is not None:
                # This transition was to be made at the end of the turn.
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
        except BaseException:  # any error ends this connection, and no other
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
        """Switch to other modules, or end. Called while no module's code is running."""
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
                self.stream.abort(result.reason)

    def _close(self, data: bytes) -> None:
        # Messages that were published earlier leave first.
        self.use_encoding(None)
        self.stream.close(data)

    def _switch(self, switch: Switch) -> None:
        names = [link.name for link in self._shared.chain]
        if switch.name not in names:
            raise LookupError(f"the chain has no module {switch.name!r} to switch to; it has {', '.join(names)}")
        self.leave(f"switched to {switch.name}")
        self.request = switch.request
        self._route = None if switch.request is None else switch.request.route
        self._enter(names.index(switch.name))
        # Then follow bytes that arrived meanwhile, and were given to no module.
        self._unread = switch.unread + self._unread


# Not a decorator: Cython's extension types can't have one.
classImplements(Context, IContext)
