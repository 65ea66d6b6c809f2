from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.task import Clock

from wshost.workers.asks import EVERY, LOOKS, MOST_ASKED, Asks
from wshost.workers.verdicts import ADMITTED, CROWDED


class Scene:
    """A worker's asks, and what became of them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[Mapping[str, Any]] = []
        self.hears = True
        self.decided: list[tuple[int, int | None]] = []
        self.asks = Asks(self.clock, self.send)

    def send(self, head: Mapping[str, Any]) -> bool:
        self.sent.append(head)
        return self.hears

    def ask(self, number: int) -> bool:
        return self.asks.ask(number, f"192.0.2.{number}", partial(self.decide, number))

    def decide(self, number: int, verdict: int | None) -> None:
        self.decided.append((number, verdict))

    def wait(self, looks: int) -> None:
        for _ in range(looks):
            self.clock.advance(EVERY)


def test_the_asks_of_a_turn_go_together_and_each_gets_its_verdict() -> None:
    scene = Scene()
    assert scene.ask(1)
    assert scene.ask(2)
    scene.clock.advance(0)
    assert scene.sent == [{"judge": [[1, "192.0.2.1"], [2, "192.0.2.2"]]}]
    assert scene.ask(3)
    scene.clock.advance(0)
    assert scene.sent[1:] == [{"judge": [[3, "192.0.2.3"]]}]
    scene.asks.answered([(2, CROWDED), (1, ADMITTED)])
    assert scene.decided == [(2, CROWDED), (1, ADMITTED)]
    scene.asks.answered([(2, ADMITTED), (9, ADMITTED)])
    assert scene.decided == [(2, CROWDED), (1, ADMITTED)]


def test_without_an_answer_the_worker_decides_alone_and_later_answers_change_nothing() -> None:
    scene = Scene()
    scene.ask(1)
    scene.wait(LOOKS - 1)
    scene.ask(2)
    assert scene.decided == []
    scene.wait(1)
    assert scene.decided == [(1, None)]
    scene.asks.answered([(1, CROWDED), (2, CROWDED)])
    assert scene.decided == [(1, None), (2, CROWDED)]
    scene.wait(1)
    assert scene.clock.getDelayedCalls() == []


def test_time_in_which_the_worker_stood_still_is_one_look() -> None:
    scene = Scene()
    scene.ask(1)
    scene.clock.advance(1_000)
    assert scene.decided == []
    scene.asks.answered([(1, ADMITTED)])
    assert scene.decided == [(1, ADMITTED)]


def test_what_the_supervisor_can_not_take_is_decided_alone() -> None:
    scene = Scene()
    scene.hears = False
    scene.ask(1)
    assert scene.decided == []
    scene.clock.advance(0)
    assert scene.decided == [(1, None)]


def test_when_the_supervisor_has_gone_all_is_decided_alone() -> None:
    scene = Scene()
    scene.ask(1)
    scene.ask(2)
    scene.asks.give_up()
    assert scene.decided == [(1, None), (2, None)]


def test_a_connection_that_has_ended_is_not_decided_on() -> None:
    scene = Scene()
    for number in (1, 2):
        scene.ask(number)
    scene.asks.forget(1)
    scene.asks.forget(1)
    scene.asks.answered([(1, ADMITTED)])
    scene.wait(LOOKS)
    assert scene.decided == [(2, None)]


def test_a_connection_is_asked_about_once_at_a_time() -> None:
    scene = Scene()
    assert [scene.ask(1), scene.ask(1)] == [True, False]
    scene.clock.advance(0)
    assert scene.sent == [{"judge": [[1, "192.0.2.1"]]}]


def test_only_so_many_answers_are_waited_for() -> None:
    scene = Scene()
    assert all(scene.ask(number) for number in range(MOST_ASKED))
    assert not scene.ask(MOST_ASKED)
    scene.asks.answered([(0, ADMITTED)])
    assert scene.ask(MOST_ASKED)
