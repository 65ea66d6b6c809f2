"""The smallest real handler: it sends each message back. It has two functions, which is all that a handler needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def init(options: Mapping[str, Any]) -> None:
    """Return None as the connection's state: nothing need be remembered."""


def handle(message: Any, state: None) -> tuple[Any, ...]:
    """Reply to texts and binaries with themselves."""
    match message:
        case ("text" | "binary", data):
            return ("reply", data, state)
    return ("noreply", state)
