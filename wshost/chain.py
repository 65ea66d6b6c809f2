"""Builds the chain of protocol modules from names and options. Must not know what a module does with its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from twisted.internet.interfaces import IProtocolFactory

from wshost import plugins
from wshost.connections.shared import Link
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.handlers.timed import Durations, Timings
from wshost.interfaces import ISessionFactory
from wshost.loading.afresh import is_fixed, load_afresh
from wshost.loading.handlers import choice, load, name_of, restarts
from wshost.results import ConfigurationError
from wshost.settings import wsserver
from wshost.settings.options import MODULES, WHEN_SLOW, Option, Settings

#: Options for the handler of the module websocket.
_HANDLER_OPTIONS = (
    Settings.handler_option,
    Settings.route,
    Settings.on_crash,
    Settings.when_slow,
    Settings.init_timeout,
)
#: Options that wshost itself gives to a handler's init.
_RESERVED = {"connection", "worker"}

_Chain = dict[str, dict[str, Any]]


def build(settings: Settings, timings: Timings | None = None) -> tuple[Link, ...]:
    """Return the chain that the settings ask for. This loads modules and handlers, and checks their options.

    ``websocket`` alone means ``http``, ``websocket``, as in wsserver.

    :param timings: times the handlers; None: they are not timed.
    :raises ConfigurationError: when a module or a handler can't be loaded, an option is wrong, or a module lacks one
        that it needs.
    """
    chain = _named(settings)
    modules = {name: plugins.find(name) for name in chain}
    for name, known in MODULES.items():
        for module_option, option in known.items():
            # close-timeout also limits how long connections close, so it may be given without websocket.
            if option.name in settings.given and (name in chain or option is not Settings.close_timeout):
                _put(chain, name, module_option, settings.given[option.name], option)
    for option in _HANDLER_OPTIONS:
        if option.name in settings.given:
            _demand(chain, "websocket", option)
    if "websocket" in chain:
        _put_handler(chain, settings, timings)
    links = tuple(_link(name, modules[name], options) for name, options in chain.items())
    for position, link in enumerate(links):
        if hasattr(link.module, "check"):
            link.module.check(link.options, tuple(chain), position)
    return links


class Made(NamedTuple):
    """A chain, and what times its handlers; None: they are not timed."""

    links: tuple[Link, ...]
    timings: Timings | None


def make(settings: Settings) -> Made:
    """Return the chain that the settings ask for; its handlers are timed if there is an endpoint for operators.

    :raises ConfigurationError: as `build`.
    """
    timings = None if settings.admin is None else Timings()
    return Made(build(settings, timings), timings)


def adapters(links: Sequence[Link]) -> list[HandlerAdapter]:
    """Return what makes the sessions of the handlers in a chain; without factories that are users' own."""
    factories = [link.options.handler for link in links if link.name == "websocket"]
    routers = [factory for factory in factories if isinstance(factory, Router)]
    factories += [factory for router in routers for factory in router.handlers.values()]
    return [factory for factory in factories if isinstance(factory, HandlerAdapter)]


def reload_handlers(links: Sequence[Link], settings: Settings) -> list[str]:
    """Import the handlers of a chain once more, for new sessions; those that were given as objects stay.

    :param settings: say what is not said by attributes of the handlers.
    :returns: their names, each once. wshost's own handlers are not among them.
    :raises ConfigurationError: when one of them can't be imported. All stay as they are.
    """
    found = {one: one.source for one in adapters(links) if one.source is not None and not is_fixed(one.source)}
    # Read once, before anything is renewed: attributes may be properties.
    said: list[dict[str, Any]] = []
    handlers = load_afresh([*found.values()], lambda name, handler: said.append(_said(settings, name, handler)))
    for adapter, handler, words in zip(found, handlers, said, strict=True):
        adapter.renew(handler, **words)
    return list(dict.fromkeys(found.values()))


def _named(settings: Settings) -> _Chain:
    """Return each module's own options, by the module's name, in the order of the chain."""
    chain: _Chain = {}
    for given in settings.protocol_module or Settings.protocol_module.default:
        name, options = wsserver.module(*given)
        if name in chain:
            raise ConfigurationError(f"the chain has the protocol module {name!r} twice")
        chain[name] = options
    return {"http": {}, **chain} if list(chain) == ["websocket"] else chain


def _demand(chain: _Chain, name: str, by: Option[Any]) -> dict[str, Any]:
    if name not in chain:
        raise ConfigurationError(f"{by.dashed} needs the protocol module {name}, which is not in the chain")
    return chain[name]


def _put(chain: _Chain, name: str, module_option: str, value: Any, by: Option[Any]) -> None:
    """Set an option of a module to the value of the server's option `by`."""
    options = _demand(chain, name, by)
    if module_option in options:
        raise ConfigurationError(
            f"{by.dashed} sets the option {module_option} of the protocol module {name}: give only one of them"
        )
    options[module_option] = value


def _put_handler(chain: _Chain, settings: Settings, timings: Timings | None) -> None:
    for name in _RESERVED.intersection(settings.handler_option):
        raise ConfigurationError(
            f"handler-option {name} is reserved: wshost gives every handler an option of that name"
        )
    websocket = chain["websocket"]
    routes = dict(settings.route)
    if not routes and "handler" not in websocket:
        raise ConfigurationError("there is no handler: name one with --handler, or with --route for each path")
    if routes:
        if "handler" in websocket:
            if "/*" in routes:
                raise ConfigurationError("handler and the route /* are for the same paths: give only one of them")
            routes["/*"] = websocket["handler"]
        websocket["handler"] = Router({path: _sessions(one, settings, timings) for path, one in routes.items()})
        if "http" in chain:
            _put(chain, "http", "paths", list(routes), Settings.route)
    else:
        websocket["handler"] = _sessions(websocket["handler"], settings, timings)


def _sessions(handler: Any, settings: Settings, timings: Timings | None) -> ISessionFactory:
    if ISessionFactory.providedBy(handler):
        return handler
    found, name = load(handler), name_of(handler)
    return HandlerAdapter(
        found,
        dict(settings.handler_option),
        init_timeout=settings.init_timeout,
        name=name,
        durations=None if timings is None else timings.setdefault(name, Durations()),
        source=handler if isinstance(handler, str) else None,
        **_said(settings, handler, found),
    )


def _said(settings: Settings, handler: Any, found: Any) -> dict[str, Any]:
    """Return what a handler's attributes say of crashes and slow peers, or else the options.

    :raises ConfigurationError: when an attribute has none of the values that it may have.
    """
    return {
        "restarts": restarts(handler, found, settings.on_crash),
        "when_slow": choice(handler, found, "when_slow", WHEN_SLOW, settings.when_slow),
    }


def _link(name: str, module: Any, options: dict[str, Any]) -> Link:
    if IProtocolFactory.providedBy(module):
        module, options = plugins.find("factory"), {**options, "factory": module}
    if not callable(getattr(module, "init", None)):
        raise ConfigurationError(f"{name!r} is not a protocol module: it has no init")
    prepare = getattr(module, "prepare", None)
    return Link(name, module, options if prepare is None else prepare(options))
