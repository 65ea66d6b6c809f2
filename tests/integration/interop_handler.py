"""The handler that clients of the interop tests talk to: says back what it hears, and has its words for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wshost import Reject

#: What the last Close of a client said.
_last_close: list[Any] = []


def init(options: Mapping[str, Any]) -> None:
    if options["connection"].path == "/rejected":
        raise Reject(403, "not you", {"X-Reason": "taste"})


def handle(message: Any, state: None) -> tuple[Any, ...]:
    match message:
        case ("text", "ping me"):
            return ("ping", b"server", state)
        case ("pong", data):
            return ("reply", f"pong: {data.decode()}", state)
        case ("text", "close me"):
            return ("close", 4001, "enough", state)
        case ("text", "last close"):
            return ("reply", json.dumps(_last_close), state)
        case ("text" | "binary", data):
            return ("reply", data, state)
        case ("close", code_and_reason):
            _last_close[:] = code_and_reason
            return ("close", 4003, "you too", state)
    return ("noreply", state)
