"""Makes a session of the user's handler for each connection. Owns the values that sessions share; keeps no session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zope.interface import implementer

from wshost.handlers.restarting import RestartingSession
from wshost.handlers.session import HandlerSession, Newest, Terms
from wshost.handlers.timed import Durations
from wshost.interfaces import IChannel, IMovableSessionFactory, IRef
from wshost.request import ConnectionInfo


@implementer(IMovableSessionFactory)
class HandlerAdapter:
    """One handler, for any number of connections.

    :param handler: an `IHandler`.
    :param options: the handler's own options, for its `init`.
    :param init_timeout: seconds that `init` may take before the connection is rejected with 503.
    :param close_grace: seconds that `handle` may go on after the connection is gone, before it is cancelled.
    :param restarts: after a crash of `handle`, `init` runs again, and the connection stays.
    :param when_slow: what happens to messages of refs when the peer is slow: a word of the option ``--when-slow``.
    :param name: the handler's name, for the log and the metrics.
    :param durations: count how long the calls of `handle` take; None: they are not timed.
    :param source: what was imported, and can be imported again; None for a handler that was given as an object.
    """

    def __init__(
        self,
        handler: Any,
        options: Mapping[str, Any],
        *,
        init_timeout: float = 5.0,
        close_grace: float = 10.0,
        restarts: bool = False,
        when_slow: str = "close",
        name: str = "handler",
        durations: Durations | None = None,
        source: str | None = None,
    ) -> None:
        self.source = source
        self.terms = Terms(handler, options, init_timeout, close_grace, restarts, when_slow, name, durations)

    def renew(self, handler: Any, restarts: bool = False, when_slow: str = "close") -> None:
        """Give new sessions this handler. A session of before goes over to it when its own `renew` is called.

        Sessions of before keep to what was said of crashes and slow peers.
        """
        newest = self.terms.newest = self.terms.newest or Newest(self.terms)
        self.terms = newest.terms = replace(self.terms, handler=handler, restarts=restarts, when_slow=when_slow)

    def thaw(self, channel: IChannel, ref: IRef, route: str | None, data: bytes) -> HandlerSession:
        """Return the session of a connection that another process has frozen."""
        session = self.session(channel, None)
        session.thaw(ref, data)
        return session

    def session(self, channel: IChannel, connection: ConnectionInfo | None) -> HandlerSession:
        """Return the session of a new connection. A later change of `terms` does not affect it."""
        if self.terms.when_slow != "close":
            channel.use_policy(self.terms.when_slow)
        session = RestartingSession if self.terms.restarts else HandlerSession
        return session(self.terms, channel, connection)
