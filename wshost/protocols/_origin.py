"""From which web pages' scripts a connection is taken (RFC 6454, RFC 6455 §10.2); must not know how it is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wshost.protocols._head import split_authority
from wshost.results import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Origins:
    """The origins that are allowed besides the server's own.

    A browser names in the Origin header the page that connects, and sends the user's cookies whatever page that is:
    a server that does not look can be used by any page in the user's name (cross-site WebSocket hijacking).

    :param options: each ``https://app.example.com`` with an optional port, ``https://*.example.com`` for every name
        below it but not itself, ``"null"`` for pages without an origin (sandboxed, local files), or ``"*"`` for any.
    :raises wshost.results.ConfigurationError: for anything else.
    """

    def __init__(self, options: Iterable[str] = ()) -> None:
        if isinstance(options, str):
            raise ConfigurationError(f"origins are a list, not {options!r}")
        self._any = False
        self._null = False
        self._exact: set[tuple[str, str, int | None]] = set()
        self._below: set[tuple[str, str, int | None]] = set()
        for option in options:
            if option == "*":
                self._any = True
            elif option == "null":
                self._null = True
            else:
                self._add(option)

    def allows(self, origin: str | None, host: str) -> bool:
        """Say whether a page of this origin may connect.

        Same origin means: a page of http or https whose host and port are those that the request asks, a missing port
        being the default one of the page's scheme. Our own scheme is not compared, for a proxy that ends TLS in front
        of us hides it. Names are compared in any case, otherwise as they are: ``example.com.`` is not
        ``example.com``, as it is not to a browser.

        :param origin: the Origin header, or None when there is none: then this is no browser, and allowed.
        :param host: the authority that the request asks, `Request.host`.
        """
        if origin is None or self._any:
            return True
        if origin == "null":
            return self._null
        try:
            scheme, name, port = _split(origin)
            if (scheme, name, port) in self._exact or self._is_below(scheme, name, port):
                return True
            host_name, host_port = split_authority(host)
        except ValueError:
            return False
        default = _DEFAULT_PORTS.get(scheme)
        return default is not None and (name, port) == (host_name, default if host_port is None else host_port)

    def _is_below(self, scheme: str, name: str, port: int | None) -> bool:
        return any(
            (scheme, port) == (their_scheme, their_port) and name.endswith(suffix) and name != suffix
            for their_scheme, suffix, their_port in self._below
        )

    def _add(self, option: str) -> None:
        if not isinstance(option, str):
            raise _bad(option, "write it as a string")
        apex = option.replace("://*.", "://", 1)
        try:
            scheme, name, port = _split(apex)
        except ValueError:
            raise _bad(option, "write https://example.com, https://*.example.com, null or *") from None
        if scheme in ("ws", "wss"):
            raise _bad(option, "a web page has one of http:// or https://")
        if "*" in name or (apex != option and name.startswith("[")):
            raise _bad(option, "* stands for all names below a domain, as in https://*.example.com")
        if apex == option:
            self._exact.add((scheme, name, port))
        else:
            self._below.add((scheme, f".{name}", port))


def _split(origin: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an origin (RFC 6454 §6.2). :raises ValueError: when it is none."""
    scheme, separator, authority = origin.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError("not an origin")
    scheme = scheme.lower()
    name, port = split_authority(authority)
    return scheme, name, _DEFAULT_PORTS.get(scheme) if port is None else port


def _bad(option: object, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{option!r} is not an origin: {advice}")
