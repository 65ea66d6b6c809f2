"""Converts addresses of sockets to Twisted's. Opens no socket."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress


def with_scope(name: Any) -> Any:
    """Return a socket's name; a link-local address gets its interface, ``fe80::1%eth0``, as in Twisted.

    :param name: as `accept`, `getsockname` and `getpeername` return it.
    """
    if isinstance(name, tuple) and len(name) == 4 and name[3] and "%" not in name[0]:
        host, _ = socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        return (host, *name[1:])
    return name


def address_of(name: Any) -> IPv4Address | IPv6Address | UNIXAddress:
    """Return Twisted's address for a socket's name."""
    # The type of the name tells the family. Asking the socket for its family takes longer than all the rest.
    if not isinstance(name, tuple):
        return UNIXAddress(name or None)
    if len(name) == 2:
        return IPv4Address("TCP", *name)
    return IPv6Address("TCP", *with_scope(name))
