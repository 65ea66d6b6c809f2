"""The options of the module http, checked, as its drivers use them. Knows no connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wshost.protocols.http.routes import Routes, is_path
from wshost.results import ConfigurationError
from wshost.settings.options import module_options

#: The options that name other modules of the chain.
NAMES = ("upgrade", "otherwise")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of this module, checked: see `wshost.settings.options.MODULES`. Sizes are in bytes, times in seconds.

    A request is a WebSocket upgrade when it is a GET of HTTP/1.1 with ``Upgrade: websocket`` and
    ``Connection: upgrade`` (RFC 6455 §4.2.1). The next module checks the rest of the handshake.
    """

    #: None: all paths are served.
    paths: Routes | None
    #: Answers 200, whatever the other options say of it. None: no path does.
    health_path: str | None
    #: The module that gets WebSocket upgrades. None: the next module of the chain.
    upgrade: str | None
    #: The module that gets other requests, from their first byte on. It keeps the connection, also for later upgrades.
    otherwise: str | None
    max_head_size: int
    max_headers: int
    timeout: float


def prepare(options: Mapping[str, Any]) -> Options:
    """Check the module's own mapping of options.

    :raises wshost.results.ConfigurationError: for an unknown name or a wrong value.
    """
    # An empty name means the same as no name.
    given = {key: value for key, value in options.items() if key not in NAMES or value not in ("", None)}
    checked = module_options("http", given)
    if checked["paths"] is not None:
        try:
            checked["paths"] = Routes(checked["paths"])
        except ConfigurationError as error:
            raise ConfigurationError(f"http: paths: {error}") from None
    health_path = checked["health_path"]
    if health_path is not None and not is_path(health_path):
        raise ConfigurationError(f"http: health_path: {health_path!r} is not a path that requests have: write /healthz")
    if health_path is not None and checked["paths"] is not None and checked["paths"].match(health_path) == health_path:
        raise ConfigurationError(f"http: health_path: {health_path!r} is a route, too")
    return Options(**checked)
