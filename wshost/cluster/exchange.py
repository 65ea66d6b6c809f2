"""Brings what is published to the hubs of this process first, then to other processes, if it has joined any.

Knows no connection and no broker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from wshost.cluster.directory import Directory
from wshost.cluster.elsewhere import Elsewhere
from wshost.cluster.local import LocalHubs
from wshost.cluster.outside import Outside
from wshost.cluster.subjects import Subjects
from wshost.connections.home import Home
from wshost.connections.homes import HOMES, Homes
from wshost.interfaces import IBackplane, IExchange, ILocalTopics
from wshost.process import reactors
from wshost.results import ConfigurationError


class Way(NamedTuple):
    """A way to other processes."""

    #: Says which it is: two that are equal lead to the same processes. Its `repr` must have no secrets.
    name: Hashable
    #: Makes the backplane.
    make: Callable[[], IBackplane]
    #: It leads only to the processes of this machine.
    local: bool = False


class Cluster(NamedTuple):
    """How a process knows the others."""

    #: The name of the cluster: processes of another one are not met, on whatever broker.
    name: str = "wshost"
    #: The ways to them.
    ways: Sequence[Way] = ()
    #: Names this machine among all: by default, it has one process only.
    machine: str = ""
    #: So many bytes may wait for other processes.
    buffer: int = 8 << 20


#: No other process is met.
ALONE = Cluster()


@implementer(IExchange)
class Exchange:
    """See `IExchange`.

    :param homes: those of this process.
    :param clock: see `Directory`.
    """

    def __init__(self, homes: Homes = HOMES, clock: Callable[[], float] = time.time) -> None:
        self._homes = homes
        self._hubs = LocalHubs()
        # How many hubs have subscribed to each topic, and the homes that are open. Hubs may be in several threads.
        self._interest: Counter[str] = Counter()
        self._open: dict[str, None] = {}
        self._lock = Lock()
        self._cluster = ALONE
        self._users = 0
        # Servers that wait; and what came of connecting: None while it goes on, a Failure, or anything else.
        self._waiting: list[Deferred[Any]] = []
        self._result: Any = None
        #: The other processes; None: there are none.
        self.outside: Outside | None = None
        #: What is known of the connections of all processes.
        self.directory = Directory(homes, clock)

    def connect(self, reactor: Any, cluster: Cluster = ALONE) -> Deferred[Any]:
        self._users += 1
        if self._users == 1:
            self._cluster = cluster
            self.directory.start(reactor)
            self._result = self if not cluster.ways else None
            if cluster.ways:
                self._join(reactor, cluster)
        elif _names(cluster) != _names(self._cluster):
            raise ConfigurationError("all servers of a process have the same backplane")
        done: Deferred[Any] = Deferred(self._waiting.remove)
        self._waiting.append(done)
        if self._result is not None:
            self._tell(self._result, self.outside)
        return done

    def _join(self, reactor: Any, cluster: Cluster) -> None:
        name, ways, machine, buffer = cluster
        outside = Outside(
            reactor,
            reactors.soon(reactor) or partial(reactor.callLater, 0),
            self._hubs,
            Subjects(name),
            machine=machine or Home.new().boot,
            buffer=buffer,
        )
        with self._lock:
            for topic in self._interest:
                outside.subscribe(topic)
            for boot in self._open:
                outside.open(boot)
            self.outside = outside
        self._homes.elsewhere = Elsewhere(outside, self._homes)
        self.directory.meet(outside)
        joining = [maybeDeferred(_use, outside, way) for way in ways]
        DeferredList(joining, fireOnOneErrback=True, consumeErrors=True).addBoth(self._tell, outside)

    def _tell(self, result: Any, outside: Outside | None) -> None:
        """Tell all servers that wait that the backplanes have connected, or can't."""
        if outside is not self.outside:
            # All servers have stopped meanwhile.
            return
        self._result = result
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(_cause(result) if isinstance(result, Failure) else None)

    def close(self) -> Deferred[Any]:
        self._users -= 1
        outside = self.outside
        if self._users:
            return succeed(None)
        self.directory.leave()
        if outside is None:
            return succeed(None)
        with self._lock:
            self.outside = None
        self._homes.elsewhere = None
        return outside.close()

    def publish(self, topic: str, data: str | bytes) -> bool:
        accepted = self._hubs.publish(topic, data)
        outside = self.outside
        if outside is not None:
            accepted &= outside.publish(topic, data)
        return accepted

    def subscribe(self, topic: str, local: ILocalTopics) -> None:
        self._hubs.subscribe(topic, local)
        with self._lock:
            self._interest[topic] += 1
            if self._interest[topic] == 1 and self.outside is not None:
                self.outside.subscribe(topic)

    def unsubscribe(self, topic: str, local: ILocalTopics) -> None:
        self._hubs.unsubscribe(topic, local)
        with self._lock:
            self._interest[topic] -= 1
            if not self._interest[topic]:
                del self._interest[topic]
                if self.outside is not None:
                    self.outside.unsubscribe(topic)

    def open(self, boot: str) -> None:
        """Receive what other processes ask of the connections of a home; let these have names, and more."""
        registry = self._homes.here(boot)
        if registry is not None:
            registry.directory = self.directory
        with self._lock:
            self._open[boot] = None
            if self.outside is not None:
                self.outside.open(boot)

    def shut(self, boot: str) -> None:
        """Undo `open`, if it was called."""
        with self._lock:
            if boot in self._open:
                del self._open[boot]
                if self.outside is not None:
                    self.outside.shut(boot)


def _use(outside: Outside, way: Way) -> Deferred[Any]:
    return outside.add(way.make(), way.local)


def _names(cluster: Cluster) -> tuple[str, list[Hashable]]:
    return cluster.name, [way.name for way in cluster.ways]


def _cause(failure: Failure) -> Any:
    """Return the failure of the first of several that has failed."""
    error: Any = failure.value
    return error.subFailure


#: The exchange of every server of this process that is not given another one.
SHARED = Exchange()
