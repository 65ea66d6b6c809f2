"""Leaves a server's endpoints and connections to the process that takes over, then has this one stop.

It must not know how that process is reached, nor how connections go there.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import succeed
from twisted.logger import Logger

from wshost.connections.drain import counted
from wshost.process.takeover import Channel
from wshost.workers.crew import Crew
from wshost.workers.endpoints import Endpoints
from wshost.workers.giving import Giving
from wshost.workers.succession import Succession

_log = Logger("wshost")


class Resigning:
    """What becomes of a server that is taken over.

    :param succession: the way to the process that takes over.
    :param endpoints: are left to it.
    :param giving: has the workers give it their connections.
    :param stop: called when it has all that goes over: this process is to stop, as at a signal.
    """

    def __init__(
        self, crew: Crew, succession: Succession, endpoints: Endpoints, giving: Giving, stop: Callable[[], None]
    ) -> None:
        self._crew = crew
        self._succession = succession
        self._endpoints = endpoints
        self._giving = giving
        self._stop = stop

    def offer(self) -> None:
        """Wait for a process that takes over (`--takeover`). :raises ConfigurationError: when that can't be."""
        self._succession.offer(self._endpoints.sockets, self.give_up_to, lambda: self._crew.started)

    def give_up_to(self, channel: Channel) -> bool:
        """Let a successor accept, have the workers give it their connections, then stop; False: it has gone."""
        self._endpoints.pause()
        try:
            channel.send({"opened": self._succession.opened})
        except OSError as error:
            _log.warn("the process that would take over has gone: {error}", error=error)
            channel.close()
            self._endpoints.begin()
            return False
        self._endpoints.release()
        given = self._giving.begin(channel) if channel.takes_connections else succeed(0)
        given.addCallback(self._has_given, channel)
        return True

    def _has_given(self, moved: int, channel: Channel) -> None:
        channel.close()
        _log.info("another process has taken over, with {connections}", connections=counted(moved))
        self._stop()
