from __future__ import annotations

from dataclasses import replace

import pytest
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, Handler
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.interfaces import ISession, ISessionFactory
from wshost.results import Accept


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def chat() -> Handler:
    return Handler(lambda message, state: ("reply", "chat", state))


@pytest.fixture
def news() -> Handler:
    return Handler(lambda message, state: ("reply", "news", state))


@pytest.fixture
def router(chat: Handler, news: Handler) -> Router:
    return Router({"/chat/*": HandlerAdapter(chat, {}), "/news": HandlerAdapter(news, {})})


def open_session(router: Router, channel: Channel, route: str | None) -> ISession:
    session = router.session(channel, replace(CONNECTION, route=route))
    session.open(REF)
    return session


def test_a_router_is_a_factory_of_sessions(router: Router, channel: Channel) -> None:
    verifyClass(ISessionFactory, Router)
    verifyObject(ISessionFactory, router)
    for route in (None, "/news"):
        verifyObject(ISession, router.session(channel, replace(CONNECTION, route=route)))


@pytest.mark.parametrize(("route", "answer"), [("/chat/*", "chat"), ("/news", "news")])
def test_the_route_decides_which_handler_answers(route: str, answer: str, router: Router, channel: Channel) -> None:
    session = open_session(router, channel, route)
    session.handle_message(("text", "hello"))
    assert channel.take() == [("accept", Accept("state")), ("send", answer)]


def test_only_the_handler_of_the_route_hears_of_the_connections_end(
    router: Router, chat: Handler, news: Handler, channel: Channel
) -> None:
    open_session(router, channel, "/news").connection_lost()
    assert news.seen == [("connection_close", "state")]
    assert chat.seen == []


def test_the_session_is_the_one_of_the_routes_factory(channel: Channel) -> None:
    """So a message costs nothing more than without routes."""
    session = HandlerAdapter(Handler(), {}).session(channel, CONNECTION)

    @implementer(ISessionFactory)
    class Factory:
        def session(self, *given: object) -> ISession:
            assert given == (channel, connection)
            return session

    connection = replace(CONNECTION, route="/own")
    assert Router({"/own": Factory()}).session(channel, connection) is session


@pytest.mark.parametrize("route", [None, "/other"])
def test_a_connection_without_a_handler_is_rejected_with_404_and_then_ignored(
    route: str | None, router: Router, chat: Handler, news: Handler, channel: Channel
) -> None:
    session = open_session(router, channel, route)
    assert channel.take() == [("reject", 404, b"", {})]
    session.handle_message(("text", "hello"))
    assert session.handle_info("hello") is False
    assert session.busy is False
    session.connection_lost()
    assert (channel.calls, channel.failures, chat.seen, news.seen) == ([], [], [], [])
