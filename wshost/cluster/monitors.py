"""Who is told that which connection has ended, and what is known of connections elsewhere. Knows no thread and no way.

A monitor of a connection in another process waits until that process has confirmed that the connection is there.
"""

from __future__ import annotations

from typing import Any

from wshost.connections.ref import Ref

#: The connection was gone already, or nobody knows more.
GONE = "gone"
#: Its process has ended, or is cut off.
UNREACHABLE = "unreachable"


class Monitors:
    """The monitors of this process's connections."""

    def __init__(self) -> None:
        self._watchers: dict[Ref, dict[Ref, None]] = {}
        # The connections of other processes that are known to be there, and those processes.
        self._confirmed: dict[Ref, str] = {}
        #: The connections that are monitored and not confirmed, and since when.
        self.waiting: dict[Ref, float] = {}

    def add(self, watcher: Ref, target: Ref, now: float | None) -> None:
        """Monitor a connection.

        :param now: the time; None if the connection is one of this process.
        """
        self._watchers.setdefault(target, {})[watcher] = None
        if now is not None and target not in self._confirmed:
            self.waiting.setdefault(target, now)

    def remove(self, watcher: Ref, target: Ref) -> None:
        """Undo `add`, if it was called."""
        watchers = self._watchers.get(target, {})
        watchers.pop(watcher, None)
        if not watchers:
            self._watchers.pop(target, None)
            self.waiting.pop(target, None)

    def confirm(self, owner: str, target: Ref) -> None:
        """A process says that it has this connection."""
        self._confirmed[target] = owner
        self.waiting.pop(target, None)

    def end(self, owner: str, target: Ref, reason: str | None, now: float) -> list[tuple[Ref, Any]]:
        """A process says that it has this connection no more.

        :param reason: why; None: another process has it.
        :returns: the infos that are due.
        """
        if self._confirmed.get(target) != owner:
            return []
        del self._confirmed[target]
        if reason is None:
            if target in self._watchers:
                self.waiting[target] = now
            return []
        return self.down(target, reason)

    def down(self, target: Ref, reason: str) -> list[tuple[Ref, Any]]:
        """A connection has ended: return the infos that are due, to each who has monitored it."""
        self.waiting.pop(target, None)
        return [(watcher, ("down", target, reason)) for watcher in self._watchers.pop(target, ())]

    def forget(self, target: Ref) -> None:
        """Tell nobody of this connection."""
        self._watchers.pop(target, None)
        self.waiting.pop(target, None)
