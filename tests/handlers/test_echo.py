from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.handlers.surroundings import Channel, open_session
from wshost.handlers import echo
from wshost.interfaces import IHandler
from wshost.loading.handlers import load


def test_echo_is_a_handler() -> None:
    # It need not say so.
    verifyObject(IHandler, echo, tentative=True)
    assert load("wshost.handlers.echo") is echo


@pytest.mark.parametrize("message", [("text", "hello"), ("text", ""), ("binary", b"\x00\xff")])
def test_echo_replies_with_each_message(message: tuple[str, Any]) -> None:
    channel = Channel()
    open_session(echo, channel).handle_message(message)
    assert channel.take() == [("send", message[1])]


@pytest.mark.parametrize("message", [("ping", b""), ("pong", b"data"), ("close", (1000, "bye")), ("info", "hello")])
def test_echo_does_not_reply_to_control_frames_and_infos(message: Any) -> None:
    channel = Channel()
    session = open_session(echo, channel)
    session.handle_message(message)
    session.connection_lost()
    assert (channel.calls, channel.failures) == ([], [])
