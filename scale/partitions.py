"""Machines are cut off, and joined again. Yields how long it takes until all know what is so, and what comes twice."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from scale.brokers import Broker, nats_cluster
from scale.crowd import until
from scale.machines import Cut, Machine, machines
from scale.nodes import by_socket, metric, node, operators
from scale.numbers import Numbers
from torture.figures import Figure
from torture.peers import ask
from torture.server import Target

#: Seconds for which a machine is cut off: longer than a broker is waited for, and than a silent process is thought to
#: live; and for which all is well in between.
AWAY, WELL = 8.0, 1.0
#: Seconds after which all must know what is so.
GOAL = 5.0
#: For NATS servers: seconds between two pings, of which two may be unanswered.
_ATTENTIVE = 'ping_interval: "1.5s", ping_max: 2'
#: The name that connections on both sides of a cut register.
_CONTESTED = "contested"


class _Node:
    """A server on a machine, with one connection that has a name and is present, and another one that watches.

    :param name: its name, and that of its connection.
    :param directory: for its sockets.
    :param stack: ends it.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        machine: Machine,
        *brokers: Broker,
        directory: str,
        stack: ExitStack,
    ) -> None:
        self.name = name
        self.machine = machine
        self.admin = f"{directory}/{name}"
        self._path = f"{directory}/{name}.clients"
        self._stack = stack
        self.server = stack.enter_context(node(target, *brokers, admin=self.admin, listens=self._path, machine=machine))
        self.member, self._watcher = self.client(), self.client()
        self.ref = ask(self.member, "!name")
        ask(self.member, f"!join room {name}")
        ask(self._watcher, "!watch room")
        #: How often somebody has come or gone, so that the watcher is to be told.
        self.changes = 0

    def client(self) -> socket.socket:
        """Return a new client."""
        return self._stack.enter_context(by_socket(self._path))

    def known(self, *names: str) -> dict[str, Any]:
        """Return what is known here: see the handler."""
        found: dict[str, Any] = json.loads(ask(self._watcher, " ".join(("!known", "room", *names))))
        return found

    def ends(self) -> list[int]:
        """Return of how many ends the member was told: of connections that it monitors, and of its names."""
        found: list[int] = json.loads(ask(self.member, "!ends"))
        return found


