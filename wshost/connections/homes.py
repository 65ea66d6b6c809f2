"""Finds the registry that a reference means: one of this process, or what stands for it. Knows no other process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakValueDictionary

from wshost.connections.home import Home
from wshost.connections.registry import Guests, Registered, Registry
from wshost.results import Outcome


class Thread(Protocol):
    """The thread to which connections belong."""

    def is_current(self) -> bool:
        """Say whether this is the thread."""

    def may_wait(self) -> bool:
        """Say whether a caller in this thread may wait for what becomes of a message."""


class Lookup(Protocol):
    """Finds connections of one home by id, in any thread."""

    @property
    def home(self) -> Home:
        """Where the connections live."""

    @property
    def thread(self) -> Thread:
        """The thread to which they belong."""

    @property
    def missing(self) -> Outcome:
        """What becomes of messages to connections that are not found."""

    def find(self, id: str) -> Registered | None:
        """Return the connection of this id; None when it is known to be gone."""


class Homes:
    """The registries of this process by boot, and the way to others."""

    def __init__(self) -> None:
        self._here: WeakValueDictionary[str, Registry | Guests] = WeakValueDictionary()
        #: Returns what stands for a home in another process; None: no other can be reached.
        self.elsewhere: Callable[[Home], Any] | None = None

    def add(self, registry: Registry | Guests) -> None:
        """Add a registry of this process, or a home of which it has connections. It goes when nobody else has it."""
        self._here[registry.home.boot] = registry

    def here(self, boot: str) -> Registry | Guests | None:
        """Return where this process has connections of a home; None if it has none."""
        return self._here.get(boot)

    def find(self, home: Home) -> Lookup:
        """Return where the connections of a home are found: here, or elsewhere, which may change."""
        registry = self._here.get(home.boot)
        # Of a home whose process has ended, some connections may be here, and some elsewhere.
        return registry if isinstance(registry, Registry) else _Away(self, home)


class _NoThread:
    """The thread of connections that are not in this process."""

    def is_current(self) -> bool:
        return False

    def may_wait(self) -> bool:
        # What stands for the connection knows the thread.
        return True


_NO_THREAD = _NoThread()


class _Away:
    """A home that was not in this process when it was asked for, or not the whole of it."""

    def __init__(self, homes: Homes, home: Home) -> None:
        self._homes = homes
        self.home = home

    @property
    def thread(self) -> Thread:
        registry = self._homes.here(self.home.boot)
        return _NO_THREAD if registry is None else registry.thread

    @property
    def missing(self) -> Outcome:
        registry = self._homes.here(self.home.boot)
        return Outcome.UNREACHABLE if registry is None else registry.missing

    def find(self, id: str) -> Registered | None:
        registry = self._homes.here(self.home.boot)
        if registry is not None:
            here = registry.find(id)
            if here is not None or isinstance(registry, Registry):
                return here
        elsewhere = self._homes.elsewhere
        if elsewhere is None:
            return None
        found: Registered | None = elsewhere(self.home).find(id)
        return found


#: The homes of this process.
HOMES = Homes()
