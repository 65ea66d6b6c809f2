"""A session whose connection goes over to another process: it is frozen in one, and goes on in the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, quiet
from wshost.handlers.adapter import HandlerAdapter
from wshost.handlers.router import Router
from wshost.interfaces import IMovableSession, IMovableSessionFactory

pytestmark = pytest.mark.usefixtures(quiet.__name__)


class Handler:
    """A handler that can move; does as a test says."""

    def __init__(self, **attributes: Any) -> None:
        self.seen: list[Any] = []
        self.thawed: list[Any] = []
        self.__dict__.update(attributes)

    def init(self, options: Mapping[str, Any]) -> str:
        return "state"

    def handle(self, message: Any, state: Any) -> Any:
        self.seen.append((message, state))
        return ("reply", state, state)

    def freeze(self, state: Any) -> bytes:
        return str(state).encode()

    def thaw(self, data: bytes, options: Mapping[str, Any]) -> str:
        self.thawed.append((data, dict(options)))
        return data.decode()


def begin(handler: Any, channel: Channel, **terms: Any) -> Any:
    session: Any = HandlerAdapter(handler, {}, **terms).session(channel, CONNECTION)
    session.open(REF)
    return session


class TestFreeze:
    def test_the_state_is_what_the_handler_says(self) -> None:
        session = begin(Handler(), Channel())
        assert verifyObject(IMovableSession, session)
        assert session.freeze() == b"state"

    @pytest.mark.parametrize("lacking", ["freeze", "thaw"])
    def test_a_handler_without_both_functions_can_not(self, lacking: str) -> None:
        assert begin(Handler(**{lacking: None}), Channel()).freeze() is None

    @pytest.mark.parametrize("freeze", [lambda state: "text", lambda state: dict[str, Any]()["on purpose"]])
    def test_a_freeze_that_fails_is_a_crash_and_the_session_goes_on(self, freeze: Any) -> None:
        channel = Channel()
        session = begin(Handler(freeze=freeze), channel, name="chat")
        channel.take()
        assert session.freeze() is None
        assert channel.crashes == [("chat", "freeze")]
        session.handle_message(("text", "x"))
        assert ("send", "state") in channel.take()

    def test_a_handler_that_is_at_work_can_not(self) -> None:
        working: Deferred[Any] = Deferred()
        channel = Channel()
        session = begin(Handler(handle=lambda message, state: working), channel)
        session.handle_message(("text", "x"))
        assert session.freeze() is None
        working.callback(("noreply", "later"))
        channel.take()
        assert session.freeze() == b"later"

    def test_a_session_with_an_info_can_not(self) -> None:
        channel = Channel()
        session = begin(Handler(), channel)
        session.handle_info("x")
        assert session.freeze() is None
        channel.take()
        assert session.freeze() == b"state"

    def test_a_session_that_has_not_begun_can_not(self) -> None:
        assert HandlerAdapter(Handler(), {}).session(Channel(), CONNECTION).freeze() is None


class TestThaw:
    def test_a_session_goes_on_with_what_the_handler_makes_of_it(self) -> None:
        handler, channel = Handler(), Channel()
        factory = HandlerAdapter(handler, {"size": 3})
        assert verifyObject(IMovableSessionFactory, factory)
        session = factory.thaw(channel, REF, None, b"moved")
        assert handler.thawed == [(b"moved", {"size": 3, "worker": REF})]
        session.handle_message(("text", "x"))
        assert channel.take() == [("send", "moved")]

    def test_a_thaw_that_fails_closes_with_1011_and_nothing_is_handled(self) -> None:
        handler, channel = Handler(thaw=lambda data, options: dict[str, Any]()["on purpose"]), Channel()
        session = HandlerAdapter(handler, {}, name="chat").thaw(channel, REF, None, b"moved")
        assert channel.crashes == [("chat", "thaw")]
        assert channel.take() == [("close", 1011, ""), ("proceed",)]
        session.handle_message(("text", "x"))
        session.connection_lost()
        assert handler.seen == []

    def test_a_router_asks_the_factory_of_the_route(self) -> None:
        handler = Handler()
        router = Router({"/a": HandlerAdapter(handler, {}), "/b": HandlerAdapter(Handler(), {})})
        router.thaw(Channel(), REF, "/a", b"moved")
        assert [data for data, _ in handler.thawed] == [b"moved"]

    @pytest.mark.parametrize("route", ["/c", None])
    def test_a_route_without_a_handler_is_an_error(self, route: str | None) -> None:
        with pytest.raises(LookupError, match=rf"^no handler of the route {route} can go on$"):
            Router({"/a": HandlerAdapter(Handler(), {})}).thaw(Channel(), REF, route, b"moved")

    def test_a_handler_does_not_start_again_whose_connection_is_not_known(self) -> None:
        def crash(message: Any, state: Any) -> Any:
            raise LookupError

        channel = Channel()
        session = HandlerAdapter(Handler(handle=crash), {}, restarts=True).thaw(channel, REF, None, b"moved")
        session.handle_message(("text", "x"))
        assert ("close", 1011, "") in channel.take()
