"""The benchmarks run: the smallest cells, for a moment, against wshost as its users start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("cell", ["latency", "async-wait-16", "tls-64-1", "deflate-200", "connect-1", "flood-messages"])
def test_each_benchmark_runs_for_a_moment(cell: str, tmp_path: Path) -> None:
    options = ["--only", f"^{cell}$", "--servers=wshost", "--turns=1", "--seconds=0.2"]
    files = [f"--json={tmp_path / 'all.json'}", f"--charts={tmp_path}"]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
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


def test_an_unknown_benchmark_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "--servers=wshots"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "there is no server wshots" in ended.stderr
