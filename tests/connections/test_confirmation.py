from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from wshost.connections.confirmation import MOST_SECONDS, Confirmation
from wshost.results import Outcome


class Surroundings:
    """A confirmation and what it needs."""

    def __init__(self, seconds: float = 5) -> None:
        self.clock = Clock()
        self.later: list[Callable[[], None]] = []
        self.drained: Deferred[bool] = Deferred()
        self.forgotten = 0
        self.confirmation = Confirmation(self.wait, self.clock, self.later.append, seconds, self.forget)
        self.fired: list[Any] = []
        self.outcome = self.confirmation.outcome
        self.outcome.addBoth(self.fired.append)

    def wait(self) -> Deferred[bool]:
        return self.drained

    def forget(self, confirmation: Any) -> None:
        self.forgotten += 1

    def turn(self) -> None:
        """The end of the turn."""
        later = self.later[:]
        self.later.clear()
        for call in later:
            call()

    @property
    def quiet(self) -> bool:
        return not self.clock.getDelayedCalls() and self.forgotten == 1


@pytest.mark.parametrize(("left", "outcome"), [(True, Outcome.WRITTEN), (False, Outcome.GONE)])
def test_a_message_in_the_output_waits_until_that_has_left(left: bool, outcome: Outcome) -> None:
    one = Surroundings()
    one.confirmation.decide(True)
    one.turn()
    assert not one.confirmation.settled
    one.drained.callback(left)
    assert one.fired == []
    one.turn()
    assert (one.fired, one.quiet, one.confirmation.settled) == ([outcome], True, True)


def test_output_that_has_left_already_is_known_at_the_end_of_the_turn() -> None:
    one = Surroundings()
    one.drained = succeed(True)
    one.confirmation.decide(True)
    assert not one.confirmation.settled
    one.turn()
    one.turn()
    assert (one.fired, one.quiet) == ([Outcome.WRITTEN], True)


def test_a_message_that_was_dropped_is_told_of_when_no_users_code_runs() -> None:
    one = Surroundings()
    one.confirmation.decide(False)
    assert one.fired == []
    one.turn()
    assert (one.fired, one.quiet) == ([Outcome.OVERFLOW], True)


@pytest.mark.parametrize(("seconds", "after"), [(2, 2), (MOST_SECONDS + 100, MOST_SECONDS)])
def test_after_so_long_nothing_is_known(seconds: float, after: float) -> None:
    one = Surroundings(seconds)
    one.confirmation.decide(True)
    one.turn()
    one.clock.advance(after - 0.01)
    assert not one.confirmation.settled
    one.clock.advance(0.01)
    one.turn()
    assert (one.fired, one.quiet) == ([Outcome.TIMEOUT], True)
    # The wait for output has ended, too.
    assert one.drained.called


def test_only_the_first_outcome_counts() -> None:
    one = Surroundings()
    for outcome in (Outcome.GONE, Outcome.WRITTEN):
        one.confirmation.settle(outcome)
    one.confirmation.decide(True)
    one.confirmation.decide(False)
    one.turn()
    assert (one.fired, one.quiet, one.drained.called) == ([Outcome.GONE], True, False)


def test_when_too_many_wait_nothing_is_known() -> None:
    one = Surroundings()

    def refuse() -> Deferred[bool]:
        raise RuntimeError("too many")

    one.confirmation._drained = refuse
    one.confirmation.decide(True)
    one.turn()
    one.turn()
    assert (one.fired, one.quiet) == ([Outcome.TIMEOUT], True)


class TestCancelled:
    def cancelled(self, *steps: Callable[[Surroundings], object]) -> Surroundings:
        one = Surroundings()
        for step in steps:
            step(one)
        one.outcome.cancel()
        return one

    @pytest.mark.parametrize(
        "steps",
        [
            (),
            (lambda one: one.confirmation.decide(True),),
            (lambda one: one.confirmation.decide(True), Surroundings.turn),
        ],
    )
    def test_nothing_is_left_of_a_wait_that_was_cancelled(self, steps: Any) -> None:
        one = self.cancelled(*steps)
        assert [failure.type for failure in one.fired] == [CancelledError]
        assert one.quiet
        assert one.confirmation.settled
        one.confirmation.decide(True)
        one.confirmation.settle(Outcome.GONE)
        one.turn()
        assert len(one.fired) == 1

    def test_a_wait_may_be_cancelled_when_the_outcome_is_known_and_not_yet_told(self) -> None:
        one = self.cancelled(lambda one: one.confirmation.settle(Outcome.GONE))
        one.turn()
        assert [failure.type for failure in one.fired] == [CancelledError]
        assert not one.clock.getDelayedCalls()

    def test_nothing_keeps_a_confirmation(self) -> None:
        one = self.cancelled(lambda one: one.confirmation.decide(True), Surroundings.turn)
        gone = weakref.ref(one.confirmation)
        del one
        gc.collect()
        assert gone() is None
