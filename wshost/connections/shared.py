"""What all connections of a hub share: limits, the chain, time, the reactor's turn, the log, and where refs look.

These are values that the hub makes once. A connection knows them, and not the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from wshost.connections.admission import Admission
from wshost.connections.failures import Failures
from wshost.connections.registry import Registry
from wshost.connections.timers import Schedule
from wshost.connections.turn import Turn
from wshost.interfaces import IProtocolModule


class Link(NamedTuple):
    """One link of a chain."""

    #: `Switch` finds it by this.
    name: str
    module: IProtocolModule
    #: What the module's `prepare` returned.
    options: Any


@dataclass(frozen=True, slots=True)
class Shared:
    """The values. There is one for each hub."""

    #: Provides `IReactorTime` and `IReactorFromThreads`.
    reactor: Any
    #: A connection starts with the first.
    chain: tuple[Link, ...]
    #: Bytes of output that wait for one peer before reading from it pauses and refs are refused.
    max_output: int
    #: Seconds in which a peer must take some of its output.
    stall_timeout: float
    #: Seconds in which a closing connection must flush its output and see the peer's end.
    close_timeout: float
    failures: Failures
    #: The timers of all connections.
    schedule: Schedule
    turn: Turn
    registry: Registry
    admission: Admission
