from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from wshost import plugins
from wshost.chain import adapters, build, reload_handlers
from wshost.connections.shared import Link
from wshost.handlers import echo
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.handlers.timed import Timings
from wshost.interfaces import IChannel, ISession, ISessionFactory
from wshost.protocols.http import module as http
from wshost.protocols.websocket import module as websocket
from wshost.protocols.websocket.options import Options
from wshost.request import ConnectionInfo
from wshost.results import ConfigurationError
from wshost.settings.options import Settings

# Modules of a third party, found by the dotted path to this file.
unprepared = SimpleNamespace(init=lambda options, context: None)
prepared = SimpleNamespace(init=lambda options, context: None, prepare=lambda options: ("prepared", options))
no_module = SimpleNamespace()
twisted_factory = Factory.forProtocol(Protocol)


@implementer(ISessionFactory)
class Sessions:
    """What somebody may have instead of a handler."""

    def session(self, channel: IChannel, connection: ConnectionInfo) -> ISession:
        raise NotImplementedError


def chain(**given: Any) -> tuple[Link, ...]:
    return build(Settings(**given))


def websocket_options(**given: Any) -> Options:
    options: Options = chain(**given)[-1].options
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
    def test_http_and_websocket_are_the_default(self, given: dict[str, Any]) -> None:
        links = chain(handler=echo, **given)
        names: list[tuple[str, Any]] = [(link.name, link.module) for link in links]
        assert names == [("http", http), ("websocket", websocket)]

    def test_the_chain_has_the_modules_asked_for_in_their_order(self) -> None:
        links = chain(protocol_module=[("tests.test_chain.prepared", {"a": 1}), ("tests.test_chain.unprepared", {})])
        assert links == (
            Link("tests.test_chain.prepared", prepared, ("prepared", {"a": 1})),  # type: ignore[arg-type]
            Link("tests.test_chain.unprepared", unprepared, {}),  # type: ignore[arg-type]
        )

    def test_a_twisted_factory_is_a_module(self) -> None:
        ((name, module, options),) = chain(protocol_module=[("tests.test_chain.twisted_factory", {})])
        assert IProtocolFactory.providedBy(twisted_factory)
        assert (name, options) == ("tests.test_chain.twisted_factory", twisted_factory)
        assert module is plugins.find("factory")

    def test_the_settings_are_left_as_they_were(self) -> None:
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
            ([("http", {"nope": 1})], "http: unknown option 'nope'"),
            ([("tests.test_chain.twisted_factory", {"nope": 1})], "factory: unknown option 'nope'"),
        ],
    )
    def test_a_chain_that_cannot_be_built_is_refused(
        self, pairs: list[tuple[str, dict[str, Any]]], expected: str
    ) -> None:
        assert complaint(protocol_module=pairs).startswith(expected)


class TestOptionsOfTheServer:
    def test_the_handshake_timeout_reaches_http(self) -> None:
        assert chain(handler=echo, handshake_timeout=2.5)[0].options == http.prepare({"timeout": 2.5})

    def test_options_of_websocket_reach_it(self) -> None:
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

    def test_a_module_may_have_further_options_in_its_own_mapping(self) -> None:
        options = websocket_options(
            handler=echo, ping_interval=1.0, protocol_module=[("websocket", {"ping_timeout": 2})]
        )
        assert (options.ping_interval, options.ping_timeout) == (1.0, 2.0)

    def test_an_option_that_the_modules_own_mapping_has_too_is_refused(self) -> None:
        given = complaint(handler=echo, ping_interval=1.0, protocol_module=[("websocket", {"ping_interval": 2})])
        assert given == (
            "ping-interval sets the option ping_interval of the protocol module websocket: give only one of them"
        )

    @pytest.mark.parametrize(
        ("option", "value", "module"),
        [
            ("handler", echo, "websocket"),
            ("handler_option", {"a": 1}, "websocket"),
            ("route", {"/a": echo}, "websocket"),
            ("on_crash", "restart", "websocket"),
            ("when_slow", "conflate", "websocket"),
            ("init_timeout", 5.0, "websocket"),
            ("max_message_size", 5, "websocket"),
            ("host", ["a.example"], "websocket"),
            ("handshake_timeout", 5.0, "http"),
        ],
    )
    def test_an_option_of_a_module_needs_that_module(self, option: str, value: Any, module: str) -> None:
        given = complaint(protocol_module=[("tests.test_chain.unprepared", {})], **{option: value})
        assert given == f"{option.replace('_', '-')} needs the protocol module {module}, which is not in the chain"

    def test_limits_of_connections_need_no_module(self) -> None:
        assert chain(protocol_module=[("tests.test_chain.unprepared", {})], close_timeout=1.0, max_output=1)

    def test_options_that_are_not_given_have_their_defaults(self) -> None:
        options = websocket_options(handler=echo)
        assert chain(handler=echo)[0].options.timeout == Settings.handshake_timeout.default
        assert (options.ping_interval, options.close_timeout) == (
            Settings.ping_interval.default,
            Settings.close_timeout.default,
        )
        assert adapter(handler=echo).terms.init_timeout == Settings.init_timeout.default

    def test_a_handler_adapter_by_itself_has_the_default_init_timeout(self) -> None:
        assert HandlerAdapter(echo, {}).terms.init_timeout == Settings.init_timeout.default


