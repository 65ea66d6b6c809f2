"""Chooses the handler of a connection by the route that the http module has found. Knows no paths and no messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import IChannel, IMovableSessionFactory, IRef, ISession, ISessionFactory
from wshost.request import ConnectionInfo
from wshost.results import Reject


class _NotFound:
    """The handler of connections whose route has no handler."""

    def init(self, options: Mapping[str, Any]) -> None:
        raise Reject(404)

    def handle(self, message: Any, state: None) -> None:
        """Never called, as no connection is accepted."""


@implementer(IMovableSessionFactory)
class Router:
    """One factory of sessions for several handlers. A connection without a handler for its route gets 404.

    :param handlers: session factories, by the pattern of their route, as in `ConnectionInfo.route`.
    """

    def __init__(self, handlers: Mapping[str, ISessionFactory]) -> None:
        self.handlers = handlers
        self._not_found = HandlerAdapter(_NotFound(), {})

    def session(self, channel: IChannel, connection: ConnectionInfo) -> ISession:
        """Return the session of a new connection, with the handler of its route."""
        factory = self.handlers.get(connection.route or "", self._not_found)
        return factory.session(channel, connection)

    def thaw(self, channel: IChannel, ref: IRef, route: str | None, data: bytes) -> ISession:
        """Return the session of a connection that another process has frozen.

        :raises LookupError: when the route has no handler any more, or one whose factory can't do so.
        """
        thaw = getattr(self.handlers.get(route or ""), "thaw", None)
        if thaw is None:
            raise LookupError(f"no handler of the route {route} can go on")
        session: ISession = thaw(channel, ref, route, data)
        return session
