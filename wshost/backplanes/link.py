"""Keeps a connection to one of several brokers: tries again and again, says when. Knows no broker's protocol.

`Candidates` says which broker is next. `Output` has what waits to be sent. A `Speaker` speaks over the `Connection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from wshost.backplanes.candidates import Candidates
from wshost.backplanes.connection import Connection, Speaker, explain
from wshost.backplanes.output import Output
from wshost.backplanes.tls import ClientTLS
from wshost.logs.text import escaped

if TYPE_CHECKING:
    from random import Random

    from wshost.backplanes.settings import BackplaneSettings, Broker

#: In seconds: a broker must answer the connection after so long;
CONNECT = 2.0
#: and after all were tried in vain, they are tried again so much later, twice as late each time, up to the longest. A
#: part of this time is random, as many processes may have lost the same broker.
SHORTEST = 0.05
LONGEST = 2.0
#: After a connection was made again, payloads wait for up to so many seconds more. Receivers that have lost the same
#: broker try again as late as we would have done next, and a broker keeps nothing for those who are not back.
HOLD = 0.5
#: The most different reasons that are logged until a broker lets us in.
REASONS = 20

_log = Logger("wshost")


class _Once(Factory):
    """The factory of one connection."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> Connection:
        """Called by the endpoint."""
        return self._connection


def _faster(reactor: Any) -> Any:
    """Return a reactor with faster connections, which can't speak TLS; the same one where there is none."""
    if isinstance(reactor, AsyncioSelectorReactor):
        with suppress(ImportError):  # Windows has no Unix sockets
            from wshost.fastnet.client import ConnectingReactor  # noqa: PLC0415 - as above

            return ConnectingReactor(reactor)
    return reactor


def _endpoint(reactor: Any, broker: Broker) -> Any:
    return HostnameEndpoint(reactor, broker.host, broker.port, CONNECT)


