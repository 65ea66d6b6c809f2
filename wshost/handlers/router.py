"""Chooses the handler of a connection by the route that the http module has found; knows no paths and no handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from zope.interface import implementer

from wshost.interfaces import IChannel, IRef, ISession, ISessionFactory
from wshost.request import ConnectionInfo


@implementer(ISessionFactory)
class Router:
    """Several handlers behind one.

    :param handlers: by the pattern of their route, as in `ConnectionInfo.route`.
    """

    def __init__(self, handlers: Mapping[str, ISessionFactory]) -> None:
        self.handlers = handlers

    def session(self, channel: IChannel) -> RoutedSession:
        """Start serving one connection."""
        return RoutedSession(self.handlers, channel)


class _NoSession:
    """What there is before a route is known, and where there is none."""

    busy = waits = False


@implementer(ISession)
class RoutedSession:
    """Stands for the session that the route leads to; without one, answers 404 and then nothing.

    `open` puts that session's own methods in place of these: a message takes no detour.
    """

    def __init__(self, handlers: Mapping[str, ISessionFactory], channel: IChannel) -> None:
        self._handlers = handlers
        self._channel = channel
        self._session: Any = _NoSession

    #: The session's; read after every message, hence by a getter that is no Python function.
    busy = property(attrgetter("_session.busy"))
    waits = property(attrgetter("_session.waits"))

    def open(self, connection: ConnectionInfo, ref: IRef) -> None:
        """Find the session and open it, or refuse the connection with 404."""
        factory = None if connection.route is None else self._handlers.get(connection.route)
        if factory is None:
            self._channel.refused(404, b"", {})
            return
        session = self._session = factory.session(self._channel)
        self.deliver = session.deliver  # type: ignore[method-assign]
        self.info = session.info  # type: ignore[method-assign]
        self.behind = session.behind  # type: ignore[method-assign]
        self.lost = session.lost  # type: ignore[method-assign]
        session.open(connection, ref)

    def deliver(self, message: Any) -> None:
        """Do nothing: nobody is there."""

    def info(self, message: Any) -> bool:
        """Say that nobody is there."""
        return False

    def behind(self, call: Callable[[], None]) -> None:
        """Do nothing: nobody is there, and nothing waits."""

    def lost(self) -> None:
        """Do nothing: nobody is there."""
