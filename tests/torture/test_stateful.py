"""The model agrees with the server, and finds what is not as promised."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.handlers.surroundings import without_loop
from torture.figures import Figure
from torture.peers import PING, PONG, frame
from torture.server import Target
from torture.stateful import machine, row
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
def tour(policy: str = "close", compress: bool = False) -> None:
    """Go through every kind of step with four peers."""
    world = World(policy, {"compress": compress, "server_no_context_takeover": False, "fast_lane": True})
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


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_model_agrees_with_the_server(policy: str, compress: bool) -> None:
    tour(policy, compress)


def twice(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any) -> Any:
        method(self, *args)
        return method(self, *args)

    return call


def never(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: None


FAULTS: list[tuple[type, str, Callable[..., Any], str, str]] = [
    (WebSocket, "send", twice, "came twice", "close"),
    (WebSocket, "send", never, "missing", "close"),
    (WebSocket, "pong", twice, "pongs", "close"),
    (WebSocket, "_let_go_first", never, "out of order", "close"),
    (HandlerSession, "_end", twice, "after its last word", "close"),
    (HandlerSession, "_end", never, "connection_close came 0 times", "close"),
    (HandlerSession, "_take_over", never, "came to version 1, not to 2", "close"),
    (Topics, "unsubscribe", never, "was not due", "close"),
    (Topics, "forget", never, "left: topics", "close"),
    (Account, "count_crash", never, "crashes", "close"),
    (Account, "count_dropped", never, "lost", "drop_old"),
    (Outbox, "empty", never, "lost", "drop_old"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_server_is_found(
    fault: tuple[type, str, Callable[..., Any], str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, how, found, policy = fault
    monkeypatch.setattr(owner, name, how(getattr(owner, name)))
    with pytest.raises(AssertionError, match=found):
        tour(policy)


@without_loop
def run_machine(examples: int, expected: int) -> None:
    assert machine.main(examples, 1) == expected


def test_steps_by_chance_find_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    run_machine(3, 0)
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] >= 3
    assert found["steps"] > 50
    assert found["differences"] == 0


def test_steps_by_chance_find_a_fault_and_the_fewest_steps_that_show_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HandlerSession, "_end", never(HandlerSession._end))
    monkeypatch.setattr(machine, "STEPS", 8)
    run_machine(20, 1)
    said = capsys.readouterr()
    assert "connection_close came 0 times" in said.err
    steps = [line for line in said.err.splitlines() if line.startswith("state.")]
    assert [step.partition("(")[0] for step in steps] == ["state.begin", "state.connect", "state.teardown"]
    assert json.loads(said.out)["differences"] == 1


def figures(monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> Iterator[Figure]:
    """Return the figures of the row, if its command ends so."""
    asked: list[list[str]] = []

    def run(command: list[str], directory: str) -> tuple[int, str]:
        asked.append(command)
        return status, said

    monkeypatch.setattr(row, "run", run)
    yield from row.converse(7)(Target("wshost"))
    assert asked[0][:4] == [sys.executable, "-m", "torture.stateful.machine", "7"]


COUNTS = {"examples": 7, "steps": 200, "differences": 0}


def test_the_row_has_the_figures_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(figures(monkeypatch, 0, f"a warning\n{json.dumps(COUNTS)}\n"))
    assert [(figure.what, figure.value) for figure in found] == [
        ("conversations", 7),
        ("steps", 200),
        ("differences", 0),
    ]
    assert all(figure.held for figure in found)


def test_the_row_shows_the_steps_to_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = figures(monkeypatch, 1, f"state.stop()\n{json.dumps({**COUNTS, 'differences': 1})}\n")
    assert [next(rest).held for _ in range(3)] == [True, True, False]
    with pytest.raises(RuntimeError, match=r"state\.stop\(\)"):
        next(rest)


@pytest.mark.parametrize(("said", "shown"), [("", "it ended with status 2"), ("No module\n", "No module")])
def test_the_row_says_why_its_command_has_not_run(said: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=shown):
        next(figures(monkeypatch, 2, said))


def test_the_command_of_the_row_runs() -> None:
    found = {figure.what: figure.value for figure in row.converse(1)(Target("wshost"))}
    assert found["steps"] > 0
    assert found["differences"] == 0
