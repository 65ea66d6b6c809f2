"""The model agrees with the server, and finds what is not as promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.handlers.surroundings import without_loop
from tests.torture.tour import FAULTS, tour
from torture.figures import Figure
from torture.server import Target
from torture.stateful import machine, row

ROOT = Path(__file__).parent.parent.parent
POLICIES = ("close", "drop_new", "drop_old", "conflate")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_model_agrees_with_the_server(policy: str, compress: bool) -> None:
    tour(policy, compress)


def test_the_model_agrees_with_the_server_when_handlers_start_again() -> None:
    tour(restarts=True)


def planted(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a fault."""
    return subprocess.run(
        [sys.executable, "-m", "tests.torture.tour", *arguments],
        cwd=ROOT,
        env={**os.environ, "WSHOST_PURE": "1", "WSHOST_COMPILED": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_server_is_found(fault: str) -> None:
    ended = planted(fault)
    assert ended.returncode == 1
    assert FAULTS[fault][3] in ended.stderr.rpartition("AssertionError")[2]


@without_loop
def run_machine(examples: int, expected: int) -> None:
    assert machine.main(examples, 1) == expected


def test_steps_by_chance_find_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    run_machine(3, 0)
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] >= 3
    assert found["steps"] > 50
    assert found["differences"] == 0


def test_steps_by_chance_find_a_fault_and_the_fewest_steps_that_show_it() -> None:
    ended = planted("the end is lost", "by chance")
    assert ended.returncode == 1
    assert "connection_close came 0 times" in ended.stderr
    steps = [line for line in ended.stderr.splitlines() if line.startswith("state.")]
    assert [step.partition("(")[0] for step in steps] == ["state.begin", "state.connect", "state.teardown"]
    assert json.loads(ended.stdout.splitlines()[-1])["differences"] == 1


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


def test_the_row_makes_many_conversations_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], directory: str) -> tuple[int, str]:
        asked.append(command[3:])
        return 0, json.dumps({"examples": int(command[3]), "steps": 10, "differences": 0})

    monkeypatch.setattr(row, "run", run)
    found = list(row.converse(2 * row.BATCH + 1, seed=7)(Target("wshost")))
    assert [figure.value for figure in found] == [2 * row.BATCH + 1, 30, 0]
    assert asked == [[str(row.BATCH), "7"], [str(row.BATCH), str(row.BATCH + 7)], ["1", str(2 * row.BATCH + 7)]]


@pytest.mark.parametrize(("said", "shown"), [("", "it ended with status 2"), ("No module\n", "No module")])
def test_the_row_says_why_its_command_has_not_run(said: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=shown):
        next(figures(monkeypatch, 2, said))


def test_the_command_of_the_row_runs() -> None:
    found = {figure.what: figure.value for figure in row.converse(1, seed=1)(Target("wshost"))}
    assert found["steps"] > 0
    assert found["differences"] == 0
