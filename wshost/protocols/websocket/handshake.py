"""The opening handshake (RFC 6455 §4.2): checks a request, writes the 101. Must not know Autobahn or handlers."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha1
from typing import NamedTuple

from twisted.logger import Logger

from wshost.protocols.http.head import BadRequest
from wshost.request import TLS, TOKEN, ConnectionInfo, Proxy, Request, fields_of
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
    fields = fields_of(request.headers)
    offered, extensions = fields.get("sec-websocket-protocol", ""), fields.get("sec-websocket-extensions", "")
    # Count before splitting: splitting off a part costs a hundred times as much as counting its bytes.
    if (
        fields.get("cookie", "").count(";") >= _MAX_COOKIES
        or offered.count(",") >= _MAX_MEMBERS
        or extensions.count(",") >= _MAX_MEMBERS
        or extensions.count(";") > _MAX_PARAMETERS
    ):
        raise BadRequest(431, "There are too many cookies, subprotocols, extensions or parameters.")
    version = fields.get("sec-websocket-version")
    if version is None:
        raise BadRequest(400, "The Sec-WebSocket-Version is missing.")
    if version != "13":
        raise BadRequest(
            426, "Only version 13 of WebSocket is spoken here.", {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"}
        )
    key = fields.get("sec-websocket-key")
    if key is None:
        raise BadRequest(400, "The Sec-WebSocket-Key is missing.")
    if not _is_key(key):
        raise BadRequest(400, "The Sec-WebSocket-Key is not 16 bytes in base64.")
    subprotocols = request.headers.list("sec-websocket-protocol") if offered else ()
    if subprotocols and (len(set(subprotocols)) != len(subprotocols) or not all(map(TOKEN.fullmatch, subprotocols))):
        raise BadRequest(400, "The Sec-WebSocket-Protocol is not a list of different tokens.")
    if extensions and not _are_extensions(extensions):
        raise BadRequest(400, "The Sec-WebSocket-Extensions is malformed.")
    return Offer(key, extensions, subprotocols)


def _is_key(key: str) -> bool:
    try:
        return len(a2b_base64(key, strict_mode=True)) == 16
    except ValueError:
        return False


# Most clients are alike. A header is short, so that these are few bytes.
@lru_cache(32)
def _are_extensions(header: str) -> bool:
    members = [member.strip(" \t") for member in header.split(",")]
    return all(map(_EXTENSION.fullmatch, filter(None, members)))


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
        for name in subprotocols:
            if name in offer.subprotocols:
                return name
        return None
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
    accept = b2a_base64(sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest(), newline=False).decode()
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    if headers:
        head += "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if subprotocol is not None:
        head += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    head += f"Sec-WebSocket-Accept: {accept}\r\n"
    if extensions:
        head += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    return (head + "\r\n").encode()


def cookies(header: str) -> Mapping[str, str]:
    """Return the cookies of a Cookie header by name; the first of each name counts (RFC 6265 §4.2.1, §5.4)."""
    found: dict[str, str] = {}
    if not header:
        return found
    for pair in header.split(";"):
        name, equals, value = pair.strip(" \t").partition("=")
        if name and equals:
            found.setdefault(name, value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value)
    return found


def connection_info(
    request: Request, offer: Offer, peer: str, tls: TLS | None, proxy: Proxy | None = None
) -> ConnectionInfo:
    """Return the facts about a connection that a handler's init gets."""
    fields = fields_of(request.headers)
    # By position, in the order of the class: by name takes longer.
    return ConnectionInfo(
        peer,
        request.host,
        request.path,
        request.query,
        request.headers,
        cookies(fields.get("cookie", "")),
        fields.get("origin"),
        offer.subprotocols,
        tls,
        request.route,
        proxy,
    )
