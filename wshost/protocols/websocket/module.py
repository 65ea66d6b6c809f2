"""The websocket module: its options, and how a connection gets its driver (`driver.py`). Knows no frames."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zope.interface import moduleProvides

from wshost.interfaces import IContext, ILinkedModule, IPreparedModule, ISessionFactory
from wshost.protocols.options import Reader
from wshost.protocols.websocket.autobahn_engine import Engine, engine_class
from wshost.protocols.websocket.browsers import Hosts
from wshost.protocols.websocket.driver import STEPS, WebSocket
from wshost.protocols.websocket.handshake import Hint
from wshost.protocols.websocket.origin import Origins
from wshost.request import TOKEN
from wshost.results import ConfigurationError

__all__ = ["STEPS", "Options", "WebSocket", "check", "init", "prepare"]

moduleProvides(IPreparedModule, ILinkedModule)

#: Whether plain messages skip the engine, where the option doesn't say; without, they give the same bytes, slower.
FAST_LANE = os.environ.get("WSHOST_FAST_LANE") != "off"


@dataclass(frozen=True, slots=True)
class Options:
    """The module's options, checked. Times are in seconds; 0 turns a heartbeat off."""

    handler: ISessionFactory
    origins: Origins
    hosts: Hosts
    subprotocols: tuple[str, ...]
    engine: type[Engine]
    #: Whether permessage-deflate is accepted when offered.
    compress: bool
    #: Whether messages that we compress may refer back to those before, where the client doesn't mind.
    takeover: bool
    #: The largest message that is read without the engine, in bytes; -1 leaves all to it.
    plain_limit: int
    ping_interval: float
    ping_timeout: float
    close_timeout: float
    message_timeout: float
    #: For who runs the server, when subprotocols are asked for in vain.
    hint: Hint = field(default_factory=Hint)


def prepare(options: Mapping[str, Any]) -> Options:
    """Check the options; see docs/modules.md for the list.

    :raises ConfigurationError: for an option that is unknown, wrong or missing.
    """
    reader = Reader("websocket", options)
    handler = reader.take("handler", None)
    if not ISessionFactory.providedBy(handler):
        raise ConfigurationError(f"websocket: handler is {handler!r}, not an ISessionFactory")
    subprotocols = tuple(reader.strings("subprotocols"))
    for name in subprotocols:
        if not TOKEN.fullmatch(name):
            raise ConfigurationError(f"websocket: {name!r} can't be a subprotocol: no client could offer it")
    max_message_size = reader.integer("max_message_size", 1 << 20, 1)
    # The limit is the message's: what can't be compressed becomes somewhat longer by deflating it.
    max_deflated_size = None if "max_frame_size" in options else 2 * max_message_size + 1_024
    max_frame_size = reader.integer("max_frame_size", max_message_size, 1)
    # More does not fit into a size of C's.
    plain_limit = min(max_message_size, max_frame_size, sys.maxsize)
    prepared = Options(
        handler=handler,
        origins=Origins(reader.strings("origins")),
        hosts=Hosts(reader.strings("hosts")),
        subprotocols=subprotocols,
        engine=engine_class(
            max_message_size=max_message_size,
            max_frame_size=max_frame_size,
            max_deflated_size=max_deflated_size,
            max_fragments=reader.integer("max_fragments", 1_024, 1),
        ),
        compress=reader.boolean("compress", False),
        takeover=not reader.boolean("server_no_context_takeover", False),
        plain_limit=plain_limit if reader.boolean("fast_lane", FAST_LANE) else -1,
        ping_interval=reader.seconds("ping_interval", 20.0, 0.0),
        ping_timeout=reader.seconds("ping_timeout", 20.0),
        close_timeout=reader.seconds("close_timeout", 5.0),
        message_timeout=reader.seconds("message_timeout", 120.0),
    )
    reader.done()
    return prepared


def check(options: Options, chain: Sequence[str], position: int) -> None:  # noqa: ARG001 - the interface has them
    """Make sure that there is a module before this one.

    :raises ConfigurationError: when there is none, as it would have to hand over the request.
    """
    if position == 0:
        raise ConfigurationError("websocket: needs a module before it that hands over a request, such as http")


def init(options: Options, context: IContext) -> WebSocket:
    """Judge the opening handshake and start the handler's session.

    :raises LookupError: when the module before this one has handed over no request.
    """
    if context.request is None:
        raise LookupError("the module before websocket has handed over no request")
    driver = WebSocket(options, context)
    driver.begin()
    return driver
