"""Translates names of wsserver, the original in Erlang, to wshost's: of options, protocol modules and their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wshost.exact import text
from wshost.results import ConfigurationError
from wshost.settings.kinds import mapping

#: wshost's options by wsserver's names. A worker of wsserver served one connection.
OPTIONS = {"number_of_workers": "max_connections", "protocol_modules_options": "protocol_module"}
#: wshost's protocol modules by wsserver's names.
MODULES = {"wsserver_http_protocol": "http", "wsserver_websocket_protocol": "websocket"}

#: The keys of `worker_options`: wsserver's example has the one name, its code reads the other.
_WORKER_OPTIONS = {"protocol_modules", "protocol_modules_options"}


def translate(given: Any) -> tuple[dict[str, Any], str | None]:
    """Translate the options of a server: `worker_options` and `register`, which only wsserver has, are resolved.

    :param given: a mapping, or a list of pairs.
    :returns: the options, including those in `worker_options`; and the service's name, which `register` gives.
    :raises ConfigurationError: when `worker_options` or `register` is wrong, or `given` is no mapping.
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
    """Return a protocol module's name and its options by wshost's names: `handler_module` becomes `handler`.

    :raises ConfigurationError: when both `handler_module` and `handler` are given.
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
