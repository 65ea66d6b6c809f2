"""Admits connections, counts them, holds their limits, and drains them in the end. Knows no protocol and no socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from threading import get_ident
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from wshost.connections.connection import Connection, Link, Proxied
from wshost.connections.failures import Failures
from wshost.connections.stream import Stream
from wshost.connections.timers import Schedule, Timer
from wshost.interfaces import IBackplane
from wshost.topics.subscriptions import Topics

#: How many connections at a time are told that they are not admitted; others are aborted.
OVERFLOW = 128
#: The part of the drain timeout in which connections may wait for answers; in the rest they say good-bye without.
PATIENCE = 0.9


class Host:
    """All connections that one chain serves, on however many listeners.

    Times are in seconds, sizes in bytes.

    :param reactor: provides `IReactorTime` and `IReactorFromThreads`.
    :param chain: where connections start is first.
    :param max_connections: more are refused.
    :param max_connections_per_address: more from one IP address are refused; 0 for no limit.
    :param max_output: when that much waits for a peer, it is not read from, and refs are refused.
    :param stall_timeout: how long a peer may take nothing of it; what it takes buys it time.
    :param close_timeout: how long a closing connection has to flush its output and see the peer's end.
    :param drain_timeout: how long `stop` waits before it aborts what is left.
    :param max_subscriptions: of one connection, to topics; more are refused.
    :param backplane: brings what is published to topics; None where nothing is.
    :param leave: called with a `SystemExit` or `KeyboardInterrupt` that users' code has raised.
    """

    def __init__(
        self,
        reactor: Any,
        chain: Sequence[Link],
        *,
        max_connections: int = 10_000,
        max_connections_per_address: int = 0,
        max_output: int = 1 << 20,
        stall_timeout: float = 10.0,
        close_timeout: float = 5.0,
        drain_timeout: float = 10.0,
        max_subscriptions: int = 1_000,
        backplane: IBackplane | None = None,
        leave: Callable[[BaseException], object] | None = None,
    ) -> None:
        self.reactor = reactor
        self.chain = tuple(chain)
        self.max_output = max_output
        self.stall_timeout = stall_timeout
        self.close_timeout = close_timeout
        #: The connections by id: where refs look.
        self.connections: dict[str, Connection] = {}
        #: The reactor's thread.
        self.thread = get_ident()
        self.failures = Failures(reactor, leave)
        #: The timers of the connections' modules.
        self.schedule = Schedule(reactor, partial(self.failures.log, "-", "a timer failed"))
        #: What connections have subscribed to.
        self.topics = Topics(self, backplane, max_subscriptions)
        self._max_connections = max_connections
        self._max_per_address = max_connections_per_address
        self._drain_timeout = drain_timeout
        self._per_address: Counter[str] = Counter()
        # Those that are there only to be told that they are not admitted.
        self._refused: set[str] = set()
        self._ids = count(1)
        # What is to be done at the turn's end: calls into users' code, and streams that write.
        self._calls: list[tuple[Connection, Callable[[], None]]] = []
        self._corked: list[Stream] = []
        # `_end_turn` will be called.
        self._turn_ends = False
        # Fires when all connections are gone; None until the host stops.
        self._stopped: Deferred[None] | None = None
        self._overdue: Timer

    def factory(self, proxied: bool = False) -> IProtocolFactory:
        """Return what an endpoint listens with.

        :param proxied: the peer's address is that of a proxy until the transport calls (`haproxy:`).
        """
        return HostFactory(self, proxied)

    def build(self, proxied: bool) -> IProtocol:
        """Return a connection for a new socket, or what closes it at once."""
        self.thread = get_ident()
        if self._stopped is not None:
            return Refusal()
        connection = Proxied if proxied else Connection
        admitted = len(self.connections) - len(self._refused) < self._max_connections
        return connection(self, f"c{next(self._ids)}", admitted)

    def made(self, connection: Connection) -> None:
        """A connection is there."""
        self.connections[connection.id] = connection

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        del self.connections[connection.id]
        self._refused.discard(connection.id)
        try:
            self.topics.forget(connection)
        finally:
            if self._stopped is not None and not self.connections:
                # The handlers that are given up now are told of it first.
                self.reactor.callLater(0, self._all_gone, self._stopped)

    def refuse(self, connection: Connection) -> bool:
        """A connection is not admitted, and takes nobody's place; return whether it may be told."""
        self._refused.add(connection.id)
        return len(self._refused) <= OVERFLOW

    def count_address(self, host: str) -> bool:
        """Count one more connection from this IP address; False when that is one too many, and not counted."""
        if self._max_per_address and self._per_address[host] >= self._max_per_address:
            return False
        self._per_address[host] += 1
        return True

    def discount_address(self, host: str) -> None:
        """Undo a `count_address` that was true."""
        self._per_address[host] -= 1
        if not self._per_address[host]:
            del self._per_address[host]

    def call_soon(self, connection: Connection, call: Callable[[], None]) -> None:
        """Make a call into users' code at the end of the reactor's turn, when no other of it is running.

        This is the one way into users' code that is open to users' code.

        :param connection: is told when it raises.
        """
        self._calls.append((connection, call))
        self.turn_ends()

    def uncork_later(self, stream: Stream) -> None:
        """Let it write at the end of the reactor's turn."""
        self._corked.append(stream)
        self.turn_ends()

    def turn_ends(self) -> None:
        """Something is to be done at the end of the reactor's turn: calls, then topics, then what streams write."""
        if not self._turn_ends:
            self._turn_ends = True
            self.reactor.callLater(0, self._end_turn)

    def _end_turn(self) -> None:
        calls, self._calls = self._calls[::-1], []
        try:
            while calls:
                connection, call = calls.pop()
                connection.run(call)
        finally:
            # What comes next, and the calls that these calls have asked for, are the next turn's.
            self._turn_ends = False
            self._calls[:0] = calls[::-1]
            if self._calls:
                self.turn_ends()
        try:
            self.topics.flush()
        except BaseException:  # the streams wait for this turn, too
            self.failures.log("-", "what was published could not be delivered to all")
        corked, self._corked = self._corked, []
        for stream in corked:
            try:
                stream.uncork()
            except BaseException:  # the others wait for this loop, too
                stream.fail("its output failed")

    def stop(self) -> Deferred[None]:
        """Say good-bye to all connections, and abort those that are left at the timeout; fires when all are gone."""
        if self._stopped is None:
            self._stopped = Deferred()
            connections = list(self.connections.values())
            if connections:
                hurry = partial(self._hurry, self.schedule.seconds() + self._drain_timeout)
                self._overdue = self.schedule.call_later(self._drain_timeout * PATIENCE, hurry)
                for connection in connections:
                    connection.shut_down()
            else:
                self.schedule.rest()
                self._stopped.callback(None)
        return self._stopped

    def _hurry(self, end: float) -> None:
        """Ask those that are left once more: what they wait for will not come in time."""
        self._overdue = self.schedule.call_later(end - self.schedule.seconds(), self.abort_all)
        for connection in list(self.connections.values()):
            connection.shut_down()

    def abort_all(self) -> None:
        """Wait for nothing that `stop` waits for: abort all connections."""
        for connection in list(self.connections.values()):
            connection.abort("the server stopped")

    def _all_gone(self, stopped: Deferred[None]) -> None:
        self._overdue.cancel()
        self.schedule.rest()
        stopped.callback(None)


class Refusal(Protocol):
    """Closes a socket at once.

    A factory may return None for that, but those of TLS and of the PROXY protocol wrap the None: they would fail at
    each socket, and leave it open.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


@implementer(IProtocolFactory, IProtocolNegotiationFactory, ILoggingContext)
class HostFactory:
    """What endpoints see of a host."""

    def __init__(self, host: Host, proxied: bool) -> None:
        self._host = host
        self._proxied = proxied

    def buildProtocol(self, addr: IAddress) -> IProtocol:
        return self._host.build(self._proxied)

    def acceptableProtocols(self) -> list[bytes]:
        """Name what TLS may negotiate (ALPN, RFC 7301): the protocol that the chain begins with."""
        return list(getattr(self._host.chain[0].module, "alpn_protocols", ()))

    def logPrefix(self) -> str:
        """Name it in Twisted's "… starting on 8080"."""
        return "wshost"

    def doStart(self) -> None:
        """Nothing: the host was there before."""

    def doStop(self) -> None:
        """Nothing: the host stays until its last connection has gone."""
