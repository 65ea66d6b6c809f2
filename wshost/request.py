"""What a client asked for and who it is: the values that modules hand on and handlers see. Imports nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

#: RFC 9110 §5.6.2.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

T = TypeVar("T")

_NO_COOKIES: Mapping[str, str] = MappingProxyType({})


class Headers(Mapping[str, str]):
    """The header fields of a request: a mapping in which case makes no difference.

    A field that came more than once is here once, its values joined by ``", "`` (RFC 9110 §5.3; cookies by
    ``"; "``, RFC 6265 §5.4). Bytes beyond ASCII are opaque (RFC 9110 §5.5), each the character of its number:
    ``value.encode("latin-1")`` are the bytes.
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

    # What `Mapping` has of these raises and catches a KeyError where nothing is found.

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
        """The members of a comma-separated field, without the empty ones (RFC 9110 §5.6.1); () when absent.

        There are at most 1,000: a request with more was refused, but for Cookie and Referer, in which they are no list.
        """
        value = self._fields.get(name.lower())
        if value is None:
            return ()
        return tuple(filter(None, [member.strip(" \t") for member in value.split(",")]))


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
    #: The authority that is asked: the Host header, or that of an absolute target.
    host: str
    headers: Headers
    #: The pattern of `--route` that matched the path, or None without routes.
    route: str | None = None


@dataclass(frozen=True, slots=True)
class TLS:
    """What is known of a connection's TLS session."""

    #: The peer's certificate, when one was asked for and given.
    peer_certificate: X509 | None = None


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """What a handler's `init` gets as ``options["connection"]``."""

    #: The peer's address: ``127.0.0.1:50000``, ``[::1]:50000`` or ``unix:``.
    peer: str
    #: The authority that the client asked for: ``example.com:8080``.
    host: str
    #: The path, not decoded.
    path: str
    #: The query, not decoded: for `urllib.parse.parse_qs`.
    query: str
    headers: Headers
    #: The cookies by name (RFC 6265 §4.2.1); of several of one name the first.
    cookies: Mapping[str, str] = field(default_factory=lambda: _NO_COOKIES)
    #: The Origin header, or None.
    origin: str | None = None
    #: The subprotocols that the client offers, in its order of preference.
    subprotocols: tuple[str, ...] = ()
    #: None on a plain connection.
    tls: TLS | None = None
    #: The pattern of `--route` that matched, or None without routes.
    route: str | None = None
