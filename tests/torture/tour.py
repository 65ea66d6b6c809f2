"""Every kind of step of the random conversations, and faults of the server that they find.

It runs as ``python -m tests.torture.tour FAULT``, in pure Python: compiled classes can't be given a fault.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.handlers.surroundings import without_loop
from torture.peers import PING, PONG, frame
from torture.stateful import machine
from torture.stateful.plans import HUGE, LARGE, Act, How, Plan
from torture.stateful.world import World
from wshost.connections.account import Account
from wshost.connections.outbox import Outbox
from wshost.handlers.session import HandlerSession
from wshost.protocols.websocket.driver import WebSocket
from wshost.topics.subscriptions import Topics

REPLY = Plan(answer="reply")
ACCEPT = Plan(answer="accept")
POLICIES = ("close", "drop_new", "drop_old", "conflate")


@without_loop
def tour(policy: str = "close", compress: bool = False, restarts: bool = False) -> None:
    """Go through every kind of step with four peers."""
    world = World(policy, restarts, {"compress": compress, "server_no_context_takeover": False, "fast_lane": True})
    try:
        _peers(world, compress)
        _server(world)
        _ends(world)
    finally:
        world.finish()


def _peers(world: World, compress: bool) -> None:
    for later in ("", "deferred", "coroutine", ""):
        subscribed = (Act("subscribe", len(world.conversations)), Act("subscribe", len(world.conversations), "b"))
        world.connect(Plan(subscribed, "accept", later=later), compress, cut=20)
        world.turn()
    for one in world.conversations:
        if one.awaited is not None:
            world.fire(one, fails=False)
        world.message(one, Plan(answer="reply", count=2), How(binary=True, pieces=3, ping=True, deflate=True), cut=3)
        world.turn()
        world.control(one, PING, Plan(answer="pong"), cut=0)
        world.control(one, PONG, Plan(answer="ping"), cut=2)
        world.message(one, REPLY, How(), cut=0)
        world.turn()


def _server(world: World) -> None:
    first = world.conversations[0]
    world.act(
        [Act("info", plan=Plan((Act("send"), Act("ping")), "reply", later="deferred")), Act("send"), Act("publish")]
    )
    world.turn()
    world.act([Act("publish"), Act("send"), Act("unsubscribe"), Act("publish"), Act("publish", topic="b")])
    world.reload(ACCEPT)
    world.fire(first, fails=False)
    world.turn()
    world.change_peer(first, reads=False, polite=True)
    world.message(first, Plan(answer="reply", size=LARGE, count=2), How(), cut=0)
    world.turn()
    sends = [Act("send", size=LARGE, key=key) for key in ("k", "l", None, "k")]
    world.act([*sends, Act("publish", topic="b", size=HUGE), Act("drained")])
    world.turn()
    world.change_peer(first, reads=True, polite=True)
    world.turn()
    world.wait(1)


def _ends(world: World) -> None:
    first, second, third, fourth = world.conversations
    world.connect(Plan(answer="reject"), deflate=False, cut=0)
    world.message(first, Plan(answer="close"), How(), cut=0)
    world.peer_closes(second, 3_000, Plan(answer="noreply", later="coroutine"), cut=0)
    world.turn()
    world.fire(second, fails=False)
    world.break_protocol(third, frame(3), 1002)
    world.turn()
    world.connect(ACCEPT, deflate=False, cut=0)
    world.connect(ACCEPT, deflate=False, cut=0)
    world.turn()
    *_, fifth, sixth = world.conversations
    world.message(fifth, Plan(answer="raise"), How(), cut=0)
    world.end(sixth)
    world.turn()
    world.stop()
    world.message(fourth, REPLY, How(), cut=0)
    world.reset(fourth)
    world.turn()


def twice(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any) -> Any:
        method(self, *args)
        return method(self, *args)

    return call


def never(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: None


#: Faults by their names: the class, its method, what becomes of that, what is found, and the policy for slow peers.
FAULTS: dict[str, tuple[type, str, Callable[..., Any], str, str]] = {
    "an answer comes twice": (WebSocket, "send", twice, "came twice", "close"),
    "an answer is lost": (WebSocket, "send", never, "missing", "close"),
    "a pong comes twice": (WebSocket, "pong", twice, "pongs", "close"),
    "a message overtakes another": (WebSocket, "_let_go", never, "out of order", "close"),
    "the end comes twice": (HandlerSession, "_end", twice, "after its last word", "close"),
    "the end is lost": (HandlerSession, "_end", never, "connection_close came 0 times", "close"),
    "new code is not used": (HandlerSession, "_take_over", never, "came to version 1, not to 2", "close"),
    "a topic goes on": (Topics, "unsubscribe", never, "was not due", "close"),
    "a topic is left": (Topics, "forget", never, "left: topics", "close"),
    "a crash is not counted": (Account, "count_crash", never, "crashes", "close"),
    "what is dropped is not counted": (Account, "count_dropped", never, "lost", "drop_old"),
    "an outbox is never emptied": (Outbox, "empty", never, "lost", "drop_old"),
}


def main(name: str, chance: bool) -> int:
    """Go with a fault through every kind of step, or through some by chance. Return the exit status."""
    owner, method, how, _, policy = FAULTS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, how(getattr(owner, method)))
        if not chance:
            tour(policy)
            return 0
        patch.setattr(machine, "STEPS", 8)
        statuses: list[int] = []
        without_loop(lambda: statuses.append(machine.main(20, 1)))()
        return statuses[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "by chance" in sys.argv))
