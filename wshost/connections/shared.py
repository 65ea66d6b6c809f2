"""What all connections of a hub share: limits, the chain, timers, the reactor's turn, the log, and the registry.

The hub makes these values once. A connection knows them, but not the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from wshost.connections.account import Account
from wshost.connections.admission import Admission
from wshost.connections.budget import OutputBudget
from wshost.connections.failures import Failures
from wshost.connections.registry import Registry
from wshost.connections.timers import Schedule
from wshost.connections.turn import Turn
from wshost.interfaces import IProtocolModule
from wshost.networks import Networks


class Link(NamedTuple):
    """One link of a chain."""

    #: The name by which `Switch` finds it.
    name: str
    module: IProtocolModule
    #: What the module's `prepare` returned.
    options: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of connections: times in seconds, sizes in bytes."""

    #: More connections are refused.
    max_connections: int
    #: More connections from one IP address are refused; 0 for no limit.
    max_connections_per_address: int
    #: More connections a second from one IP address, or one /64 network of IPv6, are refused; 0 for no limit.
    connection_rate: int = 0
    #: While this much output waits for one peer, reading from it pauses, and refs are refused.
    max_output: int
    #: When more output waits for all slow peers together, the slowest are dropped; 0 for no limit.
    max_output_total: int = 0
    #: Topics of one connection; more are refused.
    max_subscriptions: int = 1_000
    #: A peer must take some of its output in this time. Output that it takes extends the time.
    stall_timeout: float
    #: A closing connection must flush its output and see the peer's end in this time.
    close_timeout: float
    #: `Hub.stop` closes the connections one after the other over this time.
    drain_spread: float
    #: `Hub.stop` aborts the connections that are left after this time.
    drain_timeout: float


@dataclass(frozen=True, slots=True)
class Shared:
    """The values that the connections of one hub share."""

    #: Provides `IReactorTime` and `IReactorFromThreads`.
    reactor: Any
    #: A connection starts with the first module.
    chain: tuple[Link, ...]
    limits: Limits
    failures: Failures
    #: The timers of all connections.
    schedule: Schedule
    turn: Turn
    registry: Registry
    admission: Admission
    account: Account
    #: The proxies that may name their clients; None: there are none.
    trusted: Networks | None = None
    #: Limits the output of all slow peers together; None for no limit.
    budget: OutputBudget | None = None
