"""The connections of a hub by id, in which refs look from any thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from wshost.connections.home import Home
from wshost.connections.thread import ReactorThread
from wshost.results import Outcome, Sent


class Registered(Protocol):
    """A connection, as its hub and its refs see it."""

    id: str

    def ask(self, size: int, action: str, *args: Any) -> bool:
        """Ask for an action. Called in the reactor's thread."""

    def send(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        """Send a message. Called in the reactor's thread."""

    def send_later(self, size: int, data: str | bytes, key: str | None = None) -> Sent:
        """Send a message in a later turn. Called in any thread."""

    def send_confirmed(self, size: int, data: str | bytes, key: str | None, seconds: float) -> Deferred[Outcome]:
        """Send a message, and say what became of it. Called in the reactor's thread."""

    @property
    def waiting(self) -> int:
        """How many bytes wait for the peer. Safe in any thread."""

    def drained(self) -> Deferred[bool]:
        """Wait until no output waits. Called in the reactor's thread."""

    def ask_later(self, size: int, action: str, *args: Any) -> bool:
        """Ask for an action in a later turn. Called in any thread."""

    def drain(self) -> None:
        """Tell the module that the server stops."""

    def shut_down(self) -> None:
        """Say good-bye to the peer."""

    def renew(self) -> bool:
        """Go over to newer code of the handler; return whether there is any."""

    def abort(self, reason: str) -> None:
        """End at once."""


class Directory(Protocol):
    """What is known of connections beyond their registry."""

    def ask(self, ref: Any, action: str, what: Any) -> bool:
        """Do what a connection is asked for. Called in the reactor's thread."""

    def release(self, ref: Any) -> None:
        """End what a connection has and wants, which stays open. Called in the reactor's thread."""

    def gone(self, registry: Registry, id: str, reason: str | None) -> None:
        """Forget a connection. Called in the reactor's thread."""


class Registry:
    """The connections that are open.

    :param thread: the reactor's thread, to which they belong.
    :param home: names the run of the server; by default, one of its own.
    """

    def __init__(self, thread: ReactorThread, home: Home | None = None) -> None:
        self.thread = thread
        #: Where these connections live, as references name it.
        self.home = home or Home.new()
        #: Another process has connections of the same home: this one can't know that one is gone.
        self.shares_home = False
        #: Knows names, presences and monitors; None: there are none.
        self.directory: Directory | None = None
        #: Called with each new connection; None until the hub stops.
        self.when_added: Callable[[Registered], None] | None = None
        #: Called when the last connection has gone; None until the hub stops.
        self.when_empty: Callable[[], None] | None = None
        self._connections: dict[str, Registered] = {}

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def missing(self) -> Outcome:
        """What becomes of messages to connections that are not here."""
        return Outcome.UNREACHABLE if self.shares_home else Outcome.GONE

    def all(self) -> list[Registered]:
        """Return the connections that are open now."""
        return list(self._connections.values())

    def find(self, id: str) -> Registered | None:
        """Return the connection of this id, None when it is gone. Safe in any thread."""
        return self._connections.get(id)

    def add(self, connection: Registered) -> None:
        """Add a new connection."""
        self._connections[connection.id] = connection
        if self.when_added is not None:
            self.when_added(connection)

    def remove(self, connection: Registered, reason: str | None = "") -> None:
        """Remove a lost connection. :param reason: why it has ended; None: another process has it."""
        del self._connections[connection.id]
        if self.directory is not None:
            self.directory.gone(self, connection.id, reason)
        if not self._connections and self.when_empty is not None:
            self.when_empty()
