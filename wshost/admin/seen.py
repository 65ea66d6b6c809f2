"""A server as the admin endpoint sees it. Knows nothing of HTTP, nor of how the server came to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from wshost.connections.shared import Shared
from wshost.handlers.timed import Timings
from wshost.process.watchdog import Watchdog
from wshost.topics.subscriptions import Topics

if TYPE_CHECKING:
    from wshost.cluster.outside import Outside
    from wshost.connections.connection import Connection

#: The states of a server. Only a ready one lets clients in.
STARTING, READY, DRAINING = "starting", "ready", "draining"


class Seen(NamedTuple):
    """A server, now."""

    #: One of `STARTING`, `READY` and `DRAINING`.
    state: str
    shared: Shared
    topics: Topics
    timings: Timings
    #: None: it is off, or the server has not started.
    watchdog: Watchdog | None
    #: What was built: values by the names of labels.
    build: Mapping[str, str]
    #: The other processes; None: there are none.
    outside: Outside | None = None

    @property
    def line(self) -> str:
        """Its state, in one line."""
        if self.outside is None or self.outside.is_connected:
            return self.state
        return f"{self.state}; the backplane is not connected: {self.outside.reason}"

    def connections(self) -> list[Connection]:
        """Return the connections that are open now, in the order in which they were made."""
        return cast("list[Connection]", self.shared.registry.all())
