"""Figures, their lines and their table."""

from __future__ import annotations

import json

import pytest

from torture.figures import Figure, Outcome, table

HELD, MISSED, FREE = Figure("one", 2, "MB", 2), Figure("two", 2.0004, "s", 2), Figure("three", 12_345)


@pytest.mark.parametrize(("figure", "held"), [(HELD, True), (MISSED, False), (FREE, True)])
def test_a_figure_holds_up_to_its_goal(figure: Figure, held: bool) -> None:
    assert figure.held is held


@pytest.mark.parametrize(
    ("outcome", "held"),
    [
        (Outcome("a", "wshost", [HELD, FREE], 1), True),
        (Outcome("a", "wshost", [HELD, MISSED], 1), False),
        (Outcome("a", "wshost", [HELD], 1, failure="OSError"), False),
        (Outcome("a", "wshost", [], 1, left_out="no atheris"), True),
    ],
)
def test_a_test_holds_if_all_its_goals_do_and_it_did_not_break_off(outcome: Outcome, held: bool) -> None:
    assert outcome.held is held


def test_the_line_of_a_test_is_json() -> None:
    line = Outcome("a test", "wshost", [MISSED], 1.26).line()
    assert json.loads(line) == {
        "test": "a test",
        "server": "wshost",
        "seconds": 1.3,
        "held": False,
        "figures": [{"what": "two", "value": 2.0, "unit": "s", "goal": 2, "held": False}],
    }
    assert "\n" not in line


def test_the_line_says_why_a_test_broke_off_or_was_left_out() -> None:
    assert json.loads(Outcome("a", "wshost", [], 1, failure="E: two\nlines").line())["failure"] == "E: two\nlines"
    assert json.loads(Outcome("a", "wshost", [], 1, left_out="no atheris").line())["left_out"] == "no atheris"


def test_the_table_has_a_row_for_each_figure() -> None:
    outcomes = [
        Outcome("a", "wshost", [HELD, MISSED, FREE], 1),
        Outcome("a", "picows", [MISSED], 1, judged=False),
        Outcome("b", "wshost", [], 1, failure="E: a |\n" + 100 * "long "),
        Outcome("c", "wshost", [], 1, left_out="no atheris"),
    ]
    lines = table(outcomes).splitlines()
    assert len({len(line) for line in lines}) == 1
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[2:5] == [
        ["a", "wshost", "one", "2 MB", "≤ 2 MB", "held"],
        ["a", "wshost", "two", "2 s", "≤ 2 s", "NOT HELD"],
        ["a", "wshost", "three", "12,345", "", ""],
    ]
    # The goals are wshost's.
    assert rows[5] == ["a", "picows", "two", "2 s", "≤ 2 s", ""]
    assert rows[6][2].startswith("E: a / long long")
    assert rows[6][3:] == ["", "", "FAILED"]
    assert rows[7] == ["c", "wshost", "no atheris", "", "", "left out"]
