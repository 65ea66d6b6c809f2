"""Reads which master of a Redis Cluster has which part of the subjects. Knows no connection.

The answer to CLUSTER SLOTS has a list for each range of slots: its ends, its master, and the master's replicas.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from wshost.backplanes.connection import BrokerError
from wshost.backplanes.resp import Value, command
from wshost.backplanes.shards import PARTS, SLOT_OF_PART

if TYPE_CHECKING:
    from wshost.backplanes.settings import Broker

#: So many ports there are, with 0, at which nobody listens: a server that speaks only TLS has it for all else.
PORTS = 1 << 16
#: Asks a server of a cluster.
QUESTION = command("CLUSTER", "SLOTS")


class Topology(NamedTuple):
    """What a server knows of its cluster."""

    #: The master of each part.
    owners: list[Broker]
    #: All servers.
    nodes: list[Broker]


def is_topology(value: Value) -> bool:
    """Whether a reply answers CLUSTER SLOTS; the other one that is a list, that to HELLO, begins with a text."""
    return isinstance(value, list) and (not value or isinstance(value[0], list))


def read(value: Value, asked: Broker) -> Topology:
    """Read an answer.

    :param asked: the server that has given it. It may mean its own host, and does not know our credentials.
    :raises BrokerError: when some part has no master, or it is no such answer.
    """
    owners: dict[int, Broker] = {}
    nodes: dict[Broker, None] = {}
    for entry in value if isinstance(value, list) else ():
        match entry:
            case [int(first), int(last), *servers]:
                found = [node for node in (_node(server, asked) for server in servers) if node is not None]
                nodes.update(dict.fromkeys(found))
                master = _node(servers[0], asked) if servers else None
                if master is not None:
                    for part in range(bisect_left(SLOT_OF_PART, first), bisect_left(SLOT_OF_PART, last + 1)):
                        owners[part] = master
            case _:
                raise BrokerError("it does not answer CLUSTER SLOTS as Redis does")
    for part in range(PARTS):
        if part not in owners:
            raise BrokerError(f"its cluster is not whole: it knows no master for the slot {SLOT_OF_PART[part]}")
    return Topology([owners[part] for part in range(PARTS)], list(nodes))


def _node(server: Value, asked: Broker) -> Broker | None:
    match server:
        case [None | b"", int(port), *_] if 0 < port < PORTS:
            return replace(asked, port=port)
        case [b"?", *_]:
            # It is not known to the server that we have asked.
            return None
        case [bytes(host), int(port), *_] if host and 0 < port < PORTS:
            return replace(asked, host=host.decode(errors="replace"), port=port)
    return None
