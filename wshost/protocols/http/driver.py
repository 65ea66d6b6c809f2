"""The driver of the module http for one connection: reads a request head, then refuses it or switches.

Must not know frames, nor how options are checked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from zope.interface import classImplements, implementedBy

from wshost.interfaces import IContext, IPromptDriver, Timer
from wshost.networks import Networks
from wshost.protocols.http.forwarded import find
from wshost.protocols.http.head import BARE_LF, BadRequest, bad_line, demand_get, parse, response
from wshost.request import TOKEN, Request, fields_of, traceparent
from wshost.results import REFUSED, Close, Refused, Results, Switch

if TYPE_CHECKING:
    from wshost.protocols.http.options import Options

_END = b"\r\n\r\n"
_CR = 0x0D
#: The most empty lines that are ignored before the request line; some clients send one after a body.
_EMPTY_LINES = 8
#: The value of Retry-After, in seconds: long enough for a load balancer to try another server, and for a restart.
_RETRY_AFTER = 5
#: The methods of health checks, and what they get.
_CHECKS = ("GET", "HEAD", "OPTIONS")
_ALLOW = {"Allow": ", ".join(_CHECKS)}
_HEALTHY = "ok\n"
_TOKEN_BYTES = frozenset(byte for byte in range(0x80) if TOKEN.fullmatch(chr(byte)))


class Driver:
    """Waits for one request head.

    :param upgrade: the module that gets WebSocket upgrades.
    """

    def __init__(self, options: Options, upgrade: str, context: IContext) -> None:
        self._options = options
        self._upgrade = upgrade
        self._context = context
        # The bytes so far, unless all of the head came at once.
        self._received: bytes | bytearray = b""
        # Empty lines seen before the request line, and the CR of one that is incomplete.
        self._empty_lines = 0
        self._cr = b""
        self._done = False
        self._timer: Timer | None = None
        # The request of a client about whom another process is asked, and whether it asks for an upgrade.
        self._asked: tuple[Request, bool] | None = None

    @property
    def __providedBy__(self) -> Any:
        # Of an extension type, zope.interface finds this out anew each time, in microseconds.
        return implementedBy(type(self))

    def start(self) -> None:
        if self._context.admitted:
            self._timer = self._context.call_later(self._options.timeout, self._time_out)
        else:
            self._finish()
            self._context.perform(self._refuse(self._not_admitted()))

    def handle_connection_in(self, data: bytes) -> Results:
        if self._done:
            return None
        if self._asked is not None:
            # Read before reading was paused.
            self._received += data
            return None
        result: Switch | Close | None
        try:
            result = self._read(data)
        except BadRequest as bad:
            result = self._refuse(bad)
        if result is not None:
            self._finish()
        return result

    def handle_action(self, action: str, *args: Any) -> Results | Refused:
        if action not in {"drain", "shutdown"}:
            return REFUSED
        if self._done:
            return None  # the response has been sent already
        self._finish()
        return self._refuse(_unavailable("The server is shutting down."))

    def handle_connection_close(self, reason: str) -> None:
        self._finish()

    def _read(self, data: bytes) -> Switch | Close | None:
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
            self._received += data
            received = self._received
        if received[0] not in _TOKEN_BYTES:
            raise BadRequest(400, "This is not HTTP.")
        end = received.find(_END, start, limit)
        if end >= 0:
            return self._judge(bytes(received), end + len(_END))
        # Before the length: the answer is the same in whatever pieces the head comes.
        if BARE_LF.search(received, start, limit):
            raise bad_line()
        if len(received) >= limit:
            raise BadRequest(431, "The request head is too long.")
        if received is data:
            self._received = bytearray(data)
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

    def _judge(self, received: bytes, size: int) -> Switch | Close | None:
        options = self._options
        request = parse(received[:size], max_headers=options.max_headers)
        notes = self._context.notes
        if notes is not None:
            notes["path"], notes["user_agent"] = request.path, request.headers.get("user-agent")
            notes["traceparent"] = traceparent(request.headers)
        if request.path == options.health_path:
            return self._say_healthy(request.method)
        upgrade = _is_upgrade(request)
        if not upgrade and options.otherwise is not None:
            return Switch(options.otherwise, received, request)
        # Only here: a client keeps its connection with the next module. Those for `otherwise` may have many clients.
        trusted = self._context.trusted
        if trusted is not None and not self._believe(request, trusted):
            self._asked = request, upgrade
            self._received = received[size:]
            self._context.pause_reading()
            # Whoever is asked has a deadline.
            self._cancel_timer()
            return None
        return self._pass_on(request, received[size:], upgrade)

    def _go_on(self) -> None:
        """It is known whether there is room for the client."""
        if self._asked is None:
            return
        request, upgrade = self._asked
        result: Switch | Close
        try:
            result = self._pass_on(request, bytes(self._received), upgrade)
        except BadRequest as bad:
            result = self._refuse(bad)
        self._finish()
        self._context.perform(result)

    def _pass_on(self, request: Request, unread: bytes, upgrade: bool) -> Switch:
        options, notes = self._options, self._context.notes
        if not self._context.admitted:
            raise self._not_admitted()
        demand_get(request)
        if options.paths is not None:
            route = options.paths.match(request.path)
            if route is None:
                raise BadRequest(404, "Nothing is served on this path.")
            request = replace(request, route=route)
            if notes is not None:
                notes["route"] = route
        if not upgrade:
            raise BadRequest(426, "This is a WebSocket server: connect with ws:// or wss://.", {"Upgrade": "websocket"})
        return Switch(self._upgrade, unread, request)

    def _believe(self, request: Request, trusted: Networks) -> bool:
        """Take the client's address from what a trusted proxy says; return False if `_go_on` is called later."""
        client = find(fields_of(request.headers), trusted)
        kind = IPv6Address if ":" in (client.host or "") else IPv4Address
        address = None if client.host is None else kind("TCP", client.host, client.port)
        return self._context.use_client(address, client.secure is True, self._go_on)

    def _say_healthy(self, method: str) -> Close:
        """Answer a health check: this server takes connections. One that is full or stops says 503 elsewhere."""
        if method not in _CHECKS:
            raise BadRequest(405, "Only GET, HEAD and OPTIONS are served here.", _ALLOW)
        # A check each second would fill the access log.
        self._context.notes = None
        if method == "OPTIONS":
            return Close(response(200, b"", _ALLOW))
        answer = response(200, _HEALTHY, {"Cache-Control": "no-store"})
        # The answer to HEAD is that to GET without the body (RFC 9110 §9.3.2).
        return Close(answer if method == "GET" else answer.removesuffix(_HEALTHY.encode()))

    def _time_out(self) -> None:
        # A client that has sent nothing expects no answer: it may be a browser's spare connection.
        late = BadRequest(408, "The request head took too long.")
        close = self._refuse(late) if self._received else Close()
        self._finish()
        self._context.perform(close)

    def _refuse(self, bad: BadRequest) -> Close:
        # The text of a 405 to HEAD is empty.
        self._context.count_refusal(bad.status, bad.reason or "Only GET is served here.")
        return Close(response(bad.status, bad.reason, bad.headers))

    def _not_admitted(self) -> BadRequest:
        wait = self._context.retry_after
        if wait:
            return BadRequest(429, "This address connects too often.", {"Retry-After": str(wait)})
        return _unavailable("The server is full.")

    def _finish(self) -> None:
        self._done = True
        self._received = b""
        self._asked = None
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


# Not a decorator: Cython's extension types can't have one.
classImplements(Driver, IPromptDriver)


def _is_upgrade(request: Request) -> bool:
    fields = fields_of(request.headers)
    return request.method == "GET" and _has(fields, "upgrade", "websocket") and _has(fields, "connection", "upgrade")


def _has(fields: dict[str, str], name: str, member: str) -> bool:
    value = fields.get(name, "").lower()
    # The common case is a single member.
    return value == member or (member in value and member in [one.strip(" \t") for one in value.split(",")])


def _unavailable(reason: str) -> BadRequest:
    return BadRequest(503, reason, {"Retry-After": str(_RETRY_AFTER)})
