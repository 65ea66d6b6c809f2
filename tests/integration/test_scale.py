"""`python -m scale` with real servers and a broker: its quickest row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
#: Seconds until a run must have ended.
PATIENCE = 200.0


@pytest.mark.uninstrumented
def test_a_row_runs_and_says_that_its_goals_are_held() -> None:
    command = [sys.executable, "-m", "scale", "--only", "references as text"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    line, _, table = ended.stdout.partition("\n")
    found = json.loads(line)
    assert (found["test"], found["held"]) == ("references as text", True)
    assert "failure" not in found
    assert "| lost " in table
    assert (ended.returncode, ended.stderr) == (0, "")
