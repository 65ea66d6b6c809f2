"""Lets the connections of a hub go over to another process, and takes those of another one. Knows no protocol.

A connection can go over while nothing of it waits, in either direction, if its transport is plain and its module can
say what the other process needs. The peer sees nothing of it: the socket is the same, and what it sends meanwhile waits
in the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from socket import socket
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from wshost.connections import home
from wshost.connections.connection import Connection
from wshost.connections.home import Home
from wshost.connections.ref import Ref
from wshost.connections.registry import Directory
from wshost.connections.shared import Shared
from wshost.request import Proxy
from wshost.topics.subscriptions import Topics

#: So many connections are frozen in one turn, and for so many seconds: handlers may take long, and so may whoever takes
#: the connections.
A_TURN, LONGEST = 100, 0.5
#: A connection of which more is to be said stays, in bytes.
LARGEST = 96 * 1_024
#: How often a connection is tried that is at work, and seconds from one try to the next.
TRIES, PAUSE = 5, 0.05


class Frozen(NamedTuple):
    """A connection that goes over."""

    #: What all connections have, as JSON knows it.
    head: Mapping[str, Any]
    #: What the module has said.
    data: bytes


def freeze(connection: Connection, directory: Directory | None = None) -> Frozen | None:
    """Return what another process needs to go on with a connection; None if it can't go over now, or never.

    Called while no users' code is running. Nothing changes: the connection goes on if nobody takes it.

    :param directory: knows its names, and more.
    """
    if not connection.quiet:
        return None
    context, stream = connection.context, connection.stream
    data = context.freeze()
    if data is None or not connection.quiet:
        return None
    client, proxy, subscriber = stream.client, context.proxy, context.subscriber
    messages_in, messages_out = context.messages()
    head = {
        "id": connection.id,
        "home": home.read(str(connection.ref))[0],
        "module": context.module,
        "route": context.route,
        "client": None if client is None else [getattr(client, "host", None), getattr(client, "port", None)],
        "proxy": None if proxy is None else [proxy.peer, proxy.secure],
        "topics": [] if subscriber is None else [topic.name for topic in subscriber.topics],
        "tell_lost": connection.told_of_losses,
        "notes": context.notes,
        "seconds": connection.age,
        "traffic": [connection.bytes_in, stream.bytes_out, stream.published, messages_in, messages_out],
        "held": {} if directory is None else directory.freeze(connection.ref),
    }
    try:
        size = len(json.dumps(head)) + len(data)
    except (RecursionError, TypeError, ValueError):
        # A module has noted something that can't be sent.
        return None
    return Frozen(head, data) if size <= LARGEST else None


def packet(frozen: Frozen, name: Any) -> dict[str, Any]:
    """Return what goes over of a connection, besides its data.

    :param name: the peer's, as `accept` has returned it.
    """
    # A name of bytes is an abstract one, which JSON has no form for.
    return {**frozen.head, "name": "" if isinstance(name, bytes) else name}


def name_of(head: Mapping[str, Any]) -> Any:
    """Return the peer's name in a `packet`, as `accept` has returned it."""
    name = head["name"]
    return tuple(name) if isinstance(name, list) else name


class Handover:
    """Gives away the connections of one hub that can go over; the others stay.

    :param shared: what the connections share.
    :param give: gets a frozen connection, its socket and the peer's name; it raises OSError if it can take no more.
    """

    def __init__(self, shared: Shared, give: Callable[[Frozen, socket, Any], None]) -> None:
        self._shared = shared
        self._give = give
        self._left: list[Any] = []
        self._again: list[Any] = []
        self._tries = 0
        self._count = 0
        #: Fires with the number of connections that have gone over.
        self.done: Deferred[int] = Deferred()

    def start(self) -> None:
        """Begin, in the next turn."""
        self._left = self._shared.registry.all()
        self._later(0)

    def _later(self, seconds: float) -> None:
        self._shared.reactor.callLater(seconds, self._give_some)

    def _give_some(self) -> None:
        some = self._left[-A_TURN:]
        del self._left[-A_TURN:]
        until = self._shared.reactor.seconds() + LONGEST
        try:
            while some and self._shared.reactor.seconds() <= until:
                connection = some.pop(0)
                found: Any = self._shared.registry.find(connection.id)
                if found is connection and not self._give_one(connection):
                    self._again.append(connection)
        except OSError:
            # Nobody takes them any more.
            self.done.callback(self._count)
            return
        self._left += some
        if self._left:
            self._later(0)
            return
        self._tries += 1
        if not self._again or self._tries == TRIES:
            self.done.callback(self._count)
            return
        self._left, self._again = self._again, []
        self._later(PAUSE)

    def _give_one(self, connection: Connection) -> bool:
        """Give a connection away; return False if it can't go over now.

        :raises OSError: when it can't be taken. It is lost then.
        """
        frozen = freeze(connection, self._shared.registry.directory)
        detached = None if frozen is None else connection.stream.detach()
        if frozen is None or detached is None:
            return False
        given, name = detached
        with given:
            try:
                self._give(frozen, given, name)
            except BaseException:
                connection.connectionLost(Failure(ConnectionLost()))
                raise
        connection.depart()
        self._count += 1
        return True


class MovedConnection(Connection):
    """A connection that another process has given away.

    :param shared: what all connections of the hub share.
    :param topics: the hub's topics.
    :param frozen: as the other process has frozen it.
    """

    def __init__(self, shared: Shared, topics: Topics, frozen: Frozen) -> None:
        super().__init__(shared, topics, frozen.head["id"], True)
        self._frozen = frozen

    def connectionMade(self) -> None:
        head, stream, context = self._frozen.head, self.stream, self.context
        if head.get("home") is not None:
            context.ref = Ref(self._shared.registry.lodge(self.id, Home(*head["home"])), self.id)
        if head["client"] is not None and head["client"][0] is not None:
            stream.client = _client(*head["client"])
        if head["proxy"] is not None:
            context.proxy = Proxy(*head["proxy"])
        self.bytes_in, stream.bytes_out, stream.published, _, _ = head["traffic"]
        super().connectionMade()
        if context.notes is not None:
            context.notes.update(head["notes"] or {})
            self.made_at -= head["seconds"]

    def _count_address(self) -> None:
        # It was admitted by the other process.
        host = getattr(self.context.peer_address, "host", None)
        if host is not None and self._shared.admission.count_address(host):
            self.context.counted_address = host

    def _start(self) -> None:
        head, directory = self._frozen.head, self._shared.registry.directory
        if directory is not None and head.get("held"):
            # Before users' code, which may ask for it.
            directory.thaw(self.ref, head["held"])
        self.context.thaw(head["module"], head["route"], self._frozen.data, *head["traffic"][3:])
        # An older version does not say it.
        tell_lost = head.get("tell_lost", ())
        for topic in head["topics"]:
            self.ask(0, "subscribe", topic, topic in tell_lost)


def _client(host: str, port: Any) -> IAddress:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)
