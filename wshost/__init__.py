"""wshost: a WebSocket host on Twisted. The public names, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wshost import compiled
from wshost.request import ConnectionInfo
from wshost.results import Accept, Outcome, Reject, Sent

if TYPE_CHECKING:
    from wshost.client.asynchronous import connect_async
    from wshost.client.blocking import connect
    from wshost.client.steps import UndeliveredError
    from wshost.connections.ref import Ref
    from wshost.server import publish, service
    from wshost.whereabouts import present, register, track, unregister, untrack, whereis

__version__ = "0.1.0"
__all__ = [
    "Accept",
    "ConnectionInfo",
    "Outcome",
    "Ref",
    "Reject",
    "Sent",
    "UndeliveredError",
    "connect",
    "connect_async",
    "present",
    "publish",
    "register",
    "service",
    "track",
    "unregister",
    "untrack",
    "whereis",
]

compiled.install()

_LAZY = {
    "Ref": "wshost.connections.ref",
    "UndeliveredError": "wshost.client.steps",
    "connect": "wshost.client.blocking",
    "connect_async": "wshost.client.asynchronous",
    "publish": "wshost.server",
    "service": "wshost.server",
    **dict.fromkeys(("present", "register", "track", "unregister", "untrack", "whereis"), "wshost.whereabouts"),
}


def __getattr__(name: str) -> Any:
    # `twistd --help` imports the plugin file of wshost, and so this file: it must not import anything slow.
    if name in _LAZY:
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'wshost' has no attribute {name!r}")