class Link:
    """A connection that is made again and again.

    :param reactor: provides `IReactorTime`, and what `HostnameEndpoint` needs.
    :param settings: those of the backplane.
    :param speaker: speaks with the broker.
    :param brokers: to whom to connect; without them, to those of the settings.
    :param random: chooses the order of brokers and the length of delays.
    :param endpoint: makes the endpoint of a broker, of the reactor and the broker.
    :param tls: for several links with the same settings, which are made later; without it, the files are read now.
    :raises ConfigurationError: when a file for TLS is wrong.
    """

    def __init__(
        self,
        reactor: Any,
        settings: BackplaneSettings,
        speaker: Speaker,
        brokers: Sequence[Broker] = (),
        *,
        random: Random | None = None,
        endpoint: Callable[[Any, Broker], Any] = _endpoint,
        tls: ClientTLS | None = None,
    ) -> None:
        self._reactor = reactor
        self._speaker = speaker
        self._random = random or SystemRandom()
        self._endpoint = endpoint
        # Connects to brokers that speak no TLS: where it can be, faster.
        self._faster = _faster(reactor)
        self._tls = tls or ClientTLS(settings)
        #: What waits to be sent.
        self.output = Output(reactor, settings.buffer, settings.patience, speaker.dropped, self._progress)
        #: Send a payload to the broker, now or later: `Output.send`.
        self.send = self.output.send
        #: Whether the broker has let us in: payloads are written, or will soon be.
        self.is_ready = False
        self._candidates = Candidates(brokers or settings.brokers, self._random)
        #: Replace what is known of the cluster beside the given brokers: `Candidates.know`.
        self.know = self._candidates.know
        self._delay = SHORTEST
        # Since when it is ready; None before. And whether it ever was.
        self._since: float | None = None
        self._returns = False
        # Payloads wait until receivers have come back, too; None: they don't.
        self._hold: Any = None
        self._longest_hold = min(HOLD, settings.patience / 2)
        self._reasons: set[str] = set()
        self._connection: Connection | None = None
        # At most one of these: what is awaited.
        self._attempt: Deferred[Any] | None = None
        self._retry: Any = None
        self._closed: Deferred[None] | None = None

    @property
    def broker(self) -> Broker:
        """To whom we connect, or are connected."""
        return self._candidates.current

    def start(self) -> None:
        """Connect, in a later turn."""
        self._candidates.begin()
        self._retry = self._reactor.callLater(0, self._connect)

    def close(self) -> Deferred[None]:
        """Send what waits, if the broker takes it soon, and disconnect for good. Called once.

        :returns: fires when all is closed. The speaker is not called any more then.
        """
        self._closed = closed = Deferred[None]()
        connection = self._connection
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._stop_hold()
        if self.is_ready:
            self.output.finish()
        self.output.close()
        if connection is not None and self.is_ready:
            self.is_ready = False
            connection.finish("closed")
        elif connection is not None:
            if not connection.finishing:
                connection.end("closed")
        elif self._attempt is not None:
            self._attempt.cancel()
        else:
            return succeed(None)
        return closed

    def command(self, data: bytes) -> None:
        """Send the current broker bytes that would mean nothing to another. Payloads that were sent before go first.

        Until `ready`, no payloads are sent.
        """
        if not self.output.command(data):
            self.lose("it takes nothing")

    def ready(self) -> None:
        """Send payloads: the broker has let us in, and all subscriptions are in place."""
        if self._connection is not None and self._closed is None:
            self.is_ready = True
            self._since = self._reactor.seconds()
            self._reasons.clear()
            self._connection.ready()
            if self._returns:
                self._hold = self._reactor.callLater(min(self._delay, self._longest_hold), self._release)
            else:
                self.output.ready()
            self._returns = True

    def _release(self) -> None:
        self._hold = None
        self.output.ready()

    def _stop_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None

    def answered(self) -> None:
        """Note that the broker has answered a ping."""
        if self._connection is not None:
            self._connection.answered()

    def refuse(self, text: str) -> None:
        """Do nothing: the broker has refused to do something, which is logged. In `wshost.client`, somebody waits."""

    def start_tls(self) -> None:
        """Speak TLS from now on, as the broker demands it. `Link` does so by itself for a broker with `tls`.

        Where the connection can't, another one is made to the same broker, which can.
        """
        if self._connection is None:
            return
        if not self._connection.can_start_tls:
            self._candidates.demand_tls()
            self.go_to(self.broker)
        else:
            self._connection.start_tls(self._tls.options(self._candidates.name))

    def lose(self, reason: str) -> None:
        """End this connection at once, and go to another broker. :param reason: one line for the log."""
        if self._connection is not None:
            self._connection.end(reason)

    def leave(self, reason: str) -> None:
        """Go to another broker when this one has got all that was sent. Payloads wait until then."""
        if self._connection is not None and self.is_ready:
            self._stop_hold()
            self.is_ready = False
            self.output.finish()
            self._connection.finish(reason)

    def go_to(self, broker: Broker) -> None:
        """End this connection at once, and try this broker before all others, once."""
        self._candidates.direct(broker)
        self.lose(f"it names {broker.host}:{broker.port}")

    def _connect(self) -> None:
        self._retry = None
        broker = self._candidates.next()
        connection = Connection(self._reactor, self._speaker, self._made, self._ending, self._gone)
        reactor = self._reactor if self._candidates.is_secure else self._faster
        self._attempt = attempt = self._endpoint(reactor, broker).connect(_Once(connection))
        attempt.addTimeout(CONNECT, self._reactor, _too_late)
        attempt.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        """Note that a connection could not be made."""
        self._attempt = None
        self._complain(explain(failure))
        self._go_on()

    def _made(self, connection: Connection) -> None:
        self._attempt = None
        self._connection = connection
        self.output.attach(connection.transport)
        if self.broker.tls:
            self.start_tls()

    def _ending(self) -> None:
        """Let payloads wait: what is written now would be lost."""
        self._stop_hold()
        self.is_ready = False
        self.output.detach()

    def _gone(self, reason: str) -> None:
        self._connection = None
        since, self._since = self._since, None
        self._ending()
        if since is not None:
            self._candidates.end()
            # A broker that lets us in and throws us out again and again is no reason for haste.
            if self._reactor.seconds() - since >= LONGEST:
                self._delay = SHORTEST
        elif not self._candidates.is_directed:
            # One that has named another has done its work.
            self._complain(reason)
        self._speaker.lost(reason)
        self._go_on()

    def _go_on(self) -> None:
        """Try the next broker; all again after a delay."""
        if self._closed is not None:
            self._closed.callback(None)
        elif self._candidates.left:
            self._retry = self._reactor.callLater(0, self._connect)
        else:
            self._candidates.begin()
            delay = self._delay * self._random.uniform(0.5, 1.0)
            self._delay = min(LONGEST, self._delay * 2)
            self._retry = self._reactor.callLater(delay, self._connect)

    def _progress(self) -> None:
        if self._connection is not None:
            self._connection.progress()

    def _complain(self, reason: str) -> None:
        """Log why a broker can't be used; each reason once, until one can."""
        about = f"{self.broker.host}:{self.broker.port}: {escaped(reason)}"
        if self._closed is None and about not in self._reasons and len(self._reasons) < REASONS:
            self._reasons.add(about)
            _log.warn("the backplane can't use the broker {about}; trying again", about=about)


def _too_late(_: object, timeout: float) -> Failure:
    return Failure(TimeoutError(f"it did not answer within {timeout:g} seconds"))
