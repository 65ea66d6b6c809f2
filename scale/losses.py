"""What wshost and other Python servers lose where they are pressed. Yields how many messages did not come.

Each server is as `scale.servers` has it, with its own defaults: channels_redis keeps at most 100 messages of a channel,
for 60 seconds; python-socketio listens again a second after it has lost Redis. wshost is configured to nothing either.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from scale.brokers import valkey
from scale.crowd import crowd
from scale.peers import PEERS, Peer, empty, processes
from torture.figures import Figure
from torture.peers import PATIENCE
from torture.server import Target

#: Seconds without a message after which no more are waited for; and seconds for all of a burst.
QUIET, LONGEST = 5.0, 120.0
#: Seconds between two messages while Redis fails; and for which they are published before, meanwhile and afterwards.
INTERVAL, BEFORE, AWAY, AFTER = 0.01, 1.0, 0.3, 5.0
#: Subscribers in the other process while Redis fails.
FEW = 10


def burst(each: int, messages: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: many messages are published at once, by a process that has nothing else to do.

    :param each: the subscribers of each of two other processes.
    """

    def row(target: Target) -> Iterator[Figure]:
        due = messages * 2 * each
        yield Figure("deliveries due", due)
        for peer in PEERS:
            lost, ended = _burst(peer, target, each, messages)
            yield Figure(f"lost, {peer.name}", lost, "", None if peer.app else 0)
            yield Figure(f"that is, {peer.name}", lost / due * 100, "%")
            yield Figure(f"clients that were disconnected, {peer.name}", ended, "", None if peer.app else 0)

    return row


def _burst(peer: Peer, target: Target, each: int, messages: int) -> tuple[int, int]:
    """Return how many deliveries did not come, and how many clients were disconnected."""
    with ExitStack() as stack:
        broker = stack.enter_context(valkey())
        (_, own), *others = stack.enter_context(processes(peer, target, broker, 3))
        crowds = [
            stack.enter_context(crowd(each, lambda port=port: peer.subscribe(port), may_end=True))  # type: ignore[misc]
            for _, port in others
        ]
        publisher = stack.enter_context(peer.publisher(own))
        # Until one has come to all, subscriptions may not be in place.
        for number in (1, messages):
            due = number * each * peer.frame
            peer.publish(publisher, number)
            deadline = time.monotonic() + LONGEST
            got = sum(subscribers.receive(due, QUIET, deadline) for subscribers in crowds)
            empty(publisher)
        return (2 * due - got) // peer.frame, sum(subscribers.ended for subscribers in crowds)


def restart(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: Redis is killed, and started again 0.3 seconds later, while one process publishes to the other.

    Clients that are disconnected come back at once. What one wants to publish meanwhile is due, too. Redis keeps
    nothing on the disk; by default, it keeps what it had up to an hour before.

    :param times: how often, each time with new servers.
    """

    def row(target: Target) -> Iterator[Figure]:
        for peer in PEERS:
            due = lost = ends = 0
            for _ in range(times):
                found = _restart(peer, target)
                due, lost, ends = due + found[0], lost + found[1], ends + found[2]
            yield Figure(f"deliveries due, {peer.name}", due)
            yield Figure(f"lost, {peer.name}", lost)
            yield Figure(f"disconnections of clients, {peer.name}", ends, "", None if peer.app else 0)

    return row


def _restart(peer: Peer, target: Target) -> tuple[int, int, int]:
    """Return how many deliveries were due and did not come, and how often clients were disconnected."""
    with ExitStack() as stack:
        broker = stack.enter_context(valkey())
        (_, first), (_, second) = stack.enter_context(processes(peer, target, broker, 2))
        subscribers = [_Client(lambda: peer.subscribe(second), stack) for _ in range(FEW)]
        source = _Client(lambda: peer.publisher(first), stack)
        published = 0
        for step, seconds in ((broker.kill, BEFORE), (broker.start, AWAY), (lambda: None, AFTER)):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                published += 1
                source.do(lambda client: peer.publish(client, 1))
                for one in (source, *subscribers):
                    one.read()
                time.sleep(INTERVAL)
            step()
        quiet = time.monotonic()
        sizes = 0
        while time.monotonic() - quiet < QUIET:
            for one in subscribers:
                one.read()
            if sizes != (sizes := sum(sum(one.sizes) for one in subscribers)):
                quiet = time.monotonic()
            time.sleep(INTERVAL)
        got = sum(size // peer.frame for one in subscribers for size in one.sizes)
        return published * FEW, published * FEW - got, sum(one.ends for one in (source, *subscribers))


class _Client:
    """A client that comes back when it is disconnected.

    :param make: connects it.
    :param stack: closes it.
    """

    def __init__(self, make: Callable[[], socket.socket], stack: ExitStack) -> None:
        self._make = make
        self._client: socket.socket | None = make()
        #: How many bytes have come by each connection; and how many of these were ended by the server.
        self.sizes = [0]
        self.ends = 0
        stack.callback(self._close)

    def do(self, what: Callable[[socket.socket], object]) -> None:
        """Do something with the connection, if there is one, or one can be made."""
        try:
            if self._client is None:
                self._client = self._make()
                self.sizes.append(0)
            what(self._client)
        except OSError:
            self.ends += self._client is not None
            self._close()

    def read(self) -> None:
        """Take what has come."""
        self.do(self._read)

    def _read(self, client: socket.socket) -> None:
        client.setblocking(False)
        with suppress(BlockingIOError):
            while some := client.recv(1 << 16):
                self.sizes[-1] += len(some)
            raise ConnectionResetError("the server has closed the connection")
        client.settimeout(PATIENCE)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
