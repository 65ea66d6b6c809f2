"""A wshost handler that sends each message to all: by a topic, or by a loop in old versions without topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wshost

_publish = getattr(wshost, "publish", None)
_everybody: set[Any] = set()


def init(options: Mapping[str, Any]) -> Any:
    """Subscribe the connection, or remember its reference; return the reference as its state."""
    worker = options["worker"]
    if _publish is not None:
        worker.subscribe("all")
    else:
        _everybody.add(worker)
    return worker


def handle(message: Any, state: Any) -> tuple[Any, ...]:
    """Send texts to all."""
    match message:
        case ("text", data):
            if _publish is not None:
                _publish("all", data)
            else:
                for one in _everybody:
                    one.send(data)
        case "connection_close":
            _everybody.discard(state)
    return ("noreply", state)
