"""The opening handshake as RFC 6455 §4.2 has it: what makes a request a valid offer. Knows no Autobahn, no handler."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from twisted.logger import Logger

from wshost.protocols.http.head import BadRequest
from wshost.request import TLS, TOKEN, ConnectionInfo, Headers, Request
from wshost.results import Accept

# RFC 6455 §9.1: what is quoted there, or escaped in quotes, is a token, too.
_TOKEN = f"{TOKEN.pattern}+"
_QUOTED = rf'"(?:\\?{_TOKEN})++"'
_EXTENSION = re.compile(rf"{_TOKEN}(?:[ \t]*+;[ \t]*+{_TOKEN}(?:[ \t]*+=[ \t]*+(?:{_TOKEN}|{_QUOTED}))?)*+")

#: Subprotocols, extensions, parameters of all extensions; and more cookies than browsers send to one site.
_MAX_MEMBERS = 100
_MAX_PARAMETERS = 100
_MAX_COOKIES = 500

#: What the key is hashed with (RFC 6455 §1.3).
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: What of the 101 response is not the handler's to say, besides all that begins with the prefix (RFC 6455 §4.2.2).
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})
_PREFIX = "sec-websocket-"


class Offer(NamedTuple):
    """What a client's valid opening handshake asks for."""

    #: The Sec-WebSocket-Key: 16 bytes in base64.
    key: str
    #: The Sec-WebSocket-Extensions, "" without.
    extensions: str
    #: The subprotocols, in the client's order of preference.
    subprotocols: tuple[str, ...]


def check(request: Request) -> Offer:
    """Return what this upgrade request offers.

    :raises BadRequest: 426 for another version than 13, 431 for lists that are too long, 400 for anything else that
        RFC 6455 §4.2.1 does not allow.
    """
    headers = request.headers
    # What is split into parts is counted before: each part costs a hundred times what its bytes do.
    _check_count(headers, "cookie", ";", _MAX_COOKIES)
    _check_count(headers, "sec-websocket-protocol", ",", _MAX_MEMBERS)
    _check_count(headers, "sec-websocket-extensions", ",", _MAX_MEMBERS)
    _check_count(headers, "sec-websocket-extensions", ";", _MAX_PARAMETERS + 1)
    version = headers.get("sec-websocket-version")
    if version is None:
        raise BadRequest(400, "The Sec-WebSocket-Version is missing.")
    if version != "13":
        raise BadRequest(
            426, "Only version 13 of WebSocket is spoken here.", {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"}
        )
    key = headers.get("sec-websocket-key")
    if key is None:
        raise BadRequest(400, "The Sec-WebSocket-Key is missing.")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        valid = False
    if not valid:
        raise BadRequest(400, "The Sec-WebSocket-Key is not 16 bytes in base64.")
    subprotocols = headers.list("sec-websocket-protocol")
    if len(set(subprotocols)) != len(subprotocols) or not all(map(TOKEN.fullmatch, subprotocols)):
        raise BadRequest(400, "The Sec-WebSocket-Protocol is not a list of different tokens.")
    if not all(map(_EXTENSION.fullmatch, headers.list("sec-websocket-extensions"))):
        raise BadRequest(400, "The Sec-WebSocket-Extensions is malformed.")
    return Offer(key, headers.get("sec-websocket-extensions", ""), subprotocols)


def _check_count(headers: Headers, name: str, separator: str, most: int) -> None:
    """Make sure that a field has no more parts than this."""
    if headers.get(name, "").count(separator) >= most:
        raise BadRequest(431, "Too much is offered: cookies, subprotocols, extensions or their parameters.")


def agree(offer: Offer, accept: Accept, subprotocols: Iterable[str]) -> str | None:
    """Return the subprotocol to use, None for none.

    :param accept: what the handler has said; its choice wins.
    :param subprotocols: the server's, the preferred first.
    :raises ValueError: when the handler says what it may not: a subprotocol that is not offered, a header that is ours.
    """
    for name in accept.headers:
        if name.lower() in _OURS or name.lower().startswith(_PREFIX):
            raise ValueError(f"the header {name} is not the handler's to send")
    if accept.subprotocol is None:
        return next((name for name in subprotocols if name in offer.subprotocols), None)
    if accept.subprotocol not in offer.subprotocols:
        raise ValueError(f"subprotocol {accept.subprotocol!r} is none of those offered: {offer.subprotocols}")
    return accept.subprotocol


class Hint:
    """Tells the log, once, that a client asked for subprotocols and is given none.

    That is allowed (RFC 6455 §4.2.2), but Chromium, Node's ws and undici fail such a connection, and don't say why.
    """

    log_to = Logger("wshost")

    def __init__(self) -> None:
        self._given = False

    def give(self, offered: tuple[str, ...]) -> None:
        """Say so, at the first time.

        :param offered: the subprotocols: tokens, so that no control character is in them.
        """
        if not self._given:
            self._given = True
            self.log_to.warn(
                "a client asked for a subprotocol, {offered}, and was given none, for which browsers and others fail; "
                "--subprotocol names those that are agreed to (this is said once)",
                offered=", ".join(offered)[:200],
            )


def acceptance(key: str, subprotocol: str | None, extensions: str, headers: Mapping[str, str]) -> bytes:
    """Return the response that opens the connection (RFC 6455 §4.2.2).

    :param key: the request's Sec-WebSocket-Key.
    :param extensions: those agreed on, "" for none.
    :param headers: more of them, checked.
    """
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    digest = hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()
    lines.append(f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}")
    if extensions:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join([*lines, "", ""]).encode()


def cookies(header: str) -> Mapping[str, str]:
    """Return the cookies of a Cookie header by name; of several of one name the first (RFC 6265 §4.2.1, §5.4)."""
    found: dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.strip(" \t").partition("=")
        if name and equals:
            found.setdefault(name, value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value)
    return found


def connection_info(request: Request, offer: Offer, peer: str, tls: TLS | None) -> ConnectionInfo:
    """Return what a handler is told of its connection."""
    headers = request.headers
    return ConnectionInfo(
        peer=peer,
        host=request.host,
        path=request.path,
        query=request.query,
        headers=headers,
        cookies=cookies(headers.get("cookie", "")),
        origin=headers.get("origin"),
        subprotocols=offer.subprotocols,
        tls=tls,
        route=request.route,
    )
