"""The smallest real handler: says back what it hears. Knows its two functions, and that is all a handler needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def init(options: Mapping[str, Any]) -> None:
    """Nothing is to be remembered of a connection: its state is None."""


def handle(message: Any, state: None) -> tuple[Any, ...]:
    """Reply to texts and binaries with themselves."""
    match message:
        case ("text" | "binary", data):
            return ("reply", data, state)
    return ("noreply", state)
