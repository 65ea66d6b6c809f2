"""The benchmarks run: the smallest cells, for a moment, against wshost as its users start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.cells import CELLS

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("cell", ["latency", "async-wait-16", "tls-64-1", "deflate-200", "connect-1", "flood-messages"])
def test_each_benchmark_runs_for_a_moment(cell: str, tmp_path: Path) -> None:
    options = ["--only", f"^{cell}$", "--servers=wshost", "--turns=1", "--seconds=0.2"]
    files = [f"--json={tmp_path / 'all.json'}", f"--charts={tmp_path}"]
    ended = run(*options, *files)
    assert ended.returncode == 0, ended.stderr
    assert "left out" not in ended.stderr
    (measured,) = json.loads((tmp_path / "all.json").read_text())["cells"]
    figures = measured["servers"]["wshost"]["median"]
    assert measured["name"] == cell
    assert 1 < figures["cpu_us"] < 100_000
    assert 1 < figures["per_second"] < 1_000_000
    assert 0 < figures["p50_us"] <= figures["p99_us"] < 1_000_000
    assert 0 < figures["busy"] < 1.1
    assert len(list(tmp_path.glob("*.svg"))) == 1
    assert "import wshost brings in no reactor, no TLS" in ended.stdout


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--servers=wshots", "there is no server wshots"),
        ("--only=nothing", "there is no such cell; --list shows them"),
        ("--only=(", "missing ), unterminated subpattern"),
        ("--turns=0", "0 is no whole number above 0"),
        ("--seconds=nan", "nan is no number from 0 to 60"),
        ("--seconds=fast", "fast is no number from 0 to 60"),
        ("--json=/no/such/file", "/no/such/file can't be written"),
        ("--from-json=/no/such/file", "/no/such/file: No such file or directory"),
        ("--from-json=pyproject.toml", "pyproject.toml is not what --json writes"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(option: str, why: str) -> None:
    ended = run(option)
    assert ended.returncode == 2
    assert why in ended.stderr.splitlines()[-1]


def test_the_list_has_each_cell_with_its_group() -> None:
    ended = run("--list")
    assert ended.returncode == 0
    assert [line.split(maxsplit=1) for line in ended.stdout.splitlines()] == [[cell.name, cell.group] for cell in CELLS]


def test_without_a_compiler_the_report_says_that_the_load_was_in_python(tmp_path: Path) -> None:
    ended = run(
        "--only=^(echo-64-1|latency)$", "--servers=wshost,limit", "--turns=1", "--seconds=0.1", PATH=str(tmp_path)
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-4:-1] == [
        "limit is left out: no C compiler is found",
        "with the load in Python, as no C compiler is found: echo-64-1",
        "latency is left out: only the load in C can do this: no C compiler is found",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_shows_complete_cells_and_leaves_no_process(number: signal.Signals) -> None:
    options = ["--only=^echo-64-(1|16)$", "--servers=wshost,limit", "--turns=30", "--seconds=0.02"]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("[2/2"):
                break
        for _ in range(200):
            if len(members(process.pid)) == 5:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the run, two servers and two loads are not there")
        # A terminal interrupts all processes of a group; `kill` ends one.
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        said, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
    assert process.returncode == 0, errors
    assert "echo-64-1 " in said
    assert "interrupted: cells that were not complete are missing" in said
    assert members(process.pid) == []


def members(session: int) -> list[str]:
    """The processes of a session, by their stat files; without dead ones, for whom nobody has waited yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session, *_ = stat.read_text().rpartition(")")[2].split()
            if its_session == str(session) and state not in {"Z", "X"}:
                found.append(str(stat))
    return found
