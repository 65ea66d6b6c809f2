from __future__ import annotations

from typing import Any

import pytest

from wshost.cluster.facts import Claim
from wshost.cluster.ledger import PIECE, Ledger


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_new_ledger_has_nothing_to_tell(ledger: Ledger) -> None:
    assert (ledger.version, ledger.has_changed, ledger.take(), list(ledger.copy())) == (0, False, [], [[]])


def test_changes_of_one_turn_are_one_step(ledger: Ledger) -> None:
    ledger.put(("n", "ann"), Claim(1.0, "ref"))
    ledger.put(("c", "ref"), None)
    assert ledger.has_changed
    assert ledger.take() == [(0, [(True, "n", "ann", Claim(1.0, "ref")), (True, "c", "ref", None)])]
    assert (ledger.version, ledger.has_changed, ledger.take()) == (1, False, [])


def test_only_the_last_change_of_a_fact_is_told(ledger: Ledger) -> None:
    ledger.put(("p", "key"), b"1")
    ledger.put(("p", "key"), b"2")
    ledger.put(("c", "ref"), None)
    ledger.remove(("c", "ref"), "it ended")
    assert ledger.take() == [(0, [(True, "p", "key", b"2"), (False, "c", "ref", "it ended")])]
    assert ledger.facts == {("p", "key"): b"2"}


def test_the_end_of_what_is_no_fact_is_no_change(ledger: Ledger) -> None:
    ledger.remove(("n", "ann"))
    assert not ledger.has_changed


def test_many_changes_are_several_steps_of_a_limited_size(ledger: Ledger) -> None:
    for number in range(50):
        ledger.put(("p", f"key {number}"), bytes(500))
    steps = ledger.take()
    assert [before for before, _ in steps] == list(range(len(steps)))
    assert ledger.version == len(steps) > 2
    assert all(sum(len(value) for *_, value in changes) <= PIECE for _, changes in steps)
    assert sum(len(changes) for _, changes in steps) == 50


def test_a_copy_has_all_facts_in_pieces_as_they_are_then(ledger: Ledger) -> None:
    for number in range(30):
        ledger.put(("p", f"key {number}"), bytes(500))
    copy = ledger.copy()
    first = next(copy)
    ledger.remove(("p", "key 28"))
    ledger.put(("p", "key 29"), b"new")
    ledger.put(("p", "key 30"), b"later")
    rest: list[Any] = [change for piece in copy for change in piece]
    facts = {key: value for _, _, key, value in [*first, *rest]}
    assert facts == {**{f"key {number}": bytes(500) for number in range(28)}, "key 29": b"new"}
