from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyClass, verifyObject

from tests.handlers.surroundings import CONNECTION, REF, Channel, Handler
from wshost.handlers.adapter import HandlerAdapter
from wshost.interfaces import ISessionFactory


def test_an_adapter_is_a_factory_of_sessions() -> None:
    verifyClass(ISessionFactory, HandlerAdapter)
    verifyObject(ISessionFactory, HandlerAdapter(Handler(), {}))


def test_sessions_share_the_handler_and_each_has_its_own_state() -> None:
    adapter = HandlerAdapter(Handler(lambda message, state: ("reply", str(state), state + 1), lambda _: 0), {})
    channels = [Channel(), Channel()]
    sessions = [adapter.session(channel, CONNECTION) for channel in channels]
    for session in sessions:
        session.open(REF)
    for session in [sessions[0], *sessions]:
        session.handle_message(("text", ""))
    assert channels[0].take()[1:] == [("send", "0"), ("send", "1")]
    assert channels[1].take()[1:] == [("send", "0")]


def test_an_init_can_not_change_the_options_of_the_next() -> None:
    given: list[dict[str, Any]] = []
    options = {"room": "one"}

    def init(options: Any) -> None:
        given.append(dict(options))
        options.clear()

    adapter = HandlerAdapter(Handler(init=init), options)
    for _ in range(2):
        adapter.session(Channel(), CONNECTION).open(REF)
    assert given[0] == given[1]
    assert options == {"room": "one"}


def test_init_has_five_seconds_and_handle_ten_more_by_default() -> None:
    terms = HandlerAdapter(Handler(), {}).terms
    assert (terms.init_timeout, terms.close_grace) == (5.0, 10.0)


def test_a_channel_is_told_of_a_policy_before_init_unless_it_is_the_default() -> None:
    for when_slow, told in (("close", []), ("conflate", [("use_policy", "conflate")])):
        channel = Channel()
        HandlerAdapter(Handler(), {}, when_slow=when_slow).session(channel, CONNECTION)
        assert channel.take() == told
