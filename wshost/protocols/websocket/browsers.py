"""Checks a browser's Host and Origin: it must ask for a name of this server, from a page that may connect."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from wshost.interfaces import IContext
from wshost.protocols.http.head import BadRequest, split_authority
from wshost.protocols.websocket.origin import Origins, is_own
from wshost.request import Request, fields_of
from wshost.results import ConfigurationError

_NAME = re.compile(r"[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*\.?")
#: The longest host name (RFC 1035 §2.3.4). The rest of a longer one is not logged.
_LENGTH = 255

_log = Logger("wshost")


class Hosts:
    """The host names of this server.

    The owner of evil.example may point that name at this server's address (DNS rebinding). Then Host and Origin agree,
    and only a list of the server's own names tells the request from a good one.

    :param options: each is a name, as ``chat.example.com``, or ``*.example.com`` for every name below it but not
        itself, or an address, or ``"*"`` for any. Ports don't matter.
    :raises wshost.results.ConfigurationError: for anything else.
    """

    def __init__(self, options: Iterable[str] = ()) -> None:
        if isinstance(options, str):
            raise ConfigurationError(f"hosts are a list, not {options!r}")
        #: Whether there is any option.
        self.given = False
        self._any = False
        self._exact: set[str] = set()
        self._below: set[str] = set()
        self._told = False
        for option in options:
            self.given = True
            if option == "*":
                self._any = True
            else:
                self._add(option)

    def have(self, name: str) -> bool:
        """Return whether the options name this host.

        :param name: as `split_authority` returns it.
        """
        name = name.removesuffix(".")
        return self._any or name in self._exact or any(name.endswith(below) for below in self._below)

    def tell(self, name: str) -> None:
        """Log that a browser asked for another name: the first time only, as peers could fill the log."""
        if not self._told:
            self._told = True
            _log.warn(
                "a browser asked for the host {name!r} and got 421: if this server has that name, for example behind a "
                "proxy, name it with --host (logged once)",
                name=name[:_LENGTH],
            )

    def _add(self, option: str) -> None:
        if not isinstance(option, str):
            raise _bad(option)
        apex = option.removeprefix("*.")
        bare = apex[1:-1] if apex.startswith("[") and apex.endswith("]") else apex
        try:
            address = ip_address(bare)
        except ValueError:
            if not _NAME.fullmatch(apex):
                raise _bad(option) from None
            name = apex.lower().removesuffix(".")
        else:
            if apex != option or "%" in bare:
                raise _bad(option)
            name = str(address) if isinstance(address, IPv4Address) else f"[{address}]"
        if apex == option:
            self._exact.add(name)
        else:
            self._below.add(f".{name}")


def check_browser(request: Request, context: IContext, origins: Origins, hosts: Hosts) -> None:
    """Make sure that a browser may connect. A request without an Origin field does not come from a browser.

    Without host options, a connection to a loopback address must ask for a loopback name or address. Pages of a listed
    origin are exempt. Where origins are listed, all pages but the server's own are exempt, too.

    :param context: tells the server's own address, and whether there is TLS.
    :raises BadRequest: 421 when the host is not a name of this server, 403 when the origin may not connect.
    """
    origin = fields_of(request.headers).get("origin")
    if origin is None:
        return
    try:
        name = split_authority(request.host)[0]
    except ValueError:
        name = ""
    proxy = context.proxy
    secure = context.tls is not None or (proxy is not None and proxy.secure)
    listed, own = origins.lists(origin), is_own(origin, request.host, secure)
    if hosts.given:
        known, advice = hosts.have(name), "This server has no such name: name its hosts with --host."
    else:
        known = listed or (origins.given and not own) or not _is_local(context.host_address) or is_loopback(name)
        advice = "Browsers must ask for a local name, such as localhost, or for one named with --host."
    if not known:
        hosts.tell(name)
        raise BadRequest(421, advice)
    if not (listed or own):
        raise BadRequest(403, "This Origin is not allowed here.")


def _is_local(address: IAddress) -> bool:
    """Return whether only this machine can connect to an address. Browsers can't connect to Unix sockets at all."""
    host = getattr(address, "host", None)
    return isinstance(host, str) and _is_loopback_address(host)


def is_loopback(name: str) -> bool:
    """Return whether a name, as `split_authority` returns it, or an address is one of the loopback."""
    name = name.removesuffix(".")
    # RFC 6761 §6.3
    return name == "localhost" or name.endswith(".localhost") or _is_loopback_address(name.strip("[]"))


# It is asked for the server's own addresses most of the time.
@lru_cache(64)
def _is_loopback_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _bad(option: object) -> ConfigurationError:
    return ConfigurationError(
        f"{option!r} is not a host: write example.com, *.example.com, an address or *, without scheme and port"
    )