class TestTheHandler:
    def test_the_handler_is_found_by_name(self) -> None:
        assert adapter(handler="wshost.handlers.echo").terms.handler is echo

    def test_the_handler_may_be_an_object(self) -> None:
        assert adapter(handler=echo).terms.handler is echo

    @pytest.mark.parametrize("name", ["handler_module", "handler"])
    def test_the_handler_may_stand_in_the_options_of_websocket(self, name: str) -> None:
        assert adapter(protocol_module=[("websocket", {name: "wshost.handlers.echo"})]).terms.handler is echo

    def test_the_handler_gets_its_options(self) -> None:
        assert adapter(handler=echo).terms.options == {}
        assert adapter(handler=echo, handler_option={"room": "1"}).terms.options == {"room": "1"}

    @pytest.mark.parametrize("name", ["worker", "connection"])
    def test_the_handlers_options_can_not_have_the_names_of_ours(self, name: str) -> None:
        expected = f"handler-option {name} is reserved: wshost gives every handler an option of that name"
        assert complaint(handler=echo, handler_option={"room": 1, name: 1}) == expected

    def test_the_handlers_init_gets_the_init_timeout(self) -> None:
        assert adapter(handler=echo, init_timeout=2.5).terms.init_timeout == 2.5

    @pytest.mark.parametrize(
        ("own", "option", "restarts"),
        [(None, {}, False), (None, {"on_crash": "restart"}, True), ("close", {"on_crash": "restart"}, False)],
    )
    def test_a_handlers_own_on_crash_comes_before_the_option(
        self, own: str | None, option: dict[str, str], restarts: bool
    ) -> None:
        handler = SimpleNamespace(init=echo.init, handle=echo.handle)
        if own is not None:
            handler.on_crash = own
        assert adapter(handler=handler, **option).terms.restarts is restarts

    @pytest.mark.parametrize(
        ("own", "option", "when_slow"),
        [
            (None, {}, "close"),
            (None, {"when_slow": "drop_old"}, "drop_old"),
            ("conflate", {"when_slow": "drop_old"}, "conflate"),
        ],
    )
    def test_a_handlers_own_when_slow_comes_before_the_option(
        self, own: str | None, option: dict[str, str], when_slow: str
    ) -> None:
        handler = SimpleNamespace(init=echo.init, handle=echo.handle)
        if own is not None:
            handler.when_slow = own
        assert adapter(handler=handler, **option).terms.when_slow == when_slow

    def test_a_handler_with_a_wrong_when_slow_is_refused(self) -> None:
        handler = SimpleNamespace(init=echo.init, handle=echo.handle, when_slow="drop")
        with pytest.raises(ConfigurationError) as caught:
            adapter(handler=handler)
        line = "when_slow is 'drop': it must be 'close', 'drop_new', 'drop_old' or 'conflate'"
        assert str(caught.value).endswith(line)

    def test_a_handler_keeps_its_name(self) -> None:
        assert adapter(handler="wshost.handlers.echo").terms.name == "wshost.handlers.echo"
        assert adapter(handler=echo).terms.name == "wshost.handlers.echo"

    def test_what_makes_the_sessions_of_all_handlers_is_found(self) -> None:
        def names(**given: Any) -> list[str]:
            return [found.terms.name for found in adapters(chain(**given))]

        assert names(handler="wshost.handlers.echo") == ["wshost.handlers.echo"]
        assert (
            names(route={"/a": echo, "/b": Sessions()}, handler="wshost.handlers.echo") == ["wshost.handlers.echo"] * 2
        )
        assert names(handler=Sessions()) == []

    def test_a_session_factory_is_taken_as_it_is(self) -> None:
        sessions = Sessions()
        assert websocket_options(handler=sessions).handler is sessions

    def test_a_chain_without_a_handler_is_refused(self) -> None:
        assert complaint() == "there is no handler: name one with --handler, or with --route for each path"

    @pytest.mark.parametrize("name", ["handler_module", "handler"])
    def test_two_handlers_are_refused(self, name: str) -> None:
        expected = "handler sets the option handler of the protocol module websocket: give only one of them"
        assert complaint(protocol_module=[("websocket", {name: echo})], handler=echo) == expected

    def test_what_is_no_handler_is_refused(self) -> None:
        assert complaint(handler="wshost.results").startswith("handler 'wshost.results' has no callable init")


