"""Ports for sockets that listen already, as systemd passes them. They bind nothing, and leave the socket as it is.

Twisted's own port for such a Unix socket changes its permissions and its backlog. At its end it removes the socket's
file, and shuts down the socket, which its owner wants to pass again.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory

from wshost.fastnet.addresses import with_scope

_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})


def listening_socket(descriptor: int, family: int) -> socket.socket:
    """Return a duplicate of a socket that listens.

    :param descriptor: the socket.
    :param family: that which it must have, such as `socket.AF_INET`.
    :raises CannotListenError: when it is something else.
    """
    own = os.dup(descriptor)
    try:
        found = socket.socket(fileno=own)
    except OSError as error:
        os.close(own)
        raise CannotListenError(None, None, error) from error
    reason = _reason(found, family)
    if reason is not None:
        found.close()
        raise CannotListenError(None, None, ValueError(reason))
    return found


def _reason(found: socket.socket, family: int) -> str | None:
    """Return why a socket can't be used; None if it can."""
    if found.family != family or family not in _FAMILIES:
        return f"the socket's domain is {getattr(found.family, 'name', str(found.family)).removeprefix('AF_')}"
    if found.type != socket.SOCK_STREAM:
        return "the socket is for datagrams, not for connections: let systemd make it by ListenStream="
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "the socket does not listen: systemd must not accept its connections (Accept=no)"
    return None


class Port(tcp.Port):
    """A TCP port on a socket that listens.

    :param listening: the socket, which the port closes at its end.
    """

    def __init__(self, listening: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        interface = with_scope(listening.getsockname())[0]
        super().__init__(0, factory, 0, interface, reactor)
        # As Twisted does when it adopts a socket: it then doesn't shut it down.
        self._preexistingSocket = listening


class UNIXPort(unix.Port):
    """A port on a Unix socket that listens.

    :param listening: the socket, which the port closes at its end.
    """

    # As Twisted's TCP port has for a socket that it adopts: what the owner has is not shut down.
    _shouldShutdown = False

    def __init__(self, listening: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        super().__init__(listening.getsockname(), factory, reactor=reactor)
        self._listening = listening

    def startListening(self) -> None:
        """Accept connections. Nothing is bound or changed."""
        tcp._reservedFD.reserve()  # noqa: SLF001 - all ports of Twisted share this one spare descriptor
        factory: Any = self.factory
        factory.doStart()
        self.connected = True
        self.socket = self._listening
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any) -> None:
        """Close the socket here. Its file stays."""
        tcp.Port.connectionLost(self, reason)
