"""Limits how many connections are open, in all and from one IP address. Knows connections by id only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from wshost.connections.rate import ConnectionRate

#: At most this many connections at a time are told that they are not admitted; more are aborted.
MAX_REFUSED = 128


class Admission:
    """Counts the connections of a hub.

    :param max_connections: the most connections that are admitted.
    :param max_connections_per_address: the most that are admitted from one IP address; 0 for no limit.
    :param rate: limits how many an address makes a second; None for no limit.
    """

    def __init__(
        self, max_connections: int, max_connections_per_address: int, rate: ConnectionRate | None = None
    ) -> None:
        self.rate = rate
        self._max_connections = max_connections
        self._max_per_address = max_connections_per_address
        self._per_address: Counter[str] = Counter()
        # The ids of connections that are open only to be told that they are not admitted.
        self._refused: set[str] = set()

    def has_room(self, connections: int, id: str) -> bool:
        """Say whether one more is admitted.

        :param connections: how many there are, the refused ones included.
        :param id: that of the new one.
        """
        return connections - len(self._refused) < self._max_connections

    def refuse(self, id: str) -> bool:
        """Count a connection as refused: it takes no place. Return whether it may be told that it is not admitted."""
        self._refused.add(id)
        return len(self._refused) <= MAX_REFUSED

    def forget(self, id: str) -> None:
        """Forget a lost connection, refused or not."""
        self._refused.discard(id)

    def count_address(self, host: str) -> bool:
        """Count one more connection from this IP address; return False, and don't count it, if it is one too many."""
        if self._max_per_address and self._per_address[host] >= self._max_per_address:
            return False
        self.count_admitted(host)
        return True

    def ask(self, id: str, host: str, count: Callable[[], None], then: Callable[[], None]) -> bool:
        """Ask another process whether an address has room, if one knows more than this one.

        :param id: that of a connection whose address was not known before.
        :param count: called once, in a later turn: it calls `count_address`, and `rate.take`.
        :param then: called after it. Neither is called once the connection was forgotten.
        :returns: False when nobody is asked, and nothing will be called: this process decides.
        """
        return False

    def count_admitted(self, host: str) -> None:
        """Count one more connection from this IP address, which somebody else has admitted."""
        self._per_address[host] += 1

    def discount_address(self, host: str) -> None:
        """Undo a `count_address` that returned True."""
        self._per_address[host] -= 1
        if not self._per_address[host]:
            del self._per_address[host]

    @property
    def empty(self) -> bool:
        """Whether nobody is counted."""
        return not (self._refused or self._per_address)
