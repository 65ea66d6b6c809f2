"""The command: which tests it runs, what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.building import UnavailableError
from torture import __main__ as command
from torture import tests as listed
from torture.figures import Figure
from torture.server import Target
from torture.tests import Test as OneTest

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
    yield Figure("one", float(target.is_wshost), "", 0)


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
    def run(*tests: Run, argv: tuple[str, ...] = (), peers: bool = False) -> int:
        made = [OneTest(test.__name__, test, peers=peers) for test in tests]
        monkeypatch.setattr(command, "tests", lambda long: made)
        return command.main(argv)

    return run


@pytest.mark.parametrize(
    ("tests", "status"),
    [
        ([held], 0),
        ([held, missed], 1),
        ([broken, held], 1),
        ([impossible, held], 0),
        ([held, interrupted, held], 130),
    ],
)
def test_the_exit_status_says_whether_all_goals_are_held(
    run: Callable[..., int], tests: list[Run], status: int
) -> None:
    assert run(*tests) == status


def test_each_test_prints_a_line_and_a_table_comes_in_the_end(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run(broken, impossible, held)
    *lines, table = capsys.readouterr().out.split("\n", 3)
    found = [json.loads(line) for line in lines]
    assert [one["test"] for one in found] == ["broken", "impossible", "held"]
    assert found[0]["failure"] == "OSError: too bad"
    assert len(found[0]["figures"]) == 1
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
    assert said.out.count("| held ") == 2
    assert said.err == "interrupted: later tests are missing\n"


def test_only_tests_that_are_named_run(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(held, missed, argv=("--only", "^h")) == 0
    assert "missed" not in capsys.readouterr().out


def test_goals_are_not_for_other_servers(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    def others(target: Target) -> Iterator[Figure]:
        yield Figure("one", float(not target.is_wshost), "", 0)

    assert run(others, argv=("--peers",), peers=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [one["server"] for one in lines] == ["wshost", *listed.PEERS]
    assert not lines[-1]["held"]


def test_the_names_of_tests_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [test.name for test in listed.tests(long=False)]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--only", "("], "--only (: missing )"),
        (["--only", "nothing"], "--only nothing: there is no such test; --list shows them"),
        (["--faster"], "unrecognized arguments: --faster"),
    ],
)
def test_wrong_options_are_said_in_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(argv)
    assert exited.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_names_are_unique_and_the_same_in_the_long_form() -> None:
    names = [test.name for test in listed.tests(long=False)]
    assert len(set(names)) == len(names)
    assert names == [test.name for test in listed.tests(long=True)]


def test_every_attack_is_on_its_page() -> None:
    """And no other."""
    text = (Path(__file__).parent.parent.parent / "docs/reliability.md").read_text()
    page = text[text.index("\n## Figures\n") : text.index("\n## Several processes\n")]
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[1:] == [test.name for test in listed.tests(long=False)]
