"""Where the admin endpoint listens: not where clients connect, and on the loopback unless told. Knows no HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, succeed

from wshost.admin.pages import PATHS, Pages
from wshost.admin.site import Site
from wshost.listening.listener import Listener
from wshost.protocols.websocket.browsers import Hosts
from wshost.results import ConfigurationError

#: Which argument of a TCP endpoint is the interface if it has no name; and where it listens if there is none.
LOOPBACK = {
    "fast": (1, "127.0.0.1"),
    "ssl": (4, "127.0.0.1"),
    "tcp": (1, "127.0.0.1"),
    "tcp6": (2, r"\:\:1"),
    "tls": (3, r"\:\:1"),
}
#: Kinds that listen where a file is, or where who has made their sockets said; they have no interface.
_APART = frozenset({"fd", "stdio", "systemd", "unix"})

_COLON = re.compile(r"(?<!\\):")


def complete(description: str) -> str:
    """Return an endpoint's description with the interface that it names; by default, that of the loopback.

    :param description: as for `--listen`, or only the number of a TCP port.
    :raises ConfigurationError: for an endpoint behind a proxy's header, or an interface without a name.
    """
    if description.isdecimal():
        description = f"tcp:{description}"
    kind, *arguments = _COLON.split(description)
    if kind == "haproxy":
        raise ConfigurationError(f"admin: {description!r}: leave out haproxy:, operators need no proxy")
    if kind in LOOPBACK:
        position, loopback = LOOPBACK[kind]
        named = dict(one.split("=", 1) for one in arguments if "=" in one)
        interface = named.get("interface", next(iter([one for one in arguments if "=" not in one][position:]), None))
        if interface is None and "unix" not in named:
            description += f":interface={loopback}"
        elif interface is not None and not interface:
            raise ConfigurationError(
                f"admin: {description!r}: the interface has no name; all of them are 0.0.0.0, or :: with IPv6"
            )
    return description


def _names_interface(description: str) -> bool:
    """Return whether an endpoint is only where it was told to be. One within another has its colons escaped."""
    kind = _COLON.split(description)[0]
    return kind in LOOPBACK or kind in _APART or "interface=" in description.replace("\\", "")


def place(description: str) -> str:
    """Return what tells two endpoints apart: the kind, and the port, path or index."""
    kind, *arguments = _COLON.split(description.removeprefix("haproxy:"))
    values = dict(one.split("=", 1) for one in arguments if "=" in one)
    # That of a `tls:` endpoint comes after the certificates.
    positional = [one for one in arguments if "=" not in one][kind == "tls" :]
    named = next((values[name] for name in ("port", "address", "index", "name") if name in values), "")
    domain = values.get("domain", "") if kind == "systemd" else ""
    return ":".join((kind, domain, positional[0] if positional else named))


class Endpoint:
    """The admin endpoint of a server, which can listen again after `stop`.

    :param description: the option `--admin`.
    :param public: the descriptions of the endpoints for clients.
    :param pages: the answers.
    :param hosts: names by which operators may ask for it, besides loopback names and its own address. "*" is ignored:
        any page could ask then.
    :raises ConfigurationError: when the description is wrong, or clients connect there.
    """

    def __init__(self, description: str, public: Iterable[str], pages: Pages, hosts: Sequence[str]) -> None:
        #: The description of the endpoint, with its interface.
        self.description = complete(description)
        self._pages = pages
        self._hosts = Hosts(one for one in hosts if one != "*")
        self._listener: Listener | None = None
        self._site: Site | None = None
        where = place(self.description)
        # Port 0 is another one each time.
        if not where.endswith(":0") and where in map(place, public):
            raise ConfigurationError(
                f"admin: {description!r} is where clients connect: operators need an endpoint apart"
            )

    def listen(self, reactor: Any, unix: bool = True, inherited: socket | None = None) -> None:
        """Listen, unless it does already.

        :param unix: False leaves out a Unix socket.
        :param inherited: a socket that listens already in another process; None to open one.
        :raises ConfigurationError: when that fails.
        """
        listener, site = self.make(reactor, inherited)
        if unix or not listener.unix:
            listener.listen(site)

    def make(self, reactor: Any, inherited: socket | None = None) -> tuple[Listener, Site]:
        """Return what listens, and its factory: as `listen` otherwise, but it does not listen yet.

        :raises ConfigurationError: when the description is wrong, or does not say where a plugin's endpoint listens.
        """
        if self._listener is None or self._site is None:
            listener = Listener(reactor, self.description, None, option="admin", inherited=inherited)
            if not _names_interface(self.description):
                raise ConfigurationError(
                    f"admin: {self.description!r}: name its interface=, as wshost does not know where it would listen"
                )
            self._listener = listener
            self._site = Site(reactor, self._pages, self._hosts)
        return self._listener, self._site

    @property
    def listener(self) -> Listener | None:
        """What listens; None before `listen` and after `stop`."""
        return self._listener

    def announce(self) -> None:
        """Log where it listens."""
        if self._listener is not None:
            self._listener.announce(", ".join(PATHS), "http", "https", what="admin")

    def stop(self) -> Deferred[None]:
        """Stop listening, and abort what is connected: nobody waits for operators. Fires when the socket is closed."""
        listener, self._listener = self._listener, None
        site, self._site = self._site, None
        if site is not None:
            site.abort_all()
        return succeed(None) if listener is None else listener.stop()
