"""Makes connections, and has them drained when the server stops. Knows no protocol and no socket.

It also makes the values that all connections share. Connections know these values, but not the hub.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from socket import socket
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

from wshost.connections.account import Account
from wshost.connections.address import address
from wshost.connections.admission import Admission
from wshost.connections.budget import OutputBudget
from wshost.connections.connection import Connection, ProxiedConnection
from wshost.connections.drain import Drain
from wshost.connections.failures import Failures
from wshost.connections.handover import Frozen, Handover, MovedConnection
from wshost.connections.home import Home
from wshost.connections.homes import HOMES
from wshost.connections.rate import ConnectionRate
from wshost.connections.registry import Registered, Registry
from wshost.connections.shared import Limits, Link, Shared
from wshost.connections.thread import ReactorThread
from wshost.connections.timers import Schedule
from wshost.connections.turn import Turn
from wshost.interfaces import IExchange
from wshost.networks import Networks
from wshost.topics.subscriptions import Topics

#: How many connections go over to newer code in one turn: their handlers' `code_change` may take long.
RENEWED = 100


class Hub:
    """All connections that one chain serves, on any number of listeners.

    :param reactor: provides `IReactorTime` and `IReactorFromThreads`.
    :param chain: connections start with its first module.
    :param exchange: brings published messages; None: nothing is published.
    :param leave: called with a `SystemExit` or `KeyboardInterrupt` that users' code has raised.
    :param access: log each connection at its end.
    :param counts_ends: count connections at their end, and what went through them.
    :param waits: called with the number of connections that `stop` waits for: when it begins, then once a second. If
        it returns True, it has told whom that concerns, and the log says nothing.
    :param trusted: the proxies that may name their clients; None: there are none, but on proxied endpoints any may.
    :param home: names this run of the server in references; by default, one of its own.
    :param admission: decides who is admitted; by default, the hub's own limits do.
    :param prefix: the first part of connections' ids.
    :param soon: makes a call, with its arguments, in the reactor's next turn; by default, the reactor's own timers do.
    """

    def __init__(
        self,
        reactor: Any,
        chain: Sequence[Link],
        limits: Limits,
        *,
        exchange: IExchange | None = None,
        leave: Callable[[BaseException], object] | None = None,
        soon: Callable[..., object] | None = None,
        admission: Admission | None = None,
        prefix: str = "",
        access: bool = False,
        counts_ends: bool = False,
        waits: Callable[[int], object] | None = None,
        trusted: Networks | None = None,
        home: Home | None = None,
    ) -> None:
        failures = Failures(reactor, leave)
        schedule = Schedule(reactor, partial(failures.log, "-", "a timer failed"))
        turn = Turn(soon or partial(reactor.callLater, 0), failures)
        most = limits.max_output_total
        #: What all connections share.
        self.shared = Shared(
            reactor=reactor,
            chain=tuple(chain),
            limits=limits,
            failures=failures,
            schedule=schedule,
            turn=turn,
            registry=Registry(ReactorThread(reactor), home),
            admission=admission or _admission(limits, reactor),
            account=Account(access, counts_ends),
            trusted=trusted,
            budget=OutputBudget(most, schedule.seconds, turn.deliver_at_end) if most else None,
        )
        HOMES.add(self.shared.registry)
        #: The topics to which connections have subscribed.
        self.topics = Topics(self.shared, exchange)
        # The number of the last renewal.
        self._renewal = 0
        # None until `stop` is called.
        self._drain: Drain | None = None
        self._waits = waits or _ignore
        self._prefix = prefix

    def factory(self, proxied: bool = False) -> IProtocolFactory:
        """Return a factory for an endpoint.

        :param proxied: connections come through a proxy, whose header has the peer's address (`haproxy:`).
        """
        return HubFactory(self, proxied)

    def build(self, addr: IAddress, proxied: bool) -> IProtocol:
        """Return a connection for a new socket; a `Refusal` after `stop` was called, and for an unknown proxy."""
        registry = self.shared.registry
        registry.thread.enter()
        if self._drain is not None:
            return Refusal()
        trusted = self.shared.trusted
        if proxied and trusted is not None and not trusted.have(addr):
            self._note_unknown_proxy(addr)
            return Refusal()
        account = self.shared.account
        account.opened += 1
        id = f"{self._prefix}c{account.opened}"
        admitted = self.shared.admission.has_room(len(registry), id)
        connection = ProxiedConnection if proxied else Connection
        return connection(self.shared, self.topics, id, admitted)

    def _note_unknown_proxy(self, addr: IAddress) -> None:
        account, reason = self.shared.account, "The proxy is not trusted."
        account.opened += 1
        account.count_refusal(0, reason)
        if account.access:
            account.log(f"{self._prefix}c{account.opened}", address(addr), {"reason": reason})

    def stop(self) -> Deferred[None]:
        """Say good-bye to all connections; after the timeout, abort those that are left. Fires when all are gone."""
        if self._drain is None:
            self._drain = Drain(self.shared, self._waits)
            self._drain.start()
        return self._drain.done

    def renew(self) -> Deferred[int]:
        """Let all connections go over to newer code of their handlers, some in each turn.

        Called when no users' code is running. A later call takes an earlier one over, which ends then.

        :returns: fires with the number of connections that go over.
        """
        self._renewal += 1
        done: Deferred[int] = Deferred()
        self._renew_some(self.shared.registry.all(), 0, self._renewal, done)
        return done

    def _renew_some(self, left: list[Registered], count: int, renewal: int, done: Deferred[int]) -> None:
        count += sum([connection.renew() for connection in left[-RENEWED:]])
        del left[-RENEWED:]
        if left and renewal == self._renewal:
            self.shared.reactor.callLater(0, self._renew_some, left, count, renewal, done)
        else:
            done.callback(count)

    def hand_over(self, give: Callable[[Frozen, socket, Any], None]) -> Deferred[int]:
        """Give the connections away that can go over to another process; `stop` follows for the others.

        :param give: gets each frozen connection, its socket and the peer's name; it raises OSError to end this.
        :returns: fires with the number of connections that have gone over.
        """
        handover = Handover(self.shared, give)
        handover.start()
        return handover.done

    def adopt(self, frozen: Frozen) -> IProtocol:
        """Return a connection that another process has given away, for its socket."""
        self.shared.registry.thread.enter()
        return MovedConnection(self.shared, self.topics, frozen)

    def abort_all(self) -> None:
        """Abort all connections at once, also those that `stop` still waits for."""
        for connection in self.shared.registry.all():
            connection.abort("the server stopped")


def _admission(limits: Limits, reactor: Any) -> Admission:
    rate = ConnectionRate(limits.connection_rate, reactor.seconds) if limits.connection_rate else None
    return Admission(limits.max_connections, limits.max_connections_per_address, rate)


def _ignore(connections: int) -> None:
    """Do nothing."""


class Refusal(Protocol):
    """Closes a socket at once.

    A Twisted factory may return None for that. But the factories of TLS and of the PROXY protocol wrap the None, fail
    at each socket, and leave the socket open.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


@implementer(IProtocolFactory, IProtocolNegotiationFactory, ILoggingContext)
class HubFactory:
    """The factory that endpoints get from a hub."""

    def __init__(self, hub: Hub, proxied: bool) -> None:
        self._hub = hub
        self._proxied = proxied

    def buildProtocol(self, addr: IAddress) -> IProtocol:
        return self._hub.build(addr, self._proxied)

    def acceptableProtocols(self) -> list[bytes]:
        """Return what TLS may negotiate (ALPN, RFC 7301): the protocol of the chain's first module."""
        return list(getattr(self._hub.shared.chain[0].module, "alpn_protocols", ()))

    def logPrefix(self) -> str:
        """Return the name in Twisted's "… starting on 8080"."""
        return "wshost"

    def doStart(self) -> None:
        """Do nothing: the hub was there before."""

    def doStop(self) -> None:
        """Do nothing: the hub stays until its last connection has gone."""
