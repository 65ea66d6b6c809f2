"""Decides which web pages may connect, by origin (RFC 6454, RFC 6455 §10.2). Must not know how a request is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from wshost.protocols.http.head import split_authority
from wshost.results import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_OF_THE_WEB = frozenset({"http", "https", "ws", "wss", "ftp"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Origins:
    """The origins that are allowed besides the server's own.

    A browser sends the user's cookies for any page that connects, and names the page's origin in the Origin header.
    Unless the server checks this header, any page can act in the user's name (cross-site WebSocket hijacking).

    :param options: each is ``https://app.example.com``, with an optional port; ``https://*.example.com`` for every name
        below it but not itself; ``file://`` or ``app://localhost`` for the pages of an application or extension, and
        ``moz-extension://*`` for all origins of such a scheme; ``"null"`` for all pages with an opaque origin; or
        ``"*"`` for any.
    :raises wshost.results.ConfigurationError: for anything else.
    """

    def __init__(self, options: Iterable[str] = ()) -> None:
        if isinstance(options, str):
            raise ConfigurationError(f"origins are a list, not {options!r}")
        #: Whether there is any option.
        self.given = False
        self._any = False
        self._null = False
        self._schemes: set[str] = set()
        self._exact: set[tuple[str, str, int | None]] = set()
        self._below: set[tuple[str, str, int | None]] = set()
        for option in options:
            self.given = True
            if option == "*":
                self._any = True
            elif option == "null":
                self._null = True
            else:
                self._add(option)

    def allows(self, origin: str | None, host: str, secure: bool = False) -> bool:
        """Return whether a page may connect: its origin is listed, or the server's own.

        :param origin: the Origin header. None: there is none, so the client is no browser, and may connect.
        :param host: the authority that the request asks for: `Request.host`.
        :param secure: whether wshost itself, or a trusted proxy, ends TLS on this connection.
        """
        return origin is None or self.lists(origin) or is_own(origin, host, secure)

    def lists(self, origin: str) -> bool:
        """Return whether the options name this origin."""
        if self._any:
            return True
        if origin == "null":
            return self._null
        try:
            scheme, name, port = _split(origin)
        except ValueError:
            return False
        return scheme in self._schemes or (scheme, name, port) in self._exact or self._is_below(scheme, name, port)

    def _is_below(self, scheme: str, name: str, port: int | None) -> bool:
        return any(
            (scheme, port) == (their_scheme, their_port) and name.endswith(suffix) and name != suffix
            for their_scheme, suffix, their_port in self._below
        )

    def _add(self, option: str) -> None:
        if not isinstance(option, str):
            raise _bad(option, "write it as a string")
        scheme, _, rest = option.partition("://")
        if rest == "*" and _is_private(scheme):
            self._schemes.add(scheme.lower())
            return
        apex = option.replace("://*.", "://", 1)
        try:
            scheme, name, port = _split(apex)
        except ValueError:
            advice = "write https://example.com, https://*.example.com, file://, app://localhost, null or *"
            raise _bad(option, advice) from None
        if scheme in ("ws", "wss"):
            raise _bad(option, "a web page has one of http:// or https://")
        if "*" in name or (apex != option and (name.startswith("[") or not name)):
            raise _bad(option, "* stands for all names below a domain, as in https://*.example.com")
        if apex == option:
            self._exact.add((scheme, name, port))
        else:
            self._below.add((scheme, f".{name}", port))


def is_own(origin: str, host: str, secure: bool) -> bool:
    """Return whether a page connects to the server that it came from (RFC 6454 §5).

    Its host and port must be those that the request asks for. A missing port is the default one of the page's scheme.
    The scheme must be https where wshost itself or a trusted proxy ends TLS; otherwise it may be http or https, as
    another proxy in front may end TLS. Host names are compared case-insensitively; ``example.com.`` differs from
    ``example.com``, as in browsers.

    Both values come from the client, so they don't prove that the host is this server's: see `Hosts`.

    :param origin: the Origin header.
    :param host: the authority that the request asks for: `Request.host`.
    :param secure: whether wshost itself, or a trusted proxy, ends TLS on this connection.
    """
    try:
        scheme, name, port = _split(origin)
        host_name, host_port = split_authority(host)
    except ValueError:
        return False
    if scheme not in _DEFAULT_PORTS or (secure and scheme != "https"):
        return False
    return (name, port) == (host_name, _DEFAULT_PORTS[scheme] if host_port is None else host_port)


# The pages of one site connect again and again.
@lru_cache(64)
def _split(origin: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an origin (RFC 6454 §6.2).

    :raises ValueError: when it is malformed.
    """
    scheme, separator, authority = origin.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError("not an origin")
    scheme = scheme.lower()
    if not authority and _is_private(scheme):
        return scheme, "", None
    name, port = split_authority(authority)
    return scheme, name, _DEFAULT_PORTS.get(scheme) if port is None else port


def _is_private(scheme: str) -> bool:
    """Return whether this is the scheme of files, applications or extensions, where hosts are empty or no names."""
    return _SCHEME.fullmatch(scheme) is not None and scheme.lower() not in _OF_THE_WEB


def _bad(option: object, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{option!r} is not an origin: {advice}")
