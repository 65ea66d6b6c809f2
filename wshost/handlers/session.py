"""Runs the user's handler for one connection, one message at a time, until the end. Knows no frames, no transport.

`waiting.py` waits for results of `init` and `handle` that are awaitable. `answers.py` says what an answer means.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

from zope.interface import classImplements

from wshost.exact import octets
from wshost.handlers.answers import Close, Ping, Pong, Reply, parse
from wshost.handlers.awaiting import CANCELLED, Pending, begin, is_pending, running_loop
from wshost.handlers.timed import Durations, Timed
from wshost.handlers.waiting import Done, Failed, Waiting
from wshost.interfaces import IAwaitingSession, IChannel, IMovableSession, IRef, IRenewableSession
from wshost.request import ConnectionInfo
from wshost.results import Accept, Reject

#: How many infos may be queued for one connection's handler.
MAX_INFOS = 1_024
#: The info that the server stops, of which one more may be queued: it comes once.
DRAIN = "drain"
#: How many queued infos are handled in a row before other connections have their turn: a handler may send itself one
#: info after the other.
INFOS_A_TURN = 256


class Newest:
    """Where terms find those that have followed them.

    :param terms: the newest.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Terms) -> None:
        self.terms = terms


@dataclass
class Terms:
    """The values that all sessions of a handler share. They do not change, but others may follow them."""

    #: An `IHandler`.
    handler: Any
    #: The handler's own options, for its `init`.
    options: Mapping[str, Any]
    #: Seconds that `init` may take before the connection is rejected with 503.
    init_timeout: float
    #: Seconds that `handle` may go on after the connection is gone, before it is cancelled.
    close_grace: float
    #: After a crash of `handle`, `init` runs again, and the connection stays: see `restarting.py`.
    restarts: bool = False
    #: What happens to messages of refs when the peer is slow: a word of the option ``--when-slow``.
    when_slow: str = "close"
    #: The handler's name, for the log and the metrics.
    name: str = "handler"
    #: Counts how long the calls of `handle` take; None: they are not timed.
    durations: Durations | None = None
    #: Has the terms with the newest code. All terms of one adapter share it: no code in between is kept.
    newest: Newest | None = None

    def handle(self) -> Callable[[Any, Any], Any]:
        """Return the handler's `handle`, timed if that is asked for."""
        handle: Callable[[Any, Any], Any] = self.handler.handle
        return handle if self.durations is None else Timed(handle, self.durations)


class Stage(Enum):
    """The stages of a session."""

    #: `init` is running.
    INIT = auto()
    #: Messages are handled.
    OPEN = auto()
    #: The handler has closed or failed: it gets nothing more but "connection_close".
    CLOSING = auto()
    #: The connection is gone; "connection_close" waits until the handler has finished its current call.
    LOST = auto()
    #: `init` failed or was given up, or "connection_close" has been handled.
    OVER = auto()


# Globals are found faster than an enumeration's members, and every message needs these.
_INIT, _OPEN, _CLOSING, _LOST, _OVER = Stage
_PLAIN = frozenset((str, bytes))


