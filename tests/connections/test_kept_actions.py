"""What refs ask for while a module is not ready, or when there is nothing to do for it any more."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface import implementer

from tests.memory import MemoryHost, Peer
from wshost.connections.context import MAX_KEPT
from wshost.connections.shared import Link
from wshost.interfaces import IContext, IPromptDriver, IProtocolModule
from wshost.messages import CALL
from wshost.results import Close


@implementer(IProtocolModule, IPromptDriver)
class Unready:
    """A module, and its driver, that is not ready when it starts; it notes what it is asked, and sends what is sent."""

    def __init__(self) -> None:
        self.context: Any = None
        self.asked: list[tuple[Any, ...]] = []

    def init(self, options: Any, context: IContext) -> Unready:
        self.context = context
        context.keep_actions()
        return self

    def handle_connection_in(self, data: bytes) -> None:
        """Nothing."""

    def handle_action(self, action: str, *args: Any) -> Any:
        self.asked.append((action, *args))
        return args[0] if action == "send" else None

    def handle_connection_close(self, reason: str) -> None:
        """Nothing."""


@pytest.fixture
def module() -> Unready:
    return Unready()


def connect(module: Unready, **limits: Any) -> Peer:
    return MemoryHost(chain=[Link("unready", module, None)], **limits).connect()


def test_actions_are_kept_in_order_until_the_module_releases_them(module: Unready) -> None:
    peer = connect(module)
    ref = peer.connection.ref
    assert [ref.send(b"one "), ref.info("two"), ref.send(b"three")] == [True] * 3
    assert (module.asked, peer.take()) == ([], b"")
    module.context.release_actions()
    assert module.asked == [("send", b"one "), ("info", "two"), ("send", b"three")]
    assert peer.take() == b"one three"


def test_actions_are_asked_at_once_after_the_release(module: Unready) -> None:
    peer = connect(module)
    module.context.release_actions()
    assert peer.connection.ref.send(b"now")
    assert module.asked == [("send", b"now")]


def test_kept_actions_are_limited_in_number(module: Unready) -> None:
    ref = connect(module).connection.ref
    assert [ref.ping() for _ in range(MAX_KEPT + 2)] == [True] * MAX_KEPT + [False] * 2


def test_kept_actions_are_limited_in_size(module: Unready) -> None:
    ref = connect(module, max_output=10_000).connection.ref
    assert ref.send(bytes(10_000 - 2 * CALL))
    assert [ref.send(b"x"), ref.send(b""), ref.ping()] == [False, True, False]


def test_the_servers_drain_and_shutdown_are_not_kept(module: Unready) -> None:
    peer = connect(module)
    peer.connection.drain()
    peer.connection.shut_down()
    assert module.asked == [("drain",), ("shutdown",)]


def test_a_closing_connection_takes_no_writes_and_no_subscriptions(module: Unready) -> None:
    peer = connect(module)
    module.context.perform(Close(b"bye"))
    module.context.write(b"late")
    assert not peer.connection.ref.subscribe("a")
    assert peer.take() == b"bye"


def test_nothing_is_written_behind_a_transition(module: Unready) -> None:
    peer = connect(module)

    def close_and_write() -> None:
        module.context.perform(Close(b"bye"))
        module.context.write(b"late")

    module.context.call_soon(close_and_write)
    assert peer.take() == b"bye"


def test_a_connection_without_topics_may_unsubscribe(module: Unready) -> None:
    assert connect(module).connection.ref.unsubscribe("a")


def test_a_connection_that_goes_leaves_its_topics() -> None:
    module = Unready()
    host = MemoryHost(chain=[Link("unready", module, None)])
    peer = host.connect()
    assert [peer.connection.ref.subscribe(topic) for topic in "ab"] == [True, True]
    assert host.hub.topics.names == ["a", "b"]
    peer.leave()
    assert host.hub.topics.names == []
