"""The brokers that a link may connect to: which is the next, and what is known of each. Connects to none."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.internet.abstract import isIPAddress, isIPv6Address

from wshost.backplanes.settings import Broker

#: The most brokers that others have named.
BROKERS = 100


class Candidates:
    """The brokers of one cluster. They are tried in rounds, each once in a round.

    :param given: those of the settings, at least one.
    :param random: chooses their order.
    """

    def __init__(self, given: Sequence[Broker], random: Random) -> None:
        self._given = list(given)
        self._random = random
        #: All of them: the given ones, and those that others have named.
        self.brokers = self._given
        #: The one that was tried last; before, the first of the given ones.
        self.current = self._given[0]
        # The names that certificates must have, of brokers that others have named by their addresses.
        self._names: dict[Broker, str] = {}
        # Brokers that demand TLS unexpectedly.
        self._demanding: set[Broker] = set()
        # Those that are still to be tried in this round; and the one that comes before them all.
        self._round: list[Broker] = []
        self._directed: Broker | None = None
        self._tried: Broker | None = None

    @property
    def left(self) -> bool:
        """Whether one is still to be tried in this round, or before it."""
        return bool(self._round or self._directed)

    @property
    def is_directed(self) -> bool:
        """Whether one is to be tried before all others."""
        return self._directed is not None

    @property
    def name(self) -> str:
        """The name that the current broker's certificate must have."""
        return self._names.get(self.current, self.current.host)

    @property
    def is_secure(self) -> bool:
        """Whether the current broker speaks TLS, as far as is known."""
        return self.current.tls or self.current.upgrades or self.current in self._demanding

    def begin(self) -> None:
        """Begin a round of all brokers, in random order: the one that was tried last is the last."""
        brokers = self._random.sample(self.brokers, len(self.brokers))
        self._round = sorted(brokers, key=lambda broker: broker == self._tried)

    def end(self) -> None:
        """End the round, if there is one."""
        self._round.clear()

    def next(self) -> Broker:
        """Return the broker to try now, the current one from now on. Only called while one is `left`."""
        if self._directed is not None:
            self.current, self._directed = self._directed, None
        else:
            self.current = self._round.pop(0)
        self._tried = self.current
        return self.current

    def direct(self, broker: Broker) -> None:
        """Have this broker tried before all others, once."""
        self._directed = broker

    def demand_tls(self) -> None:
        """Note that the current broker demands TLS, though its URL does not say so."""
        if len(self._demanding) >= BROKERS:
            self._demanding.clear()
        self._demanding.add(self.current)

    def know(self, brokers: Sequence[Broker]) -> None:
        """Replace what is known of the cluster beside the given brokers; only so many are kept.

        The certificate of a broker that is named by an address may be for the name of the current broker.
        """
        name = self.name
        found = [broker for broker in brokers if broker not in self._given][:BROKERS]
        self._names = {broker: name for broker in found if _is_address(broker.host)}
        self._names[self.current] = name
        self.brokers = [*self._given, *found]


def _is_address(host: str) -> bool:
    return isIPAddress(host) or isIPv6Address(host)
