"""All endpoints of a server with workers: those for clients, and that for operators. Knows no worker.

Each listens at its own time, and all accept at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from socket import socket
from typing import TYPE_CHECKING, Any

from wshost import compiled
from wshost.process import reactors
from wshost.results import ConfigurationError
from wshost.server import public
from wshost.settings.options import Settings
from wshost.workers.passing import Passing

if TYPE_CHECKING:
    from wshost.admin.endpoint import Endpoint
    from wshost.listening.listener import Listener


def descriptions(settings: Settings, admin: Endpoint | None) -> list[str]:
    """Return the descriptions of the endpoints, that for operators included.

    :param admin: None: there is none.
    """
    return [*public(settings), *([] if admin is None else [admin.description])]


class Endpoints:
    """Where clients and operators connect.

    :param settings: what the log says of the server.
    :param passing: accepts clients.
    :param admin: where operators connect; None: nowhere.
    :param inherited: sockets that listen already, by the descriptions of their endpoints; that for operators is taken.
    """

    def __init__(
        self, reactor: Any, settings: Settings, passing: Passing, admin: Endpoint | None, inherited: dict[str, socket]
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._passing = passing
        self._admin = admin
        self._inherited = inherited

    @property
    def _operators(self) -> list[Listener]:
        """What listens for operators, once it does."""
        listener = None if self._admin is None else self._admin.listener
        return [] if listener is None else [listener]

    @property
    def _all(self) -> list[Listener]:
        return [*self._passing.ports.listeners, *self._operators]

    def bind(self, unix: bool, operators: bool) -> None:
        """Listen on all endpoints that don't listen yet. Clients have to wait until `begin`.

        :param unix: False leaves out Unix sockets.
        :param operators: False has operators wait, too.
        :raises ConfigurationError: when one can't be listened on.
        """
        self._passing.ports.bind(unix)
        try:
            if self._admin is not None:
                inherited = self._inherited.pop(self._admin.description, None)
                self._admin.listen(self._reactor, unix, inherited)
        except ConfigurationError:
            self._passing.stop()
            raise
        if not operators:
            self._pause_operators()

    def begin(self) -> None:
        """Accept clients and operators from now on."""
        self._passing.begin()
        for listener in self._operators:
            listener.resume()

    def pause(self) -> None:
        """Accept nobody until `begin`."""
        self._passing.pause()
        self._pause_operators()

    def _pause_operators(self) -> None:
        for listener in self._operators:
            listener.pause()

    def sockets(self) -> dict[str, socket]:
        """Return the listening sockets by the descriptions of their endpoints."""
        return {listener.description: listener.port.socket for listener in self._all if listener.port is not None}

    def release(self) -> None:
        """Leave the listening sockets to another process, which goes on to accept there. Called while paused."""
        for listener in self._all:
            if listener.port is not None:
                listener.port.release()

    def announce(self, pids: Collection[int | None]) -> None:
        """Log where is listened, and for whom.

        :param pids: the process ids of the workers.
        """
        settings = self._settings
        names = [name if isinstance(name, str) else type(name).__name__ for name, _ in settings.protocol_module]
        workers = ", ".join(str(pid) for pid in pids)
        what = f"{' -> '.join(names)}; {compiled.form()}; on {reactors.name(self._reactor)}"
        how = f"{what}; pid {os.getpid()}; {len(pids)} workers: {workers}"
        scheme = ("ws", "tcp") if "websocket" in names else ("tcp", "tcp")
        scheme = {"ws": "wss", "tcp": "tls"}[scheme[0]] if settings.tls_cert else scheme[0]  # type: ignore[assignment]
        for listener in self._passing.ports.listeners:
            listener.announce(how, str(scheme), str(scheme))
        if self._admin is not None:
            self._admin.announce()
