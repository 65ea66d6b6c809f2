"""What the admin endpoint shows where one process serves: the server of this process. Knows no path and no page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from wshost.admin.connections import Connections
from wshost.admin.metrics import export
from wshost.admin.seen import READY, Seen


class Here:
    """A server in this process.

    :param look: returns the server as it is now.
    """

    def __init__(self, look: Callable[[], Seen]) -> None:
        self.look = look
        self._connections = Connections()

    def state(self) -> tuple[bool, str]:
        """Return whether clients are let in, and the state in one line."""
        seen = self.look()
        return seen.state == READY, seen.line

    def export(self, accept: str) -> Deferred[tuple[bytes, str]]:
        """Return all metrics, and their media type: see `metrics.export`."""
        return export(self.look(), accept)

    def page(self, limit: int, after: str) -> dict[str, Any]:
        """Return some connections: see `Connections.page`."""
        return self._connections.page(self.look(), limit, after)

    def one(self, id: str) -> dict[str, Any] | None:
        """Return one connection; None when there is none of this id."""
        return self._connections.one(self.look(), id)

    def close(self, id: str, code: int, reason: str) -> str | None:
        """Close a connection: see `Connections.close`."""
        return self._connections.close(self.look(), id, code, reason)
