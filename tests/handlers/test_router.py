from __future__ import annotations

from dataclasses import replace

import pytest
from zope.interface.verify import verifyClass, verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, Handler
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import RoutedSession, Router
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


class TestTheContract:
    def test_is_provided(self, router: Router, channel: Channel) -> None:
        verifyClass(ISessionFactory, Router)
        verifyObject(ISessionFactory, router)
        verifyClass(ISession, RoutedSession)
        session = router.session(channel)
        verifyObject(ISession, session)
        session.open(replace(CONNECTION, route="/news"), REF)
        verifyObject(ISession, session)


class TestARoute:
    @pytest.mark.parametrize(("route", "answer"), [("/chat/*", "chat"), ("/news", "news")])
    def test_leads_to_its_handler(self, route: str, answer: str, router: Router, channel: Channel) -> None:
        session = router.session(channel)
        session.open(replace(CONNECTION, route=route), REF)
        session.deliver(("text", "hello"))
        assert session.info("hello")
        assert channel.take() == [("opened", Accept("state")), ("send", answer), ("send", answer), ("released",)]

    def test_leads_to_the_end_as_well(self, router: Router, chat: Handler, news: Handler, channel: Channel) -> None:
        session = router.session(channel)
        session.open(replace(CONNECTION, route="/news"), REF)
        session.lost()
        assert news.seen == [("connection_close", "state")]
        assert chat.seen == []

    def test_tells_when_its_handler_is_busy(self, router: Router, channel: Channel) -> None:
        session = router.session(channel)
        busy: list[bool] = []
        channel.then["opened"] = lambda: busy.append(session.busy)
        session.open(replace(CONNECTION, route="/news"), REF)
        assert [*busy, session.busy] == [True, False]

    def test_costs_a_message_nothing(self, router: Router, channel: Channel) -> None:
        routed = router.session(channel)
        routed.open(replace(CONNECTION, route="/news"), REF)
        direct = HandlerAdapter(Handler(), {}).session(channel)
        assert routed.deliver.__self__.__class__ is type(direct)  # type: ignore[attr-defined]


class TestNoRoute:
    @pytest.mark.parametrize("route", [None, "/other"])
    def test_is_answered_with_404_and_then_not_at_all(
        self, route: str | None, router: Router, chat: Handler, news: Handler, channel: Channel
    ) -> None:
        session = router.session(channel)
        session.open(replace(CONNECTION, route=route), REF)
        assert channel.take() == [("refused", 404, b"", {})]
        session.deliver(("text", "hello"))
        assert session.info("hello") is False
        assert session.busy is False
        session.lost()
        assert (channel.calls, chat.seen, news.seen) == ([], [], [])
