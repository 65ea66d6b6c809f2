"""The connections of a hub by id, in which refs look from any thread; also those that came with a home of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    def gone(self, registry: Registry | Guests, id: str, reason: str | None) -> None:
        """Forget a connection. Called in the reactor's thread."""

    def freeze(self, ref: Any) -> Mapping[str, Any]:
        """Return what goes over with a connection."""

    def thaw(self, ref: Any, held: Mapping[str, Any]) -> None:
        """Go on with what has come with a connection."""

    def settle(self) -> None:
        """No more connections of another process come."""


class Guests:
    """The connections of a hub that have another home: another process has made them, and given them away.

    :param registry: that of the hub.
    :param home: where they come from, as references name it. Other processes may have connections of it, too.
    """

    #: See `Registry`.
    shares_home = True
    missing = Outcome.UNREACHABLE

    def __init__(self, registry: Registry, home: Home) -> None:
        self._registry = registry
        self.home = home
        self.ids: set[str] = set()

    @property
    def thread(self) -> ReactorThread:
        """The reactor's thread, to which they belong."""
        return self._registry.thread

    @property
    def directory(self) -> Directory | None:
        """That of the registry."""
        return self._registry.directory

    @directory.setter
    def directory(self, directory: Directory | None) -> None:
        self._registry.directory = directory

    def find(self, id: str) -> Registered | None:
        """Return the connection of this id, None when it is not here. Safe in any thread."""
        return self._registry.find(id) if id in self.ids else None


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
        #: Called with the first connection of another home, and after the last one; None: nobody finds them.
        self.when_guests_come: Callable[[Guests], None] | None = None
        self.when_guests_go: Callable[[Guests], None] | None = None
        self._connections: dict[str, Registered] = {}
        # By boot; and by the connections' ids.
        self._guests: dict[str, Guests] = {}
        self._guests_by_id: dict[str, Guests] = {}

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

    def lodge(self, id: str, home: Home) -> Registry | Guests:
        """Return where references find a connection of another process, which `add` follows for.

        :param home: where it comes from.
        """
        if home == self.home:
            return self
        guests = self._guests.get(home.boot)
        if guests is None:
            guests = self._guests[home.boot] = Guests(self, home)
            if self.when_guests_come is not None:
                self.when_guests_come(guests)
        guests.ids.add(id)
        self._guests_by_id[id] = guests
        return guests

    def remove(self, connection: Registered, reason: str | None = "") -> None:
        """Remove a lost connection. :param reason: why it has ended; None: another process has it."""
        del self._connections[connection.id]
        guests = self._guests_by_id.pop(connection.id, None)
        if self.directory is not None:
            self.directory.gone(guests or self, connection.id, reason)
        if guests is not None:
            self._leave(guests, connection.id)
        if not self._connections and self.when_empty is not None:
            self.when_empty()

    def _leave(self, guests: Guests, id: str) -> None:
        guests.ids.remove(id)
        if not guests.ids:
            del self._guests[guests.home.boot]
            if self.when_guests_go is not None:
                self.when_guests_go(guests)
