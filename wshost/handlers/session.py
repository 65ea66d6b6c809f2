"""Runs the user's handler for one connection: in order, in time, to its end. Knows no frames and no transport."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import classImplements

from wshost.handlers.answers import read
from wshost.handlers.awaiting import CANCELLED, awaited, cause
from wshost.interfaces import IChannel, IRef, ISession, Timer
from wshost.request import ConnectionInfo
from wshost.results import Accept, Reject

if TYPE_CHECKING:
    from wshost.handlers.adapter import HandlerAdapter

#: Infos that may wait for the handler of one connection.
MAX_INFOS = 1_024
#: Infos that are handled on end before it is others' turn: a handler may well send itself the next one.
INFOS_A_TURN = 256


class Stage(Enum):
    """Where a session stands."""

    #: `init` is running.
    INIT = auto()
    #: Messages are handled.
    OPEN = auto()
    #: The handler has closed or failed: all that is still to come is its "connection_close".
    CLOSING = auto()
    #: The connection is gone, and its "connection_close" waits for what is being handled.
    LOST = auto()
    #: `init` did not succeed or was given up, or "connection_close" has been delivered.
    OVER = auto()


# What every message needs, where it is found fastest.
_OPEN, _LOST = Stage.OPEN, Stage.LOST
_PLAIN = frozenset((str, bytes))


class HandlerSession:
    """One connection's handler: its state, and what it is doing. See `wshost.interfaces.ISession`.

    Whatever the handler raises, `BaseException` included, is an end of its connection, and of nothing else.
    """

    __slots__ = (
        "_adapter",
        "_channel",
        "_handle",
        "_held",
        "_infos",
        "_late",
        "_pending",
        "_resuming",
        "_stage",
        "_state",
        "_timer",
        "busy",
        "waits",
    )

    def __init__(self, adapter: HandlerAdapter, channel: IChannel) -> None:
        #: True while `init` or `handle` is running; infos wait then, and nothing may be delivered.
        self.busy = True
        #: True while infos wait for the end of the reactor's turn.
        self.waits = False
        self._adapter = adapter
        self._channel = channel
        # Both are users' code: `open` looks them up.
        self._handle: Callable[[Any, Any], Any] = _ignored
        self._stage = Stage.INIT
        self._state: Any = None
        # A message of the peer's waits among the infos.
        self._held = False
        # Made when the first has to wait: on most connections none ever does.
        self._infos: deque[Any] | None = None
        # What `init` or `handle` has begun but not finished; that it was not there at once; that it is there, and what
        # comes next waits for the turn's end.
        self._pending: Deferred[Any] | None = None
        self._late = self._resuming = False
        self._timer: Timer | None = None

    # From the channel

    def open(self, connection: ConnectionInfo, ref: IRef) -> None:
        """Run the handler's `init`.

        :param connection: for ``options["connection"]``.
        :param ref: for ``options["worker"]``.
        """
        options = {**self._adapter.options, "worker": ref, "connection": connection}
        try:
            self._handle = self._adapter.handler.handle
            result = self._adapter.handler.init(options)
            pending = awaited(result)
            if pending is None:
                self._init_done(result)
            else:
                self._wait(pending, self._init_done, self._init_failed)
        except BaseException as error:  # whatever it is
            self._init_failed(error)
        if self._pending is None and not self._resuming:
            self._go_on()

    def deliver(self, message: Any) -> None:
        """Handle a message, after the infos that have come before it, and before those that have come meanwhile."""
        if self._stage is not _OPEN:
            return
        if self._infos:
            # They have come before it, and wait for the turn's end; so does it, and no more is delivered until then.
            self._infos.append(message)
            self.busy = self._held = True
        else:
            self._work(message)

    def _work(self, message: Any) -> None:
        """Handle a message, or make a call that has waited, and go on with what waits."""
        self.busy = True
        left = INFOS_A_TURN
        try:
            while True:
                if type(message) is tuple:
                    if self._held and message[0] != "info":
                        self._held = False
                    try:
                        answer = self._handle(message, self._state)
                        # Nearly all answers are one of these two.
                        if (
                            type(answer) is tuple
                            and len(answer) == 3
                            and answer[0] == "reply"
                            and type(answer[1]) in _PLAIN
                        ):
                            self._state = answer[2]
                            if self._stage is _OPEN:
                                self._channel.send(answer[1])
                        elif type(answer) is tuple and len(answer) == 2 and answer[0] == "noreply":
                            self._state = answer[1]
                        else:
                            self._answer(answer)
                    except BaseException as error:  # whatever it is
                        self._handle_failed(error)
                else:
                    message()
                if self._pending is not None or self._resuming:
                    return
                if not self._infos:
                    break
                if not left:
                    # It is others' turn. The peer is read meanwhile, until a message of its waits here, too.
                    self.busy = self._held
                    self._work_soon()
                    return
                left -= 1
                message = self._infos.popleft()
        except BaseException:
            # It is the channel that has failed; that it is lost, it will say.
            self.busy = False
            raise
        self.busy = False
        if self._stage is _LOST:
            self._end()

    def info(self, message: Any) -> bool:
        """Handle ``("info", message)`` when what is being handled is done, at the end of this turn at the earliest.

        :returns: False when it will not be handled: the connection is closing, or `MAX_INFOS` wait already.
        """
        if self._stage not in {Stage.INIT, Stage.OPEN}:
            return False
        if self._infos is None:
            self._infos = deque()
        if len(self._infos) >= MAX_INFOS:
            return False
        self._infos.append(("info", message))
        if not self.busy:
            self._work_soon()
        return True

    def behind(self, call: Callable[[], None]) -> None:
        """Make a call when the infos that wait have been handled; never, when they are dropped."""
        if self._infos is not None:
            self._infos.append(call)

    def _work_soon(self) -> None:
        if not self.waits:
            self.waits = True
            self._channel.call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self.waits = False
        self._go_on()
        self._release()

    def lost(self) -> None:
        """Nothing is asked of the channel any more; "connection_close" follows when what is being handled is done."""
        if self._stage is Stage.INIT:
            self._give_init_up()
        elif self._stage in {Stage.OPEN, Stage.CLOSING}:
            self._leave_for(Stage.LOST)
            if self._pending is not None:
                self._limit()
            elif not self.busy:
                self._end()

    # Init

    def _init_done(self, result: Any) -> None:
        accept = result if isinstance(result, Accept) else Accept(result)
        self._state = accept.state
        if self._stage is Stage.OVER:
            # It was given up, but what it has made wants an end.
            self._stage = Stage.LOST
            return
        self._stage = Stage.OPEN
        self._channel.opened(accept)

    def _init_failed(self, error: BaseException) -> None:
        """Refuse for an exception, while it is being handled."""
        if self._stage is Stage.OVER:
            if not isinstance(error, (Reject, *CANCELLED)):
                self._channel.log_failure("the handler's init failed after it had been given up")
            return
        # With a state, it is the channel that has failed to open, and an end is due.
        self._leave_for(Stage.OVER if self._stage is Stage.INIT else Stage.CLOSING)
        try:
            if isinstance(error, Reject):
                self._channel.refused(error.status, error.body, error.headers)
                return
        except Exception:
            # A subclass may lack what it has to say, or have what can't be sent.
            self._refuse()
        else:
            self._refuse()

    def _refuse(self) -> None:
        """Refuse for a failure, while it is being handled."""
        try:
            self._channel.refused(500, b"", {})
        finally:
            self._channel.log_failure("the handler's init failed")

    def _init_overdue(self) -> None:
        self._timer = None
        self._give_init_up()
        self._channel.refused(503, b"", {})

    def _give_init_up(self) -> None:
        self._leave_for(Stage.OVER)
        self._cancel()

    # Handle

    def _answer(self, answer: Any) -> None:
        """Perform an answer of any form, or wait for it."""
        pending = awaited(answer)
        if pending is None:
            self._perform(answer)
        else:
            self._wait(pending, self._perform, self._handle_failed)

    def _perform(self, answer: Any) -> None:
        actions, self._state = read(answer)
        for method, *arguments in actions:
            if self._stage is not Stage.OPEN:
                break
            if method == "close":
                self._leave_for(Stage.CLOSING)
            getattr(self._channel, method)(*arguments)

    def _handle_failed(self, error: BaseException) -> None:
        """Close for an exception, while it is being handled (RFC 6455 §7.4.1)."""
        if self._stage in {Stage.LOST, Stage.OVER} and isinstance(error, CANCELLED):
            return
        try:
            if self._stage is Stage.OPEN:
                self._leave_for(Stage.CLOSING)
                self._channel.close(1011, "")
        finally:
            # Behind the end, which is due even if this fails.
            self._channel.log_failure("the handler's handle failed")

    def _leave_for(self, stage: Stage) -> None:
        """Handle no more; what is being handled comes to its end."""
        self._stage = stage
        self._infos = None

    # What is not done at once

    def _wait(
        self, pending: Deferred[Any], done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Take the result when it is there, and then go on; it may be there already."""
        self._pending = pending
        self._late = False
        pending.addBoth(self._settled, done, failed)
        self._late = True
        if self._pending is not None:
            self._limit()

    def _settled(self, result: Any, done: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        late = self._late
        self._pending = None
        self._stop_timer()
        error = None
        try:
            self._take(result, done, failed)
        except BaseException as fault:  # nobody would see it here
            error = fault
        # What has failed holds this frame now; so that they let go of each other.
        del result
        if late or error is not None:
            # Whoever has made the result come may be users' code.
            self._resuming = True
            self._channel.call_soon(partial(self._resume, error))

    def _take(self, result: Any, done: Callable[[Any], None], failed: Callable[[BaseException], None]) -> None:
        try:
            if isinstance(result, Failure):
                raise cause(result)
            done(result)
        except BaseException as error:  # whatever it is
            try:
                failed(error)
            finally:
                # It holds this frame now, and by that those of whoever has let it come: nobody waits for the collector.
                with suppress(Exception):
                    error.__traceback__ = None
        finally:
            del result

    def _resume(self, error: BaseException | None) -> None:
        self._resuming = False
        if error is not None:
            # The channel has failed; that it is lost, it will say.
            self.busy = False
            raise error
        self._go_on()
        self._release()

    def _release(self) -> None:
        # Busy again or not: an answer does not wait for that of an info.
        if self._stage in {Stage.OPEN, Stage.CLOSING}:
            self._channel.released()

    def _go_on(self) -> None:
        if self._infos:
            self._work(self._infos.popleft())
        else:
            self.busy = False
            if self._stage is Stage.LOST:
                self._end()

    def _limit(self) -> None:
        """Let it not last for ever, where nobody else sees to that."""
        if self._stage is Stage.INIT:
            self._timer = self._channel.call_later(self._adapter.init_timeout, self._init_overdue)
        elif self._stage is Stage.LOST:
            self._timer = self._channel.call_later(self._adapter.close_grace, self._handle_overdue)
        elif self._stage is Stage.OVER:
            self._cancel()

    def _cancel(self) -> None:
        self._stop_timer()
        if self._pending is not None:
            try:
                self._pending.cancel()
            except BaseException:  # whatever it is
                self._channel.log_failure("what the handler waits for can't be cancelled")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # The end

    def _handle_overdue(self) -> None:
        self._timer = None
        self._cancel()
        # Whether it heeds that or not.
        self._end()

    def _end(self) -> None:
        """Deliver "connection_close", whatever the handler says to it."""
        self._stage = Stage.OVER
        try:
            ending = awaited(self._handle("connection_close", self._state))
        except BaseException as error:  # whatever it is
            self._handle_failed(error)
        else:
            if ending is not None:
                self._adapter.keep(ending.addBoth(self._take, _ignore, self._handle_failed))


# Not by a decorator: Cython's classes take none.
classImplements(HandlerSession, ISession)


def _ignored(message: Any, state: Any) -> Any:
    """Nobody is there yet."""


def _ignore(answer: Any) -> None:
    """Nothing can be done for a connection that is gone."""
