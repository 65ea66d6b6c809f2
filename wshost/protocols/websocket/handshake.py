"""The opening handshake (RFC 6455 §4.2): checks a request, writes the 101. Must not know Autobahn or handlers."""

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

# The text within quotes must be a token, too, once unescaped (RFC 6455 §9.1).
_TOKEN = f"{TOKEN.pattern}+"
_QUOTED = rf'"(?:\\?{_TOKEN})++"'
_EXTENSION = re.compile(rf"{_TOKEN}(?:[ \t]*+;[ \t]*+{_TOKEN}(?:[ \t]*+=[ \t]*+(?:{_TOKEN}|{_QUOTED}))?)*+")

#: The most subprotocols or extensions; the most parameters of all extensions together; the most cookies, which is more
#: than browsers send.
_MAX_MEMBERS = 100
_MAX_PARAMETERS = 100
_MAX_COOKIES = 500

#: The GUID that the key is hashed with (RFC 6455 §1.3).
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Response headers that a handler may not set; nor may it set any with the prefix below (RFC 6455 §4.2.2).
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})
_PREFIX = "sec-websocket-"

_log = Logger("wshost")


class Offer(NamedTuple):
    """The client's offer in a valid opening handshake."""

    #: The Sec-WebSocket-Key: 16 bytes in base64.
    key: str
    #: The Sec-WebSocket-Extensions header; "" without one.
    extensions: str
    #: The subprotocols, in the client's order of preference.
    subprotocols: tuple[str, ...]


def check(request: Request) -> Offer:
    """Check an upgrade request and return its offer.

    :raises BadRequest: 426 for another version than 13, 431 for a list that is too long, 400 for any other violation of
        RFC 6455 §4.2.1.
    """
    headers = request.headers
    # Count before splitting: splitting off a part costs a hundred times as much as counting its bytes.
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
    """Make sure that a field has at most so many parts."""
    if headers.get(name, "").count(separator) >= most:
        raise BadRequest(431, "There are too many cookies, subprotocols, extensions or parameters.")


def agree(offer: Offer, accept: Accept, subprotocols: Iterable[str]) -> str | None:
    """Return the subprotocol to use; None when there is none.

    :param accept: the handler's answer; the handler's choice wins.
    :param subprotocols: the server's subprotocols, the preferred one first.
    :raises ValueError: when the handler chooses a subprotocol that is not offered, or sets a header that it may not.
    """
    for name in accept.headers:
        if name.lower() in _OURS or name.lower().startswith(_PREFIX):
            raise ValueError(f"a handler may not send the header {name}")
    if accept.subprotocol is None:
        return next((name for name in subprotocols if name in offer.subprotocols), None)
    if accept.subprotocol not in offer.subprotocols:
        raise ValueError(f"the client did not offer the subprotocol {accept.subprotocol!r}, only {offer.subprotocols}")
    return accept.subprotocol


class Hint:
    """Logs once that a client asked for subprotocols and got none.

    That is allowed (RFC 6455 §4.2.2), but Chromium, Node's ws and undici then fail the connection without saying why.
    """

    def __init__(self) -> None:
        self._given = False

    def give(self, offered: tuple[str, ...]) -> None:
        """Log this, the first time only.

        :param offered: the subprotocols. They are tokens, so they have no control characters.
        """
        if not self._given:
            self._given = True
            _log.warn(
                "a client asked for the subprotocol {offered} and got none, so browsers fail the connection: "
                "name the supported ones with --subprotocol (logged once)",
                offered=", ".join(offered)[:200],
            )


def acceptance(key: str, subprotocol: str | None, extensions: str, headers: Mapping[str, str]) -> bytes:
    """Return the 101 response (RFC 6455 §4.2.2).

    :param key: the request's Sec-WebSocket-Key.
    :param subprotocol: the one agreed on, or None.
    :param extensions: the Sec-WebSocket-Extensions agreed on; "" for none.
    :param headers: more headers, already checked.
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
    """Return the cookies of a Cookie header by name; the first of each name counts (RFC 6265 §4.2.1, §5.4)."""
    found: dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.strip(" \t").partition("=")
        if name and equals:
            found.setdefault(name, value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value)
    return found


def connection_info(request: Request, offer: Offer, peer: str, tls: TLS | None) -> ConnectionInfo:
    """Return the facts about a connection that a handler's init gets."""
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
