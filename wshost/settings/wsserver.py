"""The names of the original, wsserver, in wshost's own: of its options, its protocol modules and their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wshost.exact import text
from wshost.results import ConfigurationError
from wshost.settings.kinds import mapping

#: Its options, by which wshost's are. A worker served one connection.
OPTIONS = {"number_of_workers": "max_connections", "protocol_modules_options": "protocol_module"}
#: Its protocol modules, by which wshost's are.
MODULES = {"wsserver_http_protocol": "http", "wsserver_websocket_protocol": "websocket"}

#: What `worker_options` may hold: its example has the one name, its code reads the other.
_WORKER_OPTIONS = {"protocol_modules", "protocol_modules_options"}


def translate(given: Any) -> tuple[dict[str, Any], str | None]:
    """Return the options of a server without `worker_options` and `register`, which only wsserver has.

    :param given: a mapping, or a list of pairs.
    :returns: the options, those of `worker_options` among them; and the service's name, `register`.
    :raises ConfigurationError: when one of these two is wrong, or it is no mapping.
    """
    options = _table("the options", given)
    for key, value in _table("worker_options", options.pop("worker_options", {})).items():
        if key not in _WORKER_OPTIONS:
            raise ConfigurationError(f"worker_options: unknown option {key!r}")
        if key in options:
            raise ConfigurationError(f"worker_options: {key} is given twice")
        options[key] = value
    name = options.pop("register", None)
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(f"register: {name!r} is not a string")
    return options, name if name is None else text(name)


def module(name: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a protocol module's name and its options by wshost's names: `handler_module` is `handler`.

    :raises ConfigurationError: when both are given.
    """
    name, options = MODULES.get(name, name), dict(given)
    if name == "websocket" and "handler_module" in options:
        if "handler" in options:
            raise ConfigurationError("websocket: handler_module is another name for handler: give only one of them")
        options["handler"] = options.pop("handler_module")
    return name, options


def _table(what: str, value: Any) -> dict[str, Any]:
    try:
        return mapping(value)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from None
