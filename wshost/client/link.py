"""Stands for a backplane's connection: keeps what it wants to write, and what it says of the broker. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

if TYPE_CHECKING:
    from wshost.backplanes.connection import Speaker
    from wshost.backplanes.settings import BackplaneSettings, Broker


class WaitingLink:
    """What a backplane takes for a `wshost.backplanes.link.Link`. It serves one connection, or one after a Sentinel's.

    :param reactor: is not used.
    :param settings: those of the backplane, with one broker.
    :param speaker: speaks with the broker.
    :param brokers: the same broker, as the speaker sees it.
    """

    def __init__(
        self, reactor: object, settings: BackplaneSettings, speaker: Speaker, brokers: Sequence[Broker] = ()
    ) -> None:
        self.speaker = speaker
        #: To whom we connect, or are connected.
        self.broker = (brokers or settings.brokers)[0]
        #: Where to go next, as a Sentinel has said.
        self.directed: Broker | None = None
        #: The broker has let us in.
        self.is_ready = False
        #: The broker waits for TLS.
        self.tls_due = False
        #: How many pings it has answered.
        self.answers = 0
        #: Why this connection can't be used any more; "" while it can.
        self.ended = ""
        #: What the broker has refused to do since this was emptied; "" for nothing.
        self.refused = ""
        self._due: list[bytes] = []

    def take(self) -> bytes:
        """Return what is to be written now."""
        due = b"".join(self._due)
        self._due.clear()
        return due

    # For the backplane and its speaker

    def start(self) -> None:
        """Do nothing: the conversation connects."""

    def close(self) -> Deferred[None]:
        """Let the connection end."""
        self.lose("closed")
        return succeed(None)

    def send(self, payload: bytes) -> bool:
        """Write a payload."""
        self._due.append(payload)
        return True

    def command(self, data: bytes) -> None:
        """Write other bytes."""
        self._due.append(data)

    def ready(self) -> None:
        """Note that the broker has let us in."""
        self.is_ready = True

    def answered(self) -> None:
        """Note that it has answered a ping."""
        self.answers += 1

    def refuse(self, text: str) -> None:
        """Note that it has refused to do something."""
        self.refused = self.refused or text

    def start_tls(self) -> None:
        """Note that it waits for TLS."""
        self.tls_due = True

    def lose(self, reason: str) -> None:
        """End the connection."""
        self.ended = self.ended or reason

    #: As `lose`: what was sent before is waited for by its own call.
    leave = lose

    def go_to(self, broker: Broker) -> None:
        """End the connection, and go to this broker."""
        self.directed = broker
        self.lose(f"it names {broker.host}:{broker.port}")

    def follow(self) -> None:
        """Begin the connection to the broker that was named."""
        if self.directed is not None:
            self.broker, self.directed, self.ended = self.directed, None, ""
            self.is_ready = False
            self._due.clear()

    def know(self, brokers: Sequence[Broker]) -> None:
        """Do nothing: only the brokers that the user has named are used."""
