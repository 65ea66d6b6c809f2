"""Stands for the connections of other processes: what references ask of them goes there, and answers come back.

Knows no backplane. What comes is done by references to connections of this process, which check it as users' words.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed

from wshost.cluster.outside import Outside
from wshost.connections.awaited import Awaited
from wshost.connections.confirmation import MOST_SECONDS
from wshost.connections.home import Home, is_boot, read
from wshost.connections.homes import Homes
from wshost.connections.ref import Ref
from wshost.messages import CALL
from wshost.results import Outcome, Sent

#: What references may ask of a connection in another process.
ACTIONS = frozenset(
    {"send", "ping", "close", "info", "subscribe", "unsubscribe", "monitor", "demonitor", "watch", "unwatch"}
)
#: Those that name another connection, which goes as text.
_NAMES_OTHER = frozenset({"monitor", "demonitor"})
#: The answer to a message that was to be confirmed.
_ANSWER = "answer"
#: So many answers are waited for.
MOST_AWAITED = 100_000
#: Seconds by which the other process settles earlier than this one gives up.
_SOONER = 0.2


class Elsewhere:
    """The connections of other processes.

    :param outside: the way to them.
    :param homes: those of this process.
    """

    def __init__(self, outside: Outside, homes: Homes) -> None:
        self.outside = outside
        self._homes = homes
        self._number = 0
        self._awaited: dict[int, tuple[Deferred[Outcome], Any]] = {}
        outside.act, outside.ended = self.act, self.give_up

    def __call__(self, home: Home) -> Away:
        """Return what stands for a home in another process."""
        return Away(self, home)

    # What this process asks

    def ask(self, home: Home, id: str, size: int, action: str, *args: Any) -> bool:
        """Ask for an action of a connection. Called in any thread.

        :returns: False if it is known that the request won't arrive.
        """
        return self.outside.tell(home.boot, (action, id, *args), size)

    def send_confirmed(
        self, home: Home, id: str, size: int, message: tuple[Any, ...], seconds: float
    ) -> Deferred[Outcome]:
        """Send a message, and say what became of it.

        :raises RuntimeError: in another thread than that of the reactor.
        """
        outside = self.outside
        if not outside.thread.is_current():
            raise RuntimeError("confirm works in the reactor's thread only")
        if not outside.reaches(home.boot) or len(self._awaited) >= MOST_AWAITED:
            return succeed(Outcome.UNREACHABLE)
        self._number = number = self._number + 1
        seconds = min(seconds, MOST_SECONDS)
        there = max(seconds - _SOONER, seconds / 2)
        # Who is told may be users' code, and so may be what runs now.
        nobody = partial(outside.soon, partial(self._settle, number, Outcome.UNREACHABLE))
        if not outside.tell(home.boot, ("send", id, *message, outside.own.boot, number, there), size, nobody):
            return succeed(Outcome.UNREACHABLE)
        outcome: Deferred[Outcome] = Awaited(partial(self._forget_cancelled, number))
        timeout = outside.reactor.callLater(seconds, self._settle, number, Outcome.TIMEOUT)
        self._awaited[number] = outcome, timeout
        return outcome

    def _settle(self, number: int, outcome: Outcome) -> None:
        waits = self._forget(number)
        if waits is not None:
            waits.callback(outcome)

    def _forget_cancelled(self, number: int, outcome: object) -> None:
        self._forget(number)

    def _forget(self, number: int) -> Deferred[Outcome] | None:
        outcome, timeout = self._awaited.pop(number, (None, None))
        if timeout is not None and timeout.active():
            timeout.cancel()
        return outcome

    def give_up(self) -> None:
        """Nothing comes any more: all that is waited for stays unknown."""
        for number in self._awaited:
            # Who closes may be users' code, and so are those who wait.
            self.outside.soon(partial(self._settle, number, Outcome.TIMEOUT))

    # What other processes ask

    def act(self, boot: str, message: Any) -> None:
        """Do what another process asks for, or take its answer.

        :param boot: of the home to which it was sent.
        :param message: anything that msgpack has a form for.
        :raises TypeError, ValueError: when it means nothing.
        """
        if type(message) is not list or len(message) < 2:
            raise ValueError("it is no request")
        action, subject, *args = message
        if action == _ANSWER:
            if boot == self.outside.own.boot and type(subject) is int and len(args) == 1:
                self._settle(subject, Outcome(args[0]))
            return
        if self.outside.asks(boot, message):
            return
        if action not in ACTIONS or type(subject) is not str:
            raise ValueError("it asks for no action of a connection")
        registry = self._homes.here(boot)
        if registry is None:
            # The server has stopped meanwhile.
            return
        ref = Ref(registry, subject)
        if action == "send" and len(args) == 5:
            data, key, asker, number, seconds = args
            if type(asker) is not str or not is_boot(asker) or type(number) is not int:
                raise ValueError("it asks for an answer to nobody")
            if not registry.thread.may_wait():
                # A server in a thread of its own: what becomes of the message is not known here.
                ref.send(data, key)
                return
            answer = partial(self._answer, asker, number)
            ref.send(data, key, confirm=True, timeout=min(seconds, MOST_SECONDS)).addCallback(answer)
        elif action == "send":
            ref.send(*args)
        elif action in _NAMES_OTHER:
            where, id = read(*args)
            getattr(ref, action)(Ref(self._homes.find(where), id))
        else:
            getattr(ref, action)(*args)

    def _answer(self, asker: str, number: int, outcome: Outcome) -> None:
        # Another process may have a connection of the same home: it answers then.
        if outcome is not Outcome.UNREACHABLE:
            self.outside.tell(asker, (_ANSWER, number, outcome.value), CALL)


class Away:
    """One home in another process."""

    def __init__(self, elsewhere: Elsewhere, home: Home) -> None:
        self._elsewhere = elsewhere
        self._home = home

    def find(self, id: str) -> AwayConnection:
        """Return what stands for a connection, whether it exists or not."""
        return AwayConnection(self._elsewhere, self._home, id)


class AwayConnection:
    """One connection in another process. Its methods are called by references, in any thread."""

    #: How much waits for its peer is not known here.
    waiting = 0

    def __init__(self, elsewhere: Elsewhere, home: Home, id: str) -> None:
        self._elsewhere = elsewhere
        self._home = home
        self.id = id

    def send(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        """Send a message. Called where this process has other connections of that home."""
        return self.send_later(size, data, key)

    def ask(self, size: int, action: str, *args: Any) -> bool:
        """Ask for an action: as `send`."""
        return self.ask_later(size, action, *args)

    def drained(self) -> Deferred[bool]:
        """Refuse, as references do. :raises RuntimeError: how much waits is not known here."""
        raise RuntimeError("drained() works for connections of this process only")

    def send_later(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        """Send a message."""
        if not self._elsewhere.ask(self._home, self.id, size, "send", data, key):
            return Sent.DROPPED
        return Sent.ACCEPTED if self._elsewhere.outside.is_connected else Sent.WAITING

    def send_confirmed(self, size: int, data: str | bytes, key: str | None, seconds: float) -> Deferred[Outcome]:
        """Send a message, and say what became of it. :raises RuntimeError: in another thread than the reactor's."""
        return self._elsewhere.send_confirmed(self._home, self.id, size, (data, key), seconds)

    def ask_later(self, size: int, action: str, *args: Any) -> bool:
        """Ask for an action.

        :raises TypeError, ValueError: for an info that can't go to another process.
        """
        if action in _NAMES_OTHER:
            args = (str(args[0]),)
        if action == "info":
            args = tuple(self._elsewhere.outside.copy(args))
        return self._elsewhere.ask(self._home, self.id, size, action, *args)
