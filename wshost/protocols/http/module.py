"""The protocol module http: gives each connection its driver (`driver.py`), and checks the chain. Knows no request."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import moduleProvides

from wshost.interfaces import IContext, ILinkedModule, INegotiatedModule, IPreparedModule
from wshost.protocols.http.driver import Driver
from wshost.protocols.http.options import NAMES, Options, prepare
from wshost.results import ConfigurationError

__all__ = ["alpn_protocols", "check", "init", "prepare"]

moduleProvides(IPreparedModule, ILinkedModule, INegotiatedModule)

#: The name of this protocol in TLS's ALPN (RFC 7301 §6).
alpn_protocols = (b"http/1.1",)


def check(options: Options, chain: Sequence[str], position: int) -> None:
    """Make sure that the modules to switch to are in the chain.

    :raises wshost.results.ConfigurationError: when one is missing.
    """
    if options.upgrade is None and position + 1 == len(chain):
        raise ConfigurationError("http: no module follows that accepts WebSocket upgrades; add websocket to the chain")
    for option in NAMES:
        name = getattr(options, option)
        if name is not None and (name not in chain or name == chain[position]):
            raise ConfigurationError(f"http: {option}: {name!r} is no other module of the chain: {', '.join(chain)}")


def init(options: Options, context: IContext) -> Driver:
    """Start to wait for a request head; when the server is full, refuse the connection."""
    # `check` made sure that there is one of these two modules.
    driver = Driver(options, options.upgrade or context.next_module, context)
    driver.start()
    return driver
