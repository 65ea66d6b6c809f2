"""Makes options of the sockets that systemd has passed, and says which nobody uses. Listens on none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from wshost.process.passed_sockets import PassedSocket, PassedSockets
from wshost.results import ConfigurationError

#: The name of a socket for operators.
ADMIN = "admin"
#: The options that say where clients connect.
_WHERE = frozenset({"port", "interface", "listen"})


def options(passed: PassedSockets, given: Collection[str]) -> dict[str, Any]:
    """Return the options by which a command serves what was passed; none if it is told where to listen.

    Clients get all sockets but those with the name `ADMIN`. The first of these is the admin endpoint's.

    :param passed: what systemd has passed.
    :param given: the names of the options that were given.
    :raises ConfigurationError: when systemd's variables are wrong, or one of these is no socket.
    """
    if passed.error is not None:
        raise ConfigurationError(passed.error)
    if not _WHERE.isdisjoint(given):
        return {}
    found: dict[str, Any] = {}
    public = [_endpoint(one) for one in passed.sockets if one.name != ADMIN]
    if public:
        found["listen"] = public
    operators = [_endpoint(one) for one in passed.sockets if one.name == ADMIN]
    if operators and "admin" not in given:
        found["admin"] = operators[0]
    return found


def unused(passed: PassedSockets) -> str | None:
    """Return one line about sockets on which nobody listens; None if there are none."""
    idle = [str(one) for one in passed.sockets if not one.is_used]
    if not idle:
        return None
    return f"systemd has passed sockets that nothing listens on: {', '.join(idle)}"


def _endpoint(one: PassedSocket) -> str:
    if one.domain is None:
        raise ConfigurationError(f"systemd has passed the descriptor {one}, which is no socket")
    return f"systemd:domain={one.domain}:index={one.index}"
