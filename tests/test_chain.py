from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from wshost import plugins
from wshost.chain import build
from wshost.connections.connection import Link
from wshost.handlers import echo
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.interfaces import IChannel, ISession, ISessionFactory
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket
from wshost.results import ConfigurationError
from wshost.settings.options import OPTIONS, Settings

# Modules of a third party, found by the dotted path to this file.
unprepared = SimpleNamespace(init=lambda options, context: None)
prepared = SimpleNamespace(init=lambda options, context: None, prepare=lambda options: ("prepared", options))
no_module = SimpleNamespace()
twisted_factory = Factory.forProtocol(Protocol)


@implementer(ISessionFactory)
class Sessions:
    """What somebody may have instead of a handler."""

    def session(self, channel: IChannel) -> ISession:
        raise NotImplementedError


def chain(**given: Any) -> tuple[Link, ...]:
    return build(Settings(**given))


def websocket_options(**given: Any) -> websocket.Options:
    options: websocket.Options = chain(**given)[-1].options
    return options


def adapter(**given: Any) -> HandlerAdapter:
    handler = websocket_options(**given).handler
    assert isinstance(handler, HandlerAdapter)
    return handler


def complaint(**given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        chain(**given)
    return str(caught.value)


class TestTheChain:
    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"protocol_module": [("websocket", {})]},
            {"protocol_module": [("http", {}), ("websocket", {})]},
            {"protocol_module": [("wsserver_http_protocol", {}), ("wsserver_websocket_protocol", {})]},
            {"protocol_module": [("wsserver_websocket_protocol", {})]},
        ],
    )
    def test_is_http_and_websocket(self, given: dict[str, Any]) -> None:
        links = chain(handler=echo, **given)
        names: list[tuple[str, Any]] = [(link.name, link.module) for link in links]
        assert names == [("http", http), ("websocket", websocket)]

    def test_is_what_is_asked_for(self) -> None:
        links = chain(protocol_module=[("tests.test_chain.prepared", {"a": 1}), ("tests.test_chain.unprepared", {})])
        assert links == (
            Link("tests.test_chain.prepared", prepared, ("prepared", {"a": 1})),  # type: ignore[arg-type]
            Link("tests.test_chain.unprepared", unprepared, {}),  # type: ignore[arg-type]
        )

    def test_takes_a_twisted_factory_for_a_module(self) -> None:
        ((name, module, options),) = chain(protocol_module=[("tests.test_chain.twisted_factory", {})])
        assert IProtocolFactory.providedBy(twisted_factory)
        assert (name, options) == ("tests.test_chain.twisted_factory", twisted_factory)
        assert module is plugins.find("factory")

    def test_leaves_the_settings_alone(self) -> None:
        pairs: list[tuple[str, Mapping[str, Any]]] = [("websocket", {"handler_module": echo})]
        chain(protocol_module=pairs, compress=True)
        assert pairs == [("websocket", {"handler_module": echo})]

    @pytest.mark.parametrize(
        ("pairs", "expected"),
        [
            ([("nope", {})], "no protocol module is named 'nope'; there are: "),
            ([("nope.nope", {})], "protocol module 'nope.nope' can't be imported: "),
            ([("http", {}), ("wsserver_http_protocol", {})], "the chain has the protocol module 'http' twice"),
            ([("tests.test_chain.no_module", {})], "'tests.test_chain.no_module' is not a protocol module: "),
            ([("http", {"nope": 1})], "http: unknown option: nope"),
            ([("tests.test_chain.twisted_factory", {"nope": 1})], "factory: unknown option: nope"),
        ],
    )
    def test_that_cannot_be_built_is_refused(self, pairs: list[tuple[str, dict[str, Any]]], expected: str) -> None:
        assert complaint(protocol_module=pairs).startswith(expected)


class TestOptionsOfTheServer:
    def test_reach_http(self) -> None:
        assert chain(handler=echo, handshake_timeout=2.5)[0].options == http.prepare({"timeout": 2.5})

    def test_reach_websocket(self) -> None:
        options = websocket_options(
            handler=echo,
            origin=["https://a.example"],
            host=["*.c.example"],
            subprotocol=["b", "a"],
            ping_interval=1.0,
            ping_timeout=2.0,
            close_timeout=3.0,
        )
        assert options.subprotocols == ("b", "a")
        assert options.origins.allows("https://a.example", "b.example")
        assert options.hosts.have("b.c.example")
        assert (options.ping_interval, options.ping_timeout, options.close_timeout) == (1.0, 2.0, 3.0)

    def test_stand_beside_those_of_a_module(self) -> None:
        options = websocket_options(
            handler=echo, ping_interval=1.0, protocol_module=[("websocket", {"ping_timeout": 2})]
        )
        assert (options.ping_interval, options.ping_timeout) == (1.0, 2.0)

    def test_may_not_be_those_of_a_module_again(self) -> None:
        given = complaint(handler=echo, ping_interval=1.0, protocol_module=[("websocket", {"ping_interval": 2})])
        assert given == "ping_interval is given twice: as an option of the server, and of a protocol module"

    @pytest.mark.parametrize(
        ("option", "value", "module"),
        [
            ("handler", echo, "websocket"),
            ("handler_option", {"a": 1}, "websocket"),
            ("route", {"/a": echo}, "websocket"),
            ("init_timeout", 5.0, "websocket"),
            ("max_message_size", 5, "websocket"),
            ("host", ["a.example"], "websocket"),
            ("handshake_timeout", 5.0, "http"),
        ],
    )
    def test_need_the_module_that_they_are_for(self, option: str, value: Any, module: str) -> None:
        given = complaint(protocol_module=[("tests.test_chain.unprepared", {})], **{option: value})
        assert given == f"{option.replace('_', '-')} is for the protocol module {module}: the chain has none"

    def test_of_the_host_do_not(self) -> None:
        assert chain(protocol_module=[("tests.test_chain.unprepared", {})], close_timeout=1.0, max_output=1)

    @pytest.mark.parametrize(
        ("option", "default"),
        [
            ("handshake_timeout", http.prepare({}).timeout),
            ("ping_interval", websocket_options(handler=echo).ping_interval),
            ("ping_timeout", websocket_options(handler=echo).ping_timeout),
            ("close_timeout", websocket_options(handler=echo).close_timeout),
            ("init_timeout", inspect.signature(HandlerAdapter).parameters["init_timeout"].default),
        ],
    )
    def test_have_the_defaults_that_the_help_says(self, option: str, default: float) -> None:
        assert OPTIONS[option].default == f"{default:g}"


