"""Builds the chain of protocol modules out of names and options; must not know what a module does with them."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocolFactory

from wshost import plugins
from wshost.connections.shared import Link
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.interfaces import ISessionFactory
from wshost.loading.handlers import load
from wshost.results import ConfigurationError
from wshost.settings.options import Settings

#: The original's names.
_ALIASES = {"wsserver_http_protocol": "http", "wsserver_websocket_protocol": "websocket"}

#: Which option of a server is which option of which module.
_MODULE_OPTIONS = {
    "handshake_timeout": ("http", "timeout"),
    "origin": ("websocket", "origins"),
    "host": ("websocket", "hosts"),
    "subprotocol": ("websocket", "subprotocols"),
    "compress": ("websocket", "compress"),
    "server_no_context_takeover": ("websocket", "server_no_context_takeover"),
    "max_message_size": ("websocket", "max_message_size"),
    "ping_interval": ("websocket", "ping_interval"),
    "ping_timeout": ("websocket", "ping_timeout"),
    "close_timeout": ("websocket", "close_timeout"),
}
#: Those of a server that make one of the module websocket: its handler.
_HANDLER_OPTIONS = ("handler", "handler_option", "route", "init_timeout")

#: What a handler's init is given beside its own options.
_GIVEN = {"connection", "worker"}

_Options = dict[str, Any]


def build(settings: Settings) -> tuple[Link, ...]:
    """Return the chain that the settings ask for: its modules and handlers loaded, and their options checked.

    It is ``http``, ``websocket`` by default. ``websocket`` alone means the same, as it did in wsserver.

    :raises ConfigurationError: when a module or a handler can't be had, an option is wrong, or a module misses another.
    """
    pairs = _pairs(settings)
    modules = {name: plugins.find(name) for name in pairs}
    for option, (name, module_option) in _MODULE_OPTIONS.items():
        value = getattr(settings, option)
        # What makes a connection end in time is of use without WebSockets, too.
        if value is not None and (name in pairs or option != "close_timeout"):
            _put(_demand(pairs, name, option), module_option, value)
    for option in _HANDLER_OPTIONS:
        if getattr(settings, option) is not None:
            _demand(pairs, "websocket", option)
    if "websocket" in pairs:
        _put_handler(pairs, settings)
    chain = tuple(_link(name, modules[name], options) for name, options in pairs.items())
    for position, link in enumerate(chain):
        if hasattr(link.module, "check"):
            link.module.check(link.options, tuple(pairs), position)
    return chain


def _pairs(settings: Settings) -> dict[str, _Options]:
    pairs: dict[str, _Options] = {}
    for given, options in settings.protocol_module or [("websocket", {})]:
        name = _ALIASES.get(given, given)
        if name in pairs:
            raise ConfigurationError(f"the chain has the protocol module {name!r} twice")
        pairs[name] = dict(options)
    return {"http": {}, **pairs} if list(pairs) == ["websocket"] else pairs


def _demand(pairs: dict[str, _Options], name: str, option: str) -> _Options:
    if name not in pairs:
        raise ConfigurationError(f"{option.replace('_', '-')} is for the protocol module {name}: the chain has none")
    return pairs[name]


def _put(options: _Options, name: str, value: Any) -> None:
    if name in options:
        raise ConfigurationError(f"{name} is given twice: as an option of the server, and of a protocol module")
    options[name] = value


def _put_handler(pairs: dict[str, _Options], settings: Settings) -> None:
    websocket = pairs["websocket"]
    for name in _GIVEN.intersection(settings.handler_option or ()):
        raise ConfigurationError(f"handler-option {name} would hide what every handler is given by that name")
    if settings.handler is not None:
        _put(websocket, "handler", settings.handler)
    if "handler_module" in websocket:
        _put(websocket, "handler", websocket.pop("handler_module"))
    routes = dict(settings.route or {})
    if not routes and "handler" not in websocket:
        raise ConfigurationError("there is no handler: name one with --handler, or with --route for each path")
    if routes:
        if "handler" in websocket:
            if "/*" in routes:
                raise ConfigurationError(
                    "there are two handlers for the other paths: handler, and that of the route /*"
                )
            routes["/*"] = websocket["handler"]
        websocket["handler"] = Router({path: _sessions(one, settings) for path, one in routes.items()})
        if "http" in pairs:
            _put(pairs["http"], "paths", list(routes))
    else:
        websocket["handler"] = _sessions(websocket["handler"], settings)


def _sessions(handler: Any, settings: Settings) -> ISessionFactory:
    if ISessionFactory.providedBy(handler):
        return handler
    more = {} if settings.init_timeout is None else {"init_timeout": settings.init_timeout}
    return HandlerAdapter(load(handler), settings.handler_option or {}, **more)


def _link(name: str, module: Any, options: _Options) -> Link:
    if IProtocolFactory.providedBy(module):
        module, options = plugins.find("factory"), {**options, "factory": module}
    if not callable(getattr(module, "init", None)):
        raise ConfigurationError(f"{name!r} is not a protocol module: it has no init")
    prepare = getattr(module, "prepare", None)
    return Link(name, module, options if prepare is None else prepare(options))
