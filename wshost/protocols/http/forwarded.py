"""Finds the client in what trusted proxies say: Forwarded (RFC 7239), X-Forwarded-For and X-Forwarded-Proto.

Must not know connections. Takes a limited time, whatever clients behind a proxy send.

Anybody can send these headers. Each proxy adds what it knows at the right. So they are read from the right, and only as
far as the proxies are trusted. Most proxies add to one of Forwarded and X-Forwarded-For only, and pass the other on as
the client has sent it. If both are there, neither can be preferred without believing some client; so they must agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import NamedTuple, TypeAlias

from wshost.networks import Networks, ip
from wshost.protocols.http.head import BadRequest
from wshost.request import TOKEN

IP: TypeAlias = IPv4Address | IPv6Address

#: So many addresses are looked at, from the right: no chain of proxies is longer.
MAX_PROXIES = 64
#: So many pairs and empty elements a Forwarded may have. Each costs a microsecond; a client may send thousands.
MAX_PIECES = 512

_SECURE = {"https": True, "wss": True, "http": False, "ws": False}
# RFC 7239 §4. An element may be empty (RFC 9110 §5.6.1.2), and so may a pair be; a quoted string may have any comma.
_PAIR = rf'({TOKEN.pattern}+)=(?:({TOKEN.pattern}+)|"((?:[\t !#-\[\]-~]|\\[\t -~])*+)")'
_PIECE = re.compile(rf"[ \t]*+(?:{_PAIR})?+[ \t]*+([,;]|\Z)")
_ESCAPED = re.compile(r"\\(.)")
# RFC 7239 §6, and the forms that X-Forwarded-For has: an address, in brackets or not; its port, which may be hidden.
_NODE = re.compile(r"(?:([0-9.]++)|\[([0-9A-Fa-f:.]++)\])(?::([0-9]{1,5}|_[0-9A-Za-z._-]++))?+|([0-9A-Fa-f:.]++)")


class Client(NamedTuple):
    """The client, as trusted proxies name it."""

    #: Its IP address; None: no proxy has named one.
    host: str | None
    #: Its port; 0 when it is not known.
    port: int
    #: Whether its connection with the outermost trusted proxy has TLS; None: no proxy has said it.
    secure: bool | None


_NOBODY = Client(None, 0, None)


def find(fields: dict[str, str], trusted: Networks) -> Client:
    """Return the client of a request that a trusted proxy has sent.

    From right to left, the first address that is not trusted is the client. A name, a hidden address (RFC 7239 §6.3) or
    anything else that is no address ends the search; the client is then the last trusted address.

    :param fields: the request's fields, by their names in lower case, several of a name joined in order.
    :raises BadRequest: 400 when Forwarded is malformed or too long, or does not agree with the X-Forwarded headers.
    """
    standard, old = fields.get("forwarded"), fields.get("x-forwarded-for")
    proto = fields.get("x-forwarded-proto")
    # The last one counts: those before may be the client's.
    secure = None if proto is None else _SECURE.get(proto.rpartition(",")[2].strip(" \t").lower())
    if standard is None:
        return _NOBODY._replace(secure=secure) if old is None else _walk(_listed(old), trusted)._replace(secure=secure)
    client = _walk(_elements(standard), trusted)
    if old is not None and _walk(_listed(old), trusted).host != client.host:
        raise BadRequest(400, "Forwarded and X-Forwarded-For name different clients.")
    if secure is not None and client.secure is not None and secure != client.secure:
        raise BadRequest(400, "Forwarded and X-Forwarded-Proto name different protocols.")
    return client._replace(secure=secure) if client.secure is None else client


def _walk(elements: Sequence[tuple[str, bool | None]], trusted: Networks) -> Client:
    """Return the client; each element has a node, and whether it has connected by TLS."""
    client = _NOBODY
    for node, secure in islice(reversed(elements), MAX_PROXIES):
        address, port = _parse_node(node)
        if address is None:
            return client._replace(secure=secure)
        client = Client(str(address), port, secure)
        if not trusted.have_ip(address):
            break
    return client


def _parse_node(node: str) -> tuple[IP | None, int]:
    found = _NODE.fullmatch(node)
    if found is None:
        return None, 0
    v4, bracketed, port, v6 = found.groups()
    number = int(port) if port and port[0] != "_" else 0
    return ip(v4 or bracketed or v6), number if number <= 0xFFFF else 0


def _listed(value: str) -> list[tuple[str, None]]:
    """Return the nodes of an X-Forwarded-For."""
    return [(member, None) for one in value.split(",") if (member := one.strip(" \t"))]


def _elements(value: str) -> list[tuple[str, bool | None]]:
    """Return the node and the protocol of each element of a Forwarded."""
    elements: list[tuple[str, bool | None]] = []
    pairs: dict[str, str] = {}
    at = 0
    for _ in range(MAX_PIECES):
        found = _PIECE.match(value, at)
        if found is None:
            # A client's open quote can hide what the proxy has added: believe nothing.
            raise BadRequest(400, "The Forwarded header is malformed.")
        name, token, quoted, end = found.groups()
        if name is not None:
            name = name.lower()
            if name in pairs:
                raise BadRequest(400, "The Forwarded header is malformed.")
            pairs[name] = _ESCAPED.sub(r"\1", quoted) if token is None else token
        if end != ";":
            if pairs:
                elements.append((pairs.get("for", ""), _SECURE.get(pairs.get("proto", "").lower())))
            pairs = {}
        if not end:
            return elements
        at = found.end()
    raise BadRequest(400, "The Forwarded header is too long.")
