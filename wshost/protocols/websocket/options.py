"""The options of the module websocket, checked, as its drivers use them. Knows no connection."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wshost.interfaces import ISessionFactory
from wshost.protocols.websocket.browsers import Hosts
from wshost.protocols.websocket.handshake import Hint
from wshost.protocols.websocket.on_demand import Engines
from wshost.protocols.websocket.origin import Origins
from wshost.request import TOKEN
from wshost.results import ConfigurationError
from wshost.settings.options import module_options

# By the option drain-code (RFC 6455 §7.4.1, and IANA's registry of close codes).
_GOOD_BYES = {"1001": (1001, "going away"), "1012": (1012, "service restart")}
#: Seconds for which a peer may save up messages and bytes that it did not send.
BURST = 2
#: A peer that was over its rate for this many seconds in a row is closed with 1008.
MAX_PAUSED = 10


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the module: see `wshost.settings.options.MODULES`. Times are in seconds."""

    handler: ISessionFactory
    origins: Origins
    hosts: Hosts
    subprotocols: tuple[str, ...]
    #: Makes engines; it has the limits on messages, frames and fragments.
    engine: Engines
    compress: bool
    #: Whether messages that we compress may refer back to earlier ones, where the client allows it.
    takeover: bool
    #: The largest message, in bytes, that is read without the engine; -1 leaves all to the engine.
    plain_limit: int
    #: 0: no pings.
    ping_interval: float
    ping_timeout: float
    close_timeout: float
    message_timeout: float
    #: The code and reason of the Close that peers get when the server stops.
    good_bye: tuple[int, str]
    #: What a peer may send a second, messages and bytes; 0 for no limit.
    message_rate: int
    byte_rate: int
    #: Logs once that a client asked for subprotocols and got none.
    hint: Hint = field(default_factory=Hint)


_AS_GIVEN = ("ping_interval", "ping_timeout", "close_timeout", "message_timeout", "message_rate", "byte_rate")


def prepare(options: Mapping[str, Any]) -> Options:
    """Check the module's own mapping of options.

    :raises ConfigurationError: for an option that is unknown, wrong or missing.
    """
    checked = module_options("websocket", options)
    handler = checked["handler"]
    if not ISessionFactory.providedBy(handler):
        raise ConfigurationError(f"websocket: handler: {handler!r} is not an ISessionFactory")
    for name in checked["subprotocols"]:
        if not TOKEN.fullmatch(name):
            raise ConfigurationError(f"websocket: {name!r} can't be a subprotocol: no client could offer it")
    size, frame_size = checked["max_message_size"], checked["max_frame_size"]
    seconds = BURST + MAX_PAUSED
    if 0 < checked["byte_rate"] * seconds < size:
        raise ConfigurationError(
            f"websocket: byte_rate: a message of max_message_size would take more than {seconds} seconds; "
            f"at least {-(-size // seconds)} is needed"
        )
    return Options(
        handler=handler,
        origins=Origins(checked["origins"]),
        hosts=Hosts(checked["hosts"]),
        subprotocols=tuple(checked["subprotocols"]),
        engine=Engines(
            max_message_size=size,
            max_frame_size=frame_size or size,
            # By default the limit on messages, doubled: deflating makes incompressible data somewhat longer.
            max_deflated_size=frame_size or 2 * size + 1_024,
            max_fragments=checked["max_fragments"],
        ),
        compress=checked["compress"],
        takeover=not checked["server_no_context_takeover"],
        # At most `sys.maxsize`, as compiled code keeps it in a C integer.
        plain_limit=min(size, frame_size or size, sys.maxsize) if checked["fast_lane"] else -1,
        good_bye=_GOOD_BYES[checked["drain_code"]],
        **{name: checked[name] for name in _AS_GIVEN},
    )
