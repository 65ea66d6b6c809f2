"""The protocol module http: its checked options; it gives each connection its driver. Knows no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface import moduleProvides

from wshost.interfaces import IContext, ILinkedModule, INegotiatedModule, IPreparedModule
from wshost.protocols.http.driver import Driver
from wshost.protocols.http.routes import Routes
from wshost.results import ConfigurationError
from wshost.settings.options import module_options

moduleProvides(IPreparedModule, ILinkedModule, INegotiatedModule)

#: The name of this protocol in TLS's ALPN (RFC 7301 §6).
alpn_protocols = (b"http/1.1",)

#: The options that name other modules of the chain.
_NAMES = ("upgrade", "otherwise")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of this module, checked: see `wshost.settings.options.MODULES`. Sizes are in bytes, times in seconds.

    A request is a WebSocket upgrade when it is a GET of HTTP/1.1 with ``Upgrade: websocket`` and
    ``Connection: upgrade`` (RFC 6455 §4.2.1). The next module checks the rest of the handshake.
    """

    #: None: all paths are served.
    paths: Routes | None
    #: The module that gets WebSocket upgrades. None: the next module of the chain.
    upgrade: str | None
    #: The module that gets other requests, from their first byte on. It keeps the connection, also for later upgrades.
    otherwise: str | None
    max_head_size: int
    max_headers: int
    timeout: float


def prepare(options: Mapping[str, Any]) -> Options:
    """Check the module's own mapping of options.

    :raises wshost.results.ConfigurationError: for an unknown name or a wrong value.
    """
    # An empty name means the same as no name.
    given = {key: value for key, value in options.items() if key not in _NAMES or value not in ("", None)}
    checked = module_options("http", given)
    if checked["paths"] is not None:
        try:
            checked["paths"] = Routes(checked["paths"])
        except ConfigurationError as error:
            raise ConfigurationError(f"http: paths: {error}") from None
    return Options(**checked)


def check(options: Options, chain: Sequence[str], position: int) -> None:
    """Make sure that the modules to switch to are in the chain.

    :raises wshost.results.ConfigurationError: when one is missing.
    """
    if options.upgrade is None and position + 1 == len(chain):
        raise ConfigurationError("http: no module follows that accepts WebSocket upgrades; add websocket to the chain")
    for option in _NAMES:
        name = getattr(options, option)
        if name is not None and (name not in chain or name == chain[position]):
            raise ConfigurationError(f"http: {option}: {name!r} is no other module of the chain: {', '.join(chain)}")


def init(options: Options, context: IContext) -> Driver:
    """Start to wait for a request head; when the server is full, refuse the connection."""
    # `check` made sure that there is one of these two modules.
    driver = Driver(options, options.upgrade or context.next_module, context)
    driver.start()
    return driver
