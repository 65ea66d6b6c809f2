from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyClass, verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, Handler, in_loop, open_session, quiet, turns
from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import ISessionFactory

pytestmark = pytest.mark.usefixtures(quiet.__name__)


class TestTheContract:
    def test_is_provided(self) -> None:
        verifyClass(ISessionFactory, HandlerAdapter)
        verifyObject(ISessionFactory, HandlerAdapter(Handler(), {}))


class TestSessions:
    def test_have_the_handler_in_common_and_nothing_else(self) -> None:
        adapter = HandlerAdapter(Handler(lambda message, state: ("reply", str(state), state + 1), lambda _: 0), {})
        channels = [Channel(), Channel()]
        sessions = [adapter.session(channel) for channel in channels]
        for session in sessions:
            session.open(CONNECTION, REF)
        for session in [sessions[0], *sessions]:
            session.deliver(("text", ""))
        assert channels[0].take()[1:] == [("send", "0"), ("send", "1")]
        assert channels[1].take()[1:] == [("send", "0")]

    def test_can_not_change_each_others_options(self) -> None:
        given: list[dict[str, Any]] = []
        options = {"room": "one"}
        adapter = HandlerAdapter(Handler(init=lambda options: given.append(dict(options)) or options.clear()), options)  # type: ignore[attr-defined,func-returns-value]
        for _ in range(2):
            adapter.session(Channel()).open(CONNECTION, REF)
        assert given[0] == given[1]
        assert options == {"room": "one"}

    def test_give_init_five_seconds_and_handle_ten_when_not_told_otherwise(self) -> None:
        adapter = HandlerAdapter(Handler(), {})
        assert (adapter.init_timeout, adapter.close_grace) == (5.0, 10.0)


class TestAConnectionCloseThatTakesItsTime:
    @in_loop
    async def test_is_not_lost_with_its_session(self) -> None:
        """Nobody but the adapter knows the task: asyncio's reference is a weak one."""
        done: list[str] = []
        gates: list[weakref.ref[Deferred[Any]]] = []

        async def handle(message: Any, state: Any) -> None:
            gate: Deferred[str] = Deferred()
            gates.append(weakref.ref(gate))
            done.append(await gate)

        adapter = HandlerAdapter(Handler(handle), {})
        session = adapter.session(Channel())
        session.open(CONNECTION, REF)
        session.lost()
        del session
        await turns()
        gc.collect()
        gate = gates[0]()
        assert gate is not None
        gate.callback("saved")
        del gate
        await turns()
        assert done == ["saved"]
        assert adapter._ending == set()

    def test_may_still_fail(self) -> None:
        gate: Deferred[Any] = Deferred()
        channel = Channel()
        open_session(Handler(lambda message, state: gate), channel).lost()
        error = LookupError()
        gate.errback(error)
        assert channel.failures == [("the handler's handle failed", error)]
        assert channel.calls == []
