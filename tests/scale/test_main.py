"""The command: which rows it runs, what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator

import pytest

from benchmarks.building import UnavailableError
from scale import __main__ as command
from scale import rows as listed
from scale.rows import Row
from torture.figures import Figure
from torture.server import Target

NUMBERS = (signal.SIGINT, signal.SIGTERM)

Run = Callable[[Target], Iterator[Figure]]


@pytest.fixture(autouse=True)
def surroundings() -> Iterator[None]:
    """The command changes its process."""
    cores, files = os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    handlers = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    os.sched_setaffinity(0, cores)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    for number in NUMBERS:
        signal.signal(number, handlers[number])


def held(target: Target) -> Iterator[Figure]:
    yield Figure("one", 1, "", 1)


def missed(target: Target) -> Iterator[Figure]:
    yield Figure("one", 1, "", 0)


def broken(target: Target) -> Iterator[Figure]:
    yield from held(target)
    raise OSError("too bad")


def impossible(target: Target) -> Iterator[Figure]:
    yield from ()
    raise UnavailableError("not here")


def interrupted(target: Target) -> Iterator[Figure]:
    yield from ()
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*rows: Run, argv: tuple[str, ...] = ()) -> int:
        monkeypatch.setattr(command, "rows", lambda long: [Row(row.__name__, row) for row in rows])
        return command.main(argv)

    return run


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([held], 0),
        ([held, missed], 1),
        ([broken, held], 1),
        ([impossible, held], 0),
        ([held, interrupted, held], 130),
    ],
)
def test_the_exit_status_says_whether_all_goals_are_held(run: Callable[..., int], rows: list[Run], status: int) -> None:
    assert run(*rows) == status


def test_each_row_prints_a_line_and_a_table_comes_in_the_end(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run(broken, impossible, held)
    *lines, table = capsys.readouterr().out.split("\n", 3)
    found = [json.loads(line) for line in lines]
    assert [one["test"] for one in found] == ["broken", "impossible", "held"]
    assert found[0]["failure"] == "OSError: too bad"
    assert found[1]["left_out"] == "not here"
    assert [line.split("|")[1].strip() for line in table.strip().splitlines()[2:]] == [
        "broken",
        "broken",
        "impossible",
        "held",
    ]


def test_an_interrupted_run_shows_what_it_has(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    run(held, interrupted, held)
    said = capsys.readouterr()
    assert said.out.count('"test": "held"') == 1
    assert said.err == "interrupted: later rows are missing\n"


def test_only_rows_that_are_named_run(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(held, missed, argv=("--only", "^h")) == 0
    assert "missed" not in capsys.readouterr().out


def test_the_names_of_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [row.name for row in listed.rows(long=False)]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--only", "("], "--only (: missing )"),
        (["--only", "nothing"], "--only nothing: there is no such row; --list shows them"),
        (["--faster"], "unrecognized arguments: --faster"),
    ],
)
def test_wrong_options_are_said_in_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(argv)
    assert exited.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_names_are_unique_and_the_same_in_the_long_form() -> None:
    names = [row.name for row in listed.rows(long=False)]
    assert len(set(names)) == len(names)
    assert names == [row.name for row in listed.rows(long=True)]
