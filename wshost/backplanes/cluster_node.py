"""Owns the connection to one server of a Redis Cluster, and knows which parts this has. Knows no other server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from typing import Protocol as Shape

from wshost.backplanes.shard_speaker import ShardSpeaker
from wshost.backplanes.shards import LOAD, part_of_channel, part_of_slot
from wshost.backplanes.topology import QUESTION, Topology, read

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from wshost.backplanes.link import Link
    from wshost.backplanes.settings import BackplaneSettings, Broker
    from wshost.backplanes.shard_subscriptions import ShardSubscriptions, Sorter
    from wshost.backplanes.tls import ClientTLS
    from wshost.results import ConfigurationError

#: A server is asked who has which slots so many seconds after it was asked last.
AGAIN = 0.1


class Nodes(Shape):
    """Whom a `Node` tells what becomes of it."""

    #: A server has let us in, so no refusal is final.
    known: bool

    def learn(self, topology: Topology) -> None:
        """A server has said who has which part."""

    def shake(self, part: int) -> None:
        """The subscriptions of a part are not where they should be: make them again after the next `learn`."""

    def changed(self, reason: str) -> None:
        """A node has become settled, or is not any more. :param reason: why not."""

    def refused(self, error: ConfigurationError) -> None:
        """The first server that has answered has refused us, and always will."""

    def wonders(self) -> bool:
        """Whether the guide is to be asked again."""


class Surroundings(NamedTuple):
    """What all nodes of a backplane have in common."""

    #: Provides `IReactorTime`, and what a link needs.
    reactor: Any
    settings: BackplaneSettings
    make_link: Callable[..., Link]
    nodes: Nodes
    subscriptions: ShardSubscriptions
    sorter: Sorter
    tls: ClientTLS


class Node:
    """One server.

    :param master: which one; without it, this is the guide: any server of the settings or of the cluster.
    """

    def __init__(self, surroundings: Surroundings, master: Broker | None = None) -> None:
        reactor, settings, make_link, nodes, subscriptions, sorter, tls = surroundings
        self._reactor = reactor
        self._nodes = nodes
        self._subscriptions = subscriptions
        #: Those of a master; a guide has none.
        self.parts: set[int] = set()
        self.subjects = subscriptions.subjects
        self._is_guide = master is None
        self._is_up = self._retired = False
        # The pause before the next question; and whether there is one to ask.
        self._pause: Any = None
        self._doubts = False
        guide, known = self._is_guide, nodes.known
        self.speaker = ShardSpeaker(settings.name, self, sorter, self, guide=guide, known=known)
        brokers = settings.brokers if master is None else (master,)
        self.link = self.speaker.link = make_link(reactor, settings, self.speaker, brokers, tls=tls)

    @property
    def is_settled(self) -> bool:
        """Whether payloads go both ways, for all its parts."""
        return self._is_up and not self.speaker.unsettled

    def doubt(self) -> None:
        """Ask the server who has which slots, now or soon."""
        if self._pause is not None:
            self._doubts = True
        elif not self._retired:
            self.speaker.ask()
            self._pause = self._reactor.callLater(AGAIN, self._end_pause)

    def _end_pause(self) -> None:
        self._pause = None
        if self._doubts:
            self._doubts = False
            self.doubt()

    def close(self) -> Deferred[None]:
        """Close the connection for good. It tells nothing more."""
        self._retired = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        return self.link.close()

    # For the speaker: what is subscribed to on each connection

    def resolve(self, head: bytes) -> str:
        """Its channel was unsubscribed from while the message was on its way."""
        return ""

    def commands(self) -> Iterator[bytes]:
        """Return what makes this connection what the last one was."""
        yield QUESTION if self._is_guide else LOAD
        for part in sorted(self.parts):
            yield from self._subscriptions.commands(part)

    def give_up(self, owners: Sequence[Node]) -> bool:
        """Forget the parts that are others' now; return whether there are any."""
        before = len(self.parts)
        self.parts = {part for part in self.parts if owners[part] is self}
        return len(self.parts) < before

    def take_over(self, parts: Sequence[int]) -> None:
        """Subscribe to parts that this master has from now on, or has again."""
        self.parts.update(parts)
        self.speaker.take_over(one for part in parts for one in self._subscriptions.commands(part))

    # For the speaker: what the server says

    def learn(self, answer: Any) -> None:
        topology = read(answer, self.link.broker)
        if not self._retired:
            self._nodes.learn(topology)

    def left(self, channel: bytes) -> None:
        part = part_of_channel(channel)
        if part is not None and self._subscriptions.has(part, channel.decode(errors="replace")):
            self._shake(part)

    def moved(self, slot: int | None) -> None:
        self._shake(None if slot is None else part_of_slot(slot))

    def _shake(self, part: int | None) -> None:
        if part is not None and not self._retired:
            self._nodes.shake(part)
        self.doubt()

    def settled(self) -> None:
        self._change("")

    def wonders(self) -> bool:
        return self._nodes.wonders()

    def up(self) -> None:
        self._is_up = True
        self._change("")

    def down(self, reason: str) -> None:
        self._is_up = False
        self._change(reason)

    def _change(self, reason: str) -> None:
        if not self._retired:
            self._nodes.changed(reason)

    def refused(self, error: ConfigurationError) -> None:
        self._nodes.refused(error)
