"""The protocol module websocket: it gives each connection its driver (`driver.py`). Knows no frames."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import moduleProvides

from wshost.interfaces import IContext, ILinkedModule, IMovableModule, IPreparedModule
from wshost.protocols.websocket.driver import WebSocket
from wshost.protocols.websocket.limited import LimitedWebSocket
from wshost.protocols.websocket.options import Options, prepare
from wshost.results import ConfigurationError

__all__ = ["check", "init", "prepare", "thaw"]

moduleProvides(IPreparedModule, ILinkedModule, IMovableModule)


def check(options: Options, chain: Sequence[str], position: int) -> None:  # noqa: ARG001 - the interface has them
    """Make sure that there is a module before this one, as it must hand over the request.

    :raises ConfigurationError: when there is none.
    """
    if position == 0:
        raise ConfigurationError("websocket: needs a module before it that hands over a request, such as http")


def init(options: Options, context: IContext) -> WebSocket:
    """Check the opening handshake and start the handler's session.

    :raises LookupError: when the module before this one has handed over no request.
    """
    if context.request is None:
        raise LookupError("the module before websocket has handed over no request")
    driver = _driver(options, context)
    driver.begin()
    return driver


def thaw(options: Options, context: IContext, data: bytes) -> WebSocket:
    """Go on with an open connection of another process.

    :raises TypeError: when the handlers are run by a factory that can't do so.
    """
    driver = _driver(options, context)
    driver.thaw(data)
    return driver


def _driver(options: Options, context: IContext) -> WebSocket:
    limited = options.message_rate or options.byte_rate
    return LimitedWebSocket(options, context) if limited else WebSocket(options, context)
