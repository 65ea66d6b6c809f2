"""A client's request, and who the client is, as values for modules and handlers. Imports no other module of wshost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

#: A token of RFC 9110 §5.6.2.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# W3C Trace Context §3.2.2. There is no version ff, and no id is all zeros.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32}-)[0-9a-f]{32}-(?!0{16}-)[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL
)
_TRACEPARENT_LENGTH = 55

T = TypeVar("T")

_NO_COOKIES: Mapping[str, str] = MappingProxyType({})


class Headers(Mapping[str, str]):
    """The header fields of a request: a mapping that ignores the case of names.

    The values of a field that came more than once are joined by ``", "`` (RFC 9110 §5.3), those of Cookie by ``"; "``
    (RFC 6265 §5.4). Bytes beyond ASCII are opaque (RFC 9110 §5.5). They are decoded as Latin-1, so
    ``value.encode("latin-1")`` returns the bytes.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, str] = {}
        for field_name, value in fields:
            name = field_name.lower()
            if name in self._fields:
                self._fields[name] += ("; " if name == "cookie" else ", ") + value
            else:
                self._fields[name] = value

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    # `Mapping` has the next two methods, too, but its own raise and catch a KeyError for each missing field.

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    @overload
    def get(self, name: str, /) -> str | None: ...

    @overload
    def get(self, name: str, /, default: str | T) -> str | T: ...

    def get(self, name: str, /, default: Any = None) -> Any:
        return self._fields.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({list(self._fields.items())!r})"

    def list(self, name: str) -> tuple[str, ...]:
        """Return the members of a comma-separated field, without empty ones (RFC 9110 §5.6.1); () when it is absent.

        There are at most 1,000 members, as requests with more are rejected. Cookie and Referer have no such limit: they
        are no lists.
        """
        value = self._fields.get(name.lower())
        if value is None:
            return ()
        return tuple(filter(None, [member.strip(" \t") for member in value.split(",")]))


def fields_of(headers: Headers) -> dict[str, str]:
    """Return the fields by their names in lower case, not copied: nobody may change them."""
    return headers._fields


def headers_of(fields: dict[str, str]) -> Headers:
    """Return these fields as they are: their names in lower case, each with its values joined. It is not copied."""
    headers = Headers.__new__(Headers)
    headers._fields = fields
    return headers


def traceparent(headers: Headers) -> str | None:
    """Return version, trace id, parent id and flags of the traceparent header (W3C Trace Context §3.2), as received.

    :returns: None without a valid header. What a later version than 00 has behind the flags is left out.
    """
    value = headers._fields.get("traceparent")
    found = None if value is None else _TRACEPARENT.fullmatch(value)
    if value is None or found is None or (found[1] == "00" and found[2] is not None):
        return None
    return value[:_TRACEPARENT_LENGTH]


@dataclass(frozen=True, slots=True)
class Request:
    """A validated request head (RFC 9112 §3)."""

    method: str
    #: As received, visible ASCII: ``/chat?room=1``.
    target: str
    #: The target's path, not decoded: ``/chat``.
    path: str
    #: The target's query, not decoded and without the ``?``.
    query: str
    #: The authority that the client asks for, from the Host header or from an absolute target.
    host: str
    headers: Headers
    #: The pattern of `--route` that matched the path, or None without routes.
    route: str | None = None


@dataclass(frozen=True, slots=True)
class TLS:
    """Facts about a TLS connection."""

    #: The peer's certificate, if it was asked for one and gave one.
    peer_certificate: X509 | None = None


@dataclass(frozen=True, slots=True)
class Proxy:
    """Facts about a trusted proxy, and what it has said of the client."""

    #: The proxy's own address, in the form of `ConnectionInfo.peer`.
    peer: str
    #: Whether the client has connected to the outermost trusted proxy by TLS.
    secure: bool


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """Facts about a new connection. A handler's `init` gets this as ``options["connection"]``."""

    #: The peer's address: ``127.0.0.1:50000``, ``[::1]:50000`` or ``unix:``. Behind a trusted proxy (`--trust-proxy`)
    #: it is the client's; the port is 0 if the proxy has not said it.
    peer: str
    #: The authority that the client asks for: ``example.com:8080``.
    host: str
    #: The path, not decoded.
    path: str
    #: The query, not decoded: for `urllib.parse.parse_qs`.
    query: str
    headers: Headers
    #: The cookies by name (RFC 6265 §4.2.1); the first of several with one name.
    cookies: Mapping[str, str] = field(default_factory=lambda: _NO_COOKIES)
    #: The Origin header, or None.
    origin: str | None = None
    #: The subprotocols that the client offers, in its order of preference.
    subprotocols: tuple[str, ...] = ()
    #: None on a plain connection.
    tls: TLS | None = None
    #: The pattern of `--route` that matched, or None without routes.
    route: str | None = None
    #: The trusted proxy that has named the client, or None.
    proxy: Proxy | None = None

    # Found when it is asked for: most handlers never do.
    @property
    def traceparent(self) -> str | None:
        """The traceparent header, if it is valid, else None: ``00-`` trace id ``-`` parent id ``-`` flags, in hex."""
        return traceparent(self.headers)
