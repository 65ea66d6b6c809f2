"""The handler that clients behind a proxy talk to: tells each who it is to the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def init(options: Mapping[str, Any]) -> str:
    connection = options["connection"]
    return f"{connection.peer} {'plain' if connection.tls is None else 'TLS'}"


def handle(message: Any, who: str) -> tuple[Any, ...]:
    return ("reply", who, who) if message[0] == "text" else ("noreply", who)
