"""Limits how many connections a second come from one address. Knows addresses as text, and no connection."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address
from math import ceil

#: Seconds for which an address may save up connections that it did not make.
BURST = 2
#: At most this many addresses are remembered. A further one takes the place of the one that was seen first of all.
MAX_ADDRESSES = 10_000


class ConnectionRate:
    """A token bucket for each address; IPv6 by /64, as a peer there has a whole network to choose from (RFC 4291).

    :param rate: connections a second.
    :param seconds: returns the time.
    """

    def __init__(self, rate: int, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._seconds = seconds
        # The tokens of each address, and when they were counted; the address that was seen last is the last.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, host: str) -> int:
        """Count one more connection of an address, unless it is one too many.

        :param host: an IP address.
        :returns: 0; or after how many seconds there is room for one that was not counted.
        """
        key, now, most = _key(host), self._seconds(), float(BURST * self._rate)
        tokens, since = self._buckets.pop(key, (most, now))
        # Twisted's own reactors have the machine's clock, which may be set back.
        tokens = min(most, tokens + max(0.0, now - since) * self._rate)
        wait = 0 if tokens >= 1 else ceil((1 - tokens) / self._rate)
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


def _key(host: str) -> Hashable:
    """Return what counts as one address: an IPv4 address, a network of IPv6, or any other text as it is."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return address
    return address.ipv4_mapped or int(address) >> 64
