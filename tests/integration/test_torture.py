"""`python -m torture` with real servers: its quickest tests, and an interrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.accounting import descendants

ROOT = Path(__file__).parent.parent.parent
#: Seconds until a run must have done what it is waited for.
PATIENCE = 200.0


def command(only: str) -> list[str]:
    return [sys.executable, "-m", "torture", "--only", only]


def has_ended(pid: int) -> bool:
    """Gone, or dead and not yet waited for by whoever has inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.uninstrumented
def test_a_test_runs_and_says_that_its_goals_are_held() -> None:
    ended = subprocess.run(
        command("endless lengths"), cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    line, _, table = ended.stdout.partition("\n")
    found = json.loads(line)
    assert (found["test"], found["server"], found["held"]) == ("endless lengths", "wshost", True)
    assert "failure" not in found
    assert "| lengths that were not closed with 1009 | 0 " in table
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process(number: signal.Signals) -> None:
    with subprocess.Popen(
        command("handler that blocks"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + PATIENCE
        while not (started := [pid for pid in descendants(run.pid) if pid != run.pid]):
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(run.pid, number)
        assert run.communicate(timeout=PATIENCE)[1] == "interrupted: later tests are missing\n"
        assert run.returncode == 130
        assert [pid for pid in started if not has_ended(pid)] == []
