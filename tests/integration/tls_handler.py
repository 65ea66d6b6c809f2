"""The handler that clients of the TLS tests talk to: tells each who it is, and how many are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_count = 0


def init(options: Mapping[str, Any]) -> str:
    global _count  # noqa: PLW0603 - for the whole server
    _count += 1
    tls = options["connection"].tls
    if tls is None:
        return "no TLS"
    if tls.peer_certificate is None:
        return "no certificate"
    return str(tls.peer_certificate.to_cryptography().subject.rfc4514_string())


def handle(message: Any, who: str) -> tuple[Any, ...]:
    global _count  # noqa: PLW0603
    match message:
        case ("text", "who am I"):
            return ("reply", who, who)
        case ("text", "how many are we"):
            return ("reply", str(_count), who)
        case ("text", "close me"):
            return ("close", 4001, "enough", who)
        case "connection_close":
            _count -= 1
    return ("noreply", who)