class HandlerSession:
    """One connection's handler: its state, and its current call. See `wshost.interfaces.ISession`.

    Any exception of the handler, `BaseException` included, ends its connection, and nothing else.
    """

    def __init__(self, terms: Terms, channel: IChannel, connection: ConnectionInfo | None) -> None:
        #: True while `init` or `handle` is running: infos are queued then, and no message may come.
        self.busy = True
        #: True while a call of `_process_queue` is scheduled for the end of the reactor's turn.
        self.has_infos = False
        self._terms = terms
        self._channel = channel
        # None once `init` has been given it.
        self._connection = connection
        self._loop = running_loop()
        self._handle: Callable[[Any, Any], Any]
        self._stage = _INIT
        self._state: Any = None
        # Infos, calls to be made after them, and at most one message. None before the first of them.
        self._queue: deque[Any] | None = None
        self._message_queued = False
        # `_change_code` is queued.
        self._changes_code = False
        # Set while the session waits for an awaitable result of `init` or `handle`.
        self._waiting: Waiting | None = None

    @property
    def awaits(self) -> bool:
        """Whether a result of the handler is awaited: see `IAwaitingSession`."""
        return self._waiting is not None

    # From the channel

    def open(self, ref: IRef) -> None:
        """Run the handler's `init`.

        :param ref: for ``options["worker"]``.
        """
        terms = self._terms
        options = {**terms.options, "worker": ref, "connection": self._connection}
        self._connection = None
        try:
            self._handle = terms.handle()
            result = begin(terms.handler.init(options), self._loop)
            if is_pending(result):
                self._wait_for(result, self._init_done, self._init_failed)
            else:
                self._init_done(result)
        except BaseException as error:  # users' code may raise anything
            self._init_failed(error)
        if self._waiting is None:
            self._go_on()

    def handle_message(self, message: Any) -> None:
        """Handle a message: after the infos that are queued already, and before those that are queued later."""
        if self._stage is not _OPEN:
            return
        if self._queue:
            # The infos are handled at the end of this turn. Until then, no further message may come.
            self._queue.append(message)
            self.busy = self._message_queued = True
        else:
            self._process(message)

    def handle_info(self, message: Any) -> bool:
        """Queue ``("info", message)``. It is handled at the end of this turn, or when the handler is done.

        :returns: False when it will not be handled: the connection is closing, or `MAX_INFOS` are queued already.
        """
        if self._stage is not _INIT and self._stage is not _OPEN:
            return False
        if self._queue is None:
            self._queue = deque()
        waiting = len(self._queue)
        if waiting >= MAX_INFOS and (waiting > MAX_INFOS or type(message) is not str or message != DRAIN):
            return False
        self._queue.append(("info", message))
        if not self.busy:
            self._process_later()
        return True

    def after_infos(self, call: Callable[[], None]) -> None:
        """Make this call when the infos that are queued now have been handled; never if they are dropped."""
        if self._queue is not None:
            self._queue.append(call)

    def renew(self) -> bool:
        """Go over to the newest code of the handler, if there is any: between two messages, and never from within this.

        :returns: False when there is none, or the session is ending.
        """
        if self._newest() is self._terms or (self._stage is not _INIT and self._stage is not _OPEN):
            return False
        if not self._changes_code:
            self._changes_code = True
            if self._queue is None:
                self._queue = deque()
            self._queue.append(self._change_code)
            if not self.busy:
                self._process_later()
        return True

    def freeze(self) -> bytes | None:
        """Return the state as the handler's `freeze` has it; None if the handler has none, fails, or is at work."""
        handler = self._terms.handler
        if self._stage is not _OPEN or self.busy or self._queue or not callable(getattr(handler, "thaw", None)):
            return None
        freeze = getattr(handler, "freeze", None)
        if not callable(freeze):
            return None
        try:
            return octets(freeze(self._state))
        except BaseException:  # users' code may raise anything
            self._crashed("freeze", "the handler's freeze failed")
            return None

    def thaw(self, ref: IRef, data: bytes) -> None:
        """Go on with a state that another process has frozen, instead of `open`."""
        terms = self._terms
        self._stage = _OPEN
        try:
            self._handle = terms.handle()
            self._state = terms.handler.thaw(data, {**terms.options, "worker": ref})
        except BaseException:  # users' code may raise anything
            # There is no state, so "connection_close" is not due.
            self._stop_handling(_OVER)
            self._channel.call_soon(self._end_unthawed)
            self._crashed("thaw", "the handler's thaw failed")
        self.busy = False

    def _end_unthawed(self) -> None:
        self._channel.close(1011, "")
        self._channel.proceed()

    def connection_lost(self) -> None:
        """Call the channel no more. After its current call, the handler gets "connection_close"."""
        if self._stage is _INIT:
            self._give_up_init()
        elif self._stage is _OPEN or self._stage is _CLOSING:
            self._stop_handling(_LOST)
            if self._waiting is not None:
                self._limit_wait(self._waiting)
            elif not self.busy:
                self._end()

    # The queue

    def _process(self, item: Any) -> None:
        """Handle a message, or make a queued call; then do the same with the rest of the queue."""
        self.busy = True
        left = INFOS_A_TURN
        try:
            while True:
                if type(item) is tuple:
                    if self._message_queued and item[0] != "info":
                        self._message_queued = False
                    try:
                        answer = self._handle(item, self._state)
                        if type(answer) is not tuple:
                            answer = begin(answer, self._loop)
                        if type(answer) is tuple or not is_pending(answer):
                            self._handle_done(answer)
                        else:
                            self._wait_for(answer, self._handle_done, self._handle_failed)
                    except BaseException as error:  # users' code may raise anything
                        self._handle_failed(error)
                else:
                    item()
                if self._waiting is not None:
                    return
                if not self._queue:
                    break
                if not left:
                    # Let other connections have their turn. Accept a message meanwhile, unless one is queued.
                    self.busy = self._message_queued
                    self._process_later()
                    return
                left -= 1
                item = self._queue.popleft()
        except BaseException:
            # The channel has failed. It will call `connection_lost`.
            self.busy = False
            raise
        self.busy = False
        if self._stage is _LOST:
            self._end()

    def _process_later(self) -> None:
        if not self.has_infos:
            self.has_infos = True
            self._channel.call_soon(self._process_queue)

    def _process_queue(self) -> None:
        self.has_infos = False
        self._go_on_and_proceed()

    def _go_on(self) -> None:
        """Process the queue; if it is empty, become free for a message, or end."""
        if self._queue:
            self._process(self._queue.popleft())
        else:
            self.busy = False
            if self._stage is _LOST:
                self._end()

    def _go_on_and_proceed(self) -> None:
        """Go on outside of a call from the channel, then let the channel proceed."""
        self._go_on()
        # Also when busy again: the output so far must not wait.
        if self._stage is _OPEN or self._stage is _CLOSING:
            self._channel.proceed()

    def _stop_handling(self, stage: Stage) -> None:
        """Drop the queue. The handler's current call goes on to its end."""
        self._stage = stage
        self._queue = None

    # Init

    def _init_done(self, result: Any) -> None:
        accept = result if isinstance(result, Accept) else Accept(result)
        self._state = accept.state
        if self._stage is _OVER:
            # `init` was given up, but it has returned a state, so "connection_close" is due.
            self._stage = _LOST
            return
        self._stage = _OPEN
        self._channel.accept(accept)

    def _init_failed(self, error: BaseException) -> None:
        """Reject the connection because of an exception, while the exception is being handled."""
        if self._stage is _OVER:
            if not isinstance(error, (Reject, *CANCELLED)):
                self._crashed("init", "the handler's init failed after it had been given up")
            return
        # In a later stage than INIT, init has succeeded and the channel has failed: "connection_close" is still due.
        self._stop_handling(_OVER if self._stage is _INIT else _CLOSING)
        try:
            if isinstance(error, Reject):
                self._channel.reject(error.status, error.body, error.headers)
                return
        except Exception:
            # A subclass of Reject may lack an attribute, or have one that can't be sent.
            self._reject_failed()
        else:
            self._reject_failed()

    def _reject_failed(self) -> None:
        """Reject with 500, and log the exception being handled."""
        try:
            self._channel.reject(500, b"", {})
        finally:
            self._crashed("init", "the handler's init failed")

    def _init_overdue(self) -> None:
        self._give_up_init()
        self._channel.reject(503, b"", {})

    def _give_up_init(self) -> None:
        self._stop_handling(_OVER)
        if self._waiting is not None:
            self._waiting.cancel()

    # Handle

    def _handle_done(self, answer: Any) -> None:
        # Nearly all answers have one of these two forms. They are not parsed, which saves time.
        if type(answer) is tuple:
            if len(answer) == 3 and answer[0] == "reply" and type(answer[1]) in _PLAIN:
                self._state = answer[2]
                if self._stage is _OPEN:
                    self._channel.send(answer[1])
                return
            if len(answer) == 2 and answer[0] == "noreply":
                self._state = answer[1]
                return
        action, self._state = parse(answer)
        if isinstance(action, Reply):
            for data in action.messages:
                if self._stage is _OPEN:
                    self._channel.send(data)
        elif self._stage is not _OPEN:
            return
        elif isinstance(action, Ping):
            self._channel.ping(action.payload)
        elif isinstance(action, Pong):
            self._channel.pong(action.payload)
        else:
            self._close(action)

    def _handle_failed(self, error: BaseException) -> None:
        """Close because of an exception, while the exception is being handled (RFC 6455 §7.4.1)."""
        if self._stage in {_LOST, _OVER} and isinstance(error, CANCELLED):
            return
        try:
            if self._stage is _OPEN:
                self._close(Close(1011, ""))
        finally:
            # Log last: logging may fail, and must not keep the connection open then.
            self._crashed("handle", "the handler's handle failed")

    def _close(self, close: Close) -> None:
        self._stop_handling(_CLOSING)
        self._channel.close(close.code, close.reason)

    # New code

    def _newest(self) -> Terms:
        newest = self._terms.newest
        return self._terms if newest is None else newest.terms

    def _change_code(self) -> None:
        """Give the state to the newest code's `code_change`, if it has one. Versions in between are left out."""
        self._changes_code = False
        before, terms = self._terms, self._newest()
        if terms is before:
            # An earlier call has found the newest code already.
            return
        try:
            take_over = partial(self._take_over, terms, terms.handle())
            change = getattr(terms.handler, "code_change", None)
            if change is None:
                take_over(self._state)
                return
            state = begin(change(_version(before.handler), self._state), self._loop)
            if is_pending(state):
                self._wait_for(state, take_over, self._change_failed)
            else:
                take_over(state)
        except BaseException as error:  # users' code may raise anything
            self._change_failed(error)

    def _take_over(self, terms: Terms, handle: Callable[[Any, Any], Any], state: Any) -> None:
        self._terms, self._handle, self._state = terms, handle, state

    def _change_failed(self, error: BaseException) -> None:
        """Close because of an exception. The old code, whose state it is, gets "connection_close"."""
        if self._stage in {_LOST, _OVER} and isinstance(error, CANCELLED):
            return
        try:
            if self._stage is _OPEN:
                self._close(Close(1011, ""))
        finally:
            # As `_handle_failed` does.
            self._crashed("code_change", "the handler's code_change failed")

    # Results that are awaited

    def _wait_for(self, pending: Pending, done: Done, failed: Failed) -> None:
        """Give the result of `init` or `handle` to `done`, or its exception to `failed`, when it is there."""
        waiting = self._waiting = Waiting(self._channel, self._loop, pending, done, failed, self._resume)
        self._limit_wait(waiting)

    def _limit_wait(self, waiting: Waiting) -> None:
        """Limit a wait in time, except while the connection is open: then the handler may take as long as it likes."""
        if self._stage is _INIT:
            waiting.limit(self._terms.init_timeout, self._init_overdue)
        elif self._stage is _LOST:
            waiting.limit(self._terms.close_grace, partial(self._handle_overdue, waiting))
        elif self._stage is _OVER:
            waiting.cancel()

    def _resume(self, error: BaseException | None) -> None:
        self._waiting = None
        if error is not None:
            # The channel has failed. It will call `connection_lost`.
            self.busy = False
            raise error
        self._go_on_and_proceed()

    def _handle_overdue(self, waiting: Waiting) -> None:
        waiting.cancel()
        # The handler may ignore the cancellation and go on, but the session waits no longer.
        self._end()

    # The end

    def _end(self) -> None:
        """Give the handler its "connection_close", and ignore the answer."""
        self._stage = _OVER
        try:
            ending = begin(self._handle("connection_close", self._state), self._loop)
        except BaseException as error:  # users' code may raise anything
            self._end_failed(error)
        else:
            if is_pending(ending):
                Waiting(self._channel, self._loop, ending, _ignore, self._end_failed, _ignore).keep()

    def _end_failed(self, error: BaseException) -> None:
        if not isinstance(error, CANCELLED):
            self._crashed("connection_close", "the handler's handle failed")

    def _crashed(self, kind: str, what: str) -> None:
        """Count an exception of the handler, which is being handled, and log it."""
        self._channel.count_crash(self._terms.name, kind)
        self._channel.log_failure(what)


# Not a decorator: Cython's extension types can't have one.
classImplements(HandlerSession, IAwaitingSession, IMovableSession, IRenewableSession)


def _ignore(answer: Any) -> None:
    """Do nothing: the connection is gone."""


def _version(handler: Any) -> Any:
    """Return what a handler says of its version; None if it says nothing."""
    version = getattr(handler, "version", None)
    return getattr(handler, "__version__", None) if version is None else version