class _Cluster:
    """Nodes that are parted, and meet again.

    :param stack: ends what is started.
    """

    def __init__(self, nodes: Sequence[_Node], stack: ExitStack) -> None:
        self._nodes = nodes
        self._contested: Mapping[str, str] = {}
        until(lambda: self._is_right([nodes]), "all know each other")
        self._told = [node.known()["told"] for node in nodes]
        # What the first and the last node publish comes to all others.
        self._numbers = [
            Numbers(f"of-{one.name}", one.client(), [other.client() for other in nodes if other is not one], stack)
            for one in (nodes[0], nodes[-1])
        ]
        self._parted: list[float] = []
        self._joined: list[float] = []
        self._flowing: list[float] = []
        # Looks at which something was wrong again.
        self._wrong = 0

    def _is_right(self, sides: Sequence[Sequence[_Node]]) -> bool:
        """Whether each node knows those of its side, and no others."""
        for side in sides:
            names = {node.name: node.ref for node in side}
            refs = sorted(names.values())
            for one in side:
                found = one.known(*(node.name for node in self._nodes), _CONTESTED)
                expected = [names.get(node.name, "") for node in self._nodes]
                if found["names"] != [*expected, self._contested.get(one.name, "")]:
                    return False
                if found["present"] != refs or found["watched"] != refs:
                    return False
        return True

    def part(self, machine: Machine, sides: Sequence[Sequence[_Node]], how: Cut) -> None:
        """Cut a machine off, and join it again.

        :param sides: the nodes that can still meet each other.
        """
        earlier, later = sides[-1][0], sides[0][0]
        ask(earlier.member, f"!monitor {later.ref}")
        ask(later.member, f"!monitor {earlier.ref}")
        start = time.monotonic()
        machine.cut(how)
        self._parted.append(until(lambda: self._is_right(sides), "those who are parted know it"))
        for one in (earlier, later):
            ask(one.member, f"!register {_CONTESTED}")
        self._contested = {
            node.name: one.ref for one in (earlier, later) for side in sides if one in side for node in side
        }
        time.sleep(max(0.0, start + AWAY - time.monotonic()))
        self._wrong += not self._is_right(sides)
        self._contested = dict.fromkeys((node.name for node in self._nodes), earlier.ref)
        machine.join(how)
        start = time.monotonic()
        self._joined.append(until(lambda: self._is_right([self._nodes]), "those who have met again know each other"))
        for numbers in self._numbers:
            numbers.wait()
        self._flowing.append(time.monotonic() - start)
        time.sleep(WELL)
        self._wrong += not self._is_right([self._nodes])
        for side in sides:
            for one in side:
                # Each of the others has gone, and come.
                one.changes += 2 * (len(self._nodes) - len(side))
        ask(earlier.member, f"!unregister {_CONTESTED}")
        self._contested = {}
        until(lambda: self._is_right([self._nodes]), "the name is free again")

    def figures(self) -> Iterator[Figure]:
        """Stop publishing, and yield what has become of all."""
        nodes, faults = self._nodes, len(self._parted)
        yield Figure("cuts", faults)
        yield Figure("servers that have ended", sum(not node.server.alive for node in nodes), "", 0)
        yield Figure("until names and presences were right after a cut: longest", max(self._parted), "s", GOAL)
        yield Figure("and after it was mended: longest", max(self._joined), "s", GOAL)
        yield Figure("looks later at which they were wrong", self._wrong, "", 0)
        told = [node.known()["told"] - before for node, before in zip(nodes, self._told, strict=True)]
        yield Figure("comings and goings reported", sum(told))
        wrong = sum(abs(told - node.changes) for told, node in zip(told, nodes, strict=True))
        yield Figure("too many or too few of them", wrong, "", 0)
        yield Figure("of what was so already", sum(node.known()["twice"] for node in nodes), "", 0)
        downs, losses = map(sum, zip(*(node.ends() for node in nodes), strict=True))
        yield Figure("ends of connections reported to monitors: too many or too few", abs(downs - 2 * faults), "", 0)
        yield Figure("losses of a name reported: too many or too few", abs(losses - faults), "", 0)
        yield Figure("until messages came again: longest", max(self._flowing), "s", GOAL)
        yield from self._messages()

    def _messages(self) -> Iterator[Figure]:
        published, missing = 0, [0] * len(self._nodes)
        for one, numbers in zip((self._nodes[0], self._nodes[-1]), self._numbers, strict=True):
            count, each = numbers.stop()
            published += count
            others = [place for place, node in enumerate(self._nodes) if node is not one]
            for place, number in zip(others, each, strict=True):
                missing[place] += number
        # They also count what servers tell each other.
        lost = [metric(node.admin, "wshost_backplane_messages_lost_total") for node in self._nodes]
        uncounted = sum(max(0.0, some - counted) for some, counted in zip(missing, lost, strict=True))
        yield Figure("messages", published)
        yield Figure("deliveries that did not come", sum(missing))
        yield Figure("of these not counted as lost", uncounted, "", 0)
        yield Figure("out of order or twice", sum(numbers.disordered for numbers in self._numbers), "", 0)


def one_broker(times: int, ways: Iterable[Cut] = Cut) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: three nodes, each on a machine, and a NATS server on a fourth.

    A node is cut off in each of these ways, and in the end the broker; so many times.
    """

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            *places, place = stack.enter_context(machines(4))
            brokers = stack.enter_context(nats_cluster(1, [place]))
            directory = stack.enter_context(operators())
            nodes = [
                _Node(name, target, at, *brokers, directory=directory, stack=stack)
                for name, at in zip("abc", places, strict=True)
            ]
            cluster = _Cluster(nodes, stack)
            for _ in range(times):
                for how in ways:
                    cluster.part(nodes[-1].machine, [nodes[:-1], nodes[-1:]], how)
                cluster.part(place, [[node] for node in nodes], Cut.SILENT)
            yield from cluster.figures()

    return row


def own_brokers(times: int) -> Callable[[Target], Iterator[Figure]]:
    """Return the row: three machines, each with a node and the NATS server that it uses; these form a cluster.

    These servers ping each other as often as wshost pings them. By default, they do so each 30 seconds, and meet again
    when the kernel sends again what was not acknowledged: after up to the time that the cut has taken.
    """

    def row(target: Target) -> Iterator[Figure]:
        with ExitStack() as stack:
            places = stack.enter_context(machines(3))
            brokers = stack.enter_context(nats_cluster(3, places, _ATTENTIVE))
            directory = stack.enter_context(operators())
            nodes = [
                _Node(name, target, at, broker, directory=directory, stack=stack)
                for name, at, broker in zip("abc", places, brokers, strict=True)
            ]
            cluster = _Cluster(nodes, stack)
            for _ in range(times):
                for how in Cut:
                    cluster.part(nodes[-1].machine, [nodes[:-1], nodes[-1:]], how)
            yield from cluster.figures()

    return row
