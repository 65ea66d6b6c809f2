"""Decides what is said to which broker, as steps: connects, tries again, waits for answers. Knows no socket.

What is sent keeps its number when it is sent again, so receivers drop what a broker had taken already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, cast

from wshost.client.session import Session
from wshost.client.steps import Pause, Steps, UndeliveredError
from wshost.cluster.envelope import Codec, MalformedError
from wshost.cluster.sequence import Outgoing
from wshost.cluster.subjects import Subjects
from wshost.connections.home import Home
from wshost.results import Outcome

if TYPE_CHECKING:
    from wshost.backplanes.settings import BackplaneSettings, Broker
    from wshost.client.requests import Request

#: A broker has so many seconds to let us in, if there are others.
LOGIN = 2.0
#: After all were tried in vain, they are tried again so much later, in seconds.
PAUSE = 0.1
#: Seconds by which a confirmation is given up earlier where the connection is.
_SOONER = 0.2


class Conversation:
    """All that one client says. Used by one thread at a time, and by one process.

    :param make: makes the backplane; see `Session`.
    :param settings: those of the backplane.
    :param cluster: the cluster's name.
    :param clock: returns the time, in seconds.
    :param random: chooses the order of brokers.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        settings: BackplaneSettings,
        cluster: str,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self._make = make
        self._settings = settings
        self._clock = clock
        self._random = random or SystemRandom()
        self._subjects = Subjects(cluster)
        self._codec = Codec()
        # Names us as a sender. No process has this name as its machine's, so none takes us for a neighbour.
        self._boot = Home.new().boot
        self._outgoing = Outgoing()
        # The homes at which we are answered, by their boots; see `_home_near`.
        self._boots = [self._boot]
        self._session: Session | None = None
        # Those that are still to be tried before the next pause.
        self._round: list[Broker] = []
        self._numbers = count(1)
        # Which answer is waited for, and which one has come.
        self._awaited = 0
        self._outcome: Outcome | None = None

    def deliver(self, request: Request, until: float) -> Steps[None]:
        """Send a message, until a broker has it.

        :raises TypeError, ValueError: when it can't be sent.
        :raises ConfigurationError: when the broker will never let us in.
        :raises UndeliveredError: when no broker has taken it in time.
        """
        return self._deliver(*self._packed(request, request.message), until)

    def confirm(self, request: Request, until: float) -> Steps[Outcome]:
        """Send a message to a connection, and wait for what becomes of it. :raises: what `deliver` raises."""
        self._awaited = number = next(self._numbers)
        self._outcome = None
        seconds = until - self._clock()
        there = max(seconds - _SOONER, seconds / 2)
        boot = self._home_near(self._subject(request))
        packed = self._packed(request, (*request.message, boot, number, there))
        return self._confirm(*packed, self._subjects.of_home(boot), until)

    def _packed(self, request: Request, message: Any) -> tuple[str, bytes]:
        packed = self._codec.pack(message)
        subject = self._subject(request)
        numbers = self._outgoing.count(subject, 1)
        return subject, self._codec.enclose(self._boot, self._boot, *numbers, [packed])

    def _subject(self, request: Request) -> str:
        topic = request.topic
        return self._subjects.of_home(request.boot) if topic is None else self._subjects.of_topic(topic)

    def _home_near(self, subject: str) -> str:
        """Return the boot of a home of ours whose subject is at the same broker as this one: we have one connection."""
        share_broker = getattr(self._make, "share_broker", None)
        if share_broker is None:
            return self._boot
        of_home = self._subjects.of_home
        found = next((boot for boot in self._boots if share_broker(subject, of_home(boot))), None)
        while found is None:
            boot = Home.new().boot
            if share_broker(subject, of_home(boot)):
                self._boots.append(boot)
                found = boot
        return found

    def _confirm(self, subject: str, payload: bytes, home: str, until: float) -> Steps[Outcome]:
        yield from self._deliver(subject, payload, until, home)
        session, self._session = cast("Session", self._session), None
        try:
            yield from session.read_until(lambda: self._outcome is not None, until)
        except OSError:
            return Outcome.TIMEOUT
        self._session = session
        return cast("Outcome", self._outcome)

    def _deliver(self, subject: str, payload: bytes, until: float, home: str | None = None) -> Steps[None]:
        """:param home: where the answer comes, if there is one."""
        broker: Broker | None = None
        pause = 0.0
        # The session is put back only when all went well: what was interrupted can't be used again.
        session, self._session = self._session, None
        while True:
            if pause:
                yield Pause(pause)
            try:
                if session is None:
                    broker = self._next()
                    session = Session(self._make, replace(self._settings, brokers=(broker,)), self._receive)
                    yield from session.open(self._soon(until))
                if home is not None:
                    # The broker does things in order: this comes before the message that is answered.
                    session.subscribe(home)
                yield from session.publish(subject, payload, until)
            except UndeliveredError:
                raise
            except OSError as error:
                session = None
                pause = 0.0 if self._round or broker is None else PAUSE
                if self._clock() + pause >= until:
                    raise UndeliveredError(_explained(broker, error)) from error
            else:
                self._session = session
                return

    def _next(self) -> Broker:
        if not self._round:
            self._round = self._random.sample(self._settings.brokers, len(self._settings.brokers))
        return self._round.pop()

    def _soon(self, until: float) -> float:
        """Return when the broker must have let us in."""
        return until if len(self._settings.brokers) == 1 else min(until, self._clock() + LOGIN)

    def _receive(self, subject: str, payload: bytes) -> None:
        """Take an answer; all else means nothing."""
        try:
            messages = self._codec.read(payload).messages
        except MalformedError:
            return
        for message in messages:
            match message:
                case ["answer", self._awaited, str(value)] if value in _OUTCOMES:
                    self._outcome = _OUTCOMES[value]


_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def _explained(broker: Broker | None, error: OSError) -> str:
    where = "" if broker is None else f" {broker.host}:{broker.port}"
    what = " ".join(str(error.strerror or error).split()) or type(error).__name__
    return f"no broker has taken it in time; the last one{where}: {what}"
