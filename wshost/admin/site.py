"""HTTP for operators, by Twisted: limits, and what pages of browsers may not do. Knows no path, and no server."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request, datetimeToString

from wshost.admin.pages import Answer, Pages, text
from wshost.protocols.http.head import phrase, split_authority
from wshost.protocols.websocket.browsers import Hosts, is_loopback

#: How many clients may be connected. Further ones are closed at once.
MOST_CLIENTS = 32
#: Seconds that a client may be silent, in a request or between two.
TIMEOUT = 15.0
#: With each answer: it is true only now, and it is no page.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_log = Logger("wshost")


def refused(method: str, host: str | None, origin: str | None, here: IAddress, hosts: Hosts) -> Answer | None:
    """Return the answer to a request that a page of a browser may have caused; None: it is a good one.

    The owner of a name may point it at this endpoint (DNS rebinding), so that pages of that name can read the answers.
    Browsers can't connect to Unix sockets.

    :param method: of the request.
    :param host: its field Host, None without one.
    :param origin: its field Origin, None without one.
    :param here: our side of the connection.
    """
    if origin is not None and method not in {"GET", "HEAD"}:
        return text(403, "Pages of browsers may change nothing here.")
    address = getattr(here, "host", None)
    if address is None:
        return None
    try:
        name = split_authority(host or "")[0]
    except ValueError:
        return text(400, "The Host field is missing or malformed.")
    if is_loopback(name) or name.strip("[]") == address or hosts.have(name):
        return None
    return text(421, "Ask for a loopback name, for the address of this endpoint, or for a name given with --host.")


class AdminRequest(Request):
    """One request."""

    _has_body = False

    def gotLength(self, length: int | None) -> None:
        # For a long body, or one of unknown length, Twisted would make a file.
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Abort: no request needs a body, so nobody would read it."""
        self._has_body = True
        transport: Any = self.channel.transport
        transport.abortConnection()

    def process(self) -> None:
        if not self._has_body:
            site: Site = self.channel.factory.site
            site.answer_later(self)

    def find_answer(self) -> None:
        """Find the answer, and send it when it is there."""
        if self.channel is None:
            # The client has gone meanwhile.
            return
        answering: Deferred[Any] = maybeDeferred(self._answer)
        answering.addErrback(self._failed).addCallback(self._send)

    def _failed(self, failure: Failure) -> Answer:
        # The transport of a plugin's endpoint may raise anything.
        _log.failure("the admin endpoint failed to answer", failure)
        return text(500, "It failed; the log says why.")

    def _send(self, answer: Answer) -> None:
        if self.channel is None:
            # The client has gone meanwhile.
            return
        # Twisted does not know all of them.
        self.setResponseCode(answer.status, phrase(answer.status).encode())
        for name, value in {**HEADERS, **answer.headers}.items():
            self.setHeader(name, value)
        self.setHeader("Content-Length", str(len(answer.body)))
        self.setHeader("Date", datetimeToString())
        self.write(answer.body)
        self.finish()

    def _answer(self) -> Answer | Deferred[Answer]:
        method = self.method.decode("latin-1")
        site: Site = self.channel.factory.site
        transport: Any = self.channel.transport
        here = transport.getHost()
        answer = refused(method, self.getHeader("host"), self.getHeader("origin"), here, site.hosts)
        if answer is not None:
            return answer
        query = {_text(name): _text(values[-1]) for name, values in (self.args or {}).items()}
        return site.pages.answer(method, _text(self.path), query, self.getHeader("accept") or "")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class _Refused(Protocol):
    """Closes a socket at once. Twisted's TLS leaves a socket open if there is no protocol for it."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


class _DebugLogger(Logger):
    """Logs at the level debug what Twisted says of each client that was silent: a monitor is, between two looks."""

    def info(self, format: str | None = None, **kwargs: object) -> None:
        self.debug(format, **kwargs)


class _Channel(HTTPChannel):
    """One client."""

    requestFactory = AdminRequest
    _log = _DebugLogger("wshost")


class _HTTP(HTTPFactory):
    """Twisted's HTTP without an access log, which a monitor would fill.

    :param site: what requests belong to.
    """

    noisy = False
    protocol: Any = _Channel

    def __init__(self, reactor: Any, site: Site) -> None:
        super().__init__(timeout=TIMEOUT, reactor=reactor)
        self.site = site

    def startFactory(self) -> None:
        """Start no log."""

    def log(self, request: Request) -> None:
        """Log nothing."""


class Site(WrappingFactory):
    """The factory for an endpoint. It keeps what is connected.

    :param reactor: has the time.
    :param pages: has the answers.
    :param hosts: more names by which operators may ask.
    """

    noisy = False

    def __init__(self, reactor: Any, pages: Pages, hosts: Hosts) -> None:
        super().__init__(_HTTP(reactor, self))
        #: The reactor, or what has its time.
        self.reactor = reactor
        self.pages = pages
        self.hosts = hosts
        # Each connected client has one request here at most: Twisted reads the next one after the answer.
        self._waiting: deque[AdminRequest] = deque()

    def answer_later(self, request: AdminRequest) -> None:
        """Answer a request in a later turn. One a turn: a client may send thousands at once, and all others wait."""
        self._waiting.append(request)
        if len(self._waiting) == 1:
            self.reactor.callLater(0, self._answer_next)

    def _answer_next(self) -> None:
        request = self._waiting.popleft()
        if self._waiting:
            self.reactor.callLater(0, self._answer_next)
        request.find_answer()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return _Refused() if len(self.protocols) >= MOST_CLIENTS else super().buildProtocol(addr)

    def logPrefix(self) -> str:
        """Return the name in Twisted's "… starting on 9090"."""
        return "admin"

    def abort_all(self) -> None:
        """Abort all connections."""
        protocol: ProtocolWrapper
        for protocol in list(self.protocols):
            protocol.abortConnection()