class TestTheHandler:
    def test_is_named(self) -> None:
        assert adapter(handler="wshost.handlers.echo").handler is echo

    def test_is_given(self) -> None:
        assert adapter(handler=echo).handler is echo

    @pytest.mark.parametrize("name", ["handler_module", "handler"])
    def test_is_named_in_the_modules_options(self, name: str) -> None:
        assert adapter(protocol_module=[("websocket", {name: "wshost.handlers.echo"})]).handler is echo

    def test_gets_its_options(self) -> None:
        assert adapter(handler=echo).options == {}
        assert adapter(handler=echo, handler_option={"room": "1"}).options == {"room": "1"}

    @pytest.mark.parametrize("name", ["worker", "connection"])
    def test_is_given_some_by_us(self, name: str) -> None:
        expected = f"handler-option {name} would hide what every handler is given by that name"
        assert complaint(handler=echo, handler_option={"room": 1, name: 1}) == expected

    def test_gets_its_time(self) -> None:
        assert adapter(handler=echo, init_timeout=2.5).init_timeout == 2.5

    def test_may_be_a_session_factory(self) -> None:
        sessions = Sessions()
        assert websocket_options(handler=sessions).handler is sessions

    def test_is_needed(self) -> None:
        assert complaint() == "there is no handler: name one with --handler, or with --route for each path"

    @pytest.mark.parametrize(
        ("given", "options"),
        [
            ({"handler": echo}, {"handler_module": echo}),
            ({"handler": echo}, {"handler": echo}),
            ({}, {"handler": echo, "handler_module": echo}),
        ],
    )
    def test_is_one(self, given: dict[str, Any], options: dict[str, Any]) -> None:
        expected = "handler is given twice: as an option of the server, and of a protocol module"
        assert complaint(protocol_module=[("websocket", options)], **given) == expected

    def test_must_be_one(self) -> None:
        assert complaint(handler="wshost.results").startswith("handler 'wshost.results' has no callable init")


class TestRoutes:
    def test_lead_to_handlers_and_are_the_only_paths(self) -> None:
        links = chain(route={"/echo": "wshost.handlers.echo", "/more/*": echo}, handler_option={"room": 1})
        assert links[0].options.paths.match("/echo") == "/echo"
        assert links[0].options.paths.match("/more/1") == "/more/*"
        assert links[0].options.paths.match("/") is None
        router = links[1].options.handler
        assert isinstance(router, Router)
        assert list(router.handlers) == ["/echo", "/more/*"]
        for sessions in router.handlers.values():
            assert isinstance(sessions, HandlerAdapter)
            assert (sessions.handler, sessions.options) == (echo, {"room": 1})

    @pytest.mark.parametrize("options", [{}, {"handler_module": echo}])
    def test_leave_the_other_paths_to_the_handler(self, options: dict[str, Any]) -> None:
        given = {} if options else {"handler": echo}
        links = chain(route={"/echo": echo}, protocol_module=[("websocket", options)], **given)
        assert links[0].options.paths.match("/") == "/*"
        assert list(links[1].options.handler.handlers) == ["/echo", "/*"]

    def test_may_be_without_http(self) -> None:
        """Another module may find the route."""
        links = chain(route={"/echo": echo}, protocol_module=[("tests.test_chain.unprepared", {}), ("websocket", {})])
        assert list(links[1].options.handler.handlers) == ["/echo"]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"route": {"chat": echo}}, "'chat' is not a path pattern"),
            ({"route": {"/chat": "wshost.results"}}, "handler 'wshost.results' has no callable init"),
            ({"route": {"/*": echo}, "handler": echo}, "there are two handlers for the other paths"),
            (
                {"route": {"/a": echo}, "protocol_module": [("http", {"paths": ["/a"]}), ("websocket", {})]},
                "paths is given",
            ),
        ],
    )
    def test_that_are_wrong_are_refused(self, given: dict[str, Any], expected: str) -> None:
        assert expected in complaint(**given)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["http"], "http: no module follows that accepts WebSocket upgrades"),
        (["websocket", "tests.test_chain.unprepared"], "websocket: needs a module before it"),
    ],
)
def test_a_chain_that_can_not_work_is_refused(modules: list[str], expected: str) -> None:
    given = {"handler": echo} if "websocket" in modules else {}
    assert expected in complaint(protocol_module=[(name, {}) for name in modules], **given)


def test_the_users_own_traceback_comes_with_the_complaint(tmp_path: Path) -> None:
    (tmp_path / "broken_handler.py").write_text("1 / 0\n", encoding="ascii")
    with pytest.raises(ConfigurationError, match="ZeroDivisionError") as caught:
        chain(handler=str(tmp_path / "broken_handler.py"))
    assert "1 / 0" in caught.value.traceback_text  # type: ignore[attr-defined]
