"""The protocol module http: reads one bounded request head, then refuses it or switches. Must not know frames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zope.interface import implementer, moduleProvides

from wshost.interfaces import (
    IContext,
    ILinkedModule,
    INegotiatedModule,
    IPreparedModule,
    IPromptDriver,
    IProtocolDriver,
    Timer,
)
from wshost.protocols.http.head import BadRequest, demand_get, parse, response
from wshost.protocols.http.routes import Routes
from wshost.request import TOKEN, Headers, Request
from wshost.results import REFUSED, Close, ConfigurationError, Refused, Results, Switch
from wshost.settings.options import module_options

moduleProvides(IPreparedModule, ILinkedModule, INegotiatedModule)

#: The name of this protocol in TLS's ALPN (RFC 7301 §6).
alpn_protocols = (b"http/1.1",)

_END = b"\r\n\r\n"
_CR = 0x0D
#: The most empty lines that are ignored before the request line; some clients send one after a body.
_EMPTY_LINES = 8
_BARE_LF = re.compile(rb"(?<!\r)\n")
#: The value of Retry-After, in seconds: long enough for a load balancer to try another server, and for a restart.
_RETRY_AFTER = 5
#: The options that name other modules of the chain.
_NAMES = ("upgrade", "otherwise")
_TOKEN_BYTES = frozenset(byte for byte in range(0x80) if TOKEN.fullmatch(chr(byte)))


@dataclass(frozen=True, slots=True)
class Options:
    """The options of this module, checked: see `wshost.settings.options.MODULES`. Sizes are in bytes, times in seconds.

    A request is a WebSocket upgrade when it is a GET of HTTP/1.1 with ``Upgrade: websocket`` and
    ``Connection: upgrade`` (RFC 6455 §4.2.1). The next module checks the rest of the handshake.
    """

    #: None: all paths are served.
    paths: Routes | None
    #: The module that gets WebSocket upgrades. None: the next module of the chain.
    upgrade: str | None
    #: The module that gets other requests, from their first byte on. It keeps the connection, also for later upgrades.
    otherwise: str | None
    max_head_size: int
    max_headers: int
    timeout: float


def prepare(options: Mapping[str, Any]) -> Options:
    """Check the module's own mapping of options.

    :raises wshost.results.ConfigurationError: for an unknown name or a wrong value.
    """
    # An empty name means the same as no name.
    given = {key: value for key, value in options.items() if key not in _NAMES or value not in ("", None)}
    checked = module_options("http", given)
    if checked["paths"] is not None:
        try:
            checked["paths"] = Routes(checked["paths"])
        except ConfigurationError as error:
            raise ConfigurationError(f"http: paths: {error}") from None
    return Options(**checked)


def check(options: Options, chain: Sequence[str], position: int) -> None:
    """Make sure that the modules to switch to are in the chain.

    :raises wshost.results.ConfigurationError: when one is missing.
    """
    if options.upgrade is None and position + 1 == len(chain):
        raise ConfigurationError("http: no module follows that accepts WebSocket upgrades; add websocket to the chain")
    for option in _NAMES:
        name = getattr(options, option)
        if name is not None and (name not in chain or name == chain[position]):
            raise ConfigurationError(f"http: {option}: {name!r} is no other module of the chain: {', '.join(chain)}")


def init(options: Options, context: IContext) -> IProtocolDriver:
    """Start to wait for a request head; when the server is full, refuse the connection."""
    # `check` made sure that there is one of these two modules.
    driver = _Driver(options, options.upgrade or context.next_module, context)
    driver.start()
    return driver


@implementer(IPromptDriver)
class _Driver:
    def __init__(self, options: Options, upgrade: str, context: IContext) -> None:
        self._options = options
        self._upgrade = upgrade
        self._context = context
        self._received = bytearray()
        # Empty lines seen before the request line, and the CR of one that is incomplete.
        self._empty_lines = 0
        self._cr = b""
        self._done = False
        self._timer: Timer | None = None

    def start(self) -> None:
        if self._context.admitted:
            self._timer = self._context.call_later(self._options.timeout, self._time_out)
        else:
            self._finish()
            self._context.perform(_refuse(_unavailable("The server is full.")))

    def handle_connection_in(self, data: bytes) -> Results:
        if self._done:
            return None
        result: Switch | Close | None
        try:
            result = self._read(data)
        except BadRequest as bad:
            result = _refuse(bad)
        if result is not None:
            self._finish()
        return result

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        if action != "shutdown":
            return REFUSED
        if self._done:
            return None  # the response has been sent already
        self._finish()
        return _refuse(_unavailable("The server is shutting down."))

    def handle_connection_close(self, reason: str) -> None:
        self._finish()

    def _read(self, data: bytes) -> Switch | None:
        if not self._received and (self._cr or data[0] == _CR):
            data = self._skip(data)
            if not data:
                return None
        received: bytes | bytearray = data
        start = 0
        limit = self._options.max_head_size
        if self._received:
            # The CRLF CRLF may begin in the bytes that arrived before.
            start = max(0, len(self._received) - len(_END) + 1)
            received = self._received
            received += data
        if received[0] not in _TOKEN_BYTES:
            raise BadRequest(400, "This is not HTTP.")
        end = received.find(_END, start, limit)
        if end >= 0:
            return self._judge(bytes(received), end + len(_END))
        if len(received) >= limit:
            raise BadRequest(431, "The request head is too long.")
        if _BARE_LF.search(received, start):
            raise BadRequest(400, "A line ends without CR.")
        if received is data:
            self._received += data
        return None

    def _skip(self, data: bytes) -> bytes:
        """Return the bytes after the empty lines that precede the request line (RFC 9112 §2.2)."""
        data = self._cr + data
        while data.startswith(b"\r\n"):
            self._empty_lines += 1
            if self._empty_lines > _EMPTY_LINES:
                raise BadRequest(400, "There are too many empty lines before the request line.")
            data = data[2:]
        self._cr = data if data == b"\r" else b""
        return data[len(self._cr) :]

    def _judge(self, received: bytes, size: int) -> Switch:
        options = self._options
        request = parse(received[:size], max_headers=options.max_headers)
        upgrade = _is_upgrade(request)
        if not upgrade and options.otherwise is not None:
            return Switch(options.otherwise, received, request)
        demand_get(request)
        if options.paths is not None:
            route = options.paths.match(request.path)
            if route is None:
                raise BadRequest(404, "Nothing is served on this path.")
            request = replace(request, route=route)
        if not upgrade:
            raise BadRequest(426, "This is a WebSocket server: connect with ws:// or wss://.", {"Upgrade": "websocket"})
        return Switch(self._upgrade, received[size:], request)

    def _time_out(self) -> None:
        # A client that has sent nothing expects no answer: it may be a browser's spare connection.
        close = _refuse(BadRequest(408, "The request head took too long.")) if self._received else Close()
        self._finish()
        self._context.perform(close)

    def _finish(self) -> None:
        self._done = True
        self._received.clear()
        if self._timer is not None:
            self._timer.cancel()


def _is_upgrade(request: Request) -> bool:
    headers = request.headers
    return request.method == "GET" and _has(headers, "upgrade", "websocket") and _has(headers, "connection", "upgrade")


def _has(headers: Headers, name: str, member: str) -> bool:
    value = headers.get(name, "").lower()
    # The common case is a single member.
    return value == member or any(one.lower() == member for one in headers.list(name))


def _unavailable(reason: str) -> BadRequest:
    return BadRequest(503, reason, {"Retry-After": str(_RETRY_AFTER)})


def _refuse(bad: BadRequest) -> Close:
    return Close(response(bad.status, bad.reason, bad.headers))
