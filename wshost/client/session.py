"""One connection to one broker, as steps: greets it, and sends it payloads. Knows no payload, and no other broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure
from zope.interface import implementer

from wshost.backplanes.connection import BrokerError
from wshost.client.link import WaitingLink
from wshost.client.steps import Connect, Read, StartTLS, Steps, UndeliveredError, Write
from wshost.interfaces import IBackplaneReceiver

if TYPE_CHECKING:
    from wshost.backplanes.settings import BackplaneSettings


class _Time:
    """All that a backplane needs of a reactor, when it has no connection to make."""

    seconds = staticmethod(time.monotonic)


@implementer(IBackplaneReceiver)
class Session:
    """One connection.

    :param make: makes the backplane, of settings and of what makes its link.
    :param settings: those of the backplane, with one broker.
    :param received: called with subject and payload of what comes.
    :raises ConfigurationError: when these settings can't be meant.
    """

    def __init__(
        self, make: Callable[..., Any], settings: BackplaneSettings, received: Callable[[str, bytes], None]
    ) -> None:
        self.received = received
        self._backplane = make(settings, self._make_link)
        self._link: WaitingLink
        # Why the broker will never let us in.
        self._refusal: BaseException | None = None
        self._subscribed: set[str] = set()
        connecting = self._backplane.connect(_Time, self)
        connecting.addErrback(self._note_refusal)
        if self._refusal is not None:
            raise self._refusal

    def open(self, until: float) -> Steps[None]:
        """Connect, until the broker has let us in.

        :raises ConfigurationError: when it never will.
        :raises OSError: for anything else.
        """
        link = self._link
        while True:
            link.follow()
            broker = link.broker
            yield Connect(until, broker.host, broker.port, broker.tls)
            link.speaker.begin()
            try:
                yield from self.read_until(lambda: link.is_ready, until)
            except ConnectionError:
                if link.directed is None:
                    raise
            else:
                return

    def subscribe(self, subject: str) -> None:
        """Receive what is published on a subject; again is harmless."""
        if subject not in self._subscribed:
            self._subscribed.add(subject)
            self._backplane.subscribe(subject)

    def publish(self, subject: str, payload: bytes, until: float) -> Steps[None]:
        """Send a payload, and wait until the broker says that it has it.

        :raises ValueError: when it is too large for the broker.
        :raises UndeliveredError: when the broker refuses it.
        :raises OSError: when the connection has ended.
        """
        link = self._link
        broker_of = getattr(self._backplane, "broker_of", None)
        if broker_of is not None and broker_of(subject) != link.broker:
            link.go_to(broker_of(subject))
            yield from self.open(until)
        if not self._backplane.publish(subject, payload):
            raise ValueError(f"a message of {len(payload)} bytes is too large: {self._backplane.largest} are the most")
        answers = link.answers
        link.speaker.ping()
        yield from self.read_until(lambda: link.answers > answers, until)
        if link.refused:
            raise UndeliveredError(f"the broker {link.broker.host}:{link.broker.port} refuses it: {link.refused}")

    def read_until(self, done: Callable[[], bool], until: float) -> Steps[None]:
        """Write what is due and read, until something has come.

        :raises ConnectionError: when the connection has ended.
        """
        link = self._link
        while True:
            if link.tls_due:
                link.tls_due = False
                yield StartTLS(until, link.broker.host)
            due = link.take()
            if due:
                yield Write(until, due)
            if self._refusal is not None:
                raise self._refusal
            if done():
                return
            if link.ended:
                raise ConnectionError(link.ended)
            data = yield Read(until)
            if not data:
                raise ConnectionError("it has closed the connection")
            try:
                link.speaker.read(data)
            except BrokerError as error:
                raise ConnectionError(str(error)) from error

    def _make_link(self, *arguments: Any) -> WaitingLink:
        self._link = WaitingLink(*arguments)
        return self._link

    def _note_refusal(self, failure: Failure) -> None:
        self._refusal = failure.value

    # For the backplane

    def connected(self) -> None:
        """Do nothing: `open` sees it."""

    def disconnected(self, reason: str) -> None:
        """Do nothing: reading ends."""

    def dropped(self, payloads: int) -> None:
        """Do nothing: nothing waits."""
