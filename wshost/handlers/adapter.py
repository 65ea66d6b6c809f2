"""Makes sessions of a user's handler: holds what all its connections share, and knows none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from wshost.handlers.session import HandlerSession
from wshost.interfaces import IChannel, ISessionFactory


@implementer(ISessionFactory)
class HandlerAdapter:
    """One handler, for any number of connections.

    :param handler: an `IHandler`.
    :param options: the handler's own, for its `init`.
    :param init_timeout: seconds that `init` may take before the connection is refused with 503.
    :param close_grace: seconds that `handle` may go on when the connection is gone, before it is cancelled.
    """

    def __init__(
        self, handler: Any, options: Mapping[str, Any], *, init_timeout: float = 5.0, close_grace: float = 10.0
    ) -> None:
        self.handler = handler
        self.options = options
        self.init_timeout = init_timeout
        self.close_grace = close_grace
        self._ending: set[Deferred[Any]] = set()

    def session(self, channel: IChannel) -> HandlerSession:
        """Start serving one connection."""
        return HandlerSession(self, channel)

    def keep(self, ending: Deferred[Any]) -> None:
        """Hold on to what goes on when its session is over: asyncio knows its tasks by weak references only."""
        self._ending.add(ending)
        ending.addBoth(lambda _: self._ending.discard(ending))
