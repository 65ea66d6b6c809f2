"""Connections for operators: shows them page by page, and closes one. Knows no HTTP."""

from __future__ import annotations

import re
from heapq import nsmallest
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from wshost.admin.seen import Seen

if TYPE_CHECKING:
    from wshost.connections.connection import Connection

#: How many connections a page shows if nothing else is asked for, and at most.
PAGE, MOST = 100, 500
#: The Close that a peer gets if the operator says nothing else.
CLOSE = (1000, "closed by an administrator")

_ID = re.compile(r"(?:w([0-9]{1,20}))?c([0-9]{1,20})")


class Connections:
    """The connections of a server.

    What they are called and where they come from is text of peers: as JSON, it is harmless.
    """

    def __init__(self) -> None:
        # Those that were asked to close, and have not ended.
        self._closing: WeakSet[Connection] = WeakSet()

    def page(self, seen: Seen, limit: int = PAGE, after: str = "") -> dict[str, Any]:
        """Return connections, the oldest first, and the id after which the next page begins.

        :param limit: at most so many.
        :param after: only those that were made after the one of this id, which may have ended.
        :raises ValueError: when it is no id.
        """
        last = place(after) if after else (0, 0)
        newer = [one for one in seen.connections() if place(one.id) > last]
        shown = nsmallest(limit, newer, key=lambda one: place(one.id))
        more = len(newer) > len(shown)
        return {
            "connections": [self._facts(seen, one) for one in shown],
            "total": len(seen.shared.registry),
            "next": shown[-1].id if more and shown else None,
        }

    def one(self, seen: Seen, id: str) -> dict[str, Any] | None:
        """Return one connection; None when there is none of this id."""
        connection = _find(seen, id)
        return None if connection is None else self._facts(seen, connection)

    def close(self, seen: Seen, id: str, code: int = CLOSE[0], reason: str = CLOSE[1]) -> str | None:
        """Close a connection. One that was asked to close before is aborted, as is one that can't be closed.

        :returns: "closing" or "aborted"; None when there is none of this id.
        :raises ValueError: for a code that may not be sent.
        """
        connection = _find(seen, id)
        if connection is None:
            return None
        if connection not in self._closing and connection.ref.close(code, reason):
            self._closing.add(connection)
            return "closing"
        connection.abort(CLOSE[1])
        return "aborted"

    def _facts(self, seen: Seen, connection: Connection) -> dict[str, Any]:
        return {
            "id": connection.id,
            "peer": connection.stream.peer(),
            "route": connection.context.route,
            "module": connection.context.module,
            "seconds": round(seen.shared.schedule.seconds() - connection.made_at, 3),
            **connection.traffic()._asdict(),
            "waiting": connection.waiting,
            "closing": connection.stream.closing or connection in self._closing,
        }


def _find(seen: Seen, id: str) -> Connection | None:
    found: Any = seen.shared.registry.find(id)
    return found  # type: ignore[no-any-return]


def place(id: str) -> tuple[int, int]:
    """Return the numbers in an id: of the worker, 0 in a server without workers; and of the connection there.

    :raises ValueError: when it is no id.
    """
    found = _ID.fullmatch(id)
    if found is None:
        raise ValueError(f"{id!r} is not the id of a connection, such as c7")
    return int(found[1] or 0), int(found[2])
