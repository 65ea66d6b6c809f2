"""Sets of IP networks: they say which peers are trusted proxies. Imports no other module of wshost."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

#: Stands for all peers on Unix sockets.
UNIX = "unix"
#: IPv4 addresses as an IPv6 socket has them (RFC 4291 §2.5.5.2).
_MAPPED = IPv6Network("::ffff:0:0/96")


class Networks:
    """A set of networks.

    :param members: each is an address, a network such as ``10.0.0.0/8`` or ``2001:db8::/32``, or ``unix``.
    :raises ValueError: with a message that says what is wrong.
    """

    def __init__(self, members: Iterable[str]) -> None:
        self._unix = False
        self._networks: list[IPv4Network | IPv6Network] = []
        for member in members:
            if member == UNIX:
                self._unix = True
            else:
                self._networks.append(_network(member))

    def have(self, peer: IAddress) -> bool:
        """Return whether a socket's peer is in this set."""
        if isinstance(peer, UNIXAddress):
            return self._unix
        host = getattr(peer, "host", None)
        # A link-local address has a zone, which is no part of it.
        known = ip(host.partition("%")[0]) if isinstance(host, str) else None
        return known is not None and self.have_ip(known)

    def have_ip(self, address: IPv4Address | IPv6Address) -> bool:
        """Return whether an address, as `ip` returns it, is in this set."""
        return any(address in network for network in self._networks)


def ip(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address; that of IPv4 for one that IPv6 maps. None for anything else, and with a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id is not None else address.ipv4_mapped or address
    return address


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError:
        network = None
    if network is None or "%" in text:
        raise ValueError(f"{text!r} is not an address, a network such as 10.0.0.0/8 or 2001:db8::/32, or unix")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((network.network_address.packed[-4:], network.prefixlen - 96))
    return network
