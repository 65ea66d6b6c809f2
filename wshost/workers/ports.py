"""The supervisor's endpoints: it listens there, and never speaks there. Knows no worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import IAddress, ILoggingContext, IProtocol, IProtocolFactory
from zope.interface import implementer

from wshost.listening.listener import Listener
from wshost.process import reactors
from wshost.results import ConfigurationError

#: The kinds of endpoints whose connections can be passed to another process.
KINDS = ("tcp", "tcp6", "unix", "systemd")
#: The event loops that workers can run on, as `reactors.name` has them.
LOOPS = ("uvloop", "asyncio")


@implementer(IProtocolFactory, ILoggingContext)
class Nobody:
    """Speaks with nobody: accepted sockets go to workers."""

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Refuse a connection that nobody has taken."""
        return None

    def logPrefix(self) -> str:
        """Return the name in Twisted's "… starting on 8080"."""
        return "wshost"

    def doStart(self) -> None:
        """Do nothing."""

    def doStop(self) -> None:
        """Do nothing."""


class Ports:
    """The listening sockets of a server with workers.

    :param reactor: must be asyncio's.
    :param descriptions: the endpoints, as for `--listen`.
    :param take: gets accepted sockets with their peers' names, which it takes from the queue, all of them; and the
        place of their endpoint.
    :param inherited: sockets of another process that listen already, by the descriptions of their endpoints.
    :raises ConfigurationError: when connections of one of them can't be passed on.
    """

    def __init__(
        self,
        reactor: Any,
        descriptions: Sequence[str],
        take: Callable[[int, deque[tuple[socket, Any]]], None],
        inherited: Mapping[str, socket],
    ) -> None:
        check(reactor, descriptions)
        self._take = take
        self.listeners = [Listener(reactor, one, None, inherited=inherited.get(one)) for one in descriptions]

    def bind(self, unix: bool = True) -> None:
        """Listen, but accept nobody until `resume`.

        :param unix: False leaves out Unix sockets.
        :raises ConfigurationError: when one can't be listened on. The others are closed then.
        """
        try:
            for place, listener in enumerate(self.listeners):
                if unix or not listener.unix:
                    listener.listen(Nobody())
                    listener.pause()
                    self._pass_on(place, listener)
        except ConfigurationError:
            for listener in self.listeners:
                listener.stop()
            raise

    def _pass_on(self, place: int, listener: Listener) -> None:
        def take(accepted: deque[tuple[socket, Any]]) -> None:
            self._take(place, accepted)

        listener.port.hand_on = take

    @property
    def sockets(self) -> list[socket]:
        """The listening sockets, in order."""
        return [listener.port.socket for listener in self.listeners]

    def host(self, place: int, name: Any) -> IAddress:
        """Return the address of a peer.

        :param place: that of the endpoint.
        :param name: as `accept` has returned it.
        """
        address: IAddress = self.listeners[place].port._buildAddr(name)  # noqa: SLF001 - as the port itself does
        return address


def check(reactor: Any, descriptions: Sequence[str]) -> None:
    """Check that connections of these endpoints can be passed on. :raises ConfigurationError: when they can't."""
    if not isinstance(reactor, AsyncioSelectorReactor):
        raise ConfigurationError("workers: they need asyncio's reactor: leave out --reactor, or name asyncio or uvloop")
    if reactors.name(reactor) not in LOOPS:
        raise ConfigurationError(f"workers: they run on {' or '.join(LOOPS)}, not on {reactors.name(reactor)}")
    for description in descriptions:
        kind = description.removeprefix("haproxy:").partition(":")[0]
        if kind not in KINDS:
            raise ConfigurationError(f"listen: {description!r}: workers can't serve {kind}:, only {', '.join(KINDS)}")
