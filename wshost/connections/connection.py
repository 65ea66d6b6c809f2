"""One connection: the protocol of its transport, the target of its refs, and its place in the limits on connections.

`context.py` runs the modules of the chain, `stream.py` has the output. Nothing here knows what bytes mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements, implementedBy

from wshost.connections.account import Traffic
from wshost.connections.confirmation import Confirmation
from wshost.connections.context import BRINGS_OUTPUT, MAX_KEPT, Context
from wshost.connections.outbox import Outbox
from wshost.connections.ref import Ref
from wshost.connections.shared import Shared
from wshost.connections.stream import Stream
from wshost.connections.waiters import Waiters
from wshost.messages import CALL
from wshost.results import Close, Outcome, Sent
from wshost.topics.subscriptions import Topics

#: The actions that the connection does itself, without its module.
_TOPIC_ACTIONS = frozenset({"subscribe", "unsubscribe"})
#: Those that the directory does.
_DIRECTORY_ACTIONS = frozenset({"monitor", "demonitor", "watch", "unwatch"})
_OWN_ACTIONS = _TOPIC_ACTIONS | _DIRECTORY_ACTIONS


# Globals are found faster than an enumeration's members.
_DROPPED, _ACCEPTED, _WAITING = Sent
_DONE = connectionDone.getErrorMessage()


class Connection:
    """One connection.

    :param shared: what all connections of the hub share.
    :param topics: the hub's topics.
    :param id: names it in refs and in the log.
    :param admitted: False when the server is full.
    """

    def __init__(self, shared: Shared, topics: Topics, id: str, admitted: bool) -> None:
        self.id = id
        #: Runs its modules; they see the connection as this object.
        self.context = Context(shared, id, admitted)
        #: Its output and its end.
        self.stream: Stream = self.context.stream
        self._shared = shared
        self._topics = topics
        #: How many bytes have come in; and when it was made, if notes are taken.
        self.bytes_in = 0
        self.made_at = 0.0
        # What waits until the peer has taken its output; None until something does.
        self._waiters: Waiters | None = None
        # Messages of which it is to be said what became; None until there is one.
        self._confirmations: dict[Confirmation, None] | None = None
        # Another thread's send was refused, and the reactor's thread will be told.
        self._refusal_posted = False

    @property
    def __providedBy__(self) -> Any:
        # Of an extension type, zope.interface finds this out anew each time, in microseconds.
        return implementedBy(type(self))

    @property
    def ref(self) -> Ref:
        """The reference by which others name this connection."""
        return self.context.ref

    def traffic(self) -> Traffic:
        """Return what has gone through so far. Messages are known only if notes are taken."""
        stream = self.stream
        messages_in, messages_out = self.context.messages()
        return Traffic(messages_in, self.bytes_in, messages_out + stream.published, stream.bytes_out)

    # Actions of refs

    def ask(self, size: int, action: str, *args: Any) -> bool:
        """Ask for an action. Called in the reactor's thread, maybe from within users' code.

        A module whose driver may call users' code for an action is asked in a later turn.

        :param size: how many bytes the action counts for while it waits.
        :returns: whether it was accepted.
        """
        if action in _OWN_ACTIONS or self.context.is_prompt:
            return self._ask_now(action, args)
        return self.ask_later(size, action, *args)

    def send(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        """Send a message. Called in the reactor's thread, maybe from within users' code.

        :param size: how many bytes it counts for while it waits.
        :param key: see `IRef.send`.
        """
        blocked = self.stream.blocked
        outbox = self.context.outbox
        if outbox is not None and self._has_to_wait(outbox):
            outbox.put(size, data, key)
            return _WAITING
        if self.ask(size, "send", data):
            return _WAITING if blocked else _ACCEPTED
        self._note_dropped()
        return _DROPPED

    def send_confirmed(self, size: int, data: str | bytes, key: str | None, seconds: float) -> Deferred[Outcome]:
        """Send a message, and say what became of it. Called in the reactor's thread.

        :param seconds: the outcome is `TIMEOUT` after so long.
        """
        confirmation = Confirmation(
            self._left, self._shared.reactor, self._call_soon, seconds, self._forget_confirmation
        )
        self._confirmations = self._confirmations or {}
        self._confirmations[confirmation] = None
        outbox = self.context.outbox
        if outbox is not None and self._has_to_wait(outbox):
            outbox.put(size, data, key, partial(self._decide, confirmation, data))
        elif self.context.is_prompt:
            self._confirm_now(confirmation, data)
        elif not self._post(size, self._shared.limits.max_output, self._confirm_now, confirmation, data):
            self._note_dropped()
            confirmation.settle(Outcome.GONE if self.stream.closing else Outcome.OVERFLOW)
        return confirmation.outcome

    def _decide(self, confirmation: Confirmation, data: str | bytes, leaves: bool) -> bool:
        """A message leaves the outbox, or is dropped there; return whether the module has taken it."""
        if leaves:
            return self._confirm(confirmation, data)
        confirmation.settle(Outcome.OVERFLOW)
        return False

    def _confirm_now(self, confirmation: Confirmation, data: str | bytes) -> None:
        if not self._confirm(confirmation, data):
            self._note_dropped()

    def _confirm(self, confirmation: Confirmation, data: str | bytes) -> bool:
        """Give the module a message that is to be confirmed; return whether it has taken it."""
        if self.context.confirms or self.context.keeps:
            accepted = self._ask_now("confirm", (data, confirmation.decide))
        else:
            accepted = self._ask_now("send", (data,))
            if accepted:
                # The module does not say what becomes of messages.
                confirmation.settle(Outcome.TIMEOUT)
        if not accepted:
            full = self.context.keeps or (self.stream.output_full and not self.stream.closing)
            confirmation.settle(Outcome.OVERFLOW if full else Outcome.GONE)
        return accepted

    def _left(self) -> Deferred[bool]:
        """Wait until no output waits; fires with False when the connection has gone, or is about to."""
        # What waited when it was aborted is lost, even if nothing waits now.
        return self.drained().addCallback(lambda left: left and not self.stream.reason)

    def _call_soon(self, call: Callable[[], None]) -> None:
        # Compiled, the context's method alone would not be bound to the context.
        self.context.call_soon(call)

    def _forget_confirmation(self, confirmation: Confirmation) -> None:
        if self._confirmations is not None:
            self._confirmations.pop(confirmation, None)

    def _has_to_wait(self, outbox: Outbox) -> bool:
        """Whether the next message waits in the outbox."""
        return (self.stream.blocked or outbox.size > 0) and not self.stream.closing

    def _note_dropped(self) -> None:
        """Note that a message was refused, if it was for want of room."""
        if self.stream.output_full and not self.stream.closing:
            self._shared.account.count_dropped(self.context.policy)
            self._drain_waiters().note_refusal()

    def send_later(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        """Send a message in a later turn. Called in any thread; see `send`."""
        stream, most = self.stream, self._shared.limits.max_output
        # There is always room in the outbox, but not for any number of calls.
        room = not stream.closing and (self.context.outbox is not None or not stream.output_full)
        accepted = room and self._post(size, most, self._send_posted, size, data, key)
        if accepted:
            return _WAITING if self.stream.blocked else _ACCEPTED
        if not self.stream.closing:
            self._shared.account.count_dropped(self.context.policy)
            if not self._refusal_posted:
                # It has room of its own, and is called after all that waits.
                self._refusal_posted = True
                self._post(CALL, 2 * self._shared.limits.max_output + MAX_KEPT * CALL, self._note_refusal)
        return _DROPPED

    def _send_posted(self, size: int, data: str | bytes, key: str | None) -> None:
        """Send a message of another thread. It may have no room any more: others were posted before it."""
        outbox = self.context.outbox
        if outbox is not None and self._has_to_wait(outbox):
            outbox.put(size, data, key)
        elif not self._ask_now("send", (data,)):
            self._note_dropped()

    def _note_refusal(self) -> None:
        """Another thread's send was refused. There may be room again by now."""
        self._refusal_posted = False
        if not self.stream.closing:
            waiters = self._drain_waiters()
            waiters.note_refusal()
            if not self.stream.output_full:
                waiters.tell_handler()

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer, in the stream, for or in the module, or for the thread. Safe in any."""
        context = self.context
        return self._shared.registry.thread.waiting(self.id) + context.kept_size + context.held + self.stream.waiting

    def drained(self) -> Deferred[bool]:
        """Wait until no output waits; see `IRef.drained`. Called in the reactor's thread."""
        return self._drain_waiters().drained()

    def _drain_waiters(self) -> Waiters:
        if self._waiters is None:
            self._waiters = Waiters(self.context, self._shared.schedule, lambda: self.waiting)
        return self._waiters

    def ask_later(self, size: int, action: str, *args: Any) -> bool:
        """Ask for an action in a later turn. Called in any thread. The limit on output limits the waiting actions, too.

        :param size: how many bytes the action counts for while it waits.
        :returns: whether it was accepted.
        """
        stream, most = self.stream, self._shared.limits.max_output
        if stream.closing or (stream.output_full and action in BRINGS_OUTPUT):
            return False
        if action not in BRINGS_OUTPUT:
            # Actions that bring no output, such as "close" and "unsubscribe", have room of their own.
            most = 2 * most + MAX_KEPT * CALL
        return self._post(size, most, self._ask_now, action, args)

    def _post(self, size: int, most: int, call: Callable[..., Any], *args: Any) -> bool:
        return self._shared.registry.thread.post(self.id, size, most, call, *args)

    def _ask_now(self, action: str, args: tuple[Any, ...]) -> bool:
        if action in _TOPIC_ACTIONS:
            return self._ask_topics(action, *args)
        if action in _DIRECTORY_ACTIONS:
            return self._ask_directory(action, *args)
        return self.context.ask(action, *args)

    def _ask_directory(self, action: str, what: Any) -> bool:
        registry = self._shared.registry
        if registry.directory is None or registry.find(self.id) is not self:
            return False
        return registry.directory.ask(self.ref, action, what)

    def _ask_topics(self, action: str, name: str, tell_lost: bool = False) -> bool:
        subscriber = self.context.subscriber
        if action == "unsubscribe":
            if subscriber is not None:
                self._topics.unsubscribe(subscriber, name)
            return True
        if not self.stream.takes_output:
            return False
        if subscriber is None:
            subscriber = self.context.subscriber = self._topics.subscriber(self.id, self.stream, self.ask)
            subscriber.use_encoding(self.context.encoding)
        return self._topics.subscribe(subscriber, name, tell_lost)

    @property
    def told_of_losses(self) -> list[str]:
        """The topics of which the handler is told what was lost."""
        subscriber, losses = self.context.subscriber, self._topics.losses
        if subscriber is None:
            return []
        return [topic.name for topic in subscriber.topics if losses.asks(topic, subscriber)]

    def drain(self) -> None:
        """Tell the module that the server stops. `shut_down` follows, at once or later."""
        self._when_free(self._tell_of_drain)

    def shut_down(self) -> None:
        """Say good-bye to the peer: the server stops."""
        self._when_free(self._say_good_bye)

    def _when_free(self, ask: Callable[[], None]) -> None:
        """Ask the module now, or when no users' code is running: the caller may be users' code, and stop the server."""
        if self.context.is_prompt:
            ask()
        else:
            self.context.call_soon(ask)

    def _tell_of_drain(self) -> None:
        self.context.ask("drain")

    def _say_good_bye(self) -> None:
        if not self.context.ask("shutdown"):
            self.context.perform(Close())

    def renew(self) -> bool:
        """Go over to newer code of the handler. Called when no users' code is running.

        :returns: whether there is any.
        """
        return self.context.renew()

    def abort(self, reason: str) -> None:
        """End at once; pending output is lost."""
        self.stream.abort(reason)

    # From the transport

    def makeConnection(self, transport: Any) -> None:
        self.stream.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self._shared.registry.add(self)
        self.stream.connect(self.stream.transport)
        if self.context.notes is not None:
            self.made_at = self._shared.schedule.seconds()
        self._count_address()
        self.context.run(self._start, "failed to start")

    def dataReceived(self, data: bytes) -> None:
        if not self.stream.closing:
            self.bytes_in += len(data)
            self.context.receive(data)
            self.stream.flush()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes were read into the buffer of `receive_into`; the name is that of asyncio's protocols."""
        if not self.stream.closing:
            self.bytes_in += nbytes
            self.context.receive(b"", nbytes)
            self.stream.flush()

    def readConnectionLost(self) -> None:
        self.stream.peer_ended()

    def writeConnectionLost(self) -> None:
        """Do nothing: we have closed our half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.stream.lost()
        # The connection must free its place even if a module raises.
        self._end_waiting()
        why = ""
        try:
            # Nearly always this is the reason, and its text takes long to make.
            why = self.stream.reason or (_DONE if reason is connectionDone else reason.getErrorMessage())
            self.context.leave(why)
            if self._shared.account.takes_notes:
                self._account_for(self.context.notes, why)
        finally:
            self._free_place(why)

    def _end_waiting(self) -> None:
        """Tell those who wait that the connection has gone."""
        waiters, self._waiters = self._waiters, None
        if waiters is not None:
            waiters.lost()
        confirmations, self._confirmations = self._confirmations, None
        for confirmation in confirmations or ():
            confirmation.settle(Outcome.GONE)

    def _free_place(self, why: str | None) -> None:
        shared, context = self._shared, self.context
        if context.counted_address is not None:
            shared.admission.discount_address(context.counted_address)
        shared.admission.forget(self.id)
        subscriber, context.subscriber = context.subscriber, None
        try:
            if subscriber is not None:
                self._topics.forget(subscriber)
        finally:
            shared.registry.remove(self, why)

    # Another process

    @property
    def age(self) -> float:
        """How many seconds ago it was made; 0 if no notes are taken."""
        return 0.0 if self.context.notes is None else self._shared.schedule.seconds() - self.made_at

    @property
    def quiet(self) -> bool:
        """Whether nothing waits, for the peer or for the module."""
        waiters, pending = self._waiters, self.context.subscriber
        return self.stream.quiet and not (
            self.waiting
            or self._confirmations
            or (waiters is not None and waiters.waited_for)
            or (pending is not None and pending.due)
        )

    def depart(self) -> None:
        """Forget the connection, and tell its handler nothing: another process has it."""
        self.stream.lost()
        self._end_waiting()
        try:
            self.context.depart()
            if self._shared.account.takes_notes:
                self._shared.account.count_traffic(self.traffic())
        finally:
            self._free_place(None)

    def _account_for(self, notes: dict[str, Any] | None, why: str) -> None:
        """Say to the account what the connection was."""
        stream, account = self.stream, self._shared.account
        # A scrape may have seen its traffic, so it counts even if there are no notes: no total may become smaller.
        account.count_end(notes or {}, self.traffic())
        if notes is None or not account.access:
            return
        # Not in the notes themselves: a scrape that has begun may still ask for the traffic, and adds topics' messages.
        known = {**notes, "seconds": self._shared.schedule.seconds() - self.made_at}
        known["bytes_in"], known["bytes_out"] = self.bytes_in, stream.bytes_out
        if "messages_out" in notes:
            known["messages_out"] += stream.published
        if stream.reason or ("reason" not in notes and "code" not in notes):
            known["reason"] = why
        try:
            account.log(self.id, stream.peer(), known)
        except BaseException:  # users' modules may have noted anything
            self._shared.failures.log(self.id, "the access log failed", stream.peer)

    # Admission

    def _count_address(self) -> None:
        # A trusted proxy has many clients; each is counted when the proxy has named it.
        if self.context.admitted and self.context.trusted is None:
            self.context.count_address()

    def _start(self) -> None:
        if self.context.admitted or self._shared.admission.refuse(self.id):
            self.context.start()
        if not self.context.admitted and not self.stream.closing:
            reason = "This address connects too often." if self.context.retry_after else "The server is full."
            self.context.count_refusal(0, reason)
            self.abort("it was not admitted")


# Not a decorator: Cython's extension types can't have one.
classImplements(Connection, IProtocol, IHalfCloseableProtocol)


class ProxiedConnection(Connection):
    """A connection through a proxy, which sends a header with the peer's address before the peer's first bytes.

    The transport's `call_when_known` tells when the header has arrived. Only then the address is counted. While another
    process is asked about it, the transport holds what comes behind the header.
    """

    def _count_address(self) -> None:
        self.stream.transport.call_when_known(self._count_known_address)

    def _count_known_address(self) -> None:
        context = self.context
        if context.admitted and context.trusted is None and context.ask_address(self._go_on):
            self.stream.transport.hold()
            self.stream.held = True
            self.stream.regulate()
            return
        super()._count_address()
        self._start_again_if_refused()

    def _go_on(self) -> None:
        """Another process has said whether the address has room."""
        self._start_again_if_refused()
        self.stream.held = False
        self.stream.regulate()
        self.stream.transport.release()

    def _start_again_if_refused(self) -> None:
        if not self.context.admitted and not self.stream.closing:
            self.context.leave("too many from one address")
            if not self.stream.closing:
                self.context.run(self._start, "failed to start")
