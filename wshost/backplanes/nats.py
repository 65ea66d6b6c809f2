"""Carries payloads between processes over NATS. Knows no topic; the connection is `link`'s, the bytes `nats_wire`'s."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger, globalLogPublisher
from zope.interface import implementer

from wshost.backplanes.asked import Asked
from wshost.backplanes.candidates import BROKERS
from wshost.backplanes.connection import BrokerError
from wshost.backplanes.link import Link
from wshost.backplanes.nats_credentials import proof
from wshost.backplanes.nats_wire import (
    MAX_PAYLOAD,
    MOST_PAYLOAD,
    PING,
    PONG,
    ROOM,
    Parser,
    WireError,
    connect,
    pub,
    pub_asking,
    sub,
    unsub,
)
from wshost.interfaces import ITellingBackplane
from wshost.logs.limit import LogLimit
from wshost.logs.text import escaped
from wshost.results import ConfigurationError

if TYPE_CHECKING:
    from wshost.backplanes.settings import BackplaneSettings, Broker
    from wshost.interfaces import IBackplaneReceiver

#: The most characters of a server's text that are logged.
_TEXT = 300
#: The server's texts that say that it will never let us in.
_REFUSAL = re.compile("(user |account )?auth(orization|entication) (violation|expired|revoked)", re.IGNORECASE)
#: How texts begin after which the connection goes on: they are not why it ends later.
_DENIED = "Permissions Violation"
#: A host and a port in `connect_urls`.
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_PORT = re.compile("[0-9]{1,5}")


@implementer(ITellingBackplane)
class NatsBackplane:
    """See `wshost.interfaces.IBackplane`.

    :param settings: a user without a password in a broker's URL is a token. The query ``tls=first`` says that the
        connection begins with TLS; else TLS follows on the server's INFO, where the scheme is ``tls``, a broker has
        `tls`, or INFO demands it.
    :param make_link: makes the link, as `Link` does.
    """

    def __init__(self, settings: BackplaneSettings, make_link: Callable[..., Link] = Link) -> None:
        self._settings = settings
        self._make_link = make_link
        self.largest = MAX_PAYLOAD
        self._receiver: Any = None
        self._link: Any = None
        self._send: Callable[[bytes], bool] = _refuse
        self._parser = Parser(self._ignore, self._told)
        # The numbers of the subscriptions, in their order.
        self._sids: dict[str, int] = {}
        self._numbers = count(1)
        # Where the server says that nobody gets a payload: the beginning of these subjects; None until it is asked. And
        # whether it says so.
        self._inbox: str | None = None
        self._says_nobody = False
        self._asked = Asked()
        # What to call for each PONG that is due.
        self._pongs: deque[Callable[[], None]] = deque()
        # CONNECT was sent; the receiver knows that payloads go both ways.
        self._greeted = self._connected = False
        # The last error of the server on this connection, which may be why it ends.
        self._error = ""
        # Fires when we are connected for the first time; None after that.
        self._first: Deferred[None] | None = None
        # Fires when all is closed; None before `close`.
        self._closing: Deferred[None] | None = None
        self._log = Logger("wshost")

    @property
    def waiting(self) -> int:
        """See `IBackplane`."""
        return 0 if self._link is None else self._link.output.waiting

    def connect(self, reactor: Any, receiver: IBackplaneReceiver) -> Deferred[None]:
        """See `IBackplane`."""
        self._receiver = receiver
        self._log = Logger("wshost", observer=LogLimit(globalLogPublisher, seconds=reactor.seconds))
        self._first = first = Deferred[None](self._cancel)
        try:
            for broker in self._settings.brokers:
                proof(broker, self._settings.credentials, "")
            brokers = [self._plain(broker) for broker in self._settings.brokers]
            self._link = self._make_link(reactor, self._settings, self, brokers)
        except ConfigurationError:
            self._first = None
            first.errback()
            return first
        self._send = self._link.send
        self._link.start()
        return first

    def _plain(self, broker: Broker) -> Broker:
        """Return the broker as the link sees it: TLS begins after INFO."""
        must = broker.tls or self._settings.scheme == "tls"
        return replace(broker, tls=("tls", "first") in broker.query, upgrades=must)

    def close(self) -> Deferred[None]:
        """See `IBackplane`."""
        if self._first is not None:
            self._first.cancel()
        closed = Deferred[None]()
        self._end().chainDeferred(closed)
        return closed

    def _cancel(self, _: Deferred[None]) -> None:
        self._end()

    def _end(self) -> Deferred[None]:
        """Close the link, once."""
        if self._closing is None:
            self._first = None
            self._closing = succeed(None) if self._link is None else self._link.close()
        return self._closing

    def publish(self, subject: str, payload: bytes) -> bool:
        """See `IBackplane`. A payload that is too large is dropped: the server would disconnect us."""
        return len(payload) <= self.largest and self._send(pub(subject, payload))

    def flush(self) -> None:
        """Send what was published in this turn: nothing more comes in it."""
        if self._link is not None:
            self._link.output.flush()

    def publish_or_tell(self, subject: str, payload: bytes, nobody: Callable[[], object]) -> bool:
        """See `ITellingBackplane`. The server answers for its cluster; of others beyond gateways, it may not know."""
        if not self._says_nobody or len(payload) > self.largest:
            return self.publish(subject, payload)
        if self._inbox is None:
            # Who may use only the cluster's subjects may use these, too.
            self._inbox = f"{subject.partition('.')[0]}.nobody.{token_hex(8)}."
            self.subscribe(f"{self._inbox}*")
        number = self._asked.number()
        taken = self._send(pub_asking(subject, self._inbox + number, payload))
        if taken:
            self._asked.keep(number, nobody)
        return taken

    def _receive(self, subject: str, payload: bytes) -> None:
        """Pass a payload on, or note that one has reached nobody."""
        if payload or self._inbox is None or not subject.startswith(self._inbox):
            self._receiver.received(subject, payload)
        elif nobody := self._asked.take(subject.removeprefix(self._inbox)):
            nobody()

    def subscribe(self, subject: str) -> None:
        """See `IBackplane`."""
        number = self._sids[subject] = next(self._numbers)
        if self._greeted:
            self._link.command(sub(subject, number))

    def unsubscribe(self, subject: str) -> None:
        """See `IBackplane`."""
        number = self._sids.pop(subject)
        if self._greeted:
            self._link.command(unsub(number))

    def begin(self) -> None:
        """See `Speaker`. The server speaks first."""
        self._parser = self._new_parser()
        self._pongs.clear()
        self._error = ""

    def read(self, data: bytes) -> None:
        """See `Speaker`."""
        try:
            self._parser.feed(data)
        except WireError as error:
            raise BrokerError(str(error)) from error

    def ping(self) -> None:
        """See `Speaker`."""
        self._ask(self._link.answered)

    def lost(self, reason: str) -> None:
        """See `Speaker`."""
        self._greeted = False
        if self._connected:
            self._connected = False
            if self._closing is None:
                broker, said = self._link.broker, f" ({self._error})" if self._error else ""
                self._receiver.disconnected(f"{broker.host}:{broker.port}: {escaped(reason)}{said}")

    def dropped(self, payloads: int) -> None:
        """See `Speaker`."""
        self._receiver.dropped(payloads)

    def _ask(self, answered: Callable[[], None]) -> None:
        """Send a PING; call this when the server has answered it."""
        self._pongs.append(answered)
        self._link.command(PING)

    def _told(self, what: str, value: Any) -> None:
        """Handle what the server says, but messages."""
        if what == "PING":
            self._link.command(PONG)
        elif what == "PONG":
            if not self._pongs:
                raise WireError("a PONG came without a PING")
            self._pongs.popleft()()
        elif what == "INFO":
            self._inform(value)
        elif what == "-ERR":
            self._hear_error(escaped(value[:_TEXT]))

    def _inform(self, info: dict[str, Any]) -> None:
        """Handle INFO: the first of a connection is greeted, later ones say what has changed."""
        largest = info.get("max_payload")
        if isinstance(largest, int) and largest > 0:
            self.largest = min(largest, MOST_PAYLOAD)
            self._parser.limit = self.largest + ROOM
        named = self._cluster(info.get("connect_urls"))
        if named:
            self._link.know(named)
        if not self._greeted:
            self._greet(info)
        elif info.get("ldm") is True:
            self._link.leave("it goes out of service")

    def _new_parser(self) -> Parser:
        parser = Parser(self._receive, self._told)
        parser.limit = self.largest + ROOM
        return parser

    def _greet(self, info: dict[str, Any]) -> None:
        broker: Broker = self._link.broker
        demanded = info.get("tls_required") is True
        wanted = broker.upgrades
        if wanted and not demanded and info.get("tls_available") is not True and not broker.tls:
            raise BrokerError("it does not speak TLS")
        if (wanted or demanded) and not broker.tls:
            # What has come behind INFO in the clear may be anybody's.
            self._parser.stop()
            self._parser = self._new_parser()
            self._link.start_tls()
        try:
            who = proof(broker, self._settings.credentials, str(info.get("nonce", "")))
        except ConfigurationError as error:
            raise BrokerError(str(error)) from error
        self._says_nobody = headers = info.get("headers") is True
        options = {
            "verbose": False,
            "pedantic": False,
            "echo": False,
            "tls_required": wanted or demanded,
            "name": self._settings.name,
            "lang": "python",
            "version": "1",
            # The server may send INFO again.
            "protocol": 1,
            "headers": headers,
            "no_responders": headers,
            **who,
        }
        self._greeted = True
        self._link.command(connect(options))
        for subject, number in self._sids.items():
            self._link.command(sub(subject, number))
        # The server answers this when it has let us in, and has all subscriptions.
        self._ask(self._let_in)

    def _let_in(self) -> None:
        self._link.ready()
        if self._closing is not None:
            return
        self._connected = True
        first, self._first = self._first, None
        self._receiver.connected()
        if first is not None:
            first.callback(None)

    def _cluster(self, urls: Any) -> list[Broker]:
        """Return the other servers that INFO names, with the credentials of this one."""
        current: Broker = self._link.broker
        found = []
        for url in (urls if isinstance(urls, list) else [])[:BROKERS]:
            host, _, port = str(url).rpartition(":")
            host = host.strip("[]")
            if _HOST.fullmatch(host) and _PORT.fullmatch(port) and 0 < int(port) < 65_536:
                # They must speak TLS where this one must.
                found.append(replace(current, host=host, port=int(port)))
        return found

    def _hear_error(self, text: str) -> None:
        """Handle an error of the server. It ends the connection itself if it can't go on."""
        if not text.startswith(_DENIED):
            self._error = text
        if _REFUSAL.match(text) and self._first is not None:
            first, self._first = self._first, None
            self._end()
            broker = self._link.broker
            first.errback(ConfigurationError(f"the NATS server {broker.host}:{broker.port} does not let us in: {text}"))
        else:
            self._link.refuse(text)
            self._log.warn("the NATS server says: {text}", text=text)

    def _ignore(self, subject: str, payload: bytes) -> None:
        """Nothing: no connection was made yet."""


def _refuse(_: bytes) -> bool:
    """Refuse a payload, as `connect` was not called, or has failed."""
    return False
