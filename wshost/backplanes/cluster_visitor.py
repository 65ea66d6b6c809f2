"""Publishes in a Redis Cluster over one connection, for `wshost.client`. Knows neither a socket, nor a conversation.

The connection goes to the master of what is published next; the client makes it. What is received must have that
master, too: see `share_broker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from wshost.backplanes.connection import BrokerError
from wshost.backplanes.redis_speaker import LARGEST
from wshost.backplanes.resp import command
from wshost.backplanes.shard_speaker import ShardSpeaker
from wshost.backplanes.shard_subscriptions import ShardSubscriptions, Sorter
from wshost.backplanes.shards import AROUND, LOAD, PARTS, beginning, part_of
from wshost.backplanes.topology import QUESTION, read

if TYPE_CHECKING:
    from wshost.backplanes.link import Link
    from wshost.backplanes.resp import Value
    from wshost.backplanes.settings import BackplaneSettings, Broker
    from wshost.interfaces import IBackplaneReceiver
    from wshost.results import ConfigurationError


class ClusterVisitor:
    """What a client uses of a backplane, and where it has to go.

    :param settings: those of the backplane.
    :param link: makes the connection, to any server at first.
    """

    #: The largest payload, in bytes.
    largest = LARGEST - AROUND

    def __init__(self, settings: BackplaneSettings, link: Callable[..., Link]) -> None:
        self._settings = settings
        self._make_link = link
        self._subscriptions = ShardSubscriptions()
        self.subjects = self._subscriptions.subjects
        # The master of each part, when the first server has said it.
        self._owners: list[Broker] = []
        self._speaker: ShardSpeaker
        self._link: Link
        self._connecting = Deferred[None]()

    @staticmethod
    def share_broker(subject: str, other: str) -> bool:
        """Whether two subjects always have the same master."""
        return part_of(subject) == part_of(other)

    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        """See `IBackplane`, as for all that follows; but it only fails."""
        sorter = Sorter(self._subscriptions, receiver)
        self._speaker = ShardSpeaker(self._settings.name, self, sorter, self, guide=True)
        self._link = self._speaker.link = self._make_link(reactor, self._settings, self._speaker)
        self._link.start()
        return self._connecting

    def broker_of(self, subject: str) -> Broker:
        """Return to whom the connection must go before this subject is published. The server has let us in before."""
        return self._owners[part_of(subject)]

    def publish(self, subject: str, payload: bytes) -> bool:
        size = len(payload)
        if size > self.largest:
            return False
        return self._link.send(b"%b%d\r\n%b\r\n" % (beginning(part_of(subject), subject), size, payload))

    def subscribe(self, subject: str) -> None:
        for part, channels in self._subscriptions.add(subject):
            if self._is_here(part):
                self._speaker.subscribe(command("SSUBSCRIBE", *channels))

    def _is_here(self, part: int) -> bool:
        return bool(self._owners) and self._owners[part] == self._link.broker

    # For the speaker

    def resolve(self, head: bytes) -> str:
        """Nothing else is wanted."""
        return ""

    def commands(self) -> Iterator[bytes]:
        """Return what is said on each connection."""
        yield LOAD
        yield QUESTION
        for part in filter(self._is_here, range(PARTS)):
            yield from self._subscriptions.commands(part)

    def learn(self, answer: Value) -> None:
        self._owners = read(answer, self._link.broker).owners

    def left(self, channel: bytes) -> None:
        self.moved(None)

    def moved(self, slot: int | None) -> None:
        """End the connection: the client makes another one, and sends its message again."""
        raise BrokerError("it has not got this slot any more")

    def wonders(self) -> bool:
        return False

    def settled(self) -> None:
        """Nothing is taken over."""

    def up(self) -> None:
        """The client sees it."""

    def down(self, reason: str) -> None:
        """The same."""

    def refused(self, error: ConfigurationError) -> None:
        self._connecting.errback(error)
