"""Carries payloads over the sharded publish and subscribe of a Redis Cluster. Knows no topic.

There is a connection to each master that has some part of the subjects, and one to the guide: any server, which says
which master that is. A payload goes to the master of its subject's part alone. So each master more carries more.

When a part goes to another master, as one has failed or slots were moved, its subscriptions are made there. What has
waited for the one before goes there first. A payload that comes to a master without the part is refused. It is counted,
and not sent again: where it would go, nobody listens yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from zope.interface import implementer

from wshost.backplanes.cluster_node import Node, Surroundings
from wshost.backplanes.cluster_visitor import ClusterVisitor
from wshost.backplanes.link import Link
from wshost.backplanes.output import Output
from wshost.backplanes.redis_speaker import LARGEST
from wshost.backplanes.resp import command
from wshost.backplanes.shard_subscriptions import ShardSubscriptions, Sorter
from wshost.backplanes.shards import AROUND, PARTS, beginning, part_of, part_of_command
from wshost.backplanes.tls import ClientTLS
from wshost.interfaces import IBackplane, IBackplaneReceiver
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from wshost.backplanes.settings import BackplaneSettings, Broker
    from wshost.backplanes.topology import Topology

#: The schemes of URLs. A doubled s stands for TLS.
SCHEMES = ("redis+cluster", "rediss+cluster")
#: The beginnings of the commands for so many subjects are kept.
KNOWN = 10_000
#: The guide is asked who has which slots with each ping while somebody is missing; else with one of so many. When it
#: was asked so often in vain, another one is: it may be cut off itself.
SELDOM = 10


@implementer(IBackplane)
class RedisClusterBackplane:
    """See `wshost.interfaces.IBackplane`.

    :param settings: the brokers are some servers of the cluster; the others are found.
    :param link: makes each connection.
    :raises ConfigurationError: when these settings can't be meant.
    """

    #: What a client outside the cluster uses instead.
    from_outside: ClassVar[Any] = ClusterVisitor

    def __init__(self, settings: BackplaneSettings, link: Callable[..., Link] = Link) -> None:
        if settings.scheme not in SCHEMES:
            raise ConfigurationError(f"{settings.scheme} is no scheme for Redis Cluster: {', '.join(SCHEMES)}")
        self._settings = settings
        self._make_link = link
        # The whole command counts as what waits.
        self.largest = min(LARGEST, settings.buffer) - AROUND
        self._subscriptions = ShardSubscriptions()
        # The part and the beginning of the command that publishes, by subject.
        self._beginnings: dict[str, tuple[int, bytes]] = {}
        #: All was in place, once.
        self.known = False
        self._is_up = False
        self._pings = 0
        self._receiver: IBackplaneReceiver
        self._surroundings: Surroundings
        # Where payloads wait while it is not known who has which part.
        self._lobby: Output
        self._guide: Node
        # The masters by host and port; that of each part; and what waits for each part.
        self._masters: dict[tuple[str, int], Node] = {}
        self._owners: list[Node] = []
        self._outputs: list[Output] = []
        # The parts whose subscriptions are to be made again.
        self._shaken: set[int] = set()
        # What fires when a node that is not needed any more is closed.
        self._leaving: set[Deferred[Any]] = set()
        # The results of `connect` and `close`.
        self._connecting: Deferred[None]
        self._closed: Deferred[None] | None = None

    @property
    def waiting(self) -> int:
        if not self._outputs:
            return 0
        return self._lobby.waiting + sum(master.link.output.waiting for master in self._masters.values())

    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        settings = self._settings
        self._receiver = receiver
        sorter = Sorter(self._subscriptions, receiver)
        self._lobby = Output(reactor, settings.buffer, settings.patience, receiver.dropped)
        self._outputs = [self._lobby] * PARTS
        try:
            # Who meets a master later may not be able to read the files any more.
            tls = ClientTLS(settings)
        except ConfigurationError:
            self._connecting = fail()
            self._lobby.close()
            self._closed = succeed(None)
        else:
            self._surroundings = Surroundings(
                reactor, settings, self._make_link, self, self._subscriptions, sorter, tls
            )
            self._guide = self._node()
            self._connecting = Deferred(self._cancel)
            self._guide.link.start()
        return self._connecting

    def close(self) -> Deferred[None]:
        # It does nothing to a result that is there.
        self._connecting.cancel()
        return self._close()

    def publish(self, subject: str, payload: bytes) -> bool:
        size = len(payload)
        if size > self.largest:
            return False
        found = self._beginnings.get(subject)
        if found is None:
            found = self._begin(subject)
        part, start = found
        data = b"%b%d\r\n%b\r\n" % (start, size, payload)
        if len(data) + self.waiting > self._settings.buffer:
            return False
        return self._outputs[part].send(data)

    def flush(self) -> None:
        """Send what was published in this turn: nothing more comes in it."""
        for master in list(self._masters.values()):
            master.link.output.flush()

    def subscribe(self, subject: str) -> None:
        for part, channels in self._subscriptions.add(subject):
            if self._owners:
                self._owners[part].speaker.subscribe(command("SSUBSCRIBE", *channels))

    def unsubscribe(self, subject: str) -> None:
        for part, channels in self._subscriptions.remove(subject):
            if self._owners:
                self._owners[part].speaker.leave(channels)

    def reaches(self, subject: str) -> bool:
        """Whether somebody may receive this subject now."""
        return bool(self._owners) and self._owners[part_of(subject)].is_settled

    # For the nodes

    def learn(self, topology: Topology) -> None:
        """Change over to the masters that have the parts now."""
        self._guide.link.know(topology.nodes)
        owners = [self._master(broker) for broker in topology.owners]
        gains: dict[Node, list[int]] = {}
        for part, owner in enumerate(owners):
            if part not in owner.parts or part in self._shaken:
                gains.setdefault(owner, []).append(part)
        self._shaken.clear()
        self._owners = owners
        losers = [master for master in self._masters.values() if master.give_up(owners)]
        for owner, parts in gains.items():
            owner.take_over(parts)
        self._hand_over(losers)
        for address, master in list(self._masters.items()):
            if not master.parts:
                del self._masters[address]
                self._leave(master)
        self.changed("some slots have another master")

    def shake(self, part: int) -> None:
        self._shaken.add(part)

    def changed(self, reason: str) -> None:
        """Tell when all is in place, and when it is not any more."""
        is_up = bool(self._masters) and all(master.is_settled for master in self._masters.values())
        if is_up is self._is_up:
            return
        self._is_up = is_up
        if is_up:
            self.known = True
            self._receiver.connected()
            if not self._connecting.called:
                self._connecting.callback(None)
        else:
            self._receiver.disconnected(reason)
            self._guide.doubt()

    def refused(self, error: ConfigurationError) -> None:
        """Give up."""
        self._close().addCallback(self._fail, error)

    def wonders(self) -> bool:
        self._pings += 1
        is_due = self._pings % SELDOM == 0
        if is_due and not self._is_up:
            self._guide.link.leave("a master is missing, and another server may know more")
        return is_due or not self._is_up

    def _node(self, master: Broker | None = None) -> Node:
        return Node(self._surroundings, master)

    def _master(self, broker: Broker) -> Node:
        """Return a master; if it is new, it is connected to from now on."""
        address = broker.host, broker.port
        if address not in self._masters:
            self._masters[address] = self._node(broker)
            self._masters[address].link.start()
        return self._masters[address]

    def _hand_over(self, losers: list[Node]) -> None:
        """Give what waits to the masters that have the parts now."""
        self._outputs = outputs = [owner.link.output for owner in self._owners]
        for source in [self._lobby, *(loser.link.output for loser in losers)]:
            for due, payloads in source.take():
                shares: dict[Output, list[bytes]] = {}
                for payload in payloads:
                    shares.setdefault(outputs[part_of_command(payload)], []).append(payload)
                for output, share in shares.items():
                    output.adopt(due, share)

    def _leave(self, master: Node) -> None:
        done = master.close()
        self._leaving.add(done)
        done.addBoth(lambda _: self._leaving.discard(done))

    def _fail(self, _: None, error: ConfigurationError) -> None:
        if not self._connecting.called:
            self._connecting.errback(error)

    def _cancel(self, _: object) -> None:
        self._close()

    def _close(self) -> Deferred[None]:
        if self._closed is None:
            self._closed = closed = Deferred[None]()
            nodes = [*self._masters.values(), self._guide]
            closing = DeferredList([*(node.close() for node in nodes), *self._leaving])
            self._lobby.close()
            closing.addCallback(lambda _: closed.callback(None))
        return self._closed

    def _begin(self, subject: str) -> tuple[int, bytes]:
        """Return a subject's part, and the command that publishes to it, up to the payload's length."""
        if len(self._beginnings) >= KNOWN:
            self._beginnings.clear()
        part = part_of(subject)
        self._beginnings[subject] = found = part, beginning(part, subject)
        return found
