"""What it costs to publish to the subscribers of several processes, beside one process. Yields the figures."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from scale.brokers import Broker, nats
from scale.crowd import Crowd, crowd, frame_size, tell
from scale.nodes import OPTIONS, needs_workers, node
from torture.figures import Figure
from torture.peers import ask, connected, read_frame
from torture.server import Server, Target

#: Messages in a turn, and the bytes of each.
IN_A_TURN, SIZE = 16, 64
#: Turns that are not counted.
_FIRST = 3


class Place:
    """Where subscribers are, in one process or in several.

    :param servers: their processes.
    :param crowds: the subscribers of each.
    :param publisher: the client at whose word messages are published.
    """

    def __init__(self, servers: Sequence[Server], crowds: Sequence[Crowd], publisher: socket.socket) -> None:
        self._servers = servers
        self._crowds = crowds
        self._publisher = publisher
        self._size = frame_size(SIZE) * IN_A_TURN
        #: The CPU time of each turn for a delivery, in microseconds; and deliveries that did not come.
        self.costs: list[float] = []
        self.lost = 0

    def turn(self, count: bool = True) -> None:
        """Publish the messages of one turn, and wait until all have them."""
        before = sum(server.cpu for server in self._servers)
        tell(self._publisher, f"!publish all {IN_A_TURN} {SIZE}")
        due = got = 0
        for each in self._crowds:
            due += self._size * len(each.sockets)
            got += each.receive(self._size * len(each.sockets), 5.0)
        read_frame(self._publisher)
        used = sum(server.cpu for server in self._servers) - before
        if count:
            self.costs.append(used / (due // frame_size(SIZE)) * 1e6)
            self.lost += (due - got) // frame_size(SIZE)


def _subscribe(port: int) -> socket.socket:
    made = connected(port)
    ask(made, "!subscribe all")
    return made


@contextmanager
def _place(servers: Sequence[Server], subscribers: Sequence[int]) -> Iterator[Place]:
    with ExitStack() as stack:
        crowds = [
            stack.enter_context(crowd(count, lambda port=server.port: _subscribe(port)))  # type: ignore[misc]
            for server, count in zip(servers, subscribers, strict=True)
        ]
        place = Place(servers, crowds, stack.enter_context(connected(servers[0].port)))
        for _ in range(_FIRST):
            place.turn(count=False)
        yield place


def _compare(one: Place, both: Place, turns: int, goal: float | None) -> Iterator[Figure]:
    for _ in range(turns):
        one.turn()
        both.turn()
    for where, place in (("one process", one), ("two processes", both)):
        yield Figure(f"CPU of a delivery, {where}: least", min(place.costs), "µs")
        yield Figure(f"CPU of a delivery, {where}: median", statistics.median(place.costs), "µs")
    ratio = statistics.median(both.costs) / statistics.median(one.costs)
    yield Figure("two processes by one, medians", ratio, "", goal)
    yield Figure("deliveries lost", one.lost + both.lost, "", 0)


def nodes(each: int, turns: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: subscribers on two nodes, which NATS connects.

    :param each: the subscribers of each.
    """

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            alone = stack.enter_context(node(target))
            broker = stack.enter_context(nats())
            two = [stack.enter_context(node(target, broker)) for _ in range(2)]
            one = stack.enter_context(_place([alone], [2 * each]))
            both = stack.enter_context(_place(two, [each, each]))
            yield from _compare(one, both, turns, 1.2)

    return row


def workers(each: int, turns: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: subscribers on two workers."""

    def row(target: Target) -> Iterator[Figure]:
        needs_workers()
        with ExitStack() as stack:
            alone = stack.enter_context(node(target))
            server = stack.enter_context(target.start("--workers=2", *OPTIONS, handler="scale.handler"))
            one = stack.enter_context(_place([alone], [2 * each]))
            both = stack.enter_context(_place([server], [2 * each]))
            yield from _compare(one, both, turns, 1.2)

    return row


def _published(client: socket.socket, subscribers: Crowd, turns: int) -> None:
    tell(client, f"!turns all {turns} {IN_A_TURN} {SIZE}")
    due = turns * IN_A_TURN * frame_size(SIZE)
    got = subscribers.receive(due, 5.0)
    if got != due:
        raise RuntimeError(f"{(due - got) / frame_size(SIZE):g} messages were lost")
    read_frame(client)


def publish(turns: int, times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: messages for one subscriber at another node, beside one in the same process.

    :param turns: with messages, each time.
    """

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            broker: Broker = stack.enter_context(nats())
            alone, a, b = (stack.enter_context(node(target, *brokers)) for brokers in ((), (broker,), (broker,)))
            here = stack.enter_context(crowd(1, lambda: _subscribe(alone.port)))
            there = stack.enter_context(crowd(1, lambda: _subscribe(b.port)))
            clients = [stack.enter_context(connected(port)) for port in (alone.port, a.port)]
            costs: dict[str, list[float]] = {name: [] for name in ("alone", "publisher", "receiver", "broker")}
            watched: dict[str, Server | Broker] = {"alone": alone, "publisher": a, "receiver": b, "broker": broker}
            for _ in range(times + 1):
                before = {name: one.cpu for name, one in watched.items()}
                _published(clients[0], here, turns)
                _published(clients[1], there, turns)
                for name, one in watched.items():
                    costs[name].append((one.cpu - before[name]) / (turns * IN_A_TURN) * 1e6)
            # The first time is not counted: caches are filled.
            costs = {name: found[1:] for name, found in costs.items()}
            for name, found in costs.items():
                yield Figure(f"CPU a message, {name}: least", min(found), "µs")
                yield Figure(f"CPU a message, {name}: median", statistics.median(found), "µs")
            more = [
                (out + into - both) / 2
                for out, into, both in zip(costs["publisher"], costs["receiver"], costs["alone"], strict=True)
            ]
            yield Figure("more than alone, for each process: median", statistics.median(more), "µs", 2)

    return row