class TestReloadHandlers:
    @pytest.fixture(autouse=True)
    def _handlers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in ("reloaded_one", "reloaded_two"):
            (tmp_path / f"{name}.py").write_text(
                "def init(options): ...\n\n\ndef handle(message, state): ...\n", encoding="ascii"
            )

    def test_handlers_that_have_a_name_are_imported_again_and_others_stay(self) -> None:
        links = chain(
            handler="reloaded_one",
            route={"/two": "reloaded_two", "/one": "reloaded_one", "/echo": "wshost.handlers.echo", "/own": echo},
        )
        router = links[-1].options.handler
        before = {route: one.terms.handler for route, one in router.handlers.items()}
        assert sorted(reload_handlers(links, Settings())) == ["reloaded_one", "reloaded_two"]
        after = {route: one.terms.handler for route, one in router.handlers.items()}
        assert {route for route in before if before[route] is after[route]} == {"/echo", "/own"}
        assert after["/one"] is after["/*"]

    def test_what_new_code_says_of_itself_is_read_once(self, tmp_path: Path) -> None:
        source = """
            class Handler:
                init = handle = print
                read = 0

                @property
                def on_crash(self):
                    self.read += 1
                    return "restart" if self.read == 1 else 1 / 0
        """
        (tmp_path / "reloaded_property.py").write_text(dedent(source), encoding="ascii")
        links = chain(handler="reloaded_property:Handler")
        assert reload_handlers(links, Settings()) == ["reloaded_property:Handler"]
        assert links[-1].options.handler.terms.restarts

    def test_a_session_factory_and_a_chain_without_handlers_have_nothing_to_import(self) -> None:
        assert reload_handlers(chain(handler=Sessions()), Settings()) == []
        assert reload_handlers(chain(protocol_module=[("tests.test_chain.twisted_factory", {})]), Settings()) == []


class TestRoutes:
    def test_each_route_leads_to_its_handler_and_other_paths_are_not_served(self) -> None:
        links = chain(route={"/echo": "wshost.handlers.echo", "/more/*": echo}, handler_option={"room": 1})
        assert links[0].options.paths.match("/echo") == "/echo"
        assert links[0].options.paths.match("/more/1") == "/more/*"
        assert links[0].options.paths.match("/") is None
        router = links[1].options.handler
        assert isinstance(router, Router)
        assert list(router.handlers) == ["/echo", "/more/*"]
        for sessions in router.handlers.values():
            assert isinstance(sessions, HandlerAdapter)
            assert (sessions.terms.handler, sessions.terms.options) == (echo, {"room": 1})

    @pytest.mark.parametrize("options", [{}, {"handler_module": echo}])
    def test_paths_without_a_route_lead_to_the_handler(self, options: dict[str, Any]) -> None:
        given = {} if options else {"handler": echo}
        links = chain(route={"/echo": echo}, protocol_module=[("websocket", options)], **given)
        assert links[0].options.paths.match("/") == "/*"
        assert list(links[1].options.handler.handlers) == ["/echo", "/*"]

    def test_routes_need_no_http(self) -> None:
        """Another module may find the route."""
        links = chain(route={"/echo": echo}, protocol_module=[("tests.test_chain.unprepared", {}), ("websocket", {})])
        assert list(links[1].options.handler.handlers) == ["/echo"]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"route": {"chat": echo}}, "'chat' is not a path pattern"),
            ({"route": {"/chat": "wshost.results"}}, "handler 'wshost.results' has no callable init"),
            (
                {"route": {"/*": echo}, "handler": echo},
                "handler and the route /* are for the same paths: give only one of them",
            ),
            (
                {"route": {"/a": echo}, "protocol_module": [("http", {"paths": ["/a"]}), ("websocket", {})]},
                "route sets the option paths of the protocol module http: give only one of them",
            ),
        ],
    )
    def test_wrong_routes_are_refused(self, given: dict[str, Any], expected: str) -> None:
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


class TestTimings:
    def test_handlers_are_timed_by_their_names(self) -> None:
        timings: Timings = {}
        settings = Settings(handler="wshost.handlers.echo", route={"/a": "wshost.handlers.echo", "/b": Room()})
        router = build(settings, timings)[-1].options.handler
        named = {one.terms.name: one.terms.durations for one in router.handlers.values()}
        assert named == timings
        assert sorted(timings) == [f"{__name__}:Room", "wshost.handlers.echo"]
        assert all(durations is not None for durations in named.values())

    def test_handlers_are_not_timed_otherwise(self) -> None:
        assert adapter(handler=echo).terms.durations is None


class Room:
    init = staticmethod(echo.init)
    handle = staticmethod(echo.handle)
